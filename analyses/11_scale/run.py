"""The tables of README.md from the counts and calibrations in figures/11_scale; `--count` counts anew (ten minutes)."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "11_scale"


def predicted(rows: dict) -> pd.DataFrame:
    """Every job: what it does, how long that takes at least, and what the plain loop would do."""
    out = []
    for name, row in rows.items():
        job, plain, bound = row["job"], row.get("plain_loop", {}), row["job"]["bound_by"]
        out.append({
            "job": name, "PFLOP": job["tflop"] / 1e3, "TB": job["gigabytes"] / 1e3, "kernels": job["kernels"],
            "s": job["seconds"], "s, half rates": job["seconds_at_half_rates"], "bar": row["bar"],
            **{f"share {kind}": seconds / job["seconds"] for kind, seconds in bound.items()},
            **{key: plain.get(key) for key in ("ratio_flops", "ratio_kernels", "ratio")},
        })  # fmt: skip
    return pd.DataFrame(out)


def positions(rows: dict) -> pd.DataFrame:
    """Localisation of one operator, position by position."""
    keys = ("tflop", "seconds", "ratio_flops", "ratio_kernels", "ratio")
    return pd.DataFrame([
        {"job": name, "position": position, **{key: cost[key] for key in keys}}
        for name, row in rows.items() for position, cost in row.get("by_position", {}).items()
    ])  # fmt: skip


def calibrated(rows: dict) -> pd.DataFrame:
    """Measured on this kind of machine, one thread, beside what was predicted from its measured rates."""
    kept = ("busy_seconds", "predicted_seconds", "measured_over_predicted")
    return pd.DataFrame([{"job": name, **{k: row[k] for k in kept}} for name, row in rows.items() if kept[0] in row])


def main() -> None:
    """Print the tables."""
    if "--count" in sys.argv:
        subprocess.run([sys.executable, str(ROOT / "tests" / "bench" / "predict.py")], check=True)  # noqa: S603
    rows = json.loads((FIGURES / "predicted.json").read_text(encoding="utf-8"))
    for title, table in (
        ("predicted for one H200 from its data sheet; nothing was measured there", predicted(rows)),
        ("localisation of one operator by position", positions(rows)),
        ("measured on a CPU", calibrated(json.loads((FIGURES / "calibration.json").read_text(encoding="utf-8")))),
    ):
        print(f"{title}\n{table.round(2).to_string(index=False)}\n")


if __name__ == "__main__":
    main()
