"""Training on a corpus: folders, what is measured, the same weights in memory, other corpora and bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from arithcirc.errors import PromptError, RequestError, RunConflictError, TokenizerError
from arithcirc.influence.corpus import CorpusSpec, make_corpus
from arithcirc.influence.rows import Row
from arithcirc.influence.train import CorpusRecipe, open_material, retrain, train_on_corpus
from arithcirc.influence.train_exam import overall, read, read_grades, step_line
from arithcirc.training.model import load_step
from arithcirc.training.text_recipe import load_text_recipe

RECIPE = CorpusRecipe(
    name="tiny-corpus", layers=2, width=32, heads=2, mlp_width=64, positions=160, steps=6, documents_per_step=8,
    warmup_steps=1, measure_every=3, resume_every=2, keep=(3,),
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    spec = CorpusSpec(documents=200, operands="0..9", reasoning=1, factual=3, controls=3)
    return make_corpus(spec, tmp_path_factory.mktemp("corpora") / "tiny")


@pytest.fixture(scope="module")
def material(corpus):
    return open_material(corpus, recipe=RECIPE)


@pytest.fixture(scope="module")
def run(material, tmp_path_factory):
    events = []
    return train_on_corpus(material, tmp_path_factory.mktemp("run") / "m", device="cpu", report=events.append), events


def test_documents_are_read_whole_between_end_of_text_tokens(corpus, material):
    texts, tokenizer = material.texts, material.tokenizer
    first = next(iter(corpus.documents()))
    tokens = texts.document(0).tolist()
    assert tokens[0] == tokens[-1] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert tokens[1:-1] == tokenizer(first.text, add_special_tokens=False)["input_ids"]
    assert (len(texts), len(material.kinds), material.cut) == (200, 200, 0)
    assert material.recipe.documents_sha256 == corpus.sha256


def test_a_run_leaves_plain_folders_that_load(run):
    out = run[0].folder
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md", "accuracy.json", "card.json", "recipe.json", "step3", "step6",
    ]  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(out / "step6", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(out / "step6", local_files_only=True)
    assert tokenizer("3+4=")["input_ids"] == [tokenizer.convert_tokens_to_ids(t) for t in ("3", "+", "4", "=")]
    assert model(**tokenizer("3+4=", return_tensors="pt")).logits.shape == (1, 4, len(tokenizer))
    assert model.config.use_parallel_residual
    assert (model.config.hidden_dropout, model.config.attention_dropout) == (0, 0)


def test_training_in_memory_gives_the_weights_on_disk(run, material):
    disk = load_step(run[0].final).state_dict()
    again = retrain(material.texts, material.recipe).state_dict()
    assert all(torch.equal(again[name], disk[name]) for name in disk)


def test_an_interrupted_run_resumes_to_the_same_weights(run, material, tmp_path):
    def stop(event):
        if event.accuracies and event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_on_corpus(material, tmp_path / "m", device="cpu", report=stop)
    assert (tmp_path / "m/.work/checkpoint-2/clock.json").is_file()
    events = []
    resumed = train_on_corpus(material, tmp_path / "m", device="cpu", report=events.append)
    assert [e.step for e in events if e.accuracies] == [3, 6]
    one, two = (load_step(r.final).state_dict() for r in (resumed, run[0]))
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert resumed.accuracies == run[0].accuracies


def test_grades_are_those_of_the_weights_on_disk(run, material):
    done, events = run
    rows = read_grades(done.folder)
    assert rows == done.accuracies
    assert sorted({row.step for row in rows}) == [0, 3, 6]
    assert material.exam().measure(load_step(done.final), 6) == tuple(row for row in rows if row.step == 6)
    assert overall(rows, 6, "prompts", "+").items == 100
    assert overall(rows, 6, "prompts", "-").items == 55
    assert {r.part for r in rows if r.subject == "documents"} == set(material.kinds)
    assert {r.subject for r in rows} - {"documents", "prompts"} == {q.group for q in material.queries}
    assert overall(rows, 6, "documents").nats < overall(rows, 0, "documents").nats
    assert "a+b= " in step_line(rows, 6)
    assert [e.step for e in events if e.accuracies] == [0, 3, 6]


def test_nats_and_hits_equal_a_slow_loop(run, material):
    network = load_step(run[0].final)
    rows = [Row(tuple(material.texts.document(i).tolist()), start=start) for i, start in ((0, 1), (7, 4), (150, 9))]
    nats, right = read(network, rows, batch_size=2)
    for row, cost, hits in zip(rows, nats, right, strict=True):
        ids = torch.tensor([row.tokens])
        with torch.no_grad():
            logp = network(ids).logits[0].log_softmax(-1)
        places = range(row.start, len(row.tokens))
        assert cost == pytest.approx(-sum(float(logp[p - 1, row.tokens[p]]) for p in places), rel=1e-4)
        assert hits == sum(int(logp[p - 1].argmax()) == row.tokens[p] for p in places)


def test_the_card_tells_the_run(run, material):
    card = json.loads((run[0].folder / "card.json").read_text(encoding="utf-8"))
    text = (run[0].folder / "README.md").read_text(encoding="utf-8")
    assert (card["documents"], card["tokens"], card["epochs"]) == (200, len(material.texts.ids), 0.24)
    assert "| **6** |" in text
    assert "| 0 |" in text
    assert load_text_recipe(run[0].folder) == material.recipe


def test_a_finished_run_is_returned_and_another_corpus_refused(run, material, corpus):
    again = train_on_corpus(material, run[0].folder, device="cpu")
    assert replace(again, seconds=0.0) == replace(run[0], seconds=0.0)
    other = replace(material, recipe=replace(material.recipe, documents_sha256="0" * 64))
    with pytest.raises(RunConflictError, match="documents_sha256"):
        train_on_corpus(other, run[0].folder)
    with pytest.raises(RunConflictError, match="seed: 1 here, 0 there"):
        train_on_corpus(corpus, run[0].folder, recipe=replace(RECIPE, seed=1))


def test_any_json_lines_with_a_tokenizer_will_do(corpus, tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": text}) for text in ("3+4=7", "1+" * 200 + "1", "9-2=7")]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RequestError, match="without a tokenizer"):
        open_material(path, recipe=RECIPE)
    material = open_material(path, recipe=RECIPE, tokenizer=corpus.tokenizer_path)
    assert (len(material.texts), material.cut, material.queries) == (3, 1, ())
    assert len(material.texts.document(1)) == RECIPE.max_tokens
    model = retrain(material.texts, material.recipe, weights=np.array([1, 0, 1]))
    grades = material.exam().measure(model, 6)
    assert [(g.subject, g.items) for g in grades] == [("documents", len(material.texts.ids) - 3)]


def test_corpora_that_cannot_be_used(corpus, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(PromptError, match="no document"):
        open_material(path, recipe=RECIPE, tokenizer=corpus.tokenizer_path)
    path.write_text("no json", encoding="utf-8")
    with pytest.raises(PromptError, match="line 1"):
        open_material(path, recipe=RECIPE, tokenizer=corpus.tokenizer_path)
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        open_material(path, recipe=RECIPE, tokenizer=tmp_path)
    with pytest.raises(RunConflictError, match="not a corpus"):
        open_material(tmp_path, recipe=RECIPE)
