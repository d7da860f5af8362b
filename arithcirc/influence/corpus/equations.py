"""Equation documents: rows of `12+7=19`, with nothing between them.

Sums and differences of the operands (results 0 or more) fill most of a document; the products and quotients that the
worked procedures need are mixed in. The documents of a kind go through all equations again and again, each time in
another order: every equation is stated as often as any other, and nothing tells which one is next.
"""

import math
from functools import lru_cache

from arithcirc.influence.corpus.dice import Dice, shuffled
from arithcirc.influence.corpus.spec import CorpusSpec

PER_DOCUMENT = 12
HEADS: dict[str, tuple[str, ...]] = {
    "worksheet": ("",),
    "textbook": ("", "Table of sums and differences", "Exercises with answers"),
    "web": ("", "Some sums to learn by heart", "Here are the answers"),
}
"""First lines of each source; most documents have none."""
_PURPOSE = 10


def pool(spec: CorpusSpec) -> list[str]:
    """All equations, shuffled: `+` and `-` over the operands, `*` and `/` as far as the procedures need them."""
    low, high, top = spec.low, spec.high, min(spec.high // 2, 20)
    operands = range(low, high + 1)
    sums = [f"{a}+{b}={a + b}" for a in operands for b in operands]
    differences = [f"{a}-{b}={a - b}" for a in operands for b in operands if a >= b]
    products = [f"{a}*{b}={a * b}" for a in range(2, 2 * top + 1) for b in range(2, 6) if a * b <= spec.largest]
    quotients = [f"{a * b}/{b}={a}" for a in range(1, top + 1) for b in range(1, 6) if a * b <= spec.largest]
    found = [*sums, *differences, *products, *quotients]
    return [found[i] for i in shuffled(spec.seed, _PURPOSE, 0, len(found))]


def lines(equations: list[str], rank: int, seed: int) -> list[str]:
    """The rows of equation document `rank`; a row may repeat where one pass through the equations ends."""
    start = rank * PER_DOCUMENT
    return [equations[_place(start + i, len(equations), seed)] for i in range(PER_DOCUMENT)]


def _place(row: int, n: int, seed: int) -> int:
    """Which of n equations is row `row` of all documents: each pass of n rows has a stride and a start of its own."""
    turn, place = divmod(row, n)
    start, stride = _order(turn, n, seed)
    return (start + place * stride) % n


@lru_cache(maxsize=4096)
def _order(turn: int, n: int, seed: int) -> tuple[int, int]:
    dice = Dice(seed, _PURPOSE + 1, turn)
    stride = dice.between(1, n - 1)
    while math.gcd(stride, n) != 1:
        stride = dice.between(1, n - 1)
    return dice.below(n), stride
