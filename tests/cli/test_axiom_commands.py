"""`arithcirc axioms`: what Ctrl-C keeps, errors before any bar, and folders that lost a manifest or are no run."""

import json
import signal
import threading
from dataclasses import replace

import pytest
import torch
from axioms import planted_axioms as planted
from axioms.tiny_axiom import TINY_AXIOM

from arithcirc.axioms.exam import AxiomGrade
from arithcirc.axioms.study import single
from arithcirc.axioms.study import study as studies
from arithcirc.cli import show_axioms
from arithcirc.cli.interrupts import Interrupted, training_ctrl_c
from arithcirc.training.trainer import resumes_at

SHORT = replace(TINY_AXIOM, steps=8, curriculum_steps=2, measure_every=2, exam_questions=4, positions=64)


@pytest.fixture
def recipe(tmp_path):
    """A recipe of eight steps, as a file."""
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(SHORT.to_json()), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def _ctrl_c_raises(monkeypatch):
    """However the tests were started, Ctrl-C is handled as in a terminal; what was handled is put back."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_the_first_ctrl_c_asks_and_the_second_ends(tmp_path, capfd):
    with training_ctrl_c(tmp_path) as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
    assert "Ctrl-C again ends at once" in capfd.readouterr().err
    assert resumes_at(tmp_path) == 0
    for step, whole in ((6, True), (12, True), (18, False)):
        (tmp_path / f".work/checkpoint-{step}").mkdir(parents=True)
        if whole:
            (tmp_path / f".work/checkpoint-{step}/clock.json").write_text("{}")
    with pytest.raises(Interrupted, match=r"goes on at step 12$"):
        _press_twice(tmp_path)


def _press_twice(folder):
    with training_ctrl_c(folder) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_that_is_not_ours_is_left_alone(tmp_path, monkeypatch):
    found = []

    def look():
        with training_ctrl_c(tmp_path) as stop:
            found.append(stop)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    look()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setenv("WORLD_SIZE", "2")
    look()
    assert found == [None] * 3


def test_a_training_stops_behind_its_step_and_goes_on_there(cli, recipe, tmp_path, monkeypatch):
    words = ("axioms", "train", "--preset", recipe, "--out", tmp_path / "out", "--device", "cpu")
    folder, exam = tmp_path / "out/models/TS2-none-s0", show_axioms.exam

    def pressed(rows):
        if rows[0].step == 4:
            signal.raise_signal(signal.SIGINT)
        return exam(rows)

    monkeypatch.setattr(show_axioms, "exam", pressed)
    cli(*words).refused("stopped as asked at step 4 of 8", code=1)
    assert resumes_at(folder) == 4
    assert cli(*words).code == 0
    rows = json.loads((folder / "accuracy.json").read_text(encoding="utf-8"))
    assert sorted({row["step"] for row in rows}) == [0, 2, 4, 6, 8]
    assert len({(row["step"], row["cell"]) for row in rows}) == len(rows)


def test_an_interrupted_study_says_what_is_kept(cli, recipe, tmp_path, monkeypatch):
    def pressed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "run_study", pressed)
    monkeypatch.setattr(single, "evaluate_folder", pressed)
    words = ("axioms", "study", "--preset", recipe, "--questions", "4", "--longest", "5", "--out", tmp_path / "out")
    cli(*words, "--mixes", "TS1", "--positions", "none", "--workers", "1").refused(
        "trained and asked are kept", "one every 6 steps", code=1
    )
    cli(*words, "--evaluate", tmp_path).refused("not kept, the same command asks again", code=1)


def test_a_device_that_is_not_here_is_said_before_any_bar(cli, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = cli("axioms", "train", "--preset", recipe, "--out", tmp_path / "out", "--device", "cuda")
    said.refused("torch sees no GPU")
    assert said.err.splitlines() == said.complaints
    assert not (tmp_path / "out").exists()


def test_a_foreign_model_is_refused_before_any_bar(cli, toy_folder, tmp_path):
    for words in (("study", "--evaluate", toy_folder), ("open", toy_folder)):
        said = cli("axioms", *words, "--out", tmp_path / "out")
        said.refused("has another vocabulary")
        assert said.err.splitlines() == said.complaints


def test_an_exam_without_any_right_answer_says_why():
    none = [AxiomGrade(0, "flipped-06", 200, 0), AxiomGrade(0, "sequential-06", 200, 0)]
    assert "flipped-06 0.000" in show_axioms.exam(none)
    assert "neither Yes nor No" in show_axioms.exam(none)
    assert show_axioms.exam([*none, AxiomGrade(0, "names-06", 200, 50)]).endswith("names-06 0.250")


def test_a_folder_without_its_manifest_is_named_and_a_study_is_no_run(cli, tmp_path):
    root = tmp_path / "small"
    for name in ("none", "learned"):
        planted.write_opening(root / "opening" / name)
    cli("export", root, "--out", tmp_path / "pages").refused(f"{root}/opening/learned or {root}/opening/none", "study")
    assert not cli("axioms", "report", root).err
    (root / "opening/none/manifest.json").unlink()
    for folder in (root, root / "opening"):
        said = cli("axioms", "report", folder)
        assert said.code == 0
        assert f"{root}/opening/none has tables but no manifest.json" in " ".join(said.err.split())
        assert "opening/none: it has tables but no manifest.json" in (root / "report.html").read_text(encoding="utf-8")
    (root / "opening/learned/manifest.json").unlink()
    cli("axioms", "report", root).refused("opening/none has tables but no manifest.json: it is damaged")
