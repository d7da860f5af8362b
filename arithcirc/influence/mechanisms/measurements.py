"""Mechanisms as the measurement of an `Engine`: one row per mechanism, all its prompts in one gradient.

A mechanism is a weighted sum over prompts, so its gradient is one vector: rather than a query per prompt, every linear
layer is made to see the prompts of a mechanism as positions of one row. Hooks regroup what goes into a tracked layer
from (mechanism x prompt, pos, d) to (mechanism, prompt x pos, d), and what comes out of it back; the layer maps
positions one by one, so nothing but the grouping of gradients changes, for any architecture. The value vectors of a
heuristic's neurons are read by positions added to the row of W_out: each prompt's activations at `=` with all other
neurons zeroed, and a zero position whose output (the bias) is subtracted.

The measurement is the negative of sign x value, so a positive score says: the document strengthens the mechanism.
A row of an engine's queries is one token, the mechanism's number (`mechanism_rows`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arithcirc.errors import ModelError, NumericsError, RequestError
from arithcirc.influence.engine import Measurement
from arithcirc.influence.mechanisms.reading import answer_directions, down_projections, width_of
from arithcirc.influence.mechanisms.values import Mechanism
from arithcirc.influence.rows import Batch, Row, Rows


@dataclass(frozen=True)
class Prepared:
    """Mechanisms as tensors, shorter ones padded with prompts of weight 0.

    `gate[layer]` selects the neurons whose activation is the value, `write[layer]` those whose contribution is, read
    along `direction[layer]`; `names` are the tracked layers, `down` those that MLP activations go into.
    """

    tokens: Int[Tensor, "mechanism prompt pos"]
    weight: Float[Tensor, "mechanism prompt"]
    sign: Float[Tensor, "mechanism"]
    gate: Mapping[int, Float[Tensor, "mechanism neuron"]]
    write: Mapping[int, Float[Tensor, "mechanism neuron"]]
    direction: Mapping[int, Float[Tensor, "mechanism prompt d_model"]]
    names: tuple[str, ...]
    down: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.weight)


def prepare(network: nn.Module, tracked: Sequence[str], mechanisms: Sequence[Mechanism]) -> Prepared:
    """Tensors of these mechanisms on the network's device; one forward of the prompts whose answers are read.

    Raises RequestError without mechanisms or with prompts of different lengths, ModelError for a neuron the network
    does not have.
    """
    if not mechanisms:
        raise RequestError("no mechanism to measure: the run has no significant labels, or none was named")
    if len(lengths := {m.tokens.shape[1] for m in mechanisms}) > 1:
        raise RequestError(f"prompts of {', '.join(map(str, sorted(lengths)))} tokens: all must have one length")
    device = next(network.parameters()).device
    down = down_projections(network, tracked)
    prompts = max(len(m.tokens) for m in mechanisms)
    tokens = torch.tensor(np.stack([np.resize(m.tokens, (prompts, m.tokens.shape[1])) for m in mechanisms]))
    weight = torch.tensor(np.stack([np.pad(m.weight, (0, prompts - len(m.weight))) for m in mechanisms]))
    gate, write = _masks(network, down, mechanisms, "activation"), _masks(network, down, mechanisms, "contribution")
    width = width_of(network)
    direction = {layer: torch.zeros(len(mechanisms), prompts, width, device=device) for layer in write}
    for i, mechanism in enumerate(mechanisms):
        if mechanism.measure == "contribution":
            answers = torch.tensor(np.resize(mechanism.answers, prompts), device=device)
            found = answer_directions(network, tokens[i].to(device), answers, down)
            for layer in direction:
                direction[layer][i] = found[layer]
    return Prepared(
        tokens.to(device), weight.float().to(device), torch.tensor([m.sign for m in mechanisms], device=device),
        gate, write, direction, tuple(tracked), down,
    )  # fmt: skip


def _masks(
    network: nn.Module, down: Mapping[int, str], mechanisms: Sequence[Mechanism], measure: str
) -> dict[int, Float[Tensor, "mechanism neuron"]]:
    """Which neurons of each layer count, for the mechanisms of one measure; layers without any are left out."""
    masks: dict[int, Tensor] = {}
    for i, mechanism in enumerate(mechanisms):
        for neuron in mechanism.neurons if mechanism.measure == measure else ():
            linear = network.get_submodule(down[neuron.layer]) if neuron.layer in down else None
            width = int(getattr(linear, "in_features", 0))
            if not 0 <= neuron.index < width:
                raise ModelError(
                    f"{mechanism.id} names {neuron}, which is no neuron of a tracked layer: layers "
                    f"{', '.join(map(str, down)) or 'none'} are tracked, layer {neuron.layer} with {width} neurons"
                )
            if neuron.layer not in masks:
                device = next(network.parameters()).device
                masks[neuron.layer] = torch.zeros(len(mechanisms), width, device=device)
            masks[neuron.layer][i, neuron.index] = 1.0
    return masks


def mechanism_rows(prepared: Prepared) -> Rows:
    """The queries of an engine with `mechanism_measurement`: row i stands for mechanism i."""
    return Rows([Row((i,)) for i in range(len(prepared))])


def mechanism_measurement(prepared: Prepared) -> Measurement:
    """-sign x value, summed over the mechanisms in a batch. Every tracked layer gets a gradient, above a neuron 0."""

    def measure(model: nn.Module, batch: Batch) -> Tensor:
        chosen = batch["input_ids"][:, 0]
        found, logits = _values(model, prepared, chosen)
        return -(prepared.sign[chosen] * batch["weight"] * found).sum() + 0.0 * logits.float().sum()

    return measure


def values(network: nn.Module, prepared: Prepared, *, batch: int = 8) -> Float[np.ndarray, "mechanism"]:
    """Each mechanism's value, before its sign. Raises NumericsError where one is not finite."""
    with torch.no_grad():
        numbers = torch.arange(len(prepared))
        parts = [_values(network, prepared, numbers[i : i + batch])[0] for i in range(0, len(prepared), batch)]
    found: np.ndarray = torch.cat(parts).double().cpu().numpy()
    if not np.isfinite(found).all():
        raise NumericsError("a mechanism's value is not finite: the model's numbers overflow, use --dtype float32")
    return found


