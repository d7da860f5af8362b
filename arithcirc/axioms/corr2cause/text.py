"""The text of a question: all (conditional) independences of a closed system, then a relation to judge.

    A, B, C form one closed system. A correlates with C. B correlates with C. A is independent of B.
    Is A among the parents of C?                                                           -> Yes

Every pair either correlates or is independent; then come all conditional independences, small sets first. What is not
said to be independent is dependent. A pair that no sentence calls independent is adjacent in every graph of the class,
and the sentences together name the class. Variables are single capital letters and no word is one letter, so a
tokenizer that ignores case confuses none of them.
"""

from collections.abc import Sequence
from itertools import combinations

from arithcirc.axioms.corr2cause.dags import Dag, mask_of
from arithcirc.axioms.dseparation import separated
from arithcirc.errors import RequestError

Independence = tuple[int, int, tuple[int, ...]]
"""Two nodes, the smaller first, and the nodes that are given."""
QUESTIONS = {
    "is-parent": "Is {x} among the parents of {y}?",
    "is-ancestor": "Is {x} among the ancestors of {y}, parents excepted?",
    "is-child": "Is {x} among the children of {y}?",
    "is-descendant": "Is {x} among the descendants of {y}, children excepted?",
    "has-collider": "Do {x} and {y} have any collider?",
    "has-confounder": "Do {x} and {y} have any confounder?",
}
WORDS = (
    *("form", "one", "closed", "system", "correlates", "with", "is", "independent", "of", "and", "are", "given"),
    *("Is", "among", "the", "parents", "ancestors", "children", "descendants", "excepted"),
    *("Do", "have", "any", "collider", "confounder"),
)
"""All words of premise and question; names, `,`, `.` and `?` come on top."""


def independences(dag: Dag) -> list[Independence]:
    """All pairs and sets with the pair d-separated given the set: by size of the set, then in the order of nodes."""
    nodes = range(len(dag))
    found = []
    for size in range(max(len(dag) - 1, 0)):
        for first, second in combinations(nodes, 2):
            others = [node for node in nodes if node not in (first, second)]
            for given in combinations(others, size):
                if separated(dag, first, second, mask_of(given)):
                    found.append((first, second, given))
    return found


def premise(dag: Dag, names: Sequence[str]) -> str:
    """All that data can tell about the graph, as sentences. Raises RequestError when names and nodes do not match."""
    if len(set(names)) != len(dag):
        raise RequestError(f"{len(dag)} variables were given the names {', '.join(names)}: give each a name of its own")
    known = independences(dag)
    apart = {(first, second) for first, second, given in known if not given}
    pairs = list(combinations(range(len(dag)), 2))
    sentences = [f"{', '.join(names)} form one closed system."]
    sentences += [f"{names[a]} correlates with {names[b]}." for a, b in pairs if (a, b) not in apart]
    sentences += [f"{names[a]} is independent of {names[b]}." for a, b in pairs if (a, b) in apart]
    for first, second, given in known:
        if given:
            condition = ", ".join(names[node] for node in given)
            sentences.append(f"{names[first]} and {names[second]} are independent given {condition}.")
    return " ".join(sentences)


def hypothesis(relation: str, first: str, second: str) -> str:
    """The question about one ordered pair. Raises RequestError for an unknown relation."""
    if relation not in QUESTIONS:
        raise RequestError(f"relation {relation!r} is unknown: choose {', '.join(QUESTIONS)}")
    return QUESTIONS[relation].format(x=first, y=second)
