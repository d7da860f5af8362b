"""From scores to p-values and q-values.

Three numbers stand beside a score. `p_hypergeometric` is the exact tail P(X >= hits) for k prompts drawn without
replacement out of P of which k are in H: what a map of noise would do, far too easy for a smooth map. `p` is read off
the structured null (nulls.py): with B draws of the best chance-corrected score over the heuristic's group,

    p = (1 + #{draws >= corrected score}) / (1 + B),

and where fewer than ten draws reach the score, the tail beyond the largest tenth of the draws is continued as an
exponential with their mean excess, down to SMALLEST; best scores are bounded and fall off faster, so this errs towards
large p. p is never below p_hypergeometric: where sets of a group differ much in size (results of a division), renaming
is no harder to beat than shuffling. `p_shift` is the same for cyclic shifts, without the tail.
Groups closed under renaming have no structured null: for single values p = n P(X >= hits), for sets found from the
data C(V, s) P(X >= hits), both union bounds on the hypergeometric tail, which random weights can beat.

q: Benjamini-Hochberg over every (neuron, group, end), each with the p of its best heuristic, and p = 1 where even that
is below the threshold (no draws are spent there; a larger p only makes q larger). A label's q is that of the test with
the next larger p. Tests of one neuron depend on each other; BH is known to hold for positive dependence.
Source: spec of the labels, Nikankin et al. 2024 (arXiv 2410.21272), appendix; Benjamini and Hochberg 1995.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import stats

from arithcirc.arithmetic.operators import Prompts
from arithcirc.errors import RequestError
from arithcirc.heuristics.families import BothModulo, BothRange, Heuristic, Identical, Modulo, OneVariable, Range
from arithcirc.heuristics.matching import End, Scores
from arithcirc.heuristics.nulls import (
    Levels,
    PairDraw,
    PairSet,
    corrected,
    hit_table,
    pair_draws,
    pair_maxima,
    permutations,
    shifts,
    value_maxima,
)
from arithcirc.heuristics.ranks import Ranks, in_threads, transposed

ENOUGH = 10
"""Draws that must reach a score for the empirical p to be used as it is."""
SMALLEST = 1e-8
"""Smallest p read off a continued tail: a few hundred draws know nothing of rarer events."""
SHIFTS = 100
"""Most cyclic shifts tried; p_shift is for reading, not for q."""
UNION_BOUND = ("value", "multi_value")
"""Families without a structured null."""


@dataclass(frozen=True)
class Calibrated:
    """p-values of an end, NaN where the score is below the threshold; `tests` has one p per (neuron, group).

    `tail` is P(X >= hits), the p of a shuffled map.
    """

    p: dict[End, Float[np.ndarray, "neuron heuristic"]] = field(default_factory=dict)
    p_shift: dict[End, Float[np.ndarray, "neuron heuristic"]] = field(default_factory=dict)
    tail: dict[End, Float[np.ndarray, "neuron heuristic"]] = field(default_factory=dict)
    tests: dict[End, Float[np.ndarray, "neuron group"]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    """Heuristics of one family, variable and parameter, and how their variable is renamed in each draw."""

    heuristics: Int[np.ndarray, "heuristic"]
    variable: str
    held: list[object]
    renamings: list[tuple[np.ndarray, ...]]
    seed: int


def calibrate(
    ranks: Ranks,
    scores: Scores,
    heuristics: Sequence[Heuristic],
    prompts: Prompts,
    *,
    threshold: float,
    draws: int,
    rng: np.random.Generator,
) -> Calibrated:
    """p-values of every score at or above the threshold (0 for all of them).

    `ranks` and `scores` are of the same neurons, `scores` of these heuristics on these prompts. Deterministic in `rng`,
    whatever the number of threads, and a neuron's p does not depend on which other neurons are there.
    """
    levels = {v: Levels.make(getattr(prompts, "answer" if v == "result" else v)) for v in ("op1", "op2", "result")}
    groups = _groups(heuristics, levels, draws, rng)
    out = Calibrated()
    for end, values in scores.ends.items():
        out.p[end], out.p_shift[end] = np.full_like(values, np.nan), np.full_like(values, np.nan)
        out.tests[end] = np.ones((len(values), len(groups)))
        reached = np.nonzero(values >= threshold)
        out.tail[end] = np.full_like(values, np.nan)
        out.tail[end][reached] = hypergeometric(values[reached], scores.size[reached[1]], ranks.n_prompts)
    _structured(ranks, scores, groups, levels, threshold, out)
    for end, tail in out.tail.items():
        for g, group in enumerate(groups):
            mine = group.heuristics
            if heuristics[int(mine[0])].family in UNION_BOUND:
                p = np.minimum(1, len(mine) * tail[:, mine])
            else:
                p = np.maximum(out.p[end][:, mine], tail[:, mine])
            out.p[end][:, mine] = p
            out.tests[end][:, g] = np.where(np.isnan(p), 1, p).min(1)
    return out


def _structured(
    ranks: Ranks,
    scores: Scores,
    groups: Sequence[_Group],
    levels: dict[str, Levels],
    threshold: float,
    out: Calibrated,
) -> None:
    """Fill in structured p-values: of all groups on one variable, then of one two-variable group after another.

    What a two-variable group draws is the same for all neurons, and large: it is drawn once, and only one is held.
    """
    blocks = list(zip(ranks.columns(), ranks.blocks, strict=True))

    def one_variable(item: tuple[slice, np.ndarray]) -> None:
        columns, block = item
        by_neuron = transposed(block)
        for end, values in scores.ends.items():
            _block(by_neuron, values[columns], scores.size, groups, levels, end, threshold, columns, out)

    in_threads(one_variable, blocks)
    prompt_at = _prompt_table(levels)
    for group in groups:
        reached = any(bool((v[:, group.heuristics] >= threshold).any()) for v in scores.ends.values())
        if group.variable == "operands" and reached:
            draws = _pair_draws(group, prompt_at)

            def two_variables(item: tuple[slice, np.ndarray], group: _Group = group, draws: _Draws = draws) -> None:
                columns, block = item
                for end, values in scores.ends.items():
                    _pair_block(block, values[columns], scores.size, group, draws, end, threshold, columns, out)

            in_threads(two_variables, blocks)


_Draws = list[list[PairDraw]]
"""A two-variable group's draws, permutations and shifts."""


