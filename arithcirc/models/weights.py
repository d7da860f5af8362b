"""Reading weights off layers and norms, whatever their architecture stores them as."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def by_input(bridged: Any) -> Float[Tensor, "input output"]:
    """Weight of a bridged linear layer with a row per input, whether a Linear or GPT-2's transposed Conv1D."""
    layer = bridged.original_component
    weight: Tensor = layer.weight.detach()
    return weight.T if isinstance(layer, nn.Linear) else weight


def scale_of(norm: nn.Module) -> Float[Tensor, "d_model"]:
    """What a norm multiplies its normalised input by: the weight of a LayerNorm; of an RMSNorm, whose weight may count
    from 0 (Gemma) or from 1, what it makes of a constant vector, whose size is that constant.
    """
    weight: Tensor = norm.weight  # type: ignore[assignment]
    if isinstance(norm, nn.LayerNorm):
        return weight.float()
    constant = 1024.0  # large beside the norm's epsilon, and a power of two, so that no digit is lost
    scale: Tensor = norm(torch.full(weight.shape, constant, dtype=torch.float32, device=weight.device))
    return scale.float()
