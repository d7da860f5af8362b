"""Question folders: equal twice, go on where they stopped, count what is in them, and refuse another request."""

import json
import shutil
from dataclasses import replace

import pytest
from cyclopts import App

from arithcirc.axioms.lines import in_train, read_lines
from arithcirc.axioms.question_sets import MANIFEST, make_questions
from arithcirc.axioms.question_specs import CorrelationSpec, SeparationSpec
from arithcirc.axioms.separation_questions import EVALUATION, SeparationStream, parse_separation
from arithcirc.axioms.tokenizer import build_core, encode
from arithcirc.cli import axioms as command
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.store import sha256_file
from arithcirc.training.tokenizer import load_tokenizer

SEPARATION = SeparationSpec(train=20, validation=10, evaluation=2, seed=1)
CORRELATION = CorrelationSpec(train=20, validation=4, evaluation=6, seed=1)


@pytest.fixture(scope="module")
def separation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("separation") / "made"
    return folder, make_questions(SEPARATION, folder)


@pytest.fixture(scope="module")
def correlation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("correlation") / "made"
    return folder, make_questions(CORRELATION, folder)


def asked(made):
    folder, files = made
    return {name: list(read_lines(folder / name)) for name in files if name.endswith(".jsonl")}


def test_separation_has_every_set_half_yes_with_the_true_shortcut(separation):
    folder, files = separation
    assert len(asked(separation)) == 2 + len(EVALUATION)
    for name, rows in asked(separation).items():
        facts, read = files[name], [parse_separation(row["text"]) for row in rows]
        assert facts["questions"] == len(rows) == 2 * sum(q.label for q in read) == 2 * facts["yes"]
        assert [row["label"] == "Yes" for row in rows] == [q.label for q in read]
        assert facts["shortcuts"]["no stated edge"]["accuracy"] == sum(q.adjacent != q.label for q in read) / len(read)
        assert facts["given"] == {str(n): k for n in range(5) if (k := sum(len(q.given) == n for q in read))}
        assert facts["sha256"] == sha256_file(folder / name)
    for cell, most in EVALUATION:
        rows = asked(separation)[f"evaluation/{cell.name}.jsonl"]
        assert {row["nodes"] for row in rows} == {cell.nodes}
        assert max(len(row["given"]) for row in rows) <= most


def test_correlation_asks_about_classes_that_training_never_shows(correlation):
    _, files = correlation
    rows = asked(correlation)
    sizes = {"train": 20, "validation": 4} | {f"evaluation/unseen-0{number}": 6 for number in (4, 5, 6)}
    assert {name: len(found) for name, found in rows.items()} == {f"{name}.jsonl": n for name, n in sizes.items()}
    for name, found in rows.items():
        facts = files[name]
        assert 2 * sum(row["label"] == "Yes" for row in found) == 2 * facts["yes"] == len(found)
        assert facts["shortcuts"]["pair alone"]["accuracy"] == sum(r["shortcut"] == r["label"] for r in found) / len(
            found
        )
        assert sum(facts["relation"].values()) == sum(facts["variables"].values()) == len(found)
    assert {len(row["variables"]) for row in rows["evaluation/unseen-05.jsonl"]} == {5}


def test_each_tokenizer_writes_every_text_of_its_task_and_ids_agree(separation, correlation):
    for made, tokens in ((separation, 77), (correlation, 100)):
        folder, files = made
        loaded = load_tokenizer(folder / "tokenizer")
        assert len(loaded) == tokens == files["tokenizer/tokenizer.json"]["tokens"]
        for rows in asked(made).values():
            for row in rows:
                assert loaded.decode(loaded(row["text"])["input_ids"]).lower() == row["text"].lower()
    small, large = build_core(task="d-separation"), build_core(task="correlation")
    assert small.get_vocab().items() <= large.get_vocab().items()
    text = asked(correlation)["train.jsonl"][0]["text"]
    assert large.decode(encode(large, text)) == text  # `Is` and `is` are two tokens
    assert len(encode(large, "A correlates with B. Is A among the parents of B?")) == 13


def test_what_validation_shares_with_train_is_counted(tmp_path):
    spec = SeparationSpec(train=200, validation=40, evaluation=0, lengths=(3,), shortest_name=1, longest_name=1)
    made = make_questions(spec, tmp_path / "data")
    lines = (tmp_path / "data/train.jsonl").read_text().splitlines()
    own = tmp_path / "own.jsonl"
    own.write_text("\n".join([lines[7], lines[7], '{"text": "?", "label": "No"}', lines[3]]) + "\n")
    assert in_train(own, tmp_path / "data/train.jsonl") == {"questions": 3, "share": 0.75}
    texts = [{row["text"] for row in read_lines(tmp_path / f"data/{part}.jsonl")} for part in ("train", "validation")]
    assert made["validation.jsonl"]["in_train"]["questions"] == len(texts[0] & texts[1])
    assert "in_train" not in made["train.jsonl"]


