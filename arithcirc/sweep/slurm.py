"""Tasks as SLURM jobs, submitted with submitit (Facebook Research); also its `local` and `debug` executors.

One job per task. Jobs are then short and alike, start in any gap of the queue, take a GPU only while they compute, and
one that is lost loses one task; in return each loads its model, seconds from a shared disk against minutes of work.
The driver keeps at most `slots` of them submitted. What SLURM reserves for each is `cpus_per_task`, `gpus_per_task`
(whole ones), `memory_gb` and `time_limit` minutes.

A job is given text and writes its outcome to an answer file of its own (`remote`), so the outcome of an earlier attempt
is never taken for this one's; submitit's own files are written by it and not read back. All lies in `<root>/slurm/`,
with the jobs' logs, on a disk that the machines have to share. A job that ended, in whatever way (crash, time limit,
preemption, a node that went away), without an answer within some seconds is cancelled, should SLURM mean to start it
again, and reported lost. SLURM is asked for states every few seconds at most; while it knows none (no accounting),
`squeue` says whether a job still exists.

cluster   "slurm"; "local": a process here; "debug": in this process, at the next `poll`
"""

import json
import os
import shutil
import subprocess
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.sweep.executors import Event, Finished, Lost, Work
from arithcirc.sweep.remote import DO, THREADS, answer_into
from arithcirc.sweep.task import Outcome

Cluster = Literal["slurm", "local", "debug"]
_ENDED = (
    "FINISHED", "INTERRUPTED", "DONE", "NO PROCESS AND NO RESULT",  # submitit's words for local jobs
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
    "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL",
)  # fmt: skip
"""States in which a job computes no more; SLURM adds words to some ("CANCELLED by 1000")."""
_LAG = 15.0
"""Seconds that a file may take to appear on another machine."""
_ASK = 10.0
"""Seconds between two questions to SLURM."""
_UNKNOWN = 60.0
"""Seconds after which a job that SLURM's accounting does not know is looked up in the queue."""


@dataclass
class _Job:
    """One submitted task; `ended` is when it was first seen to have ended, and how."""

    task: Work
    handle: Any
    answer: Path
    submitted: float
    ended: tuple[float, str] | None = None


