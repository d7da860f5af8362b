"""What every checkpoint is asked: chains of the longest trained length in three orders, and longer ones.

A small, fixed part of the evaluation sets (evaluation.py), enough to see a run learn; a study asks the rest. Weights
are read back from disk in float32. `accuracy.json` is a list of rows, ascending in step.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from arithcirc.axioms.asking import ask, open_model
from arithcirc.axioms.evaluation import Cell, evaluation_set
from arithcirc.axioms.graphs import Question
from arithcirc.axioms.names import Names
from arithcirc.axioms.recipe import AxiomRecipe, question_tokens
from arithcirc.errors import RunConflictError
from arithcirc.store import write_text

FILE = "accuracy.json"
FURTHER = 5
"""Nodes that the longer chains have more than the longest trained ones."""


@dataclass(frozen=True)
class AxiomGrade:
    """Right answers of one checkpoint on one evaluation set."""

    step: int
    cell: str
    questions: int
    correct: int

    @property
    def value(self) -> float:
        """Share of right answers."""
        return self.correct / self.questions


@dataclass(frozen=True)
class Exam:
    """Evaluation sets with their questions."""

    parts: tuple[tuple[str, tuple[Question, ...]], ...]

    def measure(self, folder: Path, step: int, device: str = "cpu") -> tuple[AxiomGrade, ...]:
        """Load the checkpoint folder and ask it everything."""
        model = open_model(folder, device=device)
        return tuple(
            AxiomGrade(step, name, len(questions), int(ask(model, questions).right.sum()))
            for name, questions in self.parts
        )


def exam_cells(recipe: AxiomRecipe) -> tuple[Cell, ...]:
    """Sequential, flipped and reversed chains of the longest trained length, and sequential ones of five nodes more.

    The longer ones are asked where the recipe's table of positions has room for them, and there are names enough.
    """
    nodes, names = recipe.chain_lengths[1], sum(Names(*recipe.name_lengths).available)
    found = [Cell(family, nodes) for family in ("sequential", "flipped", "reversal")]
    room = question_tokens(nodes + FURTHER, recipe.name_lengths[1]) <= recipe.positions
    if room and nodes + FURTHER < names:
        found.append(Cell("sequential", nodes + FURTHER))
    return tuple(found)


def make_exam(recipe: AxiomRecipe, names: Names) -> Exam:
    """The questions of a recipe's exam; the seed of its training data is the seed of the exam, with other draws."""
    return Exam(
        tuple(
            (cell.name, evaluation_set(cell, number=recipe.exam_questions, seed=recipe.seed, names=names))
            for cell in exam_cells(recipe)
        )
    )


def write_grades(out: Path, rows: tuple[AxiomGrade, ...]) -> None:
    """Write `accuracy.json`, one row a line."""
    lines = [json.dumps({**asdict(row), "accuracy": round(row.value, 6)}) for row in rows]
    write_text(out / FILE, "[\n" + ",\n".join(lines) + "\n]\n")


def read_grades(out: Path) -> tuple[AxiomGrade, ...]:
    """The rows of `accuracy.json`, none when there is no file. Raises RunConflictError when it is damaged."""
    path = out / FILE
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return tuple(AxiomGrade(**{k: v for k, v in row.items() if k != "accuracy"}) for row in rows)
    except (ValueError, TypeError, AttributeError):
        raise RunConflictError(f"{path} is damaged: delete {out} and train again") from None
