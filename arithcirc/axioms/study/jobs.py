"""One model of a study: train it where that is not done, ask it everything, and hand back rows.

A job runs in any process, on one thread, so that its numbers do not depend on how many run at once. Its model lies in
`<out>/models/<mix>-<positions>-s<seed>/`; the run's losses and times go to `curve.json` beside `accuracy.json`, which
the trainer writes.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from arithcirc.axioms.asking import open_model
from arithcirc.axioms.exam import AxiomGrade, read_grades
from arithcirc.axioms.recipe import AxiomRecipe
from arithcirc.axioms.study.answers import Answered, Row, ask_sets
from arithcirc.axioms.study.questions import Evaluation, question_sets
from arithcirc.axioms.train import train_axiom
from arithcirc.store import sha256_file, write_text
from arithcirc.training.course import Progress, Report, Trained
from arithcirc.training.plan import cpu_threads, resolve_device

CURVE = "curve.json"
TRAINING = ("model", "step", "part", "accuracy", "loss", "seconds")
"""Columns of the table `training`: `part` is a set of the exam with its accuracy, or `loss` with the loss."""
THREADS = 1
Tell = Callable[[str, int, int], None]
"""What is done, how much, of how much."""


@dataclass(frozen=True)
class Job:
    """A recipe, the folder of its model, what to ask it; `asked_seed` is the seed that it stands for."""

    recipe: AxiomRecipe
    folder: Path
    evaluation: Evaluation
    asked_seed: int
    device: str = "cpu"

    @property
    def name(self) -> str:
        """`TS2-none-s0`."""
        return model_name(self.recipe)

    @property
    def final(self) -> Path:
        """The last step's folder."""
        return self.folder / f"step{self.recipe.steps}"


@dataclass(frozen=True)
class Result:
    """What a job found: hash of the weights, seconds of training, accuracy at the longest trained length, rows."""

    name: str
    weights: str
    seconds: float
    learned: float
    answered: Answered
    training: tuple[Row, ...]


def recipe_of(base: AxiomRecipe, mix: str, positions: str, seed: int) -> AxiomRecipe:
    """The recipe of one model of a study. Raises RequestError."""
    return replace(base, mix=mix, position_kind=positions, seed=seed)


def model_name(recipe: AxiomRecipe) -> str:
    """`TS2-none-s0`."""
    return f"{recipe.mix}-{recipe.position_kind}-s{recipe.seed}"


def train_model(
    recipe: AxiomRecipe,
    folder: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    report: Report[AxiomGrade] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Trained[AxiomGrade]:
    """As `train_axiom`, keeping losses and times in `curve.json`."""
    curve = _Curve(folder)

    def hear(event: Progress[AxiomGrade]) -> None:
        curve.hear(event)
        if report is not None:
            report(event)

    return train_axiom(recipe, folder, device=device, threads=threads, report=hear, stop=stop)


def do(job: Job, tell: Tell) -> Result:
    """Train, or go on with it; then ask. Raises as `run_course` and `ask`."""
    device = resolve_device(job.device)
    done = train_model(
        job.recipe, job.folder, device=device, threads=THREADS,
        report=lambda event: tell(job.name, event.step, event.steps),
    )  # fmt: skip
    with cpu_threads(THREADS):
        sets = question_sets(job.evaluation)
        model = open_model(done.final, device=device)
        answered = ask_sets(model, sets, progress=lambda now, all_: tell(f"{job.name} asked", now, all_))
    return Result(
        job.name,
        weights_of(done.final),
        done.seconds,
        learned_share(job.recipe, done.accuracies),
        answered,
        training_rows(job.name, job.folder),
    )


def weights_of(step: Path) -> str:
    """Sha256 of a step folder's weights."""
    return sha256_file(step / "model.safetensors")


def learned_share(recipe: AxiomRecipe, grades: tuple[AxiomGrade, ...]) -> float:
    """Accuracy of the last step's exam on sequential chains of the longest trained length; NaN where none is there."""
    wanted = f"sequential-{recipe.chain_lengths[1]:02d}"
    return next((g.value for g in grades if g.step == recipe.steps and g.cell == wanted), float("nan"))


def training_rows(name: str, folder: Path) -> tuple[Row, ...]:
    """Rows of the table `training` of one model, ascending in step."""
    curve = read_curve(folder)
    seconds = {row["step"]: row["seconds"] for row in curve}
    rows = [
        {"model": name, "step": row["step"], "part": "loss", "accuracy": np.nan, "loss": row["loss"],
         "seconds": row["seconds"]}
        for row in curve
        if row["loss"] is not None
    ]  # fmt: skip
    rows += [
        {"model": name, "step": grade.step, "part": grade.cell, "accuracy": grade.value, "loss": np.nan,
         "seconds": seconds.get(grade.step, np.nan)}
        for grade in read_grades(folder)
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: row["step"]))


def read_curve(folder: Path) -> list[Row]:
    """Losses and times of a run by step; none where it kept none. A damaged file is none: numbers do not hang on it."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        rows = json.loads((folder / CURVE).read_text(encoding="utf-8"))
        return [{"step": int(r["step"]), "seconds": float(r["seconds"]), "loss": r["loss"]} for r in rows]
    return []


class _Curve:
    """Losses and times as they come, and those of an earlier piece of the same run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows = {row["step"]: row for row in read_curve(folder)}

    def hear(self, event: Progress[AxiomGrade]) -> None:
        row = self._rows.setdefault(event.step, {"step": event.step, "seconds": event.seconds, "loss": None})
        row["seconds"] = round(event.seconds, 2)
        if event.loss is not None:
            row["loss"] = event.loss
        lines = [json.dumps(self._rows[step]) for step in sorted(self._rows)]
        write_text(self._folder / CURVE, "[\n" + ",\n".join(lines) + "\n]\n")
