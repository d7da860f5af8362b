"""Which questions a study asks: every model and every shortcut the same ones, made once in each process.

Sizes, names and seed are one frozen value, `Evaluation`, that decides them. Its seed is not the one of training: no
draw is shared, though short chains of short names are few and some are met in training too.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from arithcirc.axioms.evaluation import FAMILIES, Cell, cells, evaluation_set
from arithcirc.axioms.graphs import Question
from arithcirc.axioms.names import Names
from arithcirc.axioms.tokenizer import characters
from arithcirc.errors import RequestError

Sets = tuple[tuple[Cell, tuple[Question, ...]], ...]
SEED = 1_000_000
"""Seed of the questions, far from those of trainings."""


@dataclass(frozen=True)
class Evaluation:
    """Sets of `families` up to `longest` nodes, `questions` of each, with names as they were in training.

    Raises RequestError for families that are not known or none, an odd number of questions, sizes that no set has, and
    sets of more nodes than there are names.
    """

    families: tuple[str, ...] = FAMILIES
    longest: int = 50
    questions: int = 500
    seed: int = SEED
    name_lengths: tuple[int, int] = (1, 1)
    vocab: int = 70

    def __post_init__(self) -> None:
        if self.questions < 2 or self.questions % 2:
            raise RequestError(f"--questions {self.questions} cannot be half Yes and half No: use an even number")
        if not self.cells:
            raise RequestError(
                f"no evaluation set of {', '.join(self.families) or 'no family'} has {self.longest} nodes or fewer: "
                f"use families among {', '.join(FAMILIES)}, and 5 nodes or more"
            )
        for cell in self.cells:
            if cell.family != "names":
                self.names.check(cell.nodes)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The evaluation sets."""
        return cells(self.families, longest=self.longest)

    @property
    def names(self) -> Names:
        """What nodes are called."""
        return Names(*self.name_lengths, characters(self.vocab))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@lru_cache(maxsize=1)
def question_sets(evaluation: Evaluation) -> Sets:
    """Every set with its questions; kept until others are asked for. About 0.3 ms a question."""
    return _made(evaluation, evaluation.questions)


def sample_sets(evaluation: Evaluation, number: int) -> Sets:
    """The same sets with few questions each."""
    return _made(evaluation, number)


def _made(evaluation: Evaluation, number: int) -> Sets:
    names, seed = evaluation.names, evaluation.seed
    return tuple((cell, evaluation_set(cell, number=number, seed=seed, names=names)) for cell in evaluation.cells)


def prompt_tokens(question: Question) -> int:
    """Tokens of a question's prompt: a character of a name, a word and a sign are one each."""
    edges = sum(len(cause) + len(effect) + 2 for cause, effect in question.graph.edges)
    return edges + len(question.cause) + len(question.effect) + 3
