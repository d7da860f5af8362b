"""A sweep's folder: it may grow, its settings stay, one sweep works in it, and its disk is watched."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
from scripted import model, planned

from arithcirc.catalogue import SweepFolder
from arithcirc.config import PromptConfig
from arithcirc.errors import EnvironmentFailure, RequestError, RunConflictError
from arithcirc.sweep import folder, lock
from arithcirc.sweep.folder import change_reference, check_disk, free_disk, open_sweep
from arithcirc.sweep.lock import LOCK, locked
from arithcirc.sweep.task import Loading, Settings

MODELS = (model(),)


def opened(path, *, models=MODELS, operators="*", settings=None, loading=None, **options):
    return open_sweep(path, models, operators, settings or Settings(), loading or Loading(), **options)


def begun(path, **options):
    """As `opened`, and a first task has begun."""
    sweep = opened(path, **options)
    sweep.files("m", "step3", "*").folder.mkdir(parents=True)
    return sweep


# -- what was asked ---------------------------------------------------------------------------------------------------


def test_the_manifest_says_what_was_asked(tmp_path):
    sweep = opened(tmp_path, facts={"command": "arithcirc sweep"})
    held = SweepFolder.open(tmp_path).manifest
    assert held == sweep.manifest
    assert held["command"] == "arithcirc sweep"
    assert held["settings"]["prompts"]["n_discover"] == 50
    (entry,) = held["models"]
    assert (entry["name"], entry["reference"], entry["reference_note"]) == ("m", "step3", None)
    assert entry["revisions"] == [{"revision": f"step{n}", "step": n} for n in range(4)]


def test_a_sweep_grows(tmp_path):
    begun(tmp_path, models=(model(steps=("step1", "step3")),), operators="/+")
    opened(tmp_path, models=(model(steps=("step2", "step9")), model("other", ("step5",))), operators="*")
    held = SweepFolder.open(tmp_path).manifest
    assert held["operators"] == "+*/"
    assert [r["step"] for r in held["models"][0]["revisions"]] == [1, 2, 3, 9]
    assert [(e["name"], e["reference"]) for e in held["models"]] == [("m", "step3"), ("other", "step5")]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": Settings(prompts=PromptConfig(seed=3))}, "prompts: seed: 0 in the folder, 3 asked"),
        ({"settings": Settings(stages="circuit")}, "stages: 'heuristics' in the folder, 'circuit' asked"),
        ({"loading": Loading(dtype="bfloat16")}, "dtype: 'float32' in the folder, 'bfloat16' asked"),
        ({"models": (replace(model(), model="/elsewhere/m"),)}, "another model called m"),
        ({"reference": "step1"}, "compares m with step3, not with step1"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changed, words):
    begun(tmp_path, settings=Settings(prompts=PromptConfig()))
    before = (tmp_path / "sweep.json").read_bytes()
    with pytest.raises(RunConflictError, match=words):
        opened(tmp_path, **{"settings": Settings(prompts=PromptConfig())} | changed)
    assert (tmp_path / "sweep.json").read_bytes() == before


def test_a_folder_that_no_task_has_begun_in_is_asked_for_anew(tmp_path):
    opened(tmp_path, operators="/", settings=Settings(prompts=PromptConfig(seed=3)))
    found = opened(tmp_path, models=(model(steps=("step1", "step2")),), settings=Settings(stages="circuit"))
    assert SweepFolder.open(tmp_path).manifest == found.manifest
    assert (found.manifest["operators"], found.manifest["settings"]["stages"]) == ("*", "circuit")
    assert found.manifest["models"][0]["reference"] == "step2"


def test_where_it_runs_may_change(tmp_path):
    begun(tmp_path)
    opened(tmp_path, loading=Loading(device="cpu", threads=3, batch_size=7), reference="step3")


def test_the_same_request_goes_on_after_its_reference_was_replaced(tmp_path):
    sweep = begun(tmp_path, reference="step2")
    change_reference(sweep, "m", "step1", "step2 could not be analysed")
    assert opened(tmp_path, reference="step2").manifest["models"][0]["reference"] == "step1"
    assert opened(tmp_path).manifest["models"][0]["reference_note"] == "step2 could not be analysed"


def test_the_reference_must_be_in_the_sweep(tmp_path):
    with pytest.raises(RequestError, match="no revision 'step7' in this sweep"):
        opened(tmp_path, reference="step7")


def test_planning_writes_nothing(tmp_path):
    opened(tmp_path / "new", write=False)
    assert not (tmp_path / "new").exists()


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text("{")
    for name, words in {"file": "is a file", "run": "holds other runs", "damaged": "is damaged"}.items():
        with pytest.raises(RunConflictError, match=words):
            opened(tmp_path / name)


def test_a_revision_with_a_slash_has_one_folder(tmp_path):
    sweep, _ = planned(tmp_path)
    assert sweep.files("a/b", "refs/pr/1", "*").folder == tmp_path / "tasks" / "a--b" / "refs--pr--1" / "mul"


# -- the lock ---------------------------------------------------------------------------------------------------------


def test_a_second_sweep_is_refused_by_process_and_host(tmp_path):
    with locked(tmp_path):
        words = (
            rf"in use by another sweep \(process {os.getpid()} on {socket.gethostname()}, since .*delete .*lock.json"
        )
        with pytest.raises(RunConflictError, match=words), locked(tmp_path):
            pass
    assert not (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_the_lock_goes_when_the_sweep_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def dead():
    """A process id that nothing runs under."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def held(tmp_path, *, age=0.0, **changed):
    """Leave a lock of somebody, renewed so many seconds ago."""
    process = psutil.Process()
    said = {"pid": process.pid, "host": socket.gethostname(), "born": process.create_time(), "started": "then"}
    (tmp_path / LOCK).write_text(json.dumps(said | changed))
    os.utime(tmp_path / LOCK, (time.time() - age, time.time() - age))


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, dead):
    held(tmp_path, pid=dead)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_only_has_the_same_number_is_another(tmp_path):
    held(tmp_path, born=psutil.Process().create_time() - 1000)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(("age", "free"), [(500, False), (700, True)])
