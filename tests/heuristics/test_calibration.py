"""Nulls: uniform p-values on noise, small ones on planted structure, and what each renaming cannot see."""

import numpy as np
import pytest
from scipy import stats

from arithcirc.arithmetic.operators import ADD, SUB, OperandRange, Prompts, fitting_prompts
from arithcirc.heuristics.calibration import calibrate, hypergeometric, p_values, q_values
from arithcirc.heuristics.families import BothModulo, BothRange, Heuristic, Identical, Modulo, Range, single_value
from arithcirc.heuristics.matching import Scores, members_of, score
from arithcirc.heuristics.nulls import (
    Levels,
    corrected,
    hit_table,
    pair_draws,
    pair_maxima,
    permutations,
    shifts,
    value_maxima,
)
from arithcirc.heuristics.ranks import rank_maps

PROMPTS = fitting_prompts(ADD, OperandRange(0, 39), 60)
RAGGED = fitting_prompts(SUB, OperandRange(0, 39), 60)
HEURISTICS: list[Heuristic] = [
    *(Modulo(v, r, n) for v in ("op1", "op2", "result") for n in (2, 5, 7) for r in range(n)),
    *(Range(v, a, a + n) for v in ("op1", "result") for n in (5, 10) for a in range(0, 40, n)),
    *(BothModulo(r, 4) for r in range(4)),
    *(BothRange(a, a + 10) for a in range(0, 30, 10)),
    Identical(),
]


def noise(n: int, prompts: Prompts, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, len(prompts))).astype(np.float32)


def calibrated(maps: np.ndarray, prompts: Prompts, heuristics: list[Heuristic], *, threshold: float, draws: int = 200):
    ranks = rank_maps(maps)
    scores = score(ranks, members_of(heuristics, prompts))
    found = calibrate(
        ranks, scores, heuristics, prompts, threshold=threshold, draws=draws, rng=np.random.default_rng(5)
    )
    return scores, found


def groups(heuristics: list[Heuristic]) -> list[str]:
    return list(dict.fromkeys(h.group for h in heuristics))


@pytest.mark.parametrize("prompts", [PROMPTS, RAGGED], ids=["square", "triangle"])
def test_p_values_of_noise_are_uniform_or_conservative(prompts):
    _, found = calibrated(noise(250, prompts), prompts, HEURISTICS, threshold=0.0)
    for end, tests in found.tests.items():
        for g, name in enumerate(groups(HEURISTICS)):
            p = tests[:, g]
            assert stats.binomtest(int((p <= 0.1).sum()), len(p), 0.1, alternative="greater").pvalue > 1e-3, (end, name)
            if not name.startswith(("both", "identical", "range")):  # large groups of one-variable sets: not discrete
                assert stats.kstest(p, "uniform").pvalue > 1e-4, (end, name)


def test_the_tail_beyond_the_draws_is_conservative():
    """Best of 20 normal scores: the continued p is compared with the true one, far out."""
    rng = np.random.default_rng(3)
    maxima = rng.standard_normal((400, 300, 20)).max(-1)
    observed = np.full((300, 1), 4.5)
    true = 1 - stats.norm.cdf(4.5) ** 20
    p = p_values(observed, maxima)[:, 0]
    assert true < np.median(p) < 30 * true
    assert (p < true).mean() < 0.2
    assert (p_values(observed, maxima, tail=False) >= 1 / 401).all()


def test_planted_residues_and_ranges_are_found_where_they_are():
    rules = [Modulo("op2", 3, 7), Range("op1", 10, 20), BothModulo(1, 4), BothRange(10, 20), Identical()]
    maps = np.stack([2.0 * r.mask(PROMPTS) for r in rules]).astype(np.float32) + noise(5, PROMPTS) * 0.4
    scores, found = calibrated(maps, PROMPTS, HEURISTICS, threshold=0.6)
    for i, rule in enumerate(rules):
        column = HEURISTICS.index(rule)
        assert scores.ends["top"][i, column] > 0.95
        assert found.p["top"][i, column] < 1e-4
    assert np.isnan(found.p["top"][scores.ends["top"] < 0.6]).all()


def test_residues_are_closed_under_shifts_and_single_values_under_every_renaming():
    """Why shifts cannot carry q: a perfect residue has p_shift = 1, although a permutation shows it at once."""
    op1 = Modulo("op1", 2, 5)
    values = [single_value("op1", n) for n in range(40)]
    maps = (op1.mask(PROMPTS) + 0.0)[None].astype(np.float32) + noise(1, PROMPTS) * 0.2
    square = PROMPTS[PROMPTS.op1 + PROMPTS.op2 <= 60]
    _, found = calibrated(maps, square, [Modulo("op1", r, 5) for r in range(5)], threshold=0.0)
    assert found.p["top"][0, 2] < 1e-3
    assert found.p_shift["top"][0, 2] > 0.5
    _, found = calibrated(maps, PROMPTS, list(values), threshold=0.0)
    assert np.isnan(found.p_shift["top"]).all()


def test_smooth_maps_do_not_fake_residues_although_noise_cannot_explain_them():
    smooth = np.cos((PROMPTS.op1 - 17) / 9)[None].astype(np.float32)
    residues = [Modulo("op1", r, 5) for r in range(5)]
    scores, found = calibrated(smooth, PROMPTS, residues, threshold=0.0)
    best = int(scores.ends["top"][0].argmax())
    shuffled = hypergeometric(scores.ends["top"][0, [best]], scores.size[[best]], len(PROMPTS))[0]
    assert found.tests["top"][0, 0] > 0.05
    assert shuffled < 0.05


