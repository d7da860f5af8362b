"""Bytes that fitting and scoring take beside the model, predicted before anything is computed.

Counted: covariances (i^2 + o^2 per layer of i inputs and o outputs), their eigenvectors, the workspace of the largest
eigendecomposition (double), corrected eigenvalues (i o), gradients of a batch at the largest layer, the query gradients
that stay in memory (i o each, or r (i + o) at rank r), and activations and logits of a batch. The last are a bound from
shapes, not a measurement. Partitions of layers divide covariances, eigenvalues and query gradients; eigenvectors of all
layers are in memory at once in kronfluence 1.0.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from arithcirc.errors import EnvironmentFailure

_FLOAT, _DOUBLE = 4, 8
_SAVED = 4
"""Copies of a layer's activations that the backward pass and the trackers keep, roughly."""


@dataclass(frozen=True)
class Sizes:
    """What the prediction needs to know: (input, output) of every tracked layer, bias counted as an input."""

    layers: Mapping[str, tuple[int, int]]
    vocab: int
    weights: int

    @classmethod
    def of(cls, model: nn.Module, tracked: Sequence[str]) -> "Sizes":
        """Read off a model, wrapped or not."""
        found = {}
        for name in tracked:
            layer = model.get_submodule(name)
            linear: Any = getattr(layer, "original_module", layer)
            found[name] = (linear.in_features + (linear.bias is not None), linear.out_features)
        vocab = int(getattr(getattr(model, "config", None), "vocab_size", 0) or 0)
        return cls(found, vocab, sum(p.numel() * p.element_size() for p in model.parameters()))


@dataclass(frozen=True)
class Footprint:
    """Peak bytes of each stage beside the model, and of the factors on disk."""

    covariance: int
    eigen: int
    eigenvalues: int
    scores: int
    disk: int

    def peak(self, *stages: str) -> int:
        """The most that any of these stages takes."""
        return max(int(getattr(self, stage)) for stage in stages)


def footprint(
    sizes: Sizes,
    *,
    batch_size: int,
    tokens: int,
    queries: int = 0,
    query_batch_size: int = 64,
    low_rank: int | None = None,
    module_partitions: int = 1,
) -> Footprint:
    """Predict, for rows of at most `tokens` tokens."""
    shapes = list(sizes.layers.values())
    squares = _FLOAT * sum(i * i + o * o for i, o in shapes)
    products = _FLOAT * sum(i * o for i, o in shapes)
    widest = max(i * o for i, o in shapes)
    activations = batch_size * tokens * (_SAVED * sum(i + o for i, o in shapes) + 3 * sizes.vocab) * _FLOAT
    gradients = 3 * batch_size * widest * _FLOAT
    held = sum(min(i * o, low_rank * (i + o)) if low_rank else i * o for i, o in shapes) * _FLOAT * queries
    queried = 3 * min(query_batch_size, max(queries, 1)) * widest * _FLOAT
    largest = max(max(i, o) for i, o in shapes)
    partly = -(-squares // module_partitions)
    return Footprint(
        covariance=partly + activations,
        eigen=2 * squares + 3 * largest * largest * _DOUBLE,
        eigenvalues=2 * squares + -(-products // module_partitions) + activations + gradients,
        scores=2 * squares + products + 2 * (-(-held // module_partitions)) + queried + activations + gradients,
        disk=2 * squares + products,
    )


def check_room(needed: int, free: int, *, what: str, advice: str) -> None:
    """Raise EnvironmentFailure, with the numbers, where more is needed than is free."""
    if needed > free:
        raise EnvironmentFailure(
            f"{what} takes about {needed / 1e9:.3g} GB beside the model and {free / 1e9:.3g} GB are free: {advice}"
        )
