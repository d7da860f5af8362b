"""Prompts that share a beginning: it is run once, and only the rest of each prompt is replayed on it.

Prompts with the same first number and operator share every activation before the second number. Exact, and
(tail / prompt length) of the cost where many prompts share a beginning. Nothing of a layer is kept once the next one
runs; what is wanted of it is shown to `see` as it passes.
"""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.models.protocol import HookedModel

See = Callable[[str, int, Tensor], None]
"""`see(part, layer, activation)`: `z` or `post` of the prompts from position `start` on."""
SeeBefore = Callable[[str, int, Tensor, Tensor], None]
"""`see(part, layer, activation, counts)`: of each distinct beginning, and how many of the prompts have it."""


def run_tails(
    model: HookedModel,
    tokens: Int[Tensor, "prompt pos"],
    start: int,
    *,
    see: See,
    see_before: SeeBefore | None = None,
    n_layers: int | None = None,
) -> Float[Tensor, "prompt tail d_model"]:
    """The residual stream from position `start` on after the first `n_layers` layers (None: all)."""
    beginnings, which, counts = torch.unique(tokens[:, :start], dim=0, return_inverse=True, return_counts=True)
    with ExitStack() as stack:
        if see_before is not None:
            stack.enter_context(model.editing(lambda part, layer, value: see_before(part, layer, value, counts)))
        prefix = model.record(beginnings, parts=set())
    window = model.window(tokens, start, tokens.shape[1] - start)
    resid = model.embed(tokens, start)
    with model.editing(see):
        for layer in range(model.info.n_layers if n_layers is None else n_layers):
            resid = model.block(layer, resid, window, prefix.keys[layer][which], prefix.values[layer][which])
    return resid
