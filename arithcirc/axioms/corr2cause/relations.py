"""The six relations that are asked about, and which of them a class of Markov equivalence leaves no doubt about.

Of an ordered pair (X, Y) in one graph:

    is-parent       X -> Y
    is-ancestor     a directed path leads from X to Y, and there is no edge X -> Y
    is-child        Y -> X
    is-descendant   a directed path leads from Y to X, and there is no edge Y -> X
    has-collider    some node is reached from X without passing Y, and from Y without passing X (a common effect)
    has-confounder  some node leads to X without passing Y, and to Y without passing X (a common cause)

Such paths can be chosen to meet in that node alone, so the last two say: a path X -> .. -> C <- .. <- Y, or
X <- .. <- C -> .. -> Y, exists. A relation is valid if and only if it holds in every graph of the class.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, UInt8

from arithcirc.axioms.corr2cause.dags import LARGEST, Dag, ancestors, edges
from arithcirc.axioms.corr2cause.equivalence import members, unlabelled_classes

RELATIONS = ("is-parent", "is-ancestor", "is-child", "is-descendant", "has-collider", "has-confounder")


def holds(dags: UInt8[np.ndarray, "dag node"]) -> Bool[np.ndarray, "dag relation node other"]:
    """Which relations, in the order of `RELATIONS`, each ordered pair has in each graph; the diagonal is False."""
    parent = edges(dags)
    bits = np.arange(dags.shape[1], dtype=np.uint8)
    indirect = (ancestors(dags)[:, None, :] >> bits[None, :, None] & 1).astype(bool) & ~parent
    children = (parent << bits[None, None, :]).sum(axis=2, dtype=np.uint8)
    return np.stack(
        [
            parent,
            indirect,
            parent.transpose(0, 2, 1),
            indirect.transpose(0, 2, 1),
            _meet(_without(children)),
            _meet(_without(dags)),
        ],
        axis=1,
    )


def valid(dag: Dag) -> Bool[np.ndarray, "relation node other"]:
    """Which relations hold in every graph that is Markov equivalent to this one."""
    return np.asarray(holds(np.array(members(dag), dtype=np.uint8)).all(axis=0))


@lru_cache(maxsize=LARGEST)
def valid_of_classes(nodes: int) -> Bool[np.ndarray, "kind relation node other"]:
    """`valid` of every class of `unlabelled_classes`, in that order, read-only. Raises RequestError."""
    classes = [members(dag) for dag in unlabelled_classes(nodes)]
    starts = np.cumsum([0, *map(len, classes[:-1])])
    every = np.array([dag for kind in classes for dag in kind], dtype=np.uint8)
    found = np.logical_and.reduceat(holds(every), starts, axis=0)
    found.flags.writeable = False
    return np.asarray(found)


def _without(dags: UInt8[np.ndarray, "dag node"]) -> UInt8[np.ndarray, "dag left_out node"]:
    """Masks of the nodes that lead to `node` when `left_out` is taken out of the graph."""
    found = []
    for left_out in range(dags.shape[1]):
        cut = dags & np.uint8(255 ^ 1 << left_out)
        cut[:, left_out] = 0
        found.append(ancestors(cut))
    return np.stack(found, axis=1)


def _meet(reaching: UInt8[np.ndarray, "dag left_out node"]) -> Bool[np.ndarray, "dag left_out node"]:
    """True where a node reaches both of a pair, either without the other."""
    return np.asarray((reaching & reaching.transpose(0, 2, 1)) != 0) & ~np.eye(reaching.shape[1], dtype=bool)
