"""Mean activations: what a mean-ablated component is replaced by.

Per component and per position, the mean over ALL prompts op1∘op2= with both operands in range, illegal ones included,
equal numbers per operator (spec section 3). Prompts that share op1 and the operator share every activation before op2,
so these are run once and only the tail of each prompt is replayed on the shared prefix: exact, and
(tail / prompt length) of the cost. Sums are kept per batch in the model's type and added in float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import OperandRange, Operator, all_prompts, concatenate
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import Position
from arithcirc.measure.batches import batches
from arithcirc.models.protocol import Activations, HookedModel

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

    def add(self, part: str, layer: int, value: Tensor, positions: slice, weight: int = 1) -> None:
        """Add activations (prompt, pos, ...) at these positions, each prompt counted `weight` times."""
        total = value.sum(0, dtype=torch.float32).double() * weight
        key = (part, layer)
        if key not in self.sums:
            self.sums[key] = total.new_zeros(self.n_pos, *total.shape[1:])
        self.sums[key][positions] += total

    def means(self, n: int) -> Means:
        """Divide by the number of prompts."""
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
    sums = _Sums(model.info.n_layers, encoder.length)
    start = encoder.index(Position.OP2)
    for op in operators:
        tokens = torch.from_numpy(encoder.encode(all_prompts(op, operands)))
        grid = tokens.view(len(operands), len(operands), -1)
        rows = max(1, batch_size // len(operands))
        for block in batches(grid, rows):
            _add_block(model, sums, block, start)
            if progress is not None:
                progress(block.shape[0] * block.shape[1])
    return sums.means(len(operators) * len(operands) ** 2)


def _add_block(model: HookedModel, sums: _Sums, grid: Int[Tensor, "op1 op2 pos"], start: int) -> None:
    """All prompts of a few op1 values: the shared prefix once per op1, the tail for every op2."""
    n_op2, n_pos = grid.shape[1:]
    prefix = model.record(grid[:, 0, :start], parts={"z", "post"})
    for layer in range(model.info.n_layers):
        sums.add("z", layer, prefix.activations.z[layer], slice(0, start), n_op2)
        sums.add("post", layer, prefix.activations.post[layer], slice(0, start), n_op2)
    window = model.window(grid[0], start, n_pos - start)

    def see(part: str, layer: int, value: Tensor) -> None:
        sums.add(part, layer, value, slice(start, n_pos))

    rows = rearrange(grid, "op1 op2 pos -> (op2 op1) pos")  # whole repetitions of the op1 values, as block() wants
    resid = model.embed(rows, start)
    with model.editing(see):
        for layer in range(model.info.n_layers):
            resid = model.block(layer, resid, window, prefix.keys[layer], prefix.values[layer])


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
    tokens = torch.from_numpy(encoder.encode(concatenate(prompts)))
    sums = _Sums(model.info.n_layers, encoder.length)
    for batch in batches(tokens, batch_size):
        found: Activations = model.activations(batch, parts={"z", "post"})
        for layer in range(model.info.n_layers):
            sums.add("z", layer, found.z[layer], slice(None))
            sums.add("post", layer, found.post[layer], slice(None))
        if progress is not None:
            progress(len(batch))
    return sums.means(len(tokens))
