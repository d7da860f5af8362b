"""Activation maps: one number per neuron for every prompt of an operator.

    K[neuron, prompt]  = h_n at `=`                                        the neuron's activation
    KV[neuron, prompt] = K[neuron, prompt] * <v_n, answer of the prompt>   what it writes into the answer's logit

v_n is the neuron's row of W_out, read through the final norm's scale (and LayerNorm's centring) and the unembedding
centred over the vocabulary (`HookedModel.direct_logits`); the final norm's division by the residual's size is left
out, since it only rescales a prompt. An MLP's output is the sum of h_n v_n, also for gated MLPs, whose h_n may be
negative. Prompts that share op1 and the operator share everything before op2, which is run once for each op1.
Memory: 4 bytes per neuron asked for and prompt, twice while KV is used. Source: Nikankin et al. 2024, section 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import Neuron, Position
from arithcirc.models.protocol import HookedModel

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Maps:
    """K of some neurons on some prompts of one operator, and whether the model answers each prompt correctly."""

    neurons: tuple[Neuron, ...]
    prompts: Prompts
    k: Float[np.ndarray, "neuron prompt"]
    correct: Bool[np.ndarray, "prompt"]
    given: Int[np.ndarray, "prompt"]

    def kv(self, value: Float[np.ndarray, "neuron number"]) -> Float[np.ndarray, "neuron prompt"]:
        """KV, from what each neuron writes into each number's logit (`value_logits`)."""
        out: np.ndarray = self.k * value[:, self.prompts.answer]
        return out


def value_logits(
    model: HookedModel, encoder: PromptEncoder, neurons: Sequence[Neuron]
) -> Float[np.ndarray, "neuron number"]:
    """What one unit of each neuron's activation writes into the logit of each number 0..limit."""
    numbers = torch.from_numpy(encoder.answers(np.arange(encoder.limit + 1))).to(model.device)
    out = np.empty((len(neurons), encoder.limit + 1), dtype=np.float32)
    for layer, rows, ids in _by_layer(neurons):
        vectors = model.value_vectors(layer, torch.from_numpy(ids).to(model.device))
        out[rows] = model.direct_logits(vectors)[:, numbers].cpu().numpy()
    return out


def activation_maps(
    model: HookedModel,
    encoder: PromptEncoder,
    prompts: Prompts,
    neurons: Sequence[Neuron],
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> Maps:
    """K of the neurons on every prompt, which must be of one operator; `progress` counts prompts."""
    order = np.argsort(prompts.op1, kind="stable")
    tokens = torch.from_numpy(encoder.encode(prompts)).to(model.device)
    start = encoder.index(Position.OP2)
    k = np.empty((len(neurons), len(prompts)), dtype=np.float32)
    said = np.empty(len(prompts), dtype=np.int64)
    chosen = [(layer, rows, torch.from_numpy(ids).to(model.device)) for layer, rows, ids in _by_layer(neurons)]
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]

        def keep(part: str, layer: int, value: Tensor, rows: np.ndarray = rows) -> None:
            if part == "post":
                for at, where, ids in chosen:
                    if at == layer:
                        k[np.ix_(where, rows)] = value[:, -1, ids].float().T.cpu().numpy()

        said[rows] = _tails(model, tokens[torch.from_numpy(rows)], start, keep).argmax(-1).cpu().numpy()
        if progress is not None:
            progress(len(rows))
    return Maps(tuple(neurons), prompts, k, said == encoder.answers(prompts.answer), said)


def _tails(
    model: HookedModel, tokens: Int[Tensor, "prompt pos"], start: int, see: Callable[[str, int, Tensor], None]
) -> Float[Tensor, "prompt vocab"]:
    """Logits of prompts, running what comes before `start` once for each distinct beginning."""
    beginnings, which = torch.unique(tokens[:, :start], dim=0, return_inverse=True)
    prefix = model.record(beginnings, parts=set())
    window = model.window(tokens, start, tokens.shape[1] - start)
    resid = model.embed(tokens, start)
    with model.editing(see):
        for layer in range(model.info.n_layers):
            resid = model.block(layer, resid, window, prefix.keys[layer][which], prefix.values[layer][which])
    return model.unembed(resid[:, -1])


def _by_layer(neurons: Sequence[Neuron]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """`(layer, rows of the list, neuron indices)` for each layer that occurs."""
    layers = np.array([n.layer for n in neurons], dtype=np.int64)
    ids = np.array([n.index for n in neurons], dtype=np.int64)
    return [(int(layer), np.flatnonzero(layers == layer), ids[layers == layer]) for layer in np.unique(layers)]
