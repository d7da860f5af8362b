"""Ask one trained model everything, whoever trained it: the study's tables without a study.

What nodes are called follows from the recipe beside the step folder, where there is one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arithcirc.axioms.asking import open_model
from arithcirc.axioms.recipe import AxiomRecipe, load_axiom_recipe
from arithcirc.axioms.shortcuts import SHORTCUTS
from arithcirc.axioms.study.answers import CELLS, HOPS, MODEL, SHORTCUT, ask_sets, guess_sets, table, told
from arithcirc.axioms.study.jobs import weights_of
from arithcirc.axioms.study.questions import Evaluation, question_sets
from arithcirc.errors import ModelError
from arithcirc.store import RunFolder
from arithcirc.training.plan import resolve_device

STAGE = "cells"


@dataclass(frozen=True)
class _Asked:
    weights: str
    evaluation: Evaluation

    def section(self, name: str) -> dict[str, Any]:
        """The questions, or the model by its hash."""
        return self.evaluation.to_json() if name == "evaluation" else {"weights": self.weights}


def step_folder(folder: Path) -> Path:
    """A step folder as it is given, or the last step of a model folder. Raises ModelError where there is none."""
    if (folder / "model.safetensors").is_file():
        return folder
    steps = {int(p.name[4:]): p for p in folder.glob("step*") if p.name[4:].isdecimal()}
    if not steps:
        raise ModelError(f"{folder} holds no trained model: give the folder of one that learned axioms, or a step's")
    return steps[max(steps)]


def recipe_beside(step: Path) -> AxiomRecipe | None:
    """The recipe of a step folder's model, None where there is none."""
    return load_axiom_recipe(step.parent) if (step.parent / "recipe.json").is_file() else None


def evaluate_folder(
    folder: Path,
    out: Path | None = None,
    *,
    evaluation: Evaluation,
    name_lengths: tuple[int, int] | None = None,
    device: str = "auto",
    default_out: Path = Path("runs") / "axioms" / "evaluated",
    progress: Callable[[int, int], None] | None = None,
) -> RunFolder:
    """The tables `cells` and `hops` of a model and of the shortcuts, in `out` (default_out/<model>-<step>).

    `name_lengths`: None for the recipe's, else those of `evaluation`. What is there of the same weights and questions
    is reused. Raises ModelError for a folder of another model, RunConflictError where `out` is of another one.
    """
    step = step_folder(folder).resolve()
    model = open_model(step, device=resolve_device(device))
    recipe = recipe_beside(step)
    if recipe is not None:
        evaluation = replace(evaluation, name_lengths=name_lengths or recipe.name_lengths, vocab=recipe.vocab)
    elif name_lengths is not None:
        evaluation = replace(evaluation, name_lengths=name_lengths)
    name = f"{step.parent.name}-{step.name}"
    run = RunFolder.create(
        out or default_out / name, _Asked(weights_of(step), evaluation), sections=("weights", "evaluation"),
        facts={"model": name},
    )  # fmt: skip
    if run.finished(STAGE) and set(SHORTCUTS) <= set(run.table("cells")["model"]):
        return run
    sets = question_sets(evaluation)
    none = {"mix": "", "positions": "", "seed": None, "asked_seed": None, "counted": True}
    known = {} if recipe is None else {"mix": recipe.mix, "positions": recipe.position_kind, "seed": recipe.seed}
    answered = {(name, MODEL): ask_sets(model, sets, progress=progress)}
    answered |= {(shortcut, SHORTCUT): found for shortcut, found in guess_sets(sets).items()}
    cells, hops = [], []
    for (who, kind), found in answered.items():
        columns = none | (known if kind == MODEL else {}) | {"model": who, "kind": kind}
        cells += told(found.cells, columns)
        hops += told(found.hops, columns)
    run.note("left_out", list(answered[name, MODEL].left_out))
    run.finish(STAGE, [run.write_table("cells", table(cells, CELLS)), run.write_table("hops", table(hops, HOPS))])
    return run
