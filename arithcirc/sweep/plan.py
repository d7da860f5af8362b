"""What a sweep will do and cost, said before it starts.

    forwards   of one task, counted by a worker on the reference's model (`work.plan_task`), times the tasks to run
    seconds    forwards / measured rate / workers
    disk       bytes of one task's files, times the tasks to run; TABLES of that for the sweep's tables, and PAGE_BYTES
               for its page
    traffic    published weights of the remote revisions that are not here yet; None where some sizes are not known
    memory     the peak of one worker: model, program and the largest stage

Early checkpoints answer little and cost less, so it is a bound for them; rates are those of one worker alone. For a
remote model whose weights are not here nothing is fetched to plan, and on Ray and SLURM nothing is measured: forwards
and bytes are then computed from the shape of a published model (`cost`), and times are not known. Hours on a GPU are
said of published models only: what one takes for a model as small as the shipped one is launches, which are not
counted. Models that are known to write numbers digit by digit are refused here, not by their first task.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arithcirc.catalogue import SweepFolder
from arithcirc.errors import ArithcircError, TokenizerError
from arithcirc.models.memory import free_memory, weights_bytes
from arithcirc.models.zoo import SHIPPED, find, locate
from arithcirc.sweep.driver import unfinished
from arithcirc.sweep.revisions import Checkpoints
from arithcirc.sweep.task import Loading, Settings, Task

Measure = Callable[[Task], dict[str, Any]]
"""`work.plan_task` for one task, in a worker."""
TABLES, PAGE_BYTES = 0.6, 7_000_000
"""Bytes of a sweep's tables as a share of its tasks' files, and of its page; measured on the shipped model."""
_MEMORY_SHARE = 0.9
"""Share of the free memory that workers may plan to take."""


@dataclass(frozen=True)
class SweepPlan:
    """Tasks and their cost; None where it is not known. `seconds` are of the wall with so many workers."""

    tasks: int
    to_run: int
    models: int
    checkpoints: int
    operators: str
    workers: int
    forwards: float | None
    seconds: float | None
    disk_bytes: float
    traffic_bytes: int | None
    memory_bytes: int | None
    notes: tuple[str, ...] = ()

    @property
    def before(self) -> int:
        """Tasks that were finished before."""
        return self.tasks - self.to_run


@dataclass(frozen=True)
class _Cost:
    """One task."""

    forwards: float
    seconds: float
    memory_bytes: int
    disk_bytes: float


def tasks_of(
    sweep: SweepFolder, chosen: Sequence[Checkpoints], operators: str, settings: Settings, loading: Loading
) -> list[Task]:
    """The tasks asked for, and those of the references, which the others need; checkpoint by checkpoint."""
    references = {entry["name"]: entry for entry in sweep.manifest["models"]}
    tasks = []
    for one in chosen:
        entry = references[one.name]
        wanted = {r.revision for r in one.revisions} | {entry["reference"]}
        for held in entry["revisions"]:
            if held["revision"] in wanted:
                tasks += [
                    Task(
                        one.model,
                        one.name,
                        held["revision"],
                        held["step"],
                        symbol,
                        entry["reference"],
                        settings,
                        loading=loading,
                    )
                    for symbol in operators
                ]
    return tasks


def make_plan(
    sweep: SweepFolder,
    tasks: Sequence[Task],
    *,
    workers: int,
    cache_dir: str | None = None,
    measure: Measure | None = None,
) -> SweepPlan:
    """Count what is left; `measure` asks a worker what a task costs (None: times are not known)."""
    left = unfinished(sweep, tasks)
    absent = _absent(left, cache_dir)
    costs, notes = _measured(left, tasks, absent, measure)
    known = [costs[key] for t in left if (key := (t.name, t.operator)) in costs]
    rest = [t for t in left if (t.name, t.operator) not in costs]
    computed = _computed([t for t in rest if measure is None or t.key[:2] in absent])
    whole = all(t.name in computed for t in rest)
    hours = [str(cost) for name, cost in computed.items() if name != SHIPPED]
    return SweepPlan(
        tasks=len(tasks),
        to_run=len(left),
        models=len({t.name for t in tasks}),
        checkpoints=len({t.key[:2] for t in tasks}),
        operators="".join(dict.fromkeys(t.operator for t in tasks)),
        workers=workers,
        forwards=_sum("forwards", known, computed) if whole else None,
        seconds=None if rest else sum((c.seconds for c in known), 0.0) / workers,
        disk_bytes=_disk(_sum("disk_bytes", known, computed)),
        traffic_bytes=_total(absent.values()),
        memory_bytes=max((c.memory_bytes for c in known), default=None),
        notes=(*notes, *hours),
    )


def refuse_digits(chosen: Sequence[Checkpoints]) -> None:
    """Raise TokenizerError for a published model that is known to write numbers digit by digit."""
    for one in chosen:
        entry = None if one.local else find(one.model)
        if entry is not None and entry.number_limit is None:
            raise TokenizerError(
                f"the tokenizer of {one.model} splits numbers into digits, and each operand and answer has to be one "
                "token: sweep over a model whose numbers are single tokens ('arithcirc models' lists them)"
            )


def _measured(
    left: Sequence[Task], tasks: Sequence[Task], absent: Mapping[tuple[str, str], int | None], measure: Measure | None
) -> tuple[dict[tuple[str, str], _Cost], list[str]]:
    """The cost of a task by model and operator, measured on the reference; and why there is none."""
    costs: dict[tuple[str, str], _Cost] = {}
    notes: dict[str, str] = {}
    if measure is None:
        return costs, []
    for name, symbol in dict.fromkeys((t.name, t.operator) for t in left):
        task = next(t for t in tasks if (t.name, t.operator) == (name, symbol) and t.is_reference)
        if task.key[:2] in absent:
            notes[name] = f"{name}: time unknown until the first weights are here"
        if name in notes:
            continue
        try:
            costs[name, symbol] = _cost(measure(task))
        except ArithcircError as error:
            notes[name] = f"{name}: time unknown, since its reference {task.revision} cannot be planned ({error})"
    return costs, list(notes.values())


def _computed(tasks: Sequence[Task]) -> dict[str, Any]:
    """What published models that no worker has measured would cost, from their shapes (`SweepCost`), by model."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(t.name for t in tasks if find(t.model) is not None):
        from arithcirc.sweep.cost import sweep_cost

        mine = [t for t in tasks if t.name == name]
        with suppress(ArithcircError):  # a tokenizer or shape that cannot be counted with: the first task says why
            found[name] = sweep_cost(
                mine[0].model,
                checkpoints=len({t.revision for t in mine}),
                operators="".join(dict.fromkeys(t.operator for t in mine)),
                settings=mine[0].settings,
                batch_size=mine[0].loading.batch_size,
            )
    return found


