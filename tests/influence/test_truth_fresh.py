"""The thresholds of influence, on two corpora that nothing was developed with (analyses/13_which_text).

What trainings found is kept in runs/which_text, so a stopped test goes on, and one that was done takes seconds; from
nothing it takes ten minutes of processor time a seed.
"""

import runpy
from pathlib import Path

import pandas as pd
import pytest

ANALYSIS = Path(__file__).resolve().parents[2] / "analyses" / "13_which_text" / "run.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[101, 202])
def told(request):
    analysis = runpy.run_path(str(ANALYSIS))
    return analysis["judge"](request.param, analysis["RUNS"] / str(request.param))


def by_method(table: pd.DataFrame, **given: str) -> pd.DataFrame:
    for column, value in given.items():
        table = table[table[column] == value]
    return table.set_index("method")


def test_documents_that_state_a_fact_known_are_found(told):
    right = by_method(told["retrieval_groups"], correct="right")["auc"]
    assert right["ekfac"] >= 0.90
    assert right["ekfac"] >= right["dot"] + 0.05
    assert told["recipe_differs_by"] <= 1e-3


def test_influence_foretells_training_on_half_the_documents(told):
    every = by_method(told["datamodels"], group="all")
    assert every.loc["ekfac", "lds"] >= 0.20
    assert every.loc["ekfac", "gain_low"] > 0
    assert abs(every.loc["random", "lds"]) < 0.1
    assert "bm25" in every.index


def test_removal_of_top_documents_costs_a_fact_more_than_that_of_random_ones(told):
    facts = told["removals: facts answered right"].set_index("arm")
    assert facts.loc["ekfac", ["below", "seeds"]].tolist() == [5, 5]
    assert {"dot", "bm25", "random", "nothing"} <= set(facts.index)
    assert told["removals: reasoning"].set_index("arm").loc["ekfac", "seeds"] == 5
