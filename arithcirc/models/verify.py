"""What every load is checked for: hooks change nothing, and a replayed suffix is the forward's own.

The network's logits on one made-up prompt are taken before TransformerLens wraps it and compared with those of the
wrapped model and of a replay of its last positions. An architecture that a new release of a library computes in another
way is refused here, before anything is measured with it. Costs three forwards of one prompt.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.errors import ModelError
from arithcirc.models.bridge import BridgedModel

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest difference allowed, relative to the largest logit: rounding grows with depth, a wrong formula is far off."""
N_TOKENS, REPLAYED = 6, 3


def probe_tokens(d_vocab: int) -> Int[Tensor, "prompt pos"]:
    """One prompt of different tokens from all over the vocabulary."""
    return torch.linspace(1, d_vocab - 1, N_TOKENS).long()[None]


@torch.no_grad()
def plain_logits(network: Any, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt vocab"]:
    """The network's own logits at the last token, float32, on the CPU."""
    output = network(input_ids=tokens.to(network.device), use_cache=False)
    logits: Tensor = output.logits[:, -1].float().cpu()
    return logits


@torch.no_grad()
def check_replay(
    model: BridgedModel, tokens: Int[Tensor, "prompt pos"], expected: Float[Tensor, "prompt vocab"]
) -> None:
    """Raise ModelError where the wrapped model, or a replay of it, gives other logits; NaN is left for the run."""
    if not torch.isfinite(expected).all():
        return
    clean = model.record(tokens, parts=set())
    start = tokens.shape[1] - REPLAYED
    window = model.window(tokens, start, REPLAYED)
    resid = model.embed(tokens, start)
    for layer in range(model.info.n_layers):
        before = (cache[layer][:, :, :start] for cache in (clean.keys, clean.values))
        resid = model.block(layer, resid, window, *before)
    for what, logits in (("wrapped", clean.logits), ("replayed", model.unembed(resid[:, -1]))):
        off = float((logits.cpu() - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
        if off > TOLERANCE[model.dtype]:
            raise ModelError(
                f"{model.info.name} ({model.info.architecture}) gives other logits when {what} than plain transformers "
                f"does, by {off:.1%} of the largest: this release of transformers or transformer-lens computes it in "
                "another way, so nothing is measured with it; install the versions of requirements.lock"
            )
