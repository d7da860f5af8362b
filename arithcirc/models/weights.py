"""Reading weights off layers and norms, whatever their architecture stores them as; logits summed in float32."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arithcirc.models.fit import LOGIT_BYTES


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


def sum_in_float32(unembedding: nn.Module) -> None:
    """Let a half-precision unembedding sum its products in float32 and keep them so, instead of rounding the logits.

    Rounded logits lose half of what half precision loses at all (analyses/10_precision), and tie. Where gradients are
    taken the layer stays as it was: they do not see the rounding of what they are the gradient of.
    """
    weight: Tensor = unembedding.weight  # type: ignore[assignment]
    bias: Tensor | None = getattr(unembedding, "bias", None)
    plain, fused = unembedding.forward, _multiplies_into_float32(weight)

    def forward(x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.is_meta:
            logits: Tensor = plain(x)
            return logits.float()
        rows = x.flatten(0, -2)
        if fused:
            logits = torch.mm(rows, weight.T, out_dtype=torch.float32)
        else:
            parts = torch.split(weight, max(1, LOGIT_BYTES // (4 * weight.shape[1])))
            logits = torch.cat([rows.float() @ part.float().T for part in parts], dim=-1)
        return (logits if bias is None else logits + bias.float()).reshape(*x.shape[:-1], -1)

    if weight.dtype != torch.float32:
        unembedding.forward = forward


def _multiplies_into_float32(weight: Tensor) -> bool:
    """Can this device multiply half-precision matrices into float32, without float32 copies of them? (GPUs can.)"""
    try:
        torch.mm(weight[:8, :8], weight[:8, :8], out_dtype=torch.float32)
    except (RuntimeError, NotImplementedError, TypeError):
        return False
    return True
