"""Data on disk: the same bytes in one go or after a stop, true labels, bad requests in one line."""

import hashlib
import json
from dataclasses import replace

import pytest
from cyclopts import App

from arithcirc.axioms import dataset
from arithcirc.axioms.data_spec import DataSpec, told_difference
from arithcirc.axioms.dataset import DataFolder, make_data, read_questions
from arithcirc.axioms.evaluation import Cell, evaluation_set
from arithcirc.axioms.mixes import Stream
from arithcirc.axioms.shortcuts import mention_order
from arithcirc.cli import axioms as command
from arithcirc.errors import PromptError, RequestError, RunConflictError
from arithcirc.training.tokenizer import load_tokenizer

SPEC = DataSpec(mixes=("TS1", "OCC"), train=40, validation=6, evaluation=10, longest=6, seed=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_data(SPEC, tmp_path_factory.mktemp("made") / "data")


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(questions, others):
    """Read from a text, a graph has its nodes in the order of their mention: compare all but that."""
    return [(q.graph.edges, q.cause, q.effect, q.label, q.hops) for q in questions] == [
        (q.graph.edges, q.cause, q.effect, q.label, q.hops) for q in others
    ]


def test_files_hold_the_stream_and_the_sets(made):
    stream = Stream(SPEC.stream("TS1").mix, seed=5)
    assert same(made.questions("train/TS1"), stream.examples(0, 40))
    assert same(made.questions("validation/TS1"), stream.examples(40, 46))
    cell = Cell("branching", 5, 1.4)
    assert same(made.questions("evaluation/branching-1.4-05"), evaluation_set(cell, number=10, seed=5))
    names = {name for name in made.files if name.startswith("evaluation/")}
    assert len(names) == 4 + 4 + 4 + 4 + 4 + 2
    for name in (n for n in made.files if n.endswith(".jsonl")):
        labels = [json.loads(line)["label"] for line in (made.path / name).read_text().splitlines()]
        assert 2 * labels.count("Yes") == len(labels) == made.files[name]["questions"]
    first = json.loads((made.path / "train/TS1.jsonl").read_text().splitlines()[0])
    assert set(first) == {"text", "label", "hops"}


def test_the_manifest_says_what_is_there(made):
    assert DataFolder.open(made.path) == made
    for name, facts in made.files.items():
        assert facts["sha256"] == hashlib.sha256((made.path / name).read_bytes()).hexdigest()
    assert made.files["train/TS1.jsonl"]["kinds"] == {"flipped": 18, "sequential": 22}
    assert made.files["validation/TS1.jsonl"]["in_train"] == {"questions": 0, "share": 0}
    facts = made.files["evaluation/reversal-06.jsonl"]["shortcuts"]
    asked = list(made.questions("evaluation/reversal-06"))
    assert facts["mention order"]["accuracy"] == sum(mention_order(q) == q.label for q in asked) / 10
    assert made.files["evaluation/sequential-06.jsonl"]["shortcuts"]["mention order"] == {"accuracy": 1, "hard": 1}
    assert len(load_tokenizer(made.tokenizer_path)) == 70


def test_a_stopped_command_goes_on_to_the_same_bytes(made, tmp_path, monkeypatch):
    calls = []

    class Stopped(Exception):
        pass

    def stop_at(number, real=Stream.example):
        def example(self, index):
            calls.append(index)
            if len(calls) == number:
                raise Stopped
            return real(self, index)

        monkeypatch.setattr(Stream, "example", example)

    stop_at(25)
    with pytest.raises(Stopped):
        make_data(SPEC, tmp_path / "data")
    with pytest.raises(RunConflictError, match=r"is unfinished \(no train/TS1\.jsonl\)"):
        DataFolder.open(tmp_path / "data")
    part = tmp_path / "data" / "train" / "TS1.jsonl.part"
    part.write_bytes(part.read_bytes()[:-7])  # a kill in the middle of a line
    calls.clear()
    stop_at(10**9)
    again = make_data(SPEC, tmp_path / "data")
    assert calls[:3] == [22, 23, 24]  # the last whole line is checked, then the next is written
    assert bytes_of(again.path) == bytes_of(made.path)


def test_what_is_missing_or_altered_is_made_again_and_the_rest_kept(made, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    make_data(SPEC, folder)
    (folder / "train/OCC.jsonl").unlink()
    (folder / "train/OCC.jsonl.part").write_text('{"text": "not the line"}\n')  # left by something else
    (folder / "evaluation/flipped-05.jsonl").write_text("altered\n")
    written = []
    real = dataset._write
    monkeypatch.setattr(dataset, "_write", lambda *given: written.append(given[2]) or real(*given))
    make_data(SPEC, folder)
    assert sorted(written) == ["evaluation/flipped-05.jsonl", "train/OCC.jsonl"]
    assert bytes_of(folder) == bytes_of(made.path)


def test_another_spec_or_other_files_are_not_overwritten(made, tmp_path):
    with pytest.raises(RunConflictError, match="holds other data \\(seed: 5 in the folder, 6 asked\\)"):
        make_data(replace(SPEC, seed=6), made.path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunConflictError, match="holds something that is no axiom data"):
        make_data(SPEC, tmp_path)
    with pytest.raises(RunConflictError, match=r"no dataset\.json"):
        DataFolder.open(tmp_path)
    for text in (
        "{",
        "[]",
        '{"schema": 1, "spec": {"sede": 1}, "files": {}}',
        '{"schema": 1, "spec": {}, "files": []}',
    ):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(RunConflictError, match="is damaged"):
            DataFolder.open(tmp_path)
    (tmp_path / "dataset.json").write_text('{"schema": 9, "spec": {}, "files": {}}')
    with pytest.raises(RunConflictError, match="has schema 9"):
        DataFolder.open(tmp_path)
    with pytest.raises(RequestError, match="has no questions 'train/TS9'"):
        made.questions("train/TS9")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("3", "line 2 has no text"),
        ('{"text": "A causes B. B causes A. Does A cause B?", "label": "Yes"}', "line 2: .* has a cycle"),
        ('{"text": "A leads B. Does A cause B?", "label": "Yes"}', "line 2: .* unknown word 'leads'"),
        ('{"text": "A causes B. Does A cause B?", "label": "No"}', "label 'No', but 'Yes' follows"),
        ('{"text": "A causes B. Does A cause B?"}', "label None"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, line, message):
    file = tmp_path / "own.jsonl"
    file.write_text('{"text": "A causes B. Does B cause A?", "label": "No"}\n' + line + "\n")
    with pytest.raises(PromptError, match=message) as error:
        list(read_questions(file))
    assert "\n" not in str(error.value)
    with pytest.raises(PromptError, match="cannot be read"):
        list(read_questions(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": 7}, "7 train questions cannot be half Yes"),
        ({"evaluation": -2}, "number of evaluation questions is -2"),
        ({"mixes": ("TS3",)}, "unknown mix 'TS3'"),
        ({"mixes": ("TS1", "ts1")}, "give each once"),
        ({"families": ("circle",)}, "unknown family"),
        ({"mixes": (), "evaluation": 0}, "neither a mix nor an evaluation set"),
        ({"lengths": (1, 2)}, "length of a chain is 1"),
        ({"longest_name": 0}, "longest length of names is 0"),
        ({"vocab": 71}, "no vocabulary of 71"),
        ({"seed": -1}, "seed is -1"),
        ({"lengths": (63,), "longest_name": 1}, "63 names are asked"),
        ({"longest": 2}, r"no evaluation set of sequential, .* has 2 node\(s\) or fewer: use --longest 3"),
        ({"families": ("branching",), "longest": 4}, "of branching has 4 node.*: use --longest 5 or more"),
    ],
)
def test_a_spec_that_cannot_be_made_is_refused(fields, message):
    with pytest.raises(RequestError, match=message):
        DataSpec(**fields)


def test_sets_need_room_only_where_they_are_asked_for():
    assert DataSpec(longest=2, evaluation=0).cells() == DataSpec(longest=2, families=()).cells() == ()
    assert [cell.name for cell in DataSpec(longest=3, families=("names", "branching")).cells()] == ["names-03"]


@pytest.mark.parametrize(
    ("held", "asked", "said"),
    [
        ({}, {}, None),
        ({"lengths": tuple(range(2, 201))}, {}, "lengths: 2..200 in the folder, 3..6 asked"),
        ({"lengths": (2, 4)}, {"seed": 3}, "lengths: 2, 4 in the folder, 3..6 asked; 1 more differs"),
        ({"mixes": ()}, {"vocab": 69, "seed": 3}, "mixes: none in the folder, TS1, TS2, OCC asked; 2 more differ"),
        ({"lengths": tuple(range(2, 41, 2))}, {}, "2, 4, 6, 8, 10, 12, 14, 16 and 12 more in the folder, 3..6 asked"),
    ],
)
def test_one_short_difference_is_told(held, asked, said):
    told = told_difference(DataSpec(**asked).to_json(), DataSpec(**held).to_json())
    assert told == said or (said and told.endswith(said))


def test_questions_of_validation_that_train_has_too_are_counted(tmp_path):
    spec = DataSpec(("OCC",), train=2000, validation=1000, evaluation=0, lengths=(2,), longest_name=1)
    made = make_data(spec, tmp_path / "data")
    trained, held = (
        [(q.graph.edges, q.cause) for q in made.questions(f"{part}/OCC")] for part in ("train", "validation")
    )
    known = set(trained)
    seen = sum(asked in known for asked in held)
    assert 150 < seen < 300  # 2,000 drawn of 7,564 leave 77 in 100 out
    assert made.files["validation/OCC.jsonl"]["in_train"] == {"questions": seen, "share": seen / 1000}


def test_the_smaller_vocabulary_gives_names_without_its_letter(tmp_path):
    spec = DataSpec(mixes=("TS2",), train=60, validation=0, evaluation=0, vocab=69)
    made = make_data(spec, tmp_path / "data")
    assert "y" not in "".join(node for q in made.questions("train/TS2") for node in q.graph.nodes)
    assert len(load_tokenizer(made.tokenizer_path)) == 69
    assert DataSpec.from_json(spec.to_json()) == spec


def test_the_command_writes_data_and_shows_the_shortcuts(tmp_path, capsys):
    app = App()
    app.command(command.app)

    def run(*options):
        arguments = ["axioms", "data", "--out", str(tmp_path / "data"), *options]
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")

    options = ("--mixes", "TS2", "--train", "8", "--validation", "2", "--evaluation", "4", "--longest", "4",
               "--families", "reversal,sequential", "--name-length", "1", "--lengths", "3..4")  # fmt: skip
    run(*options)
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line}
    assert rows["evaluation/sequential-04.jsonl"][:2] == ["4", "1.000"]
    made = DataFolder.open(tmp_path / "data")
    assert made.spec.lengths == (3, 4)
    assert {len(node) for q in made.questions("train/TS2") for node in q.graph.nodes} == {1}
    with pytest.raises(RunConflictError, match="holds other data"):
        run(*options, "--seed", "1")
    with pytest.raises(RequestError, match="--lengths is '4-3': write a range"):
        run("--lengths", "4-3")
