"""Norms and self-influences of many gradients in one pass, computed in the eigenbasis of the curvature.

With the eigenvectors Q_A, Q_S of a layer's activations and output gradients, a row's gradient there is rotated by
rotating its factors, token by token:  R = sum_t (Q_S^T g_t) (Q_A^T a_t)^T.  Rotations keep lengths, so the squared
norm is sum R^2 and g . (G + lambda)^-1 g is sum R^2 / (Lambda + lambda): both from one forward and one backward pass,
several times cheaper than rotating each gradient there and back. K-FAC has Lambda = outer product of eigenvalues,
diagonal curvature no rotation, identity neither.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arithcirc.influence.rows import Batch

DAMPING_SHARE = 0.1
"""Damping where none is given: this times the mean eigenvalue of the layer (Grosse et al.)."""


@dataclass(frozen=True)
class Curvature:
    """One layer: eigenvectors (columns) of activations and output gradients, and 1 / (Lambda + lambda).

    None where the strategy has none. The last activation is the bias's constant one where the layer has a bias.
    """

    activations: Float[Tensor, "input input"] | None = None
    gradients: Float[Tensor, "output output"] | None = None
    inverse: Float[Tensor, "output input"] | None = None


@dataclass(frozen=True)
class Measures:
    """Of each row: NLL in nats, norm of its loss gradient, and g . (G + lambda)^-1 g."""

    nll: Float[Tensor, "row"]
    norm: Float[Tensor, "row"]
    self_influence: Float[Tensor, "row"]


def curvatures(
    factors: Mapping[str, Mapping[str, Any]], layers: Sequence[str], *, damping: float | None, device: torch.device
) -> dict[str, Curvature]:
    """What kronfluence's factor files hold, layer by layer, damped: lambda is 0.1 x mean eigenvalue where None."""
    found = {}
    for layer in layers:
        held = {name: values[layer] for name, values in factors.items() if layer in values}
        eigenvalues = None
        if "lambda_matrix" in held:
            eigenvalues = held["lambda_matrix"].double() / held["num_lambda_processed"]
        elif "activation_eigenvalues" in held:
            eigenvalues = torch.outer(held["gradient_eigenvalues"].double(), held["activation_eigenvalues"].double())
        inverse = None
        if eigenvalues is not None:
            added = DAMPING_SHARE * float(eigenvalues.mean()) if damping is None else damping
            inverse = (eigenvalues + added).reciprocal().float().to(device)
        bases = [held.get(f"{name}_eigenvectors") for name in ("activation", "gradient")]
        moved = [None if basis is None else basis.float().to(device) for basis in bases]
        found[layer] = Curvature(moved[0], moved[1], inverse)
    return found


def measured(
    model: nn.Module,
    layers: Mapping[str, Curvature],
    batches: Iterable[Batch],
    losses: Callable[[nn.Module, Batch], Tensor],
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Per batch: what `losses` gave for it, and of every row the squared norm and the damped inverse's quadratic form.

    `losses` may return one value per row or their sum. Without curvature the two are the same.
    """
    for batch in batches:
        with _squares(model, layers, len(batch["input_ids"])) as (norms, forms):
            loss = losses(model, batch)
            torch.autograd.backward(loss.sum())
        yield loss.detach(), norms, forms


@contextmanager
def _squares(model: nn.Module, layers: Mapping[str, Curvature], rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Hooks that fill in each row's sums of squares during the backward pass."""
    device = next(model.parameters()).device
    norms, forms = torch.zeros(rows, device=device), torch.zeros(rows, device=device)

    def watch(layer: nn.Linear, curvature: Curvature) -> Callable[..., None]:
        def forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            activations = inputs[0].detach().float()
            if layer.bias is not None:
                activations = torch.cat([activations, activations.new_ones(*activations.shape[:-1], 1)], -1)

            def backward(gradient: Tensor) -> None:
                _add(norms, forms, activations, gradient.detach().float(), curvature)

            output.register_hook(backward)  # type: ignore[no-untyped-call]

        return forward

    handles = [
        module.register_forward_hook(watch(getattr(module, "original_module", module), layers[name]))
        for name, module in model.named_modules()
        if name in layers
    ]
    try:
        yield norms, forms
    finally:
        for handle in handles:
            handle.remove()


def _add(norms: Tensor, forms: Tensor, activations: Tensor, gradients: Tensor, curvature: Curvature) -> None:
    """Add one layer's share. Its rotated gradient (row, output, input) lives only here."""
    with torch.no_grad(), torch.autocast(norms.device.type, enabled=False):
        if curvature.activations is not None and curvature.gradients is not None:
            activations, gradients = activations @ curvature.activations, gradients @ curvature.gradients
        squares = torch.bmm(gradients.transpose(1, 2), activations).square_().flatten(1)
        own = squares.sum(1)
        norms += own
        forms += own if curvature.inverse is None else squares @ curvature.inverse.flatten()
