"""Influence studies of several checkpoints, or of one in portions, on the workers of a sweep.

Every study is prepared first, its partitions are then dealt out in as many runs as keep all workers busy, and it is
finished when all of them are there (`influence_task`). A task whose worker is lost is tried again; a study of which a
task fails stops there, the others go on. What is on disk already is not computed again, so the same call goes on where
it stopped, on whatever workers.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arithcirc.errors import SweepIncomplete
from arithcirc.store import RunFolder
from arithcirc.sweep.executors import Event, Executor, Finished, Key, Lost, Progress
from arithcirc.sweep.influence_task import FINISH, PREPARE, StudyTask

DO = "arithcirc.sweep.influence_work:run_task"
RUNS_PER_WORKER = 2
"""Runs of partitions that a worker gets of one study, so that a slow one does not hold up the end."""
_TURN = 0.5
Listen = Callable[[str, StudyTask, str], None]
"""What happened (started, progress, done, failed, again), to which task, and words about it."""


def unheard(what: str, task: StudyTask, words: str) -> None:
    """Listen to nothing."""


@dataclass
class _State:
    """What waits, what is under way, and how many runs of partitions each study still lacks."""

    waiting: deque[StudyTask]
    active: dict[Key, StudyTask] = field(default_factory=dict)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: Counter[Key] = field(default_factory=Counter)
    failed: list[tuple[StudyTask, str]] = field(default_factory=list)


def run_studies(
    studies: Sequence[StudyTask], executor: Executor, *, partition: int, retries: int = 2, listen: Listen = unheard
) -> None:
    """Do whole studies, each given by any of its tasks. Raises SweepIncomplete when one of them failed."""
    state = _State(deque(study.doing(PREPARE) for study in studies))
    try:
        while state.waiting or state.active:
            while state.waiting and len(state.active) < executor.slots:
                task = state.waiting.popleft()
                state.active[task.key] = task
                executor.submit(task)
                listen("started", task, "")
            for event in executor.poll(_TURN):
                _hear(event, state, executor.slots, partition, retries, listen)
    except BaseException:
        executor.close(cancel=True)
        raise
    executor.close()
    if state.failed:
        task, why = state.failed[0]
        more = f" (and {len(state.failed) - 1} more)" if len(state.failed) > 1 else ""
        raise SweepIncomplete(f"{task} failed: {why}{more}; the same command goes on with what is missing")


def _hear(event: Event, state: _State, slots: int, partition: int, retries: int, listen: Listen) -> None:
    task = state.active.get(event.key)
    if task is None:
        return
    if isinstance(event, Progress):
        listen("progress", task, f"{event.stage} {event.done}/{event.total}")
        return
    del state.active[event.key]
    if isinstance(event, Lost):
        state.lost[event.key] += 1
        if state.lost[event.key] <= retries:
            listen("again", task, event.reason)
            state.waiting.appendleft(task)
            return
    _ended(event, task, state, slots, partition, listen)


def _ended(event: Finished | Lost, task: StudyTask, state: _State, slots: int, partition: int, listen: Listen) -> None:
    """Record how a task ended, and put what it was waited for by into the queue."""
    why = event.reason if isinstance(event, Lost) else event.outcome.reason
    failed = isinstance(event, Lost) or event.outcome.status == "failed"
    study = task.key[:2]
    if failed:
        state.failed.append((task, why or "no reason given"))
        listen("failed", task, why or "")
        return
    listen("done", task, "")
    if task.part == PREPARE:
        runs = _runs(task, partition, slots)
        state.left[study] = len(runs)
        state.waiting.extend(task.doing(run) for run in runs)
    elif task.part != FINISH:
        state.left[study] -= 1
        if not state.left[study]:
            state.waiting.append(task.doing(FINISH))


def _runs(task: StudyTask, partition: int, slots: int) -> list[str]:
    """Runs of partitions, as `0..3`, of a prepared study."""
    folder = Path(task.out, task.name.replace("/", "--"), task.revision, "influence")
    pieces = int(RunFolder.open(folder).manifest["stages"]["documents"]["pieces"])
    count = -(-pieces // partition)
    size = -(-count // (slots * RUNS_PER_WORKER))
    return [f"{start}..{min(start + size, count) - 1}" for start in range(0, count, size)]
