"""Scores counted from tables of values are those counted from prompts, to the last bit."""

import numpy as np
import pytest

from arithcirc.arithmetic.operators import DIV, MUL, SUB, OperandRange, Operator, fitting_prompts
from arithcirc.heuristics import scoring
from arithcirc.heuristics.families import Heuristic, Range
from arithcirc.heuristics.matching import ENDS, members_of, score
from arithcirc.heuristics.presets import preset
from arithcirc.heuristics.ranks import rank_maps
from arithcirc.heuristics.scoring import score_all

OPERANDS = OperandRange(0, 40)


def maps(n_prompts: int) -> np.ndarray:
    """Noise, a constant, a few levels, and one map that is not a number anywhere."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((5, n_prompts))
    noise[1], noise[2], noise[3] = 0, rng.integers(0, 3, n_prompts), np.nan
    return noise.astype(np.float32)


@pytest.mark.parametrize("operator", [SUB, MUL, DIV], ids=str)
@pytest.mark.parametrize("fewest", [0, 10**9], ids=["tables", "prompts"])
def test_both_ways_count_the_same(operator: Operator, fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "WORTH_TABLES", fewest)
    prompts = fitting_prompts(operator, OPERANDS, 60)
    nowhere: list[Heuristic] = [Range("op1", 900, 950), Range("result", 900, 950)]
    heuristics = [*nowhere, *preset("paper", operator, OPERANDS, 60)]
    ranks = rank_maps(maps(len(prompts)))
    plain, found = score(ranks, members_of(heuristics, prompts)), score_all(ranks, heuristics, prompts)
    np.testing.assert_array_equal(found.size, plain.size)
    assert found.size[:2].tolist() == [0, 0]
    for end in ENDS:
        np.testing.assert_array_equal(found.ends[end], plain.ends[end])
        assert not found.ends[end][:, :2].any()
    one = score_all(ranks, heuristics, prompts, ends=("bottom",))
    assert set(one.ends) == {"bottom"}
    np.testing.assert_array_equal(one.ends["bottom"], plain.ends["bottom"])


@pytest.mark.parametrize("fewest", [0, 10**9], ids=["tables", "prompts"])
def test_no_heuristics_have_no_scores(fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "WORTH_TABLES", fewest)
    prompts = fitting_prompts(SUB, OPERANDS, 60)
    assert score_all(rank_maps(maps(len(prompts))), [], prompts).ends["top"].shape == (5, 0)
