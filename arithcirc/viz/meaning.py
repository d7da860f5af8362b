"""A heuristic's name in words, for readers who see one for the first time.

    meaning("op2 = 8 mod 10")      "op2 ends in 8"
    meaning("result in 150..180")  "the result is from 150 to 179"
    meaning("op1 matches .5.")     "op1 has the tens digit 5"

The words say of a prompt what the name's mask (`viz.masks`) says of it. A name of another form is given back as it is.
"""

import re

_SUBJECTS = {"op1": "op1", "op2": "op2", "result": "the result", "both": "each operand"}
_NAME = re.compile(r"(op1|op2|result|both) (=|in|matches) (.+)")
_DIGITS = ("hundreds", "tens", "last")


def meaning(name: str) -> str:
    """The condition in words, as the end of "it holds when ..."."""
    if name == "op1 = op2":
        return "both operands are equal"
    found = _NAME.fullmatch(name)
    said = _condition(found[2], found[3]) if found else None
    return f"{_SUBJECTS[found[1]]} {said}" if found and said else name


def _condition(relation: str, rest: str) -> str | None:
    if relation == "in" and (m := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", rest)):
        return f"is from {m[1]} to {int(m[2]) - 1}"
    if relation == "in" and (m := re.fullmatch(r"\{([-\d, ]+)\}", rest)):
        values = [v.strip() for v in m[1].split(",")]
        return f"is {', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else f"is {values[0]}"
    if relation == "=" and (m := re.fullmatch(r"(\d+) mod (\d+)", rest)):
        return _residue(int(m[1]), int(m[2]))
    if relation == "=" and re.fullmatch(r"-?\d+", rest):
        return f"is {rest}"
    if relation == "matches" and re.fullmatch(r"[\d.]{3}", rest) and rest != "...":
        parts = [f"{_DIGITS[i]} digit {digit}" for i, digit in enumerate(rest) if digit != "."]
        return "has the " + " and the ".join(parts)
    return None


def _residue(residue: int, modulus: int) -> str:
    if modulus == 2:
        return "is odd" if residue else "is even"
    if modulus in (10, 100):
        return f"ends in {residue:0{len(str(modulus)) - 1}d}"
    if residue == 0:
        return f"is a multiple of {modulus}"
    return f"leaves remainder {residue} when divided by {modulus}"
