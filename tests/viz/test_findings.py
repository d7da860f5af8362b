"""The sentences about probes, neurons, heads, labels, ablations and failures say what the tables hold."""

import numpy as np
import pytest
from viz import synthetic_neurons as made

from arithcirc.viz import findings, verdicts
from arithcirc.viz.frames import RunData

TABLES = {name: make() for name, make in made.TABLES.items()}
DATA = RunData(TABLES)


def said(found: list[findings.Finding], operator: str = "+") -> str:
    return next(text for title, text in found if title.startswith(operator))


def test_probe_sentences_name_the_layer_the_interval_and_n() -> None:
    text = said(findings.probe_findings(DATA))
    low, high = made.wilson(round(400 * 0.86), 400)
    assert "best after layer 5: 0.900 of 400 held-out prompts (base rate 0.020)" in text
    assert (
        f"the first layer that counts as reading the answer is 3, with 0.860 (95% from {low:.3f} to {high:.3f})" in text
    )
    assert "Before = the best is 0.070, at op1 after layer 5" in text


def test_neuron_sentences_compare_with_estimate_and_random() -> None:
    text = said(findings.neuron_findings(DATA))
    assert (
        "Of 240 neurons the strongest is L5 N0 (patching it alone costs 2.40 nats); 24 in layers 3 to 5 count" in text
    )
    f, random = (made.kept_faithfulness("+", r, made.TOP) for r in ("exact", "random"))
    assert f"The top 8 per layer keep, on 98 prompts, with every head F = {f:.3f} ± 0.010" in text
    assert f"at random {random - 0.04:.3f} to {random + 0.04:.3f} in 5 draws" in text
    assert "from 0.70 (layer 5) to 0.95 (layer 0)" in text
    assert "no evidence" not in text
    assert "share 0.30 to 0.50" in said(findings.neuron_findings(DATA), "Overlap")


def test_a_ranking_that_random_neurons_match_is_no_evidence() -> None:
    table = made.neuron_faithfulness()
    table.loc[table["ranking"] == "random", "faithfulness"] = 0.96
    text = said(findings.neuron_findings(RunData({"neuron_faithfulness": table})))
    assert text.count("so here the ranking is no evidence") == 2


def test_head_sentences_name_looks_parts_and_cuts() -> None:
    text = said(findings.head_findings(DATA), "−")
    assert "3 of 3 (L2H1 at op2 0.60" in text
    assert "op1 best from L2H1 (0.95), op2 best from L2H3 (0.95), result from none (best 0.08)" in text
    assert "Of 5 cuts the worst is = ← op1: accuracy falls from 1.00 to 0.04" in text
    assert "8 of 40 neurons match a heuristic on the number alone (score ≥ 0.6)" in said(
        findings.number_findings(DATA), "First"
    )


def test_label_sentences_count_neurons() -> None:
    assert "18 of 24 important neurons (75.0" in said(verdicts.label_findings(DATA))
    assert "15 (62.5" in said(verdicts.label_findings(DATA))
    rows = {r["family"]: r for r in verdicts.family_rows(DATA)}
    assert (rows["range"]["matched"], rows["range"]["significant"]) == (12, 12)
    assert (rows["both modulo"]["matched"], rows["both modulo"]["significant"]) == (12, 0)
    assert rows["identical"]["base"] is None


def test_threshold_and_level_come_from_the_configuration() -> None:
    data = RunData(TABLES, config={"heuristics": {"threshold": 0.7, "q": 0.05}})
    assert "score ≥ 0.7" in said(verdicts.label_findings(data))
    assert "q < 0.05" in said(verdicts.label_findings(data))


def test_knockout_sentences_give_both_sides_and_the_control() -> None:
    text = said(verdicts.knockout_findings(DATA), "÷")
    assert "0.465 inside it and 0.465 outside (means over 8 heuristics, 800 and 800 prompts)" in text
    assert "random important neurons leave 0.915 and 0.915" in text
    assert "at most 25 neurons per layer zeroed, n = 50" in text


def test_failure_sentences_name_the_test_or_say_that_there_is_none() -> None:
    assert "50 correct and 0 incorrect prompts. Associated neurons: no incorrect prompts." in said(
        verdicts.failure_findings(DATA)
    )
    assert "their contribution: median 40.0 against 5.1, rank test p = 2e−7" in said(
        verdicts.failure_findings(DATA), "−"
    )


def test_verdicts_hold_fail_or_were_not_tested() -> None:
    found = {v.operator: v for v in verdicts.verdicts(DATA)}
    assert [v.word for v in found.values()] == [
        "holds (4 of 4)", "holds (4 of 4)", "holds (3 of 3)", "holds in part (2 of 4)",
    ]  # fmt: skip
    assert [p.word for p in found["/"].predictions] == ["does not hold", "does not hold", "holds", "holds"]
    assert found["/"].predictions[1].statistic == "−0.02"
    assert found["*"].predictions[3].word == "not tested"
    assert found["+"].holds is True
    assert found["/"].holds is False
    all_fail = TABLES["bag_of_heuristics"].assign(holds=False)
    assert verdicts.verdicts(RunData({"bag_of_heuristics": all_fail}))[0].word == "does not hold"
    untested = TABLES["bag_of_heuristics"].assign(statistic=np.nan)
    assert verdicts.verdicts(RunData({"bag_of_heuristics": untested}))[0].holds is None


def test_long_lists_are_cut_and_counted() -> None:
    (first, *_) = verdicts.unlabelled_lists(DATA, shown=4)
    assert (len(first["rows"]), first["total"], first["more"]) == (4, 9, 5)
    (excluded,) = verdicts.excluded_lists(DATA)
    assert excluded["rows"][0]["heuristic"] == "result in 0..2"


@pytest.mark.parametrize("name", list(made.TABLES))
def test_a_missing_or_empty_table_or_a_lost_column_never_raises(name: str) -> None:
    tables = [{k: v for k, v in TABLES.items() if k != name}, TABLES | {name: TABLES[name].head(0)}]
    tables += [{name: TABLES[name].drop(columns=c)} for c in TABLES[name].columns if c != "operator"]
    everything = (
        findings.probe_findings, findings.neuron_findings, findings.head_findings, findings.number_findings,
        verdicts.label_findings, verdicts.family_rows, verdicts.knockout_findings, verdicts.failure_findings,
        verdicts.unlabelled_lists, verdicts.excluded_lists, verdicts.verdicts,
    )  # fmt: skip
    for held in tables:
        for tell in everything:
            tell(RunData(held))
