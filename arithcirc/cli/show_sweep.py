"""What the terminal shows of a sweep: its plan, its progress, its results. Progress to stderr, results to stdout."""

from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from arithcirc.cli import show

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from arithcirc.catalogue import SweepFolder
    from arithcirc.sweep.driver import Notice
    from arithcirc.sweep.plan import SweepPlan
    from arithcirc.sweep.task import Task

_MOST_ROWS, _MOST_COLUMNS = 40, 14
"""Of a query, on the terminal."""


class Live:
    """The plan, then a line for each task that ended; on a terminal also a bar per task under way and one for all."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=show.err, transient=True)
        self._lines: dict[Any, TaskID] = {}
        self._total: TaskID | None = None

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bars away."""
        if self._bars.live.is_started:
            self._bars.stop()

    def plan(self, planned: "SweepPlan") -> None:
        """The plan, before anything runs."""
        plan(planned)
        if planned.to_run:
            self._total = self._bars.add_task("tasks", total=planned.to_run)

    def hear(self, notice: "Notice") -> None:
        """One thing that happened."""
        task = notice.task
        if task is None:
            self._say(f"{'sweep':<12} {notice.text}")
        elif notice.what == "progress":
            self._move(task, notice)
        elif notice.what == "started":
            if show.err.is_terminal:
                self._bars.start()
            self._lines[task.key] = self._bars.add_task(f"{task}", total=None)
        else:
            self._over(task, notice)

    def _move(self, task: "Task", notice: "Notice") -> None:
        if (line := self._lines.get(task.key)) is not None:
            self._bars.update(
                line, description=f"{task}  {notice.stage}", completed=notice.done, total=notice.total or None
            )

    def _over(self, task: "Task", notice: "Notice") -> None:
        if (line := self._lines.pop(task.key, None)) is not None:
            self._bars.remove_task(line)
        outcome = notice.outcome
        if outcome is None:
            self._say(f"{task}: {notice.text}")
            return
        if self._total is not None:
            self._bars.advance(self._total)
        loaded = f" (and {show.duration(outcome.load_seconds)} of loading)" if outcome.load_seconds else ""
        said = f": {notice.text}" if notice.text else ""
        self._say(f"{task}  {outcome.status} after {show.duration(outcome.seconds)}{loaded}{said}")

    def _say(self, text: str) -> None:
        self._bars.console.print(text, markup=False)


# -- before -----------------------------------------------------------------------------------------------------------


def plan(planned: "SweepPlan") -> None:
    """The plan of a sweep."""
    lines = {
        "tasks": f"{planned.to_run:,} to run of {planned.tasks:,} ({planned.before:,} done before): {planned.models} "
        f"model{'s' * (planned.models > 1)}, {planned.checkpoints} checkpoints, operators {planned.operators}",
        "forward passes": "not known" if planned.forwards is None else f"at most about {planned.forwards:,.0f}",
        "time": _time(planned),
        "disk": f"about {show.memory(int(planned.disk_bytes))}" if planned.disk_bytes else "",
        "to download": show.memory(planned.traffic_bytes) if planned.traffic_bytes else "",
        "memory": f"about {show.memory(planned.memory_bytes)} for each worker" if planned.memory_bytes else "",
    }
    if not planned.to_run:
        show.err.print(f"All {planned.tasks} tasks are done: nothing is left to run.")
        return
    table = Table(title="Plan of the sweep", title_justify="left", box=None, pad_edge=False, show_header=False)
    for label, text in lines.items():
        if text:
            table.add_row(label, text)
    show.wide(table, show.err)
    for note in planned.notes:
        show.err.print(note, markup=False)
    show.err.print("Interrupt at any moment; the same command goes on.")


def _time(planned: "SweepPlan") -> str:
    workers = f"{planned.workers} worker{'s' * (planned.workers > 1)}"
    if planned.seconds is None:
        return f"not known, with {workers}"
    return f"at most about {show.duration(planned.seconds)} with {workers}"


# -- after ------------------------------------------------------------------------------------------------------------

_CELLS = {
    "step": "step",
    "accuracy": "accuracy",
    "heads": "heads",
    "faithfulness": "faithfulness",
    "important": "important neurons",
    "labelled_matched": "labelled",
}


def results(sweep: "SweepFolder") -> None:
    """Per operator and checkpoint what was found, then the verdicts."""
    tables = sweep.tables()
    if "steps" not in tables:
        return
    steps = sweep.table("steps")
    shares = _final_pairs(sweep) if "overlap" in tables else {}
    own = steps[steps["prompts"] == "own"]
    for (model, symbol), block in own.groupby(["model", "operator"], sort=False):
        table = Table(title=f"{model}  {symbol}", title_justify="left", box=None, pad_edge=False)
        for name in ("revision", *list(_CELLS.values())[1:], "share of final pairs", "status"):
            table.add_column(name, justify="left" if name in ("revision", "status") else "right")
        for row in block.to_dict("records"):
            cells = [_number(row.get(name)) for name in list(_CELLS)[1:]]
            share = shares.get((str(model), row["revision"], str(symbol)))
            table.add_row(str(row["revision"]), *cells, _number(share), str(row["status"]))
        show.wide(table)
    if "verdict" in tables:
        for row in sweep.table("verdict").to_dict("records"):
            show.out.print(f"{row['model']}  {row['operator']}  {row['question']}: {row['answer']}. {row['detail']}")


def _final_pairs(sweep: "SweepFolder") -> dict[tuple[str, str, str], float]:
    """Share of the reference's (neuron, heuristic) pairs that are there at each checkpoint, by its own prompts."""
    table = sweep.table("overlap")
    mine = table[(table["what"] == "pairs") & (table["labels"] == "matched") & (table["prompts"] == "own")]
    return {(r["model"], r["revision"], r["operator"]): r["share"] for r in mine.to_dict("records")}


def rows(found: "DataFrame") -> None:
    """The rows of a query: the first of many, with counts of what is left out."""
    shown = found.iloc[:_MOST_ROWS, :_MOST_COLUMNS]
    table = Table(box=None, pad_edge=False)
    for name in shown.columns:
        table.add_column(str(name), justify="right" if _is_number(shown[name]) else "left")
    for row in shown.itertuples(index=False):
        table.add_row(*(_number(value) for value in row))
    show.wide(table)
    hidden_rows, hidden_columns = len(found) - len(shown), found.shape[1] - shown.shape[1]
    left = [f"{n} more {what}" for n, what in ((hidden_rows, "rows"), (hidden_columns, "columns")) if n]
    cut = f" ({', '.join(left)}; --csv FILE writes all)" if left else ""
    show.out.print(f"{len(found)} rows{cut}")


def _is_number(column: "Series[Any]") -> bool:
    return column.dtype.kind in "iuf"


def _number(value: object) -> str:
    """A number in four digits; nothing where it is missing."""
    if value is None or value != value or str(value) in ("<NA>", "NaT"):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
