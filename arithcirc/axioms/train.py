"""Train a small model on an axiom, through the trainer that all small models here go through."""

from collections.abc import Callable
from pathlib import Path

from arithcirc.axioms.course import AxiomCourse
from arithcirc.axioms.exam import AxiomGrade
from arithcirc.axioms.recipe import AxiomRecipe
from arithcirc.training.course import Report, Trained
from arithcirc.training.trainer import run_course


def train_axiom(
    recipe: AxiomRecipe,
    out: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    report: Report[AxiomGrade] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Trained[AxiomGrade]:
    """Train, measure and write a model folder `out/step<N>/`; resume it when half done, return it when done.

    Raises as `training.trainer.run_course` does.
    """
    return run_course(AxiomCourse(recipe), out, device=device, threads=threads, report=report, stop=stop)
