"""The figures and words of an influence study: the numbers of its tables, nothing else, and no markup of its texts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from influence.planted_scores import planted_study

from arithcirc.errors import RequestError, RunConflictError
from arithcirc.influence.findings.ranking import main_depth
from arithcirc.influence_scores import ScoreStore
from arithcirc.store import RunFolder
from arithcirc.viz.export import write_figures
from arithcirc.viz.frames import RunData
from arithcirc.viz.influence import mechanism_words, names, words
from arithcirc.viz.influence.answers import answer_ranks, chance_rank
from arithcirc.viz.influence.births import births_figure
from arithcirc.viz.influence.correlation import correlation_figure
from arithcirc.viz.influence.lift import counts, lift_figure, mechanism, mechanism_kinds, wilson
from arithcirc.viz.influence.magnitude import cumulative_curves, rank_influence
from arithcirc.viz.influence.plates import PLATES, claimed_depth, drawn, in_turn, read_study
from arithcirc.viz.influence.ranked import as_table, find, hits_by_method, ranked
from arithcirc.viz.influence.retrieval import retrieval_figure
from arithcirc.viz.influence.study import NoStudy, Study, command_line

HOSTILE = "<script>x</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_study(tmp_path_factory.mktemp("study") / "step1000", documents=200)


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    found = Study.find(folder.parent)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def data(study: Study) -> RunData:
    return read_study(study)


def trace(figure, name):
    return next(t for t in figure.data if t.name is not None and t.name.startswith(name))


# -- figures -----------------------------------------------------------------------------------------------------------


def test_every_figure_is_drawn_and_named_after_its_table(data):
    found = {name: files for name, files, _ in drawn(data)}
    assert {name.removesuffix("_top").removesuffix("_bottom") for name in found} == {plate.key for plate in PLATES}
    assert found["influence_power_law"] == ("power_law.parquet",)
    assert found["influence_kinds_bottom"] == ("kinds.parquet",)


def test_the_matrix_holds_every_r_twice_and_no_diagonal(data):
    tables = data.tables
    figure = correlation_figure(tables["correlation"], tables["correlation_groups"], tables["queries"])
    z = np.asarray(figure.data[0].z, dtype=float)
    assert z.shape == (len(tables["queries"]),) * 2
    np.testing.assert_array_equal(z, z.T)
    assert np.isnan(np.diag(z)).all()
    r = tables["correlation"].query("method == 'ekfac_normed'").set_index(["query_a", "query_b"])["r"]
    place = {str(name).split(" ")[0]: i for i, name in enumerate(figure.data[0].x)}
    for (a, b), value in r.items():
        assert z[place[a], place[b]] == pytest.approx(value, abs=1e-6)
    means = trace(figure, "mean r")
    wanted = tables["correlation_groups"].query("method == 'ekfac_normed'").set_index("relation")["mean"]
    assert dict(zip(means.y, means.x, strict=True)) == pytest.approx(wanted.to_dict())


def test_curves_are_the_means_of_the_groups(data):
    groups = data.tables["magnitude_groups"]
    figure = cumulative_curves(groups, method="ekfac")
    line = trace(figure, "factual, answered right")
    where = "method == 'ekfac' and group == 'factual' and correct == 'right' and end == 'positive'"
    rows = groups.query(where).sort_values("share")
    np.testing.assert_allclose(line.x, rows["share"])
    np.testing.assert_allclose(line.y, rows["mean"])
    assert trace(figure, "factual, answered wrong").line.dash == "dash"


def test_ranks_are_divided_by_the_nats_of_the_query(data, study):
    ranks = data.tables["ranks"].query("method == 'ekfac' and rank == 0").set_index("query")["score"]
    nats = data.tables["queries"].set_index("query")["nats"]
    top = study.rows("top", {"method": "ekfac", "end": "top", "rank": 0}).set_index("query")["score"]
    np.testing.assert_allclose(ranks.sort_index(), (top / nats).sort_index())
    slopes = rank_influence(data.tables["ranks"], data.tables["power_law"], method="ekfac")
    drawn_slopes = np.concatenate([t.x for t in slopes.data if t.text is not None])
    wanted = data.tables["power_law"].query("method == 'ekfac'")["alpha"]
    assert sorted(drawn_slopes) == pytest.approx(sorted(wanted))


def test_the_curve_over_ranks_is_drawn_as_deep_as_slopes_are_fitted(data, folder, tmp_path):
    own = tmp_path / "step1" / "influence"
    shutil.copytree(folder, own)
    pd.read_parquet(own / "power_law.parquet").assign(k=90).to_parquet(own / "power_law.parquet", index=False)
    deep = read_study(Study.find(own.parent)).tables["ranks"].query("method == 'ekfac_normed'")
    store, queries = ScoreStore.open(own / "scores"), data.tables["queries"]
    for row, query in enumerate(queries["query"]):
        wanted = np.sort(store.row(row, "ekfac_normed"))[::-1][:90] / queries["nats"].iloc[row]
        np.testing.assert_allclose(deep[deep["query"] == query].sort_values("rank")["score"], wanted, rtol=1e-6)
    figure = rank_influence(deep, data.tables["power_law"].assign(k=90))
    assert figure.layout.title.text.endswith("the first 90 documents")
    assert max(max(t.x) for t in figure.data if t.mode == "lines") > data.tables["power_law"]["k"].max()
    short = rank_influence(data.tables["ranks"], data.tables["power_law"].assign(k=90))
    assert short.layout.title.text.endswith("the first 90 documents, drawn to 40")
    fitted = rank_influence(deep, data.tables["power_law"].assign(k=30))
    assert max(max(t.x) for t in fitted.data if t.mode == "lines") <= 30


def test_figures_open_at_what_the_claims_are_judged_by(data):
    first = {plate.key: plate.choices(data)[0] for plate in PLATES}
    assert first["influence_power_law"] == ("ekfac_normed",)
    assert first["influence_magnitude"] == ("positive", "ekfac")
    for name in ("kinds", "sources"):
        table = data.tables[name].assign(k=lambda rows: rows["k"].replace({int(rows["k"].max()): 120}))
        more = pd.concat([table.assign(k=k) for k in (10, 40, 120, 400)])
        large = RunData({name: more, "corpus": pd.DataFrame({"documents": [3000, 1000]})}, {}, {})
        plate = next(p for p in PLATES if p.key == f"influence_{name}")
        assert plate.choices(large)[0] == ("top", "120", "ekfac_normed")
        assert {values[1] for values in plate.choices(large)} == {"10", "120", "400"}
    for documents in (1, 5, 19, 20, 333, 4000, 5_000_000):
        assert claimed_depth(documents) == main_depth(documents)


def test_examples_of_mechanisms_are_neurons_and_heuristics_of_several_families():
    rows = [("neuron", f) for f in "aabbc"] + [("heuristic", f) for f in "aaad"]
    table = pd.DataFrame(rows, columns=["what", "family"]).assign(query=range(9))
    found = in_turn(table)
    assert found["what"].head(6).tolist() == ["neuron", "heuristic"] * 3
    assert found["query"].head(4).tolist() == [0, 8, 2, 5]
    assert sorted(found["query"]) == list(range(9))
    alone = table[table["what"] == "heuristic"]
    assert sorted(in_turn(alone)["query"]) == [5, 6, 7, 8]


def test_the_median_by_chance_is_that_of_draws():
    rng = np.random.default_rng(0)
    for total, holding in ((100, 1), (100, 4), (1000, 20)):
        best = np.array([rng.permutation(total)[:holding].min() + 1 for _ in range(4000)])
        assert chance_rank(total, np.array([holding]))[0] == pytest.approx(np.median(best), rel=0.08, abs=1.5)


def test_answers_are_counted_as_the_table_does(data):
    rows = data.tables["answers"].query("method == 'ekfac_normed' and by == 'holds' and documents > 0")
    figure = answer_ranks(data.tables["answers"], documents=200)
    said = [a.text for a in figure.layout.annotations if " of " in (a.text or "")]
    right = rows[rows["correct"] & (rows["group"] == "factual")]
    assert f" {int(right['found'].sum())} of {len(right)}" in said
    marks = [t for t in figure.data if t.name == "rank of the best document"]
    assert sum(len(t.x) for t in marks) == len(rows)


def test_lifts_of_none_stand_at_the_edge_and_others_where_they_are(data):
    kinds = data.tables["kinds"]
    k = int(kinds["k"].min())
    figure = lift_figure(kinds, "kind", k=k)
    where = f"group == 'factual' and correct == 'right' and method == 'ekfac_normed' and end == 'top' and k == {k}"
    rows = kinds.query(where).set_index("kind")["lift"]
    points = trace(figure, "factual")
    by_line = {round(y): x for x, y in zip(points.x, points.y, strict=True)}
    for at, word in enumerate(names.in_order(rows.index, names.KINDS)):
        assert by_line[at] == pytest.approx(max(rows[word], 0.02))
    with pytest.raises(RequestError, match="no rows"):
        lift_figure(kinds, "kind", method="nothing")


def test_kinds_of_one_ranking_are_counted_against_the_corpus():
    corpus = pd.DataFrame({"kind": ["equation", "fact", None], "share": [0.5, 0.25, 0.25]})
    found = counts(["fact", "fact", "equation", "fact"], corpus).set_index("kind")
    assert found.loc["fact", ["count", "share", "lift"]].tolist() == [3, 0.75, 3.0]
    assert found.loc["", "lift"] == 0
    low, high = wilson(3, 4)
    assert found.loc["fact", "low"] == pytest.approx(low * 4)
    assert (low, high) == pytest.approx((0.3006, 0.9544), abs=1e-3)
    assert np.isnan(wilson(0, 0)).all()


def test_retrieval_mechanisms_and_births_draw_their_tables(data):
    groups = data.tables["retrieval_groups"]
    figure = retrieval_figure(groups)
    rows = groups[groups["correct"].isin(["right", "wrong"])]
    assert sorted(v for t in figure.data for v in t.x) == pytest.approx(sorted(rows["auc"]), nan_ok=True)
    kinds = mechanism_kinds(data.tables["mechanism_kinds"])
    assert list(kinds.data[0].y) == ["− L3N17", "+ L2N5", "− op2 = 8 mod 10", "+ op1 = 0 mod 2"]
    births = births_figure(data.tables["births"], kind="fact")
    one = data.tables["births"].query("query == 'neuron:-:L3N17' and kind == 'fact'")
    assert list(births.data[0].y) == pytest.approx(list(one["value"]))
    values = one.assign(born=[False, True, True], value=[7.0, 8.0, 9.0])[["query", "step", "value", "born"]]
    assert list(births_figure(data.tables["births"], values).data[0].y) == [7.0, 8.0, 9.0]
    low = births_figure(data.tables["births"], values.assign(sign=-1.0))
    assert list(low.data[0].y) == [-7.0, -8.0, -9.0]
    assert next(iter(births.data[0].marker.symbol)).endswith("-open")
    assert mechanism("no mechanism") == "no mechanism"


def test_texts_of_the_study_are_no_markup_in_figures(data):
    tables = dict(data.tables)
    tables["queries"] = tables["queries"].assign(task=HOSTILE)
    tables["sources"] = tables["sources"].assign(source=HOSTILE)
    tables["births"] = tables["births"].assign(query=f"neuron:-:{HOSTILE}")
    hostile = RunData({n: t.assign(need=HOSTILE) if n == "answers" else t for n, t in tables.items()})
    for _, _, figure in drawn(hostile):
        assert HOSTILE not in figure.to_json().replace("\\u003c", "<").replace("\\u003e", ">")


def test_figures_go_to_files_with_their_tables_named(folder, tmp_path):
    write_figures(RunFolder.open(folder), tmp_path, ["html"], only=["influence_retrieval"])
    side = json.loads((tmp_path / "influence_retrieval.json").read_text())
    assert side["table"] == "retrieval_groups.parquet"
    assert side["model"] == "neox-planted"


# -- reading -----------------------------------------------------------------------------------------------------------


def test_texts_are_read_by_row_in_the_order_asked(study):
    table = study.table("documents")
    rows = study.texts([5, 3, 199, 3000])
    assert rows["document"].tolist() == [5, 3, 199]
    assert rows["text"].tolist() == table["text"].iloc[[5, 3, 199]].tolist()
    assert study.corpus()["documents"].sum() == len(table)


def test_a_ranking_is_that_of_the_table_with_needs_found_in_the_text(study):
    asked = find(study, "fact-1")
    found = ranked(study, asked, method="ekfac_normed")
    top = study.rows("top", {"query": "fact-1", "method": "ekfac_normed", "end": "top"}, order="rank")
    assert [d.document for d in found] == top["document"].tolist()
    assert [d.rank for d in found] == list(range(1, len(top) + 1))
    for d in found:
        assert bool(d.hits) == any(p.mark == "need" for p in d.pieces)
    assert found[0].hits == asked.needs
    assert len(as_table(found)) == len(found)
    by = hits_by_method(study, asked).set_index("method")
    assert by.loc["ekfac_normed", "some"] == sum(bool(d.hits) for d in found)
    assert by.loc["ekfac_normed", "first"] == next(d.rank for d in found if d.hits)
    assert find(study, "neuron: :L2N5").name == "neuron:+:L2N5"
    with pytest.raises(RequestError, match="no query and no mechanism"):
        find(study, "nobody")


def test_what_is_missing_or_damaged_is_one_line_without_a_path(folder, tmp_path):
    own = tmp_path / "run" / "influence"
    shutil.copytree(folder, own)
    broken = Study.find(own)
    assert broken is not None
    (own / "top.parquet").unlink()
    with pytest.raises(NoStudy, match="arithcirc influence score") as told:
        broken.rows("top", {})
    assert str(tmp_path) not in str(told.value)
    (own / "documents.parquet").write_bytes(b"nothing")
    for call in (lambda: broken.texts([1]), lambda: broken.corpus(), lambda: broken.table("documents")):
        with pytest.raises(RunConflictError, match="is damaged: make it again with") as told:
            call()
        assert str(tmp_path) not in str(told.value)
    (own / "manifest.json").write_text("{")
    with pytest.raises(RunConflictError):
        Study.find(own)
    assert Study.find(tmp_path) is None


def test_the_command_is_the_one_typed(study):
    assert study.command() == "arithcirc influence score neox-planted --corpus=CORPUS --revision=step1000"
    typed = {"facts": {"command": "arithcirc influence fit 'my models/x' --corpus data/c --batch-size 4 --out=o"}}
    assert command_line("score", typed, {}) == "arithcirc influence score 'my models/x' --corpus=data/c --out=o"


# -- words -------------------------------------------------------------------------------------------------------------


def test_verdicts_are_said_as_the_table_has_them(data):
    table = data.tables["findings"]
    found = words.findings(data)
    assert [f.number for f in found if f.number <= words.PAPER] == [1, 2, 3, 4, 5]
    assert [c.verdict for f in found for c in f.claims] == table["verdict"].tolist()
    counted = table[table["finding"] <= words.PAPER]["verdict"].value_counts()
    assert f"{counted['holds']} hold here, {counted.get('does not hold', 0)} do not" in words.in_short(found)
    rows = pd.DataFrame(
        [(1, "a", "holds"), (1, "b", "does not hold"), (2, "c", "cannot be said")],
        columns=["finding", "claim", "verdict"],
    )
    one, two = words.findings(RunData({"findings": rows}))
    assert (one.word, one.tag) == ("holds in part (1 of 2)", "plain")
    assert two.word == "cannot be said"
    assert "of 1 nothing can be said" in words.in_short([one, two])
    assert words.findings(RunData({})) == []


def test_settings_are_said_in_words(data, study):
    said = dict(words.settings(data, study.config, {"max_tokens": 96}))
    assert "EK-FAC" in said["Curvature"]
    assert said["Damping"].startswith("0.1 ×")
    assert said["Tracked layers"].startswith("8 linear layers")
    cut = int(study.table("documents")["cut"].sum())
    assert f"longer than 96 tokens are truncated ({cut:,} of 200)" in said["Documents"]
    right = {r["group"]: r["right"] for r in words.answered(data)}
    queries = data.tables["queries"]
    assert right["factual"] == (queries["correct"] & (queries["group"] == "factual")).sum()


def test_what_was_measured_of_a_mechanism_is_said_with_its_unit_and_end():
    row = {"what": "neuron", "measure": "activation", "inside": 20, "outside": 32, "value": -0.742, "sign": -1.0}
    said = mechanism_words.measured(row)
    assert said.startswith(
        "Contrast: its activation at =, mean over 20 prompts of the heuristic minus that over 32 others: −0.742."
    )
    assert said.endswith("A positive score makes the contrast smaller (more negative).")
    assert mechanism_words.end_hint(row, "bottom") == "documents that would make the contrast larger (less negative)"
    whole = {"what": "heuristic", "inside": 3, "outside": 4, "value": 1.0}
    assert mechanism_words.measured(whole).startswith("Contrast: all its neurons’ contribution to the answer’s logit")
    assert "smaller" not in mechanism_words.measured(whole)
    assert mechanism_words.measured(whole | {"value": -1.0}).endswith("makes the contrast larger (less negative).")
    assert mechanism_words.ends(whole) == ("make its contrast larger", "make its contrast smaller")


def test_obeying_documents_are_said_to_be_no_better_than_chance_where_they_are_not():
    row = {"positives": 82, "documents": 352, "auc": 0.467, "auc_others": 0.507}
    said = mechanism_words.obeying(row)
    assert "82 of 352" in said
    assert (
        "AUC is 0.47 [0.40, 0.54] (by the scores of other mechanisms 0.51; chance 0.50). Not told from chance" in said
    )
    assert mechanism_words.obeying({"auc": float("nan")}) == ""
    assert mechanism_words.judged(row | {"auc": 0.8}).startswith("Above chance")
    assert mechanism_words.judged(row | {"auc": 0.8, "auc_others": 0.79}).startswith("No better than by")
    assert mechanism_words.judged(row | {"auc": 0.2}).startswith("They rank below")
    assert np.isnan(mechanism_words.auc_interval(0.7, 5, 0)).all()
    rng = np.random.default_rng(0)  # the interval against resampling of both sides
    above, below = rng.normal(0.5, 1, 60), rng.normal(0, 1, 200)
    auc = (above[:, None] > below).mean()
    draws = [(rng.choice(above, 60)[:, None] > rng.choice(below, 200)).mean() for _ in range(400)]
    low, high = mechanism_words.auc_interval(float(auc), 60, 200)
    assert (high - low) / (np.quantile(draws, 0.975) - np.quantile(draws, 0.025)) == pytest.approx(1, abs=0.2)


def test_mechanisms_together_are_judged_against_the_scores_of_others():
    def said(differences):
        table = pd.DataFrame(
            {"query": [f"m{i}" for i in range(len(differences))], "method": "ekfac", "auc_others": 0.5}
        ).assign(auc=0.5 + np.array(differences))
        return mechanism_words.together(RunData({"mechanism_retrieval": table}, {}, {}))

    assert said([0.1, -0.1, 0.05, -0.06]).endswith("not told from chance here.")
    assert said([0.1, 0.2, 0.15, 0.16]).endswith("more than by chance.")
    assert said([-0.1, -0.2, -0.15, -0.16]).endswith("less than by chance.")
    assert said([0.1]) == ""


def test_a_summary_leads_with_what_is_answered_and_gives_the_reason_for_what_cannot_be_said():
    table = pd.DataFrame(
        [("reasoning", "a", 12, 1, 0.1), ("reasoning", "b", 12, 2, 0.2), ("factual", "", 20, 11, 0.05)],
        columns=["group", "task", "queries", "right", "chance"],
    )
    said = words.accuracy(RunData({"accuracy": table}, {}, {}))
    assert "3 of 24 reasoning queries (chance 15" in said
    assert "and 11 of 20 factual queries (chance 5" in said
    no, few = "cannot be said", "only 1 is right"
    table = pd.DataFrame({
        "finding": [1, 1, 1, 3, 6], "claim": ["A", "and a", "E", "C", "B"], "verdict": [no] * 4 + ["does not hold"],
        "numbers": ["3.28e+03", "n", "no pairs", "n", "n"], "base_rate": "",
        "note": [f"{few}. By lists.", f"{few}. By words.", "", few, ""],
    })  # fmt: skip
    found = words.findings(RunData({"findings": table}, {}, {}))
    assert words.unsayable(found) == [("Only 1 is right", "1 · a; and a; 3 · c"), ("No pairs", "1 · e")]
    assert [note for _, note in found[0].noted] == [f"{few}. By lists.", "By words.", ""]
    assert [note for _, note in found[1].noted] == [few]
    assert found[0].claims[0].numbers == "3,280"
    assert [f.number for f, _ in words.sayable(found)] == [6]
    assert words.in_short(found).endswith("4 claims about the paper’s five findings none can be judged here.")


def test_tasks_stand_under_their_group_and_one_at_chance_is_named():
    table = pd.DataFrame({
        "group": "reasoning", "task": ["", "a_b", "c", "d"], "queries": [17, 8, 8, 1], "right": [10, 8, 2, 0],
        "chance": [0.2, 0.1, 0.23, 0.0], "p": [0.0005, 0.001, 0.61, 1.0], "steps": [9, 8, 1, 0],
    })  # fmt: skip
    queries = pd.DataFrame({
        "query": range(17), "group": "reasoning", "task": ["a_b"] * 8 + ["c"] * 8 + ["d"],
        "correct": [True] * 10 + [False] * 7, "nats": 1.0, "tokens": 4,
        "prompt": [f"Add {i}+{2 * i}:" for i in range(17)],
    })  # fmt: skip
    data = RunData({"accuracy": table, "queries": queries}, {}, {})
    said = words.accuracy(data)
    assert "10 of 17 reasoning queries (chance 20" in said
    assert "; 9 with every step right; c 2 of 8, at chance) right." in said
    rows = words.asked(data)
    assert [(r["task"], r["right"], r["steps"], r["at_chance"]) for r in rows] == [
        ("", 10, 9, False), ("a b", 8, 8, False), ("c", 2, 1, True), ("d", 0, 0, False),
    ]  # fmt: skip
    assert [r["task"] for r in words.answered(data)] == [""]
    assert "one wording" in words.not_shown(data)[1]
    queries.loc[0, "prompt"] = "Sum of 1 and 2:"
    assert words.not_shown(RunData({"queries": queries}, {}, {})) == words.NOT_SHOWN


def test_a_summary_keeps_the_remark_of_a_verdict_and_says_its_levels():
    opposite = "The opposite is the case here. In nats. Corrected for the 2 claims with a p: p < 0.0001."
    table = pd.DataFrame({
        "finding": [1, 1, 6], "claim": ["a", "b", "c"], "verdict": ["does not hold", "holds", "holds"], "numbers": "n",
        "note": [opposite, "", "Corrected for the 2 claims with a p: p = 0.02."],
    })  # fmt: skip
    found = words.findings(RunData({"findings": table}, {}, {}))
    assert [c.remark for f in found for c in f.claims] == ["The opposite is the case here.", "", ""]
    assert "have a p, 2 of the 3 judged claims (2 about the paper’s findings, 1 beyond them)" in words.levels(found)
    assert words.levels([]) == ""


def test_a_lift_that_chance_gives_too_has_no_colour():
    table = pd.DataFrame({
        "query": ["m", "m"], "method": "ekfac", "end": "top", "k": 10, "kind": ["code", "fact"], "lift": [0.0, 4.0],
        "p": [0.9, 0.001],
    })  # fmt: skip
    z = np.array(mechanism_kinds(table).data[0].z)[0]
    assert sorted(z) == pytest.approx([0.0, 2.0])


def test_every_group_is_in_the_legend_once(data):
    kinds = data.tables["kinds"]
    kinds = kinds[~((kinds["group"] == "control_factual") & (kinds["correct"] == "right"))]
    shown = [t.name for t in lift_figure(kinds, "kind").data if t.showlegend]
    assert sorted(shown) == sorted(names.group(g) for g in kinds["group"].unique())


def test_scores_are_written_with_three_digits_of_any_size():
    values = (12.345, 0.012345, -1.5e-7, 123456.0, 0.0, None, 1.0)
    assert [names.score(v) for v in values] == ["+12.3", "+0.0123", "−1.50e−7", "+1.23e5", "0", "–", "+1.00"]
