"""The numbers of the summary and the honesty of its sentences."""

import re

import pandas as pd
import pytest
from viz import synthetic

from arithcirc.viz.summary import OperatorSummary, carriers, summarise
from arithcirc.viz.words import carrier_list, sentences


def tables(**changed: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: make() for name, make in synthetic.TABLES.items()} | changed


def summaries(target: float = 0.9, **changed: pd.DataFrame) -> dict[str, OperatorSummary]:
    found = summarise(tables(**changed), total_heads=24, target=target)
    return {s.operator: s for s in found}


def test_numbers_come_from_the_right_rows() -> None:
    found = summaries()
    assert list(found) == ["+", "-", "*", "/"]
    for operator, s in found.items():
        assert s.n_heads == synthetic.CHOSEN[operator]
        assert (s.total_heads, s.n_mlps, s.total_mlps) == (24, 6, 6)
        assert s.evaluate is not None
        assert s.evaluate.faithfulness == synthetic.faithfulness_value(operator, s.n_heads, "evaluate")
        assert (s.evaluate.n, s.evaluate.undefined) == (98, 2)
        assert s.random is not None
        assert s.random.draws == 5
        assert s.random.mean == pytest.approx(s.n_heads / 24 * 0.6)


def test_carriers_are_the_planted_heads() -> None:
    found = carriers(synthetic.effects().query("operator == '+'"))
    assert {part: [c.head for c in heads] for part, heads in found.items()} == {
        "op1": ["L2H1"],
        "operator": ["L3H0"],
        "op2": ["L2H3"],
    }


def test_a_head_within_two_standard_errors_carries_nothing() -> None:
    table = synthetic.effects().query("operator == '+'").assign(sem=100.0)
    assert carriers(table) == {"op1": [], "operator": [], "op2": []}
    assert carrier_list([]) == "none"


def test_a_reached_and_a_missed_target_are_told_apart() -> None:
    found = summaries()
    assert found["+"].reached is True
    assert found["*"].reached is False
    assert "at or above the target of 0.9" in " ".join(sentences(found["+"]))
    assert "misses the target of 0.9" in " ".join(sentences(found["*"]))
    assert summaries(target=0.99)["+"].reached is False


def test_random_heads_that_do_as_well_are_said_to() -> None:
    table = synthetic.faithfulness()
    table.loc[table["circuit"] == "random", "faithfulness"] = 0.99
    text = " ".join(sentences(summaries(faithfulness=table)["+"]))
    assert "the ranking is no evidence" in text


def test_accuracy_at_the_base_rate_is_called_a_guess() -> None:
    accuracy = synthetic.accuracy().assign(base_rate=0.999)
    assert "no better than that guess" in " ".join(sentences(summaries(accuracy=accuracy)["/"]))


def test_a_skipped_operator_says_why_and_nothing_else() -> None:
    accuracy = synthetic.accuracy()
    accuracy.loc[3, ["correct", "accuracy", "skipped"]] = [0, 0.0, "no correct prompts."]
    (skipped,) = [s for s in summarise({"accuracy": accuracy}, total_heads=None, target=0.9) if s.operator == "/"]
    assert sentences(skipped)[0] == "Skipped: no correct prompts."
    assert (skipped.evaluate, skipped.n_heads, skipped.reached) == (None, None, None)


def test_all_prompts_undefined_gives_no_number() -> None:
    table = synthetic.faithfulness()
    table.loc[table["operator"] == "+", ["faithfulness", "faithfulness_sem"]] = float("nan")
    table.loc[table["operator"] == "+", "n"] = 0
    found = summaries(faithfulness=table)["+"]
    assert found.reached is None
    assert "has no usable F" in " ".join(sentences(found))


def test_overshoot_is_explained() -> None:
    table = synthetic.faithfulness()
    table.loc[table["circuit"] == "ranked", "faithfulness"] = 1.4
    assert "overshoots" in " ".join(sentences(summaries(faithfulness=table)["-"]))


def test_nothing_is_said_about_tables_that_are_missing() -> None:
    (plus, *_) = summarise({"effects": synthetic.effects()}, total_heads=24, target=0.9)
    assert len(sentences(plus)) == 1
    assert summarise({}, total_heads=None, target=0.9) == []


def test_a_circuit_that_is_the_whole_model_is_no_success() -> None:
    table = synthetic.faithfulness()
    ranked = (table["circuit"] == "ranked") & (table["operator"] == "+")
    table.loc[ranked, "chosen"] = table.loc[ranked, "n_heads"] == 24
    found = summaries(faithfulness=table)
    assert found["+"].whole_model
    assert not found["-"].whole_model
    assert "holds by construction" in " ".join(sentences(found["+"]))


def given(evaluate: list[str], accuracy: float = 0.0) -> str:
    """What is said of addition when a file gave the prompts: `a=` and `b=` to discover and these to evaluate."""
    sets = {"discover": ["a=", "b="], "evaluate": evaluate}
    rows = [("+", name, prompt) for name, prompts in sets.items() for prompt in prompts]
    correct = round(accuracy * 4)
    answered = pd.DataFrame([("+", 4, correct, accuracy, float("nan"), None)], columns=list(synthetic.accuracy()))
    table = synthetic.faithfulness().query("operator == '+'")
    named = {"prompts": pd.DataFrame(rows, columns=["operator", "set", "prompt"]), "accuracy": answered}
    (plus,) = summarise({"faithfulness": table} | named, total_heads=24, target=0.9, given=True)
    return " ".join(sentences(plus))


def test_given_prompts_that_serve_both_sets_are_not_called_held_out() -> None:
    text = given(["a=", "b="])
    assert "98 of the 100 prompts it was chosen on (2 left out, undefined)" in text
    assert "No prompts were held out" in text
    assert "not chosen on" not in text


def test_given_prompts_of_two_sets_are_held_out_as_far_as_they_differ() -> None:
    assert "98 prompts it was not chosen on" in given(["c=", "d="])
    assert "98 prompts (1 of the 2 given also served to choose it)" in given(["b=", "c="])
    assert "held out" not in given(["b=", "c="])


def test_an_unknown_base_rate_is_no_guess() -> None:
    text = given(["c="])
    assert "0 of the 4 given prompts as the file says" in text
    assert "wrongly answered ones too" in text
    assert "guess" not in text
    assert "most frequent" not in text
    assert "which the model mostly does not give" in text
    assert "mostly does not give" not in given(["c="], accuracy=0.75)
    assert "wrongly" not in given(["c="], accuracy=1.0)


def test_one_random_circuit_has_no_range() -> None:
    text = " ".join(sentences(summaries(faithfulness=synthetic.faithfulness(draws=1))["+"]))
    assert re.search(r"One random circuit with as many heads reaches [\d.]+: less than the chosen one\.", text)
    assert "on average" not in text


def test_an_undefined_f_is_not_held_against_random_circuits() -> None:
    table = synthetic.faithfulness()
    table.loc[table["circuit"] == "ranked", "faithfulness"] = float("nan")
    found = summaries(faithfulness=table)["+"]
    assert found.beats_random is None
    assert "random circuit" not in " ".join(sentences(found))
