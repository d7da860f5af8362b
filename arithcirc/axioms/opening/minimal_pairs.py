"""Minimal pairs: two prompts of as many tokens, one answered Yes and one No, that differ in one sentence or question.

edge turned      one edge of the path points the other way         two names change places
node renamed     an inner node of the path has another name in one of its two sentences, which cuts the path
question turned  the premise is the same, the question asks the other way
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arithcirc.axioms.draws import generator
from arithcirc.axioms.graphs import Edge, Graph, Question, question
from arithcirc.axioms.names import Names
from arithcirc.axioms.opening.designed import Designed, designed_set
from arithcirc.errors import RequestError

KINDS = ("edge turned", "node renamed", "question turned")
_PURPOSE = 79


@dataclass(frozen=True)
class MinimalPair:
    """A question answered Yes and its twin answered No; `changed` is the sentence that differs, None for the question.

    Raises RequestError when the answers are others or the prompts have not as many sentences.
    """

    kind: str
    yes: Question
    no: Question
    changed: int | None

    def __post_init__(self) -> None:
        if not self.yes.label or self.no.label or len(self.yes.graph.edges) != len(self.no.graph.edges):
            raise RequestError(f"a pair of kind {self.kind!r} needs a Yes and a No about graphs of as many edges")


def minimal_pairs(kind: str, nodes: int, number: int, *, seed: int, names: Names) -> tuple[MinimalPair, ...]:
    """Pairs of a kind about chains of so many nodes, at all distances that the kind allows.

    Raises RequestError for an unknown kind, and for chains too short for it.
    """
    change = _CHANGES.get(kind)
    if change is None:
        raise RequestError(f"unknown kind of pair {kind!r}: use {', '.join(KINDS)}")
    shortest = 2 if kind == "node renamed" else 1
    if nodes <= shortest or number < 1:
        raise RequestError(f"{number} pairs of chains of {nodes} nodes: {kind!r} needs {shortest + 1} nodes or more")
    rng = generator(seed, _PURPOSE + KINDS.index(kind), nodes)
    pool = designed_set(nodes, 6 * number + 12 * nodes, seed=seed, names=names, purpose=1 + KINDS.index(kind))
    chosen = [made for made in pool if made.question.label and made.distance >= shortest]
    return tuple(change(made, names, rng) for made in chosen[:number])


def _edge_turned(made: Designed, _: Names, rng: np.random.Generator) -> MinimalPair:
    asked, place = made.question, made.start + int(rng.integers(made.distance))
    cause, effect = asked.graph.edges[place]
    return _pair("edge turned", asked, place, (effect, cause))


def _node_renamed(made: Designed, names: Names, rng: np.random.Generator) -> MinimalPair:
    asked = made.question
    inner = made.start + 1 + int(rng.integers(made.distance - 1))
    place = inner - int(rng.integers(2))
    node, nodes = asked.graph.nodes[inner], asked.graph.nodes
    other = next(name for name in names.draw(len(nodes) + 1, rng) if name not in nodes)
    cause, effect = asked.graph.edges[place]
    return _pair("node renamed", asked, place, (other, effect) if cause == node else (cause, other))


def _question_turned(made: Designed, _: Names, __: np.random.Generator) -> MinimalPair:
    asked = made.question
    return MinimalPair("question turned", asked, question(asked.graph, asked.effect, asked.cause), None)


def _pair(kind: str, asked: Question, place: int, edge: Edge) -> MinimalPair:
    edges = list(asked.graph.edges)
    edges[place] = edge
    nodes = tuple(dict.fromkeys((*asked.graph.nodes, *edge)))
    return MinimalPair(kind, asked, question(Graph(nodes, tuple(edges)), asked.cause, asked.effect), place)


_CHANGES: dict[str, Callable[[Designed, Names, np.random.Generator], MinimalPair]] = {
    "edge turned": _edge_turned,
    "node renamed": _node_renamed,
    "question turned": _question_turned,
}