class SlurmExecutor:
    """Runs each task as a job; at most `slots` at once.

    `parameters` are more of submitit's (`slurm_account`, `slurm_qos`, ..); `lag` is how long an answer may take to
    appear after its job ended; `do` names the function that does a task. Raises EnvironmentFailure where there is no
    SLURM, RequestError for options that it cannot have.
    """

    def __init__(
        self,
        root: Path,
        *,
        slots: int,
        cluster: Cluster = "slurm",
        partition: str | None = None,
        time_limit: int = 240,
        gpus_per_task: float = 0,
        cpus_per_task: int = 1,
        memory_gb: float | None = None,
        parameters: dict[str, Any] | None = None,
        lag: float = _LAG,
        do: str = DO,
    ) -> None:
        import submitit

        if gpus_per_task != int(gpus_per_task):
            raise RequestError(f"--gpus-per-task {gpus_per_task} is not whole: SLURM gives whole GPUs, Ray shares them")
        if time_limit < 1:
            raise RequestError(f"--time-limit {time_limit} is too short: give a job's minutes, 1 or more")
        if cluster == "slurm" and (missing := [name for name in ("sbatch", "srun") if shutil.which(name) is None]):
            raise EnvironmentFailure(
                f"--executor slurm needs SLURM's command {missing[0]}, which is not on this machine: run the sweep "
                "on a login node of the cluster, or use --executor local"
            )
        self.slots, self._root, self._do, self._lag = slots, root.resolve(), do, lag
        self._threads, self._cluster = cpus_per_task, cluster
        self._folder = self._root / "slurm"
        self._jobs: list[_Job] = []
        self._asked = 0.0
        self._executor: Any = submitit.AutoExecutor(folder=str(self._folder / "%j"), cluster=cluster)
        named: dict[str, Any] = {"name": "arithcirc", "timeout_min": time_limit, "cpus_per_task": cpus_per_task}
        named |= {"mem_gb": memory_gb, "gpus_per_node": int(gpus_per_task) or None, "slurm_partition": partition}
        named["slurm_setup"] = [f"export {name}={cpus_per_task}" for name in THREADS]
        self._executor.update_parameters(**named | (parameters or {}))

    # -- the protocol --------------------------------------------------------------------------------------------------

    def submit(self, task: Work) -> None:
        """Submit a task's job."""
        given = task.on_threads(task.loading.threads or self._threads)
        answer = self._folder / "answers" / f"{uuid.uuid4().hex}.json"
        try:
            answer.parent.mkdir(parents=True, exist_ok=True)
            with _environment(dict.fromkeys(THREADS, str(self._threads))):
                handle = self._executor.submit(answer_into, str(answer), str(self._root), given.text(), self._do)
        except OSError as error:
            raise EnvironmentFailure(f"the job of {task} could not be submitted: {error}") from None
        except Exception as error:  # submitit's own, with what sbatch said
            said = " ".join(str(error).split())[-300:]
            raise EnvironmentFailure(
                f"the job of {task} could not be submitted: {said}; check --partition, --time-limit, --gpus-per-task "
                "and --memory-gb"
            ) from None
        self._jobs.append(_Job(task, handle, answer, time.monotonic()))

    def poll(self, timeout: float) -> list[Event]:
        """Answers and losses, waiting at most `timeout` seconds for the first."""
        deadline = time.monotonic() + timeout
        while True:
            events = self._look()
            left = deadline - time.monotonic()
            if events or left <= 0:
                return events
            time.sleep(min(0.1 if self._cluster != "slurm" else 1.0, left))

    def close(self, *, cancel: bool = False) -> None:
        """Cancel the jobs that are left; without `cancel` they end first. Answers that came meanwhile are dropped."""
        while not cancel and self._jobs:
            self.poll(1.0)
        for job in self._jobs:
            self._cancel(job)
        self._jobs.clear()
        shutil.rmtree(self._folder / "answers", ignore_errors=True)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def _look(self) -> list[Event]:
        """One look at every job."""
        now = time.monotonic()
        asks = self._cluster != "slurm" or now - self._asked >= _ASK
        if asks:
            self._asked = now
        events: list[Event] = []
        for job in list(self._jobs):
            event = self._answered(job)
            if event is None and asks and job.ended is None and (state := self._ended(job, now)) is not None:
                job.ended = (now, state)
                event = self._answered(job)
            if event is None and job.ended is not None and now - job.ended[0] >= self._lag:
                self._cancel(job)
                event = Lost(
                    job.task.key, f"its SLURM job {job.handle.job_id} ended without an answer ({job.ended[1]})"
                )
            if event is not None:
                _reap(job)
                self._jobs.remove(job)
                events.append(event)
        return events

    def _answered(self, job: _Job) -> Event | None:
        """What a job's answer file says, when it is there."""
        with suppress(OSError):
            os.listdir(job.answer.parent)  # noqa: PTH208 - makes network file systems look again
        try:
            answer = json.loads(job.answer.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        job.answer.unlink(missing_ok=True)
        if "lost" in answer:
            return Lost(job.task.key, f"its SLURM job {job.handle.job_id} failed ({answer['lost']})")
        return Finished(job.task.key, Outcome.of(answer["outcome"]))

    def _ended(self, job: _Job, now: float) -> str | None:
        """How a job ended; None while it may still run."""
        if self._cluster == "debug":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # submitit leaves its logs open
                job.handle.done()  # does it now
        state = str(job.handle.state)
        if state.upper().startswith(_ENDED):
            return state
        if state.upper() == "UNKNOWN" and self._cluster == "slurm" and now - job.submitted > _UNKNOWN:
            return None if _queued(str(job.handle.job_id)) else "it left the queue"
        return None

    def _cancel(self, job: _Job) -> None:
        with suppress(OSError, subprocess.SubprocessError):
            job.handle.cancel(check=False)
        _reap(job)


def _reap(job: _Job) -> None:
    """Let the process of a local job, which has nothing left to do, end."""
    process = getattr(job.handle, "_process", None)
    if process is not None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)


def _queued(job_id: str) -> bool:
    """Whether `squeue` lists a job; yes where it cannot say."""
    command = ["squeue", "--noheader", "--jobs", job_id]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return True
    if answer.returncode:
        return "invalid job id" not in answer.stderr.lower()
    return bool(answer.stdout.strip())


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables set meanwhile, for the processes that start."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
