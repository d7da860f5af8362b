"""Tasks without a model: what becomes of each is written down beforehand."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from arithcirc.catalogue import SweepFolder
from arithcirc.store import write_json
from arithcirc.sweep.executors import Event, Finished, Key, Lost, Progress
from arithcirc.sweep.folder import open_sweep
from arithcirc.sweep.given import stamp
from arithcirc.sweep.plan import tasks_of
from arithcirc.sweep.revisions import Checkpoints, Revision
from arithcirc.sweep.task import Loading, Outcome, Settings, Task

STEPS = ("step0", "step1", "step2", "step3")


def model(name: str = "m", steps: tuple[str, ...] = STEPS) -> Checkpoints:
    """A model with these revisions."""
    return Checkpoints(name, name, tuple(Revision(s, int(s[4:])) for s in steps), local=True)


def planned(
    path: Path, *, models: tuple[Checkpoints, ...] = (model(),), operators: str = "+*", reference: str | None = None
) -> tuple[SweepFolder, list[Task]]:
    """A sweep's folder and its tasks."""
    settings, loading = Settings(), Loading()
    sweep = open_sweep(path, models, operators, settings, loading, reference=reference)
    return sweep, tasks_of(sweep, models, operators, settings, loading)


def write_ended(root: Path, task: Task, outcome: Outcome) -> None:
    """The files that a worker leaves."""
    files = SweepFolder(root).files(*task.key)
    write_json(files.task, task.as_json())
    write_json(files.stamp, stamp(task, None))
    write_json(files.outcome, asdict(outcome))


class Scripted:
    """An executor whose tasks end in the order in which they were handed over, as `fates` says (default: done).

    A fate is done, failed, lost, or a number n: lost n times, then done. Fates are by (revision, operator), or by
    revision for all of its operators.
    """

    def __init__(self, root: Path, slots: int = 1, fates: dict | None = None) -> None:
        self.root, self.slots, self.fates = root, slots, fates or {}
        self.order: list[tuple[str, str, str]] = []
        self.tasks: list[Task] = []
        self.waiting: list[Task] = []
        self.tried: Counter[Key] = Counter()
        self.most = 0

    def submit(self, task: Task) -> None:
        self.order.append(task.key)
        self.tasks.append(task)
        self.waiting.append(task)
        self.most = max(self.most, len(self.waiting))

    def poll(self, _: float) -> list[Event]:
        if not self.waiting:
            return []
        task = self.waiting.pop(0)
        self.tried[task.key] += 1
        fate = self.fates.get(task.key[1:], self.fates.get(task.revision, "done"))
        lost = fate == "lost" or (isinstance(fate, int) and self.tried[task.key] <= fate)
        if lost:
            return [Progress(task.key, "own/prompts", 1, 2), Lost(task.key, "its worker is gone")]
        outcome = Outcome("failed", "broken") if fate == "failed" else Outcome("done", seconds=2.0)
        write_ended(self.root, task, outcome)
        return [Finished(task.key, outcome)]

    def close(self, *, cancel: bool = False) -> None:
        if cancel:
            self.waiting.clear()
