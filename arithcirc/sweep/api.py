"""A sweep from Python: what the command line does, as one function.

    import arithcirc as ac
    found = ac.run_sweep(revisions="step512,step4000", operators="*", out="runs/mine")
    found.sql("select revision, accuracy from steps where prompts = 'own'")

The folder is locked while it runs. Whatever way it ends (all done, some failed, interrupted), the tables are made from
what is there; the same call goes on with what is missing.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arithcirc.arithmetic.operators import OperandRange, parse_operators
from arithcirc.catalogue import SweepFolder
from arithcirc.errors import ArithcircError, RequestError, SweepIncomplete
from arithcirc.models.zoo import check_request
from arithcirc.sweep.driver import Listen, Notice, Summary, run_tasks, silence, unfinished
from arithcirc.sweep.executors import Executor
from arithcirc.sweep.folder import check_disk, open_sweep
from arithcirc.sweep.local import LocalExecutor
from arithcirc.sweep.lock import locked
from arithcirc.sweep.plan import SweepPlan, fitting_workers, make_plan, refuse_digits, tasks_of
from arithcirc.sweep.revisions import Checkpoints, all_checkpoints
from arithcirc.sweep.task import Loading, Settings, Task
from arithcirc.sweep.where import Where, make_executor

if TYPE_CHECKING:
    from arithcirc.sweep.fetch import Fetcher

OUT = Path("runs/sweep")


def _ignore(plan: SweepPlan) -> None:
    """Show no plan."""


@dataclass(frozen=True)
class _Asked:
    """A request that was checked."""

    out: Path
    chosen: list[Checkpoints]
    operators: str
    settings: Settings
    loading: Loading
    where: Where
    reference: str | None
    facts: dict[str, object]

    def open(self, *, write: bool) -> tuple[SweepFolder, list[Task]]:
        """The sweep's folder and the tasks asked for."""
        sweep = open_sweep(
            self.out, self.chosen, self.operators, self.settings, self.loading,
            reference=self.reference, facts=self.facts, write=write,
        )  # fmt: skip
        return sweep, tasks_of(sweep, self.chosen, self.operators, self.settings, self.loading)


def run_sweep(
    models: str | Sequence[str] = (),
    *,
    revisions: str | None = None,
    operators: str = "+-*/",
    out: Path | str = OUT,
    settings: Settings | None = None,
    loading: Loading | None = None,
    where: Where | None = None,
    reference: str | None = None,
    retries: int = 2,
    drop_weights: bool = False,
    command: str | None = None,
    plan_only: bool = False,
    on_plan: Callable[[SweepPlan], None] = _ignore,
    listen: Listen = silence,
) -> SweepFolder:
    """Analyse checkpoints of models into `out`, those not done yet, and make the tables over them.

    `models` are hub ids or folders (none: the shipped model), `revisions` as `--revisions` has them (`revisions`; a
    model's own as MODEL@REVISIONS), `reference` the revision that the others are compared with (default: the last).
    `on_plan` is called with the plan before anything runs, `listen` with what happens. With `plan_only` nothing is
    written, nor before a sweep can start.
    Raises RequestError for what cannot be asked, RunConflictError when the folder holds or is used by another sweep,
    EnvironmentFailure for a disk too small, and SweepIncomplete, after the tables are made, when tasks failed.
    """
    if retries < 0:
        raise RequestError(f"--retries {retries} is negative: give 0 or more")
    if loading is not None and loading.threads is not None and loading.threads < 1:
        raise RequestError(f"--threads {loading.threads} is too few: give 1 or more, or leave it out")
    symbols = "".join(o.symbol for o in parse_operators(operators))
    given, loads, place = settings or Settings(), loading or Loading(), where or Where()
    OperandRange.parse(given.prompts.operands)
    check_request(None, revision=None, device=loads.device, dtype=loads.dtype)
    named = [models] if isinstance(models, str) else list(models)
    chosen = all_checkpoints(named, revisions)
    refuse_digits(chosen)
    asked = _Asked(
        out=Path(out),
        chosen=chosen,
        operators=symbols,
        settings=replace(given, prompts=replace(given.prompts, operators="+-*/", pairs=None)),
        loading=loads,
        where=place,
        reference=reference,
        facts={"command": command, "executor": place.kind, "workers": place.workers},
    )
    if plan_only:
        return _plan_only(asked, on_plan)
    with locked(asked.out):
        return _run(asked, retries, drop_weights, on_plan, listen)


