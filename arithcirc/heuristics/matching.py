"""How well each neuron's map agrees with each heuristic.

A heuristic is a set H of prompts; with k = |H|, always,

    score(neuron, H) = |the neuron's top k prompts and H| / k,

so 1 means that the map is larger everywhere in H than anywhere outside, and a map that ignores H scores the base rate
|H| / P. The bottom k counts for maps with negative values (gated MLPs, GELU, and every KV map). Result heuristics are
*direct* and scored on KV, operand heuristics are *indirect* and scored on K. A score says nothing about prompts
outside the top k, and nothing about cause. Cost: one gather of |H| rows per heuristic for 64 neurons at once.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 4.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from arithcirc.arithmetic.operators import Prompts
from arithcirc.heuristics.families import VARIABLES, Heuristic, OneVariable, column
from arithcirc.heuristics.ranks import Ranks, in_threads

End = Literal["top", "bottom"]
Members = Int[np.ndarray, "_"]
"""Prompt indices of one set; sets differ in length."""
ENDS: tuple[End, ...] = ("top", "bottom")
_WORTH_THREADS = 30_000
_CHUNK = 127  # rows whose 0/1 sum fits int8


@dataclass(frozen=True)
class Scores:
    """`ends["top"]` and, where asked, `ends["bottom"]`: scores in [0, 1]; `size` is k = |H| per heuristic."""

    ends: dict[End, Float[np.ndarray, "neuron heuristic"]]
    size: Int[np.ndarray, "heuristic"]


def members_of(heuristics: Iterable[Heuristic], prompts: Prompts) -> list[Members]:
    """Prompt indices of each heuristic; a condition on one variable is asked once for each of its values."""
    levels: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {v: _by_value(column(prompts, v)) for v in VARIABLES}
    found = []
    for heuristic in heuristics:
        if isinstance(heuristic, OneVariable):
            values, count_of, order = levels[heuristic.value]
            found.append(order[np.repeat(heuristic.holds(values), count_of)])
        else:
            found.append(np.flatnonzero(heuristic.mask(prompts)))
    return found


def _by_value(numbers: Int[np.ndarray, "prompt"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct numbers, how often each occurs, and the prompts in order of their number."""
    values, counts = np.unique(numbers, return_counts=True)
    return values, counts, np.argsort(numbers, kind="stable")


def score(ranks: Ranks, heuristics: Sequence[Members], *, ends: Sequence[End] = ENDS) -> Scores:
    """Score every neuron against every heuristic, given as prompt indices (`members_of`); |H| = 0 scores 0."""
    size = np.array([len(h) for h in heuristics], dtype=np.int64)
    found: dict[End, np.ndarray] = {end: np.zeros((ranks.n_neurons, len(heuristics))) for end in ends}
    blocks = list(zip(ranks.columns(), ranks.blocks, strict=True))

    def fill(item: tuple[slice, np.ndarray]) -> None:
        columns, block = item
        for i, prompts in enumerate(heuristics):
            if k := len(prompts):
                rows = block.take(prompts, axis=0)
                for end, scores in found.items():
                    scores[columns, i] = count(in_end(rows, k, ranks.n_prompts, end)) / k

    if ranks.n_prompts < _WORTH_THREADS:  # short gathers hold the interpreter's lock too often to run side by side
        for block in blocks:
            fill(block)
    else:
        in_threads(fill, blocks)
    return Scores(found, size)


def in_end(ranks: np.ndarray, k: int | np.ndarray, n_prompts: int, end: End) -> Bool[np.ndarray, "..."]:
    """Whether each rank belongs to the top, or to the bottom, k prompts."""
    inside: np.ndarray = ranks < k if end == "top" else ranks >= n_prompts - k
    return inside


def count(hits: Bool[np.ndarray, "member neuron"]) -> Int[np.ndarray, "neuron"]:
    """Column sums of booleans, in bytes first: several times the speed of numpy's own sum."""
    ones = hits.view(np.int8)
    whole = len(ones) // _CHUNK * _CHUNK
    total: np.ndarray = ones[whole:].sum(0, dtype=np.int64)
    if whole:
        total += ones[:whole].reshape(-1, _CHUNK, ones.shape[1]).sum(1, dtype=np.int8).sum(0, dtype=np.int64)
    return total
