"""The loop of a sweep: which task runs next, what becomes of those that fail, and when it ends.

Order. The tasks of a model's reference run first; another checkpoint's task of an operator is ready when the
reference's task of that operator has ended. Among ready tasks one of the checkpoint that the free worker has loaded
comes first, then one of a checkpoint that nobody is working on, the latest first: early checkpoints answer little and
are done quickly, which suits the end.

Failures. A task that fails is recorded by its worker and the rest goes on. A task whose worker was lost is tried again,
`retries` times, then recorded as failed. When all tasks of a reference fail, the latest earlier checkpoint takes its
place, and sweep.json says so.

Resuming. A task counts as finished when its outcome is on disk, is not a failure, and was made for the same numbers by
code of this version; everything else runs, and what hangs on a reference that runs again is looked at again by its
worker, which changes nothing where nothing changed.

The end comes when every task has ended, or when the disk is nearly full: then nothing more is started, what runs ends,
and the summary says so.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from arithcirc.catalogue import OPERATOR_FOLDERS, SweepFolder, TaskFiles
from arithcirc.errors import ArithcircError
from arithcirc.store import write_json
from arithcirc.sweep.executors import Event, Executor, Finished, Key, Lost, Progress
from arithcirc.sweep.folder import SPARE_BYTES, change_reference, free_disk
from arithcirc.sweep.given import read_outcome, read_values, stamp
from arithcirc.sweep.task import Outcome, Task

_TURN = 0.5
"""Seconds between two looks at what the workers say."""
_AHEAD = 2
"""Checkpoints next in order whose weights are fetched."""
Group = tuple[str, str]
"""A model's name and a revision: what a worker loads."""


@runtime_checkable
class Weights(Protocol):
    """Brings the weights of remote checkpoints here, once, before workers need them (`fetch`)."""

    def ready(self, task: Task) -> bool:
        """Whether the task's weights are here or cannot be had; asking starts to fetch them, in the background."""

    def error(self, task: Task) -> str | None:
        """Why a task's weights cannot be had, in one line."""

    def prepared(self, task: Task) -> Task:
        """The task as it is handed over when its weights are here (offline)."""

    def done(self, name: str, revision: str) -> None:
        """The last task of a checkpoint has ended: its weights may go."""


@dataclass(frozen=True)
class Notice:
    """Something happened: `what` is started, progress, done, failed, again (a lost task is tried again) or note."""

    what: str
    text: str = ""
    task: Task | None = None
    outcome: Outcome | None = None
    stage: str = ""
    done: int = 0
    total: int = 0


Listen = Callable[[Notice], None]


def silence(notice: Notice) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Summary:
    """How a sweep's tasks ended this time. `seconds` are of the wall, `task_seconds` of work and loading in workers."""

    ended: tuple[tuple[Task, Outcome], ...]
    left: int
    stopped: str | None
    seconds: float
    task_seconds: float

    @property
    def failed(self) -> list[tuple[Task, str]]:
        """Tasks that failed, and why."""
        return [
            (task, outcome.reason or "no reason given") for task, outcome in self.ended if outcome.status == "failed"
        ]


@dataclass
class _State:
    """What is waiting, under way and over."""

    pending: list[Task]
    active: dict[Key, Task] = field(default_factory=dict)
    references: set[Key] = field(default_factory=set)
    """Keys of reference tasks that have not ended."""
    ended: list[tuple[Task, Outcome]] = field(default_factory=list)
    lost: Counter[Key] = field(default_factory=Counter)
    freed: list[Group] = field(default_factory=list)
    """Checkpoints that idle workers hold, the latest last."""
    loaded: set[Group] = field(default_factory=set)
    """Checkpoints that were handed out and have tasks left."""
    stopped: str | None = None


def finished_before(task: Task, files: TaskFiles) -> Outcome | None:
    """The outcome of a task that need not run again: not a failure, of the same task, by the present code."""
    held, stamped, outcome = read_values(files.task), read_values(files.stamp), read_outcome(files)
    if held is None or stamped is None or outcome is None or outcome.status == "failed":
        return None
    now = stamp(task, None)
    current = all(stamped.get(name) == now[name] for name in ("reference", "results_version"))
    return outcome if current and task.same_work(held) else None


