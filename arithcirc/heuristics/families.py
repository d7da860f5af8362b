"""Heuristics as data: frozen values that say which prompts belong to them.

A heuristic H is a set of prompts, given by a condition on op1, op2, the result, or both operands (Nikankin et al. 2024,
arXiv 2410.21272, section 4; spec section 6):

    Range(v, a, b)      a <= v < b                          "result in 150..180"
    Modulo(v, m, n)     v = m (mod n)                       "op2 = 8 mod 10"
    Pattern(v, mask)    v, zero-padded to three digits,     "op1 matches .5.", and without a wildcard
                        matches; "." is any digit           the single value "op1 = 42"
    BothRange(a, b)     a <= op1, op2 < b                   "both in 0..10"
    BothModulo(m, n)    op1 = op2 = m (mod n)               "both = 3 mod 5"
    Identical()         op1 = op2                           "op1 = op2"
    MultiValue(s)       the result is one of two to four    "result in {1, 2, 3}"

`str` gives the readable name, `names.parse_heuristic` inverts it. `family`, `value` (what the condition is on), `kind`
and `group` are the words of the tables: a heuristic on the result is *direct* (scored on what the neuron writes, KV),
one on the operands *indirect* (scored on when it fires, K); a group is the heuristics that differ in their place only
(all "op1 in a..a+30", all residues of the result mod 7), among which a null takes its best.
All ranges are half-open, unlike in the paper's released code, where `a <= v <= b` and `a <= v < b` are mixed.

`mask` costs one pass over the prompts. It is meant for legal prompts, whose results are never negative. A mask says
nothing about the model: whether any neuron follows the heuristic is for the matching and the ablations to show.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int

from arithcirc.arithmetic.operators import Prompts
from arithcirc.errors import RequestError

Variable = Literal["op1", "op2", "result"]
Value = Literal["op1", "op2", "result", "operands"]
Kind = Literal["direct", "indirect"]
Family = Literal["range", "modulo", "pattern", "value", "both_range", "both_modulo", "identical", "multi_value"]
Mask = Bool[np.ndarray, "prompt"]

VARIABLES: tuple[Variable, ...] = get_args(Variable)
MULTI_VALUE_SIZES = (2, 3, 4)
_DIGITS = re.compile(r"[0-9.]{3}|[1-9][0-9]{3,5}")


def column(prompts: Prompts, variable: Value) -> Int[np.ndarray, "prompt"]:
    """The prompts' values of one variable."""
    match variable:
        case "op1":
            return prompts.op1
        case "op2":
            return prompts.op2
        case "result":
            return prompts.answer
        case _:
            raise RequestError(f"{variable!r} is not one number per prompt: use one of {', '.join(VARIABLES)}")


def _check_variable(variable: str) -> None:
    if variable not in VARIABLES:
        raise RequestError(f"heuristics are on {', '.join(VARIABLES)}, not on {variable!r}: use one of these")


def _check_range(low: int, high: int) -> None:
    if not 0 <= low < high:
        raise RequestError(f"the range {low}..{high} is empty or negative: write LOW..HIGH with 0 <= LOW < HIGH")


def _check_modulo(residue: int, modulus: int) -> None:
    if modulus < 2:
        raise RequestError(f"the modulus {modulus} says nothing: use 2 or more, as in 'op2 = 8 mod 10'")
    if not 0 <= residue < modulus:
        raise RequestError(f"{residue} is no residue mod {modulus}: use 0..{modulus - 1}")


def _in_range(values: Int[np.ndarray, "n"], low: int, high: int) -> Bool[np.ndarray, "n"]:
    inside: np.ndarray = (values >= low) & (values < high)
    return inside


def _has_residue(values: Int[np.ndarray, "n"], residue: int, modulus: int) -> Bool[np.ndarray, "n"]:
    equal: np.ndarray = values % modulus == residue
    return equal


class Heuristic(ABC):
    """A set of prompts with a readable name; the subclasses are frozen, hashable and compare by value."""

    @property
    @abstractmethod
    def family(self) -> Family:
        """The tables' word for the family."""

    @property
    @abstractmethod
    def value(self) -> Value:
        """What the condition is on."""

    @property
    @abstractmethod
    def group(self) -> str:
        """Family, value and parameter: the heuristics that differ from this one in their place only."""

    @property
    def kind(self) -> Kind:
        """`direct` on the result, `indirect` on operands."""
        return "direct" if self.value == "result" else "indirect"

    @abstractmethod
    def mask(self, prompts: Prompts) -> Mask:
        """Which prompts belong to the heuristic."""

    @abstractmethod
    def __str__(self) -> str: ...


