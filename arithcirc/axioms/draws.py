"""Randomness of the axiom data: a generator of its own for every (seed, purpose, index), in any order.

Philox is a counter-based generator: a key of (seed, purpose, index) costs microseconds and no state is kept between
examples, so example i is the same whether or not those before it were made, in this process or another.
"""

import numpy as np

from arithcirc.errors import RequestError

MOST_SEED = 2**32 - 1
_PURPOSES = 2**32


def generator(seed: int, purpose: int, index: int) -> np.random.Generator:
    """The generator of one example. `purpose` (below 2^32) tells uses of a seed apart. Raises RequestError."""
    check_seed(seed)
    if not 0 <= purpose < _PURPOSES or not 0 <= index < 2**63:
        raise RequestError(f"purpose {purpose}, index {index}: use 0 to 2^32 - 1 and 0 to 2^63 - 1")
    return np.random.Generator(np.random.Philox(key=np.array([(seed << 32) | purpose, index], dtype=np.uint64)))


def check_seed(seed: int) -> None:
    """Raises RequestError for a seed outside 0..MOST_SEED."""
    if not 0 <= seed <= MOST_SEED:
        raise RequestError(f"seed is {seed}: use 0 to {MOST_SEED}")


def whole(name: str, value: int, low: int, high: int) -> None:
    """Raises RequestError for a number outside low..high."""
    if not low <= value <= high:
        raise RequestError(f"{name} is {value}: use {low} to {high}")
