"""What a score is worth: best scores of relabelled heuristics on the same map.

Maps are smooth, and every smooth map beats shuffled prompts. The structured null therefore keeps the map's rows,
columns and levels of equal result intact and takes away their numeric meaning: the values of the variable that a
heuristic is about are renamed, H' = {p : renamed v(p) in S}, k' = |H'|, and the best score over a *group* (heuristics
of one family, variable and parameter, e.g. all residues mod 7 of op2) is one draw. Sets of a group may differ in size,
and large ones score higher by size alone; they are compared by the chance-corrected score

    (score - b) / (1 - b),     b = |H| / P,

whose standard deviation on shuffled prompts is the same (P - 1)^(-1/2) for every size. Two ways of renaming:

    permutation   every value gets another value's name at random; the p-value is read off these draws
    cyclic shift  value i becomes value i + s; smoothness survives, so this asks whether exactly these boundaries matter

A group closed under a renaming has the same best score in every draw, hence p = 1: residues and (but for the edge)
aligned ranges under shifts, single values under either. Shifts are therefore reported beside, never used for q; single
values and sets found from the data have no structured null at all (calibration.py bounds them). Results are renamed as
results, not through renamed operands: of the prompts of `*` only about 4 % keep a legal product when their operands are
renamed, of `-` about half.

Hits of one-variable groups come from a table of how many prompts of each value are in the top k, for k on a geometric
grid (`_STEP`, so k' is off by at most half a step); a draw is then a gather and a segmented sum over values, not over
prompts. Two-variable groups rename op1 and op2 independently and gather prompts, at
most _SAMPLE of each H', drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from arithcirc.heuristics.matching import End, in_end

_STEP = 1.03
_SAMPLE = 1_000
DRAWS_AT_ONCE = 10
"""Draws gathered at once: few enough to stay in the cache."""
_ABREAST = 16  # neurons whose tables are written together: a cache line


PairSet = tuple[np.ndarray, np.ndarray, bool]
"""A two-variable set: op1 indices, op2 indices, and whether they are paired one by one or crossed."""


@dataclass(frozen=True)
class Levels:
    """A variable over the prompts: `of[prompt]` is the index of its value among those that occur."""

    of: Int[np.ndarray, "prompt"]
    values: Int[np.ndarray, "value"]
    size: Int[np.ndarray, "value"]

    @classmethod
    def make(cls, column: Int[np.ndarray, "prompt"]) -> "Levels":
        """Levels of a column of numbers."""
        values, of, size = np.unique(column, return_inverse=True, return_counts=True)
        return cls(of.astype(np.int64), values, size)


def corrected(score: np.ndarray, base_rate: np.ndarray | float) -> np.ndarray:
    """(score - b) / (1 - b): 0 by chance, 1 at best, equally spread for sets of any size; 0 for b = 1."""
    room = 1 - np.asarray(base_rate, dtype=np.float64)
    out: np.ndarray = (score - base_rate) / np.where(room > 0, room, np.inf)
    return out


def permutations(n: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draw value"]:
    """Random renamings: `draws` permutations of n values."""
    return rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)


def shifts(n: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draw value"]:
    """Cyclic renamings by distinct steps other than 0: all of them, or `draws` random ones."""
    steps = rng.permutation(np.arange(1, n))[:draws]
    renamed: np.ndarray = (np.arange(n)[None, :] + steps[:, None]) % max(n, 1)
    return renamed


def hit_levels(n_prompts: int) -> Int[np.ndarray, "level"]:
    """k = 1, 2, 3, ... growing by _STEP up to the number of prompts."""
    log = np.log(n_prompts) / np.log(_STEP)
    return np.unique(np.round(_STEP ** np.arange(np.ceil(log) + 1)).clip(1, n_prompts).astype(np.int64))


def hit_table(
    ranks: Integer[np.ndarray, "neuron prompt"], levels: Levels, end: End
) -> tuple[Int[np.ndarray, "value level neuron"], Int[np.ndarray, "level"]]:
    """How many prompts of each value are among the end's k prompts, for every k of the grid; and the grid."""
    n_neurons, n_prompts = ranks.shape
    grid = hit_levels(n_prompts)
    place = np.arange(n_prompts) if end == "top" else np.arange(n_prompts)[::-1]
    level_of_rank = np.searchsorted(grid, place, side="right")
    n_levels, n_values = len(grid), len(levels.values)
    row = levels.of * n_levels
    table = np.empty((n_values * n_levels, n_neurons), dtype=np.int32)
    for start in range(0, n_neurons, _ABREAST):
        some = ranks[start : start + _ABREAST]
        found = [np.bincount(row + level_of_rank[mine], minlength=n_values * n_levels) for mine in some]
        counts = np.array(found, dtype=np.int32).reshape(-1, n_values, n_levels)
        table[:, start : start + _ABREAST] = np.cumsum(counts, axis=2, out=counts).reshape(len(some), -1).T
    return table.reshape(n_values, n_levels, n_neurons), grid