def test_another_hosts_lock_counts_for_ten_minutes(tmp_path, dead, age, free):
    held(tmp_path, age=age, pid=dead, host="elsewhere")
    if free:
        with locked(tmp_path):
            pass
    else:
        with pytest.raises(RunConflictError, match=f"process {dead} on elsewhere"), locked(tmp_path):
            pass


def test_a_damaged_lock_holds_nobody_up(tmp_path):
    (tmp_path / LOCK).write_text("{")
    os.utime(tmp_path / LOCK, (0, 0))
    with locked(tmp_path):
        pass


def test_a_lock_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "RENEWED_EVERY", 0.01)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        deadline = time.monotonic() + 120
        while (tmp_path / LOCK).stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_lock_that_somebody_else_took_is_left_alone(tmp_path):
    with locked(tmp_path):
        held(tmp_path, host="elsewhere")
    assert json.loads((tmp_path / LOCK).read_text())["host"] == "elsewhere"


# -- disk -------------------------------------------------------------------------------------------------------------


def test_the_free_disk_of_a_folder_to_come(tmp_path):
    assert free_disk(tmp_path / "a" / "b") == pytest.approx(free_disk(tmp_path), rel=0.1)


@pytest.mark.parametrize(("needed", "warned"), [(7e8, False), (8.5e8, True)])
def test_a_disk_that_is_nearly_full_is_told(tmp_path, monkeypatch, needed, warned):
    monkeypatch.setattr(folder, "free_disk", lambda _: 1_200_000_000)
    said = check_disk(tmp_path, needed)
    assert (said is not None) == warned
    assert not warned or said.endswith("1,200 MB are free: nearly full")


def test_a_disk_that_is_too_small_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "free_disk", lambda _: 1_200_000_000)
    with pytest.raises(
        EnvironmentFailure, match=r"about 1,100 MB .* 1,200 MB are free and 200 MB must stay free: make room"
    ):
        check_disk(tmp_path, 1.1e9)
