"""From a readable name back to the heuristic.

`parse_heuristic(str(h)) == h` for every heuristic; spaces and case do not matter. What is not understood is refused
with the allowed forms, so a misspelt name never selects another set of prompts.
"""

import re
from collections.abc import Callable

from arithcirc.errors import RequestError
from arithcirc.heuristics.families import (
    BothModulo,
    BothRange,
    Heuristic,
    Identical,
    Modulo,
    MultiValue,
    Pattern,
    Range,
    single_value,
)

FORMS = (
    "'result in 150..180' (150 <= result < 180), 'op2 = 8 mod 10', 'op1 matches .5.', 'op1 = 42', 'both in 0..10', "
    "'both = 3 mod 5', 'op1 = op2' or 'result in {1, 2, 3}'"
)
_N = "([0-9]{1,6})"
_V = "(op1|op2|result)"


def _multi_value(listed: str) -> MultiValue:
    return MultiValue(tuple(sorted(int(n) for n in listed.split(","))))


_GRAMMAR: tuple[tuple[str, Callable[..., Heuristic]], ...] = (
    (f"{_V} in {_N} \\.\\. {_N}", lambda v, a, b: Range(v, int(a), int(b))),
    (f"{_V} = {_N} mod {_N}", lambda v, m, n: Modulo(v, int(m), int(n))),
    (f"{_V} matches ([0-9.]+)", Pattern),
    (f"{_V} = {_N}", lambda v, n: single_value(v, int(n))),
    (f"both in {_N} \\.\\. {_N}", lambda a, b: BothRange(int(a), int(b))),
    (f"both = {_N} mod {_N}", lambda m, n: BothModulo(int(m), int(n))),
    ("op1 = op2|op2 = op1", Identical),
    (f"result in {{ ({_N[1:-1]}(?: , {_N[1:-1]})*) }}", _multi_value),
)
_RULES = tuple((re.compile(form.replace(" ", r"\s*"), re.IGNORECASE | re.ASCII), build) for form, build in _GRAMMAR)


def parse_heuristic(text: str) -> Heuristic:
    """`"op2 = 8 mod 10"` -> Modulo("op2", 8, 10). Raises RequestError with the allowed forms."""
    for rule, build in _RULES:
        if found := rule.fullmatch(text.strip()):
            return build(*(part.lower() for part in found.groups()))
    shown = text if len(text) <= 60 else text[:60] + "..."
    raise RequestError(f"the heuristic {shown!r} is not understood: write {FORMS}")
