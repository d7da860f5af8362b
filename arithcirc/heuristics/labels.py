"""Labels: which heuristics each neuron implements, with everything needed to doubt it.

A neuron is labelled with H when its score reaches the threshold (0.6, the paper's); the label is *significant* when its
q is below the level as well (calibration.py). K carries the operand heuristics, KV the result heuristics, each at the
top of the map and, where the map goes below zero, at the bottom. For division, sets of 2 to 4 results are read off each
neuron's own top prompts and kept when they cover SET_COVERAGE of them. Heuristics that only restate "the answer is 0"
are left out and listed. A label describes where a neuron is most active; that the model uses it is for the ablations
to show. Neurons may come in blocks, matched one after another: only q looks at all of them.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from arithcirc.arithmetic.operators import DIV, OperandRange, Operator, Prompts
from arithcirc.components import Neuron
from arithcirc.heuristics.calibration import Calibrated, calibrate, hypergeometric, q_values
from arithcirc.heuristics.families import MULTI_VALUE_SIZES, Heuristic, Kind, MultiValue
from arithcirc.heuristics.matching import ENDS, End, Scores, members_of, score
from arithcirc.heuristics.nulls import Levels, corrected, hit_table
from arithcirc.heuristics.presets import exclude_zero, preset
from arithcirc.heuristics.ranks import Ranks, in_threads, rank_maps, transposed
from arithcirc.heuristics.scoring import score_all
from arithcirc.measure.maps import Maps

SET_COVERAGE = 0.95
"""Share of a neuron's top prompts whose results a set must cover (multi-value heuristics)."""
_COVERAGE_SLACK = 0.03  # the grid's k is not quite |H|: sets a little below the bar are scored exactly
COLUMNS = (
    "operator", "layer", "neuron", "heuristic", "family", "value", "kind", "end", "size", "score", "base_rate",
    "p_hypergeometric", "p", "p_shift", "q", "matched", "significant",
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """Rows of the table `heuristics`, what was left out, and how much was tested.

    `table` has every label at or above the threshold and, for a neuron without any, its best heuristic unmatched.
    """

    table: pd.DataFrame
    excluded: pd.DataFrame
    n_heuristics: int
    n_tests: int


_KINDS: tuple[Kind, ...] = ("indirect", "direct")
_Source = tuple[Kind, End, Literal["preset", "sets"]]


@dataclass(frozen=True)
class Matched:
    """What was found for one block of neurons: labels by row of the block, and p of every test, by their source.

    `negative` says whether a map of the kind goes below zero; where none of any block does, bottom ends do not count.
    """

    neurons: tuple[Neuron, ...]
    tables: dict[_Source, pd.DataFrame]
    tests: dict[_Source, Float[np.ndarray, "test"]]
    negative: dict[Kind, bool]
    excluded: pd.DataFrame
    n_heuristics: int


def label_neurons(
    maps: Maps,
    values: Float[np.ndarray, "neuron number"],
    operator: Operator,
    operands: OperandRange,
    *,
    preset_name: str = "paper",
    threshold: float = 0.6,
    level: float = 0.01,
    draws: int = 200,
    rng: np.random.Generator,
) -> Labels:
    """Match the neurons of some maps against a preset. `values` are their `value_logits`; `draws` of the nulls."""
    matched = match_neurons(
        maps, values, operator, operands, preset_name=preset_name, threshold=threshold, draws=draws, rng=rng
    )
    return join_labels([matched], operator, level=level)


def match_neurons(
    maps: Maps,
    values: Float[np.ndarray, "neuron number"],
    operator: Operator,
    operands: OperandRange,
    *,
    preset_name: str = "paper",
    threshold: float = 0.6,
    draws: int = 200,
    rng: np.random.Generator,
) -> Matched:
    """Scores and p-values of a block of neurons, for `join_labels`.

    Give every block a generator in the same state: then a neuron's p does not depend on the block it is in.
    """
    listed = preset(preset_name, operator, operands, values.shape[1] - 1)
    kept, excluded = exclude_zero(listed, maps.prompts)
    tables: dict[_Source, pd.DataFrame] = {}
    tests: dict[_Source, np.ndarray] = {}
    negative: dict[Kind, bool] = {}
    for kind in _KINDS:
        heuristics = [h for h in kept if h.kind == kind]
        times = None if kind == "indirect" else _answer_values(values, maps.prompts)
        negative[kind] = any(bool((k if times is None else k * times(i)).min() < 0) for i, k in enumerate(maps.k))
        ranks = rank_maps(maps.k, times)
        scores = score_all(ranks, heuristics, maps.prompts, ends=ENDS)
        found = calibrate(ranks, scores, heuristics, maps.prompts, threshold=threshold, draws=draws, rng=rng)
        for end in ENDS:
            tables[kind, end, "preset"] = _rows(scores, found, heuristics, ranks.n_prompts, threshold, end)
            tests[kind, end, "preset"] = found.tests[end].ravel()
        for end in ENDS if kind == "direct" and operator == DIV else ():
            tables[kind, end, "sets"], tests[kind, end, "sets"] = _set_rows(ranks, maps, end, threshold)
    return Matched(maps.neurons, tables, tests, negative, excluded, len(kept))


def _answer_values(
    values: Float[np.ndarray, "neuron number"], prompts: Prompts
) -> Callable[[int], Float[np.ndarray, "prompt"]]:
    """What each neuron writes into the answers of the prompts: KV = K times this."""

    def times(neuron: int) -> Float[np.ndarray, "prompt"]:
        written: np.ndarray = values[neuron, prompts.answer]
        return written

    return times


def join_labels(blocks: Sequence[Matched], operator: Operator, *, level: float = 0.01) -> Labels:
    """Labels of all blocks of an operator's neurons: q counts every test of every block."""
    negative = {kind: any(b.negative[kind] for b in blocks) for kind in blocks[0].negative}
    counted = [key for key in blocks[0].tables if key[1] == "top" or negative[key[0]]]
    starts = np.cumsum([0, *(len(b.neurons) for b in blocks)])
    frames = [
        b.tables[key].assign(row=b.tables[key]["row"] + start)
        for key in counted
        for b, start in zip(blocks, starts, strict=False)
    ]
    table = pd.concat(frames, ignore_index=True)
    tests = [b.tests[key] for b in blocks for key in counted]
    every = np.concatenate(tests) if tests else np.empty(0)
    table["q"] = np.where(table["p"].notna(), q_values(table["p"].fillna(1).to_numpy(), every), np.nan)
    table["significant"] = table["matched"] & (table["q"] < level)
    neurons = [n for b in blocks for n in b.neurons]
    named = _named(_one_row_at_least(table), neurons, operator)
    return Labels(named, blocks[0].excluded, blocks[0].n_heuristics, len(every))


def _rows(
    scores: Scores, found: Calibrated, heuristics: Sequence[Heuristic], n_prompts: int, threshold: float, end: End
) -> pd.DataFrame:
    """Labels at or above the threshold, and each neuron's best one, at one end."""
    values = scores.ends[end]
    keep = values >= threshold
    if values.shape[1]:
        fit = corrected(values, scores.size / n_prompts)
        keep[np.arange(len(values)), fit.argmax(1)] = True
    row, column = np.nonzero(keep)
    size, named = scores.size[column], [heuristics[int(i)] for i in column]
    tail = found.tail[end][row, column]
    below = np.isnan(tail)
    tail[below] = hypergeometric(values[row, column][below], size[below], n_prompts)
    return pd.DataFrame(
        {
            "row": row,
            "heuristic": [str(h) for h in named],
            "family": [h.family for h in named],
            "value": [h.value for h in named],
            "kind": [h.kind for h in named],
            "end": end,
            "size": size,
            "score": values[row, column],
            "base_rate": size / n_prompts,
            "p_hypergeometric": tail,
            "p": found.p[end][row, column],
            "p_shift": found.p_shift[end][row, column],
            "matched": values[row, column] >= threshold,
        }
    )


def _set_rows(ranks: Ranks, maps: Maps, end: End, threshold: float) -> tuple[pd.DataFrame, Float[np.ndarray, "neuron"]]:
    """Sets of results that cover the top prompts of a neuron (division), and one p per neuron."""
    levels = Levels.make(maps.prompts.answer)
    kind: Kind = "direct"

    def find(item: tuple[slice, np.ndarray]) -> list[tuple[int, MultiValue]]:
        columns, block = item
        table, grid = hit_table(transposed(block), levels, end)
        return [(columns.start + i, MultiValue(s)) for i, s in _sets(table, grid, levels)]

    blocks = list(zip(ranks.columns(), ranks.blocks, strict=True))
    candidates = [pair for found in in_threads(find, blocks) for pair in found]
    rows = np.array([row for row, _ in candidates], dtype=np.int64)
    sets = [s for _, s in candidates]
    distinct = list(dict.fromkeys(sets))
    place = {s: i for i, s in enumerate(distinct)}
    scored = score(ranks, members_of(distinct, maps.prompts), ends=(end,))
    column = np.array([place[s] for s in sets], dtype=np.int64)
    values, size = scored.ends[end][rows, column], scored.size[column]
    tail = hypergeometric(values, size, ranks.n_prompts)
    choices = np.array([float(comb(len(levels.values), len(s.values))) for s in sets])
    p = np.minimum(1, tail * choices)
    frame = pd.DataFrame({"row": rows, "heuristic": [str(s) for s in sets], "family": "multi_value"}).assign(
        value="result", kind=kind, end=end, size=size, score=values, base_rate=size / ranks.n_prompts,
        p_hypergeometric=tail, p=p, p_shift=np.nan, matched=values >= max(threshold, SET_COVERAGE),
    )  # fmt: skip
    frame = frame[frame["matched"]]
    best = np.ones(ranks.n_neurons)
    np.minimum.at(best, frame["row"].to_numpy(dtype=np.int64), frame["p"].to_numpy(dtype=np.float64))
    return frame, best


def _sets(
    table: Int[np.ndarray, "value level neuron"], grid: Int[np.ndarray, "level"], levels: Levels
) -> list[tuple[int, tuple[int, ...]]]:
    """Each neuron with sets of the most frequent results among its top k prompts that are about k prompts large.

    Sets with the result 0 are left out: half of all division prompts answer 0, so they say little else.
    """
    chosen, counts = _most_frequent(np.where(levels.values[:, None, None] > 0, table, -1), max(MULTI_VALUE_SIZES))
    step = np.maximum(1, np.diff(grid, append=grid[-1]))[:, None]
    found: dict[tuple[int, tuple[int, ...]], None] = {}
    for n in MULTI_VALUE_SIZES:
        if len(chosen) < n:
            continue
        total = levels.size[chosen[:n]].sum(0)
        covered = counts[:n].sum(0) / grid[:, None] >= SET_COVERAGE - _COVERAGE_SLACK
        level, neuron = np.nonzero((np.abs(total - grid[:, None]) <= step) & covered & (counts[n - 1] > 0))
        values = np.sort(levels.values[chosen[:n, level, neuron]], axis=0).T
        found |= dict.fromkeys(zip(neuron.tolist(), map(tuple, values.tolist()), strict=True))
    return sorted(found, key=lambda pair: pair[0])


def _most_frequent(
    counts: Int[np.ndarray, "value level neuron"], n: int
) -> tuple[Int[np.ndarray, "place level neuron"], Int[np.ndarray, "place level neuron"]]:
    """Indices and counts of the n most frequent values (all, if fewer), largest first, equal ones by index."""
    n_values = len(counts)
    keys = counts.astype(np.int64) * n_values
    keys += np.arange(n_values)[::-1, None, None]
    best = np.empty((min(n, n_values), *keys.shape[1:]), dtype=np.int64)
    for place in best:
        np.max(keys, axis=0, out=place)
        np.put_along_axis(keys, n_values - 1 - place[None] % n_values, np.iinfo(np.int64).min, axis=0)
    return n_values - 1 - best % n_values, best // n_values


def _one_row_at_least(table: pd.DataFrame) -> pd.DataFrame:
    """All matched labels; for a neuron without any, the heuristic with the best chance-corrected score."""
    matched = table[table["matched"]]
    rest = table[~table["row"].isin(matched["row"])]
    fit = corrected(rest["score"].to_numpy(dtype=float), rest["base_rate"].to_numpy(dtype=float))
    best = rest.loc[rest.assign(fit=fit).groupby("row")["fit"].idxmax()]
    return pd.concat([matched, best]).sort_values(["row", "score"], ascending=[True, False], kind="stable")


def _named(table: pd.DataFrame, neurons: Sequence[Neuron], operator: Operator) -> pd.DataFrame:
    """The rows with their neurons' names instead of row numbers."""
    rows = table["row"].to_numpy(dtype=np.int64)
    layers = np.array([n.layer for n in neurons], dtype=np.int64)
    ids = np.array([n.index for n in neurons], dtype=np.int64)
    named = table.assign(operator=operator.symbol, layer=layers[rows], neuron=ids[rows])
    return named.loc[:, list(COLUMNS)].reset_index(drop=True)
