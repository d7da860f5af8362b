"""One prompt as somebody types it: `226-68=`, with or without `=`, with spaces, with × ÷ −."""

import re

import numpy as np

from arithcirc.arithmetic.operators import OperandRange, Prompts, operator
from arithcirc.errors import PromptError

_FORM = re.compile(r"\s*([0-9]{1,9})\s*([^\s0-9=]+)\s*([0-9]{1,9})\s*=?\s*")
_SHOWN = 40


def read_prompt(text: str, operands: OperandRange, limit: int | None = None) -> Prompts:
    """`"226-68="` -> one prompt. Raises PromptError when it is not understood or not legal (None: any result is)."""
    shown = text.strip()[:_SHOWN]
    found = _FORM.fullmatch(text)
    if found is None:
        raise PromptError(f"prompt {shown!r} is not understood: write two numbers and an operator, as '226-68='")
    op = operator(found[2][:_SHOWN])
    op1, op2 = (np.array([int(found[i])], dtype=np.int64) for i in (1, 3))
    for value in (int(op1[0]), int(op2[0])):
        if not operands.low <= value <= operands.high:
            raise PromptError(f"{value} in {shown!r} is outside the operands {operands}: use numbers in there")
    answer = op.result(op1, op2)
    if answer[0] < 0 or (limit is not None and answer[0] > limit):
        why = "is divided by 0" if answer[0] < 0 and op.symbol == "/" else f"has the result {int(answer[0])}"
        allowed = "whole result of 0 or more" if limit is None else f"whole result in 0..{limit}"
        raise PromptError(f"{shown!r} {why}: legal prompts have a {allowed}")
    return Prompts(np.array([op.symbol]), op1, op2, answer)
