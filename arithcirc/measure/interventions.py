"""Joint ablations: many circuits in one batch.

A circuit keeps some heads, MLPs and single neurons; everything else is replaced, at every position, by its mean
activation. The rows of a batch are (circuit, prompt), so a whole faithfulness curve with its random baselines is a few
large forwards. Masks of neurons take one byte per circuit, layer and neuron; they are never repeated over prompts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arithcirc.measure.means import Means
from arithcirc.models.fit import Limit, in_halves, logit_rows
from arithcirc.models.protocol import HookedModel

Reduce = Callable[[Float[Tensor, "circuit prompt vocab"], slice], Float[Tensor, "circuit prompt metric"]]


@dataclass(frozen=True)
class CircuitMasks:
    """What each circuit keeps: True where a head, a whole MLP or (with `neurons`) one neuron is left as it is.

    A neuron is kept when its own entry or its whole MLP's is True.
    """

    heads: Bool[Tensor, "circuit layer head"]
    mlps: Bool[Tensor, "circuit layer"]
    neurons: Bool[Tensor, "circuit layer neuron"] | None = None

    def __len__(self) -> int:
        return len(self.heads)

    def __getitem__(self, index: slice) -> "CircuitMasks":
        neurons = None if self.neurons is None else self.neurons[index]
        return CircuitMasks(self.heads[index], self.mlps[index], neurons)

    def before(self, others: "CircuitMasks") -> "CircuitMasks":
        """These circuits, then others; neither side needs masks of neurons."""
        neurons = None
        if (given := self.neurons if others.neurons is None else others.neurons) is not None:
            neurons = torch.cat([_neurons_or_none(m, given) for m in (self, others)])
        return CircuitMasks(torch.cat([self.heads, others.heads]), torch.cat([self.mlps, others.mlps]), neurons)


def _neurons_or_none(masks: CircuitMasks, like: Tensor) -> Bool[Tensor, "circuit layer neuron"]:
    """Masks of neurons; no single neuron kept where there are none."""
    return like.new_zeros(len(masks), *like.shape[1:]) if masks.neurons is None else masks.neurons


def ablate_to_means(
    model: HookedModel,
    tokens: Int[Tensor, "prompt pos"],
    circuits: CircuitMasks,
    means: Means,
    reduce: Reduce,
    *,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, "circuit prompt metric"]:
    """Final logits under each circuit's mean ablation, reduced; at most `batch_size` (circuit, prompt) rows at once."""
    most = min(batch_size, logit_rows(model.info.d_vocab))
    per_tile = max(1, most // max(1, len(tokens)))
    limit = Limit(most)

    def run(some: slice, prompts: slice) -> Tensor:
        part, n_prompts = circuits[some], prompts.stop - prompts.start
        rows = repeat(tokens[prompts], "prompt pos -> (circuit prompt) pos", circuit=len(part))
        logits = model.logits(rows, edit=_keep(part, n_prompts, means))
        return reduce(rearrange(logits, "(circuit prompt) vocab -> circuit prompt vocab", prompt=n_prompts), prompts)

    out = []
    for first in range(0, len(circuits), per_tile):
        some = slice(first, min(first + per_tile, len(circuits)))
        columns = []
        for start in range(0, len(tokens), most):
            prompts = slice(start, min(start + most, len(tokens)))
            columns.append(in_halves(run, (some, prompts), limit))
            if progress is not None:
                progress((some.stop - some.start) * (prompts.stop - prompts.start))
        out.append(torch.cat(columns, dim=1))
    return torch.cat(out)


def _keep(circuits: CircuitMasks, n_prompts: int, means: Means) -> Callable[[str, int, Tensor], Tensor | None]:
    """An edit that keeps each row's circuit and puts the mean everywhere else."""

    def edit(part: str, layer: int, value: Tensor) -> Tensor | None:
        if part == "z":
            kept, mean = circuits.heads[:, layer, :, None], means.z[layer]
        else:
            kept, mean = circuits.mlps[:, layer, None], means.post[layer]
            if circuits.neurons is not None:
                kept = kept | circuits.neurons[:, layer]
        if bool(kept.all()):
            return None
        rows = rearrange(value, "(circuit prompt) ... -> circuit prompt ...", prompt=n_prompts)
        mean = mean.to(value.device, value.dtype)
        return torch.where(kept[:, None, None].to(value.device), rows, mean).flatten(0, 1)

    return edit