def value_maxima(
    table: Int[np.ndarray, "value level neuron"],
    grid: Int[np.ndarray, "level"],
    size: Int[np.ndarray, "value"],
    held: Bool[np.ndarray, "heuristic value"],
    renamings: Int[np.ndarray, "draw value"],
) -> Float[np.ndarray, "draw neuron"]:
    """Best corrected score over a one-variable group under each renaming of the variable's values.

    `held[i]` are the values in heuristic i's set, `renamings[d, v]` the new name of value v in draw d.
    """
    flat = table.reshape(-1, table.shape[2])
    old_name = np.argsort(renamings, axis=1)
    member = np.concatenate([np.flatnonzero(row) for row in held])
    start = np.concatenate([[0], np.cumsum(held.sum(1))[:-1]]).astype(np.int64)
    out = np.empty((len(renamings), table.shape[2]))
    for first in range(0, len(renamings), DRAWS_AT_ONCE):
        values = old_name[first : first + DRAWS_AT_ONCE][:, member]
        k = np.add.reduceat(size[values], start, axis=1)
        level = np.searchsorted(grid, k / np.sqrt(_STEP)).clip(0, len(grid) - 1)
        rows = values * table.shape[1] + np.repeat(level, held.sum(1), axis=1)
        hits = np.add.reduceat(
            flat.take(rows.ravel(), axis=0),
            (np.arange(len(values))[:, None] * len(member) + start).ravel(),
            axis=0,
            dtype=flat.dtype,  # a set has no more hits than there are prompts
        )
        share = hits.reshape(len(values), len(held), -1) / grid[level][:, :, None]
        out[first : first + DRAWS_AT_ONCE] = corrected(share, k[:, :, None] / size.sum()).max(1)
    return out


class PairDraw(NamedTuple):
    """Prompts of a group's renamed sets, end to end: `n` of each set, drawn from its `size`."""

    prompts: Int[np.ndarray, "member"]
    n: Int[np.ndarray, "set"]
    size: Int[np.ndarray, "set"]


def pair_draws(
    prompt_at: Int[np.ndarray, "op1 op2"],
    held: Sequence[PairSet],
    op1: Int[np.ndarray, "draw op1"],
    op2: Int[np.ndarray, "draw op2"],
    rng: np.random.Generator,
) -> list[PairDraw]:
    """The sets of a two-variable group when op1 and op2 are renamed independently, for each draw.

    `prompt_at` is the prompt of each pair of operand indices, -1 where illegal. Each heuristic is (op1 indices, op2
    indices, paired): their product, or with `paired` the pairs one by one (op1 = op2).
    """
    out = []
    for new1, new2 in zip(op1, op2, strict=True):
        old1, old2 = np.argsort(new1), np.argsort(new2)
        drawn, size = [np.empty(0, dtype=np.int64)], []
        for rows, columns, paired in held:
            cells = prompt_at[old1[rows], old2[columns]] if paired else prompt_at[old1[rows]][:, old2[columns]].ravel()
            inside = cells[cells >= 0]
            if k := len(inside):
                drawn.append(inside if k <= _SAMPLE else inside[rng.integers(0, k, _SAMPLE)])
                size.append(k)
        n = np.array([len(d) for d in drawn[1:]], dtype=np.int64)
        out.append(PairDraw(np.concatenate(drawn), n, np.array(size, dtype=np.int64)))
    return out


def pair_maxima(
    ranks: Integer[np.ndarray, "prompt neuron"], draws: Sequence[PairDraw], end: End
) -> Float[np.ndarray, "draw neuron"]:
    """Best corrected score over a two-variable group in each of its draws; -1 where no set has a prompt."""
    out = np.full((len(draws), ranks.shape[1]), -1.0)
    for row, (prompts, n, size) in enumerate(draws):
        if len(size):
            place = ranks.take(prompts, axis=0)
            hits = in_end(place, np.repeat(size, n)[:, None], len(ranks), end).view(np.uint8)
            total = np.add.reduceat(hits, np.cumsum(n) - n, axis=0, dtype=np.int64)
            out[row] = corrected(total / n[:, None], size[:, None] / len(ranks)).max(0)
    return out