def _sum(field: str, known: Sequence[_Cost], computed: Mapping[str, Any]) -> float:
    """Over the tasks that were measured and the models that were computed."""
    return float(sum(getattr(cost, field) for cost in [*known, *computed.values()]))


def _disk(task_bytes: float) -> float:
    """Bytes of a whole sweep from those of its tasks' files; 0 where these are not known, or nothing is left."""
    return (1 + TABLES) * task_bytes + PAGE_BYTES if task_bytes else 0.0


def _total(sizes: Iterable[int | None]) -> int | None:
    """Their sum; None where one is not known."""
    found = list(sizes)
    known = [size for size in found if size is not None]
    return sum(known) if len(known) == len(found) else None


def fitting_workers(wanted: int, memory_bytes: int | None) -> int:
    """As many workers as fit in the free memory, at least one."""
    if not memory_bytes:
        return wanted
    return max(1, min(wanted, int(_MEMORY_SHARE * free_memory() // memory_bytes)))


def _cost(planned: dict[str, Any]) -> _Cost:
    stages = planned["stages"].values()
    return _Cost(
        float(sum(s["forwards"] for s in stages)),
        float(sum(s["seconds"] for s in stages)),
        int(planned["memory_bytes"]),
        float(planned["disk_bytes"]),
    )


# -- weights that are not here ----------------------------------------------------------------------------------------


def _absent(tasks: Sequence[Task], cache_dir: str | None) -> dict[tuple[str, str], int | None]:
    """Remote checkpoints whose weights are not in the cache, and their bytes (None where the sizes are not known)."""
    found: dict[tuple[str, str], int | None] = {}
    for task in tasks:
        if task.key[:2] not in found:
            located = locate(task.model, task.revision)
            if not located.local and not _cached(task.model, located.fetched or located.revision, cache_dir):
                entry = find(task.model)
                found[task.key[:2]] = None if entry is None else weights_bytes(entry.n_params, entry.dtype)
    return found


def _cached(model: str, revision: str, cache_dir: str | None) -> bool:
    """Whether a revision's configuration and safetensors are in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json", cache_dir=cache_dir, revision=revision)
    return isinstance(config, str) and any(Path(config).parent.glob("*.safetensors"))
