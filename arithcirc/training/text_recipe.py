"""The recipe of a small language model of texts: everything that decides its weights but the texts themselves.

Those are told by two hashes, of the documents' file and of the tokenizer, which whoever opens the corpus fills in; a
run folder of other texts is refused by them. AdamW is the default: influence functions take the loss as quadratic
around the weights, and AdamW is the optimiser of the models whose influences are published; Muon is for speed.

Every document is read once per epoch, in a new order each time (text_data.py); a step reads `documents_per_step`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arithcirc.errors import RequestError
from arithcirc.training.fields import (
    Checkpointed,
    check_counts,
    check_optimizer,
    check_shape,
    check_steps,
    load_fields,
    read_fields,
    reals,
)


@dataclass(frozen=True)
class TextRecipe(Checkpointed):
    """Texts (by hash), architecture, optimisation and checkpoints of one training run. Raises RequestError."""

    name: str = "neox-corpus"
    # texts
    documents_sha256: str = ""
    tokenizer_sha256: str = ""
    max_tokens: int = 128
    # architecture (GPT-NeoX as Pythia: rotary, parallel residual, untied embeddings)
    layers: int = 2
    width: int = 128
    heads: int = 4
    mlp_width: int = 512
    rotary_share: float = 0.25
    positions: int = 256
    init_std: float = 0.02
    # optimisation
    seed: int = 0
    steps: int = 1500
    documents_per_step: int = 16
    optimizer: str = "adamw"
    muon_learning_rate: float = 0.02
    learning_rate: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    schedule: str = "cosine"
    warmup_steps: int = 50
    precision: str = "fp32"
    # checkpoints
    disk_dtype: str = "float32"
    measure_every: int = 200
    extra_steps: tuple[int, ...] = ()
    keep: tuple[int, ...] = ()
    resume_every: int = 200

    def __post_init__(self) -> None:
        positive = ("layers", "width", "heads", "mlp_width", "steps", "documents_per_step", "measure_every")
        check_counts(self, (*positive, "resume_every"), ("seed", "warmup_steps"))
        check_optimizer(self)
        if self.max_tokens < 2:
            raise RequestError(f"recipe field max_tokens is {self.max_tokens}: it must be 2 or more")
        check_shape(self, shortest=self.max_tokens, because="max_tokens")
        check_steps(self)

    def regular_steps(self) -> Iterable[int]:
        """16, 32, 64 ... 512, and every `measure_every`."""
        return *(2**i for i in range(4, 10)), *range(self.measure_every, self.steps + 1, self.measure_every)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TextRecipe":
        """The inverse of `to_json`; fields left out take their defaults. Raises RequestError naming the field."""
        made: TextRecipe = read_fields(cls, data, {"betas": reals})
        return made


TEXT_PRESETS: dict[str, TextRecipe] = {
    "neox-corpus": TextRecipe(extra_steps=(700,)),
    "small-corpus": TextRecipe(
        name="small-corpus", width=64, mlp_width=256, steps=400, learning_rate=5e-3, warmup_steps=20, measure_every=100
    ),
}


def load_text_recipe(source: str | Path) -> TextRecipe:
    """A preset by name, a JSON file, or the recipe.json in a model folder. Raises RequestError."""
    return load_fields(source, TEXT_PRESETS, TextRecipe.from_json, like='"steps": 1000')
