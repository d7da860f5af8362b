"""`arithcirc train`: train a small arithmetic model by a recipe, with its cost told first and progress on the way.

Everything heavy is imported inside the functions, so that help costs nothing. Interrupting is safe: the first Ctrl-C
stops behind the step under way, where the same command goes on; after a second one that is the last resume point.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from arithcirc.cli.interrupts import training_ctrl_c

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from arithcirc.training.course import Progress, Report
    from arithcirc.training.evaluate import Accuracy
    from arithcirc.training.recipe import Recipe


def train(
    *,
    recipe: str = "neox-arith",
    out: Path | None = None,
    operands: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    optimizer: Literal["muon", "adamw"] | None = None,
    precision: Literal["bf16", "fp32"] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    plan_only: bool = False,
) -> None:
    """Train a small decoder of the Pythia architecture on the four operators, or resume a run that was stopped.

    Parameters
    ----------
    recipe
        `neox-arith` (the shipped model), `small` (operands 0..99, minutes), or a recipe.json.
    out
        Folder for checkpoints, accuracies and the data card; default runs/train/<name of the recipe>.
    operands
        Operand range instead of the recipe's, for example 0..199.
    steps
        Number of steps instead of the recipe's.
    seed
        Seed of weights and batches instead of the recipe's; the held-out split stays.
    optimizer
        `muon` (with AdamW for embeddings and vectors) or `adamw` alone, instead of the recipe's.
    precision
        `bf16` or `fp32` arithmetic instead of the recipe's.
    device
        Where to train; auto takes a GPU when there is one.
    threads
        CPU threads; default: as torch decides.
    plan_only
        Measure a few steps, say what the run will cost, and stop.
    """
    from rich.console import Console

    from arithcirc.training.plan import measure_plan
    from arithcirc.training.recipe import load_recipe
    from arithcirc.training.trainer import train as run

    chosen = _changed(load_recipe(recipe), operands, steps, seed, optimizer, precision)
    folder = out or Path("runs") / "train" / chosen.name
    console = Console()
    console.print(f"plan for {folder}: {measure_plan(chosen, device=device, threads=threads).text()}", soft_wrap=True)
    if plan_only:
        return
    with training_ctrl_c(folder) as stop, _bar(console) as bar:
        tell = _reporter(console, bar, chosen)
        done = run(chosen, folder, device=device, threads=threads, report=tell, stop=stop)
    console.print(
        f"done in {done.seconds / 60:.1f} minutes: {done.final}, data card {done.folder / 'README.md'}", soft_wrap=True
    )


def _changed(
    recipe: "Recipe",
    operands: str | None,
    steps: int | None,
    seed: int | None,
    optimizer: str | None,
    precision: str | None,
) -> "Recipe":
    """The recipe with the options that were given."""
    from dataclasses import replace

    from arithcirc.arithmetic.operators import OperandRange

    changed = recipe if steps is None else recipe.shortened(steps)
    changed = changed if operands is None else replace(changed, operands=OperandRange.parse(operands))
    changed = changed if seed is None else replace(changed, seed=seed)
    changed = changed if optimizer is None else replace(changed, optimizer=optimizer)
    return changed if precision is None else replace(changed, precision=precision)


def _bar(console: "Console") -> "Bar":
    """A progress bar with the loss and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("loss {task.fields[loss]}"), console=console)


def _reporter(console: "Console", bar: "Bar", recipe: "Recipe") -> "Report[Accuracy]":
    """Moves the bar; prints one line of held-out accuracies for each checkpoint."""
    task = bar.add_task("training", total=recipe.steps, loss="-")

    def report(event: "Progress[Accuracy]") -> None:
        if event.loss is not None:
            bar.update(task, completed=event.step, loss=f"{event.loss:.4f}")
        if event.accuracies:
            held_out = [f"{row.operator} {row.value:.3f}" for row in event.accuracies if row.part == "held_out"]
            console.print(f"step {event.step}, {event.seconds:.0f} s: held-out accuracy {'  '.join(held_out)}")

    return report
