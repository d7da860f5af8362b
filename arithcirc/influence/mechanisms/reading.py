"""What a residual writes into the answer's logit, with every norm's division held fixed.

A LayerNorm or RMSNorm is N(x) = (x B) s(x) + b with a fixed matrix B, a bias b = N(0) and one division s(x) per
residual. B is read off the norm's outputs for the unit vectors, all of which it divides alike, and s(x) off N(x); so
neither the norm's class nor its parameters need be known. With s held at its value for the prompt,

    r(p) = s(p) B u_p,      u_p = row of the unembedding for the true answer, minus the mean row

and a part v of the final residual contributes <v, r(p)> to the answer's centred logit, before a soft-cap. Where a norm
stands behind the MLP (Gemma 2 and 3, OLMo 2) it is held fixed in the same way.
Cost: one forward of the prompts and one of the norm on d_model unit vectors.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arithcirc.errors import ModelError

_AGREEMENT = 1e-2
"""Largest relative error of (x B) s(x) + b against the norm's own output, with room for bfloat16."""


def down_projections(network: nn.Module, tracked: Sequence[str]) -> dict[int, str]:
    """For each layer the tracked linear layer that an MLP's activations go into, the last one of its MLP.

    Raises ModelError where that layer does not write into the residual stream.
    """
    found: dict[int, str] = {}
    for name in tracked:
        parts = name.split(".")
        numbers = [int(part) for part in parts if part.isdecimal()]
        if numbers and any(mark in part for part in parts for mark in ("mlp", "feed_forward")):
            found[numbers[0]] = name
    width = width_of(network)
    for layer, name in found.items():
        if getattr(network.get_submodule(name), "out_features", None) != width:
            raise ModelError(
                f"layer {layer} of {type(network).__name__}: {name} does not write {width} residual dimensions, so its "
                "input is no MLP activation: influence on mechanisms needs an MLP that ends in a linear layer"
            )
    return found


def answer_directions(
    network: nn.Module, tokens: Int[Tensor, "prompt pos"], answers: Int[Tensor, "prompt"], down: Mapping[int, str]
) -> dict[int, Float[Tensor, "prompt d_model"]]:
    """r(p) for what each layer's MLP writes at the last position of these prompts; `down` as of `down_projections`.

    Raises ModelError where the unembedding does not read a norm, or the norm is none of the two kinds.
    """
    with torch.no_grad(), _recording(network, down) as (norms, written, read):
        network(input_ids=tokens, use_cache=False)
    unembedding = _unembedding(network).detach().float()
    rows = unembedding[answers] - unembedding.mean(0)
    final = [(norm, x) for norm, x, out in norms if torch.equal(out, read[0])]
    if not final:
        raise ModelError(
            f"{type(network).__name__}: no norm feeds the unembedding, so what a neuron writes into the answer's logit "
            "is not known: ask for neurons whose heuristics are on the operands"
        )
    rows = _through(*final[-1], rows)
    behind = {layer: [(norm, x) for norm, x, _ in norms if x is out] for layer, out in written.items()}
    return {layer: _through(*behind[layer][0], rows) if behind[layer] else rows for layer in written}


def _through(
    norm: nn.Module, x: Float[Tensor, "prompt pos d_model"], rows: Float[Tensor, "prompt d_model"]
) -> Float[Tensor, "prompt d_model"]:
    """Directions before a norm that do what these do behind it, its division held as for x at the last position."""
    x = x[:, -1]
    with torch.no_grad():
        unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device) * x.shape[-1] ** 0.5
        zero = norm(torch.zeros_like(unit[:1])).float()
        matrix = norm(unit).float() - zero
        moved, straight = norm(x).float() - zero, x.float() @ matrix
        scale = (moved * straight).sum(-1) / (straight * straight).sum(-1).clamp_min(1e-30)
        error = (moved - scale[:, None] * straight).norm() / moved.norm().clamp_min(1e-30)
    if not error < _AGREEMENT:
        raise ModelError(
            f"{type(norm).__name__} is neither a LayerNorm nor an RMSNorm (off by {float(error):.1g}), so a neuron's "
            "contribution to the answer's logit is not known: ask for neurons whose heuristics are on the operands"
        )
    found: Tensor = scale[:, None] * (rows @ matrix.T)
    return found


def width_of(network: nn.Module) -> int:
    """Dimensions of the residual stream that the unembedding reads."""
    return int(_unembedding(network).shape[1])


def _unembedding(network: Any) -> Tensor:
    weight: Tensor = network.get_output_embeddings().weight
    return weight


@contextmanager
def _recording(
    network: Any, down: Mapping[int, str]
) -> Iterator[tuple[list[tuple[nn.Module, Tensor, Tensor]], dict[int, Tensor], list[Tensor]]]:
    """Every norm with its input and output, what each MLP wrote, and what the unembedding read, in order."""
    norms: list[tuple[nn.Module, Tensor, Tensor]] = []
    written: dict[int, Tensor] = {}
    read: list[Tensor] = []

    def keep(layer: int, out: Tensor) -> None:
        written[layer] = out

    handles = [
        module.register_forward_hook(lambda module, args, out: norms.append((module, args[0], out)))
        for module in network.modules()
        if "norm" in type(module).__name__.lower() and not list(module.children())
    ]
    for layer, name in down.items():
        module = network.get_submodule(name)
        handles.append(module.register_forward_hook(lambda _, _args, out, layer=layer: keep(layer, out)))
    handles.append(network.get_output_embeddings().register_forward_pre_hook(lambda _, args: read.append(args[0])))
    try:
        yield norms, written, read
    finally:
        for handle in handles:
            handle.remove()
