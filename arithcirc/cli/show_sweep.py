"""What the terminal shows of a sweep: its plan, its progress, its results. Progress to stderr, results to stdout."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from rich.markup import escape
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
    from pandas import DataFrame

    from arithcirc.catalogue import SweepFolder
    from arithcirc.sweep.driver import Notice
    from arithcirc.sweep.plan import SweepPlan
    from arithcirc.sweep.task import Task

_MOST_ROWS, _MOST_COLUMNS = 40, 14
"""Of a query, on the terminal."""
_IN_FULL, _TOO_LONG = 1e4, 1e15
"""Numbers between these are written without an exponent."""


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
        f"model{'s' * (planned.models != 1)}, {planned.checkpoints} checkpoint{'s' * (planned.checkpoints != 1)}, "
        f"operators {planned.operators}",
        "forward passes": "not known" if planned.forwards is None else f"at most about {planned.forwards:,.0f}",
        "time": _time(planned),
        "disk": _disk(planned),
        "to download": _traffic(planned.traffic_bytes),
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


def _disk(planned: "SweepPlan") -> str:
    """What is written; at least that where some model's tasks are not counted."""
    size = show.memory(int(planned.disk_bytes))
    return (f"at least {size}" if planned.forwards is None else f"about {size}") if planned.disk_bytes else "not known"


def _traffic(size: int | None) -> str:
    if size is None:
        return "not known"
    return show.memory(size) if size else ""


def _time(planned: "SweepPlan") -> str:
    workers = f"{planned.workers} worker{'s' * (planned.workers > 1)}"
    if planned.seconds is None:
        return f"not known, with {workers}"
    return f"at most about {show.duration(planned.seconds)} with {workers}"


# -- after ------------------------------------------------------------------------------------------------------------

_CELLS = {
    "accuracy": "accuracy",
    "n_prompts": "n",
    "heads": "heads",
    "faithfulness": "faithfulness",
    "important": "important",
    "labelled": "labelled",
    "final pairs": "final pairs",
}
_LEGEND = (
    "n: shared prompts that heads and faithfulness are measured on; important, labelled: neurons; final pairs: share "
    "of the reference's (neuron, heuristic) pairs that are there"
)


def results(sweep: "SweepFolder") -> None:
    """Per operator and checkpoint what was found on shared prompts, as the page shows it first; then the verdicts."""
    tables = sweep.tables()
    if "steps" not in tables:
        return
    steps = sweep.table("steps")
    pairs = _pairs(sweep) if "overlap" in tables else None
    references = {entry["name"]: entry["reference"] for entry in sweep.manifest["models"]}
    shared = steps[steps["prompts"] == "shared"]
    for (model, symbol), block in shared.groupby(["model", "operator"], sort=False):
        reference = str(references.get(str(model)))
        labels, shares = _judged(pairs, str(model), str(symbol), reference)
        title = f"{model}  {symbol}  on shared prompts, {labels} labels, reference {reference}"
        table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
        for name in ("revision", *_CELLS.values(), "status"):
            table.add_column(name, justify="left" if name in ("revision", "status") else "right")
        for row in block.to_dict("records"):
            found = row | {"labelled": row.get(f"labelled_{labels}"), "final pairs": shares.get(row["revision"])}
            cells = [_number(found.get(name)) for name in _CELLS]
            table.add_row(escape(str(row["revision"])), *cells, escape(str(row["status"])))
        show.wide(table)
    show.out.print(_LEGEND, markup=False)
    if "verdict" in tables:
        for row in sweep.table("verdict").to_dict("records"):
            said = f"{row['model']}  {row['operator']}  {row['question']}: {row['answer']}. {row['detail']}"
            show.out.print(said, markup=False)


def _pairs(sweep: "SweepFolder") -> "DataFrame":
    """Which of the reference's (neuron, heuristic) pairs are there at each checkpoint, on shared prompts."""
    table = sweep.table("overlap")
    return table[(table["what"] == "pairs") & (table["prompts"] == "shared")]


def _judged(pairs: "DataFrame | None", model: str, symbol: str, reference: str) -> tuple[str, dict[str, float]]:
    """The labels that the verdict is about (`verdict.PAIRS`), and the share of final pairs by revision."""
    from arithcirc.sweep.verdict import PAIRS

    if pairs is None:
        return "significant", {}
    mine = pairs[(pairs["model"] == model) & (pairs["operator"] == symbol)]
    final = mine[(mine["revision"] == reference) & (mine["labels"] == "significant")]
    labels = "significant" if final.empty or final["at_reference"].iloc[0] >= PAIRS else "matched"
    chosen = mine[mine["labels"] == labels]
    return labels, dict(zip(chosen["revision"], chosen["share"], strict=True))


def rows(found: "DataFrame") -> None:
    """The rows of a query: the first of many, with counts of what is left out."""
    shown = found.iloc[:_MOST_ROWS, :_MOST_COLUMNS]
    table = Table(box=None, pad_edge=False)
    for name, kind in zip(shown.columns, shown.dtypes, strict=True):
        table.add_column(escape(str(name)), justify="right" if kind.kind in "iuf" else "left")
    for row in shown.itertuples(index=False, name=None):
        table.add_row(*(escape(_number(value)) for value in row))
    show.wide(table)
    hidden_rows, hidden_columns = len(found) - len(shown), found.shape[1] - shown.shape[1]
    left = [f"{n} more {what}" for n, what in ((hidden_rows, "rows"), (hidden_columns, "columns")) if n]
    cut = f" ({', '.join(left)}; --csv FILE writes all)" if left else ""
    show.out.print(f"{len(found)} rows{cut}")


def _number(value: object) -> str:
    """Whole numbers in full, others in four digits or all before the point; nothing where a value is missing."""
    import numpy as np
    import pandas as pd

    if pd.api.types.is_scalar(value) and bool(pd.isna(cast("Any", value))):
        return ""
    if not isinstance(value, float | np.floating):
        return str(value)
    value = float(value)
    whole = value.is_integer() or abs(value) >= _IN_FULL
    return f"{value:.0f}" if whole and abs(value) < _TOO_LONG else f"{value:.4g}"
