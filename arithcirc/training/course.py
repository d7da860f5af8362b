"""What the trainer (trainer.py) needs to know of whatever is learned: a course, and what a run reports.

A course holds a recipe, makes the untrained model and the batches, says the loss, and examines checkpoints. The
trainer does the rest: resuming, rounding, the clock, and errors of the disk or of numbers. `Grade` stands for one row
of a course's examination; rows are kept by step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from arithcirc.training.fields import Schedule
from arithcirc.training.machine import Machine

Batch = dict[str, Tensor]


@runtime_checkable
class Graded(Protocol):
    """One row of an examination."""

    @property
    def step(self) -> int:
        """The checkpoint."""


Grade = TypeVar("Grade", bound=Graded)


@runtime_checkable
class Course(Protocol[Grade]):
    """Something to learn."""

    @property
    def recipe(self) -> Schedule:
        """Everything that decides the weights; kept as recipe.json."""

    def difference(self, path: Path) -> str | None:
        """The first field in which the recipe of this file is another, None when it is the same."""

    def model(self) -> PreTrainedModel:
        """The untrained model, by the recipe's seed; parameters that are frozen stay as they are."""

    def batches(self) -> "Dataset[Batch]":
        """Item i is the whole batch of step i, a function of the recipe and i alone.

        It holds what the model takes, and `labels` apart.
        """

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What one step minimises."""

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files into a step folder."""

    def examine(self, folder: Path, step: int, device: str) -> tuple[Grade, ...]:
        """Measure the checkpoint that lies in a folder."""

    def read_grades(self, out: Path) -> tuple[Grade, ...]:
        """All rows written so far, ascending in step."""

    def write_grades(self, out: Path, rows: tuple[Grade, ...]) -> None:
        """Write all rows."""

    def write_card(self, out: Path, rows: tuple[Grade, ...], seconds: float, machine: Machine) -> None:
        """Write README.md and card.json, whose `wall_seconds` are these seconds."""


@runtime_checkable
class Rowed(Protocol):
    """A course whose steps several processes may share, by rows (ranks.py).

    Every tensor of its batches has the rows first, every row has a label, and its loss is the mean over the labels
    that are not -100. A course without `rows` trains in one process.
    """

    @property
    def rows(self) -> int:
        """Rows of every step's batch."""


@dataclass(frozen=True)
class Progress(Generic[Grade]):
    """One report of a run: the loss every few steps, or the rows of a checkpoint just measured."""

    step: int
    steps: int
    seconds: float
    loss: float | None = None
    accuracies: tuple[Grade, ...] = ()


@dataclass(frozen=True)
class Trained(Generic[Grade]):
    """A finished run: the folder, the last step's folder, all rows, and the seconds it took."""

    folder: Path
    final: Path
    accuracies: tuple[Grade, ...]
    seconds: float


Report = Callable[[Progress[Grade]], None]
