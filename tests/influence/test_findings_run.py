"""The stage on a planted study: what was planted is found, a placebo is near its base rates, bad input is one line."""

import numpy as np
import pandas as pd
import pytest
from influence.planted_scores import FACTS, HOSTILE, PER_TASK, SELDOM, TASKS, planted_study

from arithcirc.errors import NumericsError, RunConflictError
from arithcirc.influence.findings.correlation import BY_TASK, OTHER_OUTPUT
from arithcirc.influence.findings.magnitude import SHARES, cumulative, power_law
from arithcirc.influence.findings.ranking import main_depth, search_depth
from arithcirc.influence.findings.run import TABLES, run
from arithcirc.influence.findings.verdict_kinds import BEYOND
from arithcirc.influence.findings.verdicts import verdicts
from arithcirc.influence_scores import ScoreStore, part_name, write_part
from arithcirc.store import RunFolder

N = 600


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return RunFolder.open(planted_study(tmp_path_factory.mktemp("planted"), documents=N))


@pytest.fixture(scope="module")
def placebo(tmp_path_factory):
    return RunFolder.open(planted_study(tmp_path_factory.mktemp("placebo"), documents=N, seed=1, placebo=True))


def pick(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return table


def one(table, **where):
    found = pick(table, **where)
    assert len(found) == 1, found
    return found.iloc[0]


def verdict(folder, claim):
    return one(folder.table("findings"), claim=claim)["verdict"]


def test_the_stage_writes_every_table_and_is_reused(planted):
    assert planted.finished("findings")
    assert set(TABLES) | {"mechanism_kinds"} <= set(planted.tables())
    before = (planted.path / "kinds.parquet").stat().st_mtime_ns
    steps = []
    run(planted, progress=lambda *step: steps.append(step))
    assert steps == [("findings", 1, 1)]
    assert (planted.path / "kinds.parquet").stat().st_mtime_ns == before


def test_tables_of_older_rules_are_made_anew_and_the_mean_of_each_task_is_told(tmp_path):
    study = RunFolder.open(planted_study(tmp_path, documents=120))
    study.manifest["stages"]["findings"]["version"] -= 1
    steps = []
    run(study, progress=lambda *step: steps.append(step))
    assert len(steps) > 1
    groups = pick(study.table("correlation_groups"), method="ekfac_normed").set_index("relation")
    tasks = groups[groups.index.str.startswith(BY_TASK)]
    assert set(tasks.index) == {f"{BY_TASK}{task}" for task in TASKS}
    assert tasks["n"].sum() == groups["n"][OTHER_OUTPUT]
    assert np.average(tasks["mean"], weights=tasks["n"]) == pytest.approx(groups["mean"][OTHER_OUTPUT])
    note = study.table("findings")["note"][0]
    assert all(f"{task} {tasks['mean'][BY_TASK + task]:z.3f} [" in note for task in TASKS)


def test_documents_that_state_a_known_fact_are_found_by_the_method_that_ranks_them_first(planted):
    areas = planted.table("retrieval_groups")
    right = one(areas, group="factual", correct="right", method="ekfac_normed")
    assert right["auc"] > 0.99
    assert right["n"] == FACTS // 2
    assert right["p"] < 1e-6
    wrong, noise = (one(areas, group="factual", **w) for w in (
        {"correct": "wrong", "method": "ekfac_normed"}, {"correct": "right", "method": "random"}
    ))  # fmt: skip
    assert abs(wrong["auc"] - 0.5) < 0.15
    assert min(wrong["p"], noise["p"]) > 0.005
    gain = one(planted.table("retrieval_pairs"), group="factual", correct="right", method="ekfac", against="dot")
    assert 0 < gain["low"] < gain["difference"] < gain["high"]


def test_documents_that_state_the_wrong_answer_given_are_found(planted):
    said = pick(planted.table("retrieval_said"), method="ekfac_normed")
    assert len(said) == FACTS // 2
    assert (said["positives"] == SELDOM).all()
    assert said["auc"].mean() > 0.99
    assert abs(pick(planted.table("retrieval_said"), method="random")["auc"].mean() - 0.5) < 0.15
    held = one(planted.table("findings"), claim="Documents that state a fact answered right rank above the others")
    assert held["note"].startswith(f"Documents that state the wrong answer given, of {FACTS // 2} facts: AUC 1.00.")


def test_areas_equal_a_slow_count(planted):
    rows = pick(planted.table("retrieval"), group="factual")
    queries, documents = planted.table("queries"), planted.table("documents")
    scores = ScoreStore.open(planted.path / "scores")
    for row in rows.sample(8, random_state=0).itertuples():
        number = queries.index[queries["query"] == row.query][0]
        need = queries["needs"][number][0]
        holds = documents["holds"].map(lambda held, need=need: need in held).to_numpy()
        found = scores.row(int(number), row.method)
        pairs = np.subtract.outer(found[holds], found[~holds])
        assert row.auc == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
        assert row.positives == holds.sum()


def test_answers_are_found_for_facts_and_by_both_ways_alike(planted):
    groups, answers = planted.table("answer_groups"), planted.table("answers")
    fact = one(groups, group="factual", correct="right", method="ekfac_normed", by="holds")
    assert fact["found_all"] == fact["queries"] == FACTS // 2
    assert fact["k"] == search_depth(N)
    assert fact["base_rate"] < 0.2
    assert fact["p"] < 1e-4
    columns = ["query", "method", "need", "documents", "best_rank", "found", "base_rate", "p"]
    two = [pick(answers, by=by)[columns].reset_index(drop=True) for by in ("holds", "text")]
    pd.testing.assert_frame_equal(*two)
    steps = one(groups, group="reasoning", correct="all", method="random", by="text")
    assert steps["queries"] == steps["possible"] == PER_TASK * len(TASKS)
    assert steps["steps"] == PER_TASK * (2 + 3 + 2)
    assert not len(pick(answers, group="control_reasoning"))


def test_kinds_of_top_documents_equal_a_slow_count(planted):
    kinds, queries, documents = (planted.table(name) for name in ("kinds", "queries", "documents"))
    scores, k = ScoreStore.open(planted.path / "scores"), main_depth(N)
    chosen = queries.index[queries["group"] == "reasoning"]
    tops = [np.argsort(-scores.row(int(q), "ekfac"), kind="stable")[:k] for q in chosen]
    for kind, share in documents["kind"].value_counts(normalize=True).items():
        row = one(kinds, group="reasoning", correct="all", method="ekfac", end="top", k=k, kind=kind)
        count = sum((documents["kind"].to_numpy()[t] == kind).sum() for t in tops)
        assert (row["count"], row["n"]) == (count, len(chosen))
        assert row["lift"] == pytest.approx(count / (k * len(chosen)) / share)
        assert row["low"] <= row["lift"] <= row["high"]
    shares = pick(kinds, group="factual", correct="right", method="bm25", end="bottom", k=k)["share"]
    assert shares.sum() == pytest.approx(1)


def test_planted_kinds_and_sources_stand_out_and_others_do_not(planted):
    k = main_depth(N)
    top = {"correct": "all", "method": "ekfac_normed", "end": "top", "k": k}
    kinds, sources = planted.table("kinds"), planted.table("sources")
    for kind in ("procedure", "code"):
        row = one(kinds, group="reasoning", kind=kind, **top)
        assert row["low"] > 1.4
        assert row["p"] < 1e-4
    assert one(kinds, group="reasoning", kind="fact", **top)["high"] < 1
    assert one(sources, group="reasoning", source="repositories", **top)["low"] > 1
    assert one(sources, group="factual", source="encyclopedia", **top)["low"] > 1


def test_mechanisms_have_kinds_by_the_same_count(planted):
    table = planted.table("mechanism_kinds")
    assert set(table["query"]) == set(planted.table("mechanisms")["query"])
    row = one(table, query="neuron:-:L3N17", method="ekfac_normed", end="top", k=main_depth(N), kind="equation")
    assert row["lift"] > 2
    assert row["p"] < 1e-4
    assert row["null_low"] < 1 < row["null_high"] < row["low"]


def test_magnitudes_are_per_nat_and_do_not_change_with_a_query_s_scale(planted):
    groups = planted.table("magnitude_groups")
    where = {"correct": "all", "method": "ekfac", "end": "positive", "share": 0.01}
    reasoning, factual = (one(groups, group=group, **where) for group in ("reasoning", "factual"))
    assert factual["mean"] > 1.5 * reasoning["mean"]
    scores = np.sort(np.random.default_rng(0).normal(size=300)).astype(np.float32)
    a, b = (pd.DataFrame(cumulative(scores * np.float32(scale), nats)) for scale, nats in ((1, 0.5), (4, 2.0)))
    pd.testing.assert_frame_equal(a, b)
    assert (a["end"].value_counts() == len(SHARES)).all()
    last = pick(a, end="positive").iloc[-1]
    assert last["cumulative"] == pytest.approx(scores[scores > 0].sum() / 0.5, rel=1e-5)
    assert last["part"] == 1.0
    assert pick(a, end="positive").iloc[0]["cumulative"] == pytest.approx(scores[-1] / 0.5, rel=1e-5)
    assert cumulative(scores, 0.0) == []
    assert cumulative(-np.abs(scores), 1.0)[0]["end"] == "negative"


def test_a_power_law_is_found_again_and_too_few_documents_have_none():
    law = (np.arange(1, 200) ** -0.36)[::-1].astype(np.float32)
    assert power_law(law, 100) == {"k": 100, "alpha": pytest.approx(-0.36, abs=1e-4), "r2": pytest.approx(1, abs=1e-6)}
    assert power_law(law * 7, 100)["alpha"] == pytest.approx(-0.36, abs=1e-4)
    assert power_law(-law, 100) is None
    assert power_law(law[:9], 100) is None
    assert power_law(np.ones(20, dtype=np.float32), 15)["alpha"] == 0.0


def test_verdicts_say_what_was_planted(planted):
    held = planted.table("findings")
    assert set(held["finding"]) == {1, 2, 3, 4, 5}
    for claim in (
        "Queries of one reasoning task draw on the same documents",
        "and more than the kinds of documents explain",
        "Reasoning queries rely less on single documents than factual ones",
        "Answers of facts answered right stand in their top documents",
        "The steps of reasoning queries stand there less often than answers of facts, although the corpus holds them",
        "Documents that state a fact answered right rank above the others",
        "Worked procedures are over-represented at the top of reasoning queries",
    ):
        assert verdict(planted, claim) == "holds", claim
    source = one(held, claim=f"Some sources are over-represented at the top of reasoning queries, {BEYOND}")
    assert source["verdict"] == "does not hold"  # planted on kinds alone
    assert source["numbers"].startswith("no more than their kinds explain: repositories lift")
    assert (
        verdict(planted, f"Some sources are over-represented at the bottom of reasoning queries, {BEYOND}")
        == "does not hold"
    )
    assert not held[["claim", "verdict", "numbers"]].eq("").any(axis=None)
    assert not held["numbers"].str.contains("nan").any()


def test_queries_that_correlate_only_here_and_there_do_not_hold(planted):
    tables = {name: planted.table(name) for name in TABLES}
    groups = tables["correlation_groups"]
    same = (groups["relation"] == "same task, other output") & (groups["method"] == "ekfac_normed")
    tables["correlation_groups"] = groups.assign(low=groups["low"].mask(same, -0.02))
    found = verdicts(tables, N).set_index("claim")["verdict"]
    assert found["Queries of one reasoning task draw on the same documents"] == "does not hold"
    assert found["and more than the kinds of documents explain"] == "does not hold"


def test_a_placebo_holds_nothing(placebo):
    found = placebo.table("findings")
    assert set(found["verdict"]) == {"does not hold"}, found[found["verdict"] != "does not hold"]
    p = pd.concat([pick(placebo.table(name), correct="all")["p"] for name in ("kinds", "sources")])
    assert np.mean(p < 0.05) < 0.09
    kinds = pick(placebo.table("kinds"), method="ekfac_normed", correct="all", group="reasoning", k=main_depth(N))
    assert kinds["lift"].between(0.5, 1.6).all()


def _small(folder, change, **options):
    """A small study without findings, its queries or documents changed."""
    made = RunFolder.open(planted_study(folder, documents=320, findings=False, **options))
    for name, edit in change.items():
        made.write_table(name, edit(made.table(name)))
    return made


def test_too_few_queries_and_unknown_kinds_cannot_be_judged(tmp_path):
    keep = ["slope-0", "fact-0", "fact-9"]

    def foreign(documents):
        return documents.assign(kind="", source="", holds=[[]] * len(documents))

    made = _small(tmp_path, {"documents": foreign})
    queries = made.table("queries")
    chosen = queries["query"].isin(keep).to_numpy()
    _rewrite(made, chosen)
    made.write_table("queries", queries[chosen].assign(group="", needs=[[]] * 3, task=""))
    run(made)
    assert set(made.table("findings")["verdict"]) == {"cannot be said"}
    assert set(made.table("answers")["by"]) == {"text"}
    assert made.table("answers")["need"].str.startswith("words:").all()
    assert set(made.table("correlation")["relation"]) == {"ungrouped"}


def test_a_study_with_one_query_has_tables_and_no_pairs(tmp_path):
    made = _small(tmp_path, {})
    queries = made.table("queries")
    chosen = (queries["query"] == "slope-0").to_numpy()
    _rewrite(made, chosen)
    made.write_table("queries", queries[chosen])
    run(made)
    assert list(made.table("correlation").columns) == ["query_a", "query_b", "r", "relation", "method"]
    assert made.table("correlation").empty
    assert made.table("correlation_groups").empty
    assert set(made.table("findings")["verdict"]) == {"cannot be said"}
    row = made.table("kinds").iloc[0]
    assert (row["n"], row["correct"]) == (1, "all")
    assert row["low"] <= row["lift"] <= row["high"]


def _rewrite(made, chosen, change=lambda arrays: arrays):
    scores = ScoreStore.open(made.path / "scores")
    stored = [name for name in scores.methods if name not in ("ekfac_normed", "cosine")]
    arrays = {m: np.concatenate([b for _, _, b in scores.blocks(m)], axis=1)[chosen] for m in stored}
    arrays |= {name: scores.documents(name) for name in ("norm", "self", "nll")}
    for part in scores.parts:
        part.file.unlink()
    write_part(made.path / "scores", 0, 0, change(arrays), {})


def test_scores_that_are_not_finite_or_not_there_are_one_line(tmp_path):
    made = _small(tmp_path, {})
    everything = np.ones(len(made.table("queries")), dtype=bool)

    def spoil(arrays):
        arrays["dot"][3, 5] = np.nan
        return arrays

    _rewrite(made, everything, spoil)
    with pytest.raises(NumericsError, match=r"scores of query 'two_step-3' by dot are not finite"):
        run(made)
    made.write_table("queries", made.table("queries").iloc[:-1])
    with pytest.raises(RunConflictError, match=r"holds 44 queries, the table beside it 43"):
        run(made)
    (made.path / "scores" / part_name(0)).unlink()
    with pytest.raises(RunConflictError, match="holds no scores"):
        run(made)
    assert not made.finished("findings")


def test_a_text_that_is_hostile_is_only_text(planted):
    assert (planted.table("documents")["text"] == HOSTILE).sum() == 1
