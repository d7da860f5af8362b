"""Measuring variants against each other in one process, and keeping the numbers of several benchmarks in one file."""

import ctypes
import gc
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from arithcirc.measure.cost import Machine


@dataclass
class Timing:
    """Median and spread (max - min over median) of repeated runs, in seconds; FLOPs and peak memory of one run."""

    name: str
    seconds: list[float]
    flops: int
    peak_mb: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        return (max(self.seconds) - min(self.seconds)) / self.median


class PeakMemory:
    """Largest resident (CPU) or allocated (CUDA) memory inside the block above what it was before, in MB."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.mb = device, 0.0
        self._stop = threading.Event()

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            gc.collect()
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # give freed memory back, else a later loop reuses it unseen
            self._before = psutil.Process().memory_info().rss
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.mb = max(self.mb, (psutil.Process().memory_info().rss - self._before) / 1e6)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self.device.type == "cuda":
            self.mb = (torch.cuda.max_memory_allocated() - self._before) / 1e6
        else:
            self._thread.join()


def interleaved(
    variants: dict[str, Callable[[], torch.Tensor]], repeats: int, device: torch.device
) -> tuple[dict[str, Timing], dict[str, torch.Tensor]]:
    """Time variants in turns, so that a noisy moment of the machine hits all of them; results from the warm-up."""
    timings, results = {}, {}
    for name, variant in variants.items():
        with FlopCounterMode(display=False) as counter, PeakMemory(device) as memory:
            results[name] = variant().cpu()
        timings[name] = Timing(name, [], counter.get_total_flops(), memory.mb)
    for _ in range(repeats):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            if device.type == "cuda":
                torch.cuda.synchronize()
            timings[name].seconds.append(time.perf_counter() - start)
    return timings, results


def clock_of(device: torch.device) -> Callable[[], float]:
    """This thread's own seconds where it does all the work, so that others on the machine do not count; else wall."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time if alone else time.perf_counter


def best_seconds(
    run: Callable[[], object], repeats: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The shortest of a few runs."""
    seconds = []
    for _ in range(repeats):
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return min(seconds)


def matmul_rate(
    device: torch.device, dtype: torch.dtype, *, n: int = 2048, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Best matrix-multiply rate of this machine now, FLOP/s, on n x n."""
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / best_seconds(lambda: a @ b, 8, device, clock)


def machine_now(device: torch.device, dtype: torch.dtype, name: str) -> Machine:
    """This machine's rates now, the best of a few: a matrix product, a copy (64 MB; 1 GB on a GPU), tiny additions."""
    gpu, clock = device.type == "cuda", clock_of(device)
    large, tiny = torch.ones(2**28 if gpu else 2**24, device=device), torch.ones(1, device=device)
    target = torch.empty_like(large)
    copying = best_seconds(lambda: target.copy_(large), 5, device, clock)
    launching = best_seconds(lambda: [tiny + 1 for _ in range(1000)], 5, device, clock) / 1000
    products = matmul_rate(device, dtype, n=8192 if gpu else 1024, clock=clock)
    return Machine(name, products, 2 * large.nbytes / copying, launching)


def largest_difference(ours: torch.Tensor, theirs: torch.Tensor, *, logits: float = 1.0) -> float:
    """Largest difference of logit_diff and KL, nats (E spans too much), relative to the largest value.

    Both are differences of logits, so their rounding errors are of the size of `logits`, the largest one.
    """
    keep = [0, 2]
    largest = float((ours[..., keep] - theirs[..., keep].cpu()).abs().max())
    return largest / max(logits, float(ours[..., keep].abs().max()))


def write_rows(file: Path, rows: dict[str, Any], *, owner: str | tuple[str, ...]) -> None:
    """Put one benchmark's rows into a file that others write to as well.

    Earlier rows of the same `owner` (the first words of its names) go; all others stay.
    """
    strangers = [name for name in rows if not name.startswith(owner)]
    if strangers:
        raise ValueError(f"rows {strangers} do not start with {owner!r}")
    held = json.loads(file.read_text()) if file.is_file() else {}
    kept = {name: row for name, row in held.items() if not name.startswith(owner)}
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(kept | rows, indent=2) + "\n")
    part.replace(file)
