"""What a folder of axiom data is asked to hold: mixes, sizes, evaluation sets, names, seed; checked and frozen."""

from collections.abc import Iterable, Mapping
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
_FEW = 8


def check_longest(longest: int, nodes: Iterable[int], what: str) -> None:
    """Raises RequestError where evaluation sets are asked for and none of these has `longest` nodes or fewer."""
    if longest < (fewest := min(nodes)):
        raise RequestError(
            f"no evaluation set {what} has {longest} node(s) or fewer: use --longest {fewest} or more, or "
            "--evaluation 0"
        )


def told_difference(asked: Mapping[str, Any], held: Mapping[str, Any]) -> str | None:
    """The first setting in which a folder's spec differs from the one asked for, in one short piece; None for equal.

    Numbers in a row are a range, `lengths: 2..200 in the folder, 3..6 asked`; how many more differ is only counted.
    """
    different = [name for name in {**asked, **held} if held.get(name) != asked.get(name)]
    if not different:
        return None
    first, more = different[0], len(different) - 1
    said = f"{first}: {_short(held.get(first))} in the folder, {_short(asked.get(first))} asked"
    return f"{said}; {more} more differ{'s' * (more == 1)}" if more else said


def _short(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return repr(value)
    if len(value) > 2 and all(isinstance(v, int) for v in value) and list(value) == [*range(value[0], value[-1] + 1)]:
        return f"{value[0]}..{value[-1]}"
    few = ", ".join(map(str, value[:_FEW]))
    return f"{few} and {len(value) - _FEW} more" if len(value) > _FEW else few or "none"


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
            if self.families:
                check_longest(
                    self.longest, [cell.nodes for cell in cells(self.families)], f"of {', '.join(self.families)}"
                )
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
