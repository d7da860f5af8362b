"""Who writes what into the logits at `=`: direct logit attribution whose parts sum to the logits.

The final residual is what block 0 read plus what every head, neuron and bias added. Each part x is read as

    contribution[number] = s <x, number>      <x, number> = direct_logits(x): final norm's scale, centred unembedding

where s is what the final norm divided this prompt's residual by (1 / s), held fixed. A LayerNorm's bias and an
unembedding's bias write a constant. What a layer adds beyond its heads' z W_O and its neurons' h_n v_n is its bias; a
norm behind attention or the MLP is a scale, in the parts' vectors, and a division, found so that they sum to what came
out of it. A soft-cap bends logits after all this; logits here are those before it, centred over the vocabulary.
Cost: one forward, and a product of the value vectors with the numbers asked for.
It does not show what a part does through later layers: knock it out to see that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.models.fit import logit_rows
from arithcirc.models.protocol import CleanRun, HookedModel

PARTS = ("z", "post", "mlp_out", "pattern")
"""Activations that a run must have recorded to be explained."""
_UNBENT = 0.9
"""Share of a soft-cap up to which logits are unbent: beyond it rounding is larger than what is left of them."""


@dataclass(frozen=True)
class FinalNorm:
    """One prompt's logits before a soft-cap, centred: `scale` times what its final residual writes, and `constant`."""

    scale: float
    constant: Float[Tensor, "vocab"]
    logits: Float[Tensor, "vocab"]


@dataclass(frozen=True)
class Contributions:
    """Contributions of one prompt's parts to the logits of some tokens; all of them together sum to `logits`."""

    heads: Float[Tensor, "layer head number"]
    neurons: Float[Tensor, "layer neuron number"]
    embedding: Float[Tensor, "number"]
    attention_bias: Float[Tensor, "layer number"]
    mlp_bias: Float[Tensor, "layer number"]
    constant: Float[Tensor, "number"]
    logits: Float[Tensor, "number"]


def final_norm(model: HookedModel, resid: Float[Tensor, "d_model"]) -> FinalNorm:
    """What the final norm does to this residual, read off the logits that it leads to."""
    direct = model.direct_logits(resid[None])[0].double()
    both = model.unembed(torch.stack([resid, torch.zeros_like(resid)])).double()
    cap = model.info.softcap
    straight = torch.ones_like(direct, dtype=torch.bool) if cap is None else both[0].abs() < _UNBENT * cap
    if cap is not None:
        both = cap * torch.atanh((both / cap).clamp(-1 + 1e-12, 1 - 1e-12))
    moved = (both[0] - both[1])[straight]
    x, y = (v - v.mean() for v in (direct[straight], moved))
    scale = float((x * y).sum() / (x * x).sum()) if bool(x.any()) else 0.0
    constant = both[1] - both[1].mean()
    return FinalNorm(scale, constant, scale * direct + constant)


def readout(model: HookedModel, tokens: Int[Tensor, "number"]) -> Float[Tensor, "d_model number"]:
    """What each direction of the final residual writes into these tokens' logits: direct_logits as a matrix."""
    unit = torch.eye(model.info.d_model, device=model.device)
    rows = max(1, logit_rows(model.info.d_vocab))
    return torch.cat([model.direct_logits(part)[:, tokens] for part in torch.split(unit, rows)])


def contributions(
    model: HookedModel,
    run: CleanRun,
    norm: FinalNorm,
    tokens: Int[Tensor, "number"],
    read: Float[Tensor, "d_model number"],
) -> Contributions:
    """Split the logits of these tokens, of which `read` is the readout, in a run of one prompt that has the PARTS."""
    read = norm.scale * read.double()
    resid = [r[0, -1].double() for r in run.resid]
    heads, neurons, attention_bias, mlp_bias = [], [], [], []
    for layer in range(model.info.n_layers):
        mlp = run.activations.mlp_out[layer][0, -1].double()
        attention = resid[layer + 1] - resid[layer] - mlp
        by_head = model.head_vectors(layer, run.activations.z[layer][0, -1]).double()
        by_head, rest = _summing_to(attention, by_head, divided=model.info.post_norm)
        heads.append(by_head @ read)
        attention_bias.append(rest @ read)
        by_neuron, rest = _neurons(model, layer, run.activations.post[layer][0, -1], mlp, read)
        neurons.append(by_neuron)
        mlp_bias.append(rest @ read)
    constant, logits = norm.constant[tokens], norm.logits[tokens]
    parts = (torch.stack(part) for part in (heads, neurons, [resid[0] @ read], attention_bias, mlp_bias))
    by_head, by_neuron, embedding, of_attention, of_mlp = parts
    return Contributions(by_head, by_neuron, embedding[0], of_attention, of_mlp, constant, logits)


def _neurons(
    model: HookedModel,
    layer: int,
    post: Float[Tensor, "neuron"],
    written: Float[Tensor, "d_model"],
    read: Float[Tensor, "d_model number"],
) -> tuple[Float[Tensor, "neuron number"], Float[Tensor, "d_model"]]:
    """What each neuron writes into the logits, and what the MLP wrote beside all of them."""
    vectors = model.value_vectors(layer).float()
    total = (post.float() @ vectors).double()
    divisor = _division(total, written) if model.info.post_norm else 1.0
    each = divisor * post.double()[:, None] * (vectors @ read.float()).double()
    return each, written - divisor * total


def _summing_to(
    total: Float[Tensor, "d_model"], parts: Float[Tensor, "part d_model"], *, divided: bool
) -> tuple[Float[Tensor, "part d_model"], Float[Tensor, "d_model"]]:
    """The parts, divided as their sum was where a norm follows them, and what of the total they leave."""
    if divided:
        parts = parts * _division(parts.sum(0), total)
    return parts, total - parts.sum(0)


def _division(before: Float[Tensor, "d_model"], after: Float[Tensor, "d_model"]) -> float:
    """The factor between two vectors that differ by a factor."""
    size = float(before @ before)
    return float(before @ after) / size if size else 0.0


def tokens_of(ids: Sequence[int], model: HookedModel) -> Int[Tensor, "number"]:
    """Token ids on the model's device."""
    return torch.tensor(list(ids), dtype=torch.long, device=model.device)
