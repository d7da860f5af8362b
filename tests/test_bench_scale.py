"""The jobs of real size run small: counts agree with what runs, the plain loop agrees with the engine, runs resume."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parent / "bench"
SMALL = ["--prompts", "5", "--neuron-prompts", "3", "--high", "15", "--neurons", "12", "--batch-size", "64"]
CPU = ["--device", "cpu", "--dtype", "float32", "--sample", "9", *SMALL]
PREDICTED = ["--prompts", "5", "--high", "15", "--batch-size", "64"]
SCRIPT = """
import contextlib, io, json, runpy, sys
folder, out, small, predicted = json.loads(sys.argv[1])
sys.path.insert(0, folder)

def run(script, *options):
    sys.argv = [script, *options]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        runpy.run_path(f"{folder}/{script}", run_name="__main__")
    return said.getvalue()

def rows(name):
    with open(f"{out}/{name}.json") as file:
        return json.load(file)

found = {}
run("scale.py", "--shape", "tiny", *small, "--out", f"{out}/scale.json")
found["rows"] = rows("scale")
with open(f"{out}/scale.json", "w") as file:
    json.dump({k: v for k, v in found["rows"].items() if "maps" not in k}, file)
found["said"] = run("scale.py", "--shape", "tiny", *small, "--jobs", "localize", "maps", "--out", f"{out}/scale.json")
found["resumed"] = rows("scale")
run("predict.py", "--shape", "tiny", *predicted, "--out", f"{out}/predicted.json")
found["predicted"] = rows("predicted")

from jobs import JOBS, Sizes, subject
from arithcirc.measure.cost import counting
found["neurons"] = {}
for shape in ("tiny", "tiny-llama"):
    real, meta = (subject(shape, Sizes(5, 3, 15, 12, 256), device=d, dtype="float32") for d in ("cpu", "meta"))
    with counting() as whole:
        JOBS["neurons"].run(real)
    pieces = JOBS["neurons"].count(meta)
    found["neurons"][shape] = [[c.flops, c.bytes, c.launches] for c in (whole.cost, pieces)]
print(json.dumps(found))
"""
"""Everything in one process: importing torch takes longer than the work."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the scripts wrote and said."""
    given = json.dumps([str(FOLDER), str(tmp_path_factory.mktemp("scale")), CPU, PREDICTED])
    done = subprocess.run([sys.executable, "-c", SCRIPT, given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def rows(found: dict[str, Any]) -> dict[str, Any]:
    return found["rows"]


@pytest.mark.slow
def test_every_job_runs_and_is_compared_with_its_prediction(rows: dict[str, Any]) -> None:
    assert set(rows) == {f"scale tiny cpu {name}" for name in ("localize", "neurons", "maps", "labels")}
    for name in ("localize", "neurons", "maps"):
        row = rows[f"scale tiny cpu {name}"]
        assert row["job_seconds"] == pytest.approx(row["seconds"] * row["times"])
        assert row["share_of_peak"] == pytest.approx(
            row["tflop"] * 1e12 / row["seconds"] / row["measured_rates"]["flops"]
        )
        assert row["predicted_seconds"] == pytest.approx(sum(row["predicted_bound_by"].values()))
        assert row["command"].startswith("python tests/bench/scale.py --shape tiny")


@pytest.mark.slow
def test_the_plain_loop_finds_the_same_effects(rows: dict[str, Any]) -> None:
    for name, patches in (("localize", 60), ("neurons", 3 * 96)):
        plain = rows[f"scale tiny cpu {name}"]["plain_loop"]
        assert plain["difference"] < 1e-5
        assert (plain["patches"], plain["sampled"]) == (patches, 9)
        assert plain["extrapolated_seconds"] == pytest.approx(plain["sample_seconds"] * patches / 9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_script_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [str(FOLDER / "scale.py"), "--shape", "tiny", "--out", str(tmp_path / "scale.json")]
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", command)
    modules = set(sys.modules)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(command[0], run_name="__main__")
    for name in set(sys.modules) - modules:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            monkeypatch.delitem(sys.modules, name)
    said = str(ended.value.code)  # a text: the interpreter writes it to stderr and ends with 1
    assert said.startswith("error: cuda was asked for")
    assert "make bench-count" in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_what_is_in_the_file_is_not_run_again(found: dict[str, Any], rows: dict[str, Any]) -> None:
    assert set(found["resumed"]) == set(rows)
    assert "localize" in found["said"].split("scale tiny cpu")[0]
    for name, row in rows.items():
        assert (found["resumed"][name] == row) == ("maps" not in name), name


@pytest.mark.slow
def test_counting_single_tiles_is_counting_all_neurons(found: dict[str, Any]) -> None:
    for whole, pieces in found["neurons"].values():
        assert pieces[0] == whole[0] > 0
        assert pieces[1] == pytest.approx(whole[1], rel=0.05), "a model with values also looks which of them change"
        assert pieces[2] == pytest.approx(whole[2], rel=0.15)


@pytest.mark.slow
def test_predictions_say_what_the_plain_loop_costs(found: dict[str, Any]) -> None:
    predicted = found["predicted"]
    assert set(predicted) == {f"tiny {name}" for name in ("localize", "neurons", "maps")}
    row = predicted["tiny localize"]
    assert row["job"]["tflop"] == pytest.approx(4 * row["work"]["tflop"])
    assert row["job"]["seconds_at_half_rates"] > row["job"]["seconds"] > 0
    assert row["work"]["kernels"] == sum(p["kernels"] for p in row["by_position"].values())
    assert row["plain_loop"]["ratio_flops"] > 1
    assert row["by_position"]["equals"]["tflop"] < row["by_position"]["op1"]["tflop"]
    assert "plain_loop" not in predicted["tiny maps"]
