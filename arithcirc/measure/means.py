"""Mean activations: what a mean-ablated component is replaced by.

Per component and per position, the mean over ALL prompts op1∘op2= with both operands in range, illegal ones included,
equal numbers per operator (spec section 3). Prompts that share op1 and the operator share every activation before op2,
so these are run once and only the tail of each prompt is replayed on the shared prefix: exact, and
(tail / prompt length) of the cost. A batch is summed in float32 whatever the model's type, and
batches in float64; a sum that is not finite is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import OperandRange, Operator, all_prompts, concatenate
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import Position
from arithcirc.measure.batches import in_batches
from arithcirc.measure.finite import require_finite
from arithcirc.measure.tails import run_tails
from arithcirc.models.fit import logit_rows
from arithcirc.models.protocol import HookedModel, ModelInfo

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Means:
    """`z[layer]` is (pos, head, d_head), `post[layer]` is (pos, neuron): float32 means over `n` prompts."""

    z: list[Float[Tensor, "pos head d_head"]]
    post: list[Float[Tensor, "pos neuron"]]
    n: int


class _Sums:
    """Running float64 sums over prompts, per layer and position."""

    def __init__(self, n_layers: int, n_pos: int) -> None:
        self.n_pos = n_pos
        self.sums: dict[tuple[str, int], Tensor] = {}
        self.n_layers = n_layers

    def add(self, part: str, layer: int, total: Tensor, positions: slice) -> None:
        """Add one batch's sum (pos, ...) at these positions."""
        key = (part, layer)
        if key not in self.sums:
            self.sums[key] = total.new_zeros(self.n_pos, *total.shape[1:], dtype=torch.float64)
        self.sums[key][positions] += total

    def join(self, batch: "_Sums") -> None:
        """Add the sums of a batch that was run to its end."""
        for (part, layer), total in batch.sums.items():
            self.add(part, layer, total, slice(None))

    def means(self, n: int, info: ModelInfo) -> Means:
        """Divide by the number of prompts. Raises NumericsError naming the layer whose activations were not finite."""
        for (part, layer), total in sorted(self.sums.items(), key=lambda item: item[0][1]):
            require_finite(total, f"activations ({part} of layer {layer})", info)
        parts = {p: [(self.sums[p, i] / n).float() for i in range(self.n_layers)] for p in ("z", "post")}
        return Means(parts["z"], parts["post"], n)


def mean_activations(
    model: HookedModel,
    encoder: PromptEncoder,
    operators: Sequence[Operator],
    operands: OperandRange,
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> Means:
    """Means over every prompt of every operator with operands in range, sharing prefixes."""
    prompts = concatenate([all_prompts(op, operands) for op in operators])  # op1 by op1, so that batches share prefixes
    start = encoder.index(Position.OP2)

    def add(sums: _Sums, tokens: Tensor) -> None:
        def see_before(part: str, layer: int, value: Tensor, counts: Tensor) -> None:
            total = torch.tensordot(counts.to(value.device, torch.float32), value.float(), dims=1)
            sums.add(part, layer, total, slice(0, start))

        def see(part: str, layer: int, value: Tensor) -> None:
            sums.add(part, layer, value.sum(0, dtype=torch.float32), slice(start, None))

        run_tails(model, tokens, start, see=see, see_before=see_before)

    return _means(model, torch.from_numpy(encoder.encode(prompts)), add, batch_size, progress)


def sampled_mean_activations(
    model: HookedModel,
    encoder: PromptEncoder,
    operators: Sequence[Operator],
    operands: OperandRange,
    *,
    per_operator: int,
    batch_size: int,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> Means:
    """Means over `per_operator` random prompts of each operator, for models too big for all of them."""
    prompts = []
    for op in operators:
        everything = all_prompts(op, operands)
        prompts.append(everything[rng.permutation(len(everything))[:per_operator]])

    def add(sums: _Sums, tokens: Tensor) -> None:
        def see(part: str, layer: int, value: Tensor) -> None:
            sums.add(part, layer, value.sum(0, dtype=torch.float32), slice(None))

        model.logits(tokens, edit=see)

    rows = min(batch_size, logit_rows(model.info.d_vocab))
    return _means(model, torch.from_numpy(encoder.encode(concatenate(prompts))), add, rows, progress)


def _means(
    model: HookedModel,
    tokens: Int[Tensor, "prompt pos"],
    add: Callable[[_Sums, Int[Tensor, "prompt pos"]], None],
    batch_size: int,
    progress: Progress | None,
) -> Means:
    """Sum what `add` sees of each batch; a batch counts once it was run to its end."""
    n_layers, n_pos = model.info.n_layers, tokens.shape[1]

    def run(rows: slice) -> _Sums:
        batch = _Sums(n_layers, n_pos)
        add(batch, tokens[rows])
        return batch

    sums = _Sums(n_layers, n_pos)
    for batch in in_batches(len(tokens), batch_size, run, progress=progress):
        sums.join(batch)
    return sums.means(len(tokens), model.info)
