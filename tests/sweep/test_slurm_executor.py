"""SLURM through submitit: its local and debug executors, and the real one with stand-ins for SLURM's commands."""

import os
import stat
import sys
import time

import pytest
import remote_tasks
from remote_tasks import HERE, task

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.sweep.executors import Finished, Lost
from arithcirc.sweep.where import Where, make_executor

pytest.importorskip("submitit")

from arithcirc.sweep.slurm import SlurmExecutor

SBATCH = """#!/bin/sh
# a job is a process of this machine; its id is a counter
id=$(($(cat {folder}/count 2>/dev/null || echo 0) + 1)); echo $id > {folder}/count
cp "$1" {folder}/script.$id
out=$(sed -n 's/^#SBATCH --output=//p' "$1" | sed "s/%j/$id/g")
mkdir -p "$(dirname "$out")"
( SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_LOCALID=0 \\
  sh "$1" > "$out" 2>&1; echo $? > {folder}/ended.$id ) > /dev/null 2>&1 &
echo "Submitted batch job $id"
"""
SRUN = """#!/bin/sh
while [ "$1" != "{python}" ]; do shift; done
exec "$@"
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
for id in $(seq 1 $(cat {folder}/count)); do
  state=RUNNING
  if [ -f {folder}/ended.$id ]; then
    case $(cat {folder}/ended.$id) in 0) state=COMPLETED;; *) state="CANCELLED by 0";; esac
  fi
  echo "$id|$state|here"
done
"""
SCANCEL = """#!/bin/sh
echo "$1" >> {folder}/cancelled
"""


def events(executor, n, seconds=120):
    """The next n events."""
    found, end = [], time.monotonic() + seconds
    while len(found) < n:
        found += executor.poll(1.0)
        assert time.monotonic() < end, f"{found} after {seconds} s"
    return found


@pytest.fixture
def make(tmp_path, monkeypatch):
    """`make(do, ...)`: an executor of submitit's local jobs whose tasks are `remote_tasks.<do>`."""
    made = []
    monkeypatch.setenv("PYTHONPATH", HERE)

    def executor(do="done", *, cluster="local", slots=2, lag=0.3, **options):
        made.append(
            SlurmExecutor(
                tmp_path, cluster=cluster, slots=slots, lag=lag, do=f"{remote_tasks.__name__}:{do}", **options
            )
        )
        return made[-1]

    yield executor
    for one in made:
        one.close(cancel=True)


@pytest.fixture
def commands(tmp_path_factory, monkeypatch):
    """A folder on PATH with stand-ins for SLURM's commands."""
    folder = tmp_path_factory.mktemp("commands")
    texts = {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": SCANCEL}
    for name, text in texts.items():
        (folder / name).write_text(text.format(folder=folder, python=sys.executable))
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_local_jobs_answer_once_with_their_threads(make):
    executor = make(cpus_per_task=2)
    tasks = [task(1), task(2)]
    for one in tasks:
        executor.submit(one)
    found = events(executor, 2)
    assert {e.key for e in found} == {t.key for t in tasks}
    assert {e.outcome.reason for e in found} == {f"{t} threads=2 OMP=2" for t in tasks}
    assert os.getpid() not in {e.outcome.pid for e in found}
    assert executor.poll(0.0) == []


def test_a_job_that_is_killed_is_lost_though_an_earlier_outcome_lies_there(make, tmp_path):
    remote_tasks.done(task(3), tmp_path)
    executor = make("killed_once")
    executor.submit(task(3))
    (lost,) = events(executor, 1)
    assert isinstance(lost, Lost)
    assert "ended without an answer" in lost.reason
    executor.submit(task(3))
    assert isinstance(events(executor, 1)[0], Finished)


def test_debug_jobs_run_in_this_process(make, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    executor = make(cluster="debug")
    executor.submit(task(1))
    (finished,) = events(executor, 1)
    assert finished.outcome.pid == os.getpid()


def test_a_function_that_raises_is_a_loss_with_its_reason(make):
    executor = make("raises", cluster="debug")
    executor.submit(task(1))
    (lost,) = events(executor, 1)
    assert lost.reason.endswith("failed (ValueError: an unforeseen error)")
    assert isinstance(lost, Lost)


def test_real_jobs_ask_for_what_was_given_and_answer(make, commands):
    executor = make(cluster="slurm", partition="gpu", gpus_per_task=2.0, memory_gb=40.0, time_limit=90, cpus_per_task=3)
    executor.submit(task(1))
    (finished,) = events(executor, 1)
    assert finished.outcome.reason == f"{task(1)} threads=3 OMP=3"
    script = (commands / "script.1").read_text()
    wanted = ("partition=gpu", "gpus-per-node=2", "mem=40GB", "time=90", "cpus-per-task=3", "job-name=arithcirc")
    assert [w for w in wanted if f"#SBATCH --{w}\n" not in script] == []


def test_a_real_job_that_ends_without_an_answer_is_cancelled_and_lost(make, commands, monkeypatch):
    monkeypatch.setattr("arithcirc.sweep.slurm._ASK", 0.5)
    executor = make("killed_once", cluster="slurm")
    executor.submit(task(4))
    (lost,) = events(executor, 1)
    assert isinstance(lost, Lost)
    assert lost.reason == "its SLURM job 1 ended without an answer (CANCELLED by 0)"
    assert (commands / "cancelled").read_text() == "1\n"
    executor.submit(task(4))
    assert isinstance(events(executor, 1)[0], Finished)


def test_a_refused_job_is_one_line_with_what_sbatch_said(make, commands):
    (commands / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n")
    executor = make(cluster="slurm", partition="gpu")
    with pytest.raises(EnvironmentFailure, match=r"job of nowhere step1 \* could not .*invalid partition.*--partition"):
        executor.submit(task(1))


def test_without_slurm_the_command_that_is_missing_is_named(make, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match=r"needs SLURM's command sbatch, .* login node"):
        make(cluster="slurm")


def test_shares_of_a_gpu_and_no_time_are_refused(make):
    with pytest.raises(RequestError, match=r"0\.5 is not whole"):
        make(gpus_per_task=0.5)
    with pytest.raises(RequestError, match="--time-limit 0 is too short"):
        make(time_limit=0)


@pytest.mark.parametrize(("kind", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_package_an_executor_names_the_extra(monkeypatch, tmp_path, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    words = rf"^--executor {kind} needs the package {package}: pip install 'arithcirc\[cluster\]'$"
    with pytest.raises(RequestError, match=words):
        make_executor(Where(kind=kind), tmp_path, [task()], task().loading, logs=tmp_path)
