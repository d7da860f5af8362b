"""Questions about chains in which answer, order of mention and distance are told apart by design.

In the training mixes most questions are about neighbours, and the node mentioned first mostly is the cause. Here every
distance along the chain, both answers and both directions of asking come equally often. Sentences stand in the chain's
order, as in training. With A..D the part of the chain asked about, at a distance of 3:

    Yes, asked forwards    A causes B. B causes C. C causes D.   Does A cause D?
    Yes, asked backwards   B causes A. C causes B. D causes C.   Does D cause A?
    No, turned             A causes B. B causes C. C causes D.   Does D cause A?     a path, but the other way
    No, broken             A causes B. C causes B. C causes D.   Does A cause D?     no path either way

Edges outside the part point anywhere. A distance of 1 cannot be broken. Every question has a graph of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arithcirc.axioms import chains
from arithcirc.axioms.draws import generator
from arithcirc.axioms.graphs import Question, question
from arithcirc.axioms.names import Names
from arithcirc.axioms.shortcuts import literal_edge, mention_order
from arithcirc.errors import RequestError

FEATURES = ("mention order", "edge stated", "reachable")
"""What a question has that a model may go by; the last one is the answer."""
_PURPOSE = 77
_TRIES = 100


@dataclass(frozen=True)
class Designed:
    """A question, how many edges lie between its nodes along the chain, and the first sentence of that part."""

    question: Question
    distance: int
    start: int


def designed_set(nodes: int, number: int, *, seed: int, names: Names, purpose: int = 0) -> tuple[Designed, ...]:
    """Questions about chains of so many nodes, in random order; purposes share no draws. About 50 us each.

    Exactly balanced where `number` is a multiple of 4 (nodes - 1). Raises RequestError for fewer than two nodes, more
    nodes than names, and where chance finds no new graph.
    """
    if nodes < chains.FEWEST_NODES or number < 1:
        raise RequestError(f"{number} questions about chains of {nodes} nodes: give 1 or more, of 2 nodes or more")
    names.check(nodes)
    rng = generator(seed, _PURPOSE + purpose, nodes)
    cases = [
        (distance, label, forwards)
        for distance in range(1, nodes)
        for label in (True, False)
        for forwards in (True, False)
    ]
    seen, found = set(), []
    for index in range(number):
        distance, label, forwards = cases[index % len(cases)]
        broken = distance > 1 and index // len(cases) % 2 == 1
        for _ in range(_TRIES):
            made = _draw(nodes, distance, label, forwards, broken, names, rng)
            if made.question.graph not in seen:
                break
        else:
            raise RequestError(
                f"no {number} different chains of {nodes} nodes are found: ask fewer or allow more names"
            )
        seen.add(made.question.graph)
        found.append(made)
    return tuple(found[i] for i in rng.permutation(number))


def _draw(
    nodes: int, distance: int, label: bool, forwards: bool, broken: bool, names: Names, rng: np.random.Generator
) -> Designed:
    """One question of a case; `broken` says which No is wanted."""
    drawn = names.draw(nodes, rng)
    start = int(rng.integers(nodes - distance))
    turned = rng.random(nodes - 1) < 0.5
    part = slice(start, start + distance)
    if label or not broken:
        turned[part] = forwards != label
    else:
        while turned[part].all() or not turned[part].any():
            turned[part] = rng.random(distance) < 0.5
    graph = chains.chain(drawn, flips=turned.tolist())
    ends = drawn[start], drawn[start + distance]
    return Designed(question(graph, *(ends if forwards else ends[::-1])), distance, start)


def features(questions: Sequence[Question]) -> np.ndarray:
    """What each question has of FEATURES, float64 0 or 1, shape (question, feature)."""
    return np.array([[mention_order(q), literal_edge(q), q.label] for q in questions], dtype=np.float64)