def unfinished(sweep: SweepFolder, tasks: Sequence[Task]) -> list[Task]:
    """The tasks that have to run, or to be looked at again because their reference's runs."""
    fresh = {t.key for t in tasks if finished_before(t, sweep.files(*t.key)) is None}
    return [t for t in tasks if t.key in fresh or (t.name, t.reference, t.operator) in fresh]


def run_tasks(
    sweep: SweepFolder,
    tasks: Sequence[Task],
    executor: Executor,
    *,
    retries: int = 2,
    weights: Weights | None = None,
    listen: Listen = silence,
) -> Summary:
    """Run what is not finished of `tasks` (all of the sweep's that are asked for) and say how it ended.

    The executor is left open. KeyboardInterrupt passes through: what was running is then not recorded and runs again.
    """
    start = time.perf_counter()
    state = _State(unfinished(sweep, tasks))
    state.references = {t.key for t in state.pending if t.is_reference}
    while state.pending or state.active:
        waiting = _hand_over(sweep, state, executor, weights, listen)
        if not state.active and (not waiting or state.stopped):
            break
        for event in executor.poll(_TURN):
            _hear(sweep, state, event, retries, listen)
        _let_weights_go(state, weights)
    spent = sum((outcome.seconds + outcome.load_seconds for _, outcome in state.ended), 0.0)
    left = len(state.pending)
    return Summary(tuple(state.ended), left, state.stopped, time.perf_counter() - start, spent)


# -- which task next --------------------------------------------------------------------------------------------------


def _hand_over(sweep: SweepFolder, state: _State, executor: Executor, weights: Weights | None, listen: Listen) -> bool:
    """Give the executor as many ready tasks as it has slots for; whether some wait for their weights."""
    while state.stopped is None:
        if (free := free_disk(sweep.path)) < SPARE_BYTES:
            state.stopped = f"the disk is nearly full ({free / 1e6:.0f} MB free at {sweep.path})"
            listen(Notice("note", f"{state.stopped}: no further task is started"))
            break
        ready = _in_order(state)
        here = _here(state, ready, weights)
        if len(state.active) >= executor.slots or not here:
            return bool(ready)
        task = next(t for t in ready if t.key[:2] in here)
        state.pending.remove(task)
        if weights is not None and (reason := weights.error(task)) is not None:
            _end(sweep, state, task, _failure(reason), listen, written=False)
            continue
        if task.key[:2] in state.freed:
            state.freed.remove(task.key[:2])
        state.loaded.add(task.key[:2])
        state.active[task.key] = task
        executor.submit(task if weights is None else weights.prepared(task))
        listen(Notice("started", task=task))
    return False


def _here(state: _State, ready: Sequence[Task], weights: Weights | None) -> set[Group]:
    """Checkpoints whose weights are here; only of the next few in order they are asked for, so that few are on disk."""
    first = {t.key[:2]: t for t in reversed(ready)}
    if weights is None:
        return set(first)
    ahead = list(dict.fromkeys(t.key[:2] for t in ready if t.key[:2] not in state.loaded))[:_AHEAD]
    return state.loaded & set(first) | {group for group in ahead if weights.ready(first[group])}


def _in_order(state: _State) -> list[Task]:
    """The ready tasks, the one that costs the least loading first."""
    ready = [t for t in state.pending if t.is_reference or not _waits(t, state)]
    busy = {t.key[:2] for t in state.active.values()}
    left = Counter(t.key[:2] for t in ready)

    def rank(task: Task) -> tuple[bool, bool, bool, int, int]:
        group = task.key[:2]
        late = task.step if task.step is not None else 2**62
        return (
            not task.is_reference,
            group not in state.freed,
            group in busy,
            -left[group] if group in busy else 0,
            -late,
        )

    return sorted(ready, key=rank)


def _waits(task: Task, state: _State) -> bool:
    """Whether the reference's task of this operator has not ended, or its reference may still have to be replaced."""
    of_model = {key for key in state.references if key[:2] == (task.name, task.reference)}
    if not of_model:
        return False
    return (task.name, task.reference, task.operator) in of_model or not _one_worked(task, state)


def _one_worked(task: Task, state: _State) -> bool:
    """Whether some task of the reference did not fail, in this run or (then it does not run now) before."""
    ended = {t.key[2]: o.status for t, o in state.ended if t.key[:2] == (task.name, task.reference)}
    return any(status != "failed" for status in ended.values()) or task.operator not in ended


