"""Tasks on a Ray cluster: a running one (`address`), or one that is started here and ended with the sweep.

Each slot is an actor, a process that stays and keeps the model of its last task; it reserves `cpus_per_task` cores and
`gpus_per_task` GPUs (a share of one is allowed), and its libraries use as many threads as it has cores. With no GPU
reserved it sees none. Ray restarts and retries nothing here: an actor that dies (killed, out of memory, its node gone)
is reported lost, the driver decides, and a new actor takes its place, on whatever node has room.

Tasks and outcomes cross as JSON (`remote`). The sweep's folder has to be on a disk that all nodes share, under the same
path, and this package installed on them. A cluster started here listens on 127.0.0.1 only, has no dashboard, sends no
usage statistics and leaves its logs in Ray's own folder. An address is first tried from another process, because Ray
waits for minutes for a cluster that does not answer. Progress within tasks is not reported.
"""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.sweep.executors import Event, Finished, Lost, Work
from arithcirc.sweep.remote import DO, THREADS, Remote
from arithcirc.sweep.task import Outcome

_PATIENCE = 12.0
"""Seconds that a cluster has to answer."""
_CONNECT = 3.0
"""Seconds for a connection to its port."""
_TRY = """
import sys, warnings
warnings.simplefilter("ignore")
import ray
ray.init(address=sys.argv[1], logging_level="CRITICAL", log_to_driver=False)
ray.shutdown()
"""
_STORE = 100 * 2**20
"""Bytes of shared memory that a cluster started here takes; only short texts go through it."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What makes Ray listen on 127.0.0.1 only, read when it is imported: it lets in whoever reaches its ports."""


@dataclass
class _Actor:
    """One slot: its handle, what it does, and the checkpoint whose model it holds."""

    handle: Any
    task: Work | None = None
    answer: Any = None
    holds: tuple[str, str] | None = None


