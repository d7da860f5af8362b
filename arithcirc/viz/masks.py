"""Where on the op1 x op2 plane a heuristic holds, read off its name.

Names are those of the `heuristics` table: "result in 150..180" (150 <= result < 180), "op2 = 8 mod 10",
"op1 matches .5." (three digits, zero-padded, `.` any digit), "op1 = 42", "both in 0..10", "both = 3 mod 5",
"op1 = op2", "result in {1, 2, 3}". A name of another form has no mask, and the map stays unmarked.
"""

import re
from collections.abc import Callable

import numpy as np

_OF = r"(op1|op2|result|both)"
_RANGE = re.compile(rf"{_OF} in (-?\d+)\.\.(-?\d+)")
_MODULO = re.compile(rf"{_OF} = (\d+) mod (\d+)")
_PATTERN = re.compile(rf"{_OF} matches ([\d.]{{3}})")
_VALUE = re.compile(rf"{_OF} = (-?\d+)")
_SET = re.compile(rf"{_OF} in \{{([-\d, ]+)\}}")

Holds = Callable[[np.ndarray], np.ndarray]


def mask(name: str, operator: str, first: int, shape: tuple[int, int]) -> np.ndarray | None:
    """Booleans of shape (op1, op2), operands counted from `first`; None for a name of unknown form."""
    op1, op2 = np.meshgrid(first + np.arange(shape[0]), first + np.arange(shape[1]), indexing="ij")
    return _where(name, operator, op1, op2)


def holds(name: str, operator: str, op1: int, op2: int) -> bool | None:
    """Whether the heuristic holds of one prompt, by its operands and true result; None for a name of unknown form."""
    found = _where(name, operator, np.array([op1]), np.array([op2]))
    return None if found is None else bool(found[0])


def fine(name: str) -> bool:
    """The heuristic changes from one number to the next, so its map must be looked at cell by cell."""
    pattern = _PATTERN.fullmatch(name)
    return " mod " in name or (pattern is not None and pattern.group(2)[-1] != ".")


def modulus(name: str) -> int | None:
    """The period of a residue or a last-digit heuristic: 10 for "op2 = 8 mod 10" and "op2 matches ..8"."""
    if found := re.search(r" mod (\d+)$", name):
        return int(found[1])
    pattern = _PATTERN.fullmatch(name)
    fixed = [i for i, digit in enumerate(pattern[2]) if digit != "."] if pattern else []
    return int(10 ** (3 - min(fixed))) if fixed and min(fixed) > 0 else None


def condition(name: str) -> tuple[str, Holds] | None:
    """What a heuristic is about (op1, op2, result, both), and its condition on values of it; None for `op1 = op2`."""
    return _parse(name)


def edges(where: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Lines (x = op2, y = op1, NaN between them) along the borders of the cells where a mask is true."""
    pieces = []
    for flip in (False, True):  # borders between columns, then between rows
        held = np.pad(where.T if flip else where, 1)
        change = held[:, 1:] != held[:, :-1]  # (row, border): border b lies left of cell b
        step = np.diff(np.pad(change, ((1, 1), (0, 0))).astype(np.int8), axis=0).T
        border, start = np.nonzero(step == 1)
        _, stop = np.nonzero(step == -1)  # runs of the same border, in the same order
        along = np.stack([start, stop, stop], axis=1) - 1.5
        across = np.repeat(border[:, None] - 0.5, 3, axis=1)
        across[:, 2] = along[:, 2] = np.nan
        pieces.append((along, across) if flip else (across, along))
    x, y = (np.concatenate([piece[i].ravel() for piece in pieces]) + first for i in (0, 1))
    return x.astype(np.float32), y.astype(np.float32)


def result(operator: str, op1: np.ndarray, op2: np.ndarray) -> np.ndarray:
    """op1 operator op2, whole-number division; -1 where it is not defined."""
    if operator == "/":
        return np.where(op2 > 0, op1 // np.maximum(op2, 1), -1)
    known = {"+": op1 + op2, "-": op1 - op2, "*": op1 * op2}
    return np.asarray(known[operator]) if operator in known else np.full_like(op1, -1)


def _where(name: str, operator: str, op1: np.ndarray, op2: np.ndarray) -> np.ndarray | None:
    """Of which of these prompts the heuristic holds."""
    if name == "op1 = op2":
        return np.asarray(op1 == op2)
    found = _parse(name)
    if found is None:
        return None
    variable, meets = found
    if variable == "both":
        return np.asarray(meets(op1) & meets(op2))
    return np.asarray(meets({"op1": op1, "op2": op2, "result": result(operator, op1, op2)}[variable]))


def _parse(name: str) -> tuple[str, Holds] | None:
    """The variable, and the condition on its values."""
    if m := _RANGE.fullmatch(name):
        low, high = int(m[2]), int(m[3])
        return m[1], lambda v: (low <= v) & (v < high)
    if m := _MODULO.fullmatch(name):
        residue, modulus = int(m[2]), max(int(m[3]), 1)
        return m[1], lambda v: (v >= 0) & (v % modulus == residue)
    if m := _PATTERN.fullmatch(name):
        return m[1], _digits(m[2])
    if m := _VALUE.fullmatch(name):
        value = int(m[2])
        return m[1], lambda v: v == value
    if m := _SET.fullmatch(name):
        values = [int(v) for v in m[2].split(",")]
        return m[1], lambda v: np.isin(v, values)
    return None


def _digits(pattern: str) -> Holds:
    wanted = [(int(d), 10 ** (2 - i)) for i, d in enumerate(pattern) if d != "."]

    def holds(v: np.ndarray) -> np.ndarray:
        matches = np.asarray(v >= 0)
        for digit, place in wanted:
            matches = matches & (v // place % 10 == digit)
        return matches

    return holds
