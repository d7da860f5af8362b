"""The course of the shipped model: packed prompts of four operators, examined on held-out and training prompts."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor
from transformers import GPTNeoXForCausalLM

from arithcirc.training.card import write_card
from arithcirc.training.data import PackedBatches
from arithcirc.training.evaluate import Accuracy, ExamSet, exam_set, read_accuracies, write_accuracies
from arithcirc.training.fields import difference
from arithcirc.training.machine import Machine
from arithcirc.training.model import build_model
from arithcirc.training.plan import answer_loss
from arithcirc.training.recipe import Recipe, load_recipe
from arithcirc.training.tokenizer import save_tokenizer


@dataclass(frozen=True)
class ArithmeticCourse:
    """A recipe as a course (`training.course.Course`)."""

    recipe: Recipe

    @cached_property
    def _exam(self) -> ExamSet:
        return exam_set(self.recipe)

    def difference(self, path: Path) -> str | None:
        """The first field in which another recipe differs."""
        return difference(self.recipe, load_recipe(path))

    def model(self) -> GPTNeoXForCausalLM:
        """The untrained model."""
        return build_model(self.recipe)

    def batches(self) -> PackedBatches:
        """Packed prompts, a batch for each step."""
        return PackedBatches(self.recipe)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the answers."""
        return answer_loss(logits, labels)

    def save_tokenizer(self, folder: Path) -> None:
        """One token per number up to the recipe's limit."""
        save_tokenizer(self.recipe.limit, folder)

    def examine(self, folder: Path, step: int, device: str) -> tuple[Accuracy, ...]:
        """Correct answers per operator and part of the split."""
        return self._exam.measure(folder, step, device)

    def read_grades(self, out: Path) -> tuple[Accuracy, ...]:
        """The rows of accuracy.json."""
        return read_accuracies(out)

    def write_grades(self, out: Path, rows: tuple[Accuracy, ...]) -> None:
        """Write accuracy.json."""
        write_accuracies(out, rows)

    def write_card(self, out: Path, rows: tuple[Accuracy, ...], seconds: float, machine: Machine) -> None:
        """Write the data card."""
        write_card(self.recipe, out, rows, seconds, machine)
