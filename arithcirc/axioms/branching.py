"""Branching graphs: random directed acyclic graphs of Erdos and Renyi with a given number of edges.

n nodes and m = int(n * factor) edges, a uniform choice among the n(n - 1)/2 pairs, each directed along a random order
of the nodes, which is not the order in which sentences are written. Sentences stand in adjacency order: all edges of
the first node, by its effects' places, then of the second. A node without edges has no sentence, so nobody asks about
it.
"""

from collections.abc import Sequence

import numpy as np

from arithcirc.axioms.graphs import Graph
from arithcirc.errors import RequestError


def edge_count(nodes: int, factor: float) -> int:
    """m = int(nodes * factor). Raises RequestError when that is no edge, or more than an acyclic graph can have."""
    most = nodes * (nodes - 1) // 2
    if nodes < 2:
        raise RequestError(f"a branching graph of {nodes} node(s) has no edge: use 2 nodes or more")
    if not 1 <= nodes * factor < most + 1:
        raise RequestError(
            f"factor {factor:g} asks {nodes * factor:g} edges of a graph of {nodes} nodes: use {1 / nodes:g} to "
            f"{most / nodes:g}, an acyclic graph of that size has at most {most} edges"
        )
    return int(nodes * factor + 1e-9)


def branching(names: Sequence[str], *, factor: float, rng: np.random.Generator) -> Graph:
    """A random acyclic graph over names with int(len(names) * factor) edges. Raises RequestError, see `edge_count`."""
    nodes = len(names)
    number = edge_count(nodes, factor)
    first, second = np.triu_indices(nodes, k=1)
    kept = rng.choice(len(first), number, replace=False)
    place = rng.permutation(nodes)
    pairs = sorted((int(place[first[i]]), int(place[second[i]])) for i in kept)
    return Graph(tuple(names), tuple((names[cause], names[effect]) for cause, effect in pairs))
