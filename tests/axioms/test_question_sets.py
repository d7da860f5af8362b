"""Question files: whole folders made twice are equal, go on where they stopped, and refuse another request."""

import json
import shutil

import pytest

from arithcirc.axioms.lines import read_lines
from arithcirc.axioms.question_sets import MANIFEST, make_correlation, make_separation
from arithcirc.axioms.separation_questions import EVALUATION, parse_separation
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.store import sha256_file

SMALL = {"train": 20, "validation": 10, "evaluation": 2, "seed": 1}


@pytest.fixture(scope="module")
def separation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("separation") / "made"
    return folder, make_separation(folder, **SMALL)


@pytest.fixture(scope="module")
def correlation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("correlation") / "made"
    return folder, make_correlation(folder, train=20, validation=4, test=10, seed=1)


def test_separation_has_every_set_half_yes_with_the_true_shortcut(separation):
    folder, files = separation
    assert len(files) == 2 + len(EVALUATION)
    for name, facts in files.items():
        rows = list(read_lines(folder / name))
        asked = [parse_separation(row["text"]) for row in rows]
        assert facts["questions"] == len(rows) == 2 * sum(q.label for q in asked)
        assert [row["label"] == "Yes" for row in rows] == [q.label for q in asked]
        assert facts["shortcut"] == sum(q.adjacent != q.label for q in asked) / len(asked)
        assert facts["sha256"] == sha256_file(folder / name)
    texts = [{row["text"] for row in read_lines(folder / f"{part}.jsonl")} for part in ("train", "validation")]
    assert not texts[0] & texts[1]


def test_correlation_tests_on_classes_that_training_never_shows(correlation):
    folder, files = correlation
    assert {name: facts["questions"] for name, facts in files.items()} == {
        "train.jsonl": 20,
        "validation.jsonl": 4,
        "test.jsonl": 10,
    }
    assert all(2 * sum(r["label"] == "Yes" for r in read_lines(folder / n)) == f["questions"] for n, f in files.items())
    assert {len(row["variables"]) for row in read_lines(folder / "test.jsonl")} <= {4, 5, 6}


def test_progress_is_told_of_every_thousand(tmp_path):
    told = []
    make_separation(tmp_path / "new", train=1000, validation=0, evaluation=0, progress=lambda *seen: told.append(seen))
    assert told == [("train.jsonl", 1000, 1000)]
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == [MANIFEST, "train.jsonl"]


def test_the_same_call_makes_what_is_missing_or_altered_and_nothing_else(separation, tmp_path):
    folder, files = separation
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    (again / "validation.jsonl").unlink()
    (again / "evaluation" / "flipped-09.jsonl").write_text("altered\n")
    kept = again / "train.jsonl"
    before = kept.stat().st_mtime_ns
    assert make_separation(again, **SMALL) == files
    assert kept.stat().st_mtime_ns == before
    assert all(sha256_file(again / name) == facts["sha256"] for name, facts in files.items())
    assert (again / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()


def test_another_request_and_a_folder_of_something_else_are_refused(separation, tmp_path):
    folder, _ = separation
    with pytest.raises(RunConflictError, match=r"holds other questions .*seed"):
        make_separation(folder, **(SMALL | {"seed": 2}))
    with pytest.raises(RunConflictError, match="holds other questions"):
        make_correlation(folder, train=2, validation=0, test=0)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunConflictError, match="no set of questions"):
        make_separation(tmp_path, **SMALL)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / MANIFEST).write_text(json.dumps({"spec": []})[:-1])
    with pytest.raises(RunConflictError, match="is damaged"):
        make_separation(broken, **SMALL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: make_separation(folder, train=3), "3 train questions cannot be half"),
        (lambda folder: make_separation(folder, evaluation=-2), "number of evaluation questions is -2"),
        (lambda folder: make_correlation(folder, sizes=(3,)), "sizes 3 leave no class for tests"),
        (lambda folder: make_correlation(folder, sizes=(8,)), "number of variables is 8: use 3 to 6"),
    ],
)
def test_impossible_numbers_are_refused_before_anything_is_written(make, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        make(tmp_path / "new")
    assert not (tmp_path / "new").exists()
