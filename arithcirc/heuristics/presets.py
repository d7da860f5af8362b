"""The lists of heuristics that neurons are tested against, and what is left out of them.

`paper` follows Nikankin et al. 2024 (arXiv 2410.21272, appendix; spec section 6), `reference` the parameters of its
released code. They differ in the moduli only:

    single values   v = 0, 1, 2, ...
    ranges          operands: 10 30 50 100 long (multiplication 3 5 10), starting at every multiple of the length;
                    results: 10 30 50 long (multiplication also 100; division 2 10 100), every max(length // 3, 10)
    moduli          paper 2..9 11 13 15, reference 2..10
    patterns        ..d .d. .dd d.d; masks d.. and dd. are ranges, and left to these
    both operands   in one of the operand ranges; of one residue
    identical       op1 = op2

The last digit ..d is the same set as a residue mod 10 and is listed as that ("op2 = 8 mod 10", family `modulo`).
Division's ranges of length 2 start every 10, so results 2..9 are in none: that is the rule as written. Sets of results
(`multi_value`) are found from a neuron's own prompts, and are in no list. The released code's mixture of `a <= v <= b`
and `a <= v < b`, its k that is not |H|, and its choice of five masks per neuron are not reproduced.

A preset has no empty heuristic, none that holds of every legal prompt, and no set of prompts twice: of a range cut down
to one number by the end of the operands, that number stays; of .5. where operands end at 99, the range 50..60; of
subtraction's "both in 0..10" and "op1 in 0..10", the latter. Only between the two kinds may a set repeat, because they
are judged on different maps: `op1 = op2` and `result = 0` of subtraction both stay, and so do "both = 1 mod 2" and
"result = 1 mod 2" of multiplication.
Cost: one mask per heuristic over the legal prompts, 1 s for 2,227 heuristics of 87,654 prompts; then kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from arithcirc.arithmetic.operators import ADD, DIV, MUL, OperandRange, Operator, Prompts, fitting_prompts
from arithcirc.errors import RequestError
from arithcirc.heuristics.families import (
    VARIABLES,
    BothModulo,
    BothRange,
    Heuristic,
    Identical,
    Modulo,
    OneVariable,
    Pattern,
    Range,
    Variable,
    column,
    single_value,
)

MODULI = {"paper": (2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15), "reference": (2, 3, 4, 5, 6, 7, 8, 9, 10)}
PRESETS = tuple(MODULI)
ZERO_SHARE = 0.9
"""Share of a heuristic's prompts that answer 0 from which it only restates that the answer is 0."""
_OPERAND_LENGTHS = {MUL: (3, 5, 10)}
_RESULT_LENGTHS = {MUL: (10, 30, 50, 100), DIV: (2, 10, 100)}
_EXCLUDED = ("heuristic", "family", "size", "zero_share", "reason")


def preset(name: str, operator: Operator, operands: OperandRange, limit: int) -> tuple[Heuristic, ...]:
    """The heuristics of a preset for the legal prompts of an operator, in a fixed order. Raises RequestError."""
    check_preset(name)
    return _preset(name, operator, operands, limit)


@lru_cache(maxsize=16)
def _preset(name: str, operator: Operator, operands: OperandRange, limit: int) -> tuple[Heuristic, ...]:
    """Kept, as every checkpoint and block of neurons asks for the same few."""
    prompts = fitting_prompts(operator, operands, limit)
    values = {v: np.unique(column(prompts, v)).tolist() for v in VARIABLES}
    return _distinct(_candidates(operator, MODULI[name], values), prompts) if len(prompts) else ()


def number_preset(name: str, limit: int) -> tuple[tuple[Heuristic, ...], Prompts]:
    """The ranges, moduli and patterns of single numbers 0..limit, written as op1 of the prompts "n+0=" (also returned).

    Whatever holds of a single number is left out: the top 1 of any response is one number.
    """
    check_preset(name)
    numbers = np.arange(limit + 1)
    prompts = Prompts(np.full(len(numbers), ADD.symbol), numbers, np.zeros_like(numbers), numbers)
    candidates = _candidates(ADD, MODULI[name], dict.fromkeys(VARIABLES, numbers.tolist()))
    wanted = (h for h in candidates if h.value == "op1" and np.count_nonzero(h.mask(prompts)) > 1)
    return _distinct(wanted, prompts), prompts


def check_preset(name: str) -> None:
    """Raise RequestError when there is no preset of this name."""
    if name not in MODULI:
        raise RequestError(f"the preset {name!r} is not known: use {' or '.join(PRESETS)}")


