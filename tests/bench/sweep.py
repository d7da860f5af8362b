"""Sweeps: what they cost beside their tasks, what a second worker brings, and what all of Pythia would take.

`python tests/bench/sweep.py`, part of `make bench`, sweeps checkpoints of the shipped model into fresh folders, with
one worker and with two of one thread each, and writes the rows `sweep_*` of bench.json:

    overhead     1 - (work and loading in workers) / (wall seconds of the driver x workers), for each number of workers;
                 of two workers also what they wait at the end, when one task is left, so the bar (5%) is for one
    speedup      wall seconds of one worker over those of two (bar on two free cores: 1.6), medians of repeats in turn
    peak_mb      largest resident memory of a worker, of any task
    disk_mb      bytes of the tasks' files, measured, beside the plan's estimate

Starting workers (importing torch) counts as overhead. `--table` instead prints, as Markdown, the computed cost of the
sweep of all 154 checkpoints of each Pythia model, with the sweep's default settings; nothing is measured there.
`--gpu SHAPE` measures one point of that table on this machine's GPU: the forwards per second of the count's unit of
work on random weights of that shape, beside the roofline's.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from timing import best_seconds, write_rows

from arithcirc.catalogue import SweepFolder
from arithcirc.config import CircuitConfig, HeuristicConfig, NeuronConfig, ProbeConfig, PromptConfig
from arithcirc.measure.cost import H200
from arithcirc.models.built import built
from arithcirc.models.zoo import SHIPPED, named, pythia_steps
from arithcirc.sweep.cost import SweepCost, counted, forward_seconds, short, sweep_cost
from arithcirc.sweep.driver import Summary, run_tasks
from arithcirc.sweep.local import LocalExecutor
from arithcirc.sweep.task import Loading, Settings, Task
from arithcirc.training.tokenizer import build_tokenizer

SIZES = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b")
QUICK = Settings(
    prompts=PromptConfig(operands="0..20", n_discover=4, n_evaluate=4, counterfactual_seeds=1),
    circuit=CircuitConfig(random_circuits=1, mean_prompts=100),
    probe=ProbeConfig(prompts=100, epochs=2),
    neurons=NeuronConfig(random_draws=1, top=5),
    heuristics=HeuristicConfig(draws=20),
)


def tasks_of(steps: list[int], operators: str, settings: Settings) -> list[Task]:
    """A fixed set of tasks; the reference is the last step."""
    loading = Loading(device="cpu", threads=1)
    return [
        Task(SHIPPED, SHIPPED, f"step{step}", step, symbol, f"step{max(steps)}", settings, loading=loading)
        for step in steps
        for symbol in operators
    ]


def swept(tasks: list[Task], workers: int, root: Path) -> Summary:
    """Run them in a fresh folder; starting and ending the workers is in the seconds."""
    start = time.perf_counter()
    executor = LocalExecutor(root, workers=workers, threads=1)
    try:
        summary = run_tasks(SweepFolder(root, {"models": []}), tasks, executor)
    finally:
        executor.close(cancel=True)
    seconds = time.perf_counter() - start
    if summary.failed:
        raise SystemExit(f"{len(summary.failed)} tasks failed: {summary.failed[0][1]}")
    return Summary(summary.ended, summary.left, summary.stopped, seconds, summary.task_seconds)


def measured(tasks: list[Task], repeats: int) -> dict[str, Any]:
    """The rows, from interleaved sweeps with one worker and with two."""
    runs: dict[int, list[Summary]] = {1: [], 2: []}
    disk = 0
    for _ in range(repeats):
        for workers, summaries in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                summaries.append(swept(tasks, workers, Path(folder)))
                disk = sum(f.stat().st_size for f in (Path(folder) / "tasks").rglob("*") if f.is_file())
    rows: dict[str, Any] = {}
    for workers, summaries in runs.items():
        rows[f"sweep_{workers}_workers"] = {
            "tasks": len(tasks),
            "repeats": repeats,
            "seconds": statistics.median(s.seconds for s in summaries),
            "task_seconds": statistics.median(s.task_seconds for s in summaries),
            "overhead": statistics.median(1 - s.task_seconds / (s.seconds * workers) for s in summaries),
            "peak_mb": max(o.peak_bytes for s in summaries for _, o in s.ended) / 1e6,
            "disk_mb": disk / 1e6,
        }
    one, two = rows["sweep_1_workers"], rows["sweep_2_workers"]
    rows["sweep_speedup"] = {
        "median": one["seconds"] / two["seconds"],
        "slower_tasks": two["task_seconds"] / one["task_seconds"],
    }
    return rows


# -- the computed table -----------------------------------------------------------------------------------------------

HEADER = (
    "| model | forwards | H200 hours, full to half rates | host core hours | fetched | weights at once | run files |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)


def line(cost: SweepCost) -> str:
    """A row of the table."""
    hours = [short(seconds / 3600) for seconds in (cost.seconds, cost.slow_seconds, cost.host_seconds)]
    sizes = [f"{size / 1e9:.2g} GB" for size in (cost.dropped_bytes, cost.disk_bytes)]
    fetched = f"{cost.traffic_bytes / 1e9:,.0f} GB"
    return (
        f"| {cost.model.split('/')[1]} | {cost.forwards / 1e6:,.0f} M | {hours[0]} to {hours[1]} | {hours[2]} | "
        f"{fetched} | {sizes[0]} | {sizes[1]} |"
    )


def table(sizes: list[str]) -> str:
    """Markdown: computed, every number of it."""
    rows = [line(sweep_cost(f"pythia-{size}", checkpoints=len(pythia_steps()))) for size in sizes]
    return "\n".join([HEADER, *rows])


def on_device(shape: str, batch_size: int, device: str) -> dict[str, Any]:
    """Forwards per second of random bfloat16 weights there, and the hours that the sweep's count then means."""
    entry = named(shape)
    tokenizer = build_tokenizer(530)
    task = Task(entry.name, entry.name, "main", None, "+", "main", Settings(), loading=Loading(batch_size=batch_size))
    job, _ = counted(task, built(entry.shape, tokenizer, name=entry.name))
    predicted = forward_seconds(job.model, job, H200)
    model = built(entry.shape, tokenizer, name=entry.name, device=device)
    tokens = torch.from_numpy(job.encoder.frame).repeat(batch_size, 1).to(model.device)
    seconds = best_seconds(lambda: model.logits(tokens), 10, model.device) / batch_size
    forwards = sweep_cost(shape, checkpoints=len(pythia_steps())).forwards
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "batch_size": batch_size,
        "forwards_per_second": 1 / seconds,
        "predicted_per_second": 1 / predicted,
        "hours_of_154_checkpoints": forwards * seconds / 3600,
    }


def main() -> None:
    """Measure, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[512, 1000, 2000, 4000])
    parser.add_argument("--operators", default="+*")
    parser.add_argument("--operands", default="0..99", help="fewer than by default, for short tasks")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny tasks")
    parser.add_argument("--table", action="store_true", help="print the computed cost of all checkpoints of Pythia")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--gpu", metavar="SHAPE", help="measure one point of the table on the GPU of this machine")
    parser.add_argument("--batch-size", type=int, default=Loading.batch_size)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    asked = parser.parse_args()
    console = Console()
    if asked.table:
        console.print(table(asked.sizes), markup=False, soft_wrap=True)
        return
    if asked.gpu:
        rows = {f"sweep_gpu_{asked.gpu}": on_device(asked.gpu, asked.batch_size, "cuda")}
        write_rows(asked.out, rows, owner=f"sweep_gpu_{asked.gpu}")
    else:
        settings = QUICK if asked.quick else Settings(prompts=PromptConfig(operands=asked.operands))
        rows = measured(tasks_of(asked.steps, asked.operators, settings), asked.repeats)
        write_rows(asked.out, rows, owner=("sweep_1", "sweep_2", "sweep_speedup"))
    for name, row in rows.items():
        console.print(name, {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
