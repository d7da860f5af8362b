"""Every family against its definition, written out per prompt in plain Python, and every name against the parser."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arithcirc.arithmetic.operators import ADD, DIV, MUL, OPERATORS, SUB, OperandRange, fitting_prompts, legal_prompts
from arithcirc.errors import RequestError
from arithcirc.heuristics.families import (
    VARIABLES,
    BothModulo,
    BothRange,
    Identical,
    Modulo,
    MultiValue,
    Pattern,
    Range,
    column,
    single_value,
)
from arithcirc.heuristics.names import parse_heuristic

variables = st.sampled_from(VARIABLES)
numbers = st.integers(0, 700)
bounds = st.tuples(numbers, numbers).filter(lambda b: b[0] != b[1]).map(sorted)
residues = st.integers(2, 15).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n)))
digits = st.text("0123456789.", min_size=3, max_size=3).filter(lambda d: d != "...")


def spec(make, *parts):
    """A constructor with drawn arguments: called in the test, because type checks draw at random."""
    return st.tuples(st.just(make), *parts)


single = st.one_of(
    spec(lambda v, b: Range(v, *b), variables, bounds),
    spec(lambda v, r: Modulo(v, *r), variables, residues),
    spec(Pattern, variables, digits),
    spec(single_value, variables, st.integers(0, 99_999)),
    spec(lambda v: MultiValue(tuple(sorted(v))), st.sets(numbers, min_size=2, max_size=4)),
    spec(lambda b: BothRange(*b), bounds),
    spec(lambda r: BothModulo(*r), residues),
)
specs = single | spec(Identical)


def made(drawn):
    make, *parts = drawn
    return make(*parts)


def meets(heuristic, v: int) -> bool:
    """The condition on one number."""
    match heuristic:
        case Range(_, low, high) | BothRange(low, high):
            return v in range(low, high)
        case Modulo(_, residue, modulus) | BothModulo(residue, modulus):
            return v - v // modulus * modulus == residue
        case MultiValue(values):
            return v in values
        case Pattern(_, mask):
            text = str(v).zfill(3)
            return len(text) == len(mask) and all(m in (".", t) for m, t in zip(mask, text, strict=True))


def belongs(heuristic, op1: int, op2: int, result: int) -> bool:
    """The definition of H, for one prompt."""
    match heuristic:
        case Identical():
            return op1 == op2
        case BothRange() | BothModulo():
            return meets(heuristic, op1) and meets(heuristic, op2)
        case MultiValue():
            return meets(heuristic, result)
    return meets(heuristic, {"op1": op1, "op2": op2, "result": result}[heuristic.variable])


@given(specs, st.sampled_from(OPERATORS), st.integers(0, 290), st.integers(0, 9))
def test_masks_are_the_definitions_prompt_by_prompt(drawn, op, low, width):
    heuristic = made(drawn)
    low = low % 20 if op is MUL else low
    prompts = fitting_prompts(op, OperandRange(low, low + width), 600)
    rows = zip(prompts.op1.tolist(), prompts.op2.tolist(), prompts.answer.tolist(), strict=True)
    assert heuristic.mask(prompts).tolist() == [belongs(heuristic, *row) for row in rows]


@given(single, st.lists(st.integers(0, 1200), max_size=30))
def test_conditions_on_numbers_are_the_definitions(drawn, values):
    heuristic = made(drawn)
    assert heuristic.holds(np.array(values, dtype=np.int64)).tolist() == [meets(heuristic, v) for v in values]


@given(specs, st.booleans(), st.sampled_from(["{}", "  {}\t", "{}\n"]))
def test_names_are_parsed_back_whatever_the_spacing_and_case(drawn, shout, frame):
    heuristic = made(drawn)
    name = str(heuristic)
    text = frame.format(name.upper() if shout else name)
    assert parse_heuristic(text) == parse_heuristic(name.replace(" ", "")) == heuristic
    assert str(parse_heuristic(text)) == name


@given(specs, specs)
def test_heuristics_are_frozen_and_hash_and_compare_by_value(drawn, other):
    first, second = made(drawn), made(other)
    assert (first == second) == (str(first) == str(second))
    assert hash(first) == hash(dataclasses.replace(first))
    assert len({first, second, dataclasses.replace(first)}) == 1 + (first != second)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.variable = "op2"


@pytest.mark.parametrize(
    ("heuristic", "name", "family", "value", "kind", "group"),
    [
        (Range("result", 150, 180), "result in 150..180", "range", "result", "direct", "range result 30"),
        (Modulo("op2", 8, 10), "op2 = 8 mod 10", "modulo", "op2", "indirect", "modulo op2 10"),
        (Pattern("op1", ".5."), "op1 matches .5.", "pattern", "op1", "indirect", "pattern op1 .d."),
        (Pattern("result", "0.7"), "result matches 0.7", "pattern", "result", "direct", "pattern result d.d"),
        (Pattern("op1", "042"), "op1 = 42", "value", "op1", "indirect", "value op1"),
        (single_value("result", 1042), "result = 1042", "value", "result", "direct", "value result"),
        (BothRange(0, 10), "both in 0..10", "both_range", "operands", "indirect", "both_range 10"),
        (BothModulo(3, 5), "both = 3 mod 5", "both_modulo", "operands", "indirect", "both_modulo 5"),
        (Identical(), "op1 = op2", "identical", "operands", "indirect", "identical"),
        (MultiValue((1, 2, 3)), "result in {1, 2, 3}", "multi_value", "result", "direct", "multi_value"),
    ],
    ids=str,
)
def test_the_words_of_the_tables(heuristic, name, family, value, kind, group):
    assert str(heuristic) == name
    assert (heuristic.family, heuristic.value, heuristic.kind, heuristic.group) == (family, value, kind, group)


def test_other_spellings_of_the_same_heuristics():
    assert parse_heuristic("op1 matches 042") == parse_heuristic("op1=042") == single_value("op1", 42)
    assert parse_heuristic("result in {3,1 ,2}") == MultiValue((1, 2, 3))
    assert parse_heuristic("op2 = op1") == Identical()


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "op3 in 0..10",
        "op1 in 0-10",
        "op1 in 0..10..20",
        "op1 = -1",
        "op1 = 3.5",
        "op1 = ٣",
        "op1 = 12345678901234567890",
        "op1 matches 5",
        "op1 matches ....",
        "op1 matches ...",
        "op1 in {1, 2}",
        "result in {}",
        "result in {1, 1}",
        "result in {1, 2, 3, 4, 5}",
        "op1 in 10..10",
        "op2 = 10 mod 10",
        "op2 = 0 mod 0",
        "op2 = 0 mod 1",
        "both in 5..2",
        "both = op1",
        "result in 1..2 and op1 = 3",
    ],
)
def test_junk_is_refused_in_one_line(junk):
    with pytest.raises(RequestError) as refusal:
        parse_heuristic(junk)
    assert "\n" not in str(refusal.value)


def test_a_refusal_shows_the_allowed_forms_and_each_of_them_parses():
    with pytest.raises(RequestError, match=r"'op2 ends in 8' is not understood") as refusal:
        parse_heuristic("op2 ends in 8")
    shown = str(refusal.value).split("'")[3::2]
    assert len({parse_heuristic(form).family for form in shown}) == len(shown) == 8
    with pytest.raises(RequestError) as refusal:
        parse_heuristic("x" * 10_000)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    "make",
    [
        lambda: Range("op1", 10, 10),
        lambda: Range("op1", -5, 10),
        lambda: Modulo("op1", 5, 5),
        lambda: Modulo("op1", -1, 5),
        lambda: Modulo("op1", 0, 1),
        lambda: Pattern("op1", "..."),
        lambda: Pattern("op1", "42"),
        lambda: Pattern("op1", "0421"),
        lambda: Pattern("op1", "1.42"),
        lambda: BothRange(7, 3),
        lambda: BothModulo(9, 9),
        lambda: MultiValue((1,)),
        lambda: MultiValue((2, 1)),
        lambda: MultiValue((-1, 1)),
        lambda: MultiValue((1, 2, 3, 4, 5)),
    ],
)
def test_heuristics_that_say_nothing_cannot_be_written(make):
    with pytest.raises(RequestError, match=r"use|write|sort"):
        make()


@pytest.mark.parametrize("make", [lambda v: Range(v, 0, 10), lambda v: Modulo(v, 0, 2), lambda v: Pattern(v, ".5.")])
def test_unknown_variables_are_refused_without_the_type_checks_of_these_tests(make, monkeypatch):
    for family in (Range, Modulo, Pattern):
        monkeypatch.setattr(family, "__init__", family.__init__.__wrapped__)
    with pytest.raises(RequestError, match=r"op1, op2, result, not on 'operands'"):
        make("operands")


def test_the_operands_together_are_not_one_number():
    with pytest.raises(RequestError, match="op1, op2, result"):
        column(legal_prompts(ADD, OperandRange(0, 3), 6), "operands")


@pytest.mark.parametrize(("op", "variable"), list(product(OPERATORS, VARIABLES)), ids=str)
def test_groups_share_the_prompts_out(op, variable):
    prompts = legal_prompts(op, OperandRange(0, 40), 80)

    def times(group):
        assert len({h.group for h in group}) == 1
        return set(np.sum([h.mask(prompts) for h in group], axis=0).tolist())

    assert times([Modulo(variable, m, 7) for m in range(7)]) == {1}
    assert times([Range(variable, a, a + 30) for a in range(0, 90, 30)]) == {1}
    assert times([Range(variable, a, a + 30) for a in range(0, 90, 10)]) <= {1, 2, 3}
    assert times([Pattern(variable, f".{d}.") for d in range(10)]) == {1}
    assert times([single_value(variable, n) for n in range(81)]) == {1}
    assert times([BothModulo(m, 2) for m in range(2)]) == {0, 1}


def test_ranges_are_half_open():
    values = np.array([149, 150, 151, 179, 180])
    assert Range("result", 150, 180).holds(values).tolist() == [False, True, True, True, False]
    prompts = legal_prompts(ADD, OperandRange(9, 10), 20)
    assert BothRange(0, 10).mask(prompts).tolist() == [True, False, False, False]


def test_the_last_digit_is_the_residue_mod_ten():
    values = np.arange(1000)
    for d in range(10):
        assert (Pattern("op1", f"..{d}").holds(values) == Modulo("op1", d, 10).holds(values)).all()


def test_operators_edges():
    division = legal_prompts(DIV, OperandRange(0, 12), 12)
    assert not single_value("op2", 0).mask(division).any()
    assert (single_value("result", 0).mask(division) == (division.op1 < division.op2)).all()
    product_ = legal_prompts(MUL, OperandRange(0, 12), 20)
    assert (single_value("result", 0).mask(product_) == ((product_.op1 == 0) | (product_.op2 == 0))).all()
    subtraction = legal_prompts(SUB, OperandRange(0, 12), 12)
    assert (Identical().mask(subtraction) == single_value("result", 0).mask(subtraction)).all()
    addition = legal_prompts(ADD, OperandRange(250, 299), 530)
    assert (
        Range("result", 500, 530).mask(addition).sum()
        == (addition.answer >= 500).sum() - (addition.answer == 530).sum()
    )
    assert Pattern("result", "5.1").mask(addition).sum() == np.isin(addition.answer, [501, 511, 521]).sum() > 0
