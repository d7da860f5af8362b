"""`arithcirc train`: options reach the recipe, help imports nothing heavy, a run works end to end."""

import json
import subprocess
import sys

import cyclopts
import pytest
from training.tiny import TINY

from arithcirc.cli.train import train
from arithcirc.errors import RequestError
from arithcirc.training.recipe import load_recipe


@pytest.fixture
def app():
    command = cyclopts.App(result_action="return_value")
    command.default(train)
    return command


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY.to_json()), encoding="utf-8")
    return path


def test_a_plan_is_told_and_nothing_is_written(app, recipe_file, tmp_path, capsys):
    app(["--recipe", str(recipe_file), "--out", str(tmp_path / "run"), "--plan-only", "--threads", "1"])
    assert "24 steps" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_options_change_the_recipe_and_the_run_is_told(app, recipe_file, tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--operands", "0..9", "--steps", "3", "--seed", "4", "--optimizer", "adamw", "--precision", "fp32"]
    app(["--recipe", str(recipe_file), "--out", str(out), "--threads", "1", "--device", "cpu", *options])
    recipe = load_recipe(out)
    assert (str(recipe.operands), recipe.steps, recipe.seed, recipe.optimizer) == ("0..9", 3, 4, "adamw")
    text = capsys.readouterr().out
    assert "held-out accuracy" in text
    assert "done in" in text


def test_operands_above_the_limit_are_refused(app, recipe_file):
    with pytest.raises(RequestError, match="exceed limit 40"):
        app(["--recipe", str(recipe_file), "--operands", "0..99"])


def test_help_imports_nothing_heavy():
    code = "import sys, arithcirc.cli.train; sys.exit(bool({'torch', 'transformers', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
