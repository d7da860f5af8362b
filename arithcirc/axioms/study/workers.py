"""Run jobs in processes of their own, as many at once as asked; with one they run here.

Each process does one job after the other and is told of each through a pipe, whose end says at once that the process
died: its job has then failed and the rest goes on in a new process. Ctrl-C reaches the process that asked, which ends
the others; a process whose parent is gone ends by itself. Jobs write whole files only. A training that is ended goes on
at its last resume point, which it leaves every `resume_every` steps: the steps since then are lost.
"""

import signal
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import torch

from arithcirc.axioms.study.jobs import THREADS, Job, Result, Tell, do
from arithcirc.errors import ArithcircError, RequestError
from arithcirc.training.processes import end_with_parent

Finished = Callable[[Job, Result], Job | None]
"""Told of each result; may ask for one more job."""
Failed = Callable[["Failure"], None]
"""Told of each job that failed."""
_PATIENCE = 5.0


@dataclass(frozen=True)
class Failure:
    """A job that did not end well, and why, in one line."""

    name: str
    reason: str


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    job: Job | None = None


def check_workers(workers: int) -> None:
    """Raise RequestError below one worker."""
    if workers < 1:
        raise RequestError(f"--workers {workers} is too few: give 1 or more, or leave it out")


def run_jobs(jobs: Iterable[Job], finished: Finished, failed: Failed, *, workers: int, tell: Tell) -> None:
    """Do all jobs and those that `finished` asks for. Raises RequestError below one worker."""
    check_workers(workers)
    waiting = deque(jobs)
    if workers == 1:
        _here(waiting, finished, failed, tell)
    else:
        _apart(waiting, finished, failed, workers, tell)


def _here(waiting: deque[Job], finished: Finished, failed: Failed, tell: Tell) -> None:
    while waiting:
        job = waiting.popleft()
        try:
            more = finished(job, do(job, tell))
        except ArithcircError as error:
            failed(Failure(job.name, str(error)))
        else:
            waiting.extend([more] if more else [])


def _apart(waiting: deque[Job], finished: Finished, failed: Failed, workers: int, tell: Tell) -> None:
    pool: list[_Worker] = []
    try:
        while waiting or any(worker.job for worker in pool):
            _hand_out(pool, waiting, workers)
            busy = {worker.pipe: (worker, worker.job) for worker in pool if worker.job}
            for pipe in wait(list(busy)):
                worker, job = busy[cast("Connection", pipe)]
                try:
                    what, said = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join(_PATIENCE)
                    pool.remove(worker)
                    failed(Failure(job.name, _died(worker.process.exitcode)))
                    continue
                if what == "told":
                    tell(*said)
                    continue
                worker.job = None
                if what == "failed":
                    failed(Failure(job.name, said))
                elif (more := finished(job, said)) is not None:
                    waiting.append(more)
    finally:
        for worker in pool:
            _end(worker)


def _hand_out(pool: list[_Worker], waiting: deque[Job], workers: int) -> None:
    """Give every idle process a job, starting processes while there are fewer than allowed."""
    while waiting:
        idle = next((worker for worker in pool if worker.job is None), None)
        if idle is None:
            if len(pool) >= workers:
                return
            pool.append(idle := _start())
        idle.job = waiting.popleft()
        try:
            idle.pipe.send(idle.job)
        except OSError:  # it died idle: another one does the job
            waiting.appendleft(idle.job)
            pool.remove(idle)
            _end(idle)


def _start() -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(worker: _Worker) -> None:
    worker.process.terminate()
    worker.process.join(_PATIENCE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.pipe.close()


def _died(code: int | None) -> str:
    how = f"was killed ({signal.Signals(-code).name})" if code and -code in {*signal.Signals} else f"ended ({code})"
    return f"its process {how}, perhaps for want of memory: run the same command again, it goes on where it stopped"


def _serve(pipe: Connection) -> None:
    """In a new process: do jobs until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked decides when to stop
    end_with_parent()
    torch.set_num_threads(THREADS)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(_outcome(job, lambda *said: pipe.send(("told", said))))


def _outcome(job: Job, tell: Tell) -> tuple[str, Any]:
    try:
        return "done", do(job, tell)
    except ArithcircError as error:
        return "failed", str(error)
    except Exception as error:
        return "failed", f"unexpected {type(error).__name__}: {error}"
