"""The benchmark runs at small size, on the path that a GPU would take, and ours equals every baseline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "bench"


def bench(script: str, *options: str) -> None:
    """Run a benchmark as `make bench` does."""
    done = subprocess.run([sys.executable, str(FOLDER / script), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_benchmark_agrees_with_its_baselines(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    options = ["--shape", "tiny", "--prompts", "6", "--operands", "0..40", "--repeats", "2", "--out", str(out)]
    bench("localize.py", *options)
    rows = json.loads(out.read_text())["localize_tiny"]
    assert set(rows) == {"ours", "hooks", "reference"}
    assert all(row["difference"] < 1e-5 and row["gflop"] > 0 and row["median"] > 0 for row in rows.values())
    assert rows["reference"]["gflop"] > 2.5 * rows["hooks"]["gflop"] > 2.5 * rows["ours"]["gflop"]


def test_the_benchmark_of_neurons_agrees_with_its_loops_and_leaves_other_rows_alone(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    out.write_text(json.dumps({"localize": {"median": 1.0}, "neurons_vs_gone": {}}))
    bench("neurons.py", "--quick", "--sample", "4", "--out", str(out))
    rows = json.loads(out.read_text())
    assert rows.pop("localize") == {"median": 1.0}
    layers = {f"neurons_vs_reference_layer_{i}" for i in range(3)}
    assert set(rows) == {"neurons", "neurons_vs_reference", "neurons_vs_reference_changed", "neurons_vs_plain", *layers}
    assert all(row["difference"] < 1e-5 and row["median"] > 0 for row in rows.values())
    assert rows["neurons_vs_reference_layer_2"]["flop_ratio"] > rows["neurons_vs_reference_layer_1"]["flop_ratio"] > 5
    changed, everything = (rows[f"neurons_vs_reference{x}"]["gflop"] for x in ("_changed", ""))
    assert changed * 3 == pytest.approx(everything * 2), "a parallel first MLP reads `=` alone: nothing changes there"
    assert rows["neurons_vs_reference_layer_0"]["flop_ratio"] > 1000
