"""The benchmark runs at small size, on the path that a GPU would take, and ours equals every baseline."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent / "bench" / "localize.py"


def test_the_benchmark_agrees_with_its_baselines(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    options = ["--shape", "tiny", "--prompts", "6", "--operands", "0..40", "--repeats", "2", "--out", str(out)]
    done = subprocess.run([sys.executable, str(BENCH), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(out.read_text())["localize_tiny"]
    assert set(rows) == {"ours", "hooks", "reference"}
    assert all(row["difference"] < 1e-5 and row["gflop"] > 0 and row["median"] > 0 for row in rows.values())
    assert rows["reference"]["gflop"] > 2.5 * rows["hooks"]["gflop"] > 2.5 * rows["ours"]["gflop"]
