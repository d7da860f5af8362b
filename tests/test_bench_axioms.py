"""The script that trains the published recipe of axioms, on a tiny one: it stops in time, goes on, and counts."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from axioms.tiny_axiom import TINY_AXIOM

SCRIPT = Path(__file__).resolve().parent / "bench" / "axioms_paper.py"
RECIPE = replace(
    TINY_AXIOM, optimizer="adamw", examples=32, curriculum_steps=0, questions_per_graph=1, steps=12, measure_every=12,
    exam_questions=10, precision="bf16",
)  # fmt: skip


@pytest.fixture
def script(tmp_path, monkeypatch):
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE.to_json()), encoding="utf-8")
    monkeypatch.syspath_prepend(SCRIPT.parent)

    def call(*options):
        given = ["--preset", tmp_path / "recipe.json", "--json", tmp_path / "found.json", "--out", tmp_path / "runs"]
        given += ["--positions", "none", "--counted", tmp_path / "counted.json"]
        monkeypatch.setattr(sys, "argv", ["axioms_paper.py", *map(str, (*given, *options))])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        name = "counted" if "--count" in options else "found"
        return json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["axioms tiny-axiom none"]

    return call


def test_it_stops_in_time_and_the_same_command_goes_on(script, capsys):
    early = script("--device", "cpu", "--minutes", "0")
    assert not early["finished"]
    assert "stopped as asked at step 1 of 12" in " ".join(capsys.readouterr().out.split())
    assert [point["step"] for point in early["accuracy"]] == [0]
    row = script("--device", "cpu", "--minutes", "5")
    assert row["finished"]
    assert (row["step"], row["examples_seen"], row["epochs"]) == (12, 96, 3.0)
    assert [(point["step"], point["epoch"]) for point in row["accuracy"]] == [(0, 0.0), (8, 2.0), (12, 3.0)]
    assert {"sequential-04", "flipped-04", "reversal-04"} < set(row["accuracy"][-1])
    assert row["recipe"]["steps"] == RECIPE.steps


def test_it_counts_what_a_step_computes(script):
    row = script("--count", "--timed", "2")
    assert row["flop"] == pytest.approx(12 * row["flop_per_step"])
    # products with weights, forward and backward, and attention besides; embeddings and norms are no products
    assert row["flop_per_step"] == pytest.approx(row["flop_by_6_parameters_places"], rel=0.3)
    assert row["gpu_seconds_by_kernels"] > row["gpu_seconds_by_arithmetic"]
    assert len(row["cpu_step_seconds"]) == 2
    assert row["tokens_per_step"] <= row["places_per_step"]


def test_without_a_gpu_it_says_what_to_do(script):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="no usable GPU here: run this where there is one, or give --count") as caught:
        script()
    assert "\n" not in str(caught.value)
