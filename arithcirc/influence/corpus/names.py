"""Invented names, as many as needed from a closed set of pieces.

A name is an opening of two letters (`Zo`) and one or more endings of three (`ran`): Zoran, Zoranvel. All openings have
one length and all endings another, so a name has one reading and the tokenizer, which takes the longest piece it
knows, always finds it. Names of one ending come first, then those of two, then of three.
"""

import math
from functools import cache

_TAKEN = frozenset(("Di", "Fi", "Ge", "Le", "Li", "Ma", "Ne", "No", "Pa", "Pe", "Po", "So", "Su", "Ta", "Vi", "Ze"))
OPENINGS = tuple(c + v for c in "BDFGKLMNPRSTVZ" for v in "aeiou" if c + v not in _TAKEN)
"""First pieces: all but those that a word of a text begins with, whose longest piece would be the word."""
ENDINGS = tuple("bdfgklmnprtv"[i % 12] + "aeiou"[i % 5] + "nrlsm"[i // 5 % 5] for i in range(48))
"""Further pieces: 48, each once."""
SHORT = len(OPENINGS) * len(ENDINGS)
"""How many names have two pieces."""
LONG = SHORT * len(ENDINGS)
"""How many names have three."""
_STEP = 0.6180339887498949


@cache
def _stride(n: int) -> int:
    """A number near n x golden ratio without a common divisor with n: neighbours in order are far apart in sound."""
    step = int(n * _STEP)
    while math.gcd(step, n) != 1:
        step += 1
    return step


def pieces(number: int, seed: int = 0) -> tuple[str, ...]:
    """The pieces of name `number`; different numbers give different names, whatever the seed.

    Numbers 0..SHORT-1 have two pieces, the next LONG three, and so on. The seed turns each length's list.
    """
    count, endings = SHORT, 1
    while number >= count:
        number, count, endings = number - count, count * len(ENDINGS), endings + 1
    place = (number * _stride(count) + seed * 7919) % count
    parts = []
    for _ in range(endings):
        place, ending = divmod(place, len(ENDINGS))
        parts.append(ENDINGS[ending])
    return (OPENINGS[place], *reversed(parts))


def name(number: int, seed: int = 0) -> str:
    """Name `number` as it is written, `Zoran`."""
    return "".join(pieces(number, seed))