def _values(
    model: nn.Module, prepared: Prepared, chosen: Int[Tensor, "chosen"]
) -> tuple[Float[Tensor, "chosen"], Tensor]:
    """Values of the chosen mechanisms, differentiable, and the logits of the forward they were read in."""
    chosen = chosen.to(prepared.tokens.device)
    tokens = prepared.tokens[chosen]
    found = torch.zeros(len(chosen), device=tokens.device)
    with _regrouped(model, prepared, chosen) as read:
        logits = model(input_ids=tokens.flatten(0, 1), use_cache=False).logits
    for _, value in sorted(read.items()):
        found = found + value
    return found, logits


@contextmanager
def _regrouped(model: nn.Module, prepared: Prepared, chosen: Int[Tensor, "chosen"]) -> Iterator[dict[int, Tensor]]:
    """Tracked layers see each mechanism as one row; fills in what every layer adds to the chosen mechanisms' values.

    Hooks are put on at the last moment, behind those of kronfluence, which see the regrouped input and output.
    """
    read: dict[int, Tensor] = {}
    layers = {name: layer for layer, name in prepared.down.items()}
    handles = []
    for name in prepared.names:
        regroup = _Regroup(prepared, chosen, layers.get(name), read)
        module = model.get_submodule(name)
        handles += [module.register_forward_pre_hook(regroup.enter), module.register_forward_hook(regroup.leave)]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


class _Regroup:
    """What one tracked layer's input and output pass through during a forward."""

    def __init__(
        self, prepared: Prepared, chosen: Int[Tensor, "chosen"], layer: int | None, read: dict[int, Tensor]
    ) -> None:
        self.prepared, self.chosen, self.layer, self.read = prepared, chosen, layer, read
        self.writes = layer is not None and layer in prepared.write

    def enter(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(mechanism x prompt, pos, d) -> (mechanism, prompt x pos [+ 2 prompt], d)."""
        prompts, pos = self.prepared.tokens.shape[1:]
        x = args[0].reshape(len(self.chosen), prompts, pos, -1)
        if self.layer is not None and self.layer in self.prepared.gate:
            last, gate = _wide(x[:, :, pos - 1]), self.prepared.gate[self.layer][self.chosen]
            self._add((last * gate[:, None]).sum(-1))
        row = x.flatten(1, 2)
        if self.writes and self.layer is not None:
            alone = x[:, :, pos - 1] * self.prepared.write[self.layer][self.chosen][:, None].to(x.dtype)
            row = torch.cat([row, alone, torch.zeros_like(alone)], dim=1)
        return (row, *args[1:])

    def leave(self, _: nn.Module, _args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """Back to (mechanism x prompt, pos, d); what was added to the row is read."""
        prompts, pos = self.prepared.tokens.shape[1:]
        if self.writes and self.layer is not None:
            written, bias = _wide(out[:, prompts * pos :]).chunk(2, dim=1)
            self._add(((written - bias) * self.prepared.direction[self.layer][self.chosen]).sum(-1))
            out = out[:, : prompts * pos]
        rows: Tensor = out.reshape(len(self.chosen) * prompts, pos, -1)
        return rows

    def _add(self, per_prompt: Float[Tensor, "chosen prompt"]) -> None:
        layer = -1 if self.layer is None else self.layer
        value = (per_prompt * self.prepared.weight[self.chosen]).sum(-1)
        self.read[layer] = self.read.get(layer, 0.0) + value


def _wide(x: Tensor) -> Tensor:
    """At least float32: sums of half-precision numbers lose the contrast."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
