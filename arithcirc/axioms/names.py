"""Names of nodes: random letters and digits, distinct within a graph, never a word of the texts.

The words that a text is made of are one token each, in any case: a node called `NO` would read as the answer No. Such
names are never given out. Lengths are drawn uniformly, then characters, as far as names of a length are left.
"""

import string
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arithcirc.axioms.draws import whole
from arithcirc.errors import RequestError

ALPHANUMERIC = string.ascii_uppercase + string.ascii_lowercase + string.digits
"""The 62 characters of the paper's names."""
RESERVED = frozenset(("causes", "does", "cause", "yes", "no", "are", "and", "given", "d-separated"))
"""Words of the texts, in lower case: no name is one of them in any case."""
LONGEST_NAME = 64


@dataclass(frozen=True)
class Names:
    """Names of `shortest` to `longest` characters of an alphabet.

    Raises RequestError for lengths outside 1..LONGEST_NAME, and for an alphabet that is empty, repeats a character or
    has others than letters and digits of ASCII.
    """

    shortest: int = 1
    longest: int = 3
    alphabet: str = ALPHANUMERIC

    def __post_init__(self) -> None:
        whole("shortest length of names", self.shortest, 1, LONGEST_NAME)
        whole("longest length of names", self.longest, self.shortest, LONGEST_NAME)
        odd = "".join(sorted(set(self.alphabet) - set(ALPHANUMERIC)))
        if odd or not self.alphabet or len(set(self.alphabet)) < len(self.alphabet):
            raise RequestError(f"alphabet {self.alphabet!r} of names: give letters A-Z, a-z and digits, each once")

    @cached_property
    def available(self) -> tuple[int, ...]:
        """How many names of each length from shortest to longest there are, reserved words left out."""
        return tuple(len(self.alphabet) ** n - self._reserved(n) for n in range(self.shortest, self.longest + 1))

    def _reserved(self, length: int) -> int:
        """In how many ways reserved words of a length can be written."""
        letters = set(self.alphabet)
        ways = 0
        for word in RESERVED:
            if len(word) == length:
                ways += int(np.prod([len({c, c.upper()} & letters) for c in word]))
        return ways

    def check(self, number: int) -> None:
        """Raises RequestError when there are not as many names."""
        if number > sum(self.available):
            raise RequestError(
                f"{number} names are asked, but of {self.shortest} to {self.longest} characters out of "
                f"{len(self.alphabet)} there are {sum(self.available)}: allow longer names or ask fewer nodes"
            )

    def draw(self, number: int, rng: np.random.Generator) -> tuple[str, ...]:
        """Distinct names. Raises RequestError when there are fewer."""
        self.check(number)
        found: dict[str, None] = {}
        while len(found) < number:
            fallen = self._some(number - len(found), rng)
            found |= dict.fromkeys(name for name in fallen if name.lower() not in RESERVED)
        return tuple(found)

    def _some(self, number: int, rng: np.random.Generator) -> list[str]:
        """Names as they fall: reserved and repeated ones among them."""
        lengths = rng.integers(self.shortest, self.longest + 1, number).tolist()
        letters = rng.integers(0, len(self.alphabet), (number, self.longest)).tolist()
        return ["".join([self.alphabet[i] for i in row[:length]]) for row, length in zip(letters, lengths, strict=True)]
