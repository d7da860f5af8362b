"""Workers that are processes on this machine (the default): each keeps its model loaded from task to task.

Every worker is `python -m arithcirc.sweep.worker ROOT` in a session of its own, so that Ctrl-C reaches the driver only.
Its threads are the cores divided by the workers, set before its libraries start, so that workers do not fight; with
several GPUs each worker sees one of them. A thread per worker reads its answers, and the end of its output says at once
that it died: its task is reported lost, and the next task starts a new worker. A worker whose driver dies ends by
itself. What workers print goes to `worker<N>.log` in `logs` (default: `<root>/logs`).
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.sweep.executors import Event, Finished, Lost, Progress, Work
from arithcirc.sweep.task import Outcome, Task

_PATIENCE = 5.0
"""Seconds a worker has to end when asked."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def cores() -> int:
    """Cores this process may use."""
    count = getattr(os, "sched_getaffinity", None)
    return len(count(0)) if count is not None else os.cpu_count() or 1


def gpus() -> list[str]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES names them; without asking the driver library."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [g for g in visible.split(",") if g.strip() and g.strip() != "-1"]
    return [str(n) for n in range(len([*Path("/dev").glob("nvidia[0-9]*")]))]


@dataclass
class _Worker:
    """One process: what it is doing, and the model it holds."""

    number: int
    process: "subprocess.Popen[str]"
    reader: threading.Thread
    task: Work | None = None
    holds: tuple[str, str] | None = None
    answers: list[dict[str, Any]] = field(default_factory=list)

    def send(self, request: dict[str, Any]) -> None:
        """One request; a worker that is gone says so through its reader."""
        stdin = self.process.stdin
        if stdin is not None:
            with contextlib.suppress(OSError):
                stdin.write(json.dumps(request, ensure_ascii=False) + "\n")
                stdin.flush()


