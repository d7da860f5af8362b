"""Stopping a run at any moment loses no finished stage, and the end is the same as without the stop."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import WHOLE, contents

from arithcirc.cli import main
from arithcirc.store import MANIFEST

OPTIONS = (*WHOLE, "--operators", "+", "--batch-size", "256", "--device", "cpu")


def start(model: Path, out: Path, *, hold: str | None = None) -> subprocess.Popen[str]:
    """`arithcirc knockout` in a process of its own; with `hold`, it waits before that stage until it is killed."""
    wait = f"""
import arithcirc.pipeline.stages as stages, time, pathlib
from dataclasses import replace
def held(job):
    (job.run.path / "held").touch()
    time.sleep(600)
found = [replace(s, run=held) if s.name == {hold!r} else s for s in stages.STAGES]
import arithcirc.pipeline.run as running
running.STAGES = tuple(found)
"""
    script = "import sys; from arithcirc.cli.main import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", (wait if hold else "") + script]
    one = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # as in this process: the same last digits
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *asked(model, out)], env=one, **pipes)


def asked(model: Path, out: Path) -> list[str]:
    return ["knockout", str(model), *OPTIONS, "--out", str(out)]


def to_the_end(model: Path, out: Path) -> str:
    """`arithcirc knockout` in this process, which has its libraries loaded; stderr."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        code = main.run(asked(model, out))
    assert code == 0, err.getvalue()
    return err.getvalue()


def stopped(model: Path, out: Path, stage: str, how: signal.Signals) -> tuple[int, str]:
    """Run until `stage` is at work, stop it there; the exit code and stderr."""
    process = start(model, out, hold=stage)
    deadline = time.monotonic() + 300
    while not (out / model.name / "main" / "held").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def stages(run: Path) -> dict[str, dict]:
    return json.loads((run / MANIFEST).read_text())["stages"]


def results(run: Path) -> dict[str, bytes]:
    """Tables and arrays: what must not depend on how often the run was stopped."""
    return {name: data for name, data in contents(run).items() if name.endswith((".parquet", ".safetensors"))}


@pytest.fixture(scope="module")
def uninterrupted(toy_folder, tmp_path_factory):
    """The run folder of a run that was left alone."""
    out = tmp_path_factory.mktemp("whole")
    to_the_end(toy_folder, out)
    return out / "toy" / "main"


@pytest.mark.slow  # a process of its own takes seconds; that of Ctrl-C goes on the same way
def test_a_killed_run_resumes_where_it_stopped(toy_folder, uninterrupted, tmp_path):
    code, _ = stopped(toy_folder, tmp_path, "knockout", signal.SIGKILL)
    run = tmp_path / "toy" / "main"
    before = stages(run)
    assert code == -signal.SIGKILL
    assert set(before) == set(stages(uninterrupted)) - {"knockout"}
    err = to_the_end(toy_folder, tmp_path)
    assert err.count("finished before, reused") == len(before) == 7
    assert {name: stages(run)[name] for name in before} == before
    assert results(run) == results(uninterrupted)


def test_ctrl_c_is_one_line_and_keeps_what_is_finished(toy_folder, uninterrupted, tmp_path):
    code, err = stopped(toy_folder, tmp_path, "neurons", signal.SIGINT)
    assert code == 1
    assert err.splitlines()[-1].startswith("arithcirc: interrupted: finished stages are kept")
    assert "Traceback" not in err
    run = tmp_path / "toy" / "main"
    before = stages(run)
    assert set(before) == {"prompts", "localize", "means", "faithfulness", "probe"}
    err = to_the_end(toy_folder, tmp_path)
    assert err.count("finished before, reused") == len(before)
    assert {name: stages(run)[name] for name in before} == before
    assert results(run) == results(uninterrupted)


@pytest.mark.slow
def test_runs_killed_at_any_moment_end_the_same(toy_folder, uninterrupted, tmp_path):
    run, delay = tmp_path / "toy" / "main", 0.0
    for _ in range(60):
        process = start(toy_folder, tmp_path)
        while not run.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.communicate()
        delay += 0.5
        if process.returncode == 0:
            break
    process = start(toy_folder, tmp_path)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert results(run) == results(uninterrupted)


def test_a_failure_in_a_process_of_its_own_is_one_line(tmp_path):
    command = [sys.executable, "-m", "arithcirc", "analyze", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("arithcirc: model folder ")
