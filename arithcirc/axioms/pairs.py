"""Which pairs of a graph can be asked about, and drawing questions with a wanted answer.

Every ordered pair of two nodes that a sentence names is a candidate, direct edges and turned ones among them; a node
without edges is in no sentence and is not asked about. Pairs of one answer are equally likely.
"""

from dataclasses import dataclass

import numpy as np

from arithcirc.axioms.graphs import Edge, Graph, Question, distances
from arithcirc.errors import RequestError


@dataclass(frozen=True)
class Premise:
    """One graph with several questions about it, as many with the answer Yes as with No."""

    graph: Graph
    questions: tuple[Question, ...]


def candidates(graph: Graph) -> tuple[dict[Edge, int], list[Edge]]:
    """Pairs answered Yes with the length of their shortest path, and pairs answered No."""
    connected = distances(graph)
    named = {node for edge in graph.edges for node in edge}
    nodes = [node for node in graph.nodes if node in named]
    return connected, [(a, b) for a in nodes for b in nodes if a != b and (a, b) not in connected]


def draw_question(graph: Graph, label: bool, rng: np.random.Generator) -> Question:
    """A question with the answer, each such pair equally likely. Raises RequestError for a graph without edges."""
    connected, others = candidates(graph)
    pairs = list(connected) if label else others
    if not pairs:
        raise RequestError("a graph without edges has no pair to ask about: give it one edge or more")
    pair = pairs[int(rng.integers(len(pairs)))]
    return _asked(graph, pair, connected)


def draw_premise(graph: Graph, questions: int, rng: np.random.Generator) -> Premise:
    """Different questions about one graph in random order, as many Yes as No.

    Fewer than `questions` where the graph has not as many pairs of an answer. Raises RequestError for a number that is
    odd or below 2, and for a graph without edges.
    """
    if questions < 2 or questions % 2:
        raise RequestError(f"{questions} questions of a graph cannot be half Yes and half No: use an even number")
    connected, others = candidates(graph)
    each = min(questions // 2, len(connected), len(others))
    if not each:
        raise RequestError("a graph without edges has no pair to ask about: give it one edge or more")
    chosen = [pairs[i] for pairs in (list(connected), others) for i in rng.permutation(len(pairs))[:each]]
    return Premise(graph, tuple(_asked(graph, chosen[i], connected) for i in rng.permutation(2 * each)))


def _asked(graph: Graph, pair: Edge, connected: dict[Edge, int]) -> Question:
    hops = connected.get(pair, 0)
    return Question(graph, *pair, label=hops > 0, hops=hops)
