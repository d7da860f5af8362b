"""Operators, operand ranges and legal prompts, against Python's own arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arithcirc.arithmetic.operators import (
    ADD,
    DIV,
    MUL,
    OPERATORS,
    SUB,
    OperandRange,
    all_prompts,
    base_rate,
    concatenate,
    legal_prompts,
    operator,
    parse_operators,
)
from arithcirc.errors import PromptError

PYTHON = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b if b else None,
}
by_operator = pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)


def brute_force(symbol: str, low: int, high: int, limit: int) -> list[tuple[int, int, int]]:
    values = range(low, high + 1)
    rows = [(a, b, PYTHON[symbol](a, b)) for a in values for b in values]
    return [(a, b, c) for a, b, c in rows if c is not None and 0 <= c <= limit]


@given(st.sampled_from(OPERATORS), st.integers(0, 12), st.integers(0, 12), st.integers(0, 60))
def test_legal_prompts_are_those_of_a_double_loop(op, low, width, spare):
    high = low + width
    limit = high + spare
    expected = brute_force(op.symbol, low, high, limit)
    if not expected:
        with pytest.raises(PromptError, match="no legal prompt"):
            legal_prompts(op, OperandRange(low, high), limit)
        return
    found = legal_prompts(op, OperandRange(low, high), limit)
    columns = (found.op1.tolist(), found.op2.tolist(), found.answer.tolist())
    assert list(zip(*columns, strict=True)) == expected
    assert set(found.symbols) == {op.symbol}


@by_operator
def test_all_prompts_are_the_whole_grid_op1_major(op):
    found = all_prompts(op, OperandRange(2, 4))
    assert list(zip(found.op1.tolist(), found.op2.tolist(), strict=True)) == [
        (a, b) for a in (2, 3, 4) for b in (2, 3, 4)
    ]


def test_division_by_zero_is_never_legal():
    assert (DIV.result(np.array([0, 5]), np.array([0, 0])) == -1).all()
    assert (legal_prompts(DIV, OperandRange(0, 5), 5).op2 >= 1).all()


def test_operands_beyond_the_limit_are_refused_with_the_limit():
    with pytest.raises(PromptError, match=r"0\.\.99 exceed 60.*--operands 0\.\.60"):
        legal_prompts(ADD, OperandRange(0, 99), 60)


def test_base_rate_is_the_share_of_the_commonest_answer():
    prompts = legal_prompts(DIV, OperandRange(0, 9), 9)
    assert base_rate(prompts) == (prompts.answer == 0).mean() == 45 / 90


@pytest.mark.parametrize(
    ("word", "op"),
    [("+", ADD), ("sub", SUB), (" * ", MUL), ("x", MUL), ("×", MUL), ("÷", DIV), ("−", SUB), ("div", DIV)],
)
def test_operators_go_by_symbol_or_name(word, op):
    assert operator(word) is op


@pytest.mark.parametrize(
    ("text", "expected"),
    [("+-", (ADD, SUB)), ("-,+", (SUB, ADD)), ("add sub", (ADD, SUB)), ("++*", (ADD, MUL)), ("div,*", (DIV, MUL))],
)
def test_lists_of_operators_keep_order_and_drop_repeats(text, expected):
    assert parse_operators(text) == expected


@pytest.mark.parametrize("text", ["%", "plus", "+%", "add;sub"])
def test_an_unknown_operator_is_refused_with_the_known_ones(text):
    with pytest.raises(PromptError, match=r"unknown operator .*use one of \+ - \* /"):
        parse_operators(text)


def test_no_operator_at_all_is_refused():
    with pytest.raises(PromptError, match="no operator given"):
        parse_operators(" , ")


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_operand_ranges_print_as_they_are_read(low, width):
    values = OperandRange(low, low + width)
    assert OperandRange.parse(str(values)) == values
    assert len(values) == width + 1


@pytest.mark.parametrize("text", ["5", "9..3", "-1..5", "a..b", "1...5", "..", "", "0..1e3"])
def test_operand_ranges_that_make_no_sense_are_refused(text):
    with pytest.raises(PromptError, match=r"operand range .*LOW\.\.HIGH"):
        OperandRange.parse(text)


def test_prompts_index_concatenate_and_print():
    prompts = concatenate([legal_prompts(op, OperandRange(1, 3), 9) for op in (SUB, ADD)])
    assert prompts[:2].texts() == ["1-1=", "2-1="]
    assert prompts[np.array([len(prompts) - 1])].texts() == ["3+3="]
    assert len(prompts) == 6 + 9
