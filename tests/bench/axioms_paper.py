"""The published recipe of axioms at its full size, trained within a limit of minutes: `make bench-axioms-gpu`.

Each kind of positions gets an even part of the minutes that are left. A training that does not end in time leaves a
resume point, and the same command goes on there; the rate of learning is constant, so a run of fewer epochs is the
beginning of the whole one. The preset is left as it is but for its checkpoints: accuracy is measured every
`--measure-epochs`, on questions that were not trained on, and only the first and the last folder are kept. On several
GPUs: torchrun --nproc-per-node 8 tests/bench/axioms_paper.py.

`--count` needs no GPU and trains nothing: it counts a step on a model without weights and predicts 100 epochs,

    arithmetic   FLOPs / (share x peak): the peak is an H200's dense bfloat16 rate by NVIDIA's data sheet, 989 TFLOP/s,
                 the share is --share, an assumption
    kernels      each as long as its FLOPs or bytes take at that share of both rates, and 5 microseconds to launch it;
                 every operation is a kernel of its own, all in bfloat16 (see arithcirc.measure.cost)

and times a few real steps on a core of this machine. Filled places of a batch are computed, so they are counted; a
learned table of positions is looked up and not multiplied, so 6 x parameters x places is too much there.
"""

import argparse
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from timing import clock_of, write_rows

from arithcirc.axioms.course import AxiomCourse
from arithcirc.axioms.exam import read_grades
from arithcirc.axioms.recipe import AxiomRecipe, load_axiom_recipe
from arithcirc.axioms.study.jobs import model_name, read_curve, recipe_of, train_model
from arithcirc.errors import ArithcircError, EnvironmentFailure, TrainingStopped
from arithcirc.measure.cost import H200, Cost, counting
from arithcirc.training.optim import build_optimizer
from arithcirc.training.plan import cpu_threads
from arithcirc.training.processes import first_process

COUNTED = Path(__file__).resolve().parents[2] / "figures" / "11_scale" / "axioms_paper.json"
SAMPLED = 50
"""Batches whose mean size is taken."""
UPDATE_BYTES = 28
"""Of a parameter, by a fused AdamW: weight, gradient and two moments read, all but the gradient written."""


def epoch_steps(recipe: AxiomRecipe) -> int:
    """Steps of one epoch, rounded."""
    return max(1, round(recipe.examples / recipe.graphs_per_step))


def measured(recipe: AxiomRecipe, epochs: int) -> AxiomRecipe:
    """The recipe with a checkpoint every so many epochs, of which the first and the last are kept."""
    return replace(recipe, measure_every=min(recipe.steps, epochs * epoch_steps(recipe)), extra_steps=(), keep=(0,))


