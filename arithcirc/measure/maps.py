"""Activation maps: one number per neuron for every prompt of an operator.

    K[neuron, prompt]  = h_n at `=`                                        the neuron's activation
    KV[neuron, prompt] = K[neuron, prompt] * <v_n, answer of the prompt>   what it writes into the answer's logit

v_n is the neuron's row of W_out, read through the final norm's scale (and LayerNorm's centring) and the unembedding
centred over the vocabulary (`HookedModel.direct_logits`); the final norm's division by the residual's size is left
out, since it only rescales a prompt. An MLP's output is the sum of h_n v_n, also for gated MLPs, whose h_n may be
negative. Prompts that share op1 and the operator share everything before op2, which is run once for each op1.
Memory: 4 bytes per neuron asked for and prompt; many neurons are taken in blocks, each with a pass of its own.
Source: Nikankin et al. 2024, section 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import Neuron, Position
from arithcirc.measure.batches import batches, in_batches
from arithcirc.measure.tails import run_tails
from arithcirc.models.fit import logit_rows
from arithcirc.models.protocol import HookedModel

Progress = Callable[[int], None]
HELD_BYTES = 2**30
"""Maps and ranks of neurons held at once; more neurons are taken in blocks."""
MAP_BYTES = 8
"""Bytes per neuron and prompt: K in float32 and its rank."""


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
    size = logit_rows(model.info.d_vocab)
    for layer, rows, ids in _by_layer(neurons):
        for first in range(0, len(ids), size):
            part = slice(first, first + size)
            vectors = model.value_vectors(layer, torch.from_numpy(ids[part]).to(model.device))
            out[rows[part]] = model.direct_logits(vectors)[:, numbers].cpu().numpy()
    return out


def neuron_blocks(
    neurons: Sequence[Neuron], n_prompts: int, *, held_bytes: int = HELD_BYTES
) -> list[tuple[Neuron, ...]]:
    """The neurons in blocks of neighbouring layers whose maps and ranks fit in `held_bytes`, highest layers first.

    The first block needs the whole model anyway; for the others, layers above their own need not be run.
    """
    ordered = sorted(neurons, key=lambda n: (n.layer, n.index))
    most = max(1, held_bytes // (MAP_BYTES * max(1, n_prompts)))
    n_blocks = max(1, -(-len(ordered) // most))
    edges = np.linspace(0, len(ordered), n_blocks + 1).round().astype(int).tolist()
    return [tuple(ordered[start:stop]) for start, stop in pairwise(edges)][::-1]


def activation_maps(
    model: HookedModel,
    encoder: PromptEncoder,
    prompts: Prompts,
    neurons: Sequence[Neuron],
    *,
    batch_size: int,
    given: Int[np.ndarray, "prompt"] | None = None,
    progress: Progress | None = None,
) -> Maps:
    """K of the neurons on every prompt, which must be of one operator; `progress` counts prompts.

    `given` are the answers' tokens of an earlier pass over these prompts: layers above the neurons' are then not run.
    """
    order = np.argsort(prompts.op1, kind="stable")
    tokens = torch.from_numpy(encoder.encode(prompts))
    start = encoder.index(Position.OP2)
    k = np.empty((len(neurons), len(prompts)), dtype=np.float32)
    chosen = [(layer, rows, torch.from_numpy(ids).to(model.device)) for layer, rows, ids in _by_layer(neurons)]
    depth = model.info.n_layers if given is None else max((layer for layer, *_ in chosen), default=-1) + 1

    def run(batch: slice) -> Float[Tensor, "prompt tail d_model"]:
        rows = order[batch]

        def keep(part: str, layer: int, value: Tensor) -> None:
            if part == "post":
                for at, where, ids in chosen:
                    if at == layer:
                        k[where, batch] = value[:, -1].index_select(-1, ids).float().T.contiguous().cpu().numpy()

        return run_tails(model, tokens[torch.from_numpy(rows)], start, see=keep, n_layers=depth)

    said = np.empty(len(prompts), dtype=np.int64) if given is None else given
    done = 0
    for resid in in_batches(len(order), batch_size, run, progress=progress):
        if given is None:
            parts = batches(resid[:, -1], logit_rows(model.info.d_vocab))
            answers = torch.cat([model.unembed(part).argmax(-1) for part in parts])
            said[order[done : done + len(resid)]] = answers.cpu().numpy()
        done += len(resid)
    if not np.array_equal(order, np.arange(len(order))):
        k = k[:, np.argsort(order)]
    return Maps(tuple(neurons), prompts, k, said == encoder.answers(prompts.answer), said)


def _by_layer(neurons: Sequence[Neuron]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """`(layer, rows of the list, neuron indices)` for each layer that occurs."""
    layers = np.array([n.layer for n in neurons], dtype=np.int64)
    ids = np.array([n.index for n in neurons], dtype=np.int64)
    return [(int(layer), np.flatnonzero(layers == layer), ids[layers == layer]) for layer in np.unique(layers)]
