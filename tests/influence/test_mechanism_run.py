"""The stage `mechanisms` on a toy: chosen from labels, resumed to the same numbers, hits that obey the heuristic."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toys

from arithcirc.arithmetic.operators import Prompts
from arithcirc.config import ModelConfig, PromptConfig, RunConfig
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.influence.mechanisms import births_stage
from arithcirc.influence.mechanisms import run as stage
from arithcirc.influence.mechanisms.births_stage import checkpoints_of, run_births
from arithcirc.influence.mechanisms.choose import candidates, choose
from arithcirc.influence.mechanisms.equations import Equations, auc, rank_correlation, retrieval
from arithcirc.influence.mechanisms.run import Wanted, run
from arithcirc.influence.study.fit import fit_factors
from arithcirc.influence.study.score import score
from arithcirc.influence.study.study import SCORE, How, open_study
from arithcirc.influence_scores import ScoreStore
from arithcirc.models.plain import load_plain
from arithcirc.store import RunFolder

LABELS = (  # operator, layer, neuron, heuristic, family, kind, end, score, effect
    ("+", 1, 3, "op2 = 8 mod 10", "modulo", "indirect", "top", 0.9, 2.0),
    ("+", 1, 3, "op1 in 0..10", "range", "indirect", "top", 0.7, 2.0),
    ("+", 2, 5, "result in 20..40", "range", "direct", "bottom", 0.8, 1.0),
    ("-", 2, 5, "op2 = 8 mod 10", "modulo", "indirect", "top", 0.8, 9.0),
    ("+", 2, 7, "op2 = 8 mod 10", "modulo", "indirect", "top", 0.8, 0.5),
)
WANTED = Wanted(neurons=3, heuristics=2, prompts=6)


def inside(name, prompts):
    return parse_heuristic(name).mask(prompts)


def analysed(path, weights, *, significant=True):
    """A run with these labels, as `analyze` leaves it."""
    config = RunConfig(ModelConfig("toy", "main", weights, "t", "float32"), PromptConfig(operands="0..30"))
    folder = RunFolder.create(path, config, sections=["model", "prompts"], facts={})
    names = ("operator", "layer", "neuron", "heuristic", "family", "kind", "end", "score", "effect")
    rows = pd.DataFrame(LABELS, columns=names)
    folder.write_table("heuristics", rows.drop(columns="effect").assign(size=9, significant=significant))
    effects = rows[["operator", "layer", "neuron", "effect"]].drop_duplicates()
    exact = effects.assign(method="exact", metric="logit_diff")
    folder.write_table("neurons", pd.concat([exact, exact.assign(metric="kl", effect=1e9)], ignore_index=True))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A toy in two checkpoints; the second is loaded."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    toys.save(toys.gpt_neox(seed=2), folder / "step1")
    toys.save(toys.gpt_neox(), folder / "step8")
    return load_plain(str(folder / "step8"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        a, b = rng.integers(0, 30, 2)
        if i % 2:
            b = b // 10 * 10 + 8
        text = f"{a}+{b}={a + b}" if i % 3 else f"{max(a, b)}-{min(a, b)}={abs(a - b)}"
        rows.append({"id": str(i), "text": text, "kind": "equation" if i % 2 else "distractor"})
    (folder / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text(json.dumps({"id": "q", "prompt": "3+4=", "answer": "7"}) + "\n")
    return folder


def scored(model, corpus, out):
    study = open_study(model, corpus, out, how=How(batch_size=8, partition=10), sections=SCORE)
    fit_factors(study)
    score(study)
    return study


@pytest.fixture(scope="module")
def labelled(model, tmp_path_factory):
    return analysed(tmp_path_factory.mktemp("run") / "run", model.info.weights_sha256)


@pytest.fixture(scope="module")
def study(model, corpus, labelled, tmp_path_factory):
    """A study whose mechanisms were scored without a stop."""
    made = scored(model, corpus, tmp_path_factory.mktemp("out"))
    run(made, labelled, inside=inside, wanted=WANTED)
    return made


def unmeasured(study, model, corpus, out):
    """A copy of the study, with its factors and scores, as it was before its mechanisms."""
    shutil.copytree(study.run.path.parents[2], out, dirs_exist_ok=True)
    other = open_study(model, corpus, out, how=How(batch_size=8, partition=10), sections=SCORE)
    shutil.rmtree(other.run.path / "mechanism_scores")
    other.run.forget(["mechanisms"])
    return other


def test_every_family_has_its_turn_and_effects_are_shares_of_their_operator(labelled):
    found = choose(labelled, neurons=2, heuristics=1)
    assert [c.id for c in found] == ["neuron:+:L1N3", "neuron:+:L2N5", "heuristic:+:op2 = 8 mod 10"]
    assert {c.id: c.effect for c in candidates(labelled)}["neuron:-:L2N5"] == 1
    assert next(c for c in candidates(labelled) if c.id == "neuron:+:L1N3").heuristic == "op2 = 8 mod 10"
    assert [str(n) for n in found[2].neurons] == ["L1N3", "L2N7"]
    named = choose(labelled, names=["L2N5", "heuristic:+:op1in0..10"])
    assert [c.id for c in named] == ["neuron:+:L2N5", "neuron:-:L2N5", "heuristic:+:op1 in 0..10"]


def test_the_tables_say_what_was_measured(study):
    table = study.run.table("mechanisms").set_index("query")
    assert list(table.index) == [
        "neuron:+:L1N3", "neuron:+:L2N5", "neuron:-:L2N5", "heuristic:+:op2 = 8 mod 10", "heuristic:+:op1 in 0..10",
    ]  # fmt: skip
    assert table["measure"].tolist() == ["activation", "contribution", "activation", "contribution", "contribution"]
    assert table["sign"].tolist() == [1, -1, 1, 1, 1]
    assert set(table["inside"]) | set(table["outside"]) == {6}
    assert (table["step"] == 8).all()
    scores = ScoreStore.open(study.run.path / "mechanism_scores")
    assert scores.methods == ("ekfac", "ekfac_normed", "dot", "cosine", "random")
    assert (scores.n_queries, scores.n_documents, len(scores.parts)) == (5, 24, 3)
    norms = ScoreStore.open(study.run.path / "scores").documents("norm")
    dot, cosine = (scores.row(0, method) for method in ("dot", "cosine"))
    np.testing.assert_allclose(cosine, dot / norms / table["norm"].iloc[0], rtol=1e-4)
    assert np.abs(cosine).max() <= 1


def test_hits_are_equations_of_the_operator_that_obey_the_heuristic(study):
    top = study.run.table("mechanism_top")
    texts = study.run.table("documents")["text"].tolist()
    rows = top[top["query"] == "heuristic:+:op2 = 8 mod 10"]
    assert len(rows) == 5 * 2 * 4
    for document, hits in zip(rows["document"], rows["hits"], strict=True):
        text = texts[document]
        obeys = "+" in text and text.split("=")[0].endswith("8")
        assert list(hits) == ([text] if obeys else [])


def test_a_stopped_run_goes_on_to_the_same_numbers(model, corpus, labelled, study, tmp_path, monkeypatch):
    other = unmeasured(study, model, corpus, tmp_path)
    written, real = [], stage.Scorer.scores

    def stopping(self, rows):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(len(rows))
        return real(self, rows)

    monkeypatch.setattr(stage.Scorer, "scores", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(other, labelled, inside=inside, wanted=WANTED)
    assert not other.run.finished("mechanisms")
    written.clear()
    run(other, labelled, inside=inside, wanted=WANTED)
    assert written == [4]
    for name in ("mechanisms", "mechanism_top", "mechanism_retrieval"):
        pd.testing.assert_frame_equal(other.run.table(name), study.run.table(name))
    mine, theirs = (ScoreStore.open(s.run.path / "mechanism_scores") for s in (other, study))
    for method in mine.methods:
        for (*_, one), (*_, two) in zip(mine.blocks(method), theirs.blocks(method), strict=True):
            np.testing.assert_array_equal(one, two)
    written.append(0)
    run(other, labelled, inside=inside, wanted=WANTED)
    assert written == [4, 0]  # finished: nothing is scored again


def test_mechanisms_asked_for_later_join_those_that_are_there(model, corpus, labelled, study, tmp_path, monkeypatch):
    other = unmeasured(study, model, corpus, tmp_path)
    first = run(other, labelled, inside=inside, wanted=replace(WANTED, neurons=2, heuristics=0))
    scored_of, real = [], stage.Scorer.scores
    monkeypatch.setattr(stage.Scorer, "scores", lambda self, rows: scored_of.append(real(self, rows)) or scored_of[-1])
    joined = run(other, labelled, inside=inside, wanted=replace(WANTED, names=("neuron:+:L2N5", "op2 = 8 mod 10")))
    assert {len(found["ekfac"]) for found in scored_of} == {len(joined) - len(first)}
    assert [m.id for m in joined[:2]] == [m.id for m in first]
    assert other.run.finished("mechanisms")
    assert not (other.run.path / stage.ADDED).exists()
    scored_of.clear()
    again = run(other, labelled, inside=inside, wanted=replace(WANTED, names=("L1N3",)))
    assert [m.id for m in again] == [m.id for m in joined]
    assert not scored_of
    mine, theirs = (ScoreStore.open(s.run.path / "mechanism_scores") for s in (other, study))
    tables = [s.run.table("mechanisms").set_index("query") for s in (other, study)]
    common = [name for name in tables[0].index if name in tables[1].index]
    assert len(common) == 3
    for name in common:
        a, b = (s.row(t.index.get_loc(name), "ekfac") for s, t in zip((mine, theirs), tables, strict=True))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())
        assert tables[0]["value"][name] == pytest.approx(tables[1]["value"][name], rel=1e-5)
        assert set(other.run.table("mechanism_retrieval")["query"]) >= {name}
    whole = open_study(model, corpus, tmp_path, how=How(batch_size=8, partition=24), sections=SCORE)
    more = run(whole, labelled, inside=inside, wanted=replace(WANTED, names=("op1 in 0..10",)))
    assert [m.id for m in more[:-1]] == [m.id for m in joined]
    assert len(ScoreStore.open(whole.run.path / "mechanism_scores").parts) == 1


def test_bad_requests_are_one_line(model, labelled, study, tmp_path):
    with pytest.raises(RunConflictError, match="of other weights"):
        run(study, analysed(tmp_path / "other", "0" * 64), inside=inside)
    with pytest.raises(RequestError, match="no neuron of run"):
        candidates(analysed(tmp_path / "none", model.info.weights_sha256, significant=False))
    with pytest.raises(RequestError, match="no significant label"):
        choose(labelled, names=["L0N0"])
    empty = RunFolder.create(tmp_path / "bare", RunConfig(ModelConfig("a", "b", "c", "d", "e")), sections=["model"],
                             facts={})  # fmt: skip
    with pytest.raises(RunConflictError, match="heuristics and neurons"):
        candidates(empty)
    with pytest.raises(RequestError, match="none of 3 mechanisms"):
        run(study, labelled, inside=lambda _, p: np.zeros(len(p), bool), wanted=Wanted(neurons=3, heuristics=0))


def test_births_are_a_stage_of_the_study(model, corpus, labelled, study, tmp_path):
    study = unmeasured(study, model, corpus, tmp_path)
    found = run(study, labelled, inside=inside, wanted=Wanted(neurons=2, heuristics=1, prompts=6))
    checkpoints = Path(model.network.name_or_path).parent
    made = run_births(study, found, checkpoints, sample=12, inside=inside)
    measured = study.run.table("mechanism_values")
    final = measured[measured["step"] == 8].set_index("query")["value"]
    expected = study.run.table("mechanisms").set_index("query")["value"]
    pd.testing.assert_series_equal(final[expected.index], expected)
    assert study.run.manifest["stages"]["births"]["documents"] == 12
    assert set(made.left_out) | set(made.table.get("query", ())) == {m.id for m in found}
    with pytest.raises(RequestError, match="1 checkpoints"):
        checkpoints_of(checkpoints, "step1")


@pytest.mark.slow
def test_births_take_the_last_scores_from_the_study(model, study, labelled, monkeypatch):
    mechanisms = stage.find(study, labelled, inside, WANTED)
    given = pd.DataFrame([{"operator": "+", "layer": 1, "neuron": 3, "heuristic": "op2 = 8 mod 10", "birth": 8}])
    checkpoints, kept = Path(model.network.name_or_path).parent, study.run.path / "births"
    taken = run_births(study, mechanisms, checkpoints, given=given, inside=inside)
    assert "step1" in taken.seconds
    assert not (kept / "step8").exists()
    monkeypatch.setattr(births_stage, "_final", lambda *_: None)
    fitted = run_births(study, mechanisms, checkpoints, given=given, inside=inside)
    assert (kept / "step8").is_dir()
    pd.testing.assert_frame_equal(taken.table, fitted.table, rtol=0.05)  # ranks of near ties move rho a little
    np.testing.assert_allclose(taken.table["r"], fitted.table["r"], atol=1e-4)
    assert {(w, s) for w, s in zip(taken.table["when"], taken.table["step"], strict=True)} == {
        ("before", 1), ("after", 8), ("final", 8)
    }  # fmt: skip


def test_equations_are_read_where_they_stand_alone_and_true():
    texts = [
        "3+8=11, then 20 - 8 = 12. (4+4)*2=16",
        "no sums; 2+2=5 and 7/2=3 and 6/2=3",
        "1+2+3=6 x = 4+5 = 9",
        "3+8=11\n3+8=11 5*3=15",
    ]
    found = Equations.of(texts)
    said = [f"{t}{a}" for t, a in zip(found.prompts.texts(), found.prompts.answer, strict=True)]
    assert list(zip(found.document.tolist(), said, strict=True)) == [
        (0, "3+8=11"), (0, "20-8=12"), (1, "6/2=3"), (2, "4+5=9"), (3, "3+8=11"), (3, "3+8=11"), (3, "5*3=15"),
    ]  # fmt: skip
    assert Equations.of([]).n_documents == 0
    assert isinstance(Equations.of(["none"]).prompts, Prompts)


def test_ranking_measures_have_their_closed_forms(study, labelled):
    scores = np.array([3.0, 1.0, 2.0, 2.0])
    assert auc(scores, np.array([True, False, False, False])) == 1
    assert auc(scores, np.array([False, False, True, False])) == pytest.approx((1 + 0.5) / 3)
    assert np.isnan(auc(scores, np.zeros(4, bool)))
    assert rank_correlation(scores, scores**3) == pytest.approx(1)
    assert np.isnan(rank_correlation(scores, np.ones(4)))
    table = study.run.table("mechanism_retrieval")
    mechanisms = stage.find(study, labelled, inside, WANTED)
    again = retrieval(
        ScoreStore.open(study.run.path / "mechanism_scores"), mechanisms,
        Equations.of(study.run.table("documents")["text"]), inside,
    )  # fmt: skip
    pd.testing.assert_frame_equal(table, again)
    assert (table["positives"] <= table["documents"]).all()
