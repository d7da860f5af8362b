"""Questions as text, in the paper's form, and back.

    EX causes T. T causes 9. 9 causes W. Does EX cause 9?

The answer is one word, Yes or No. A text says everything about a question but the names of nodes without edges; read
back, a graph has its nodes in the order of their first mention.
"""

import re
from collections.abc import Iterator

from arithcirc.axioms.graphs import Edge, Graph, Question, question
from arithcirc.axioms.names import ALPHANUMERIC, RESERVED
from arithcirc.errors import PromptError, RequestError

ANSWERS = {True: "Yes", False: "No"}
_SENTENCE = re.compile(r"\s*(\S+)\s+causes\s+(\S+)\s*", re.IGNORECASE)
_QUESTION = re.compile(r"\s*does\s+(\S+)\s+cause\s+(\S+)\s*\?\s*", re.IGNORECASE)
_SHOWN = 60


def premise(graph: Graph) -> str:
    """The sentences of a graph: `A causes B. B causes C.`"""
    return " ".join(f"{cause} causes {effect}." for cause, effect in graph.edges)


def asking(cause: str, effect: str) -> str:
    """The question about a pair: `Does A cause C?`"""
    return f"Does {cause} cause {effect}?"


def write(asked: Question) -> str:
    """Premise and question, without the answer."""
    return f"{premise(asked.graph)} {asking(asked.cause, asked.effect)}"


def answer(label: bool) -> str:
    """`Yes` or `No`."""
    return ANSWERS[label]


def parse(text: str) -> Question:
    """Read a text as `write` makes it; words in any case.

    Raises PromptError for a text of another form, an unknown word, a character that names do not have, a reserved word
    as a name, a question about a node that no sentence names, and for a graph that is cyclic or states an edge twice.
    """
    *sentences, asked = text.split(".")
    found = _QUESTION.fullmatch(asked)
    if not found:
        raise PromptError(f"question {_short(asked)!r} is not understood: end the text with 'Does A cause B?'")
    edges = tuple(_edges(sentences))
    if not edges:
        raise PromptError(f"{_short(text)!r} states no cause: write 'A causes B.' before the question")
    cause, effect = (_name(word) for word in found.groups())
    nodes = tuple(dict.fromkeys(node for edge in edges for node in edge))
    for node in (cause, effect):
        if node not in nodes:
            raise PromptError(f"the question names {node!r}, which no sentence names: nodes are {', '.join(nodes)}")
    try:
        return question(Graph(nodes, edges), cause, effect)
    except RequestError as error:
        raise PromptError(f"{_short(text)!r}: {error}") from None


def _edges(sentences: list[str]) -> Iterator[Edge]:
    for sentence in sentences:
        found = _SENTENCE.fullmatch(sentence)
        if not found:
            words = sentence.split()
            odd = f": unknown word {words[1]!r}" if len(words) == 3 else ""
            raise PromptError(f"sentence {_short(sentence)!r} is not understood{odd}: write 'A causes B.'")
        cause, effect = found.groups()
        yield _name(cause), _name(effect)


def _name(word: str) -> str:
    if word.lower() in RESERVED:
        raise PromptError(f"{word!r} is a word of the text, not a name: use none of {', '.join(sorted(RESERVED))}")
    if odd := set(word) - set(ALPHANUMERIC):
        raise PromptError(f"name {word!r} has {sorted(odd)[0]!r}: names are of letters A-Z, a-z and digits")
    return word


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
