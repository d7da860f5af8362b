"""Kinds of positions of the small decoders that learn causal axioms, and their shape. Needs no torch.

`learned` adds a trained row per position, `sinusoidal` a fixed row of sines and cosines of amplitude 1, `none` adds
nothing, so that order is told by the causal mask alone, and `rotary` turns queries and keys instead of adding.
"""

from typing import Any, Protocol, runtime_checkable

from arithcirc.errors import RequestError
from arithcirc.training.fields import DecoderShape

POSITION_KINDS = ("none", "learned", "sinusoidal", "rotary")
TABLE_KINDS = ("learned", "sinusoidal")
"""Kinds that look positions up in a table, which ends somewhere."""


@runtime_checkable
class PositionedShape(DecoderShape, Protocol):
    """The shape of a pre-norm decoder with sequential blocks, untied embeddings and one of POSITION_KINDS."""

    @property
    def position_kind(self) -> str:
        """One of POSITION_KINDS."""

    @property
    def embedding_std(self) -> float:
        """Standard deviation of the untrained token embeddings."""

    @property
    def dropout(self) -> float:
        """Share dropped of embeddings, attention and what blocks write, in training."""


def check_length(config: Any, tokens: int) -> None:
    """Raise RequestError where a prompt has more tokens than a saved model's table of positions has rows.

    `config` is a Hugging Face configuration. Without positions and with rotary ones there is no table that ends.
    """
    kind = getattr(config, "position_kind", None)
    rows = config.max_position_embeddings
    if tokens > rows and kind in TABLE_KINDS:
        raise RequestError(
            f"a prompt has {tokens} tokens and this model has {kind} positions for {rows}: ask about shorter graphs or "
            f"names, or train with positions of at least {tokens}"
        )
