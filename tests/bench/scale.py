"""The jobs of real size, run and timed: `make bench-gpu`. Random weights of a published shape, no download.

Each job is timed once, after a warm-up, and put into the JSON file at once, beside its FLOPs, the achieved share of the
peak, peak memory, and the time predicted from the device's rates as measured just before. A job already in the file is
skipped, so a run that was killed goes on; `--again` runs it anew. The plain loop (one hooked forward per patch) runs a
sample of patches, evenly spread, and its time is scaled to all: rows say so. `labels` is the matching of heuristics,
which is numpy's work on the host: 1/16 and 1/8 of the neurons are timed and the rest follows in proportion.
On a CPU with one thread `busy_seconds` are this thread's own, which is what the rates and the prediction are compared
by there; elsewhere they are the seconds on the clock.

Times are of one operator; `job_seconds` are of as many operators as the bar is for.
"""

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heuristics import some_maps
from jobs import JOBS, SHAPES, PlainLoop, Sizes, Subject, subject
from rich.console import Console
from timing import PeakMemory, clock_of, largest_difference, machine_now, write_rows

import arithcirc as ac
from arithcirc.errors import ArithcircError, EnvironmentFailure
from arithcirc.measure.cost import H200, Machine
from arithcirc.models.memory import free_bytes, gigabytes, weights_bytes
from arithcirc.models.shapes import n_params

LABEL_BAR = 120
NAMES = (*JOBS, "labels")


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds until the device is done, and the result."""
    start = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def check_memory(shape: str, dtype: str, device: str) -> int:
    """Free bytes of the device. Raises EnvironmentFailure where there is none, or too little (with the numbers)."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EnvironmentFailure(
            f"{device} was asked for, but there is no usable GPU here: make bench-count predicts these jobs without one"
        )
    needed, free = int(1.3 * weights_bytes(n_params(SHAPES[shape][1]), dtype)), free_bytes(device)
    if needed > free:
        raise EnvironmentFailure(
            f"{shape} in {dtype} needs {gigabytes(needed)} while it is built and {device} has {gigabytes(free)} free: "
            "stop what else runs there, or choose a smaller --shape"
        )
    return free


def job_row(name: str, s: Subject, twin: Subject, machine: Machine, sample: int) -> dict[str, Any]:
    """Run one job and its plain loop's sample; `twin` is the same subject without weights, for the counts."""
    job, device = JOBS[name], s.model.device
    cost = job.count(twin)
    with PeakMemory(device) as memory:
        clock = clock_of(device)
        start = clock()
        seconds, result = timed(lambda: job.run(s), device)
        busy = clock() - start
    peak = H200.flops if "H200" in machine.name else machine.flops
    predicted = cost.seconds(machine)
    row = {
        "seconds": seconds,
        "job_seconds": seconds * job.times,
        "times": job.times,
        "bar": job.bar,
        "tflop": cost.flops / 1e12,
        "tflop_per_second": cost.flops / seconds / 1e12,
        "share_of_peak": cost.flops / seconds / peak,
        "peak_mb": memory.mb,
        "predicted_seconds": predicted,
        "predicted_bound_by": cost.bound_by(machine),
        "busy_seconds": busy,
        "measured_over_predicted": busy / predicted,
    }
    if job.patches is not None and sample:
        row["plain_loop"] = plain_row(job.patches(s), PlainLoop.of(s, job.prompts(s.sizes)), result, seconds, sample)
    return row


def plain_row(patches: list[ac.Patch], loop: PlainLoop, ours: torch.Tensor, seconds: float, sample: int) -> Any:
    """The plain loop on a sample: its time scaled to all patches, and whether it finds the same effects."""
    device = loop.tokens.device
    chosen = np.unique(np.linspace(0, len(patches) - 1, min(sample, len(patches))).astype(int)).tolist()
    loop.run(patches[0])  # warm-up
    took, theirs = timed(lambda: torch.stack([loop.run(patches[i]) for i in chosen]), device)
    scaled = took * len(patches) / len(chosen)
    largest = float(loop.subject.model.logits(loop.tokens).abs().max())
    return {
        "patches": len(patches),
        "sampled": len(chosen),
        "sample_seconds": took,
        "extrapolated_seconds": scaled,
        "ratio": scaled / seconds,
        "difference": largest_difference(ours[chosen], theirs, logits=largest),
    }


