"""Norms without the statistics that nobody looks at.

TransformerLens's norms hand on what transformers' own norm returns, and beside it compute the scale and the normalised
input for their hooks: the same work again, in float32 and in seven kernels, so that a block spends more time there than
in attention. Here they are computed only where one of these two points is hooked.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

_NATIVE = "_hf_autograd_forward_with_hooks"
"""TransformerLens's method that returns transformers' norm and computes the statistics beside it."""


def skip_unread_statistics(bridge: nn.Module) -> None:
    """Let every norm of the bridge that returns transformers' own output return only that; no number changes.

    Hooks on `hook_scale` and `hook_normalized` still see, and may still edit, what they did.
    """
    for norm in bridge.modules():
        with_statistics = getattr(norm, _NATIVE, None)
        if with_statistics is not None and not isinstance(with_statistics, partial):
            setattr(norm, _NATIVE, partial(_normed, norm, with_statistics))


def _normed(norm: Any, with_statistics: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if any(point._forward_hooks or point._backward_hooks for point in (norm.hook_scale, norm.hook_normalized)):
        return with_statistics(x)
    result: Tensor = norm.original_component(x)
    return result.to(x.dtype)