class OneVariable(Heuristic):
    """A heuristic on one number of the prompt."""

    @abstractmethod
    def holds(self, values: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which values meet the condition."""

    def mask(self, prompts: Prompts) -> Mask:
        """Which prompts belong to the heuristic: `holds` of their column."""
        return self.holds(column(prompts, self.value))


class _Chosen(OneVariable):
    """A heuristic that says which variable it is on."""

    variable: Variable

    @property
    def value(self) -> Value:
        """The variable."""
        return self.variable


class BothOperands(Heuristic):
    """A heuristic on each operand alike."""

    @property
    def value(self) -> Value:
        """`operands`."""
        return "operands"

    @abstractmethod
    def holds(self, values: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which values of an operand meet the condition."""

    def mask(self, prompts: Prompts) -> Mask:
        """Prompts both of whose operands meet the condition."""
        both: np.ndarray = self.holds(prompts.op1) & self.holds(prompts.op2)
        return both


@dataclass(frozen=True)
class Range(_Chosen):
    """low <= variable < high."""

    variable: Variable
    low: int
    high: int

    def __post_init__(self) -> None:
        _check_variable(self.variable)
        _check_range(self.low, self.high)

    @property
    def family(self) -> Family:
        """`range`."""
        return "range"

    @property
    def group(self) -> str:
        """All starts of this length, as `range op1 30`."""
        return f"range {self.variable} {self.high - self.low}"

    def holds(self, values: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which values are in the range."""
        return _in_range(values, self.low, self.high)

    def __str__(self) -> str:
        return f"{self.variable} in {self.low}..{self.high}"


@dataclass(frozen=True)
class Modulo(_Chosen):
    """variable = residue (mod modulus)."""

    variable: Variable
    residue: int
    modulus: int

    def __post_init__(self) -> None:
        _check_variable(self.variable)
        _check_modulo(self.residue, self.modulus)

    @property
    def family(self) -> Family:
        """`modulo`."""
        return "modulo"

    @property
    def group(self) -> str:
        """All residues of this modulus, as `modulo result 10`."""
        return f"modulo {self.variable} {self.modulus}"

    def holds(self, values: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which values have the residue."""
        return _has_residue(values, self.residue, self.modulus)

    def __str__(self) -> str:
        return f"{self.variable} = {self.residue} mod {self.modulus}"


@dataclass(frozen=True)
class Pattern(_Chosen):
    """The variable, zero-padded to three digits, matches `digits` place by place; "." matches any digit.

    A mask with a wildcard has three places, and numbers above 999 match none. One without a wildcard is a single value
    (family `value`), which may be longer.
    """

    variable: Variable
    digits: str

    def __post_init__(self) -> None:
        _check_variable(self.variable)
        if not _DIGITS.fullmatch(self.digits) or self.digits == "...":
            raise RequestError(
                f"{self.digits[:20]!r} is no digit mask: write three places, each a digit or '.', with a digit "
                "somewhere, as '.5.', or a number of at most six digits"
            )

    @property
    def family(self) -> Family:
        """`pattern`, or `value` without a wildcard."""
        return "pattern" if "." in self.digits else "value"

    @property
    def group(self) -> str:
        """All digits in these places, as `pattern op2 .d.`, or all values, as `value op1`."""
        if self.family == "value":
            return f"value {self.variable}"
        return f"pattern {self.variable} {re.sub('[0-9]', 'd', self.digits)}"

    def holds(self, values: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which values match, digit by digit."""
        if self.family == "value":
            return _in_range(values, int(self.digits), int(self.digits) + 1)
        matches = _in_range(values, 0, 1000)
        for place, digit in zip((100, 10, 1), self.digits, strict=True):
            if digit != ".":
                matches &= values // place % 10 == int(digit)
        return matches

    def __str__(self) -> str:
        if self.family == "value":
            return f"{self.variable} = {int(self.digits)}"
        return f"{self.variable} matches {self.digits}"


def single_value(variable: Variable, number: int) -> Pattern:
    """The heuristic `variable = number`."""
    return Pattern(variable, f"{number:03d}")


@dataclass(frozen=True)
class BothRange(BothOperands):
    """low <= op1, op2 < high."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    @property
    def family(self) -> Family:
        """`both_range`."""
        return "both_range"

    @property
    def group(self) -> str:
        """All starts of this length, as `both_range 30`."""
        return f"both_range {self.high - self.low}"

    def holds(self, values: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which values are in the range."""
        return _in_range(values, self.low, self.high)

    def __str__(self) -> str:
        return f"both in {self.low}..{self.high}"


@dataclass(frozen=True)
class BothModulo(BothOperands):
    """op1 = op2 = residue (mod modulus)."""

    residue: int
    modulus: int

    def __post_init__(self) -> None:
        _check_modulo(self.residue, self.modulus)

    @property
    def family(self) -> Family:
        """`both_modulo`."""
        return "both_modulo"

    @property
    def group(self) -> str:
        """All residues of this modulus, as `both_modulo 7`."""
        return f"both_modulo {self.modulus}"

    def holds(self, values: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which values have the residue."""
        return _has_residue(values, self.residue, self.modulus)

    def __str__(self) -> str:
        return f"both = {self.residue} mod {self.modulus}"


@dataclass(frozen=True)
class Identical(Heuristic):
    """op1 = op2."""

    @property
    def family(self) -> Family:
        """`identical`."""
        return "identical"

    @property
    def value(self) -> Value:
        """`operands`."""
        return "operands"

    @property
    def group(self) -> str:
        """A group of its own."""
        return "identical"

    def mask(self, prompts: Prompts) -> Mask:
        """Prompts with equal operands."""
        same: np.ndarray = prompts.op1 == prompts.op2
        return same

    def __str__(self) -> str:
        return "op1 = op2"


@dataclass(frozen=True)
class MultiValue(OneVariable):
    """The result is one of two to four values, given in ascending order."""

    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.values) not in MULTI_VALUE_SIZES:
            raise RequestError(
                f"a set of {len(self.values)} results is not 2 to 4 values: write 'result in {{1, 2, 3}}'"
            )
        if self.values[0] < 0 or any(a >= b for a, b in pairwise(self.values)):
            raise RequestError(f"the results {self.values} must be different, ascending and 0 or more: sort them")

    @property
    def family(self) -> Family:
        """`multi_value`."""
        return "multi_value"

    @property
    def value(self) -> Value:
        """`result`."""
        return "result"

    @property
    def group(self) -> str:
        """All sets, of any size: they are found from a neuron's own top prompts."""
        return "multi_value"

    def holds(self, values: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which values are in the set."""
        return np.isin(values, self.values)

    def __str__(self) -> str:
        return f"result in {{{', '.join(map(str, self.values))}}}"
