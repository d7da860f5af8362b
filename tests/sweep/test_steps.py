"""The numbers of each step against the planted history."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sweep.synthetic_sweep import FAILED_STEP, OPERANDS, STEPS, answers, important, present, synthetic_sweep
from sweep.synthetic_tables import HEADS, circuit_faithfulness

from arithcirc.heuristics.names import parse_heuristic
from arithcirc.models.zoo import shipped_folder
from arithcirc.sweep.collect import collect
from arithcirc.sweep.history import PROMPT_SETS
from arithcirc.sweep.steps import recipe_of
from arithcirc.training.recipe import PRESETS, load_recipe


@pytest.fixture(scope="module")
def sweep(planted_sweep):
    return planted_sweep


@pytest.fixture(scope="module")
def table(sweep):
    return sweep.table("steps").set_index(["operator", "step", "prompts"]).sort_index()


@pytest.mark.parametrize("place", range(1, len(STEPS)))
def test_a_step_says_what_was_planted(table, place):
    for prompts in PROMPT_SETS:
        row = table.loc["+", STEPS[place], prompts]
        said = answers("+", place)
        assert (row["n"], row["correct"]) == (len(said), said["correct"].sum())
        assert row["accuracy"] == pytest.approx(said["correct"].mean())
        assert row["given_share"] == pytest.approx((said["given"] == row["given_most"]).mean())
        assert row["base_rate"] == pytest.approx(50 / 2500)  # 0..49 + 0..49: 49 comes out most often
        assert (row["heads"], row["top"], row["first_layer"], row["important"]) == (HEADS[place], 12, 2, 24)
        assert row["faithfulness"] == pytest.approx(circuit_faithfulness(place, HEADS[place]))
        here = important(place, shared=prompts == "shared" and place < len(STEPS) - 1)
        pairs = {pair for pair in present(place) if pair[:2] in here}
        assert row["pairs_significant"] == len(pairs)
        assert row["labelled_significant"] == len({pair[:2] for pair in pairs})
        assert row["pairs_matched"] == len(pairs) + sum(n % 2 == 0 for _, n in here)


def test_random_circuits_are_those_of_the_nearest_size(table):
    assert table.loc["+", 64, "own"]["random_faithfulness"] == pytest.approx(np.mean([0.04, 0.05, 0.06]))
    assert table.loc["+", 512, "own"]["random_faithfulness"] == pytest.approx(np.mean([0.08, 0.09, 0.10]))


def test_steps_without_numbers_say_why(table):
    failed, nothing = table.loc["-", FAILED_STEP, "own"], table.loc["+", 0, "own"]
    assert (failed["status"], nothing["status"]) == ("failed", "no circuit")
    assert "cut short" in failed["note"]
    assert "no prompt is answered" in nothing["note"]
    assert nothing["accuracy"] == 0
    assert "prompts tried" in nothing["note"]
    assert pd.isna(failed["accuracy"])
    assert nothing[["heads", "pairs_significant"]].isna().all()


def test_a_task_without_a_run_on_shared_prompts_says_so(tmp_path):
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64, 128))
    shared = made.files("toy-arith", "step64", "+").shared
    for file in shared.iterdir():
        file.unlink()
    collect(made)
    table = made.table("steps").set_index(["step", "prompts"])
    assert "too few" in table.loc[(64, "shared"), "note"]
    assert pd.isna(table.loc[(64, "own"), "note"])
    assert pd.isna(table.loc[(64, "shared"), "important"])
    assert made.table("overlap").query("step == 64 and prompts == 'shared'").empty


def test_families_count_neurons_and_pairs(sweep):
    table = sweep.table("families").query("operator == '+' and labels == 'significant'")
    for place, step in enumerate(STEPS):
        mine = table[(table["step"] == step) & (table["prompts"] == "own")].set_index("family")
        here = important(place)
        pairs = [(*pair, parse_heuristic(pair[2]).family) for pair in present(place) if pair[:2] in here]
        for family, row in mine.iterrows():
            assert row["pairs"] == sum(pair[3] == family for pair in pairs)
            assert row["neurons"] == len({pair[:2] for pair in pairs if pair[3] == family})
        assert {pair[3] for pair in pairs} <= set(mine.index)


def test_the_recipe_of_a_local_model_splits_its_accuracy(tmp_path):
    folder = tmp_path / "model"
    (folder / "step64").mkdir(parents=True)
    recipe = replace(PRESETS["neox-arith"], operands=OPERANDS)
    (folder / "recipe.json").write_text(json.dumps(recipe.to_json()))
    assert recipe_of(str(folder)) == recipe_of(str(folder / "step64")) == recipe
    assert recipe_of("neox-arith") == load_recipe(shipped_folder())
    assert recipe_of("EleutherAI/pythia-70m") is None
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64, 128))
    made.manifest["models"][0]["model"] = str(folder)
    collect(made)
    row = made.table("steps").query("step == 128 and prompts == 'own'").iloc[0]
    seen = row["n"] - row["n_held_out"]
    both = row["accuracy_train"] * seen + row["accuracy_held_out"] * row["n_held_out"]
    assert both == pytest.approx(row["correct"])
    assert row["n_held_out"] == 250
    (folder / "recipe.json").write_text("{")
    assert recipe_of(str(folder)) is None


def test_answers_are_used_where_there_is_no_circuit(tmp_path):
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64, 128, 256))
    said = answers("+", 0).assign(given=7)
    both = pd.concat([said, said.assign(operator="-", correct=True)])  # another operator's do not count
    both.to_parquet(made.files("toy-arith", "step0", "+").own / "answers.parquet", index=False)
    collect(made)
    row = made.table("steps").query("step == 0 and prompts == 'own'").iloc[0]
    assert (row["n"], row["correct"], row["given_most"], row["given_share"]) == (2500, 0, 7, 1)
    assert "prompts tried" not in row["note"]
    born = made.table("jumps").query("labels == 'significant' and birth == 128").groupby("offset")["step"].unique()
    assert {offset: steps.tolist() for offset, steps in born.items()} == {-1: [64], 0: [128], 1: [256]}
