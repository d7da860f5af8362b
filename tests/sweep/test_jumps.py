"""Jumps recovered exactly where they are planted, and none where there are none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sweep.synthetic_sweep import JUMP, JUMPERS, OPERANDS, STEPS, synthetic_sweep

from arithcirc.arithmetic.operators import legal_prompts, operator
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.sweep.history import ended_tasks, histories
from arithcirc.sweep.jumps import ALL, FEWEST, WIDTH, Answers, answers_over, contrast, jumps
from arithcirc.training.recipe import PRESETS
from arithcirc.training.split import held_out_mask

PLACES = np.arange(4)


def _answers(symbol, right, unseen=None):
    return Answers(PLACES, legal_prompts(operator(symbol), OPERANDS, 530), right, unseen)


def _prompts(symbol):
    return legal_prompts(operator(symbol), OPERANDS, 530)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("+", "op1 in 30..40"),
        ("+", "result = 3 mod 10"),
        ("-", "op2 = 2 mod 5"),
        ("*", "both = 1 mod 3"),
        ("-", "op1 = op2"),
    ],
)
def test_what_only_the_heuristic_gains_is_the_difference(symbol, name):
    prompts = _prompts(symbol)
    mask = parse_heuristic(name).mask(prompts)
    right = np.repeat((prompts.op1 + prompts.op2)[:, None] % 3 == 0, 4, axis=1)
    right[:, 2:] |= mask[:, None]
    found = contrast(_answers(symbol, right), name)
    assert found.difference[[0, 2]] == pytest.approx([0, 0])
    gained = 1 - found.inside[1]  # inside, all that was wrong is right at place 2
    assert found.difference[1] == pytest.approx(gained)
    assert found.outside == pytest.approx(np.repeat(found.outside[0], 4))
    assert 0 < found.n_in <= mask.sum()
    assert found.n_in == pytest.approx(found.support * mask.sum())


def test_what_depends_on_the_stratum_alone_is_no_difference():
    """Accuracy that rises with the bins of op2 and the result says nothing about op1, however the mask lies."""
    prompts = _prompts("+")
    bins = prompts.op2 // WIDTH + prompts.answer // WIDTH
    right = np.stack([bins < limit for limit in (1, 3, 6, 9)], axis=1)
    found = contrast(_answers("+", right), "op1 in 20..30")
    assert found.difference == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.ptp(found.inside) > 0.1


def test_held_out_prompts_are_compared_with_held_out_ones():
    prompts = _prompts("+")
    unseen = prompts.op1 % 7 == 0
    right = np.repeat(~unseen[:, None], 4, axis=1)
    right[:, 2:] = True
    name = "op1 = 0 mod 7"  # inside, all are held out: no training prompt outside may stand against them
    assert contrast(_answers("+", right, unseen), name) is None
    found = contrast(_answers("+", right), name)
    assert found.difference[1] == pytest.approx(1)


def test_rates_are_weighted_by_the_prompts_inside():
    rng = np.random.default_rng(0)
    prompts = _prompts("-")
    right = rng.random((len(prompts), 4)) < 0.5
    name = "op1 in 10..40"
    mask = parse_heuristic(name).mask(prompts)
    frame = pd.DataFrame({"a": prompts.op2 // WIDTH, "b": prompts.answer // WIDTH, "in": mask, "right": right[:, 3]})
    groups = [g for _, g in frame.groupby(["a", "b"]) if 0 < g["in"].sum() < len(g)]
    n = np.array([g["in"].sum() for g in groups])
    inside = np.array([g.loc[g["in"], "right"].mean() for g in groups])
    outside = np.array([g.loc[~g["in"], "right"].mean() for g in groups])
    found = contrast(_answers("-", right), name)
    assert found.n_in == n.sum()
    assert found.inside[3] == pytest.approx(np.average(inside, weights=n))
    assert found.outside[3] == pytest.approx(np.average(outside, weights=n))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    sweep = synthetic_sweep(tmp_path_factory.mktemp("sweeps") / "planted", operators="+")
    return jumps(next(histories(sweep, ended_tasks(sweep))))


@pytest.mark.parametrize("name", JUMPERS)
def test_planted_jumps_are_found_at_their_birth_and_nowhere_else(planted, name):
    rows = planted[(planted["heuristic"] == name) & (planted["labels"] == "significant")].set_index("offset")
    assert rows.loc[0, "birth"] == rows.loc[0, "step"] == STEPS[JUMPERS[name]]
    assert rows.loc[0, "low"] < rows.loc[0, "difference"] < rows.loc[0, "high"]
    assert rows.loc[0, "difference"] == pytest.approx(JUMP, abs=0.06)
    assert (rows.drop(index=0)["difference"].abs() < 0.06).all()
    assert rows.loc[0, "p"] == pytest.approx(1 / 5)  # the largest of the five steps after the first labelled one
    assert rows.loc[0, "change_in"] - rows.loc[0, "change_out"] == pytest.approx(rows.loc[0, "difference"])


def test_heuristics_of_the_first_labelled_step_have_no_step_before(planted):
    assert (planted["birth"].dropna() > STEPS[1]).all()


def test_the_mean_is_over_the_heuristics_with_enough_prompts(planted):
    mine = planted[(planted["labels"] == "significant") & (planted["offset"] == 0)].set_index("heuristic")
    alone = mine.drop(index=ALL)
    alone = alone[alone["n_in"] >= FEWEST]
    assert mine.loc[ALL, "heuristics"] == len(alone)
    assert mine.loc[ALL, "difference"] == pytest.approx(alone["difference"].mean())


def test_random_labels_do_not_jump(tmp_path):
    """Births of labels that say nothing: over 40 seeds the mean's spread is .0035 and p < .05 in 8 of 100."""
    values, ps = [], []
    for seed in range(4):
        sweep = synthetic_sweep(tmp_path / str(seed), operators="+", random=True, seed=seed)
        table = jumps(next(histories(sweep, ended_tasks(sweep))))
        row = table[(table["heuristic"] == ALL) & (table["offset"] == 0) & (table["labels"] == "significant")]
        values += row["difference"].tolist()
        ps += row["p"].tolist()
    assert len(values) == 4
    assert abs(np.mean(values)) < 4 * 0.0035 / 2
    assert sum(p < 0.05 for p in ps) < 3


def test_without_answers_at_two_steps_there_are_no_rows(tmp_path):
    sweep = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64))
    assert jumps(next(histories(sweep, ended_tasks(sweep)))).empty


def test_a_recipe_gives_the_split(tmp_path):
    sweep = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64, 128, 256))
    recipe = replace(PRESETS["neox-arith"], operands=OPERANDS)
    found = answers_over(next(histories(sweep, ended_tasks(sweep))), recipe)
    assert np.array_equal(found.unseen, held_out_mask(recipe, found.prompts))
    assert found.unseen.mean() == pytest.approx(recipe.held_out_share, abs=0.001)
    assert found.places.tolist() == [1, 2, 3]
