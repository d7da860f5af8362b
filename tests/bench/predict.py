"""What the jobs of real size would take on a GPU that is not here: `make bench-count`.

Every job runs on a model without weights (the meta device), which computes nothing and counts what would be computed:
FLOPs, bytes, kernels. The times are predictions for one H200 from its data sheet, at its full rates and at half of them
(see arithcirc.measure.cost), and nothing here was measured on a GPU. `tests/bench/scale.py` measures.

`work` is one operator, `job` the number of operators that the bar is for. The plain loop is one hooked forward per
patch, counted once and multiplied. `ratio_flops` cannot be beaten by any implementation of these two loops;
`ratio_kernels` is of predicted time without launches, `ratio` with them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from jobs import JOBS, SHAPES, Job, PlainLoop, Sizes, Subject, subject
from rich.console import Console
from rich.table import Table
from timing import write_rows

import arithcirc as ac
from arithcirc.components import PATCHED_POSITIONS, Position
from arithcirc.measure.cost import H200, Cost, counting

OUT = Path(__file__).resolve().parents[2] / "figures" / "11_scale" / "predicted.json"


def described(cost: Cost) -> dict[str, Any]:
    """A cost and its predicted times on one H200, in whole units that a person can read."""
    return {
        "tflop": cost.flops / 1e12,
        "gigabytes": cost.bytes / 1e9,
        "kernels": cost.launches,
        "seconds": cost.seconds(H200),
        "seconds_at_half_rates": cost.seconds(H200.at(0.5)),
        "bound_by": cost.bound_by(H200),
        "longest": dict(list(cost.by_name(H200).items())[:8]),
    }


def against(ours: Cost, plain: Cost) -> dict[str, float]:
    """How much more the plain loop does and takes."""
    kernels = [sum(v for k, v in c.bound_by(H200).items() if k != "launches") for c in (ours, plain)]
    return {
        "ratio_flops": plain.flops / ours.flops,
        "ratio_kernels": kernels[1] / kernels[0],
        "ratio": plain.seconds(H200) / ours.seconds(H200),
    }


def job_row(s: Subject, job: Job, work: Cost) -> dict[str, Any]:
    """One job: the work of one operator, the job of several, and the plain loop."""
    whole = work.times(job.times)
    row = {"work": described(work), "job": described(whole), "times": job.times, "bar": job.bar}
    row["within_bar"] = {k: row["job"][k] <= job.bar for k in ("seconds", "seconds_at_half_rates")}  # type: ignore[index]
    if job.patches is not None:
        patches = job.patches(s)
        plain = PlainLoop.of(s, job.prompts(s.sizes)).count(patches[0]).times(len(patches))
        row["plain_loop"] = {"patches": len(patches), **described(plain)} | against(work, plain)
    return row


def by_position(s: Subject) -> dict[Position, Cost]:
    """Localisation at one position at a time; each counts the clean and the counterfactual run again (0.6% in all)."""
    pairs, found = s.pairs(s.sizes.prompts), {}
    for position in PATCHED_POSITIONS:
        with counting() as count:
            ac.localize(s.model, s.encoder, [pairs], positions=[position], batch_size=s.sizes.batch_size)
        found[position] = count.cost
    return found


def localize_row(s: Subject) -> dict[str, Any]:
    """As `job_row`, with every position beside the plain loop there."""
    costs = by_position(s)
    row = job_row(s, JOBS["localize"], sum(costs.values(), Cost()))
    plain = PlainLoop.of(s, s.sizes.prompts).count(s.patches()[0])
    n = len(s.patches()) // len(costs)
    row["by_position"] = {p.value: described(c) | against(c, plain.times(n)) for p, c in costs.items()}
    return row


def table(rows: dict[str, Any]) -> Table:
    """The predictions for the terminal."""
    drawn = Table(title="predicted for one NVIDIA H200, bfloat16; nothing was measured", title_justify="left", box=None)
    for column in ("", "PFLOP", "TB", "kernels", "s", "s at half rates", "bar", "plain loop: FLOPs", "kernels", "all"):
        drawn.add_column(column, justify="right")
    for name, row in rows.items():
        job, plain = row["job"], row.get("plain_loop")
        ratios = [f"{plain[k]:.1f}x" for k in ("ratio_flops", "ratio_kernels", "ratio")] if plain else ["-"] * 3
        numbers = (f"{job['tflop'] / 1e3:.1f}", f"{job['gigabytes'] / 1e3:.1f}", f"{job['kernels']:,}")
        times = (f"{job['seconds']:.0f}", f"{job['seconds_at_half_rates']:.0f}", f"{row['bar']}")
        drawn.add_row(name, *numbers, *times, *ratios)
    return drawn


def main() -> None:
    """Count what was asked for and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=["pythia-6.9b", "meta-llama-3-8b"])
    parser.add_argument("--jobs", choices=JOBS, nargs="+", default=list(JOBS))
    parser.add_argument("--prompts", type=int, default=Sizes.prompts)
    parser.add_argument("--high", type=int, default=Sizes.high, help="operands 0..high")
    parser.add_argument("--batch-size", type=int, default=Sizes.batch_size)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    sizes = Sizes(prompts=options.prompts, high=options.high, batch_size=options.batch_size)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for shape in options.shape:
        s = subject(shape, sizes)
        for name in options.jobs:
            key = f"{shape} {name}"
            row = localize_row(s) if name == "localize" else job_row(s, JOBS[name], JOBS[name].count(s))
            row["sizes"] = vars(sizes)
            write_rows(options.out, {key: row}, owner=key)
    console = Console(width=140)
    console.print(table(json.loads(options.out.read_text())))
    console.print(f"written: {options.out}")


if __name__ == "__main__":
    main()