def test_a_stopped_call_goes_on_to_the_same_bytes(separation, tmp_path, monkeypatch):
    folder, files = separation
    again, calls, real = tmp_path / "again", [], SeparationStream.question

    def question(self, index):
        calls.append(index)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return real(self, index)

    monkeypatch.setattr(SeparationStream, "question", question)
    with pytest.raises(KeyboardInterrupt):
        make_questions(SEPARATION, again)
    part = again / "train.jsonl.part"
    part.write_bytes(part.read_bytes()[:-7])  # a kill in the middle of a line
    calls.append(None)
    told = []
    assert make_questions(SEPARATION, again, progress=lambda *seen: told.append(seen)) == files
    assert calls[16:19] == [12, 13, 14]  # the last whole line is checked, then the next is written
    assert (again / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
    assert told[:2] == [("d-separation/train", 20, 20), ("d-separation/validation", 10, 10)]
    assert told[-1] == ("d-separation/evaluation/branching-1.4-12", 2, 2)


def test_the_same_call_makes_what_is_missing_or_altered_and_nothing_else(separation, tmp_path):
    folder, files = separation
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    (again / "validation.jsonl").unlink()
    (again / "evaluation" / "flipped-09.jsonl").write_text("altered\n")
    (again / "evaluation" / "flipped-09.jsonl.part").write_text('{"text": "of something else"}\n')
    kept = again / "train.jsonl"
    before = kept.stat().st_mtime_ns
    assert make_questions(SEPARATION, again) == files
    assert kept.stat().st_mtime_ns == before
    assert all(sha256_file(again / name) == facts["sha256"] for name, facts in files.items())
    assert (again / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()


def test_another_request_and_a_folder_of_something_else_are_refused(separation, tmp_path):
    folder, _ = separation
    with pytest.raises(RunConflictError, match=r"holds other data .*seed"):
        make_questions(replace(SEPARATION, seed=2), folder)
    with pytest.raises(RunConflictError, match="holds other data"):
        make_questions(CORRELATION, folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunConflictError, match="no axiom data"):
        make_questions(SEPARATION, tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for text, message in (('{"spec": []', "is damaged"), ('{"schema": 9, "spec": {}, "files": {}}', "has schema 9")):
        (broken / MANIFEST).write_text(text)
        with pytest.raises(RunConflictError, match=message):
            make_questions(SEPARATION, broken)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SeparationSpec(train=3), "3 train questions cannot be half"),
        (lambda: SeparationSpec(evaluation=-2), "number of evaluation questions is -2"),
        (lambda: SeparationSpec(train=0, validation=0, evaluation=0), "no question of d-separation is asked for"),
        (lambda: SeparationSpec(longest=4), "no evaluation set of d-separation has 4 .* use --longest 5 or more"),
        (lambda: SeparationSpec(lengths=(2, 3)), "pairs of 2 nodes are never d-separated"),
        (lambda: SeparationSpec(lengths=(63,), longest_name=1), "63 names are asked, .* there are 62"),
        (lambda: CorrelationSpec(variables=(3,)), "3 variables leave no class for evaluation"),
        (lambda: CorrelationSpec(variables=(8,)), "number of variables is 8: use 3 to 6"),
        (lambda: CorrelationSpec(validation=5), "5 validation questions cannot be half"),
        (lambda: CorrelationSpec(seed=-1), "seed is -1"),
    ],
)
def test_impossible_requests_are_refused_in_one_line(make, message):
    with pytest.raises(RequestError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_the_command_writes_every_task_in_a_folder_of_its_own(tmp_path, capsys):
    app = App()
    app.command(command.app)
    out = tmp_path / "data"

    def run(*options):
        arguments = ["axioms", "data", "--out", str(out), "--train", "8", "--validation", "2", *options]
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return capsys.readouterr().out

    small = ("--evaluation", "2", "--longest", "5", "--lengths", "3..4", "--variables", "3..4", "--mixes", "TS2")
    shown = run("--tasks", "correlation,d-separation", *small)
    assert "no stated edge" in shown
    assert "pair alone" in shown
    with pytest.raises(RequestError, match="unknown task 'd-seperation': use transitivity, d-separation, correlation"):
        run("--tasks", "d-seperation", *small)
    with pytest.raises(RequestError, match="--tasks is ',': name one or more"):
        run("--tasks", ",", *small)
    with pytest.raises(RequestError, match=r"--lengths is '3\.\.999999': write a range of at most 10,000"):
        run("--lengths", "3..999999")
    with pytest.raises(RequestError, match="number of variables is 7"):
        run("--tasks", "transitivity,correlation", "--variables", "4..7")
    assert sorted(path.name for path in out.iterdir()) == ["correlation", "d-separation"]  # checked before written
    run(*small, "--families", "reversal")  # transitivity comes in beside them
    assert {path.name for path in out.iterdir()} > {"correlation", "d-separation", "train", MANIFEST}
    held = json.loads((out / "d-separation" / MANIFEST).read_text())
    assert held["spec"]["lengths"] == [3, 4]
    assert [name for name in held["files"] if name.startswith("evaluation")] == ["evaluation/branching-1.4-05.jsonl"]
    assert held["files"]["train.jsonl"]["nodes"].keys() == {"3", "4"}
    with pytest.raises(RunConflictError, match="holds questions of d-separation, not of transitivity"):
        command.data(out=out / "d-separation")