def _pair_draws(group: _Group, prompt_at: Int[np.ndarray, "op1 op2"]) -> _Draws:
    """Both ways of renaming, each with a generator of its own."""
    held = cast("list[PairSet]", group.held)
    return [
        pair_draws(prompt_at, held, first, second, np.random.default_rng(group.seed + 1 + i))
        for i, (first, second) in enumerate(group.renamings)
    ]


def _groups(
    heuristics: Sequence[Heuristic], levels: dict[str, Levels], draws: int, rng: np.random.Generator
) -> list[_Group]:
    """Groups by name, each with its own draws."""
    by_name: dict[str, list[int]] = {}
    for i, heuristic in enumerate(heuristics):
        by_name.setdefault(heuristic.group, []).append(i)
    groups = []
    for ids in by_name.values():
        kinds = [heuristics[i] for i in ids]
        seed = int(rng.integers(2**31))
        own = np.random.default_rng(seed)
        variable = kinds[0].value
        names = ("op1", "op2") if variable == "operands" else (variable,)
        sizes = [len(levels[v].values) for v in names]
        kinds_of = ((permutations, draws), (shifts, min(draws, SHIFTS)))
        renamings = [tuple(make(n, most, own) for n in sizes) for make, most in kinds_of]
        renamings = [tuple(a[: min(map(len, r))] for a in r) for r in renamings]
        groups.append(_Group(np.array(ids), variable, [_held(h, levels) for h in kinds], renamings, seed))
    return groups


def _held(heuristic: Heuristic, levels: dict[str, Levels]) -> object:
    """Values in a one-variable set (booleans), or the operand indices of a two-variable one."""
    if isinstance(heuristic, OneVariable):
        return heuristic.holds(levels[heuristic.value].values)
    first, second = levels["op1"].values, levels["op2"].values
    if isinstance(heuristic, Identical):
        _, rows, columns = np.intersect1d(first, second, return_indices=True)
        return rows, columns, True
    if isinstance(heuristic, BothRange):
        one: OneVariable = Range("op1", heuristic.low, heuristic.high)
    elif isinstance(heuristic, BothModulo):
        one = Modulo("op1", heuristic.residue, heuristic.modulus)
    else:
        raise RequestError(f"heuristic {heuristic} ({type(heuristic).__name__}) has no null: use one of families.py")
    return np.flatnonzero(one.holds(first)), np.flatnonzero(one.holds(second)), False


def _prompt_table(levels: dict[str, Levels]) -> Int[np.ndarray, "op1 op2"]:
    """The prompt of each pair of operand indices, -1 where there is none."""
    table = np.full((len(levels["op1"].values), len(levels["op2"].values)), -1, dtype=np.int64)
    table[levels["op1"].of, levels["op2"].of] = np.arange(len(levels["op1"].of))
    return table


def _block(
    ranks: Integer[np.ndarray, "neuron prompt"],
    values: Float[np.ndarray, "neuron heuristic"],
    size: Int[np.ndarray, "heuristic"],
    groups: Sequence[_Group],
    levels: dict[str, Levels],
    end: End,
    threshold: float,
    columns: slice,
    out: Calibrated,
) -> None:
    """Structured p-values of one block of neurons, at one end of their maps, for groups on one variable."""
    nobody = np.zeros(len(values), dtype=bool)
    for variable in ("op1", "op2", "result"):
        mine = [g for g in groups if g.variable == variable and not _closed(g)]
        reach = {id(g): np.asarray((values[:, g.heuristics] >= threshold).any(1)) for g in mine}
        some = np.flatnonzero(np.logical_or.reduce([nobody, *reach.values()]))
        if not len(some):
            continue
        counts, grid = hit_table(ranks if len(some) == len(ranks) else ranks[some], levels[variable], end)
        for group in mine:
            here = reach[id(group)][some]
            if not here.any():
                continue
            shown = _of_columns(counts, here)
            sets = np.array(group.held, dtype=bool)
            maxima = [value_maxima(shown, grid, levels[variable].size, sets, names[0]) for names in group.renamings]
            if shown is counts:
                maxima = [np.ascontiguousarray(m[:, here]) for m in maxima]
            _write(values, size, group, some[here], maxima, ranks.shape[1], end, threshold, columns, out)


