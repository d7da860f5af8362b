"""Classes of Markov equivalence: graphs that state the same (conditional) independences.

Two graphs are equivalent if and only if they have the same skeleton and the same v-structures a -> c <- b with a and b
not adjacent (Verma & Pearl 1990). The skeleton says which node of an unshielded triple is the middle, so one bit per
pair and one per triple name a class. All members of a class are reached from any of them by turning covered edges
around, those x -> y where the parents of y are x and the parents of x (Chickering 1995). Numbers of classes, n = 1..6
(labelled: OEIS A007984; up to naming: the mean, over all renamings, of how many labelled classes each leaves in place):

    labelled      1  2  11  185  8782  1067825
    up to naming  1  2   5   20   142     2201
"""

from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from arithcirc.axioms.corr2cause.dags import (
    LARGEST,
    Dag,
    edges,
    labelled_dags,
    renamings,
    smallest_codes,
    unlabelled_dags,
)


def signatures(dags: UInt8[np.ndarray, "dag node"]) -> Int64[np.ndarray, " dag"]:
    """One number per graph; equal numbers mean Markov equivalent."""
    bits = _skeleton_and_colliders(dags)
    return bits.astype(np.int64) @ (np.int64(1) << np.arange(bits.shape[1], dtype=np.int64))


def labelled_classes(nodes: int) -> int:
    """How many classes the labelled graphs fall into. n = 6: 3 seconds, 200 MB. Raises RequestError."""
    dags = labelled_dags(nodes)
    parts = [np.unique(signatures(part)) for part in np.array_split(dags, 1 + len(dags) // 250_000)]
    return len(np.unique(np.concatenate(parts)))


@lru_cache(maxsize=LARGEST)
def unlabelled_classes(nodes: int) -> tuple[Dag, ...]:
    """One graph of every class up to renaming of the nodes, always the same. Raises RequestError."""
    dags = unlabelled_dags(nodes)
    codes = smallest_codes(_skeleton_and_colliders(dags), _signature_weights(nodes))
    first = np.unique(codes, return_index=True)[1]
    return tuple(tuple(row) for row in dags[first].tolist())


def members(dag: Dag) -> tuple[Dag, ...]:
    """All graphs Markov equivalent to this one, itself first; at most n! of them."""
    found, waiting = {dag: None}, [dag]
    while waiting:
        parents = waiting.pop()
        for effect, mask in enumerate(parents):
            for cause in range(len(parents)):
                if mask >> cause & 1 and mask == parents[cause] | 1 << cause:
                    turned = list(parents)
                    turned[effect] ^= 1 << cause
                    turned[cause] |= 1 << effect
                    if (other := tuple(turned)) not in found:
                        found[other] = None
                        waiting.append(other)
    return tuple(found)


def _skeleton_and_colliders(dags: UInt8[np.ndarray, "dag node"]) -> Bool[np.ndarray, "dag bit"]:
    """One column per pair (adjacent?), then one per triple (v-structure?)."""
    causes = edges(dags)
    adjacent = causes | causes.transpose(0, 2, 1)
    nodes = range(dags.shape[1])
    columns = [adjacent[:, a, b] for a, b in combinations(nodes, 2)]
    for a, b, c in combinations(nodes, 3):
        middles = ((a, b, c), (b, a, c), (c, a, b))
        columns.append(
            np.logical_or.reduce([causes[:, x, m] & causes[:, y, m] & ~adjacent[:, x, y] for m, x, y in middles])
        )
    return np.stack(columns, axis=1) if columns else np.zeros((len(dags), 0), dtype=bool)


@lru_cache(maxsize=LARGEST)
def _signature_weights(nodes: int) -> Float[np.ndarray, "bit renaming"]:
    """Weights for `smallest_codes` of skeletons and v-structures."""
    sets = [*combinations(range(nodes), 2), *combinations(range(nodes), 3)]
    place = {members: i for i, members in enumerate(sets)}
    columns = [[2.0 ** place[tuple(sorted(new[i] for i in old))] for old in sets] for new in renamings(nodes)]
    return np.array(columns).T
