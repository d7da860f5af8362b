"""What the terminal shows: plans, progress, notices, results. Progress goes to stderr, results to stdout."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from pandas import DataFrame

    from arithcirc.arithmetic.tokens import PromptEncoder
    from arithcirc.pipeline.job import Report
    from arithcirc.pipeline.plan import Plan
    from arithcirc.store import RunFolder

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)
_WIDEST = 10_000
"""Characters that no table reaches."""


def wide(table: Table, console: Console = out) -> None:
    """Print a table as wide as its cells need, whatever the terminal's width: no number is cut."""
    options = console.options.update(width=_WIDEST, max_width=_WIDEST)
    table.width = console.measure(table, options=options).maximum
    console.print(table)


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if seconds < 1:
        return "< 1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(size: int) -> str:
    """Bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def plan(planned: "Plan", name: str) -> None:
    """The plan, before anything runs."""
    table = Table(title=f"Plan for {name}", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "rows", "forward passes", "time", "memory", ""):
        table.add_column(column, justify="left" if column in ("stage", "") else "right")
    for cost in planned.stages:
        state = "finished before" if cost.done else ""
        time = "" if cost.done else f"about {duration(cost.seconds)}"
        peak = "" if cost.done else memory(cost.memory_bytes)
        table.add_row(cost.stage, f"{cost.rows:,}", f"{cost.forwards:,.0f}", time, peak, state)
    wide(table, err)
    if all(cost.done for cost in planned.stages):
        err.print("Every stage is finished: nothing is left to run.")
        return
    err.print(
        f"In all about {duration(planned.seconds)} at {planned.rate:,.0f} forward passes a second, "
        f"memory at most about {memory(planned.memory_bytes)}, model and program included. "
        "Interrupt at any moment; the same command goes on."
    )


def maps_to_come(neurons: int, size: int) -> None:
    """How large the activation maps will be on disk."""
    err.print(f"maps: {neurons:,} neurons, {memory(size)} on disk")


def tokens(encoder: "PromptEncoder") -> None:
    """Which token stands at each position of an example prompt."""
    from arithcirc.arithmetic.seen import seen_line

    err.print(f"tokens: {seen_line(encoder.seen, encoder.beginning, encoder.notes)}", markup=False)


@contextmanager
def progress() -> Iterator["Report"]:
    """Progress bars with totals, one per stage."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bars:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def passing(text: str) -> None:
    """A word that the next line overwrites; only on a terminal."""
    if err.is_terminal:
        err.print(text, end="\r")


def notice(stage: str, text: str) -> None:
    """One line about a stage."""
    err.print(f"{stage:<12} {text}")


def summary(run: "RunFolder") -> None:
    """The run's results in a few lines, as far as they exist."""
    tables = run.tables()
    if "accuracy" in tables:
        for row in run.table("accuracy").to_dict("records"):
            base = "" if math.isnan(row["base_rate"]) else f" (base rate {row['base_rate']:.3f})"
            note = f"; {row['note']}" if isinstance(row["note"], str) else ""
            out.print(f"{row['operator']}  accuracy {row['accuracy']:.3f} of {row['n']} prompts{base}{note}")
    if "faithfulness" in tables:
        _circuits(run.table("faithfulness"))


def _circuits(table: "DataFrame") -> None:
    """The chosen circuit of each operator beside random circuits of its size."""
    chosen = table[(table["set"] == "evaluate") & table["chosen"]]
    total = int(table.loc[table["circuit"] == "full", "n_heads"].max())
    for row in chosen.to_dict("records"):
        same_size = (table["circuit"] == "random") & (table["n_heads"] == row["n_heads"])
        rivals = table.loc[same_size & (table["operator"] == row["operator"]), "faithfulness"]
        against = f"; random circuits of this size {rivals.mean():.2f}" if len(rivals) else ""
        out.print(
            f"{row['operator']}  circuit of {row['n_heads']} of {total} heads and {row['n_mlps']} MLPs: "
            f"faithfulness {row['faithfulness']:.3f} ± {row['faithfulness_sem']:.3f} on {row['n']} prompts, "
            f"accuracy {row['accuracy']:.2f}{against}"
        )
