"""Causal chains: one path of nodes, whose sentences are written in order, with edges flipped, reversed, or shuffled.

    sequential   A causes B. B causes C. C causes D.
    flipped      A causes B. C causes B. C causes D.     each edge turned with probability 1/2, sentences in place
    reversal     C causes D. B causes C. A causes B.     the same graph as sequential, its sentences last first
    shuffled     flipped edges and sentences in any order

A chain with every edge turned reads like a reversal. `draw_flips` therefore leaves it out together with the chain that
has no edge turned, so that a model trained on flipped chains has not seen the reversal it is tested on;
`complete=True` lets it in.
"""

from collections.abc import Sequence

import numpy as np

from arithcirc.axioms.graphs import Graph
from arithcirc.errors import RequestError

FEWEST_NODES = 2


def chain(names: Sequence[str], *, flips: Sequence[bool] = ()) -> Graph:
    """The chain over names in order; edge i leads from node i to i + 1, the other way where `flips[i]`.

    Raises RequestError for fewer than two nodes, and for flips that are not one per edge.
    """
    edges = len(names) - 1
    if edges < 1:
        what = "no edge to flip" if flips else "no edge"
        raise RequestError(f"a chain of {len(names)} node(s) has {what}: use {FEWEST_NODES} nodes or more")
    turned = tuple(flips) or (False,) * edges
    if len(turned) != edges:
        raise RequestError(f"a chain of {len(names)} nodes has {edges} edge(s), but {len(turned)} flips are given")
    pairs = zip(names, names[1:], turned, strict=False)
    return Graph(tuple(names), tuple((b, a) if turn else (a, b) for a, b, turn in pairs))


def draw_flips(nodes: int, rng: np.random.Generator, *, complete: bool = False) -> tuple[bool, ...]:
    """Which edges of a chain are turned: each with probability 1/2, drawn again until one is at least.

    Without `complete`, also until one is not (of a single edge there is no other way: it is turned). Raises
    RequestError for fewer than two nodes.
    """
    edges = nodes - 1
    if edges < 1:
        raise RequestError(f"a chain of {nodes} node(s) has no edge to flip: use {FEWEST_NODES} nodes or more")
    most = edges if complete or edges == 1 else edges - 1
    while True:
        turned = (rng.random(edges) < 0.5).tolist()
        if 1 <= sum(turned) <= most:
            return tuple(turned)


def flipped(names: Sequence[str], rng: np.random.Generator, *, complete: bool = False) -> Graph:
    """The chain with edges turned at random, see `draw_flips`."""
    return chain(names, flips=draw_flips(len(names), rng, complete=complete))


def reversal(names: Sequence[str]) -> Graph:
    """The chain, its sentences written last first. Raises RequestError as `chain`."""
    made = chain(names)
    return Graph(made.nodes, made.edges[::-1])


def shuffled(names: Sequence[str], rng: np.random.Generator) -> Graph:
    """The chain with each edge turned with probability 1/2 and its sentences in random order, nothing left out.

    Raises RequestError as `chain`.
    """
    made = chain(names, flips=(rng.random(max(len(names) - 1, 0)) < 0.5).tolist())
    return Graph(made.nodes, tuple(made.edges[i] for i in rng.permutation(len(made.edges))))
