"""The three questions: the planted answers, every branch of the rules, and unknown where data lacks."""

import pandas as pd
import pytest

from arithcirc.sweep.verdict import GAP, HALF, MARGIN, PER_LAYER, QUESTIONS, TESTABLE, WORTH, verdict

TABLES = ("steps", "overlap", "kept_faithfulness", "knockouts_by_prompt")


@pytest.fixture(scope="module")
def sweep(planted_sweep):
    return planted_sweep


@pytest.fixture
def tables(sweep):
    return {name: sweep.table(name) for name in TABLES}


def _answers(sweep, tables, symbol="+"):
    table = verdict(sweep, tables)
    return table[table["operator"] == symbol].set_index("question")


def test_the_planted_answers(sweep):
    found = sweep.table("verdict").set_index(["operator", "question"])
    assert found["answer"].to_dict() == {
        ("+", "early"): "yes", ("+", "carried"): "yes", ("+", "rival"): "no",
        ("-", "early"): "yes", ("-", "carried"): "partly", ("-", "rival"): "partly",
    }  # fmt: skip
    assert found.loc[("+", "early"), "step"] == 512
    assert found.loc[("-", "carried"), "statistic"] == pytest.approx(3 / 5)
    assert "step64, step128" in found.loc[("-", "carried"), "detail"]
    assert found.loc[("-", "rival"), "statistic"] == pytest.approx(2 / 3)
    assert found.loc[("-", "rival"), "step"] == 128
    assert "new neurons" in found.loc[("-", "rival"), "detail"]


@pytest.mark.parametrize(
    ("share", "expected", "answer"), [(0.5, 0.4, "yes"), (0.3, 0.05, "partly"), (0.3, 0.1, "no"), (0.2, 0.0, "no")]
)
def test_early_is_judged_at_the_half_way_step_against_chance(sweep, tables, share, expected, answer):
    tables["overlap"].loc[tables["overlap"]["step"] == 512, ["share", "expected"]] = share, expected
    row = _answers(sweep, tables).loc["early"]
    assert (row["answer"], row["statistic"], row["chance"]) == (answer, share, expected)


def test_half_way_is_from_the_base_rate_and_on_held_out_prompts_where_known(sweep, tables):
    steps = tables["steps"]
    steps["base_rate"] = 0.5
    steps["accuracy"] = steps["step"].map({0: 0.0, 64: 0.5, 128: 0.55, 256: 0.8, 512: 0.9, 1000: 1.0, 2000: 1.0})
    assert _answers(sweep, tables).loc["early", "step"] == 256  # .75; half of the final value would be step 64
    steps["accuracy_held_out"] = steps["accuracy"].where(steps["step"] > 256, 0.0)
    row = _answers(sweep, tables).loc["early"]
    assert row["step"] == 512
    assert "held-out" in row["detail"]


@pytest.mark.parametrize("change", ["p", "gap"])
def test_carried_needs_both_a_gap_and_a_small_p(sweep, tables, change):
    knockouts = tables["knockouts_by_prompt"]
    at = (knockouts["per_layer"] == PER_LAYER) & (knockouts["ablation"] == "zero") & (knockouts["arm"] == "random_kept")
    if change == "p":
        knockouts.loc[at, "p"] = 0.01
    else:
        kept = knockouts[knockouts["arm"] == "kept"].groupby(["operator", "step", "per_layer"])["accuracy"].min()
        low = kept.xs((PER_LAYER), level="per_layer").xs("+", level="operator")
        knockouts.loc[at, "accuracy"] = knockouts.loc[at, "step"].map(low) + GAP - 0.01
    row = _answers(sweep, tables).loc["carried"]
    assert (row["answer"], row["statistic"]) == ("no", 0)


def test_p_counts_on_either_row_of_a_pair(sweep, tables):
    knockouts = tables["knockouts_by_prompt"]
    keys = ["revision", "operator", "prompts", "labels", "ablation", "per_layer"]
    p = knockouts[knockouts["arm"] == "random_kept"].set_index(keys)["p"]
    knockouts.loc[knockouts["arm"] == "random_kept", "p"] = float("nan")
    mine = knockouts["arm"] == "kept"
    knockouts.loc[mine, "p"] = p.reindex(pd.MultiIndex.from_frame(knockouts.loc[mine, keys])).to_numpy()
    assert _answers(sweep, tables).loc["carried", "answer"] == "yes"


