"""A sweep from Python, with pretended tasks: plan, run, tables, what is raised when, and interrupting."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from scripted import planned

from arithcirc.catalogue import SweepFolder
from arithcirc.errors import EnvironmentFailure, RequestError, RunConflictError, SweepIncomplete
from arithcirc.sweep import api, folder, plan
from arithcirc.sweep.api import run_sweep
from arithcirc.sweep.lock import LOCK, locked
from arithcirc.sweep.plan import PAGE_BYTES, make_plan
from arithcirc.sweep.revisions import checkpoints
from arithcirc.sweep.task import Loading, Settings
from arithcirc.sweep.where import Where, default_workers

HERE = Path(__file__).parent
COMMAND = (sys.executable, str(HERE / "pretended_worker.py"))


@pytest.fixture
def collected(monkeypatch):
    """How often the tables were made; pretended tasks have none."""
    made = []
    monkeypatch.setattr(api, "_collect", lambda sweep, listen: made.append(sweep.path))
    return made


def sweep(out, *, fates=None, revisions="step0,step512,step4000", workers=2, **options):
    out.mkdir(exist_ok=True)
    (out / "fates.json").write_text(json.dumps(fates or {}))
    where = Where(workers=workers, command=COMMAND)
    return run_sweep(
        revisions=revisions, operators="+*", out=out, where=where, loading=Loading(device="cpu"), **options
    )


def test_a_sweep_is_planned_run_and_collected(tmp_path, collected):
    plans, heard = [], []
    found = sweep(tmp_path, on_plan=plans.append, listen=heard.append, command="arithcirc sweep")
    (made,) = plans
    assert (made.tasks, made.to_run, made.checkpoints, made.operators, made.workers) == (6, 6, 3, "+*", 2)
    assert (made.forwards, made.seconds, made.disk_bytes, made.memory_bytes) == (
        2400,
        18,
        1.6 * 3e6 + PAGE_BYTES,
        10**6,
    )
    assert (made.traffic_bytes, made.notes) == (0, ())
    assert [n.what for n in heard if n.what != "progress"].count("done") == 6
    assert len(list(found.ended())) == 6
    assert (found.manifest["workers"], found.manifest["command"]) == (2, "arithcirc sweep")
    assert collected == [tmp_path]
    assert not (tmp_path / LOCK).exists()
    sweep(tmp_path, on_plan=plans.append)
    assert (plans[1].to_run, plans[1].before, plans[1].forwards, plans[1].disk_bytes) == (0, 6, 0, 0)
    assert len((tmp_path / "attempts.txt").read_text().splitlines()) == 6


def test_failed_tasks_are_told_after_the_tables_and_tried_again(tmp_path, collected):
    with pytest.raises(SweepIncomplete, match=r"1 of 6 tasks failed \(first: neox-arith step0 \+: it was to fail\)"):
        sweep(tmp_path, fates={"step0 +": ["fail", "ok"]})
    assert collected == [tmp_path]
    sweep(tmp_path, fates={"step0 +": ["fail", "ok"]})
    assert len((tmp_path / "attempts.txt").read_text().splitlines()) == 7


def test_planning_only_writes_nothing(tmp_path, collected):
    plans = []
    sweep(tmp_path, plan_only=True, on_plan=plans.append)
    assert plans[0].to_run == 6
    assert [p.name for p in tmp_path.iterdir()] == ["fates.json"]
    assert collected == []


def test_a_reference_that_cannot_be_planned_is_no_end(tmp_path, collected):
    plans = []
    (tmp_path / "no_plan").touch()
    sweep(tmp_path, on_plan=plans.append)
    assert plans[0].forwards is None
    assert "reference step4000 cannot be planned (unexpected ValueError: no plan)" in plans[0].notes[0]
    assert len(list(SweepFolder.open(tmp_path).ended())) == 6


def test_what_no_worker_measures_is_computed_from_the_shape(tmp_path, monkeypatch):
    class Cost(SimpleNamespace):
        def __str__(self):
            return f"{self.model}: computed for {self.checkpoints} and {self.operators}"

    monkeypatch.setattr(
        "arithcirc.sweep.cost.sweep_cost",
        lambda model, **given: Cost(model=model, forwards=7.0, disk_bytes=9.0, **given),
    )
    here, tasks = planned(tmp_path / "a", models=(checkpoints(None, "step0,step4000"),), operators="+*")
    found = make_plan(here, tasks, workers=2)
    assert (found.to_run, found.forwards, found.seconds, found.traffic_bytes) == (4, 7, None, 0)
    assert found.disk_bytes == pytest.approx(1.6 * 9 + PAGE_BYTES)
    assert found.notes == ()  # no hours on a GPU for a model as small as the shipped one
    there, tasks = planned(tmp_path / "b", models=(checkpoints("EleutherAI/pythia-70m", "0,1000"),), operators="*")
    measure = partial(pytest.fail, "nothing is loaded")
    found = make_plan(there, tasks, workers=2, cache_dir=str(tmp_path), measure=measure)
    assert (found.to_run, found.forwards, found.seconds) == (2, 7, None)
    assert found.traffic_bytes == 2 * 2 * 70_426_624
    assert [note.split(": ")[1][:12] for note in found.notes] == ["time unknown", "computed for"]


def test_what_is_not_known_of_a_model_is_not_said(tmp_path):
    chosen = (checkpoints("owner/other", "step1,step2"), checkpoints("EleutherAI/pythia-70m", "0"))
    sweep, tasks = planned(tmp_path, models=chosen, operators="*")
    found = make_plan(sweep, tasks, workers=1, cache_dir=str(tmp_path), measure=partial(pytest.fail, "loaded"))
    assert (found.forwards, found.seconds, found.traffic_bytes, found.memory_bytes) == (None, None, None, None)
    (hours,) = [note for note in found.notes if "GPU hours" in note]
    assert hours.startswith("EleutherAI/pythia-70m, 1 checkpoints: ")
    assert "at least" in hours


def test_as_many_workers_as_fit_in_memory(tmp_path, collected, monkeypatch):
    monkeypatch.setattr(plan, "free_memory", lambda: 2_500_000)
    monkeypatch.setattr("arithcirc.sweep.where.cores", lambda: 3)
    plans = []
    found = sweep(tmp_path, workers=None, on_plan=plans.append)
    assert (plans[0].workers, plans[0].seconds, found.manifest["workers"]) == (2, 18, 2)
    assert plans[0].notes == ("3 workers would not fit in memory: 2 used",)


@pytest.mark.parametrize(
    ("loading", "visible", "workers"),
    [
        (Loading(device="cpu"), "0,1,2", 2),
        (Loading(), "0,1,2", 3),
        (Loading(), "", 2),
        (Loading(device="cuda:1"), "0,1,2", 1),
        (Loading(device_map="auto"), "0,1,2", 1),
    ],
)
def test_how_many_workers_by_default(monkeypatch, loading, visible, workers):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("arithcirc.sweep.where.cores", lambda: 2)
    assert default_workers(loading, 44) == workers
    assert default_workers(loading, 1) == 1


def test_a_disk_that_is_too_small_stops_a_sweep_before_it_starts(tmp_path, collected, monkeypatch):
    monkeypatch.setattr(folder, "free_disk", lambda _: 202_000_000)
    with pytest.raises(EnvironmentFailure, match=r"about 12 MB .* 202 MB are free"):
        sweep(tmp_path)
    assert not (tmp_path / "attempts.txt").exists()
    assert not (tmp_path / LOCK).exists()
    assert not (tmp_path / "sweep.json").exists()


def test_a_folder_in_use(tmp_path, collected):
    with locked(tmp_path), pytest.raises(RunConflictError, match=f"process {os.getpid()} on"):
        sweep(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": -1}, "--retries -1 is negative"),
        ({"reference": "step7"}, "no revision 'step7' in this sweep"),
        ({"revisions": "step7"}, "the nearest are step0 and step64"),
        ({"loading": Loading(threads=0)}, "--threads 0 is too few"),
        ({"models": "Qwen/Qwen2.5-7B"}, "Qwen/Qwen2.5-7B splits numbers into digits, .* has to be one token"),
        ({"models": ["neox-arith", "google/gemma-2-2b@main"], "plan_only": True}, "gemma-2-2b splits numbers"),
        ({"models": "/nowhere/at/all"}, "does not exist"),
    ],
)
def test_requests_are_refused_before_anything_is_written(tmp_path, options, words):
    with pytest.raises(RequestError, match=words):
        run_sweep(out=tmp_path / "out", **options)
    assert not (tmp_path / "out" / "sweep.json").exists()


@pytest.mark.parametrize("kind", ["ray", "slurm"])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, {"ray": "ray", "slurm": "submitit"}[kind], None)
    with pytest.raises(
        RequestError, match=rf"--executor {kind} needs the package \w+: pip install 'arithcirc\[cluster\]'"
    ):
        run_sweep(out=tmp_path / "out", where=Where(kind))
    assert not (tmp_path / "out" / "sweep.json").exists()


def test_slurm_that_is_not_there_leaves_the_folder_to_another_sweep(tmp_path, collected, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is not installed (extra 'cluster')")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match="needs SLURM's command sbatch"):
        run_sweep(out=tmp_path, where=Where("slurm"), settings=Settings(stages="circuit"))
    assert not (tmp_path / "sweep.json").exists()
    assert len(list(sweep(tmp_path, revisions="step512").ended())) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gpus_per_task": 1.0}, "--gpus-per-task 1.0 is what Ray or SLURM reserves: add --executor ray or slurm"),
        ({"cpus_per_task": 2}, "--cpus-per-task 2 is what Ray or SLURM reserves"),
        ({"kind": "ray", "cpus_per_task": 0}, "--cpus-per-task 0 is too few"),
        ({"time_limit": 240}, "--time-limit 240 is of SLURM's jobs: add --executor slurm"),
        ({"partition": "gpu"}, "--partition gpu is of SLURM's jobs"),
        ({"kind": "ray", "memory_gb": 8.0}, "--memory-gb 8.0 is of SLURM's jobs"),
        ({"kind": "slurm", "address": "here:1"}, "add --executor ray"),
    ],
)
def test_options_of_another_executor_are_refused(options, words):
    with pytest.raises(RequestError, match=words):
        Where(**options)


def test_an_interrupt_ends_the_workers_and_leaves_the_tables(tmp_path):
    (tmp_path / "fates.json").write_text('{"step0 +": ["hang", "ok"]}')
    code = (
        "import sys; from arithcirc.sweep import api; from arithcirc.sweep.where import Where; "
        "api._collect = lambda sweep, listen: (sweep.path / 'collected').touch(); "
        "api.run_sweep(revisions='step0,step4000', operators='+', out=sys.argv[1], "
        "listen=lambda notice: notice.what == 'note' and print(notice.text), "
        "where=Where(workers=1, command=tuple(sys.argv[2:])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), *COMMAND], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "attempts.txt").exists() or "step0" not in (tmp_path / "attempts.txt").read_text():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=120)
    assert said == "interrupted: 1 of 2 tasks are done, 1 left\n"
    assert "KeyboardInterrupt" in err.splitlines()[-1]
    assert (tmp_path / "collected").exists()
    assert not (tmp_path / LOCK).exists()
    assert len(list(SweepFolder.open(tmp_path).ended())) == 1