class LocalExecutor:
    """Runs tasks on `slots` processes of this machine. `command` replaces the worker's command line; ROOT follows it.

    `devices` are the GPUs that workers get in turn (none: they see what this process sees). `slots` may be changed
    while nothing is under way.
    """

    def __init__(
        self,
        root: Path,
        *,
        workers: int,
        threads: int | None = None,
        devices: Sequence[str] = (),
        logs: Path | None = None,
        command: Sequence[str] = (sys.executable, "-m", "arithcirc.sweep.worker"),
    ) -> None:
        if workers < 1:
            raise RequestError(f"--workers {workers} is too few: give 1 or more, or leave it out")
        self.slots = workers
        self._root, self._threads, self._devices, self._command = root, threads, list(devices), [*command]
        self._logs = logs or root / "logs"
        self._workers: list[_Worker] = []
        self._answers: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()
        self._ready: list[Event] = []

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return self._threads or max(1, cores() // self.slots)

    # -- the protocol --------------------------------------------------------------------------------------------------

    def submit(self, task: Work) -> None:
        """Give a task to an idle worker, to one that holds its model if there is one, or start a worker."""
        worker = self._idle(task)
        threads = task.loading.threads or self.threads
        worker.task, worker.holds = task, task.key[:2]
        worker.send({"task": task.on_threads(threads).as_json()})

    def poll(self, timeout: float) -> list[Event]:
        """What happened, waiting at most `timeout` seconds for the first event."""
        before, self._ready = self._ready, []
        return before + self._heard(0.0 if before else timeout)

    def close(self, *, cancel: bool = False) -> None:
        """End the workers; without `cancel` their tasks end first."""
        while not cancel and any(w.task for w in self._workers):
            self._ready += self._heard(1.0)
        for worker in self._workers:
            if worker.process.stdin is not None:
                with contextlib.suppress(OSError):
                    worker.process.stdin.close()  # it ends by itself
        for worker in self._workers:
            try:
                worker.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            self._let_go(worker)
        self._workers.clear()

    def plan(self, task: Task) -> dict[str, Any]:
        """What a task would cost (`work.plan_task`), measured in a worker, which then holds its model.

        Raises RequestError with the worker's reason, EnvironmentFailure when the worker died.
        """
        worker = self._idle(task)
        worker.holds = task.key[:2]
        worker.send({"plan": task.on_threads(self.threads).as_json()})
        while not worker.answers:
            self._ready += self._heard(60.0)
            if worker not in self._workers:
                raise EnvironmentFailure(f"the worker that plans {task} ended: {self._why(worker)}")
        answer = worker.answers.pop()
        if "refused" in answer:
            raise RequestError(answer["refused"])
        found: dict[str, Any] = answer["planned"]
        return found

    # -- workers -------------------------------------------------------------------------------------------------------

    def _idle(self, task: Work) -> _Worker:
        for worker in [w for w in self._workers if w.task is None and w.process.poll() is not None]:
            self._ended(worker)
        idle = [w for w in self._workers if w.task is None]
        for worker in idle:
            if worker.holds == task.key[:2]:
                return worker
        if len(self._workers) < self.slots:
            return self._start()
        if not idle:
            raise EnvironmentFailure(f"all {self.slots} workers are busy, no task can be handed over")
        return idle[0]

    def _start(self) -> _Worker:
        """A new worker, under the lowest number that is free."""
        number = next(n for n in range(len(self._workers) + 1) if n not in {w.number for w in self._workers})
        environment = os.environ | dict.fromkeys(_THREADS, str(self.threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[number % len(self._devices)]
        log = self._log(number)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w", encoding="utf-8") as said:
                process = subprocess.Popen(  # noqa: S603
                    [*self._command, str(self._root)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    text=True,
                    encoding="utf-8",
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise EnvironmentFailure(f"cannot start a worker process: {error}") from None
        worker = _Worker(number, process, threading.Thread(name=f"worker{number}", daemon=True))
        worker.reader = threading.Thread(
            target=self._read, args=(worker, process.stdout or ()), name=f"worker{number}", daemon=True
        )
        worker.reader.start()
        self._workers.append(worker)
        return worker

    def _read(self, worker: _Worker, lines: Iterable[str]) -> None:
        try:
            for line in lines:
                self._answers.put((worker, line))
        finally:
            self._answers.put((worker, None))

    def _heard(self, timeout: float) -> list[Event]:
        """What the workers said, waiting at most `timeout` seconds for the first line that counts."""
        events: list[Event] = []
        while True:
            try:
                worker, line = self._answers.get_nowait() if events else self._answers.get(timeout=max(timeout, 1e-3))
            except queue.Empty:
                return events
            events += self._event(worker, line)
            if worker.answers:
                return events

    def _event(self, worker: _Worker, line: str | None) -> list[Event]:
        """What one line of a worker means; None: it ended."""
        if line is None:
            return self._ended(worker)
        answer = json.loads(line)
        if "progress" in answer:
            model, revision, symbol, stage, done, total = answer["progress"]
            return [Progress((model, revision, symbol), stage, done, total)]
        if "finished" in answer:
            worker.task = None
            model, revision, symbol = answer["finished"]
            return [Finished((model, revision, symbol), Outcome.of(answer["outcome"]))]
        worker.answers.append(answer)
        return []

    def _ended(self, worker: _Worker) -> list[Event]:
        if worker not in self._workers:
            return []
        worker.process.wait()
        self._workers.remove(worker)
        self._let_go(worker)
        return [Lost(worker.task.key, self._why(worker))] if worker.task is not None else []

    def _let_go(self, worker: _Worker) -> None:
        worker.reader.join()
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _why(self, worker: _Worker) -> str:
        """How a worker ended, in one line."""
        code = worker.process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
            free = psutil.virtual_memory().available / 1e9
            memory = f", as the system does when memory runs out ({free:.1f} GB are free now)" if code == -9 else ""
            return f"its worker process was killed ({name}{memory})"
        return f"its worker process ended with code {code}{self._last_words(worker)}"

    def _last_words(self, worker: _Worker) -> str:
        try:
            lines = self._log(worker.number).read_text("utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {lines[-1][:300]}" if lines else ""

    def _log(self, number: int) -> Path:
        return self._logs / f"worker{number}.log"