def test_a_neuron_does_not_depend_on_its_neighbours():
    maps = noise(70, PROMPTS) + (Range("op1", 10, 20).mask(PROMPTS) * 3.0).astype(np.float32)
    _, whole = calibrated(maps, PROMPTS, HEURISTICS, threshold=0.5, draws=50)
    _, alone = calibrated(maps[66:], PROMPTS, HEURISTICS, threshold=0.5, draws=50)
    np.testing.assert_array_equal(whole.p["top"][66:], alone.p["top"])
    np.testing.assert_array_equal(whole.p_shift["bottom"][66:], alone.p_shift["bottom"])


def test_single_values_are_bounded_by_their_number():
    values: list[Heuristic] = [single_value("op2", n) for n in range(40)]
    maps = (values[7].mask(PROMPTS) * 5.0)[None].astype(np.float32) + noise(1, PROMPTS)
    scores, found = calibrated(maps, PROMPTS, values, threshold=0.6)
    tail = hypergeometric(scores.ends["top"][0, [7]], scores.size[[7]], len(PROMPTS))[0]
    assert found.p["top"][0, 7] == min(1, 40 * tail)


# -- the parts ----------------------------------------------------------------------------------------------------


def test_the_hit_table_counts_prompts_of_each_value_in_the_top_k():
    maps = noise(3, RAGGED)
    levels = Levels.make(RAGGED.answer)
    block = rank_maps(maps).blocks[0]
    for end, sign in (("top", -1), ("bottom", 1)):
        table, grid = hit_table(block.T, levels, end)
        for neuron in range(3):
            order = np.argsort(sign * maps[neuron])
            for level in (0, len(grid) // 2, len(grid) - 1):
                inside = np.bincount(levels.of[order[: grid[level]]], minlength=len(levels.values))
                assert table[:, level, neuron].tolist() == inside.tolist()
    assert (table[:, -1, 0] == levels.size).all()


def test_value_maxima_are_the_best_scores_of_renamed_sets():
    """Every draw done literally: rename the values, build H', score it with the nearest k of the table's grid."""
    maps, levels = noise(2, RAGGED), Levels.make(RAGGED.op1)
    block = rank_maps(maps).blocks[0]
    table, grid = hit_table(block.T, levels, "top")
    sets = [Range("op1", a, a + 10) for a in range(0, 40, 10)]
    held = np.stack([s.holds(levels.values) for s in sets])
    names = permutations(len(levels.values), 5, np.random.default_rng(0))
    fast = value_maxima(table, grid, levels.size, held, names)
    for draw, name in enumerate(names):
        renamed = levels.values[name][levels.of]
        literal = []
        for s in sets:
            mask = s.holds(renamed)
            k = int(grid[np.abs(np.log(grid / mask.sum())).argmin()])
            share = (mask[:, None] & (block < k)).sum(0) / k
            literal.append(corrected(share, mask.mean()))
        np.testing.assert_allclose(fast[draw], np.max(literal, axis=0), atol=0.02)


def test_pair_maxima_without_renaming_are_the_scores():
    maps = noise(4, PROMPTS)
    ranks = rank_maps(maps)
    sets = [BothModulo(r, 4) for r in range(4)]
    scores = score(ranks, members_of(sets, PROMPTS), ends=("top",))
    one, two = Levels.make(PROMPTS.op1), Levels.make(PROMPTS.op2)
    at = np.full((40, 40), -1)
    at[one.of, two.of] = np.arange(len(PROMPTS))
    held = [(np.arange(r, 40, 4), np.arange(r, 40, 4), False) for r in range(4)]
    same = np.arange(40)[None]
    draws = pair_draws(at, held, same, same, np.random.default_rng(0))
    found = pair_maxima(ranks.blocks[0], draws, "top")
    np.testing.assert_allclose(found[0], corrected(scores.ends["top"], scores.size / len(PROMPTS)).max(1), atol=1e-12)


def test_corrected_scores_are_equally_spread_for_every_size():
    maps, n = noise(400, PROMPTS), len(PROMPTS)
    rng = np.random.default_rng(0)
    sets = [np.sort(rng.permutation(n)[:k]) for k in (n // 20, n // 3, 3 * n // 4)]
    scores: Scores = score(rank_maps(maps), sets, ends=("top",))
    spread = corrected(scores.ends["top"], scores.size / n).std(0) * np.sqrt(n - 1)
    np.testing.assert_allclose(spread, 1, atol=0.15)


def test_shifts_are_cyclic_distinct_and_not_the_identity():
    found = shifts(7, 100, np.random.default_rng(0))
    assert len(found) == 6
    assert sorted(row[0] for row in found) == [1, 2, 3, 4, 5, 6]
    assert all((np.diff(row) % 7 == 1).all() for row in found)


def test_the_hypergeometric_tail_counts_draws():
    tail = hypergeometric(np.array([0.5]), np.array([4]), 10)[0]
    assert tail == pytest.approx((6 * 15 + 4 * 6 + 1) / 210)


def test_q_values_are_benjamini_hochberg_and_never_below_p():
    tests = np.random.default_rng(0).random(50) ** 3
    q = q_values(tests, tests)
    np.testing.assert_allclose(q, stats.false_discovery_control(tests))
    between = q_values(np.array([0.0, 1.0, float(np.sort(tests)[3]) + 1e-12]), tests)
    assert between[0] == q.min()
    assert (q >= tests).all()
    assert between[2] >= np.sort(q)[3]