# -- what happened ----------------------------------------------------------------------------------------------------


def _hear(sweep: SweepFolder, state: _State, event: Event, retries: int, listen: Listen) -> None:
    """Take an event in; events of tasks that are not under way are old news."""
    task = state.active.get(event.key)
    if task is None:
        return
    if isinstance(event, Progress):
        listen(Notice("progress", task=task, stage=event.stage, done=event.done, total=event.total))
    elif isinstance(event, Finished):
        del state.active[event.key]
        state.freed.append(task.key[:2])
        outcome = replace(event.outcome, attempts=event.outcome.attempts + state.lost[event.key])
        written = outcome == event.outcome and sweep.files(*event.key).outcome.exists()
        _end(sweep, state, task, outcome, listen, written=written)
    elif isinstance(event, Lost):
        del state.active[event.key]
        state.lost[event.key] += 1
        if state.lost[event.key] <= retries:
            state.pending.insert(0, task)
            listen(Notice("again", f"{event.reason}; attempt {state.lost[event.key] + 1}", task))
        else:
            reason = f"{event.reason}, {state.lost[event.key]} times"
            _end(sweep, state, task, _failure(reason, state.lost[event.key]), listen, written=False)


def _end(sweep: SweepFolder, state: _State, task: Task, outcome: Outcome, listen: Listen, *, written: bool) -> None:
    """Record that a task is over."""
    if not written:
        _record(sweep, task, outcome)
    state.references.discard(task.key)
    state.ended.append((task, outcome))
    failed = outcome.status == "failed"
    listen(Notice("failed" if failed else "done", outcome.reason or "", task, outcome))
    if failed and task.is_reference:
        _replace_references(sweep, state, listen)


def _record(sweep: SweepFolder, task: Task, outcome: Outcome) -> None:
    """Write what its worker could not: a task that was lost, or how often it was tried."""
    files = sweep.files(*task.key)
    with contextlib.suppress(ArithcircError):  # a full disk: the summary has it all the same
        if not files.task.exists():
            write_json(files.task, task.as_json())
        write_json(files.outcome, asdict(outcome))


def _failure(reason: str, attempts: int = 1) -> Outcome:
    return Outcome("failed", reason, attempts=attempts, finished=datetime.now(UTC).isoformat(timespec="seconds"))


def _let_weights_go(state: _State, weights: Weights | None) -> None:
    """Tell which checkpoints have no task left."""
    if weights is None:
        return
    needed = {t.key[:2] for t in [*state.pending, *state.active.values()]}
    for group in [g for g in state.loaded if g not in needed]:
        state.loaded.discard(group)
        weights.done(*group)


# -- a reference that cannot be read ----------------------------------------------------------------------------------


def _replace_references(sweep: SweepFolder, state: _State, listen: Listen) -> None:
    """Where every task of a reference failed, compare with the latest earlier checkpoint instead."""
    for entry in sweep.manifest["models"]:
        name, reference = entry["name"], entry["reference"]
        group = (name, reference)
        reasons = [o.reason for t, o in state.ended if t.key[:2] == group and o.status == "failed"]
        left = [t for t in [*state.pending, *state.active.values()] if t.key[:2] == group]
        if not reasons or left or _ever_worked(sweep, group):
            continue
        revisions = [r["revision"] for r in entry["revisions"]]
        waiting = {t.revision for t in state.pending if t.name == name}
        earlier = [r for r in revisions[: revisions.index(reference)] if r in waiting]
        if not earlier:
            continue
        note = f"{reference} could not be analysed ({reasons[0]}); {earlier[-1]} takes its place"
        change_reference(sweep, name, earlier[-1], note)
        listen(Notice("note", f"{name}: {note}"))
        state.pending = [replace(t, reference=earlier[-1]) if t.name == name else t for t in state.pending]
        state.references |= {t.key for t in state.pending if t.name == name and t.is_reference}


def _ever_worked(sweep: SweepFolder, group: Group) -> bool:
    """Whether some task of a checkpoint is done, now or before, whatever its operator."""
    outcomes = (read_outcome(sweep.files(*group, symbol)) for symbol in OPERATOR_FOLDERS)
    return any(outcome is not None and outcome.status != "failed" for outcome in outcomes)
