"""What the terminal shows of an influence study: its plan, progress, and results in a few lines."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from arithcirc.cli.show import duration, err, memory, out, wide

if TYPE_CHECKING:
    from arithcirc.influence.study.plan import StudyPlan
    from arithcirc.store import RunFolder

_WIDTH = 22


def _columns() -> tuple[Any, ...]:
    text = TextColumn(f"{{task.description:<{_WIDTH}}}")
    return (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for everything that is counted by a name of its own; an error before the first stands without one."""
    bars = Progress(*_columns(), console=err)
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        if not tasks:
            bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


@contextmanager
def counted(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is told how many more."""
    with Progress(*_columns(), console=err) as bars:
        task = bars.add_task(name, total=total)
        yield lambda more: bars.advance(task, more)


@contextmanager
def training(steps: int, words: Callable[[Any], str] | None = None) -> Iterator[Callable[[Any], None]]:
    """A bar with the loss, and a line for each checkpoint: what its rows say in `words` (by default, by subject)."""
    said = words or _accuracies
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("loss {task.fields[loss]}"), console=err) as bars:
        task = bars.add_task("training", total=steps, loss="-")

        def report(event: Any) -> None:
            if event.loss is not None:
                bars.update(task, completed=event.step, loss=f"{event.loss:.4f}")
            if event.accuracies:
                bars.console.print(f"step {event.step}, {event.seconds:.0f} s: {said(event.accuracies)}")

        yield report


def _accuracies(rows: Any) -> str:
    """`documents 0.75  factual 0.65 ...`: the share of right answers of each subject."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        tally = counts.setdefault(row.subject, [0, 0])
        tally[0], tally[1] = tally[0] + row.correct, tally[1] + row.items
    return "  ".join(f"{subject} {right / items:.2f}" for subject, (right, items) in counts.items() if items)


def trained(done: Any) -> None:
    """Where the model is and what it can do at the end."""
    last = [row for row in done.accuracies if row.step == max(r.step for r in done.accuracies)]
    out.print(f"trained in {duration(done.seconds)}: {_accuracies(last)}")
    out.print(f"model: {done.folder}")


def corpus(path: Path, facts: Mapping[str, Any]) -> None:
    """What the corpus holds."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in facts["documents"]["kinds"].items())
    groups = ", ".join(f"{count} {group}" for group, count in facts["queries"].items())
    out.print(f"{facts['documents']['number']:,} documents ({kinds}), {facts['tokens']['all']:,} tokens")
    out.print(f"queries: {groups}")
    out.print(f"corpus: {path}")


def plan(planned: "StudyPlan", name: str) -> None:
    """The plan, before anything runs."""
    table = Table(title=f"Plan for {name}", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "rows", "tokens", "passes", "time", "memory", "disk", ""):
        table.add_column(column, justify="left" if column in ("stage", "") else "right")
    for step in planned.steps:
        left = not step.done
        table.add_row(
            step.stage, f"{step.rows:,}", f"{step.tokens:,}", f"{step.passes}",
            f"about {duration(step.seconds)}" if left else "", memory(step.memory) if left else "",
            memory(step.disk) if left else "", "" if left else "finished before",
        )  # fmt: skip
    wide(table, err)
    cut = f"; {planned.cut:.1%} of the documents are longer than the limit" if planned.cut else ""
    err.print(
        f"In all about {duration(planned.seconds)} at {planned.rate / 1e9:.3g} GFLOP/s, measured here; memory is "
        f"beside the model{cut}. Interrupt at any moment; the same command goes on."
    )


def scored(run: "RunFolder") -> None:
    """How many queries are answered right of those whose answer is known, by group, and where the scores are."""
    queries = run.table("queries")
    for group, rows in queries.groupby("group", sort=False):
        known = rows["correct"].dropna()
        said = f"{int(known.astype(bool).sum())} of {len(known)} completed right" if len(known) else ""
        if len(known) < len(rows):
            unknown = f"{len(rows) - len(known)} without a known answer"
            said = f"{said}, {unknown}" if said else unknown
        out.print(f"{str(group) or 'queries':<18} {said}, {rows['nats'].mean():.2f} nats on average")
    out.print(f"scores: {run.path}")


def findings(run: "RunFolder") -> None:
    """The verdicts, a line each."""
    for row in run.table("findings").to_dict("records"):
        out.print(f"{row['finding']}  {row['verdict'].upper()}: {row['claim']}", markup=False)
