"""Ranks of prompts in activation maps: the one expensive step of matching, done once per map.

rank[prompt, neuron] is the number of prompts with a larger value of that neuron's map, so the top k prompts are those
with rank < k and the bottom k those with rank >= P - k. Equal values are ordered by a fixed pseudo-random order of the
prompts, the same on every machine: in prompt order, a map of zeros would "prefer" small operands. Prompts are put in
that order and sorted by their values' bits, first the lower half, then stably the upper half: each is a radix sort of
16-bit numbers, three times as fast as sorting whole keys. Neurons are kept in blocks of
columns; a row of a block is a few cache lines, so that the ranks of a set of prompts are one gather of rows.
Cost: one sort per neuron; 2 bytes per neuron and prompt up to 65,536 prompts, 4 beyond.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from arithcirc.neuron_maps import tie_order

BLOCK, FEW = 64, 30_000
"""Neurons of a block, four times as many for at most so many prompts."""
_TILE = 256
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """Ranks of all prompts for each neuron, as blocks of neurons: each (prompt, neuron), unsigned."""

    blocks: tuple[np.ndarray, ...]
    n_prompts: int

    @property
    def n_neurons(self) -> int:
        """Neurons in all blocks."""
        return sum(block.shape[1] for block in self.blocks)

    def columns(self) -> Iterator[slice]:
        """Which neurons each block holds."""
        start = 0
        for block in self.blocks:
            yield slice(start, start + block.shape[1])
            start += block.shape[1]


def rank_maps(
    maps: Float[np.ndarray, "neuron prompt"],
    times: Callable[[int], Float[np.ndarray, "prompt"]] | None = None,
) -> Ranks:
    """Ranks of every prompt in every map, largest first. NaN counts as the smallest value.

    `times(i)` is what map i is multiplied by, so that the products are never held together.
    """
    n_neurons, n_prompts = maps.shape
    prompt_at = np.argsort(tie_order(n_prompts)).astype(np.int64)
    kind = np.uint16 if n_prompts <= 2**16 else np.uint32
    places = np.arange(n_prompts, dtype=kind)

    def rank(columns: slice) -> np.ndarray:
        block = np.empty((columns.stop - columns.start, n_prompts), dtype=kind)
        for row in range(len(block)):
            i = columns.start + row
            values = maps[i] if times is None else maps[i] * times(i)
            block[row][prompt_at[_order(values[prompt_at])]] = places
        return transposed(block)

    return Ranks(tuple(in_threads(rank, _columns(n_neurons, n_prompts))), n_prompts)


def _columns(n_neurons: int, n_prompts: int) -> list[slice]:
    """Near-equal blocks, a whole number for each thread where there are enough neurons; wider for few prompts."""
    width = BLOCK if n_prompts > FEW else 4 * BLOCK
    threads, fewest = torch.get_num_threads(), -(-n_neurons // width)
    n = -(-fewest // threads) * threads if n_neurons >= 8 * threads else fewest
    edges = np.linspace(0, n_neurons, max(n, 1) + 1).round().astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges) if stop > start]


def transposed(block: Shaped[np.ndarray, "row column"]) -> Shaped[np.ndarray, "column row"]:
    """The transpose, written in pieces that stay in the cache: up to four times as fast as numpy's copy."""
    out = np.empty(block.shape[::-1], dtype=block.dtype)
    rows, columns = block.shape
    for start in range(0, max(rows, columns), _TILE):
        some = slice(start, start + _TILE)
        if rows > columns:
            out[:, some] = block[some].T
        else:
            out[some] = block[:, some].T
    return out


def _order(values: Float[np.ndarray, "prompt"]) -> Int[np.ndarray, "prompt"]:
    """Places of the values, largest first; equal ones in the order given."""
    values = np.where(np.isnan(values), -np.inf, values).astype(np.float32) + np.float32(0)  # -0 and 0 are equal
    bits = values.view(np.uint32)
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))  # unsigned order = order of the floats
    lower, upper = (~ascending).astype(np.uint32).reshape(-1, 1).view(np.uint16).T  # little-endian halves
    order = np.argsort(lower, kind="stable")
    descending: np.ndarray = order[np.argsort(upper[order], kind="stable")]
    return descending


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` on every item, on as many threads as torch uses; numpy's inner loops run side by side."""
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