def _pair_block(
    ranks: np.ndarray,
    values: Float[np.ndarray, "neuron heuristic"],
    size: Int[np.ndarray, "heuristic"],
    group: _Group,
    draws: _Draws,
    end: End,
    threshold: float,
    columns: slice,
    out: Calibrated,
) -> None:
    """Structured p-values of one block of neurons, at one end of their maps, for a two-variable group."""
    neurons = np.flatnonzero((values[:, group.heuristics] >= threshold).any(1))
    if len(neurons):
        mine = np.ascontiguousarray(ranks[:, neurons])
        maxima = [pair_maxima(mine, drawn, end) for drawn in draws]
        _write(values, size, group, neurons, maxima, len(ranks), end, threshold, columns, out)


def _write(
    values: Float[np.ndarray, "neuron heuristic"],
    size: Int[np.ndarray, "heuristic"],
    group: _Group,
    neurons: Int[np.ndarray, "some"],
    maxima: Sequence[Float[np.ndarray, "_ some"]],
    n_prompts: int,
    end: End,
    threshold: float,
    columns: slice,
    out: Calibrated,
) -> None:
    """p of these neurons' scores, from the best scores of permutations and of shifts."""
    held_scores = values[np.ix_(neurons, group.heuristics)]
    observed = corrected(held_scores, size[group.heuristics] / n_prompts)
    cells = np.ix_(np.arange(columns.start, columns.stop)[neurons], group.heuristics)
    for drawn, tail, target in zip(maxima, (True, False), (out.p[end], out.p_shift[end]), strict=True):
        p = p_values(observed, drawn, tail=tail)
        target[cells] = np.where(held_scores >= threshold, p, np.nan)


def _of_columns(
    counts: Int[np.ndarray, "value level neuron"], here: Bool[np.ndarray, "neuron"]
) -> Int[np.ndarray, "value level some"]:
    """The table of these neurons; of all where they are most, as copying it takes longer than drawing for the rest."""
    return counts if here.mean() > 0.8 else counts.take(np.flatnonzero(here), axis=2)


def _closed(group: _Group) -> bool:
    """Single values are closed under renaming: every draw has the same best score."""
    return all(isinstance(held, np.ndarray) and held.sum() <= 1 for held in group.held)


def p_values(
    observed: Float[np.ndarray, "neuron heuristic"], maxima: Float[np.ndarray, "draw neuron"], *, tail: bool = True
) -> Float[np.ndarray, "neuron heuristic"]:
    """P(a draw >= observed), from the draws and, with `tail`, an exponential beyond their largest tenth."""
    n = len(maxima)
    ordered = np.sort(maxima, axis=0)
    reached = np.stack([n - np.searchsorted(ordered[:, i], observed[i] - 1e-12) for i in range(len(observed))])
    p: np.ndarray = (1 + reached) / (1 + n)
    top = max(ENOUGH, n // 10)
    if not tail or n < 2 * top:
        return p
    start = ordered[-top - 1]
    excess = (ordered[-top:] - start).mean(0)
    beyond = (observed - start[:, None]) / np.where(excess > 0, excess, np.inf)[:, None]
    continued = np.maximum(SMALLEST, top / n * np.exp(-np.maximum(beyond, 0)))
    return np.where((reached < ENOUGH) & (excess > 0)[:, None], np.minimum(p, continued), p)


def hypergeometric(
    scores: Float[np.ndarray, "label"], size: Int[np.ndarray, "label"], n_prompts: int
) -> Float[np.ndarray, "label"]:
    """P(X >= hits) for k = |H| prompts drawn from n_prompts of which k are in H; hits = score x k.

    Many labels have the same hits and size: each pair is computed once.
    """
    hits = np.rint(scores * size).astype(np.int64)
    pairs, of = np.unique(hits * (n_prompts + 1) + size, return_inverse=True)
    hit, k = np.divmod(pairs, n_prompts + 1)
    return np.asarray(stats.hypergeom.sf(hit - 1.0, n_prompts, k, k))[of]


def q_values(p: Float[np.ndarray, "label"], tests: Float[np.ndarray, "test"]) -> Float[np.ndarray, "label"]:
    """Benjamini-Hochberg q of each p, among these tests: that of the test with the next larger p (1 if none)."""
    ordered = np.sort(tests)
    adjusted = stats.false_discovery_control(ordered) if len(ordered) else ordered
    place = np.searchsorted(ordered, p)
    q: np.ndarray = np.append(adjusted, 1.0)[place]
    return q
