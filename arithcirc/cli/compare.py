"""`arithcirc compare` and `arithcirc pairs`: what two runs of a model agree on, and the prompts to run both on."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from arithcirc.cli import show

if TYPE_CHECKING:
    from pandas import DataFrame

_TITLES = {
    "agreement": "Effects: rank correlation, overlap of the first run's top k, |difference| in units of the spread",
    "sizes": "|Difference| by the size of the effect, nats",
    "sets": "Chosen components in both runs",
    "labels": "Labels in both runs",
    "answers": "Answers",
}


def compare_command(run_a: Path, run_b: Path, *, metric: str = "logit_diff", out: Path | None = None) -> None:
    """Do two runs on the same prompts agree: effects, chosen heads and neurons, labels, answers?

    Parameters
    ----------
    run_a
        The run taken as the reference: OUT/<model>/<revision>.
    run_b
        A run on the same prompts with another dtype, revision or weights.
    metric
        Effect that is compared: logit_diff, E or kl.
    out
        Folder for the tables as CSV files.
    """
    from arithcirc.measure.agreement import compare_runs
    from arithcirc.store import RunFolder, write_text

    found = compare_runs(RunFolder.open(run_a), RunFolder.open(run_b), metric=metric)
    for name, table in found.items():
        show.wide(_table(_TITLES[name], table))
        if out is not None:
            write_text(out / f"{name}.csv", table.to_csv(index=False))
    if out is not None:
        show.out.print(f"{len(found)} tables: {out}")


def pairs_command(run: Path, *, out: Path) -> None:
    """Write the prompts of a run and their counterfactuals as a file for --pairs, so that another run can use them.

    Parameters
    ----------
    run
        A run folder: OUT/<model>/<revision>.
    out
        The CSV file to write.
    """
    from arithcirc.measure.agreement import pairs_of
    from arithcirc.store import RunFolder, write_text

    pairs = pairs_of(RunFolder.open(run))
    write_text(out, pairs.to_csv(index=False))
    show.out.print(f"{len(pairs)} pairs: {out}")


def _table(title: str, rows: "DataFrame") -> Table:
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in rows.columns:
        shown.add_column(name, justify="right" if rows[name].dtype.kind in "iuf" else "left")
    for row in rows.itertuples(index=False):
        shown.add_row(*(_cell(value) for value in row))
    return shown


def _cell(value: object) -> str:
    """A number in four digits; nothing where it is missing."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return "" if str(value) == "<NA>" else str(value)
