"""The three questions: the planted answers, every branch of the rules, and unknown where data lacks."""

import pandas as pd
import pytest

from arithcirc.sweep.verdict import (
    GAP,
    HALF,
    LEVEL,
    MARGIN,
    PER_LAYER,
    QUESTIONS,
    TESTABLE,
    WORTH,
    share_of,
    verdict,
)

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
    assert "at 6 of 6 steps that can show it (step 64 to 2,000, n = 50" in found.loc[("+", "carried"), "detail"]
    assert found.loc[("-", "carried"), "statistic"] == pytest.approx(3 / 5)
    assert (
        "not shown at step 64 (gap 0.06, n = 50), step 128 (gap 0.06, n = 50)" in found.loc[("-", "carried"), "detail"]
    )
    assert "no gap below 0.16 can reach" in found.loc[("-", "carried"), "detail"]
    assert found.loc[("-", "rival"), "statistic"] == pytest.approx(2 / 3)
    assert found.loc[("-", "rival"), "step"] == 128
    assert "new neurons (50 zeroed)" in found.loc[("-", "rival"), "detail"]
    assert not found["detail"].str.contains(r"step\d").any()


@pytest.mark.parametrize(
    ("share", "chance", "answer"), [(0.5, 0.4, "yes"), (0.3, 0.05, "partly"), (0.3, 0.1, "no"), (0.2, 0.0, "no")]
)
def test_early_is_judged_at_the_half_way_step_against_the_same_neurons_with_labels_exchanged(
    sweep, tables, share, chance, answer
):
    at = tables["overlap"]["step"] == 512
    tables["overlap"].loc[at, ["share", "given_neurons", "expected"]] = share, chance, 0.077
    row = _answers(sweep, tables).loc["early"]
    assert (row["answer"], row["statistic"], row["chance"]) == (answer, share, chance)
    assert "7.7% of random ones" in row["detail"]


def test_half_of_the_pairs_are_there_from_where_they_stay(sweep, tables):
    overlap = tables["overlap"]
    shares = {64: 0.6, 128: 0.4, 256: 0.5, 512: 0.6, 1000: 0.55, 2000: 1.0}
    overlap["share"] = overlap["step"].map(shares)
    assert "half of them are from step 256 on" in _answers(sweep, tables).loc["early", "detail"]
    overlap.loc[overlap["step"] == 1000, "share"] = 0.45
    tables["steps"].loc[tables["steps"]["step"] == 1000, "accuracy"] = tables["steps"]["accuracy"].max()
    detail = _answers(sweep, tables).loc["early", "detail"]
    assert "half of them never before the reference" in detail
    assert "at step 1,000, the last before it, accuracy" in detail
    assert "45%: so labels still change when accuracy no longer does" in detail


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
    knockouts = tables["knockouts_by_prompt"].assign(n=100)  # enough for a gap of GAP to reach LEVEL
    at = (knockouts["per_layer"] == PER_LAYER) & (knockouts["ablation"] == "zero") & (knockouts["arm"] == "random_kept")
    if change == "p":
        knockouts.loc[at, "p"] = 0.01
    else:
        kept = knockouts[knockouts["arm"] == "kept"].groupby(["operator", "step", "per_layer"])["accuracy"].min()
        low = kept.xs((PER_LAYER), level="per_layer").xs("+", level="operator")
        knockouts.loc[at, "accuracy"] = knockouts.loc[at, "step"].map(low) + GAP - 0.01
    row = _answers(sweep, tables | {"knockouts_by_prompt": knockouts}).loc["carried"]
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
    rows = _answers(sweep, tables, "-")
    assert rows.loc["carried", "statistic"] == pytest.approx(3 / 4)
    assert f"fewer than {TESTABLE} prompts at step 64" in rows.loc["carried", "detail"]
    assert rows.loc["rival", "statistic"] == pytest.approx(1 / 2)
    assert f"fewer than {TESTABLE} shared prompts at step 64" in rows.loc["rival", "detail"]


def test_carried_says_first_that_the_reference_does_not_show_it(sweep, tables):
    knockouts = tables["knockouts_by_prompt"]
    knockouts.loc[knockouts["step"] == 2000, "p"] = 0.5
    row = _answers(sweep, tables).loc["carried"]
    assert row["answer"] == "partly"
    assert row["detail"].startswith("Not shown at the reference itself (gap 0.58, n = 50); ")


@pytest.mark.parametrize(("n", "answer"), [(79, "unknown"), (80, "no")])
def test_no_step_with_the_power_to_show_it_is_no_evidence(sweep, tables, n, answer):
    knockouts = tables["knockouts_by_prompt"]
    knockouts["n"], knockouts["p"] = n, 0.5
    assert _answers(sweep, tables).loc["carried", "answer"] == answer


