"""What a folder of axiom data is asked to hold: mixes, sizes, evaluation sets, names, seed; checked and frozen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from arithcirc.axioms.draws import check_seed, whole
from arithcirc.axioms.evaluation import FAMILIES, Cell, cells
from arithcirc.axioms.mixes import LENGTHS, Stream, find_mix
from arithcirc.axioms.names import Names
from arithcirc.axioms.tokenizer import characters
from arithcirc.errors import RequestError

TRAIN, VALIDATION, EVALUATION = 157_500, 17_500, 500
"""Sizes of the paper: 175 thousand examples of which a tenth is held out, 500 questions a set."""
MOST = 100_000_000


@dataclass(frozen=True)
class DataSpec:
    """A folder of data to make. Two equal specs give the same bytes.

    `mixes`: training sets, each of `train` and `validation` examples on chains of `lengths` nodes. `evaluation`:
    questions of each set of `families`, of up to `longest` nodes. Names have `shortest_name` to `longest_name`
    characters of the vocabulary of `vocab` tokens. Raises RequestError for what cannot be made.
    """

    mixes: tuple[str, ...] = ("TS1", "TS2", "OCC")
    train: int = TRAIN
    validation: int = VALIDATION
    evaluation: int = EVALUATION
    families: tuple[str, ...] = FAMILIES
    longest: int = 50
    lengths: tuple[int, ...] = LENGTHS
    shortest_name: int = 1
    longest_name: int = 3
    vocab: int = 70
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixes", tuple(find_mix(name).name for name in self.mixes))
        check_seed(self.seed)
        for name in ("train", "validation", "evaluation"):
            value = getattr(self, name)
            whole(f"number of {name} questions", value, 0, MOST)
            if value % 2:
                raise RequestError(f"{value} {name} questions cannot be half Yes and half No: use an even number")
        for what in ("mixes", "families"):
            if len(set(given := getattr(self, what))) < len(given):
                raise RequestError(f"{what} {', '.join(given)}: give each once")
        for name in self.mixes:
            self.stream(name)
        if self.evaluation:
            for cell in self.cells():
                self.names().check(cell.nodes)
        if not (self.mixes and self.train + self.validation) and not self.cells():
            raise RequestError("neither a mix nor an evaluation set is asked for: give one")

    def names(self) -> Names:
        """What nodes are called."""
        return Names(self.shortest_name, self.longest_name, characters(self.vocab))

    def stream(self, mix: str) -> Stream:
        """The examples of a mix: `train` of them, then `validation` more."""
        return Stream(find_mix(mix), self.seed, self.lengths, self.names())

    def cells(self) -> tuple[Cell, ...]:
        """The evaluation sets."""
        return cells(self.families, longest=self.longest) if self.evaluation else ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in dataset.json."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DataSpec":
        """The spec of `to_json`. Raises RequestError naming a field that is not known."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise RequestError(f"unknown data setting(s) {', '.join(unknown)}: known are {', '.join(sorted(known))}")
        kept: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**kept)
