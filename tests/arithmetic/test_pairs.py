"""Selection, splits, counterfactuals, and pairs files."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import ADD, MUL, OPERATORS, SUB, OperandRange, Prompts, legal_prompts
from arithcirc.arithmetic.pairs import (
    Counterfactual,
    Pairs,
    counterfactuals,
    legal_pool,
    read_pairs,
    select_distinct,
    split_discover_evaluate,
)
from arithcirc.errors import PromptError

OPERANDS, LIMIT = OperandRange(0, 20), 60
POOL = legal_pool(OPERANDS, LIMIT)


def answering(answers: list[int]) -> Prompts:
    values = np.array(answers, dtype=np.int64)
    return Prompts(np.full(len(values), "+"), values, np.zeros_like(values), values)


def sampled(op=ADD, n=30, seed=0) -> Prompts:
    legal = legal_prompts(op, OPERANDS, LIMIT)
    return legal[select_distinct(legal, n, np.random.default_rng(seed))]


# -- selection ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 8), max_size=40), st.integers(0, 45), st.integers(0, 5))
def test_selection_has_as_many_distinct_answers_as_possible(answers, n, seed):
    prompts = answering(answers)
    chosen = select_distinct(prompts, n, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == len(chosen) == min(n, len(prompts))
    assert len(set(prompts.answer[chosen])) == min(n, len(set(answers)))


@given(st.lists(st.integers(0, 8), max_size=40), st.integers(0, 45))
def test_no_answer_is_used_again_before_every_other_was_used_as_often(answers, n):
    prompts = answering(answers)
    chosen = prompts.answer[select_distinct(prompts, n, np.random.default_rng(0))].tolist()
    most = max((chosen.count(a) for a in chosen), default=0)
    assert all(chosen.count(a) >= min(most - 1, answers.count(a)) for a in set(answers))


@given(st.integers(2, 60), st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_discover_and_evaluate_are_disjoint(available, n_discover, n_evaluate, seed):
    correct = sampled(n=available)
    discover, evaluate = split_discover_evaluate(correct, n_discover, n_evaluate, np.random.default_rng(seed))
    assert not set(discover.texts()) & set(evaluate.texts())
    assert len(discover) + len(evaluate) == min(available, n_discover + n_evaluate)
    assert len(discover) >= 1
    assert len(evaluate) >= 1


def test_the_split_gives_the_numbers_asked_for_where_it_can():
    sets = split_discover_evaluate(sampled(n=41), 20, 10, np.random.default_rng(0))
    assert [len(s) for s in sets] == [20, 10]


def test_choices_are_seeded():
    assert sampled(seed=3).texts() == sampled(seed=3).texts() != sampled(seed=4).texts()


# -- counterfactuals ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.sampled_from(OPERATORS), st.sampled_from(list(Counterfactual)), st.integers(0, 20))
def test_a_counterfactual_is_legal_and_has_another_result(op, change, seed):
    prompts = sampled(op)
    drawn, found = counterfactuals(prompts, POOL, np.random.default_rng(seed), change=change)
    assert (drawn.answer[found] != prompts.answer[found]).all()
    assert set(drawn[found].texts()) <= set(POOL.texts())
    assert drawn[~found].texts() == prompts[~found].texts()


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
@pytest.mark.parametrize("change", [Counterfactual.OP1, Counterfactual.OP2, Counterfactual.OPERATOR])
def test_only_the_named_part_changes(op, change):
    prompts = sampled(op)
    drawn, found = counterfactuals(prompts, POOL, np.random.default_rng(0), change=change)
    assert found.any()
    for part, column in (("op1", "op1"), ("op2", "op2"), ("operator", "symbols")):
        same = getattr(drawn, column)[found] == getattr(prompts, column)[found]
        assert (~same).all() if part == change else same.all()


@pytest.mark.parametrize("change", list(Counterfactual))
def test_a_counterfactual_is_missing_only_where_none_exists(change):
    prompts, pool = sampled(n=100), legal_prompts(SUB, OPERANDS, LIMIT)
    _, found = counterfactuals(prompts, pool, np.random.default_rng(0), change=change)
    rows = set(zip(pool.op1.tolist(), pool.op2.tolist(), pool.answer.tolist(), strict=True))
    for i, has in enumerate(found):
        a, b, c = int(prompts.op1[i]), int(prompts.op2[i]), int(prompts.answer[i])
        exists = {
            Counterfactual.ANY: any(z != c for _, _, z in rows),
            Counterfactual.OP1: False,  # the pool has only subtractions, so the operator always changes
            Counterfactual.OP2: False,
            Counterfactual.OPERATOR: any((x, y) == (a, b) and z != c for x, y, z in rows),
        }[change]
        assert has == exists


def test_any_draws_from_all_operators():
    drawn, found = counterfactuals(sampled(n=40), POOL, np.random.default_rng(0))
    assert found.all()
    assert set(drawn.symbols) == {"+", "-", "*", "/"}


def test_a_prompt_without_counterfactual_is_marked_and_keeps_itself():
    pool = answering([4, 4, 4])
    drawn, found = counterfactuals(pool, pool, np.random.default_rng(0))
    assert not found.any()
    assert drawn.texts() == pool.texts()


def test_counterfactuals_are_seeded():
    prompts = sampled()
    first, again, other = (counterfactuals(prompts, POOL, np.random.default_rng(s))[0].texts() for s in (1, 1, 2))
    assert first == again != other


def test_pairs_need_one_counterfactual_each():
    with pytest.raises(PromptError, match="2 prompts have 1 counterfactuals"):
        Pairs(answering([1, 2]), answering([3]))


# -- files ----------------------------------------------------------------------------------------------------------

WRITERS = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
}


def table(**changes) -> pd.DataFrame:
    """Three good rows, with columns replaced."""
    prompts = legal_prompts(ADD, OperandRange(1, 3), LIMIT)[np.array([0, 3, 8])]
    others = legal_prompts(MUL, OperandRange(2, 4), LIMIT)[np.array([1, 4, 8])]
    return Pairs(prompts, others).frame().assign(**changes)


def written(tmp_path, frame: pd.DataFrame, suffix: str = ".csv"):
    path = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](frame, path)
    return path


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_pairs_file_reads_back_what_was_written(tmp_path, suffix):
    pairs, sets = read_pairs(written(tmp_path, table(), suffix))
    pd.testing.assert_frame_equal(pairs.frame(), table())
    assert sets.tolist() == ["discover"] * 3


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_set_column_splits_the_file(tmp_path, suffix):
    frame = table(set=["discover", "evaluate", "discover"])
    assert read_pairs(written(tmp_path, frame, suffix))[1].tolist() == frame["set"].tolist()


def test_the_golden_pairs_are_read(shared):
    pairs, _ = read_pairs(shared / "golden" / "neox-m100" / "add_pairs.csv")
    assert len(pairs) == 50
    assert (pairs.clean.answer == pairs.clean.op1 + pairs.clean.op2).all()


@pytest.mark.parametrize("gap", ["", " "])
def test_prompts_may_be_written_in_the_template(tmp_path, gap):
    fmt = PromptFormat(prefix="1+1=2\n", template="Q: {op1} {operator} {op2} =" + gap)
    frame = table(prompt=[fmt.text(1, "+", 1), "2+1=", fmt.text(3, "+", 3) + " "])
    pairs, _ = read_pairs(written(tmp_path, frame, ".jsonl"), format=fmt)
    assert pairs.clean.texts() == ["1+1=", "2+1=", "3+3="]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": ["1+1=", "2+=", "3+3="]}, r"row 2: '2\+=' is not of the form"),
        ({"counterfactual": ["2*3=", "3*3=", "4*4"]}, r"row 3: '4\*4' is not of the form"),
        ({"answer": ["2", "three", "6"]}, "row 2: the answer 'three' is not a whole number"),
        ({"answer": [2, -1, 6]}, "row 2: the answer .*-1.* is not a whole number"),
        ({"answer": [2, 2.5, 6]}, "row 2: the answer .*2.5.* is not a whole number"),
        ({"answer": [2, None, 6]}, "row 2: the answer .*nan.* is not a whole number"),
        ({"counterfactual_answer": ["6", "9", ""]}, "row 3: the counterfactual_answer .* is not a whole number"),
        ({"operator": ["+", "-", "+"]}, r"row 2: operator '-' is not the one in '2\+1='"),
        ({"operator": ["+", "+", "%"]}, "row 3: .*unknown operator '%'"),
        ({"operator": ["+", None, "+"]}, "row 2: .*unknown operator 'nan'"),
        ({"set": ["discover", "test", "discover"]}, "row 2: set 'test' must be discover or evaluate"),
        ({"set": "evaluate"}, r"no discover rows for \+"),
    ],
)
def test_a_bad_row_is_named(tmp_path, changes, message):
    with pytest.raises(PromptError, match=message) as caught:
        read_pairs(written(tmp_path, table(**changes)))
    assert "pairs.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(PromptError, match=r"lacks the column\(s\) answer, counterfactual: it needs operator"):
        read_pairs(written(tmp_path, table().drop(columns=["answer", "counterfactual"])))


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_empty_table_is_refused(tmp_path, suffix):
    with pytest.raises(PromptError, match=r"no rows|cannot be read|lacks"):
        read_pairs(written(tmp_path, table().head(0), suffix))


@pytest.mark.parametrize(
    "name", ["empty.csv", "empty.jsonl", "empty.parquet", "binary.csv", "binary.jsonl", "a.parquet"]
)
def test_an_unreadable_file_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"" if name.startswith("empty") else b"\xff\xfe\x00garbage,\n\x80")
    with pytest.raises(PromptError, match=rf"{name} (cannot be read|lacks|has no rows)"):
        read_pairs(path)


def test_other_files_and_missing_files_are_refused(tmp_path):
    (tmp_path / "pairs.xlsx").touch()
    with pytest.raises(PromptError, match=r"use \.csv, \.jsonl or \.parquet, not \.xlsx"):
        read_pairs(tmp_path / "pairs.xlsx")
    with pytest.raises(PromptError, match="does not exist"):
        read_pairs(tmp_path / "none.csv")
