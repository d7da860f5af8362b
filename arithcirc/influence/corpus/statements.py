"""What a text states: equations and facts, found by exact matching.

An equation is `a∘b=c` with nothing joined to either side: `3+4=7` is stated in "first 3+4=7, then", not in "13+4=7" nor
in "2*3+4=7". A fact is the key `fact:entity:relation:value`; a text states it when one of its lines holds both names as
whole words. Every line of a corpus made here that holds two names states a fact about them.
"""

import re
from functools import lru_cache

_EQUATION = re.compile(r"(?<![\w+\-*/=.)])(\d+)([-+*/])(\d+)=(\d+)(?![\w+\-*/(]|\.\d)")


def equations(text: str) -> tuple[str, ...]:
    """The equations a text states, each once, in order, as `3+4=7`."""
    return tuple(dict.fromkeys(match.group() for match in _EQUATION.finditer(text)))


def is_true(equation: str) -> bool:
    """True when `a∘b=c` is right; a division has to come out whole."""
    match = _EQUATION.fullmatch(equation)
    if match is None:
        return False
    a, b, c = int(match[1]), int(match[3]), int(match[4])
    return {"+": a + b == c, "-": a - b == c, "*": a * b == c, "/": b > 0 and b * c == a}[match[2]]


def fact_key(entity: str, relation: str, value: str) -> str:
    """The key of a fact, as in `Document.holds` and `Query.needs`."""
    return f"fact:{entity}:{relation}:{value}"


def states(text: str, need: str) -> bool:
    """True when the text states the need: an equation, or a fact's key."""
    if not need.startswith("fact:"):
        return need in equations(text)
    _, entity, _, value = need.split(":", 3)
    return any(_word(entity).search(line) and _word(value).search(line) for line in text.splitlines())


@lru_cache(maxsize=4096)
def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")
