"""Which layers carry the curvature: the linear layers of MLPs (the paper's choice), of attention if asked.

Embeddings and the unembedding are never tracked. A layer that kronfluence would leave out without a word (GPT-2's
Conv1D, experts in one tensor) is refused by name.
"""

from collections.abc import Sequence

import torch
from torch import nn

from arithcirc.errors import ModelError, NumericsError, RequestError

_MARKS = {"mlp": ("mlp", "feed_forward", "ffn"), "attention": ("attn", "attention")}
_SHOWN = 6


def linear_modules(model: nn.Module, *, kinds: Sequence[str] = ("mlp",)) -> tuple[str, ...]:
    """Names of the linear layers inside `mlp` and/or `attention` blocks that can be tracked, in the model's order.

    Raises ModelError where there is none, or where weights inside these blocks cannot be tracked, listing them, and
    RequestError for kinds that are not known.
    """
    if not kinds or not set(kinds) <= set(_MARKS):
        raise RequestError(f"--layers {' '.join(kinds) or 'none'} is not known: use {' or '.join(_MARKS)}, or both")
    wanted = [mark for kind in kinds for mark in _MARKS[kind]]
    inside = [
        (name, module)
        for name, module in model.named_modules()
        if any(mark in part for part in name.split(".") for mark in wanted) and _has_weights(module)
    ]
    found = tuple(name for name, module in inside if type(module) is nn.Linear)
    lost = [
        f"{name} ({type(m).__name__})"
        for name, m in inside
        if type(m) is not nn.Linear and "Norm" not in type(m).__name__
    ]
    if not found or lost:
        listed = ", ".join(lost[:_SHOWN]) + (f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
        raise ModelError(
            f"layers of {type(model).__name__} cannot be tracked: {listed or 'no linear layer in ' + '/'.join(kinds)}; "
            "influence needs layers of type torch.nn.Linear, as in GPT-NeoX, GPT-J, Llama, Mistral, Qwen, Gemma, OLMo"
        )
    return found


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def check_weights(model: nn.Module) -> None:
    """Raise NumericsError, naming the first, where a weight is NaN or infinite."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter.detach()).all():
            raise NumericsError(f"{name} has weights that are NaN or infinite: choose another checkpoint")
