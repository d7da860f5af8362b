"""Labels: which heuristics each neuron implements, with everything needed to doubt it.

A neuron is labelled with H when its score reaches the threshold (0.6, the paper's); the label is *significant* when its
q is below the level as well (calibration.py). K carries the operand heuristics, KV the result heuristics, each at the
top of the map and, where the map goes below zero, at the bottom. For division, sets of 2 to 4 results are read off each
neuron's own top prompts and kept when they cover SET_COVERAGE of them. Heuristics that only restate "the answer is 0"
are left out and listed. A label describes where a neuron is most active; that the model uses it is for the ablations
to show. Source: Nikankin et al. 2024 (arXiv 2410.21272), section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import pandas as pd
from jaxtyping import Float

from arithcirc.arithmetic.operators import DIV, OperandRange, Operator
from arithcirc.heuristics.calibration import Calibrated, calibrate, hypergeometric, q_values
from arithcirc.heuristics.families import MULTI_VALUE_SIZES, Heuristic, Kind, MultiValue
from arithcirc.heuristics.matching import ENDS, End, Scores, members_of, score
from arithcirc.heuristics.nulls import Levels, corrected, hit_table
from arithcirc.heuristics.presets import exclude_zero, preset
from arithcirc.heuristics.ranks import Ranks, in_threads, rank_maps
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
    listed = preset(preset_name, operator, operands, values.shape[1] - 1)
    kept, excluded = exclude_zero(listed, maps.prompts)
    frames, tests = [], []
    for kind in ("indirect", "direct"):
        heuristics = [h for h in kept if h.kind == kind]
        signed = maps.k if kind == "indirect" else maps.kv(values)
        ranks = rank_maps(signed)
        ends = ENDS if signed.min(initial=0) < 0 else ENDS[:1]
        del signed
        scores = score(ranks, members_of(heuristics, maps.prompts), ends=ends)
        found = calibrate(ranks, scores, heuristics, maps.prompts, threshold=threshold, draws=draws, rng=rng)
        frames.append(_rows(scores, found, heuristics, ranks.n_prompts, threshold))
        tests += [p.ravel() for p in found.tests.values()]
        if kind == "direct" and operator == DIV:
            sets, p = _set_rows(ranks, maps, ends, threshold)
            frames.append(sets)
            tests.append(p)
    table = pd.concat(frames, ignore_index=True)
    every = np.concatenate(tests) if tests else np.empty(0)
    table["q"] = np.where(table["p"].notna(), q_values(table["p"].fillna(1).to_numpy(), every), np.nan)
    table["significant"] = table["matched"] & (table["q"] < level)
    return Labels(_named(_one_row_at_least(table), maps, operator), excluded, len(kept), len(every))


def _rows(
    scores: Scores, found: Calibrated, heuristics: Sequence[Heuristic], n_prompts: int, threshold: float
) -> pd.DataFrame:
    """Labels at or above the threshold, and each neuron's best one, at both ends."""
    frames = []
    for end, values in scores.ends.items():
        keep = values >= threshold
        if values.shape[1]:
            fit = corrected(values, scores.size / n_prompts)
            keep[np.arange(len(values)), fit.argmax(1)] = True
        row, column = np.nonzero(keep)
        size, named = scores.size[column], [heuristics[int(i)] for i in column]
        frames.append(
            pd.DataFrame(
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
                    "p_hypergeometric": hypergeometric(values[row, column], size, n_prompts),
                    "p": found.p[end][row, column],
                    "p_shift": found.p_shift[end][row, column],
                    "matched": values[row, column] >= threshold,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _set_rows(
    ranks: Ranks, maps: Maps, ends: Sequence[End], threshold: float
) -> tuple[pd.DataFrame, Float[np.ndarray, "test"]]:
    """Sets of results that cover the top prompts of a neuron (division), and one p per neuron and end."""
    levels = Levels.make(maps.prompts.answer)
    kind: Kind = "direct"
    frames, tests = [], []
    for end in ends:

        def find(item: tuple[slice, np.ndarray], end: End = end) -> list[tuple[int, MultiValue]]:
            columns, block = item
            table, grid = hit_table(block, levels, end)
            return [(columns.start + i, s) for i in range(block.shape[1]) for s in _sets(table[:, :, i], grid, levels)]

        blocks = list(zip(ranks.columns(), ranks.blocks, strict=True))
        candidates = [pair for found in in_threads(find, blocks) for pair in found]
        rows = np.array([row for row, _ in candidates], dtype=np.int64)
        sets = [s for _, s in candidates]
        distinct = list(dict.fromkeys(sets))
        scored = score(ranks, members_of(distinct, maps.prompts), ends=(end,))
        column = np.array([distinct.index(s) for s in sets], dtype=np.int64)
        values, size = scored.ends[end][rows, column], scored.size[column]
        tail = hypergeometric(values, size, ranks.n_prompts)
        choices = np.array([float(comb(len(levels.values), len(s.values))) for s in sets])
        p = np.minimum(1, tail * choices)
        frame = pd.DataFrame({"row": rows, "heuristic": [str(s) for s in sets], "family": "multi_value"}).assign(
            value="result", kind=kind, end=end, size=size, score=values, base_rate=size / ranks.n_prompts,
            p_hypergeometric=tail, p=p, p_shift=np.nan, matched=values >= max(threshold, SET_COVERAGE),
        )  # fmt: skip
        frames.append(frame[frame["matched"]])
        best = np.ones(ranks.n_neurons)
        np.minimum.at(best, frames[-1]["row"].to_numpy(dtype=np.int64), frames[-1]["p"].to_numpy(dtype=np.float64))
        tests.append(best)
    return pd.concat(frames, ignore_index=True), np.concatenate(tests)


def _sets(table: np.ndarray, grid: np.ndarray, levels: Levels) -> list[MultiValue]:
    """Sets of the most frequent results among a neuron's top k prompts that are themselves about k prompts large.

    Sets with the result 0 are left out: half of all division prompts answer 0, so they say little else.
    """
    usable = levels.values > 0
    counts = np.where(usable[:, None], table, -1)
    found: dict[MultiValue, None] = {}
    by_count = np.argsort(-counts, axis=0, kind="stable")
    for n in MULTI_VALUE_SIZES:
        chosen = by_count[:n] if len(by_count) >= n else by_count[:0]
        if not len(chosen):
            continue
        total, every = levels.size[chosen].sum(0), np.arange(len(grid))
        step = np.maximum(1, np.diff(grid, append=grid[-1]))
        covered = counts[chosen, every].sum(0) / grid >= SET_COVERAGE - _COVERAGE_SLACK
        for level in np.flatnonzero((np.abs(total - grid) <= step) & covered & (counts[chosen[-1], every] > 0)):
            found[MultiValue(tuple(sorted(int(v) for v in levels.values[chosen[:, level]])))] = None
    return list(found)


def _one_row_at_least(table: pd.DataFrame) -> pd.DataFrame:
    """All matched labels; for a neuron without any, the heuristic with the best chance-corrected score."""
    matched = table[table["matched"]]
    rest = table[~table["row"].isin(matched["row"])]
    fit = corrected(rest["score"].to_numpy(dtype=float), rest["base_rate"].to_numpy(dtype=float))
    best = rest.loc[rest.assign(fit=fit).groupby("row")["fit"].idxmax()]
    return pd.concat([matched, best]).sort_values(["row", "score"], ascending=[True, False], kind="stable")


def _named(table: pd.DataFrame, maps: Maps, operator: Operator) -> pd.DataFrame:
    """The rows with their neurons' names instead of row numbers."""
    rows = table["row"].to_numpy(dtype=np.int64)
    layers = np.array([n.layer for n in maps.neurons], dtype=np.int64)
    ids = np.array([n.index for n in maps.neurons], dtype=np.int64)
    named = table.assign(operator=operator.symbol, layer=layers[rows], neuron=ids[rows])
    return named.loc[:, list(COLUMNS)].reset_index(drop=True)
