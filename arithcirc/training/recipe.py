"""The recipe of a small arithmetic model: everything that decides its weights, in one frozen value.

Two runs with equal recipes, the same device kind and the same thread count give the same weights in float32 (bf16 on
another processor may differ in the last bits). A recipe is written as JSON beside the model it made, so that the model
can be made again and so that anyone can ask which prompts it never saw (`split.held_out_mask`).

What is not here: device, threads and the output folder. They decide how long a run takes and where it lies.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.errors import RequestError
from arithcirc.training.fields import (
    Checkpointed,
    check_counts,
    check_optimizer,
    check_shape,
    check_steps,
    load_fields,
    read_fields,
    real,
    reals,
    refuse,
)


@dataclass(frozen=True)
class OperatorMix:
    """Shares of the rows of a batch that each operator gets; they are normalised to sum to 1."""

    add: float = 0.35
    sub: float = 0.30
    mul: float = 0.15
    div: float = 0.20

    def shares(self) -> Float[np.ndarray, "operator"]:
        """Shares in the order of `arithmetic.operators.OPERATORS`, summing to 1."""
        values = np.array([self.add, self.sub, self.mul, self.div], dtype=np.float64)
        return np.asarray(values / values.sum(), dtype=np.float64)


@dataclass(frozen=True)
class Recipe(Checkpointed):
    """Data, architecture, optimisation and checkpoints of one training run. Raises RequestError when unusable."""

    name: str = "neox-arith"
    # data
    operands: OperandRange = field(default_factory=OperandRange)
    limit: int = 530
    mix: OperatorMix = field(default_factory=OperatorMix)
    held_out_share: float = 0.1
    split_seed: int = 0
    # architecture (GPT-NeoX as Pythia: rotary, parallel residual, untied embeddings)
    layers: int = 6
    width: int = 128
    heads: int = 4
    mlp_width: int = 512
    rotary_share: float = 0.25
    positions: int = 32
    init_std: float = 0.02
    # optimisation; one step reads rows x suffixes prompts
    seed: int = 0
    steps: int = 4000
    rows: int = 64
    suffixes: int = 16
    optimizer: str = "muon"
    muon_learning_rate: float = 0.02
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    schedule: str = "cosine"
    warmup_steps: int = 200
    precision: str = "bf16"
    # checkpoints
    disk_dtype: str = "bfloat16"
    extra_steps: tuple[int, ...] = ()
    keep: tuple[int, ...] = ()
    resume_every: int = 250
    train_sample: int = 2000

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_shares(self)
        check_optimizer(self)
        check_shape(self, shortest=5, because="the length of a prompt")
        check_steps(self)

    @property
    def prompts_per_step(self) -> int:
        """Prompts whose answer enters the loss of one step."""
        return self.rows * self.suffixes

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step: three shared by a row, two for each of its suffixes."""
        return self.rows * (3 + 2 * self.suffixes)

    def regular_steps(self) -> Iterable[int]:
        """1, 2, 4 ... 512, then every 1000."""
        return *(2**i for i in range(10)), *range(1000, self.steps + 1, 1000)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, keys in the order of the fields."""
        return {**super().to_json(), "operands": str(self.operands)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Recipe":
        """The inverse of `to_json`; fields left out take their defaults. Raises RequestError naming the field."""
        made: Recipe = read_fields(cls, data, _SPECIAL)
        return made


def _mix(value: Any) -> OperatorMix:
    """Shares by operator name."""
    return OperatorMix(**{k: real(v) for k, v in value.items()})


_SPECIAL = {"operands": OperandRange.parse, "mix": _mix, "betas": reals}


def _check_counts(recipe: Recipe) -> None:
    positive = ("layers", "width", "heads", "mlp_width", "steps", "rows", "suffixes", "resume_every", "train_sample")
    check_counts(recipe, positive, ("limit", "seed", "split_seed", "warmup_steps"))
    if recipe.operands.high > recipe.limit:
        raise RequestError(
            f"operands {recipe.operands} exceed limit {recipe.limit}, the largest number the tokenizer writes: "
            f"use operands up to {recipe.limit} or raise the limit"
        )


def _check_shares(recipe: Recipe) -> None:
    if not 0 < recipe.held_out_share < 1:
        refuse(recipe, "held_out_share", "between 0 and 1, both excluded")
    values = dataclasses.astuple(recipe.mix)
    if min(values) < 0 or not 0 < sum(values) < math.inf:
        refuse(recipe, "mix", "four shares of at least 0 with a positive sum")


PRESETS: dict[str, Recipe] = {
    "neox-arith": Recipe(
        extra_steps=(384, 768, 1500),
        keep=(0, 64, 128, 256, 384, 512, 768, 1000, 1500, 2000, 4000),
    ),
    "small": Recipe(
        name="small", operands=OperandRange(0, 99), limit=530, layers=4, steps=600, warmup_steps=100, extra_steps=(384,)
    ),
}


def load_recipe(source: str | Path) -> Recipe:
    """A preset by name, a JSON file, or the recipe.json in a model folder. Raises RequestError."""
    return load_fields(source, PRESETS, Recipe.from_json, like='"operands": "0..99"')
