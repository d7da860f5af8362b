"""Scores of all heuristics of an operator, by whichever way of counting is cheaper.

The score is matching's: |top k prompts and H| / k with k = |H|. Where there are many prompts, heuristics on one
variable are counted from a table per neuron: how many prompts of each of the variable's values rank below k, for every
k that occurs. A heuristic's hits are then a sum over its values, not over its prompts, and hits at the bottom come
from the same table: what does not rank below P - k is among the bottom k. The hits are the same integers either way.
Cost: one pass over the prompts per neuron and variable, instead of one gather of |H| rows per heuristic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer

from arithcirc.arithmetic.operators import Prompts
from arithcirc.heuristics.families import VARIABLES, Heuristic, OneVariable, Variable, column
from arithcirc.heuristics.matching import ENDS, End, Scores, members_of, score
from arithcirc.heuristics.ranks import Ranks, in_threads, transposed

WORTH_TABLES = 30_000
"""Prompts from which tables are the faster way."""


@dataclass(frozen=True)
class _Variable:
    """Heuristics on one variable: `at` their places among all, and where their hits are in a table.

    A table is (value, level), `level[rank]` the first of the thresholds above a rank; hits of heuristic i at the top
    are the sum of the entries `below[start[i] : start[i + 1]]`, those not at the bottom of the entries `above[...]`.
    """

    at: Int[np.ndarray, "heuristic"]
    size: Int[np.ndarray, "heuristic"]
    value_of: Int[np.ndarray, "prompt"]
    level: Int[np.ndarray, "rank"]
    shape: tuple[int, int]
    start: Int[np.ndarray, "heuristic"]
    below: Int[np.ndarray, "entry"]
    above: Int[np.ndarray, "entry"]


def score_all(ranks: Ranks, heuristics: Sequence[Heuristic], prompts: Prompts, *, ends: Sequence[End] = ENDS) -> Scores:
    """Score every neuron against every heuristic on these prompts; the ranks are of the same prompts."""
    if ranks.n_prompts < WORTH_TABLES:
        return score(ranks, members_of(heuristics, prompts), ends=ends)
    variables = [v for name in VARIABLES if (v := _variable(heuristics, prompts, name)) is not None]
    tabled = np.concatenate([np.empty(0, dtype=np.int64), *(v.at for v in variables)])
    others = np.setdiff1d(np.arange(len(heuristics)), tabled)
    rest = score(ranks, members_of([heuristics[int(i)] for i in others], prompts), ends=ends)
    size = np.zeros(len(heuristics), dtype=np.int64)
    found: dict[End, np.ndarray] = {end: np.zeros((ranks.n_neurons, len(heuristics))) for end in ends}
    size[others] = rest.size
    for end, scores in found.items():
        scores[:, others] = rest.ends[end]
    for variable in variables:
        size[variable.at] = variable.size

    def fill(item: tuple[slice, np.ndarray]) -> None:
        columns, block = item
        by_neuron = transposed(block)
        for variable in variables:
            for neuron, place in zip(range(columns.start, columns.stop), by_neuron, strict=True):
                for end, hits in zip(ENDS, _hits(place, variable), strict=True):
                    if end in found:
                        found[end][neuron, variable.at] = hits / variable.size

    in_threads(fill, list(zip(ranks.columns(), ranks.blocks, strict=True)))
    return Scores(found, size)


def _variable(heuristics: Sequence[Heuristic], prompts: Prompts, name: Variable) -> _Variable | None:
    """The heuristics on a variable that hold of some prompt; None where there are none."""
    values, value_of, counts = np.unique(column(prompts, name), return_inverse=True, return_counts=True)
    mine = [(i, h.holds(values)) for i, h in enumerate(heuristics) if isinstance(h, OneVariable) and h.value == name]
    mine = [(i, held) for i, held in mine if held.any()]
    if not mine:
        return None
    held = np.array([rows for _, rows in mine], dtype=bool)
    size = (held * counts).sum(1)
    n = len(prompts)
    thresholds = np.unique(np.concatenate([size, n - size, [n]]))
    level = np.searchsorted(thresholds, np.arange(n), side="right")
    row, value = np.nonzero(held)
    first, last = (np.searchsorted(thresholds, k)[row] for k in (size, n - size))
    return _Variable(
        at=np.array([i for i, _ in mine], dtype=np.int64),
        size=size,
        value_of=value_of.astype(np.int64) * len(thresholds),
        level=level,
        shape=(len(values), len(thresholds)),
        start=np.searchsorted(row, np.arange(len(mine))),
        below=value * len(thresholds) + first,
        above=value * len(thresholds) + last,
    )


def _hits(
    place: Integer[np.ndarray, "prompt"], of: _Variable
) -> tuple[Float[np.ndarray, "heuristic"], Float[np.ndarray, "heuristic"]]:
    """Each heuristic's prompts among the top, and among the bottom, |H|."""
    table = np.bincount(of.value_of + of.level[place], minlength=of.shape[0] * of.shape[1])
    counts = table.reshape(of.shape).cumsum(axis=1, dtype=np.int32).ravel()
    top = np.add.reduceat(counts[of.below], of.start, dtype=np.int64)
    bottom = of.size - np.add.reduceat(counts[of.above], of.start, dtype=np.int64)
    return top.astype(np.float64), bottom.astype(np.float64)