def test_steps_with_too_few_prompts_are_named_and_not_counted(sweep, tables):
    knockouts = tables["knockouts_by_prompt"]
    knockouts.loc[knockouts["step"] == 64, "n"] = TESTABLE - 1
    row = _answers(sweep, tables, "-").loc["carried"]
    assert row["statistic"] == pytest.approx(3 / 4)
    assert f"fewer than {TESTABLE} prompts at step64" in row["detail"]


def test_either_sign_alone_speaks_for_a_rival(sweep, tables):
    alone = tables | {"knockouts_by_prompt": tables["knockouts_by_prompt"].iloc[:0]}
    assert _answers(sweep, alone, "-").loc["rival", "statistic"] == pytest.approx(2 / 3)
    alone = tables | {"kept_faithfulness": tables["kept_faithfulness"].iloc[:0]}
    assert _answers(sweep, alone, "-").loc["rival", "statistic"] == pytest.approx(2 / 3)


def test_kept_neurons_are_not_blamed_where_all_labelled_ones_fail(sweep, tables):
    kept = tables["kept_faithfulness"]
    kept.loc[kept["neurons"] == "all", "faithfulness"] = HALF - 0.01
    alone = tables | {"knockouts_by_prompt": tables["knockouts_by_prompt"].iloc[:0]}
    assert _answers(sweep, alone, "-").loc["rival", "answer"] == "no"


def test_a_constant_answer_is_a_rival(sweep, tables):
    steps = tables["steps"]
    early = steps["step"].isin([64, 128])
    steps.loc[early, ["given_share", "given_most", "base_rate"]] = 0.97, 0, 0.2
    steps.loc[early, "accuracy"] = steps.loc[early, "base_rate"] + MARGIN / 2  # a few others are right by luck
    row = _answers(sweep, tables).loc["rival"]
    assert row["statistic"] == pytest.approx(2 / 3)
    assert "the answer is 0 to 97% of all prompts" in row["detail"]
    steps.loc[early, "accuracy"] += MARGIN
    assert _answers(sweep, tables).loc["rival", "answer"] == "no"


def test_a_constant_answer_that_is_hardly_ever_right_is_none(sweep, tables):
    steps = tables["steps"]
    early = steps["step"].isin([64, 128])
    steps.loc[early, ["given_share", "given_most", "base_rate", "accuracy"]] = 0.97, 0, WORTH / 2, WORTH / 2
    assert "0 of 1" in _answers(sweep, tables).loc["rival", "detail"]


def test_matched_labels_stand_in_where_few_are_significant(sweep, tables):
    overlap = tables["overlap"]
    overlap.loc[overlap["labels"] == "significant", "at_reference"] = 5
    row = _answers(sweep, tables).loc["early"]
    matched = overlap.query("step == 512 and what == 'pairs' and labels == 'matched' and prompts == 'shared'")
    assert row["statistic"] == matched.query("operator == '+'")["share"].item()
    assert "matched labels" in row["detail"]


def test_what_cannot_be_answered_is_unknown_with_its_reason(sweep, tables, tmp_path):
    nothing = _answers(sweep, {"steps": tables["steps"], "overlap": tables["overlap"].iloc[:0]})
    assert nothing.loc[["early", "carried"], "answer"].tolist() == ["unknown", "unknown"]
    assert "no labels" in nothing.loc["early", "detail"]
    steps = tables["steps"]
    failed = tables | {"steps": steps[steps["revision"] != "step2000"]}
    assert set(_answers(sweep, failed)["answer"]) == {"unknown"}
    assert "step2000, failed" in _answers(sweep, failed).loc["rival", "detail"]
    one = tables | {"steps": steps[steps["revision"] == "step2000"]}
    assert "only one revision" in _answers(sweep, one).loc["early", "detail"]
    late = tables | {"steps": steps[steps["step"] >= 512]}
    assert "no step with an accuracy of 0.05 or more lies before" in _answers(sweep, late).loc["rival", "detail"]
    assert verdict(sweep, tables)["question"].tolist() == list(QUESTIONS) * 2
