"""Ranks, base rates and intervals against enumeration, slow loops and random orders."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import hypergeom

from arithcirc.influence.findings.chance import (
    all_in_top,
    at_least,
    in_top,
    mean_interval,
    overlapping,
    resamples,
    share_interval,
)
from arithcirc.influence.findings.ranking import auc, depths, main_depth, ranks_of, search_depth, tie_order, top
from arithcirc.measure.intervals import wilson


@pytest.mark.parametrize(
    ("n", "holders", "k"), [(50, 3, 7), (50, 7, 3), (1000, 1, 1), (20, 15, 6), (20, 0, 5), (9, 2, 9)]
)
def test_a_holder_in_the_top_is_hypergeometric(n, holders, k):
    assert in_top(n, holders, k) == pytest.approx(hypergeom.sf(0, n, holders, k), rel=1e-12)


def test_small_chances_of_large_corpora_keep_their_digits():
    assert in_top(5_000_000, 2, 1) == pytest.approx(2 / 5_000_000, rel=1e-9)


@pytest.mark.parametrize("needs", [[[0], [1]], [[0, 1], [1, 2], [5]], [[0, 1, 2], [0, 1, 2]], [[3], []]])
def test_all_needs_in_the_top_equals_counting_all_draws(needs):
    n, k = 8, 3
    draws = [set(d) for d in combinations(range(n), k)]
    counted = np.mean([all(d & set(need) for need in needs) for d in draws])
    assert all_in_top(n, [np.array(need, dtype=int) for need in needs], k) == pytest.approx(counted, abs=1e-12)


def test_unequal_trials_equal_counting_all_outcomes():
    chances = [0.1, 0.5, 0.7]
    outcomes = list(product([0, 1], repeat=3))
    weight = [np.prod([p if o else 1 - p for o, p in zip(outcome, chances, strict=True)]) for outcome in outcomes]
    for found in range(4):
        counted = sum(w for w, outcome in zip(weight, outcomes, strict=True) if sum(outcome) >= found)
        assert at_least(found, chances) == pytest.approx(counted)


def test_the_interval_of_a_share_is_wilsons():
    low, high = share_interval(np.array([0, 3, 10]), 10)
    for i, count in enumerate((0, 3, 10)):
        assert (low[i], high[i]) == pytest.approx(wilson(count, 10), abs=1e-6)


def test_the_bootstrap_of_a_mean_covers_it_and_needs_two_values():
    rng = np.random.default_rng(0)
    covered = [low < 0 < high for _, low, high in (mean_interval(rng.normal(size=40)) for _ in range(200))]
    assert 0.9 <= np.mean(covered) <= 0.98
    assert np.isnan(mean_interval([1.0])[1:]).all()
    assert mean_interval([1.0, np.nan])[0] == 1.0
    assert (resamples(7, 0).sum(1) == 7).all()


def _lists(rng, n, k, queries, shared):
    """Top lists of which the first `shared` places are the same documents."""
    common = rng.permutation(n)
    own = [
        np.concatenate([common[:shared], rng.choice(common[shared:], k - shared, replace=False)])
        for _ in range(queries)
    ]
    return np.stack(own)


def _overlapping(tops, codes, label):
    times = np.unique(tops, return_counts=True)[1].astype(float)
    count = np.array([(codes[tops] == label).sum()], dtype=float)
    total = np.array([(codes == label).sum()], dtype=float)
    return overlapping(count, total, len(codes), np.array([times.sum()]), np.array([(times**2).sum()]))


@pytest.mark.parametrize("shared", [0, 6, 12])
def test_lists_that_share_documents_have_the_p_of_exchanged_labels(shared):
    rng = np.random.default_rng(shared)
    codes = np.repeat([0, 1], [150, 50])
    tops = _lists(rng, 200, 12, 8, shared)
    exchanged = np.array([(rng.permutation(codes)[tops] == 1).sum() for _ in range(4000)])
    p, low, high = _overlapping(tops, codes, 1)
    assert np.mean((exchanged > low[0]) & (exchanged < high[0])) == pytest.approx(0.95, abs=0.03)
    upper, lower = np.mean(exchanged >= (codes[tops] == 1).sum()), np.mean(exchanged <= (codes[tops] == 1).sum())
    assert p[0] == pytest.approx(min(1, 2 * min(upper, lower)), abs=0.12)


def test_lists_that_share_everything_or_nothing_have_the_exact_p():
    codes = np.repeat([0, 1], [15, 5])
    same = np.tile(np.array([0, 16, 17, 18]), (5, 1))
    expected = min(1, 2 * hypergeom.sf(2, 20, 5, 4))
    assert _overlapping(same, codes, 1)[0][0] == pytest.approx(expected)
    assert _overlapping(same[:1], codes, 1)[0][0] == pytest.approx(expected)


def test_under_exchanged_labels_a_small_p_is_as_rare_as_it_says():
    rng = np.random.default_rng(4)
    codes = np.repeat([0, 1], [700, 300])
    tops = _lists(rng, 1000, 30, 10, 8)
    found = np.array([_overlapping(tops, rng.permutation(codes), 1)[0][0] for _ in range(600)])
    assert np.mean(found < 0.05) <= 0.075
    assert np.mean(found < 0.5) == pytest.approx(0.5, abs=0.08)


def test_the_top_equals_sorting_and_ties_follow_one_random_order():
    rng = np.random.default_rng(0)
    ties = tie_order(200)
    for scores in (rng.normal(size=200), rng.integers(0, 3, 200)):
        scores = scores.astype(np.float32)
        for k in (1, 10, 100, 200):
            assert (top(scores, k, ties) == np.lexsort((ties, -scores))[:k]).all()
            assert (top(scores, k, ties, bottom=True) == np.lexsort((ties, scores))[:k]).all()


def test_ties_favour_no_place_in_the_corpus():
    scores = np.zeros(2000, dtype=np.float32)
    assert abs(top(scores, 500, tie_order(2000)).mean() - 1000) < 80


def test_ranks_and_areas_equal_slow_loops_with_ties():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 6, 40).astype(np.float32)
    ordered, positives = np.sort(scores), rng.choice(40, 7, replace=False)
    rest = np.setdiff1d(np.arange(40), positives)
    slow = [np.mean([s > scores[r] or 0.5 * (s == scores[r]) for r in rest]) for s in scores[positives]]
    assert auc(ordered, scores[positives]) == pytest.approx(np.mean(slow))
    ranks = [sum(scores > s) + (sum(scores == s) - 1) / 2 for s in scores[positives]]
    assert ranks_of(ordered, scores[positives]).tolist() == ranks
    assert np.isnan(auc(ordered, scores[:0]))


def test_depths_grow_with_the_corpus_and_stay_within_it():
    assert depths(1000) == (10, 30, 100)
    assert depths(5_000_000) == (500, 5000, 50_000, 150_000, 500_000)
    assert depths(1) == (1,)
    for n in (1, 2, 9, 30, 1000, 10**6):
        assert main_depth(n) in depths(n)
        assert 1 <= search_depth(n) <= min(500, n)