def about(device: str) -> dict[str, Any]:
    """Where, when and by which command a row was made."""
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else f"{platform.machine()} CPU"
    return {
        "command": " ".join(["python", "tests/bench/axioms_paper.py", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": gpu,
        "torch": torch.__version__,
    }


def step_seconds(folder: Path) -> float:
    """Median over the pieces between two reports of the loss; those with an examination in them are outliers."""
    rows = [row for row in read_curve(folder) if row["loss"] is not None]
    pieces = [(b["seconds"] - a["seconds"]) / (b["step"] - a["step"]) for a, b in pairwise(rows)]
    return statistics.median(pieces) if pieces else float("nan")


def trained_row(recipe: AxiomRecipe, folder: Path) -> dict[str, Any]:
    """What lies in a model folder: how far it is, how fast it was, and its curve."""
    curve, points = read_curve(folder), dict[int, dict[str, float]]()
    for grade in read_grades(folder):
        points.setdefault(grade.step, {})[grade.cell] = grade.value
    step = max((row["step"] for row in curve), default=0)
    per_epoch = recipe.examples / recipe.graphs_per_step
    return {
        "positions": recipe.position_kind,
        "finished": (folder / "card.json").is_file(),
        "step": step,
        "steps": recipe.steps,
        "examples_seen": step * recipe.graphs_per_step,
        "epochs": step / per_epoch,
        "seconds": max((row["seconds"] for row in curve), default=0.0),
        "seconds_per_step": step_seconds(folder),
        "accuracy": [{"step": s, "epoch": s / per_epoch, **values} for s, values in sorted(points.items())],
        "loss": [[row["step"], row["loss"]] for row in curve if row["loss"] is not None],
        "recipe": recipe.to_json(),
    }


def over(limit: float) -> Callable[[], bool]:
    """Whether a moment has passed."""
    return lambda: time.monotonic() > limit


def train(options: argparse.Namespace, console: Console) -> None:
    """Train each kind of positions for its part of the minutes, and write its row."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFailure(
            "cuda was asked for, but there is no usable GPU here: run this where there is one, or give --count for "
            "what it would cost"
        )
    base = measured(load_axiom_recipe(options.preset), options.measure_epochs)
    end = time.monotonic() + 60 * options.minutes
    for number, kind in enumerate(options.positions):
        recipe = recipe_of(base, "TS2", kind, base.seed)
        folder = options.out / "models" / model_name(recipe)
        now = time.monotonic()
        limit = now + (end - now) / (len(options.positions) - number)
        try:
            train_model(recipe, folder, device=options.device, threads=1, stop=over(limit))
            said = "finished"
        except TrainingStopped as stopped:
            said = str(stopped)
        if not first_process():
            continue
        row = trained_row(recipe, folder) | about(options.device)
        write_rows(options.json, {f"axioms {base.name} {kind}": row}, owner=f"axioms {base.name} {kind}")
        last = {k: v for k, v in row["accuracy"][-1].items() if k not in ("step", "epoch")}
        console.print(
            f"{kind}: {said}; {row['epochs']:.1f} epochs, {1000 * row['seconds_per_step']:.1f} ms a step; "
            f"{', '.join(f'{k} {v:.3f}' for k, v in last.items())} after {row['accuracy'][-1]['epoch']:.1f}"
        )
        console.print(f"written: {options.json}")


def shape_of(recipe: AxiomRecipe) -> tuple[float, float]:
    """Mean places of a batch, filled ones included, and mean tokens of its questions."""
    steps = range(0, recipe.steps, max(1, recipe.steps // SAMPLED))
    batches, found = AxiomCourse(recipe).batches(), []
    for rows in (batches.rows(step) for step in steps):
        found.append((len(rows) * max(map(len, rows)), sum(map(len, rows))))
    return statistics.mean(f[0] for f in found), statistics.mean(f[1] for f in found)


def counted(recipe: AxiomRecipe) -> tuple[Cost, int, int]:
    """The first step without its update on a model without values, its places, and the parameters that are trained."""
    course = AxiomCourse(recipe)
    with torch.device("meta"):
        model: Any = course.model().to(torch.bfloat16)  # type: ignore[arg-type]
    model.train()
    batch = {name: value.to("meta") for name, value in course.batches()[0].items()}
    labels = batch.pop("labels")
    batch["attention_mask"] = torch.ones_like(labels)
    with counting() as count:
        logits = model(**batch, use_cache=False).logits[:, -1]  # one answer a row; which place it has costs nothing
        torch.nn.functional.cross_entropy(logits.float(), labels[:, -1]).backward()
    return count.cost, labels.numel(), sum(p.numel() for p in model.parameters() if p.requires_grad)


def timed(recipe: AxiomRecipe, steps: int) -> Iterator[float]:
    """Processor seconds of real steps on one core, after one that is not counted."""
    course, clock = AxiomCourse(recipe), clock_of(torch.device("cpu"))
    model: Any = course.model()
    optimizer, batches = build_optimizer(model, recipe), course.batches()
    model.train()
    for number in range(steps + 1):
        start = clock()
        batch = dict(batches[number])
        labels = batch.pop("labels")
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = model(**batch, use_cache=False).logits
        course.loss(logits, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if number:
            yield clock() - start


def count(options: argparse.Namespace, console: Console) -> None:
    """Count a step of each kind of positions, predict the whole, time this machine, and write it."""
    base, machine = load_axiom_recipe(options.preset), H200.at(options.share)
    first = recipe_of(base, "TS2", options.positions[0], base.seed)
    with cpu_threads(1):
        cpu = list(timed(first, options.timed))  # positions do not change what a step takes
    for kind in options.positions:
        recipe = recipe_of(base, "TS2", kind, base.seed)
        places, tokens = shape_of(recipe)
        cost, sampled, parameters = counted(recipe)
        flops, update = cost.flops * places / sampled, UPDATE_BYTES * parameters
        arithmetic = flops / machine.flops * recipe.steps
        kernels = (cost.seconds(machine) + update / machine.bandwidth) * recipe.steps
        hours = recipe.steps * statistics.median(cpu) / 3600
        row = {
            "parameters": parameters, "steps": recipe.steps, "places_per_step": places, "tokens_per_step": tokens,
            "flop_per_step": flops, "flop_by_6_parameters_places": 6 * parameters * places,
            "bytes_per_step": cost.bytes + update, "kernels_per_step": cost.launches, "flop": flops * recipe.steps,
            "gpu": H200.name, "peak_flops": H200.flops, "share": options.share,
            "gpu_seconds_by_arithmetic": arithmetic, "gpu_seconds_by_kernels": kernels,
            "cpu_step_seconds": cpu, "cpu_precision": recipe.precision, "cpu_core_hours": hours,
        } | about("cpu")  # fmt: skip
        key = f"axioms {base.name} {kind}"
        write_rows(options.counted, {key: row}, owner=key)
        console.print(
            f"{kind}: {flops / 1e12:.2f} TFLOP a step ({6 * parameters * places / 1e12:.2f} by 6 x parameters x "
            f"places), {flops * recipe.steps:.2g} in {recipe.steps:,} steps; on one {machine.name} "
            f"{arithmetic / 60:.0f} minutes of arithmetic, {kernels / 60:.0f} by kernels; "
            f"on a core of this machine {hours:.0f} hours in {recipe.precision}"
        )
    console.print(f"written: {options.counted}")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper", help="a preset, or a recipe.json")
    parser.add_argument("--positions", nargs="+", default=["none", "learned"])
    parser.add_argument("--minutes", type=float, default=60, help="for all kinds of positions together")
    parser.add_argument("--measure-epochs", type=int, default=2)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=Path("runs/axioms/paper-bench"), help="models go to OUT/models/")
    parser.add_argument("--json", type=Path, default=Path("bench-axioms.json"))
    parser.add_argument("--count", action="store_true", help="train nothing, say what it would cost")
    parser.add_argument("--share", type=float, default=0.5, help="of the GPU's rates that --count assumes")
    parser.add_argument("--timed", type=int, default=3, help="steps that --count times here")
    parser.add_argument("--counted", type=Path, default=COUNTED)
    return parser.parse_args()


def main() -> None:
    """Train, or count."""
    options, console = parsed(), Console(width=200)
    (count if options.count else train)(options, console)


if __name__ == "__main__":
    try:
        main()
    except ArithcircError as error:
        sys.exit(f"error: {error}")