def labels_row(neurons: int, high: int) -> dict[str, Any]:
    """Matching `neurons` neurons with heuristics: maps of the shipped model, on the host."""
    sizes = (max(1, neurons // 16), max(2, neurons // 8))
    took, n_prompts = [], 0
    for n in sizes:
        _, maps, values = some_maps("+", high, n)
        n_prompts = len(maps.prompts)
        op, operands, rng = ac.operator("+"), ac.OperandRange(0, high), np.random.default_rng(0)
        start = time.perf_counter()
        ac.label_neurons(maps, values, op, operands, rng=rng)
        took.append(time.perf_counter() - start)
    slope = (took[1] - took[0]) / (sizes[1] - sizes[0])
    whole = took[1] + slope * (neurons - sizes[1])
    return {
        "sampled": list(sizes), "sample_seconds": took, "neurons": neurons, "prompts": n_prompts,
        "extrapolated_seconds": whole, "job_seconds": 4 * whole, "times": 4, "bar": LABEL_BAR,
    }  # fmt: skip


def about(options: argparse.Namespace, machine: Machine, free: int) -> dict[str, Any]:
    """Where and how a row was measured."""
    return {
        "command": " ".join(["python", "tests/bench/scale.py", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": machine.name,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "free_at_start": gigabytes(free),
        "torch": torch.__version__,
        "measured_rates": {"flops": machine.flops, "bandwidth": machine.bandwidth, "launch": machine.launch},
    }


def device_name(device: torch.device) -> str:
    """The GPU's name, or the host's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--jobs", choices=NAMES, nargs="+", default=list(NAMES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompts", type=int, default=Sizes.prompts)
    parser.add_argument("--neuron-prompts", type=int, default=Sizes.neuron_prompts)
    parser.add_argument("--high", type=int, default=Sizes.high, help="operands of maps and labels: 0..high")
    parser.add_argument("--neurons", type=int, default=Sizes.neurons, help="of maps and labels")
    parser.add_argument("--batch-size", type=int, default=Sizes.batch_size)
    parser.add_argument("--sample", type=int, default=50, help="patches that the plain loop runs; 0: none")
    parser.add_argument("--again", action="store_true", help="run jobs anew that are in the file")
    parser.add_argument("--out", type=Path, default=Path("bench-scale.json"))
    return parser.parse_args()


def main() -> None:
    """Run the jobs that are not in the file yet."""
    options, console = parsed(), Console(width=140)
    done = json.loads(options.out.read_text()) if options.out.is_file() and not options.again else {}
    keys = {name: f"scale {options.shape} {options.device} {name}" for name in options.jobs}
    left = [name for name in options.jobs if keys[name] not in done]
    console.print(f"already in {options.out}: {', '.join(n for n in options.jobs if n not in left) or 'nothing'}")
    if not left:
        return
    device = torch.device(options.device)
    free = check_memory(options.shape, options.dtype, options.device)
    sizes = Sizes(options.prompts, options.neuron_prompts, options.high, options.neurons, options.batch_size)
    if set(left) & set(JOBS):
        twin = subject(options.shape, sizes, dtype=options.dtype)
        s = subject(options.shape, sizes, device=options.device, dtype=options.dtype)
        PlainLoop.of(s, 2).run(s.patches()[0])  # warm-up
    for name in left:
        machine = machine_now(device, getattr(torch, options.dtype), device_name(device))
        if name == "labels":
            row = labels_row(options.neurons, options.high)
        else:
            row = job_row(name, s, twin, machine, options.sample)
        write_rows(
            options.out, {keys[name]: row | {"sizes": vars(sizes)} | about(options, machine, free)}, owner=keys[name]
        )
        plain = row.get("plain_loop")
        compared = f", plain loop {plain['ratio']:.1f}x as long (extrapolated)" if plain else ""
        console.print(f"{keys[name]}: {row['job_seconds']:.3g} s for a bar of {row['bar']} s{compared}")
    console.print(f"written: {options.out}")


if __name__ == "__main__":
    try:
        main()
    except ArithcircError as error:
        sys.exit(f"error: {error}")
