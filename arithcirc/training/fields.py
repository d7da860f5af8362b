"""Fields of a recipe: read from JSON one by one, and checked, with the field named where one cannot be used.

What every recipe of a decoder trained here shares is told as two protocols, its shape and its schedule, and its methods
as a base without fields, Checkpointed. Needs no torch.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from arithcirc.errors import ArithcircError, RequestError

PRECISIONS = ("bf16", "fp32")
DISK_DTYPES = ("bfloat16", "float16", "float32")
OPTIMIZERS = ("muon", "adamw")
SCHEDULES = ("cosine", "linear", "constant_with_warmup")
Reader = Callable[[Any], Any]
"""One JSON value as a field's value; raises TypeError or ValueError for any other."""
Made = TypeVar("Made")


@runtime_checkable
class DecoderShape(Protocol):
    """What every decoder trained here has."""

    @property
    def layers(self) -> int:
        """Blocks."""

    @property
    def width(self) -> int:
        """Width of the residual stream."""

    @property
    def heads(self) -> int:
        """Attention heads of a block."""

    @property
    def mlp_width(self) -> int:
        """Neurons of a block."""

    @property
    def positions(self) -> int:
        """Longest sequence in tokens: rows of a table of positions where there is one."""

    @property
    def init_std(self) -> float:
        """Standard deviation of the untrained weights."""


@runtime_checkable
class Shape(DecoderShape, Protocol):
    """The shape of a GPT-NeoX as Pythia's: rotary positions on a share of each head, untied embeddings."""

    @property
    def rotary_share(self) -> float:
        """Share of a head's dimensions that are rotated."""


@runtime_checkable
class Schedule(Protocol):
    """How a model is optimised, and which steps are kept."""

    @property
    def seed(self) -> int:
        """Seed of weights and batches."""

    @property
    def steps(self) -> int:
        """Updates of the weights."""

    @property
    def optimizer(self) -> str:
        """One of OPTIMIZERS."""

    @property
    def muon_learning_rate(self) -> float:
        """Highest learning rate of Muon, where it is used."""

    @property
    def learning_rate(self) -> float:
        """Highest learning rate of AdamW."""

    @property
    def betas(self) -> tuple[float, float]:
        """AdamW's two decay rates."""

    @property
    def weight_decay(self) -> float:
        """Decay of matrices."""

    @property
    def gradient_clip(self) -> float:
        """Largest norm of a step's gradient; 0 leaves it as it is."""

    @property
    def schedule(self) -> str:
        """One of SCHEDULES."""

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises from 0."""

    @property
    def precision(self) -> str:
        """One of PRECISIONS."""

    @property
    def disk_dtype(self) -> str:
        """One of DISK_DTYPES."""

    @property
    def resume_every(self) -> int:
        """Steps between two points that a killed run resumes from."""

    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps that are measured, ascending."""

    def kept_steps(self) -> tuple[int, ...]:
        """Steps whose folders stay, ascending."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""


class Checkpointed:
    """What recipes have in common, as frozen dataclasses of steps, warmup_steps, extra_steps and keep. No fields."""

    def regular_steps(self) -> Iterable[int]:
        """Steps that are measured beside the first, the extra and the last; those beyond the end are not."""
        return ()

    def checkpoint_steps(self: Any) -> tuple[int, ...]:
        """Steps measured and saved, ascending: 0, the regular and the extra ones, and the last."""
        wanted = {0, *self.regular_steps(), *self.extra_steps, self.steps}
        return tuple(sorted(s for s in wanted if s <= self.steps))

    def kept_steps(self: Any) -> tuple[int, ...]:
        """Steps whose folders stay when the run is done: `keep` and the last, or all of them when `keep` is empty."""
        return tuple(sorted({*self.keep, self.steps})) if self.keep else tuple(self.checkpoint_steps())

    def shortened(self: Made, steps: int) -> Made:
        """The same recipe for fewer or more steps; extra and kept steps beyond the new end are dropped."""
        recipe: Any = self
        made: Made = replace(
            recipe,
            steps=steps,
            warmup_steps=min(recipe.warmup_steps, steps // 2),
            extra_steps=tuple(s for s in recipe.extra_steps if s <= steps),
            keep=tuple(s for s in recipe.keep if s <= steps),
        )
        return made

    def to_json(self: Any) -> dict[str, Any]:
        """Plain JSON values, keys in the order of the fields."""
        return dataclasses.asdict(self)


@runtime_checkable
class WithEpsilon(Protocol):
    """A schedule with an epsilon of its own."""

    @property
    def adam_epsilon(self) -> float:
        """What AdamW adds to the root of the second moment; 1e-8 in schedules that do not say."""


def load_fields(
    source: str | Path, presets: Mapping[str, Made], make: Callable[[dict[str, Any]], Made], *, like: str
) -> Made:
    """A preset by name, a JSON file, or the recipe.json in a model folder, made by `make`. Raises RequestError.

    `like` is a field as it is written, for whoever gave a file that is no JSON object.
    """
    if str(source) in presets:
        return presets[str(source)]
    path = Path(source)
    path = path / "recipe.json" if path.is_dir() else path
    if not path.is_file():
        raise RequestError(f"no recipe {str(source)!r}: use {' or '.join(presets)}, or the path of a recipe.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"recipe {path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise RequestError(f'recipe {path} is not a JSON object: write {{"name": ..., {like}, ...}}')
    return make(data)


def read_fields(cls: type[Any], data: Mapping[str, Any], special: Mapping[str, Reader]) -> Any:
    """A frozen recipe from plain JSON values; fields left out take their defaults. Raises RequestError by name.

    Whole numbers, numbers and text are read by the type of the field's default; `special` reads the other fields.
    """
    known = {f.name: f for f in fields(cls)}
    for name in data:
        if name not in known:
            raise RequestError(f"a recipe has no field {name!r}: use any of {', '.join(known)}")
    return cls(**{name: _parse(cls, known[name], value, special) for name, value in data.items()})


def _parse(cls: type[Any], spec: "dataclasses.Field[Any]", value: Any, special: Mapping[str, Reader]) -> Any:
    """One JSON value as the field's type."""
    readers: dict[type, Reader] = {int: whole, float: real, str: text, tuple: wholes}
    try:
        return special[spec.name](value) if spec.name in special else readers[type(spec.default)](value)
    except ArithcircError:
        raise
    except (TypeError, ValueError, AttributeError):
        example = spec.default if spec.default is not dataclasses.MISSING else cls().to_json()[spec.name]
        raise RequestError(
            f"recipe field {spec.name} cannot be {value!r}: write it like {json.dumps(example)}"
        ) from None


