"""Bars from planted accuracies, and the published numbers as they are printed."""

import math

import pandas as pd
import pytest

from arithcirc.axioms.evaluation import Cell, cells
from arithcirc.axioms.published import MISSING, SOURCES, TRANSITIVITY, published, published_table
from arithcirc.axioms.study.bars import ALL_BARS, BARS, judge


def planted(accuracies, *, counted=True):
    """Rows of `cells`: (mix, positions, asked seed, family, nodes, factor) -> accuracy; mix "" is a shortcut."""
    rows = []
    for (mix, positions, seed, family, nodes, factor), accuracy in accuracies.items():
        model = positions if not mix else f"{mix}-{positions}-s{seed}"
        rows.append(
            {"model": model, "mix": mix, "positions": positions if mix else "", "asked_seed": seed, "counted": counted,
             "kind": "model" if mix else "shortcut", "family": family, "nodes": nodes, "factor": factor,
             "accuracy": accuracy}
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"asked_seed": "Int64", "factor": "Float64"})


def long_chains(mix, positions, seed, values):
    return {(mix, positions, seed, "sequential", n, None): v for n, v in zip((11, 13, 15), values, strict=True)}


def test_bars_are_means_over_sets_then_seeds():
    cells = planted(
        long_chains("TS2", "none", 0, (0.9, 0.8, 0.7))
        | long_chains("TS2", "none", 1, (0.8, 0.7, 0.6))
        | long_chains("TS2", "sinusoidal", 1, (0.6, 0.6, 0.6))
        | long_chains("TS2", "learned", 0, (0.9, 0.9, 0.9))
        | {("TS2", "none", 0, "branching", 8, 1.4): 0.66, ("TS2", "none", 0, "branching", 8, 2.0): 0.1}
    )
    bars = judge(cells, demanded=True).set_index("bar")
    assert [bars.index.name, *bars] == list(BARS)
    mean = bars.loc["TS2 none, sequential 11, 13, 15"]
    assert mean["measured"] == pytest.approx(0.75)
    assert mean["values"] == pytest.approx([0.8, 0.7])
    assert (mean["seeds"], mean["seeds_holding"], mean["asked_seeds"]) == (2, 1, [0, 1])
    gap = bars.loc["TS2 none - sinusoidal, sequential 11, 13, 15"]
    assert gap["measured"] == pytest.approx(0.15)
    assert gap["values"] == pytest.approx([0.1])
    assert gap["holds"]
    lost = bars.loc["TS2 none - learned, sequential 11, 13, 15"]
    assert lost["measured"] == pytest.approx(-0.15)
    assert not lost["holds"]
    assert bars.loc["TS2 none, branching 1.4 of 8", "measured"] == 0.66
    unknown = bars.loc["OCC none, reversal 6"]
    assert math.isnan(unknown["measured"])
    assert pd.isna(unknown["holds"])


def test_a_training_that_does_not_count_changes_nothing():
    good = planted(long_chains("TS2", "none", 0, (0.9, 0.9, 0.9)))
    bad = planted(long_chains("TS2", "none", 0, (0.1, 0.1, 0.1)), counted=False)
    bars = judge(pd.concat([bad, good], ignore_index=True), demanded=False).set_index("bar")
    assert bars.loc["TS2 none, sequential 11, 13, 15", "measured"] == pytest.approx(0.9)


def test_a_seed_without_all_sets_has_no_value():
    cells = planted(dict(list(long_chains("TS2", "none", 0, (0.9, 0.9, 0.9)).items())[:2]))
    assert judge(cells, demanded=True)["measured"].isna().all()


@pytest.mark.parametrize(("value", "holds"), [(0.35, True), (0.36, False)])
def test_some_bars_are_upper_ones(value, holds):
    cells = planted({("OCC", "none", 0, "reversal", 6, None): value, ("TS2", "none", 0, "reversal", 6, None): 0.85})
    bars = judge(cells, demanded=True).set_index("bar")
    assert bars.loc["OCC none, reversal 6", "holds"] == holds
    assert bars.loc["TS2 none - OCC none, reversal 6", "holds"] == holds
    shortcut = judge(planted({("", "mention order", None, "reversal", 6, None): 0.05}), demanded=True)
    assert shortcut.set_index("bar").loc["mention order, reversal 6", "holds"]


def test_bars_ask_sets_that_there_are():
    known = set(cells())
    for bar in ALL_BARS:
        for family, nodes, factor in (*bar.of.places, *(bar.less.places if bar.less else ())):
            assert Cell(family, nodes, factor) in known


def test_published_numbers_say_where_they_are_from():
    table = published_table()
    assert len(table) == len(published())
    assert set(table["source"]) == set(SOURCES)
    assert (table["value"].isna() == (table["source"] == MISSING)).all()
    assert table["value"].dropna().between(0, 1).all()
    known = table[(table["task"] == TRANSITIVITY) & (table["source"] != MISSING)]
    assert not known.duplicated(["model", "family", "nodes", "factor"]).any()
    for family, nodes, factor in known[["family", "nodes", "factor"]].itertuples(index=False):
        Cell(family, int(nodes), None if pd.isna(factor) else float(factor))


def test_some_published_numbers():
    table = published_table().set_index(["model", "family", "nodes"])["value"]
    assert table["TS2 NoPE", "reversal", 6].item() == 0.94
    assert table["TS2 LPE", "sequential", 15].item() == 0.50
    assert table["TS2 NoPE", "branching", 12].tolist() == [0.70, 0.64]
    assert table["Llama-3-8B-Instruct + LoRA", "flipped", 7].item() == 0.952
    correlation = published_table().query("model == '67M'").set_index("metric")["value"]
    precision, recall = correlation["precision"], correlation["recall"]
    assert correlation["F1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=0.01)
