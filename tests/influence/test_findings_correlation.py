"""Correlations of influence vectors: against numpy, against real permutations, and what scaling must not change."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from arithcirc.influence.findings import correlation
from arithcirc.influence.findings.correlation import (
    group_rows,
    moments,
    pair_rows,
    permuted_means,
    relation,
    relations,
    strata,
)
from arithcirc.influence_scores import ScoreStore, write_part

GROUPS = [("reasoning", "slope")] * 4 + [("reasoning", "linear")] * 3 + [("factual", "capital")] * 5
QUERIES = pd.DataFrame(GROUPS, columns=["group", "task"]).assign(
    query=[f"q{i}" for i in range(len(GROUPS))], correct=[i % 2 == 0 for i in range(len(GROUPS))]
)


def store(folder, scores, cuts=(0, 40, 41)):
    bounds = [*cuts, scores.shape[1]]
    for i, (start, end) in enumerate(pairwise(bounds)):
        write_part(folder / "scores", i, start, {"ekfac": scores[:, start:end]}, {})
    return ScoreStore.open(folder / "scores")


def scores(seed, kind, *, by_kind=0.0, shared=0.0, heavy=False):
    rng = np.random.default_rng(seed)
    shape = (len(QUERIES), len(kind))
    noise = rng.standard_t(2, shape) if heavy else rng.normal(size=shape)
    taught = (kind == 1) * by_kind + rng.normal(size=len(kind)) * shared
    return (noise + taught * (QUERIES["task"] == "slope").to_numpy()[:, None]).astype(np.float32)


@pytest.fixture
def kind():
    return np.random.default_rng(9).integers(0, 3, 200)


def test_r_is_pearsons_and_parts_do_not_matter(tmp_path, kind):
    made = scores(0, kind, by_kind=1.0) + 100.0
    found = moments(store(tmp_path, made), "ekfac", kind)
    assert found.r == pytest.approx(np.corrcoef(made.astype(float)), abs=1e-6)
    whole = moments(store(tmp_path / "whole", made, cuts=(0,)), "ekfac", kind)
    assert whole.r == pytest.approx(found.r, abs=1e-12)
    pairs = pair_rows(found.r, QUERIES, "ekfac")
    assert len(pairs) == len(QUERIES) * (len(QUERIES) - 1) // 2
    assert pairs.set_index(["query_a", "query_b"])["r"]["q1", "q5"] == pytest.approx(
        np.corrcoef(made[[1, 5]])[0, 1], abs=1e-6
    )


def test_scaling_queries_and_units_changes_no_table(tmp_path, kind):
    made = scores(1, kind, shared=0.5)
    scale = np.exp(np.random.default_rng(2).normal(size=(len(QUERIES), 1))).astype(np.float32)
    tables = []
    for name, values in (("a", made), ("b", made * scale)):
        kept = store(tmp_path / name, values)
        found = moments(kept, "ekfac", kind * 0)
        tables.append(group_rows(kept, found, relations(QUERIES), kind, "ekfac", seed=0))
    pd.testing.assert_frame_equal(*tables, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("by_kind", [False, True])
def test_moments_equal_real_permutations(tmp_path, kind, heavy, by_kind):
    made = scores(3, kind, by_kind=2.0, heavy=heavy)
    kept, masks = store(tmp_path, made), np.stack(list(relations(QUERIES).values()))
    orders = permuted_means(made, masks, kind if by_kind else kind * 0, seed=0, permutations=600)
    cell = kind if by_kind else kind * 0
    centre, variance = moments(kept, "ekfac", cell).null
    n = masks.sum((1, 2))
    assert orders.mean(0) == pytest.approx((masks * centre).sum((1, 2)) / n, abs=0.008)
    assert orders.std(0) == pytest.approx(np.sqrt((masks * variance).sum((1, 2))) / n, rel=0.12)


def test_permutations_and_moments_give_the_same_base_rates(tmp_path, kind):
    kept = store(tmp_path, scores(3, kind, by_kind=1.0))
    found, masks = moments(kept, "ekfac", kind * 0), relations(QUERIES)
    a, b = (group_rows(kept, found, masks, kind, "ekfac", seed=0, exact=exact) for exact in (10_000, 1))
    assert (set(a["null"]), set(b["null"])) == ({"permutations"}, {"moments"})
    for name in ("null_mean", "null_low", "null_high", "kind_null_mean", "kind_null_low", "kind_null_high"):
        assert a[name].to_numpy() == pytest.approx(b[name].to_numpy(), abs=0.05)
    assert a["mean"].tolist() == b["mean"].tolist()


def _row(table, name):
    return table.set_index("relation").loc[name]


def test_correlation_by_kind_alone_is_told_from_correlation_by_document(tmp_path, kind):
    masks = relations(QUERIES)
    rows = {}
    for name, made in (("kind", scores(5, kind, by_kind=2.0)), ("document", scores(5, kind, shared=1.0))):
        kept = store(tmp_path / name, made)
        rows[name] = group_rows(kept, moments(kept, "ekfac", kind * 0), masks, kind, "ekfac", seed=0)
    by_kind, by_document = (_row(rows[name], "same task") for name in ("kind", "document"))
    assert by_kind["mean"] > by_kind["null_high"]
    assert by_kind["p"] < 0.01
    assert by_kind["kind_null_low"] < by_kind["mean"] < by_kind["kind_null_high"]
    assert by_document["mean"] > by_document["kind_null_high"]
    assert by_document["kind_p"] < 0.01
    for name in ("factual", "reasoning-factual"):
        assert abs(_row(rows["document"], name)["mean"]) < 0.05


def test_p_is_uniform_where_nothing_is_shared(tmp_path, kind):
    masks = relations(QUERIES)
    found = []
    for seed in range(60):
        made = scores(100 + seed, kind)
        means = (np.stack(list(masks.values())) * np.corrcoef(made)).sum((1, 2)) / np.stack(list(masks.values())).sum(
            (1, 2)
        )
        orders = permuted_means(made, np.stack(list(masks.values())), kind * 0, seed=seed, permutations=60)
        found.append(correlation._by_permutations(means, orders)["p"])
    p = np.concatenate(found)
    assert np.mean(p < 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("exact", [10_000, 1])
def test_large_gradients_that_all_queries_share_make_no_small_p(tmp_path, kind, exact):
    rng, found = np.random.default_rng(7), []
    norms = np.exp(0.7 * rng.normal(size=len(kind))).astype(np.float32)
    masks = relations(QUERIES)
    for seed in range(10 if exact > 1 else 40):
        folder = tmp_path / str(seed) / "scores"
        write_part(folder, 0, 0, {"ekfac": scores(200 + seed, kind) * norms, "norm": norms}, {})
        kept = ScoreStore.open(folder)
        within = moments(kept, "ekfac", strata(kept, "ekfac"))
        found += [
            (name, group_rows(kept, within, masks, kind, "ekfac", seed=seed, exact=exact)[name])
            for name in ("p", "kind_p")
        ]
    for which in ("p", "kind_p"):
        p = np.concatenate([values for name, values in found if name == which])
        assert np.mean(p < 0.1) < 0.2
    free = permuted_means(scores(200, kind) * norms, np.stack(list(masks.values())), kind * 0, seed=0)
    like = permuted_means(scores(200, kind) * norms, np.stack(list(masks.values())), strata(kept, "ekfac"), seed=0)
    assert (like.std(0) > 1.1 * free.std(0)).all()
    assert set(strata(kept, "ekfac_normed")) == {0}


def test_a_query_without_any_score_has_no_r_and_spoils_no_mean(tmp_path, kind):
    made = scores(6, kind, shared=1.0)
    made[0] = 0.0
    kept = store(tmp_path, made)
    found = moments(kept, "ekfac", kind * 0)
    assert np.isnan(found.r[0]).all()
    row = _row(group_rows(kept, found, relations(QUERIES), kind, "ekfac", seed=0), "same task")
    assert row["n"] == 3 + 3
    assert np.isfinite(row["mean"])


@pytest.mark.parametrize(
    ("a", "b", "name"),
    [
        (("reasoning", "slope"), ("reasoning", "slope"), "same task"),
        (("reasoning", "slope"), ("reasoning", "linear"), "across reasoning"),
        (("factual", "capital"), ("reasoning", "slope"), "reasoning-factual"),
        (("factual", "capital"), ("factual", "river"), "factual"),
        (("control_factual", "capital"), ("factual", "river"), "task-control"),
        (("reasoning", "slope"), ("control_reasoning", "slope"), "task-control"),
        (("reasoning", "slope"), ("control_reasoning", "linear"), "unrelated control"),
        (("control_factual", "capital"), ("reasoning", "slope"), "unrelated control"),
        (("control_factual", "a"), ("control_reasoning", "b"), "control"),
        (("ungrouped", ""), ("reasoning", "slope"), "ungrouped"),
    ],
)
def test_relations_of_pairs(a, b, name):
    assert relation(a, b) == relation(b, a) == name


def test_pairs_answered_alike_are_counted_apart():
    masks = relations(QUERIES)
    assert masks["factual"].sum() == 10
    assert masks["factual, right"].sum() + masks["factual, wrong"].sum() == 1 + 3
