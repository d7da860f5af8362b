"""All directed acyclic graphs of up to six nodes, labelled or up to renaming of the nodes.

A graph of n nodes is a row of n bit masks: bit i of entry j says that i is a parent of j (i -> j). Labelled graphs grow
by one node at a time: the new node gets children C and parents P, disjoint, such that no child leads to a parent; every
graph comes out exactly once. Graphs up to renaming grow by a node without children, which every graph has; of the n!
renamings the one with the smallest code stands for all. Known numbers (OEIS A003024 and A003087), n = 1..6:

    labelled      1  3  25  543  29281  3781503
    up to naming  1  2   6   31    302     5984
"""

from functools import lru_cache
from itertools import permutations, product

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from arithcirc.errors import RequestError

Dag = tuple[int, ...]
"""One graph: entry j is the mask of the parents of j."""
LARGEST = 6
"""Most nodes that whole lists of graphs are made for."""
_ROWS = 4096


def labelled_dags(nodes: int) -> UInt8[np.ndarray, "dag node"]:
    """Every labelled graph once, as masks of parents. n = 6 has 3.8 million, 23 MB. Raises RequestError."""
    _checked(nodes)
    found = np.zeros((1, 1), dtype=np.uint8)
    for _ in range(1, nodes):
        found = _with_one_more(found)
    return found


@lru_cache(maxsize=LARGEST)
def unlabelled_dags(nodes: int) -> UInt8[np.ndarray, "dag node"]:
    """One graph of every kind up to renaming, read-only; nodes in a topological order. Raises RequestError."""
    _checked(nodes)
    found = np.zeros((1, 1), dtype=np.uint8)
    for size in range(1, nodes):
        before = np.repeat(found, 1 << size, axis=0)
        last = np.tile(np.arange(1 << size, dtype=np.uint8), len(found))[:, None]
        grown = np.concatenate([before, last], axis=1)
        codes = smallest_codes(edges(grown).reshape(len(grown), -1), _edge_weights(size + 1))
        found = grown[np.unique(codes, return_index=True)[1]]
    found.flags.writeable = False
    return found


def edges(dags: UInt8[np.ndarray, "dag node"]) -> Bool[np.ndarray, "dag cause effect"]:
    """Adjacency: True where cause -> effect."""
    bits = np.arange(dags.shape[1], dtype=np.uint8)
    return (dags[:, None, :] >> bits[None, :, None] & 1).astype(bool)


def ancestors(dags: UInt8[np.ndarray, "dag node"]) -> UInt8[np.ndarray, "dag node"]:
    """Masks of the nodes that lead to each node by one edge or more (Warshall's algorithm on masks)."""
    found = dags.copy()
    for middle in range(dags.shape[1]):
        leads = (found >> middle & 1).astype(bool)
        found |= np.where(leads, found[:, middle, None], 0).astype(np.uint8)
    return found


def smallest_codes(
    bits: Bool[np.ndarray, "dag bit"], weights: Float[np.ndarray, "bit renaming"]
) -> Int64[np.ndarray, " dag"]:
    """Each row's smallest code over all renamings; equal codes mean equal up to renaming.

    `weights`: 2^(place of the bit after renaming), one column per renaming. Sums of distinct powers of
    two below 2^53 are exact in double precision, so the codes are.
    """
    parts = [(bits[i : i + _ROWS].astype(float) @ weights).min(axis=1) for i in range(0, len(bits), _ROWS)]
    return np.concatenate(parts).astype(np.int64)


def renamings(nodes: int) -> list[tuple[int, ...]]:
    """All orders of the nodes; entry i is the new name of node i."""
    return list(permutations(range(nodes)))


def renamed(dag: Dag, new: tuple[int, ...]) -> Dag:
    """The same graph, node i called `new[i]`."""
    found = [0] * len(dag)
    for node, parents in enumerate(dag):
        found[new[node]] = mask_of(tuple(new[i] for i in range(len(dag)) if parents >> i & 1))
    return tuple(found)


def mask_of(members: tuple[int, ...]) -> int:
    """The bit mask of a set of nodes."""
    return sum(1 << node for node in members)


def _checked(nodes: int) -> None:
    if not 1 <= nodes <= LARGEST:
        raise RequestError(f"graphs of {nodes} nodes cannot be listed: choose 1 to {LARGEST} nodes")


def _with_one_more(dags: UInt8[np.ndarray, "dag node"]) -> UInt8[np.ndarray, "grown more"]:
    """Every graph with one node more, in every legal way."""
    size = dags.shape[1]
    above = ancestors(dags) | (np.uint8(1) << np.arange(size, dtype=np.uint8))
    grown = []
    for parents in range(1 << size):
        inside = [node for node in range(size) if parents >> node & 1]
        reaching = np.bitwise_or.reduce(above[:, inside], axis=1)
        for children in range(1 << size):
            if children & parents:
                continue
            rows = dags[(reaching & children) == 0]
            new = np.concatenate([rows, np.full((len(rows), 1), parents, dtype=np.uint8)], axis=1)
            for child in range(size):
                if children >> child & 1:
                    new[:, child] |= np.uint8(1 << size)
            grown.append(new)
    return np.concatenate(grown)


@lru_cache(maxsize=LARGEST)
def _edge_weights(nodes: int) -> Float[np.ndarray, "bit renaming"]:
    """Weights for `smallest_codes` of adjacency matrices in row order."""
    pairs = list(product(range(nodes), repeat=2))
    return np.array([[2.0 ** (new[i] * nodes + new[j]) for i, j in pairs] for new in renamings(nodes)]).T
