"""Numbers that a precision cannot hold are refused where they arise, before a mean or a rank hides them.

float16 ends at 65504: a residual stream, an MLP's activation or a head's output beyond it becomes infinite, and NaN
after the next norm. Whole forwards are checked at their logits (models.bridge); what is read on the way and never
reaches the logits is checked here.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from arithcirc.errors import NumericsError
from arithcirc.models.protocol import WAYS_OUT, ModelInfo


def require_finite(values: Float[Tensor, "..."], what: str, info: ModelInfo) -> None:
    """Raise NumericsError, naming `what` and the way out, where a value is NaN or infinite."""
    if not torch.isfinite(values).all():
        raise NumericsError(f"{info.name} gives NaN or infinite {what} in {info.dtype}: {WAYS_OUT[info.dtype]}")
