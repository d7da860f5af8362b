"""What runs the tasks of a sweep: a small protocol, and the events it answers with.

The driver (`driver`) hands an executor at most `slots` tasks at once and asks it, again and again, what happened. An
executor knows the sweep's folder and how to reach its workers; it decides nothing: which task comes next, whether one
is tried again and what is recorded is the driver's business. Local processes are `local`, Ray is `ray_executor` and
SLURM is `slurm`.

    submit(task)      hand over a task; never more than `slots` are under way
    poll(timeout)     wait at most so many seconds, return what happened since; [] when nothing did
    close(cancel=)    end all workers; with `cancel` at once, without waiting for what they are doing

Of every submitted task exactly one `Finished` or `Lost` comes back, unless the executor is closed before. A task that
fails in its own code is `Finished` with a failed outcome, which its worker has written; `Lost` means that its worker
ended without an answer (killed, out of memory, machine gone), so that trying again may help. `Progress` is for people
and may be left out.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from arithcirc.sweep.task import Loading, Outcome

Key = tuple[str, str, str]
"""What names a task in a sweep: model, revision, operator (`Task.key`)."""


@runtime_checkable
class Work(Protocol):
    """A task as executors see it: `Task` of a sweep, `StudyTask` of an influence study. It is data and can be sent."""

    @property
    def key(self) -> Key:
        """What names it among those under way; the first two parts say which model it loads."""

    @property
    def loading(self) -> Loading:
        """How its model is loaded."""

    def on_threads(self, threads: int) -> "Work":
        """The same work on so many threads."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""

    def text(self) -> str:
        """One line of JSON."""


@dataclass(frozen=True)
class Progress:
    """A task is in `stage` (`own/localize`, `loading`, ...), `done` of `total` rows."""

    key: Key
    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A task ended and its outcome is on disk, whatever it is."""

    key: Key
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """The worker of a task ended before the task did; `reason` says how, in one line."""

    key: Key
    reason: str


Event = Progress | Finished | Lost


@runtime_checkable
class Executor(Protocol):
    """Somewhere to run tasks. Raises EnvironmentFailure when it is made and cannot be reached."""

    slots: int
    """Tasks that may be under way at once."""

    def submit(self, task: Work) -> None:
        """Hand over a task."""

    def poll(self, timeout: float) -> list[Event]:
        """What happened since the last call, waiting at most `timeout` seconds for something to happen."""

    def close(self, *, cancel: bool = False) -> None:
        """End all workers; with `cancel` without waiting for their tasks. Safe to call twice."""
