"""Seeded choices that give the same bytes everywhere.

Every document has dice of its own, keyed by the corpus' seed, a purpose and a number, so a document can be made alone,
in any order, by any process. Only the raw 64-bit stream of Philox is used: numpy promises that it never changes, while
its distributions may. A choice among n takes the remainder of 64 random bits; its bias, below n / 2^64, is nothing.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int

Item = TypeVar("Item")
_BATCH = 24
_ALL = 1 << 64


def _stream(seed: int, purpose: int, number: int) -> np.random.Philox:
    key = np.array([(seed << 8) | purpose, number], dtype=np.uint64)
    return np.random.Philox(key=key)


class Dice:
    """The random choices of one thing: `Dice(seed, purpose, number)`; purpose in 0..255, seed below 2^56."""

    def __init__(self, seed: int, purpose: int, number: int) -> None:
        self._bits = _stream(seed, purpose, number)
        self._raw: list[int] = []

    def below(self, n: int) -> int:
        """A whole number in 0..n-1."""
        if not self._raw:
            self._raw = self._bits.random_raw(_BATCH).tolist()
        return self._raw.pop() % n

    def between(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self.below(_ALL) < share * _ALL

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[tuple[Item, float]]) -> Item:
        """One of the items, each with its share; shares sum to 1."""
        left = self.below(_ALL) / _ALL
        for item, share in items:
            left -= share
            if left < 0:
                return item
        return items[-1][0]


def shuffled(seed: int, purpose: int, number: int, n: int) -> Int[np.ndarray, "item"]:
    """A permutation of 0..n-1."""
    return np.argsort(_stream(seed, purpose, number).random_raw(n), kind="stable")