def _distinct(candidates: Iterable[Heuristic], prompts: Prompts) -> tuple[Heuristic, ...]:
    """The first of each set of prompts, per kind; neither the empty set nor all prompts."""
    found, seen = [], set()
    for heuristic in candidates:
        mask = heuristic.mask(prompts)
        key = heuristic.kind, blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()
        if 0 < np.count_nonzero(mask) < len(prompts) and key not in seen:
            seen.add(key)
            found.append(heuristic)
    return tuple(found)


def exclude_zero(heuristics: Sequence[Heuristic], prompts: Prompts) -> tuple[tuple[Heuristic, ...], pd.DataFrame]:
    """Leave out the heuristics of multiplication or division that only restate "the answer is 0".

    Half of all division prompts answer 0, so `op1 in 0..10` and `op2 = 299` say little else; the paper removes such
    heuristics by hand. Here the rule is that at least ZERO_SHARE of the heuristic's prompts answer 0. Prompts are of
    one operator; of addition and subtraction nothing is left out. Returns what is kept, in order, and a table of what
    is not: heuristic, family, size, zero_share, reason.
    """
    symbols = sorted(set(prompts.symbols.tolist()))
    if len(symbols) > 1:
        raise RequestError(f"prompts of {' '.join(symbols)} were given together: exclude per operator, one at a time")
    if not set(symbols) & {MUL.symbol, DIV.symbol}:
        return tuple(heuristics), pd.DataFrame(columns=list(_EXCLUDED))
    zero = prompts.answer == 0
    counts: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {
        v: _counts(column(prompts, v), zero) for v in VARIABLES
    }
    kept: list[Heuristic] = []
    rows = []
    for heuristic in heuristics:
        if isinstance(heuristic, OneVariable):
            values, of_value, zeros_of_value = counts[heuristic.value]
            held = heuristic.holds(values)
            size, zeros = int(of_value[held].sum()), int(zeros_of_value[held].sum())
        else:
            mask = heuristic.mask(prompts)
            size, zeros = int(mask.sum()), int((mask & zero).sum())
        if not size or zeros < ZERO_SHARE * size:
            kept.append(heuristic)
            continue
        reason = f"{zeros} of its {size} prompts answer 0 (excluded from {ZERO_SHARE:.0%})"
        rows.append((str(heuristic), heuristic.family, size, zeros / size, reason))
    return tuple(kept), pd.DataFrame(rows, columns=list(_EXCLUDED))


def _counts(
    numbers: Int[np.ndarray, "prompt"], zero: Bool[np.ndarray, "prompt"]
) -> tuple[Int[np.ndarray, "value"], Int[np.ndarray, "value"], Int[np.ndarray, "value"]]:
    """Distinct numbers, how many prompts have each, and how many of these answer 0."""
    values, of, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return values, counts, np.bincount(of[zero], minlength=len(values))


def _candidates(op: Operator, moduli: Sequence[int], values: dict[Variable, list[int]]) -> Iterator[Heuristic]:
    """Every heuristic of the lists; where two are the same set, the one that says it best comes first."""
    lengths = _OPERAND_LENGTHS.get(op, (10, 30, 50, 100))
    highest = max(values["op1"][-1], values["op2"][-1])
    starts = [(start, n) for n in lengths for start in range(0, highest + 1, n)]
    yield Identical()
    for variable in VARIABLES:
        yield from (single_value(variable, number) for number in values[variable])
    yield from (Range(v, start, start + n) for v in ("op1", "op2") for start, n in starts)
    yield from (
        Range("result", start, start + n)
        for n in _RESULT_LENGTHS.get(op, (10, 30, 50))
        for start in range(0, values["result"][-1] + 1, max(n // 3, 10))
    )
    last_digit = () if 10 in moduli else (10,)
    yield from (Modulo(v, m, n) for v in VARIABLES for n in (*moduli, *last_digit) for m in range(n))
    yield from (Pattern(v, digits) for v in VARIABLES for digits in _patterns())
    yield from (BothRange(start, start + n) for start, n in starts)
    yield from (BothModulo(m, n) for n in moduli for m in range(n))


def _patterns() -> Iterator[str]:
    """The masks .d. .dd d.d; ..d is a residue mod 10."""
    yield from (f".{d}." for d in range(10))
    yield from (f".{n:02d}" for n in range(100))
    yield from (f"{n // 10}.{n % 10}" for n in range(100))
