"""Accuracy of a checkpoint folder per operator, on all held-out prompts and a fixed sample of training prompts.

Accuracy is the share of prompts whose most likely next token is the answer, by the weights read back from disk in
float32. The training sample is the same at every checkpoint. `accuracy.json` is a list of rows, ascending in step.
It says nothing of how sure the model is, nor of prompts outside the recipe's range.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from arithcirc.arithmetic.operators import OPERATORS, Prompts
from arithcirc.errors import RunConflictError
from arithcirc.store import write_text
from arithcirc.training.data import sample, split
from arithcirc.training.model import correct, load_step
from arithcirc.training.recipe import Recipe

FILE = "accuracy.json"
HELD_OUT, TRAIN = "held_out", "train"


@dataclass(frozen=True)
class Accuracy:
    """Correct answers of one checkpoint on one part of one operator's prompts."""

    step: int
    operator: str
    part: str
    prompts: int
    correct: int

    @property
    def value(self) -> float:
        """Share of correct answers."""
        return self.correct / self.prompts


@dataclass(frozen=True)
class ExamSet:
    """The prompts every checkpoint is asked: (operator symbol, part, prompts)."""

    parts: tuple[tuple[str, str, Prompts], ...]

    def measure(self, folder: Path, step: int, device: str = "cpu") -> tuple[Accuracy, ...]:
        """Load the checkpoint folder and ask it everything."""
        model = load_step(folder, device)
        return tuple(
            Accuracy(step, symbol, part, len(prompts), int(correct(model, prompts).sum()))
            for symbol, part, prompts in self.parts
        )


def exam_set(recipe: Recipe) -> ExamSet:
    """All held-out prompts and `train_sample` training prompts of each operator."""
    parts: list[tuple[str, str, Prompts]] = []
    for op in OPERATORS:
        train, held_out = split(recipe, op)
        parts += [
            (op.symbol, HELD_OUT, held_out),
            (op.symbol, TRAIN, sample(train, recipe.train_sample, recipe.split_seed)),
        ]
    return ExamSet(tuple(parts))


def write_accuracies(out: Path, rows: tuple[Accuracy, ...]) -> None:
    """Write `accuracy.json`, one row a line."""
    lines = [json.dumps({**asdict(row), "accuracy": round(row.value, 6)}) for row in rows]
    write_text(out / FILE, "[\n" + ",\n".join(lines) + "\n]\n")


def read_accuracies(out: Path) -> tuple[Accuracy, ...]:
    """The rows of `accuracy.json`, none when there is no file. Raises RunConflictError when it is damaged."""
    path = out / FILE
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return tuple(Accuracy(**{k: v for k, v in row.items() if k != "accuracy"}) for row in rows)
    except (ValueError, TypeError, AttributeError):
        raise RunConflictError(f"{path} is damaged: delete {out} and train again") from None