def whole(value: Any) -> int:
    """The value as an int; booleans, text and fractions are refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def wholes(value: Any) -> tuple[int, ...]:
    """A list of whole numbers."""
    return tuple(whole(v) for v in value)


def real(value: Any) -> float:
    """The value as a float; booleans and text are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def reals(value: Any) -> tuple[float, ...]:
    """A list of numbers."""
    return tuple(real(v) for v in value)


def text(value: Any) -> str:
    """The value when it is text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def refuse(recipe: Any, name: str, allowed: str) -> None:
    """Raise RequestError for a field's value, saying what is allowed."""
    raise RequestError(f"recipe field {name} is {getattr(recipe, name)!r}: it must be {allowed}")


def check_counts(recipe: Any, positive: Sequence[str], natural: Sequence[str]) -> None:
    """Whole numbers of at least 1, and of at least 0. Raises RequestError."""
    for name in positive:
        if getattr(recipe, name) < 1:
            refuse(recipe, name, "a whole number of at least 1")
    for name in natural:
        if getattr(recipe, name) < 0:
            refuse(recipe, name, "0 or more")


def check_optimizer(recipe: Schedule, *, unclipped: bool = False) -> None:
    """Rates and choices of the optimiser; `unclipped`: a gradient_clip of 0 is allowed. Raises RequestError."""
    for name in ("learning_rate", "muon_learning_rate", "gradient_clip"):
        if unclipped and name == "gradient_clip" and getattr(recipe, name) == 0:
            continue
        if not 0 < getattr(recipe, name) < math.inf:
            refuse(recipe, name, "a positive number")
    if not 0 <= recipe.weight_decay < math.inf:
        refuse(recipe, "weight_decay", "0 or more")
    if len(recipe.betas) != 2 or not all(0 <= b < 1 for b in recipe.betas):
        refuse(recipe, "betas", "two numbers in [0, 1)")
    choices = {"precision": PRECISIONS, "disk_dtype": DISK_DTYPES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}
    for name, allowed in choices.items():
        if getattr(recipe, name) not in allowed:
            refuse(recipe, name, f"one of {', '.join(allowed)}")


def check_shape(recipe: Shape, *, shortest: int, because: str) -> None:
    """Heads, rotary share, positions. Raises RequestError."""
    if not 0 < recipe.init_std < math.inf:
        refuse(recipe, "init_std", "a positive number")
    if not 0 <= recipe.rotary_share <= 1:
        refuse(recipe, "rotary_share", "between 0 and 1")
    if recipe.width % recipe.heads:
        refuse(recipe, "heads", f"a divisor of width {recipe.width}")
    if recipe.positions < shortest:
        refuse(recipe, "positions", f"at least {shortest}, {because}")
    if int(recipe.width // recipe.heads * recipe.rotary_share) % 2:
        refuse(recipe, "rotary_share", "such that an even number of dimensions of a head is rotated")


def check_steps(recipe: Any) -> None:
    """Warm-up, extra and kept steps within the run. Raises RequestError."""
    if recipe.warmup_steps > recipe.steps:
        refuse(recipe, "warmup_steps", f"at most steps {recipe.steps}")
    if any(not 0 <= s <= recipe.steps for s in recipe.extra_steps):
        refuse(recipe, "extra_steps", f"within 0..{recipe.steps}")
    if strangers := sorted(set(recipe.keep) - set(recipe.checkpoint_steps())):
        refuse(recipe, "keep", f"among the checkpoint steps (add {strangers} to extra_steps)")


def difference(ours: Schedule, theirs: Schedule) -> str | None:
    """`"steps: 4000 here, 600 there"` for the first field that differs, None when equal."""
    mine, other = ours.to_json(), theirs.to_json()
    return next((f"{k}: {mine[k]} here, {other.get(k)} there" for k in mine if mine[k] != other.get(k)), None)
