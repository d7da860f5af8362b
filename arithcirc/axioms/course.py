"""An axiom as a course (`training.course.Course`): questions about chains, packed per graph, Yes or No at each mark.

Step i reads graphs i x graphs_per_step and on of the recipe's stream (mixes.py), which are a function of seed and index
alone; with `examples` the stream is read again from its start after so many. During the curriculum the stream's chains
are short, see `AxiomRecipe.longest_chain`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from arithcirc.axioms.card import write_card
from arithcirc.axioms.exam import AxiomGrade, Exam, make_exam, read_grades, write_grades
from arithcirc.axioms.mixes import Stream, find_mix
from arithcirc.axioms.names import Names
from arithcirc.axioms.packing import Row, encode_row, label_loss, packed_batch
from arithcirc.axioms.recipe import AxiomRecipe, load_axiom_recipe
from arithcirc.axioms.tokenizer import PAD, characters, save_tokenizer, vocabulary
from arithcirc.training.axiom_model import positioned_model
from arithcirc.training.course import Batch
from arithcirc.training.fields import difference
from arithcirc.training.machine import Machine


def names_of(recipe: AxiomRecipe) -> Names:
    """What nodes are called in training."""
    return Names(*recipe.name_lengths, alphabet=characters(recipe.vocab))


def stream_of(recipe: AxiomRecipe, step: int) -> Stream:
    """The stream that a step reads from."""
    lengths = range(recipe.shortest_chain(step), recipe.longest_chain(step) + 1)
    return Stream(find_mix(recipe.mix), recipe.seed, tuple(lengths), names_of(recipe))


class AxiomBatches(Dataset[Batch]):
    """Item i is the whole batch of step i."""

    def __init__(self, recipe: AxiomRecipe) -> None:
        self.recipe, self.known = recipe, vocabulary(vocab=recipe.vocab)
        self._kept: dict[int, Row] = {}

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, index: int) -> Batch:
        return packed_batch(self.rows(index), fill=self.known["."])

    def rows(self, step: int) -> list[Row]:
        """The graphs of a step with their questions, as ids."""
        stream, first = stream_of(self.recipe, step), step * self.recipe.graphs_per_step
        numbers = range(first, first + self.recipe.graphs_per_step)
        if not self.recipe.examples:
            return [self._row(stream, number) for number in numbers]
        found = []
        for number in (n % self.recipe.examples for n in numbers):
            if number not in self._kept:
                self._kept[number] = self._row(stream, number)
            found.append(self._kept[number])
        return found

    def _row(self, stream: Stream, number: int) -> Row:
        if self.recipe.questions_per_graph == 1:
            return encode_row([stream.example(number)], self.known)
        return encode_row(stream.premise(number, questions=self.recipe.questions_per_graph).questions, self.known)


@dataclass(frozen=True)
class AxiomCourse:
    """A recipe as a course."""

    recipe: AxiomRecipe

    @property
    def rows(self) -> int:
        """A row a graph, so that several processes may share a step (`training.course.Rowed`)."""
        return self.recipe.graphs_per_step

    @cached_property
    def _exam(self) -> Exam:
        return make_exam(self.recipe, names_of(self.recipe))

    def difference(self, path: Path) -> str | None:
        """The first field in which another recipe differs."""
        return difference(self.recipe, load_axiom_recipe(path))

    def model(self) -> Any:
        """The untrained model."""
        known = vocabulary(vocab=self.recipe.vocab)
        return positioned_model(self.recipe, vocabulary=len(known), pad=known[PAD], seed=self.recipe.seed)

    def batches(self) -> AxiomBatches:
        """Packed questions, a batch for each step."""
        return AxiomBatches(self.recipe)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the answers over the whole vocabulary."""
        return label_loss(logits, labels)

    def save_tokenizer(self, folder: Path) -> None:
        """The paper's tokenizer."""
        save_tokenizer(folder, vocab=self.recipe.vocab)

    def examine(self, folder: Path, step: int, device: str) -> tuple[AxiomGrade, ...]:
        """Accuracy on questions that were not trained on."""
        return self._exam.measure(folder, step, device)

    def read_grades(self, out: Path) -> tuple[AxiomGrade, ...]:
        """The rows of accuracy.json."""
        return read_grades(out)

    def write_grades(self, out: Path, rows: tuple[AxiomGrade, ...]) -> None:
        """Write accuracy.json."""
        write_grades(out, rows)

    def write_card(self, out: Path, rows: tuple[AxiomGrade, ...], seconds: float, machine: Machine) -> None:
        """Write the data card."""
        parameters = sum(p.numel() for p in self.model().parameters() if p.requires_grad)
        write_card(self.recipe, parameters, out, rows, seconds, machine)
