"""The lists of heuristics: their lengths, starts, moduli and masks, each set once; and leaving out what only says 0."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arithcirc.arithmetic.operators import (
    ADD,
    DIV,
    MUL,
    OPERATORS,
    SUB,
    OperandRange,
    concatenate,
    fitting_prompts,
    legal_prompts,
)
from arithcirc.errors import RequestError
from arithcirc.heuristics.families import (
    BothModulo,
    BothRange,
    Identical,
    Modulo,
    Pattern,
    Range,
    single_value,
)
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.heuristics.presets import PRESETS, ZERO_SHARE, exclude_zero, preset

FULL, SMALL, LIMIT = OperandRange(0, 299), OperandRange(0, 99), 530
cached = cache(preset)
by_operator = pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)


def ranges(op, variable):
    """length -> starts."""
    found = [h for h in cached("paper", op, FULL, LIMIT) if isinstance(h, Range) and h.variable == variable]
    lengths = sorted({h.high - h.low for h in found})
    return {n: [h.low for h in found if h.high - h.low == n] for n in lengths}


@by_operator
@pytest.mark.parametrize("name", PRESETS)
def test_names_and_masks_are_unique_and_neither_empty_nor_all(op, name):
    heuristics = cached(name, op, SMALL, LIMIT)
    prompts = legal_prompts(op, SMALL, LIMIT)
    assert len({str(h) for h in heuristics}) == len(heuristics)
    named = {}
    for h in heuristics:
        named.setdefault(h.mask(prompts).tobytes(), []).append(h)
    repeated = [here for here in named.values() if len(here) > 1]
    assert all(len({h.kind for h in here}) == len(here) for here in repeated)
    known = {"-": [{"op1 = op2", "result = 0"}], "*": [{"both = 1 mod 2", "result = 1 mod 2"}]}
    assert [{str(h) for h in here} for here in repeated] == known.get(op.symbol, [])
    assert all(0 < h.mask(prompts).sum() < len(prompts) for h in heuristics)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(PRESETS), st.sampled_from(OPERATORS), st.integers(0, 30), st.integers(0, 15), st.integers(0, 60))
def test_small_domains_have_each_set_once_and_miss_no_family_member(name, op, low, width, spare):
    operands, limit = OperandRange(low, low + width), low + width + spare
    prompts = fitting_prompts(op, operands, limit)
    heuristics = preset(name, op, operands, limit)
    masks = [(h.kind, h.mask(prompts).tobytes()) for h in heuristics]
    assert len(set(masks)) == len(masks)
    assert all(0 < h.mask(prompts).sum() < len(prompts) for h in heuristics)
    members = [Range("op1", 10, 20), Modulo("result", 3, 7), Pattern("op2", ".1."), Modulo("op2", 1, 10), Identical()]
    for h in (m for m in members if 0 < m.mask(prompts).sum() < len(prompts)):
        assert (h.kind, h.mask(prompts).tobytes()) in masks


def test_ranges_of_the_operands_start_at_every_length():
    for op in (ADD, SUB, DIV):
        assert ranges(op, "op1") == {n: list(range(0, 300, n)) for n in (10, 30, 50, 100)}
    expected = {n: list(range(0, 300, n)) for n in (3, 5, 10)}
    assert ranges(MUL, "op1") == ranges(MUL, "op2") == expected


def test_ranges_of_the_result_start_every_third_of_their_length_but_at_least_ten():
    assert ranges(ADD, "result") == {n: list(range(0, 530, step)) for n, step in ((10, 10), (30, 10), (50, 16))}
    subtraction = {10: list(range(0, 300, 10)), 30: list(range(0, 290, 10)), 50: list(range(0, 300, 16))}
    assert ranges(SUB, "result") == subtraction  # 290..320 is 290..300 where results end at 299
    division = ranges(DIV, "result")
    assert set(division) == {2, 10, 100}
    assert division[2] == list(range(0, 300, 10))  # every 10, as written: 2..9 is in none
    assert division[100] == list(range(0, 300, 33))
    multiplication = ranges(MUL, "result")
    assert set(multiplication) == {10, 30, 50, 100}
    assert multiplication[100] == list(range(0, 528, 33))  # from 528 on it is what the 50 from there hold


@by_operator
def test_the_presets_differ_in_their_moduli_only(op):
    paper, reference = (set(cached(name, op, SMALL, LIMIT)) for name in PRESETS)
    assert {type(h) for h in paper ^ reference} == {Modulo, BothModulo}

    def moduli(heuristics, kind, variable):
        return {h.modulus for h in heuristics if isinstance(h, kind) and h.value == variable}

    for variable in ("op1", "op2", "result"):
        assert moduli(paper, Modulo, variable) == {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15}  # 10 is the pattern ..d
        assert moduli(reference, Modulo, variable) == set(range(2, 11))
    assert moduli(paper, BothModulo, "operands") == {2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15}
    assert moduli(reference, BothModulo, "operands") == set(range(2, 11))


@by_operator
def test_masks_have_one_or_two_wildcards_and_leave_ranges_and_last_digits_to_their_families(op):
    heuristics = preset("paper", op, OperandRange(0, 130), LIMIT)
    shapes = {h.group.split()[-1] for h in heuristics if h.family == "pattern"}
    assert shapes == {".d.", ".dd", "d.d"}
    assert parse_heuristic("op2 = 8 mod 10") in heuristics
    length = 5 if op is MUL else 10
    assert all(BothRange(a, a + length) in heuristics for a in range(length, 4 * length, length))
    assert (BothRange(0, length) in heuristics) == (op is not SUB)  # there it is op1 in 0..10
    assert sum(h == Identical() for h in heuristics) == 1
    assert all(parse_heuristic(str(h)) == h for h in heuristics)


def test_of_a_set_said_twice_the_plainer_is_kept():
    heuristics = preset("paper", ADD, OperandRange(0, 90), 180)
    assert single_value("op1", 90) in heuristics
    assert Range("op1", 90, 100) not in heuristics
    assert Range("op1", 50, 60) in heuristics
    assert Pattern("op1", ".5.") not in heuristics  # all of 50..59 where operands end at 90
    assert Pattern("result", ".5.") in heuristics  # 50..59 and 150..159
    assert not any(str(h) == "op1 in 0..100" for h in heuristics)  # every prompt


def test_operands_that_do_not_start_at_zero():
    heuristics = preset("paper", SUB, OperandRange(95, 125), 125)
    assert {str(h) for h in heuristics if h.group == "range op1 10"} == {
        "op1 in 90..100",
        "op1 in 100..110",
        "op1 in 110..120",
        "op1 in 120..130",
    }
    assert not any(h == single_value("op1", 94) for h in heuristics)


def test_numbers_beyond_three_digits_are_single_values_too():
    heuristics = preset("reference", ADD, OperandRange(995, 1003), 2006)
    assert parse_heuristic("op1 = 1001") in heuristics
    assert parse_heuristic("result = 2000") in heuristics


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(RequestError, match="'mine' is not known: use paper or reference"):
        preset("mine", ADD, FULL, LIMIT)


@pytest.mark.parametrize("op", [MUL, DIV], ids=lambda op: op.name)
def test_heuristics_that_only_say_zero_are_those_of_a_slow_count(op):
    prompts = legal_prompts(op, OperandRange(0, 20), 40)
    heuristics = preset("paper", op, OperandRange(0, 20), 40)
    kept, excluded = exclude_zero(heuristics, prompts)
    expected = {}
    for h in heuristics:
        answers = [int(a) for a, inside in zip(prompts.answer, h.mask(prompts), strict=True) if inside]
        if sum(a == 0 for a in answers) >= ZERO_SHARE * len(answers):
            expected[str(h)] = (h.family, len(answers), answers.count(0) / len(answers))
    assert [str(h) for h in heuristics if str(h) not in expected] == [str(h) for h in kept]
    assert list(excluded.columns) == ["heuristic", "family", "size", "zero_share", "reason"]
    rows = zip(excluded["heuristic"], excluded["family"], excluded["size"], excluded["zero_share"], strict=True)
    assert {name: rest for name, *rest in rows} == {name: list(rest) for name, rest in expected.items()}
    assert "result = 0" in expected
    assert "op1 = 0" in expected
    assert ("op2 = 0" in expected) == (op is MUL)


def test_the_reason_gives_the_numbers():
    prompts = legal_prompts(DIV, OperandRange(0, 19), 19)
    kept, excluded = exclude_zero([single_value("op2", 19), single_value("op2", 2)], prompts)
    assert kept == (single_value("op2", 2),)
    assert excluded.loc[0, "reason"] == "19 of its 20 prompts answer 0 (excluded from 90%)"


@pytest.mark.parametrize("op", [ADD, SUB], ids=lambda op: op.name)
def test_addition_and_subtraction_exclude_nothing(op):
    prompts = legal_prompts(op, OperandRange(0, 5), 10)
    heuristics = (single_value("result", 0), Identical())
    kept, excluded = exclude_zero(heuristics, prompts)
    assert kept == heuristics
    assert excluded.empty
    assert "zero_share" in excluded


def test_prompts_of_two_operators_are_refused():
    both = concatenate(legal_prompts(op, OperandRange(1, 3), 9) for op in (MUL, DIV))
    assert np.unique(both.symbols).size == 2
    with pytest.raises(RequestError, match="per operator"):
        exclude_zero([Identical()], both)
