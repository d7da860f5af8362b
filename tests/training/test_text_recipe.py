"""Recipes of text models: JSON there and back, bad fields by name, checkpoints."""

import json
from dataclasses import replace

import pytest

from arithcirc.errors import RequestError
from arithcirc.training.fields import difference
from arithcirc.training.text_recipe import TEXT_PRESETS, TextRecipe, load_text_recipe


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_a_preset_survives_json(name, tmp_path):
    recipe = TEXT_PRESETS[name]
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_json()), encoding="utf-8")
    assert load_text_recipe(path) == load_text_recipe(tmp_path) == load_text_recipe(name) == recipe
    assert recipe.name == name


def test_checkpoints_are_dense_at_first_and_regular_later():
    recipe = replace(TextRecipe(), steps=500, measure_every=150, extra_steps=(7,))
    assert recipe.checkpoint_steps() == (0, 7, 16, 32, 64, 128, 150, 256, 300, 450, 500)
    assert recipe.kept_steps() == recipe.checkpoint_steps()
    assert replace(recipe, keep=(0, 64)).kept_steps() == (0, 64, 500)
    assert recipe.shortened(5).checkpoint_steps() == (0, 5)


def test_another_corpus_is_another_recipe():
    recipe = TextRecipe()
    assert difference(recipe, recipe) is None
    assert "documents_sha256: ab here" in str(difference(replace(recipe, documents_sha256="ab"), recipe))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stepz": 3}, "no field 'stepz'"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": True}, "steps cannot be True"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"max_tokens": 1}, "max_tokens is 1"),
        ({"max_tokens": 512}, "positions is 256"),
        ({"heads": 5}, "divisor of width"),
        ({"warmup_steps": 9999}, "at most steps"),
        ({"keep": [3]}, "checkpoint steps"),
        ({"operands": "0..9"}, "no field 'operands'"),
    ],
)
def test_bad_fields_are_named(values, said):
    with pytest.raises(RequestError, match=said):
        TextRecipe.from_json(values)


def test_recipes_that_cannot_be_read(tmp_path):
    with pytest.raises(RequestError, match="no recipe"):
        load_text_recipe("nothing")
    for text in ("[1]", "{"):
        (tmp_path / "recipe.json").write_text(text, encoding="utf-8")
        with pytest.raises(RequestError, match=r"recipe.*json"):
            load_text_recipe(tmp_path)
