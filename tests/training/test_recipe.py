"""Recipes: JSON round trip, Pythia's checkpoint steps, and one clear line for each kind of nonsense."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.errors import ArithcircError, RequestError
from arithcirc.training.fields import difference
from arithcirc.training.recipe import PRESETS, Recipe, load_recipe


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_recipe_survives_json(name, tmp_path):
    recipe = PRESETS[name]
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_json()), encoding="utf-8")
    assert load_recipe(path) == load_recipe(tmp_path) == load_recipe(name) == recipe


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Recipe().steps = 3


def test_checkpoint_steps_are_pythias():
    steps = Recipe(steps=2500).checkpoint_steps()
    assert steps == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 2500)
    assert Recipe(steps=3, warmup_steps=0).checkpoint_steps() == (0, 1, 2, 3)


def test_kept_steps_always_have_the_last():
    assert Recipe(steps=600, keep=(0, 64)).kept_steps() == (0, 64, 600)
    assert Recipe(steps=600).kept_steps() == Recipe(steps=600).checkpoint_steps()


def test_shortened_drops_what_lies_beyond():
    short = PRESETS["neox-arith"].shortened(300)
    assert (short.steps, short.extra_steps, short.keep) == (300, (), (0, 64, 128, 256))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"heads": 3}, "heads"),
        ({"held_out_share": 1.0}, "held_out_share"),
        ({"optimizer": "sgd"}, "muon, adamw"),
        ({"precision": "int8"}, "bf16, fp32"),
        ({"operands": OperandRange(0, 600)}, "exceed limit 530"),
        ({"keep": (3,)}, "extra_steps"),
        ({"warmup_steps": 5000}, "at most steps"),
        ({"learning_rate": float("nan")}, "positive"),
        ({"positions": 4}, "at least 5"),
    ],
)
def test_nonsense_is_refused_in_one_line(changes, word):
    with pytest.raises(RequestError, match=word) as caught:
        replace(Recipe(), **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"stepz": 3}, "stepz"),
        ({"steps": "many"}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"operands": "all"}, "LOW..HIGH"),
        ({"operands": 300}, "operands"),
        ({"mix": {"pow": 1}}, "mix"),
        ({"keep": [True]}, "keep"),
    ],
)
def test_bad_json_names_the_field(data, word):
    with pytest.raises(ArithcircError, match=word):
        Recipe.from_json(data)


def test_unreadable_sources(tmp_path):
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    for source in ("nowhere", tmp_path, tmp_path / "broken.json", tmp_path / "list.json"):
        with pytest.raises(RequestError):
            load_recipe(source)


def test_difference_names_the_first_field():
    assert difference(Recipe(), Recipe()) is None
    assert difference(Recipe(), Recipe(seed=3)) == "seed: 0 here, 3 there"
