"""A whole study of a toy: what is scored, that stopping changes nothing, and what is refused."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from studied import ASKED, DOCUMENTS, PARTITION, QUERIES, corpus, opened, results, toy

from arithcirc.errors import EnvironmentFailure, NumericsError, PromptError, RequestError, RunConflictError
from arithcirc.influence.rows import Row, collate, summed_nll
from arithcirc.influence.study import fit as fitting
from arithcirc.influence.study import score as scoring
from arithcirc.influence.study.fit import encode_documents, fit_factors
from arithcirc.influence.study.plan import make_plan
from arithcirc.influence.study.queries import query_rows
from arithcirc.influence.study.study import FIT, Asked, How, open_study
from arithcirc.influence.study.tokens import TokenStore
from arithcirc.influence_scores import ScoreStore


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("study_model") / "toy")


@pytest.fixture(scope="module")
def fitted(model, given, tmp_path_factory):
    """A folder with factors alone; to copy."""
    out = tmp_path_factory.mktemp("fitted")
    fit_factors(opened(model, given, out, sections=FIT))
    return out


@pytest.fixture(scope="module")
def study(model, given, fitted, tmp_path_factory):
    """Finished; to read from only."""
    out = tmp_path_factory.mktemp("studies")
    shutil.copytree(fitted, out, dirs_exist_ok=True)
    finished = opened(model, given, out)
    scoring.score(finished)
    return finished


def gradient(study, row: Row) -> torch.Tensor:
    """Of the summed loss, over the tracked layers, by autograd."""
    network = study.model.network
    weights = [p for n, p in network.named_parameters() if n.rpartition(".")[0] in study.tracked]
    batch = collate([row])
    with torch.enable_grad():
        for weight in weights:
            weight.requires_grad_(True)
        loss = summed_nll(network(input_ids=batch["input_ids"]).logits, batch["labels"], batch["weight"])
        found = torch.autograd.grad(loss, weights)
        for weight in weights:
            weight.requires_grad_(False)
    return torch.cat([g.flatten() for g in found])


def test_dots_norms_and_nats_are_those_of_autograd(study):
    scores = ScoreStore.open(study.run.path / "scores")
    queries = study.run.table("queries")
    documents = TokenStore.open(study.run.path / "tokens").rows(0, DOCUMENTS)
    asked = query_rows(queries)
    for q, d in ((0, 3), (4, 21)):
        of_query, of_document = gradient(study, asked[q]), gradient(study, documents[d])
        dot = float(of_query @ of_document)
        scale = float(of_query.norm() * of_document.norm())
        assert scores.row(q, "dot")[d] == pytest.approx(dot, abs=1e-5 * scale)
        assert scores.documents("norm")[d] == pytest.approx(float(of_document.norm()), rel=1e-4)
        assert queries["norm"][q] == pytest.approx(float(of_query.norm()), rel=1e-4)
        assert scores.row(q, "cosine")[d] == pytest.approx(dot / scale, abs=1e-5)
    batch = collate([asked[1]])
    with torch.no_grad():
        nats = summed_nll(study.model.network(batch["input_ids"]).logits, batch["labels"], batch["weight"])
    assert queries["nats"][1] == pytest.approx(float(nats), rel=1e-5)


def test_tables_say_what_was_read(study):
    documents, queries, top = (study.run.table(name) for name in ("documents", "queries", "top"))
    assert documents["document"].tolist() == list(range(DOCUMENTS))
    assert (documents["tokens"] <= 20).all()
    assert documents["cut"].sum() == study.run.manifest["stages"]["documents"]["cut"] > 3
    cut = documents[documents["cut"]].iloc[0]
    assert all(s.split("+")[0] in cut["text"].replace("=", " ").replace("+", " ").split() for s in cut["holds"])
    assert queries["query"].tolist() == [f"q{i}" for i in range(QUERIES)]
    assert (queries["tokens"] <= 3).all()
    assert study.run.manifest["notes"]["queries_left_out"].keys() == {"long"}
    assert set(top["method"]) == {"ekfac", "ekfac_normed", "dot", "cosine", "bm25", "random"}
    assert len(top) == QUERIES * 6 * 2 * (DOCUMENTS // 5)
    scores = ScoreStore.open(study.run.path / "scores")
    best = top[(top["query"] == "q3") & (top["method"] == "ekfac_normed") & (top["end"] == "top")]
    assert best["document"].tolist() == np.argsort(-scores.row(3, "ekfac_normed"), kind="stable")[: len(best)].tolist()
    assert best["kind"].tolist() == documents["kind"][best["document"]].tolist()
    held = [{"3+3=6"} & set(documents["holds"][d]) for d in best["document"]]
    assert [set(hits) for hits in best["hits"]] == held


def test_stopping_in_the_middle_changes_nothing(study, fitted, model, given, tmp_path, monkeypatch):
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    stopped = opened(model, given, tmp_path)

    def interrupt(stage, n, total):
        if stage == "scores" and n >= DOCUMENTS:
            raise KeyboardInterrupt

    stopped.report = interrupt
    with pytest.raises(KeyboardInterrupt):
        scoring.score(stopped)
    kept = {p.name: p.stat().st_mtime_ns for p in (stopped.run.path / "scores").iterdir()}
    assert set(kept) == {"part-00000.safetensors"}
    again = opened(model, given, tmp_path)
    assert scoring.score(again)
    assert all((again.run.path / "scores" / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert results(again) == results(study)


def test_workers_with_a_range_each_give_the_same_bytes(study, fitted, model, given, tmp_path):
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    assert not scoring.score(opened(model, given, tmp_path), partitions=range(1, 2))
    assert not opened(model, given, tmp_path).run.finished("scores")
    assert not scoring.score(opened(model, given, tmp_path), partitions=range(1))
    assert scoring.score(opened(model, given, tmp_path))
    assert results(opened(model, given, tmp_path)) == results(study)


def test_the_partition_size_changes_no_score(study, fitted, model, given, tmp_path):
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    other = opened(model, given, tmp_path, how=How(partition=30, batch_size=7, query_batch_size=2))
    scoring.score(other)
    mine, theirs = (ScoreStore.open(s.run.path / "scores") for s in (study, other))
    for method in mine.methods:
        for query in range(QUERIES):
            a, b = mine.row(query, method), theirs.row(query, method)
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4 * np.abs(a).max())
    assert results(other).keys() - results(study).keys() == set()


def test_queries_in_groups_score_as_all_at_once(study, model, given, tmp_path):
    rows = query_rows(study.run.table("queries"))
    documents = scoring.Rows(TokenStore.open(study.run.path / "tokens").rows(0, 8))
    found = scoring.engine(study)
    tight = replace(study, how=How(memory=found.predict(documents, queries=2).scores))
    whole, grouped = (scoring.pairs(s, found, rows, documents) for s in (study, tight))
    np.testing.assert_allclose(whole, grouped, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_queries_of_low_rank_score_nearly_as_exact_ones(study):
    rows = query_rows(study.run.table("queries"))
    documents = scoring.Rows(TokenStore.open(study.run.path / "tokens").rows(0, DOCUMENTS))
    config = replace(study.config, scores=replace(study.config.scores, low_rank=16))
    low = replace(study, config=config)
    exact, near = (scoring.pairs(s, scoring.engine(s), rows, documents) for s in (study, low))
    assert (exact != near).any()
    assert all(np.corrcoef(a, b)[0, 1] > 0.95 for a, b in zip(exact, near, strict=True))


def test_factors_of_other_weights_or_another_corpus_are_refused(study, model, given, tmp_path):
    out = study.run.path.parent.parent.parent
    other = toy(tmp_path / "toy", seed=2)
    with pytest.raises(RunConflictError, match="these factors belong to other weights"):
        opened(other, given, out)
    with pytest.raises(RunConflictError, match="corpus: sha256"):
        opened(model, corpus(tmp_path / "corpus", seed=5), out)
    with pytest.raises(RunConflictError, match="max_tokens"):
        opened(model, given, out, asked=replace(ASKED, max_tokens=10))
    with pytest.raises(RunConflictError, match="damping"):
        opened(model, given, out, asked=replace(ASKED, damping=0.5))
    assert opened(model, given, out, asked=Asked()).run.finished("scores")
    with pytest.raises(
        RunConflictError, match=r"stop: None in the folder, ';' asked.*score --replace.* keeps the factors"
    ):
        opened(model, given, out, asked=replace(ASKED, stop=";"))
    with pytest.raises(RunConflictError) as caught:
        opened(other, given, out)
    assert not re.search("[0-9a-f]{13}", str(caught.value).replace(str(out), ""))


def test_a_study_that_cannot_be_made_leaves_no_folder(model, given, tmp_path, monkeypatch):
    weight = next(model.network.parameters())
    kept = weight[0, 0].item()
    with torch.no_grad():
        weight[0, 0] = float("nan")
        try:
            with pytest.raises(NumericsError, match="NaN or infinite"):
                opened(model, given, tmp_path, sections=FIT)
        finally:
            weight[0, 0] = kept
    assert not any(tmp_path.iterdir())
    said = []
    study = opened(model, given, tmp_path, sections=FIT)
    study.notice = lambda stage, text: said.append((stage, text))

    def overflow(*_, **__):
        raise NumericsError("the curvature is not finite")

    monkeypatch.setattr(fitting, "_fit", overflow)
    with pytest.raises(NumericsError):
        fit_factors(study)
    assert not any(tmp_path.iterdir())
    assert ("factors", f"curvature from {DOCUMENTS} documents is poor: give 32 or more, thousands are better") in said


def test_other_queries_replace_scores_and_keep_factors(study, model, given, tmp_path):
    shutil.copytree(study.run.path.parent.parent.parent, tmp_path, dirs_exist_ok=True)
    study = opened(model, given, tmp_path)
    before = results(study)
    fitted = study.run.manifest["stages"]["factors"]
    again = opened(model, given, tmp_path, asked=Asked(damping=0.5), replace_scores=True)
    assert again.run.manifest["stages"].keys() == {"documents", "factors"}
    assert again.config.corpus.max_tokens == 20
    scoring.score(again)
    assert again.run.manifest["stages"]["factors"] == fitted
    after = results(again)
    assert after["part-00000.safetensors"] != before["part-00000.safetensors"]


def test_scoring_before_fitting_names_the_command(model, given, tmp_path):
    with pytest.raises(RunConflictError, match="arithcirc influence fit"):
        scoring.score(opened(model, given, tmp_path))
    assert not any(tmp_path.iterdir())


def test_chunks_are_documents_of_their_own(model, given, tmp_path):
    asked = replace(ASKED, long="chunk")
    said = []
    study = opened(model, given, tmp_path, asked=asked, sections=FIT)
    study.notice = lambda stage, text: said.append(text)
    store = encode_documents(study)
    assert len(store) > DOCUMENTS
    assert "longer than 20 tokens: cut into" in said[0]
    pieces = list(store.pieces(given / "documents.jsonl", 0, len(store)))
    whole = {p.document.id: p.document for p in pieces}
    for document in whole.values():
        mine = [(p, r) for p, r in zip(pieces, store.rows(0, len(store)), strict=True) if p.document.id == document.id]
        ids = [t for _, row in mine for t in row.tokens[1:]]
        plain = model.tokenizer(document.text, add_special_tokens=False, verbose=False)["input_ids"]
        assert ids[: len(plain)] == plain
        assert len(ids) == len(plain) + (len(mine) == 1)  # the end token of an uncut text
        assert [p.id for p, _ in mine] == [document.id, *(f"{document.id}#{n + 2}" for n in range(len(mine) - 1))]
        assert "".join(p.text.replace(" ", "") for p, _ in mine) == document.text.replace(" ", "")


def test_the_plan_changes_nothing_and_knows_what_is_done(study, model, given, tmp_path):
    planned = make_plan(study, scoring=True)
    assert [step.done for step in planned.steps] == [True] * 4
    assert planned.seconds == 0
    fresh = open_study(model, given, tmp_path, asked=ASKED, how=How(partition=PARTITION), sections=FIT, write=False)
    planned = make_plan(fresh, scoring=True)
    assert not any(tmp_path.iterdir())
    assert [step.stage for step in planned.steps] == ["documents", "factors", "queries", "scores"]
    assert planned.steps[1].tokens == pytest.approx(study.run.table("documents")["tokens"].sum(), abs=DOCUMENTS)
    assert 0 < planned.seconds < 60
    assert all(step.memory > 0 for step in planned.steps)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), ("\n\n", "is empty"), ('{"text": 3}\n', "no text"), ("no JSON\n", "is not JSON")],
)
def test_a_corpus_without_text_is_one_line(model, given, tmp_path, text, words):
    (tmp_path / "documents.jsonl").write_text(text)
    with pytest.raises(PromptError, match=words):
        encode_documents(open_study(model, tmp_path / "documents.jsonl", tmp_path / "runs", sections=FIT))


def test_other_bad_requests(study, fitted, model, given, tmp_path):
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(PromptError, match="cannot be read as text"):
        encode_documents(open_study(model, tmp_path / "bytes.jsonl", tmp_path / "runs", sections=FIT))
    with pytest.raises(PromptError, match=r"documents\.jsonl is not there"):
        open_study(model, tmp_path, tmp_path / "runs")
    with pytest.raises(RequestError, match=r"--partitions 9 .*0\.\.1"):
        scoring.score(opened(model, given, shutil.copytree(fitted, tmp_path / "fitted")), partitions=[9])
    with pytest.raises(RequestError, match="--damping"):
        Asked(damping=0.0)
    with pytest.raises(RequestError, match="--partition 0"):
        How(partition=0)
    with pytest.raises(EnvironmentFailure, match="free"):
        raise_for_memory(study)


def raise_for_memory(study):
    """Fitting where nothing is free."""
    tight = scoring.engine(study)
    tight._free = lambda: 1000
    tight.scores(
        scoring.Rows(query_rows(study.run.table("queries"))),
        scoring.Rows(TokenStore.open(study.run.path / "tokens").rows(0, 4)),
    )


def test_a_query_file_without_a_usable_query_is_one_line(fitted, model, given, tmp_path):
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "queries.jsonl"
    file.write_text('{"id": "far", "prompt": "' + "1+2=3 " * 12 + '", "answer": "0"}\n')
    with pytest.raises(PromptError, match="no query has a completion"):
        scoring.score(opened(model, given, tmp_path, queries=file))
    file.write_text('{"id": "a", "prompt": "1+2="}\n{"id": "a", "prompt": "1+3="}\n')
    with pytest.raises(PromptError, match="'a' names several"):
        scoring.score(opened(model, given, tmp_path, queries=file))