def test_each_sign_alone_speaks_for_a_rival(sweep, tables):
    kept, knockouts = tables["kept_faithfulness"], tables["knockouts_by_prompt"]
    share = kept["faithfulness"].where(kept["neurons"] != "kept", 0.9)
    arms = _answers(sweep, tables | {"kept_faithfulness": kept.assign(faithfulness=share)}, "-").loc["rival"]
    assert arms["statistic"] == pytest.approx(2 / 3)
    assert "recover" not in arms["detail"]
    unsure = knockouts.assign(p=knockouts["p"].where(knockouts["arm"] != "random_new", LEVEL))
    f = _answers(sweep, tables | {"knockouts_by_prompt": unsure}, "-").loc["rival"]
    assert f["statistic"] == pytest.approx(2 / 3)
    assert "new neurons" not in f["detail"]


@pytest.mark.parametrize("missing", ["kept_faithfulness", "knockouts_by_prompt"])
def test_a_rival_needs_both_ablations(sweep, tables, missing):
    row = _answers(sweep, tables | {missing: tables[missing].iloc[:0]}, "-").loc["rival"]
    assert row["answer"] == "unknown"
    assert "not both ablated at steps 64, 128 and 256" in row["detail"]


def test_one_step_alone_is_no_rival_for_sure(sweep, tables):
    steps = tables["steps"]
    steps.loc[steps["step"].isin([64, 256]), "status"] = "no circuit"
    row = _answers(sweep, tables, "-").loc["rival"]
    assert (row["answer"], row["statistic"]) == ("partly", 1)


def test_nothing_is_known_of_steps_that_labelled_neurons_do_not_explain(sweep, tables):
    kept = tables["kept_faithfulness"]
    kept.loc[(kept["neurons"] == "all") & (kept["step"] == 64), "faithfulness"] = HALF - 0.01
    row = _answers(sweep, tables, "-").loc["rival"]
    assert row["statistic"] == pytest.approx(1 / 2)
    assert "at step 64 all labelled neurons recover only 0.49 of F" in row["detail"]
    kept.loc[kept["neurons"] == "all", "faithfulness"] = HALF - 0.01
    assert _answers(sweep, tables, "-").loc["rival", "answer"] == "unknown"


def test_a_constant_answer_is_named_and_is_no_mechanism(sweep, tables):
    steps = tables["steps"]
    early = steps["step"].isin([64, 128])
    steps.loc[early, ["given_share", "given_most", "base_rate"]] = 0.996, 0, 0.2
    steps.loc[early, "accuracy"] = steps.loc[early, "base_rate"] + MARGIN / 2  # a few others are right by luck
    steps.loc[steps["step"] == 64, "status"] = "no circuit"
    row = _answers(sweep, tables).loc["rival"]
    assert (row["answer"], row["statistic"]) == ("no", 0)
    for step in (64, 128):
        assert f"at step {step} a constant answer (0 to 99.6% of prompts), not a mechanism" in row["detail"]
    steps.loc[early, "accuracy"] += MARGIN
    assert "constant" not in _answers(sweep, tables).loc["rival", "detail"]


def test_a_constant_answer_that_is_hardly_ever_right_is_not_named(sweep, tables):
    steps = tables["steps"]
    early = steps["step"].isin([64, 128])
    steps.loc[early, ["given_share", "given_most", "base_rate", "accuracy"]] = 0.97, 0, WORTH / 2, WORTH / 2
    row = _answers(sweep, tables).loc["rival"]
    assert "0 of 1 step before step 512 that can show it (step 256, n = " in row["detail"]
    assert "constant" not in row["detail"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0%"), (0.0314, "3.1%"), (0.0996, "10%"), (0.234, "23%"), (0.996, "99.6%"), (1.0, "100%"), (0.0001, "0%")],
)
def test_per_cent_have_decimals_only_where_they_say_something(value, text):
    assert share_of(value) == text


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
    assert "step 2,000, failed" in _answers(sweep, failed).loc["rival", "detail"]
    one = tables | {"steps": steps[steps["revision"] == "step2000"]}
    assert "only one revision" in _answers(sweep, one).loc["early", "detail"]
    late = tables | {"steps": steps[steps["step"] >= 512]}
    assert (
        "no step with a circuit and an accuracy of 0.05 or more lies before"
        in _answers(sweep, late).loc["rival", "detail"]
    )
    assert "(the first step measured: it may have been earlier)" in _answers(sweep, late).loc["early", "detail"]
    assert "may have been" not in _answers(sweep, tables).loc["early", "detail"]
    assert verdict(sweep, tables)["question"].tolist() == list(QUESTIONS) * 2
