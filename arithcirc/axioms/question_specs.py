"""What folders of d-separation and correlation questions are asked to hold; checked, frozen, and file by file.

    d-separation   train.jsonl  validation.jsonl  evaluation/flipped-07.jsonl ..  evaluation/branching-1.4-12.jsonl
    correlation    train.jsonl  validation.jsonl  evaluation/unseen-04.jsonl ..   classes of graphs that training lacks

Training and validation are one stream of questions, validation behind training. Every file is half Yes.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from arithcirc.axioms.corr2cause.questions import SIZES, CorrelationStream, correlation_row, decidable
from arithcirc.axioms.data_spec import check_longest
from arithcirc.axioms.draws import whole
from arithcirc.axioms.evaluation import Cell
from arithcirc.axioms.mixes import LENGTHS
from arithcirc.axioms.names import Names
from arithcirc.axioms.separation_questions import (
    EVALUATION,
    SeparationStream,
    separation_row,
    separation_set,
    training_cells,
)
from arithcirc.axioms.tokenizer import TASKS, characters
from arithcirc.errors import RequestError

MOST = 10_000_000
Row = dict[str, Any]


@dataclass(frozen=True)
class SeparationSpec:
    """Questions of d-separation: sequential and flipped training chains of `lengths` nodes, the sets of `EVALUATION`.

    `evaluation`: questions of each set of up to `longest` nodes. Sizes of the paper. Names have `shortest_name` to
    `longest_name` characters of the vocabulary. Raises RequestError for odd or impossible numbers and lengths, and for
    more nodes than there are names.
    """

    task: ClassVar[str] = TASKS[1]
    shortcut: ClassVar[str] = "no stated edge"
    counted: ClassVar[tuple[str, ...]] = ("nodes", "given")
    train: int = 175_000
    validation: int = 25_000
    evaluation: int = 500
    longest: int = 50
    lengths: tuple[int, ...] = LENGTHS
    shortest_name: int = 1
    longest_name: int = 3
    vocab: int = 70
    seed: int = 0

    def __post_init__(self) -> None:
        _check_numbers(
            self.task, self.sizes(), train=self.train, validation=self.validation, evaluation=self.evaluation
        )
        if self.evaluation:
            check_longest(self.longest, [cell.nodes for cell, _ in EVALUATION], f"of {self.task}")
        self._stream()
        for cell in self._cells():
            self._names().check(cell.nodes)

    def sizes(self) -> dict[str, int]:
        """Files, without `.jsonl`, and the number of their questions."""
        sets = {f"evaluation/{cell.name}": self.evaluation for cell in self._cells()}
        return _asked({"train": self.train, "validation": self.validation, **sets})

    def rows(self, name: str, start: int) -> Iterator[Row]:
        """Rows of a file from the start-th on. Raises RequestError where there are too few graphs."""
        if name in ("train", "validation"):
            first, last = _part(name, self.train, self.validation)
            return map(separation_row, self._stream().questions(first + start, last))
        cell, most = next((cell, most) for cell, most in self._cells().items() if name == f"evaluation/{cell.name}")
        asked = separation_set(cell, most_given=most, number=self.evaluation, seed=self.seed, names=self._names())
        return map(separation_row, asked[start:])

    def to_json(self) -> Row:
        """Plain values."""
        return _plain(self)

    def _cells(self) -> dict[Cell, int]:
        return {cell: most for cell, most in EVALUATION if self.evaluation and cell.nodes <= self.longest}

    def _names(self) -> Names:
        return Names(self.shortest_name, self.longest_name, characters(self.vocab))

    def _stream(self) -> SeparationStream:
        return SeparationStream(training_cells(self.lengths), self.seed, names=self._names())


@dataclass(frozen=True)
class CorrelationSpec:
    """Questions from correlation to causation about `variables` variables, three to six; names are single capitals.

    Training and validation share classes of graphs; `evaluation` questions about each number of variables that leaves
    any (4, 5, 6) are of classes that training never shows. Raises RequestError for odd or impossible numbers.
    """

    task: ClassVar[str] = TASKS[2]
    shortcut: ClassVar[str] = "pair alone"
    counted: ClassVar[tuple[str, ...]] = ("variables", "relation")
    train: int = 100_000
    validation: int = 10_000
    evaluation: int = 500
    variables: tuple[int, ...] = SIZES
    vocab: int = 70
    seed: int = 0

    def __post_init__(self) -> None:
        CorrelationStream(self.variables, self.seed, "train")
        _check_numbers(
            self.task, self.sizes(), train=self.train, validation=self.validation, evaluation=self.evaluation
        )
        characters(self.vocab)
        if self.evaluation and not self._unseen():
            given = ", ".join(map(str, self.variables))
            raise RequestError(
                f"{given} variables leave no class for evaluation: add 4, 5 or 6, or ask 0 evaluation questions"
            )

    def sizes(self) -> dict[str, int]:
        """Files, without `.jsonl`, and the number of their questions."""
        sets = {f"evaluation/{name}": self.evaluation for name in self._unseen()}
        return _asked({"train": self.train, "validation": self.validation, **sets})

    def rows(self, name: str, start: int) -> Iterator[Row]:
        """Rows of a file from the start-th on."""
        if name in ("train", "validation"):
            first, last = _part(name, self.train, self.validation)
            return map(
                correlation_row, CorrelationStream(self.variables, self.seed, "train").questions(first + start, last)
            )
        number = self._unseen()[name.removeprefix("evaluation/")]
        return map(correlation_row, CorrelationStream((number,), self.seed, "test").questions(start, self.evaluation))

    def to_json(self) -> Row:
        """Plain values."""
        return _plain(self)

    def _unseen(self) -> dict[str, int]:
        """Names of the evaluation sets, and the number of their variables."""
        kept = sorted(set(self.variables)) if self.evaluation else ()
        return {f"unseen-{number:02d}": number for number in kept if decidable(number, "test")}


QuestionSpec = SeparationSpec | CorrelationSpec
"""What `question_sets.make_questions` writes. Of a row, `shortcut` names what the answer in its field of that name goes
by, and `counted` the fields whose values are counted (of a list its length)."""


def _check_numbers(task: str, sizes: dict[str, int], **numbers: int) -> None:
    """Raises RequestError for a number that is odd or impossible, and when nothing is asked for."""
    for name, number in numbers.items():
        whole(f"number of {name} questions", number, 0, MOST)
        if number % 2:
            raise RequestError(f"{number} {name} questions cannot be half Yes and half No: use an even number")
    if not sizes:
        raise RequestError(f"no question of {task} is asked for: give a number of train or evaluation questions")


def _part(name: str, train: int, validation: int) -> tuple[int, int]:
    """Where a part of the stream begins and ends."""
    return (0, train) if name == "train" else (train, train + validation)


def _asked(sizes: dict[str, int]) -> dict[str, int]:
    return {name: number for name, number in sizes.items() if number}


def _plain(spec: Any) -> Row:
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(spec).items()}
    return {"task": spec.task, **values}
