"""Trying influences by training again: planted truths, slow loops, what is kept on disk, and bad requests."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from training.tiny import TINY_TEXT, tiny_texts

from arithcirc.errors import RequestError, RunConflictError
from arithcirc.influence.rows import Row, Rows
from arithcirc.influence.train_exam import read
from arithcirc.influence.truth import (
    Left,
    Retraining,
    datamodel_groups,
    datamodel_scores,
    datamodel_table,
    half_subsets,
    plan_removals,
    removal_groups,
    removal_table,
)
from arithcirc.training.retrain import retrain

QUERIES = pd.DataFrame(
    {"query": [f"q{i}" for i in range(6)], "group": ["factual"] * 4 + ["reasoning"] * 2, "correct": [True, False] * 3}
)


@pytest.fixture(scope="module")
def texts():
    return tiny_texts()


@pytest.fixture
def trainings(texts, tmp_path):
    rows = Rows([Row(tuple(texts.document(i).tolist()), start=3) for i in (0, 5, 9)])
    return Retraining(texts, TINY_TEXT, rows, tmp_path)


def linear(seed: int = 0, *, noise: float = 0.0):
    """Queries whose NLL is minus the sum of true influences of the documents kept, with noise."""
    draw = np.random.default_rng(seed)
    true = draw.normal(size=(6, 50))
    kept = half_subsets(50, 40, seed=seed)
    return true, kept, 3.0 - kept @ true.T + noise * draw.normal(size=(40, 6))


def test_subsets_are_halves_drawn_without_replacement_and_balanced():
    kept = half_subsets(101, 200, seed=3)
    assert (kept.sum(1) == 50).all()
    assert abs(kept.mean(0) - 0.5).max() < 0.15
    assert np.array_equal(kept, half_subsets(101, 200, seed=3))
    assert len(np.unique(kept, axis=0)) == 200
    assert (half_subsets(100, 5, seed=0, share=0.9).sum(1) == 90).all()


def test_true_influences_foretell_perfectly_and_their_negatives_the_opposite():
    true, kept, nll = linear()
    assert datamodel_scores(true, kept, nll) == pytest.approx(1)
    assert datamodel_scores(-true, kept, nll) == pytest.approx(-1)
    assert np.isnan(datamodel_scores(np.ones_like(true), kept, nll)).all()


def test_scores_equal_scipys_in_a_slow_loop():
    true, kept, nll = linear(1, noise=4)
    scores = np.round(true)  # with ties
    for query, found in enumerate(datamodel_scores(scores, kept, nll)):
        sums = [sum(scores[query, d] for d in range(50) if subset[d]) for subset in kept]
        assert found == pytest.approx(spearmanr(sums, -nll[:, query]).statistic)


def test_groups_give_means_gains_and_intervals():
    true, kept, nll = linear(2, noise=3)
    scores = {"ekfac": true, "dot": true + 2 * np.random.default_rng(5).normal(size=true.shape), "random": true[::-1]}
    table = datamodel_table(scores, kept, nll, QUERIES)
    groups = datamodel_groups(scores, kept, nll, QUERIES).set_index(["group", "method"])
    mine = table.query("group == 'factual' and method == 'ekfac'")["lds"]
    assert groups.loc[("factual", "ekfac"), "lds"] == pytest.approx(mine.mean())
    every = groups.loc[("all", "ekfac")]
    gaps = [table.query("method == @m")["lds"].mean() for m in ("ekfac", "dot")]
    assert every["gain"] == pytest.approx(gaps[0] - gaps[1])
    assert 0 < every["gain_low"] < every["gain"] < every["gain_high"]
    assert every["both_low"] < every["gain_low"]
    assert groups.loc[("all", "dot"), ["gain", "gain_low", "both_high"]].tolist() == [0, 0, 0]
    assert groups.loc[("reasoning", "random"), "n"] == 2


def test_queries_without_a_score_are_left_out_and_make_no_noise():
    true, kept, nll = linear(3, noise=2)
    scores = {"dot": true, "bm25": np.where(np.arange(6)[:, None] == 1, 0.0, true)}
    groups = datamodel_groups(scores, kept, nll, QUERIES).set_index(["group", "method"])
    assert groups.loc[("all", "bm25"), "n"] == 5
    assert groups.loc[("all", "bm25"), "gain"] == 0
    none = datamodel_groups({"dot": true, "bm25": 0 * true}, kept, nll, QUERIES).set_index(["group", "method"])
    assert none.loc[("all", "bm25"), "n"] == 0
    assert none.loc[("all", "bm25"), ["lds", "gain", "both_low"]].isna().all()


def test_a_training_equals_retraining_and_is_read_again(trainings, texts):
    kept = np.arange(40) % 3 > 0
    model = retrain(texts, TINY_TEXT, weights=kept, seed=4)
    expected, _ = read(model, trainings.rows.rows)
    left = Left(kept, 4)
    assert trainings.held(left) is None
    assert trainings.nll(left) == pytest.approx(expected)
    (file,) = trainings.folder.iterdir()
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"nll": [1.0, 2.0, 3.0]}))
    assert trainings.nll(left).tolist() == [1, 2, 3]
    assert trainings.held(Left(kept, 5)) is None
    assert trainings.held(Left(~kept, 4)) is None


def test_results_belong_to_texts_recipe_and_queries(trainings, texts, tmp_path):
    kept = np.ones(40, dtype=bool)
    trainings.nll(Left(kept))
    assert trainings.held(Left(kept, TINY_TEXT.seed)) is not None
    fewer = Retraining(texts, TINY_TEXT, Rows(trainings.rows.rows[:2]), tmp_path)
    shorter = Retraining(texts, TINY_TEXT.shortened(10), trainings.rows, tmp_path)
    assert fewer.held(Left(kept)) is None
    assert shorter.held(Left(kept)) is None


def test_many_trainings_keep_their_order_and_equal_ones_are_done_once(trainings):
    halves = half_subsets(40, 3, seed=0)
    lefts = [Left(halves[i]) for i in (0, 1, 0, 2)]
    first = trainings.nll(lefts[1])
    seen = []
    found = trainings.all(lefts, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]
    assert np.array_equal(found[1], first)
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[3])


@pytest.mark.slow
def test_processes_find_what_one_finds(trainings, texts, tmp_path):
    lefts = [Left(half) for half in half_subsets(40, 3, seed=1)]
    other = Retraining(texts, TINY_TEXT, trainings.rows, tmp_path / "other")
    assert np.array_equal(trainings.all(lefts), other.all(lefts, workers=2))


def test_a_damaged_result_is_refused(trainings):
    left = Left(np.ones(40, dtype=bool))
    trainings.nll(left)
    (file,) = trainings.folder.iterdir()
    file.write_text("{")
    with pytest.raises(RunConflictError, match="damaged"):
        trainings.held(left)


def test_bad_requests(trainings, texts, tmp_path):
    with pytest.raises(RequestError, match="each of 40 documents"):
        trainings.nll(Left(np.ones(3, dtype=bool)))
    with pytest.raises(RequestError, match="keep one"):
        trainings.nll(Left(np.zeros(40, dtype=bool)))
    with pytest.raises(RequestError, match="no completion"):
        Retraining(texts, TINY_TEXT, Rows([Row((0, 1, 2), start=3)]), tmp_path)
    with pytest.raises(RequestError, match="workers is 0"):
        trainings.all([], workers=0)
    with pytest.raises(RequestError, match="subsets"):
        half_subsets(10, 2, seed=0)
    with pytest.raises(RequestError, match="share"):
        half_subsets(10, 5, seed=0, share=1.0)
    with pytest.raises(RequestError, match="'dot'"):
        datamodel_groups({"ekfac": np.ones((6, 50))}, *linear()[1:], QUERIES)
    with pytest.raises(RequestError, match="give k from 1 to 3"):
        plan_removals({"ekfac": np.ones((6, 50))}, {0: [1]}, np.arange(3), k=4)


def planted_removals():
    """Removing what `ekfac` names costs 5 nats plus the seed, `dot` 1, at random half, in 3 seeds of 2 targets."""
    scores = {"ekfac": np.tile(np.arange(50.0), (6, 1)), "dot": -np.tile(np.arange(50.0), (6, 1))}
    targets = {0: [1, 2, 3], 3: [2]}
    plan = plan_removals(scores, targets, np.arange(20, 40), k=5, name="facts")
    cost = {"nothing": 0.0, "random": 0.5, "ekfac": 5.0, "dot": 1.0}
    nll = np.array([[2 + r.seed + cost[r.arm] * (r.query in (None, q)) for q in range(6)] for r in plan])
    return plan, nll, targets


def test_plans_hold_each_arm_once_per_seed_and_target():
    plan, _, _ = planted_removals()
    assert len(plan) == 3 * 2 + 2 * 3 + 2 * 1
    assert {tuple(r.documents) for r in plan if r.arm == "ekfac"} == {(45, 46, 47, 48, 49)}
    assert {tuple(r.documents) for r in plan if r.arm == "dot"} == {(0, 1, 2, 3, 4)}
    chance = [r.documents for r in plan if r.arm == "random"]
    assert all(len(set(c)) == 5 and set(c) <= set(range(20, 40)) for c in chance)
    assert len({tuple(c) for c in chance}) == 3
    left = plan[-1].left(50)
    assert (np.flatnonzero(~left.kept) == plan[-1].documents).all()
    assert [r.left(50).kept.all() for r in plan] == [r.arm == "nothing" for r in plan]


def test_falls_and_seeds_below_random_are_those_planted():
    plan, nll, targets = planted_removals()
    table = removal_table(plan, nll, targets, QUERIES)
    assert len(table) == 4 * 4
    assert table.query("arm == 'ekfac'")["fall"].to_numpy() == pytest.approx(5)
    assert table.query("arm == 'nothing'")["fall"].to_numpy() == pytest.approx(0)
    assert table.query("query == 'q3'")["seed"].tolist() == [2] * 4
    groups = removal_groups(table).set_index("arm")
    assert groups.loc["ekfac", ["trainings", "seeds", "below", "p"]].tolist() == [4, 3, 3, 0.125]
    assert groups.loc["nothing", ["below", "p"]].tolist() == [0, 1.0]
    assert groups.loc["dot", "more_than_random"] == pytest.approx(0.5)
