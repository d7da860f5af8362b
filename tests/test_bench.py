"""The benchmarks run small, on the path that a GPU would take, and ours equals every baseline."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arithcirc.pipeline.stages import STAGES

FOLDER = Path(__file__).resolve().parent / "bench"
QUICK = {
    "localize.py": ["--shape", "tiny", "--prompts", "6", "--operands", "0..40", "--repeats", "2"],
    "neurons.py": ["--quick", "--sample", "4"],
    "heuristics.py": ["--quick", "--repeats", "2"],
    "memory.py": ["--quick", "--models", "llama"],
}
OTHERS = {"somebody": {"median": 1.0}, "neurons_vs_gone": {}, "label_gone": {}}
"""Rows that are in the file before: one that nobody owns, two of earlier versions of what is run."""
ONE_AFTER_ANOTHER = """
import json, runpy, sys
for script, options in json.loads(sys.argv[1]):
    sys.argv = [script, *options]
    runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `make bench` would write, from small runs of all benchmarks in one process."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    out.write_text(json.dumps(OTHERS))
    scripts = [(str(FOLDER / script), [*options, "--out", str(out)]) for script, options in QUICK.items()]
    command = [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\n{ONE_AFTER_ANOTHER}"]
    done = subprocess.run([*command, json.dumps(scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text())


def owned(rows: dict[str, Any], *owner: str) -> dict[str, Any]:
    return {name: row for name, row in rows.items() if name.startswith(owner)}


@pytest.mark.slow
def test_benchmarks_replace_their_own_rows_and_no_other(rows: dict[str, Any]) -> None:
    assert rows["somebody"] == OTHERS["somebody"]
    assert set(rows) - set(owned(rows, "localize", "neurons", "classify", "label", "memory")) == {"somebody"}
    assert not set(rows) & {"neurons_vs_gone", "label_gone"}


@pytest.mark.slow
def test_the_benchmark_agrees_with_its_baselines(rows: dict[str, Any]) -> None:
    found = rows["localize_tiny"]
    assert set(found) == {"ours", "hooks", "reference"}
    assert all(row["difference"] < 1e-5 and row["gflop"] > 0 and row["median"] > 0 for row in found.values())
    assert found["reference"]["gflop"] > 2.5 * found["hooks"]["gflop"] > 2.5 * found["ours"]["gflop"]


@pytest.mark.slow
def test_the_benchmark_of_neurons_agrees_with_its_loops(rows: dict[str, Any]) -> None:
    found = owned(rows, "neurons")
    layers = {f"neurons_vs_reference_layer_{i}" for i in range(3)}
    names = {"neurons", "neurons_vs_reference", "neurons_vs_reference_changed", "neurons_vs_plain", *layers}
    assert set(found) == names
    assert all(row["difference"] < 1e-5 and row["median"] > 0 for row in found.values())
    assert found["neurons_vs_reference_layer_2"]["flop_ratio"] > found["neurons_vs_reference_layer_1"]["flop_ratio"] > 5
    changed, everything = (found[f"neurons_vs_reference{x}"]["gflop"] for x in ("_changed", ""))
    assert changed * 3 == pytest.approx(everything * 2), "a parallel first MLP reads `=` alone: nothing changes there"
    assert found["neurons_vs_reference_layer_0"]["flop_ratio"] > 1000


@pytest.mark.slow
def test_the_benchmark_of_matching_agrees_with_its_loop(rows: dict[str, Any]) -> None:
    found = owned(rows, "classify", "label")
    assert set(found) == {"classify_vs_reference", "classify_large", "label_large"}
    loop = found["classify_vs_reference"]
    assert loop["difference"] < 1e-12
    assert [loop[n] for n in ("neurons", "heuristics", "prompts")] == [4, 30, 400]
    assert [found["classify_large"][n] for n in ("neurons", "heuristics", "prompts")] == [8, 30, 210]
    assert all(row["median"] > 0 for row in found.values())
    assert found["label_large"]["tests"] > 0


@pytest.mark.slow
def test_the_benchmark_of_memory_measures_every_stage(rows: dict[str, Any]) -> None:
    found = owned(rows, "memory")["memory_llama"]
    assert set(found["stages"]) == {stage.name for stage in STAGES}
    assert found["ratio"] == pytest.approx(1, abs=0.15)
