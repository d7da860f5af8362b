"""Questions from correlation to causation, balanced, each a pure function of (seed, index).

Questions 2i and 2i + 1 have the same relation and number of variables, one answered Yes (valid) and one No, in an order
drawn by chance; neither tells the answer. For each one of all (class, ordered pair) with that relation and answer is
drawn, then the order of the variables and their names. Sizes of the task: 3 to 6 variables; with 3 only parent, child
and collider can be valid, with 2 nothing can.

Unbalanced, 3.3, 7.6, 13.6 and 19.3 percent of all hypotheses about all classes are valid for 3, 4, 5 and 6 variables
(15 to 18 in the benchmark as released). Axiomatic training reports scores that only a balanced test set explains.

Which pairs are adjacent shows in the text without any inference (no sentence calls them independent), and so does
which correlate. `shortcut` answers from that alone and is right on 76 of 100; report it beside every accuracy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from string import ascii_uppercase
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from arithcirc.axioms.corr2cause.dags import LARGEST, Dag, renamed
from arithcirc.axioms.corr2cause.equivalence import unlabelled_classes
from arithcirc.axioms.corr2cause.relations import RELATIONS, valid, valid_of_classes
from arithcirc.axioms.corr2cause.text import hypothesis, premise
from arithcirc.axioms.draws import check_seed, generator, whole
from arithcirc.axioms.dseparation import separated
from arithcirc.axioms.text import answer
from arithcirc.errors import RequestError

PARTS = ("all", "train", "test")
"""Classes to ask about: all, or those kept apart: every fifth class of a size is for tests."""
SIZES = (3, 4, 5, 6)
_PAIR, _QUESTION = 320, 321  # purposes of a seed
_EVERY, _KEPT = 5, 2


@dataclass(frozen=True)
class CorrelationQuestion:
    """Does the relation of `first` to `second` follow from the independences of the graph? `label` is the answer.

    Raises RequestError for an unknown relation, variables that have no two different names, and a wrong label.
    """

    dag: Dag
    names: tuple[str, ...]
    relation: str
    first: str
    second: str
    label: bool

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise RequestError(f"relation {self.relation!r} is unknown: choose {', '.join(RELATIONS)}")
        if len(set(self.names)) != len(self.dag):
            raise RequestError(f"{len(self.dag)} variables have the names {', '.join(self.names)}: give each its own")
        if self.first == self.second or not {self.first, self.second} <= set(self.names):
            raise RequestError(f"{self.first!r} and {self.second!r}: ask about two of {', '.join(self.names)}")
        if bool(valid(self.dag)[RELATIONS.index(self.relation)][self.pair]) != self.label:
            raise RequestError(f"label {self.label} is wrong for {self.relation} of {self.first!r} and {self.second!r}")

    @property
    def pair(self) -> tuple[int, int]:
        """Places of the two variables."""
        return self.names.index(self.first), self.names.index(self.second)

    @property
    def text(self) -> str:
        """Premise and question, without the answer."""
        return f"{premise(self.dag, self.names)} {hypothesis(self.relation, self.first, self.second)}"


def correlated(asked: CorrelationQuestion) -> bool:
    """True when the two variables are dependent with nothing given."""
    return not separated(asked.dag, *asked.pair, 0)


def adjacent(asked: CorrelationQuestion) -> bool:
    """True when an edge joins the two variables, in every graph of the class."""
    first, second = asked.pair
    return bool(asked.dag[second] >> first & 1 or asked.dag[first] >> second & 1)


def shortcut(asked: CorrelationQuestion) -> bool:
    """The answer read off the pair alone, by the best such rule: parent and child if adjacent, ancestor and descendant
    if correlated without being adjacent, confounder if correlated, collider if not."""
    if asked.relation in ("is-parent", "is-child"):
        return adjacent(asked)
    if asked.relation in ("is-ancestor", "is-descendant"):
        return correlated(asked) and not adjacent(asked)
    return correlated(asked) == (asked.relation == "has-confounder")


def correlation_row(asked: CorrelationQuestion) -> dict[str, Any]:
    """The question as a line of a file (`lines.continue_lines`), with one graph of the class as edges."""
    nodes = range(len(asked.dag))
    return {
        "text": asked.text,
        "label": answer(asked.label),
        "relation": asked.relation,
        "first": asked.first,
        "second": asked.second,
        "variables": list(asked.names),
        "edges": [[asked.names[i], asked.names[j]] for i in nodes for j in nodes if asked.dag[j] >> i & 1],
        "shortcut": answer(shortcut(asked)),
    }


@dataclass(frozen=True)
class CorrelationStream:
    """Questions by their index.

    `sizes`: numbers of variables, each entry equally likely. `part`: classes to ask about (`PARTS`). Raises
    RequestError for sizes outside 3..6, an unknown part, and when the part of a size has no relation of both answers.
    """

    sizes: tuple[int, ...] = SIZES
    seed: int = 0
    part: str = "all"

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.part not in PARTS:
            raise RequestError(f"unknown part {self.part!r} of the classes: choose {', '.join(PARTS)}")
        if not self.sizes:
            raise RequestError(f"no number of variables is given: use {min(SIZES)} to {LARGEST}")
        for size in self.sizes:
            whole("number of variables", size, min(SIZES), LARGEST)
            if not decidable(size, self.part):
                raise RequestError(
                    f"no relation of {size} variables is both valid and not in the classes of part {self.part!r}: "
                    "use more variables or another part"
                )

    def question(self, index: int) -> CorrelationQuestion:
        """Question `index`."""
        pair = generator(self.seed, _PAIR, index // 2)
        size = self.sizes[int(pair.integers(len(self.sizes)))]
        relations = decidable(size, self.part)
        relation = relations[int(pair.integers(len(relations)))]
        label = bool(pair.integers(2)) ^ bool(index % 2)
        rng = generator(self.seed, _QUESTION, index)
        found = hypotheses(size, relation, label, self.part)
        kind, first, second = found[int(rng.integers(len(found)))].tolist()
        new = tuple(rng.permutation(size).tolist())
        names = tuple(ascii_uppercase[i] for i in rng.permutation(len(ascii_uppercase))[:size])
        dag = renamed(unlabelled_classes(size)[kind], new)
        return CorrelationQuestion(dag, names, relation, names[new[first]], names[new[second]], label)

    def questions(self, start: int, stop: int) -> Iterator[CorrelationQuestion]:
        """Questions start to stop - 1."""
        return (self.question(index) for index in range(start, stop))


@cache
def decidable(size: int, part: str) -> tuple[str, ...]:
    """Relations that some pair of some class has for certain and another does not. Raises RequestError."""
    return tuple(r for r in RELATIONS if all(len(hypotheses(size, r, label, part)) for label in (True, False)))


@cache
def hypotheses(size: int, relation: str, label: bool, part: str) -> Int[np.ndarray, "hypothesis 3"]:
    """All (class, first, second) with this answer; classes by their place in `unlabelled_classes`, read-only."""
    table: Bool[np.ndarray, "kind node other"] = valid_of_classes(size)[:, RELATIONS.index(relation)] == label
    table &= ~np.eye(size, dtype=bool)
    kept = np.arange(len(table)) % _EVERY == _KEPT
    if part != "all":
        table &= (kept if part == "test" else ~kept)[:, None, None]
    found = np.argwhere(table)
    found.flags.writeable = False
    return found
