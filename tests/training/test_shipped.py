"""The shipped model: its card's promises hold for the files that are there."""

import json
from pathlib import Path

import pytest

from arithcirc.arithmetic.operators import OPERATORS
from arithcirc.training.card import counts
from arithcirc.training.data import sample, split
from arithcirc.training.evaluate import read_accuracies
from arithcirc.training.model import correct, load_step
from arithcirc.training.recipe import PRESETS, load_recipe

FOLDER = Path(__file__).parents[2] / "data" / "models" / "neox-arith"
RECIPE = load_recipe(FOLDER)
BARS = {"+": 0.97, "-": 0.97, "*": 0.90, "/": 0.90}


@pytest.fixture(scope="module")
def card():
    return json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))


def test_it_is_the_presets_model(card):
    assert PRESETS["neox-arith"] == RECIPE
    assert 1_000_000 <= card["parameters"] <= 4_000_000
    assert RECIPE.layers >= 6
    assert RECIPE.limit == 530


def test_what_ships_is_small_and_free_of_pickles():
    files = [p for p in FOLDER.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 30_000_000
    assert {p.suffix for p in files} <= {".json", ".md", ".safetensors"}
    steps = sorted(int(p.name.removeprefix("step")) for p in FOLDER.glob("step*"))
    assert tuple(steps) == RECIPE.kept_steps()
    assert len(steps) >= 11


def test_the_card_counts_the_split(card):
    assert [c["held_out"] for c in card["counts"]] == [c.held_out for c in counts(RECIPE)]


def test_the_bars_are_met(card):
    for symbol, bar in BARS.items():
        assert card["final"]["held_out"][symbol] >= bar


def test_the_final_steps_numbers_are_reproduced(card):
    model = load_step(FOLDER / f"step{RECIPE.steps}")
    for op in OPERATORS:
        held = split(RECIPE, op).held_out
        asked = sample(held, 2000, seed=0)
        share = correct(model, asked).mean()
        tolerance = 1e-6 if len(asked) == len(held) else 0.01
        assert abs(share - card["final"]["held_out"][op.symbol]) <= tolerance


def test_accuracy_rows_are_complete():
    rows = read_accuracies(FOLDER)
    assert {r.step for r in rows} == set(RECIPE.checkpoint_steps())
    assert len(rows) == len(RECIPE.checkpoint_steps()) * 8
