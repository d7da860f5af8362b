"""The recipe of a small language model of texts: everything that decides its weights but the texts themselves.

Those are told by two hashes, of the documents' file and of the tokenizer, which whoever opens the corpus fills in; a
run folder of other texts is refused by them. AdamW is the default: influence functions take the loss as quadratic
around the weights, and AdamW is the optimiser of the models whose influences are published; Muon is for speed.

Every document is read once per epoch, in a new order each time (text_data.py); a step reads `documents_per_step`.
"""

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arithcirc.errors import RequestError
from arithcirc.training.fields import check_counts, check_optimizer, check_shape, check_steps, read_fields, reals


@dataclass(frozen=True)
class TextRecipe:
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
    steps: int = 2000
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

    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps measured and saved: 0, 16, 32, 64 ..., every `measure_every`, the extra steps and the last."""
        powers = [2**i for i in range(4, 10)]
        regular = range(self.measure_every, self.steps + 1, self.measure_every)
        return tuple(sorted(s for s in {0, *powers, *regular, *self.extra_steps, self.steps} if s <= self.steps))

    def kept_steps(self) -> tuple[int, ...]:
        """Steps whose folders stay when the run is done: `keep` and the last, or all of them when `keep` is empty."""
        return tuple(sorted({*self.keep, self.steps})) if self.keep else self.checkpoint_steps()

    def shortened(self, steps: int) -> "TextRecipe":
        """The same recipe for fewer or more steps; extra and kept steps beyond the new end are dropped."""
        return replace(
            self,
            steps=steps,
            warmup_steps=min(self.warmup_steps, steps // 2),
            extra_steps=tuple(s for s in self.extra_steps if s <= steps),
            keep=tuple(s for s in self.keep if s <= steps),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, keys in the order of the fields."""
        return dataclasses.asdict(self)

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
    if str(source) in TEXT_PRESETS:
        return TEXT_PRESETS[str(source)]
    path = Path(source)
    path = path / "recipe.json" if path.is_dir() else path
    if not path.is_file():
        raise RequestError(f"no recipe {str(source)!r}: use {' or '.join(TEXT_PRESETS)}, or the path of a recipe.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"recipe {path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise RequestError(f'recipe {path} is not a JSON object: write {{"name": ..., "steps": 1000, ...}}')
    return TextRecipe.from_json(data)