def _plan_only(asked: _Asked, on_plan: Callable[[SweepPlan], None]) -> SweepFolder:
    """Plan without writing anything below the sweep's folder."""
    folder, tasks = asked.open(write=False)
    with tempfile.TemporaryDirectory(prefix="arithcirc-") as logs:
        executor = make_executor(asked.where, asked.out, tasks, asked.loading, logs=Path(logs))
        try:
            on_plan(_planned(asked, folder, tasks, executor))
        finally:
            executor.close(cancel=True)
    return folder


def _run(
    asked: _Asked, retries: int, drop_weights: bool, on_plan: Callable[[SweepPlan], None], listen: Listen
) -> SweepFolder:
    """Plan, run, collect."""
    folder, tasks = asked.open(write=False)
    executor = make_executor(asked.where, asked.out, unfinished(folder, tasks), asked.loading, logs=asked.out / "logs")
    weights = _weights(asked, drop_weights)
    started = False
    try:
        plan = _planned(asked, folder, tasks, executor)
        on_plan(plan)
        if (warning := check_disk(asked.out, plan.disk_bytes)) is not None:
            listen(Notice("note", warning))
        folder.manifest["workers"] = executor.slots
        folder.save()  # only now: a sweep that cannot start leaves its folder to another
        started = True
        summary = run_tasks(folder, tasks, executor, retries=retries, weights=weights, listen=listen)
        if weights is not None:
            weights.close()
    except KeyboardInterrupt:
        executor.close(cancel=True)
        if started:
            left = len(unfinished(folder, tasks))
            listen(Notice("note", f"interrupted: {len(tasks) - left} of {len(tasks)} tasks are done, {left} left"))
            with suppress(ArithcircError):
                _collect(folder, listen)
        raise
    finally:
        executor.close(cancel=True)
        if weights is not None:
            weights.close(cancel=True)
    _collect(folder, listen)
    check_complete(summary, len(tasks))
    return folder


def _planned(asked: _Asked, folder: SweepFolder, tasks: list[Task], executor: Executor) -> SweepPlan:
    """The plan; local workers are as many as fit in memory, unless their number was given."""
    local = isinstance(executor, LocalExecutor)
    measure = executor.plan if isinstance(executor, LocalExecutor) else None
    plan = make_plan(folder, tasks, workers=executor.slots, cache_dir=asked.loading.cache_dir, measure=measure)
    fitting = fitting_workers(executor.slots, plan.memory_bytes)
    if not local or asked.where.workers is not None or fitting == executor.slots:
        return plan
    note = f"{executor.slots} workers would not fit in memory: {fitting} used"
    seconds = plan.seconds and plan.seconds * executor.slots / fitting
    executor.slots = fitting
    return replace(plan, workers=fitting, seconds=seconds, notes=(*plan.notes, note))


def _weights(asked: _Asked, drop: bool) -> "Fetcher | None":
    """What fetches the weights of remote checkpoints; None where all are local."""
    if all(one.local for one in asked.chosen):
        return None
    from arithcirc.sweep.fetch import Fetcher

    ledger = asked.out / "fetched.json"
    return Fetcher(asked.loading.cache_dir, offline=asked.loading.offline, drop=drop, ledger=ledger)


def _collect(folder: SweepFolder, listen: Listen) -> None:
    """Make the tables."""
    from arithcirc.sweep.collect import collect

    listen(Notice("note", "making the tables over all steps"))
    collect(folder)


def check_complete(summary: Summary, n_tasks: int) -> None:
    """Raise SweepIncomplete, in one line, when tasks failed or were not started."""
    failed, parts = summary.failed, []
    if failed:
        task, reason = failed[0]
        parts.append(f"{len(failed)} of {n_tasks} tasks failed (first: {task}: {reason}); table tasks has the reasons")
    if summary.stopped is not None:
        parts.append(f"{summary.stopped}: {summary.left} of {n_tasks} tasks were not started")
    elif summary.left:
        parts.append(f"{summary.left} of {n_tasks} tasks did not become ready")
    if parts:
        raise SweepIncomplete(f"{'; '.join(parts)}; the same command tries them again")
