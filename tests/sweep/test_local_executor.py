"""Processes that run tasks: they keep their model, are noticed when they die, and end when their driver does."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from scripted import planned

from arithcirc.errors import RequestError
from arithcirc.sweep.driver import run_tasks
from arithcirc.sweep.executors import Finished, Lost, Progress
from arithcirc.sweep.local import LocalExecutor, cores, gpus

COMMAND = (sys.executable, str(Path(__file__).with_name("pretended_worker.py")))


@contextmanager
def executing(root, fates=None, **options):
    """An executor whose tasks meet these fates."""
    (root / "fates.json").write_text(json.dumps(fates or {}))
    executor = LocalExecutor(root, command=COMMAND, **{"workers": 1, **options})
    try:
        yield executor
    finally:
        executor.close(cancel=True)


def attempts(root):
    """`[pid, revision, operator, threads asked, threads of the environment, gpu]` of every attempt."""
    return [line.split() for line in (root / "attempts.txt").read_text().splitlines()]


def ended(executor, *, number=1, within=120.0):
    """Events up to the end of so many tasks."""
    events, deadline = [], time.monotonic() + within
    while len([e for e in events if not isinstance(e, Progress)]) < number:
        assert time.monotonic() < deadline
        events += executor.poll(0.5)
    return events


def gone(pid, *, within=120.0):
    """Whether a process ends."""
    deadline = time.monotonic() + within
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_whole_sweep_with_deaths_on_the_way(tmp_path):
    sweep, tasks = planned(tmp_path)
    fates = {"step3 *": ["die", "ok"], "step1 +": ["die"], "step0 *": ["fail"], "step2 *": ["chatter"]}
    with executing(tmp_path, fates, workers=2) as executor:
        summary = run_tasks(sweep, tasks, executor, retries=1)
    reasons = {t.key[1:]: reason for t, reason in summary.failed}
    assert set(reasons) == {("step1", "+"), ("step0", "*")}
    assert "was killed (SIGKILL, as the system does when memory runs out" in reasons["step1", "+"]
    assert reasons["step1", "+"].endswith(", 2 times")
    assert len(attempts(tmp_path)) == len(tasks) + 2
    read = json.loads(sweep.files("m", "step3", "*").outcome.read_text())
    assert (read["status"], read["attempts"]) == ("done", 2)
    said = "".join(log.read_text() for log in (tmp_path / "logs").iterdir())
    assert "a library says hello" in said
    assert "a child says hello" in said


def test_a_worker_goes_on_with_its_model(tmp_path):
    _, tasks = planned(tmp_path, operators="+-*")
    with executing(tmp_path, workers=2) as executor:
        for task in (tasks[0], tasks[3]):
            executor.submit(task)
        assert len([e for e in ended(executor, number=2) if isinstance(e, Finished)]) == 2
        for task in (tasks[4], tasks[1], tasks[5], tasks[2]):
            executor.submit(task)
            ended(executor)
    workers = {revision: {a[0] for a in attempts(tmp_path) if a[1] == revision} for revision in ("step0", "step1")}
    assert [len(w) for w in workers.values()] == [1, 1]
    assert workers["step0"] != workers["step1"]


def test_threads_and_gpus_are_shared_out(tmp_path):
    sweep, tasks = planned(tmp_path)
    fates = {f"{t.revision} {t.operator}": ["0.2"] for t in tasks}
    with executing(tmp_path, fates, workers=2, devices=["4", "7"]) as executor:
        run_tasks(sweep, tasks, executor)
    each = str(max(1, cores() // 2))
    assert {tuple(a[3:5]) for a in attempts(tmp_path)} == {(each, each)}
    assert {a[5] for a in attempts(tmp_path)} == {"4", "7"}


@pytest.mark.parametrize(("visible", "found"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("GPU-ab", ["GPU-ab"])])
def test_gpus_that_are_visible(monkeypatch, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == found


def test_a_worker_that_leaves_is_reported_with_its_last_words(tmp_path):
    _, tasks = planned(tmp_path)
    with executing(tmp_path, {"step0 +": ["leave"]}) as executor:
        executor.submit(tasks[0])
        *before, last = ended(executor)
    assert before == [Progress(tasks[0].key, "own/prompts", 1, 2)]
    assert last == Lost(tasks[0].key, "its worker process ended with code 3: out of luck")


def test_a_worker_that_cannot_start_is_lost_too(tmp_path):
    _, tasks = planned(tmp_path)
    executor = LocalExecutor(tmp_path, workers=1, command=(sys.executable, "-c", "raise SystemExit('no such thing')"))
    executor.submit(tasks[0])
    assert ended(executor) == [Lost(tasks[0].key, "its worker process ended with code 1: no such thing")]
    executor.close()


def test_cancelling_does_not_wait(tmp_path):
    _, tasks = planned(tmp_path)
    with executing(tmp_path, {"step0 +": ["hang"]}) as executor:
        executor.submit(tasks[0])
        assert executor.poll(120.0) == [Progress(tasks[0].key, "own/prompts", 1, 2)]
        start = time.monotonic()
        executor.close(cancel=True)
        assert time.monotonic() - start < 4
    assert gone(int(attempts(tmp_path)[0][0]))
    assert not list(tmp_path.glob("tasks/*/*/*/outcome.json"))


def test_closing_without_cancelling_waits(tmp_path):
    _, tasks = planned(tmp_path)
    with executing(tmp_path, {"step0 +": ["0.5"]}) as executor:
        executor.submit(tasks[0])
        executor.close()
    assert len(list(tmp_path.glob("tasks/*/*/*/outcome.json"))) == 1


def test_workers_end_when_their_driver_is_killed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from scripted import planned; "
        "from arithcirc.sweep.local import LocalExecutor; root = Path(sys.argv[1]); _, tasks = planned(root); "
        "executor = LocalExecutor(root, workers=1, command=sys.argv[2:]); executor.submit(tasks[0]); "
        "executor.poll(600.0); executor.poll(600.0)"
    )
    (tmp_path / "fates.json").write_text('{"step0 +": ["hang"]}')
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *COMMAND], env=environment)
    deadline = time.monotonic() + 120
    while not (tmp_path / "attempts.txt").exists() or not attempts(tmp_path):
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.02)
    worker = int(attempts(tmp_path)[0][0])
    assert psutil.pid_exists(worker)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert gone(worker)


def test_a_plan_is_asked_of_a_worker_which_then_works(tmp_path):
    _, tasks = planned(tmp_path)
    with executing(tmp_path) as executor:
        assert executor.plan(tasks[0])["rate"] == 50
        executor.submit(tasks[0])
        ended(executor)
        (tmp_path / "no_plan").touch()
        with pytest.raises(RequestError, match="unexpected ValueError: no plan"):
            executor.plan(tasks[1])
        executor.submit(tasks[1])
        ended(executor)
    assert len({a[0] for a in attempts(tmp_path)}) == 1


def test_no_workers_are_too_few(tmp_path):
    with pytest.raises(RequestError, match="--workers 0 is too few"):
        LocalExecutor(tmp_path, workers=0)
