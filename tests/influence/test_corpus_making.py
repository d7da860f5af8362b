"""Making a corpus: the same bytes every time, one document at a time, whole or not at all, bad requests in one line."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoTokenizer

from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.influence.corpus import CorpusFolder, CorpusSpec, generate, make_corpus
from arithcirc.influence.corpus.dice import Dice, shuffled
from arithcirc.influence.corpus.plan import make_plan
from arithcirc.influence.corpus.spec import parse_shares
from arithcirc.influence.corpus.texts import document
from arithcirc.influence.corpus.vocabulary import TokenCounter
from arithcirc.influence.documents import KINDS

SPEC = CorpusSpec(documents=200, seed=1, factual=6, reasoning=2, controls=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_corpus(SPEC, tmp_path_factory.mktemp("made") / "corpus")


def files(corpus):
    return {
        str(p.relative_to(corpus.path)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(corpus.path.rglob("*"))
        if p.is_file()
    }


def test_the_same_spec_gives_the_same_bytes_and_another_seed_other_ones(made, tmp_path):
    again = make_corpus(CorpusSpec.from_json(made.spec.to_json()), tmp_path / "again")
    assert files(again) == files(made)
    assert set(files(made)) == {
        "corpus.json", "documents.jsonl", "queries.jsonl", "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    }  # fmt: skip
    other = make_corpus(replace(SPEC, seed=2), tmp_path / "other")
    assert other.sha256 != made.sha256
    names = [{h.split(":")[1] for d in c.documents() for h in d.holds if h[:5] == "fact:"} for c in (made, other)]
    assert names[0] != names[1]


def test_the_bytes_are_those_of_every_machine():
    assert shuffled(3, 1, 0, 8).tolist() == np.argsort(np.random.Philox(key=[(3 << 8) | 1, 0]).random_raw(8)).tolist()
    dice = Dice(7, 2, 11)
    assert [dice.below(10) for _ in range(5)] + [dice.between(3, 5)] == DRAWN


DRAWN = [5, 0, 7, 9, 3, 5]


def test_a_document_is_a_function_of_its_number(made):
    plan, count = make_plan(SPEC), TokenCounter(99)
    kept = list(made.documents())
    for number in (199, 0, 150, 7, 150):
        assert document(plan, number, count) == kept[number]


def test_dice_are_fair():
    dice = Dice(0, 0, 0)
    rolls = np.bincount([dice.below(6) for _ in range(6000)], minlength=6)
    assert ((rolls - 1000) ** 2 / 1000).sum() < 20.5  # chi-squared with 5 degrees, p = .001
    picked = [dice.weighted((("a", 0.2), ("b", 0.8))) for _ in range(2000)]
    assert abs(picked.count("a") / 2000 - 0.2) < 0.04
    assert sorted(shuffled(1, 2, 3, 500).tolist()) == list(range(500))


def test_shares_are_exact_for_any_number():
    for documents in (200, 333, 1001):
        spec = replace(SPEC, documents=documents, shares=(("fact", 1.0), ("code", 2.0)))
        counts = spec.counts()
        assert sum(counts.values()) == documents
        assert counts["equation"] == 0
        assert abs(counts["code"] - 2 * documents / 3) < 1
    plan = make_plan(SPEC)
    kinds = [plan.place(i)[0] for i in range(200)]
    assert {kind: kinds.count(kind) for kind in KINDS} == SPEC.counts()


def test_a_corpus_can_lack_a_kind(tmp_path):
    spec = replace(SPEC, shares=parse_shares("fact=0.5, equation=0.5"))
    assert {d.kind for d in make_corpus(spec, tmp_path / "two").documents()} == {"fact", "equation"}
    spec = replace(SPEC, shares=parse_shares("distractor=1"), factual=0)
    assert {d.kind for d in make_corpus(spec, tmp_path / "noise").documents()} == {"distractor"}


def test_the_tokenizer_loads_and_serves_the_arithmetic_prompts(made):
    tokenizer = AutoTokenizer.from_pretrained(made.tokenizer_path, local_files_only=True)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (
        0, 0, 1, 2,
    )  # fmt: skip
    assert tokenizer.encode("12+7=") == tokenizer.encode("12+7=", add_special_tokens=False)
    encoder = prompt_encoder(tokenizer)
    assert (encoder.limit, encoder.length, encoder.bos) == (99, 5, 0)
    assert tokenizer.decode(tokenizer.encode("Slope of (1,2) (3,6): first 6-2=4, then")) == (
        "Slope of (1,2) (3,6): first 6-2=4, then"
    )


def test_a_finished_corpus_is_not_made_again(made, monkeypatch):
    monkeypatch.setattr(generate, "make_plan", None)
    assert make_corpus(SPEC, made.path) == made
    with pytest.raises(RunConflictError, match="seed: 1 in the folder, 9 asked"):
        make_corpus(replace(SPEC, seed=9), made.path)


def test_an_interrupted_corpus_is_made_anew(made, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        make_corpus(SPEC, folder, progress=interrupted)
    assert [p.name for p in folder.iterdir()] == ["documents.jsonl.part"]
    with pytest.raises(RunConflictError, match="is not a corpus"):
        CorpusFolder.open(folder)
    monkeypatch.setattr(generate, "write_items", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(SPEC, folder)
    monkeypatch.undo()
    assert files(make_corpus(SPEC, folder)) == files(made)


def test_a_damaged_or_foreign_folder_is_refused(tmp_path):
    made = make_corpus(SPEC, tmp_path / "c")
    made.documents_path.write_text(made.documents_path.read_text()[:-20])
    with pytest.raises(RunConflictError, match=r"documents\.jsonl is not what was made"):
        make_corpus(SPEC, made.path)
    made.queries_path.unlink()
    with pytest.raises(RunConflictError, match=r"lacks queries\.jsonl"):
        CorpusFolder.open(made.path)
    (made.path / "corpus.json").write_text("{")
    with pytest.raises(RunConflictError, match="is damaged"):
        CorpusFolder.open(made.path)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    with pytest.raises(RunConflictError, match="something that is no corpus"):
        make_corpus(SPEC, foreign)
    assert [p.name for p in foreign.iterdir()] == ["thesis.tex"]


def test_twenty_thousand_documents_stream(tmp_path):
    """In a process of its own, without the checks of types that slow every call while tests run."""
    done = subprocess.run([sys.executable, "-c", STREAM, str(tmp_path / "large")], capture_output=True, check=True)
    told, seconds, kibibytes = json.loads(done.stdout)
    assert told == 20_000
    assert seconds < 30
    assert kibibytes < 20_000  # the file alone has 10 MB
    with (tmp_path / "large" / "documents.jsonl").open() as file:
        assert sum(bool(json.loads(line)["text"]) for line in file) == 20_000


STREAM = """
import json, resource, sys, time
from arithcirc.influence.corpus import CorpusSpec, make_corpus
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told, before, start = [], used(), time.process_time()
make_corpus(CorpusSpec(documents=20_000, seed=4), sys.argv[1], progress=told.append)
print(json.dumps([sum(told), time.process_time() - start, used() - before]))
"""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"documents": 10}, "documents is 10: use 200 to"),
        ({"documents": 10**8}, "documents is 100000000"),
        ({"seed": -1}, "seed is -1"),
        ({"operands": "0..5"}, "operands 0..5 are too small"),
        ({"operands": "all"}, "'all' is not understood"),
        ({"operands": "0..9000"}, "use at most 0..4999"),
        ({"limit": 20}, "limit is 20: use 40"),
        ({"max_tokens": 10}, "max_tokens is 10"),
        ({"factual": -1}, "number of factual queries is -1"),
        ({"shares": (("poem", 1.0),)}, "unknown kind of document 'poem': use equation"),
        ({"shares": (("fact", -1.0), ("code", 1.0))}, "shares fact=-1.0"),
        ({"shares": (("fact", 0.0),)}, "shares are all 0"),
        ({"shares": (("fact", 1.0), ("fact", 2.0))}, "give each kind once"),
    ],
)
def test_a_bad_spec_is_one_line(changes, says):
    with pytest.raises(RequestError) as error:
        CorpusSpec(**changes)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"factual": 500}, "200 documents are too few for 500 factual queries"),
        ({"shares": (("equation", 1.0),)}, "too few for 6 factual"),
        ({"reasoning": 900}, "900 reasoning queries a task are too many"),
        ({"controls": 900}, "900 control queries are too many"),
    ],
)
def test_queries_that_do_not_fit_are_refused_before_anything_is_written(changes, says, tmp_path):
    with pytest.raises(RequestError, match=says):
        make_corpus(replace(SPEC, **changes), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_shares_and_specs_read_from_text_are_checked():
    assert parse_shares("fact=1,code=3") == (
        ("equation", 0.0), ("procedure", 0.0), ("code", 3.0), ("fact", 1.0), ("distractor", 0.0),
    )  # fmt: skip
    for text in ("fact", "fact=much", "=1"):
        with pytest.raises(RequestError, match=r"write kind=number|unknown kind"):
            parse_shares(text)
    with pytest.raises(RequestError, match="unknown corpus setting"):
        CorpusSpec.from_json({"documents": 500, "colour": "red"})