class RayExecutor:
    """Runs tasks on `slots` actors (None: as many as the cluster has room for).

    `environment` is set in the actors' processes before their libraries start; `do` names the function that does a
    task. Raises RequestError for an address that Ray cannot mean or more than the cluster has, and EnvironmentFailure
    when no cluster answers at the address.
    """

    def __init__(
        self,
        root: Path,
        *,
        address: str | None = None,
        gpus_per_task: float = 0,
        cpus_per_task: int = 1,
        slots: int | None = None,
        environment: dict[str, str] | None = None,
        do: str = DO,
    ) -> None:
        for name, value in (_QUIET | (_LOOPBACK if address is None else {})).items():
            os.environ.setdefault(name, value)
        import ray

        self._ray: Any = ray
        self._root, self._do, self._threads = str(root.resolve()), do, cpus_per_task
        self._needs = {"CPU": float(cpus_per_task), "GPU": float(gpus_per_task)}
        self._environment = dict.fromkeys(THREADS, str(cpus_per_task)) | (environment or {})
        self._actors: list[_Actor] = []
        self._ours = not ray.is_initialized()
        if self._ours:
            self._connect(address, slots)
        try:
            room = self._room()
        except RequestError:
            self.close(cancel=True)
            raise
        self.slots = slots or room

    # -- the protocol --------------------------------------------------------------------------------------------------

    def submit(self, task: Work) -> None:
        """Give a task to an idle actor, to one that holds its model if there is one, or start an actor."""
        actor = self._idle(task)
        given = task.on_threads(task.loading.threads or self._threads)
        actor.task, actor.holds = task, task.key[:2]
        actor.answer = actor.handle.do.remote(given.text())

    def poll(self, timeout: float) -> list[Event]:
        """Answers that came, waiting at most `timeout` seconds for the first."""
        busy = {actor.answer: actor for actor in self._actors if actor.answer is not None}
        if not busy:
            time.sleep(timeout)
            return []
        waiting = list(busy)
        ready, rest = self._ray.wait(waiting, num_returns=1, timeout=timeout)
        if ready and rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [self._event(busy[answer]) for answer in ready]

    def close(self, *, cancel: bool = False) -> None:
        """End the actors and a cluster that was started here; without `cancel` their tasks end first."""
        if not self._ray.is_initialized():
            return
        busy = [actor.answer for actor in self._actors if actor.answer is not None]
        if busy and not cancel:
            self._ray.wait(busy, num_returns=len(busy))
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors.clear()
        if self._ours:
            with _quietly():
                self._ray.shutdown()

    # -- actors --------------------------------------------------------------------------------------------------------

    def pids(self) -> list[int]:
        """Processes of the actors; waits for those that work."""
        return [int(self._ray.get(actor.handle.pid.remote())) for actor in self._actors]

    def _idle(self, task: Work) -> _Actor:
        idle = [actor for actor in self._actors if actor.task is None]
        for actor in idle:
            if actor.holds == task.key[:2]:
                return actor
        if len(self._actors) < self.slots:
            return self._start()
        if not idle:
            raise EnvironmentFailure(f"all {self.slots} actors are busy, no task can be handed over")
        return idle[0]

    def _start(self) -> _Actor:
        kind = self._ray.remote(Remote).options(
            num_cpus=self._needs["CPU"],
            num_gpus=self._needs["GPU"],
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": self._environment},
        )
        actor = _Actor(kind.remote(self._root, self._do))
        self._actors.append(actor)
        return actor

    def _event(self, actor: _Actor) -> Event:
        """What became of an actor's task."""
        answer, task = actor.answer, actor.task
        actor.task = actor.answer = None
        if task is None:
            raise EnvironmentFailure("Ray answered a question that nobody asked")
        try:
            return Finished(task.key, Outcome.of(json.loads(self._ray.get(answer))))
        except self._ray.exceptions.RayActorError as error:
            self._actors.remove(actor)
            return Lost(task.key, f"its Ray actor died ({_shortly(error)})")
        except self._ray.exceptions.RayError as error:
            self._actors.remove(actor)
            self._ray.kill(actor.handle)
            cause = getattr(error, "cause", None)  # what the function raised, where it did
            said = f"{type(cause).__name__}: {' '.join(str(cause).split())}" if cause is not None else _shortly(error)
            return Lost(task.key, f"Ray could not do it ({said[:300]})")

    # -- the cluster ---------------------------------------------------------------------------------------------------

    def _connect(self, address: str | None, slots: int | None) -> None:
        """Join the cluster at `address`, or start one with as many cores as the slots need."""
        options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        if address is None:
            address = "local"
            cores = self._cores() if slots is None else max(self._cores(), slots * int(self._needs["CPU"]))
            options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE}
        else:
            _check_reachable(address)
        with _quietly():
            try:
                self._ray.init(address=address, **options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise EnvironmentFailure(
                    f"Ray could not be started or joined at {address!r}: {_shortly(error)}; check the address, or "
                    "leave --address out to start a cluster here"
                ) from None
        logging.getLogger("ray").setLevel(logging.CRITICAL)

    def _cores(self) -> int:
        from arithcirc.sweep.local import cores

        return max(cores(), int(self._needs["CPU"]))

    def _room(self) -> int:
        """Actors that the cluster has room for. Raises RequestError when it has room for none."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        room = sum(
            min(int(node.get(kind, 0.0) / need + 1e-9) for kind, need in self._needs.items() if need) for node in nodes
        )
        if room < 1:
            most = {kind: max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in self._needs}
            raise RequestError(
                f"a task needs {self._needs['CPU']:g} cores and {self._needs['GPU']:g} GPUs on one node, and the "
                f"largest node of the Ray cluster has {most['CPU']:g} and {most['GPU']:g}: use a smaller "
                "--cpus-per-task or --gpus-per-task"
            )
        return room


def _check_reachable(address: str) -> None:
    """Raise EnvironmentFailure within seconds when no cluster answers, RequestError for an address of another kind."""
    if "://" in address:
        raise RequestError(
            f"--address {address} is not supported: run the sweep on a node of the cluster and give the address of its "
            "head as host:port (6379 by default), or auto"
        )
    host, _, port = address.rpartition(":")
    if address != "auto":
        if not host or not port.isdigit():
            raise RequestError(f"--address {address!r} is no address of a Ray cluster: give host:port, or auto")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT).close()
        except (OSError, OverflowError) as error:
            raise _unreachable(address, _shortly(error)) from None
    command = [sys.executable, "-c", _TRY, address]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"no answer in {_PATIENCE:g} s") from None
    if tried.returncode:
        raise _unreachable(address, _shortly((tried.stderr.strip() or "it refused").splitlines()[-1]))


def _unreachable(address: str, why: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"no Ray cluster answers at {address} ({why}): start one with 'ray start --head', check the address, or leave "
        "--address out to start one here"
    )


def _shortly(error: object) -> str:
    """The line of an error that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("The actor is dead because")), (lines or ["no reason"])[0])
    return said.split(" Worker exit type")[0][:200].rstrip(". ")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Ray's advice stays out of our output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
