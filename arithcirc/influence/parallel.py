"""Fitting and scoring over several processes of one machine.

kronfluence's collective distribution is for GPUs alone: its `State` makes a process group only where CUDA is there, and
its trackers' `synchronize` adds matrices up under `torch.cuda.is_available()`, so on CPUs each process would keep its
share without a word. Its partitions need no collectives: each process fits partitions of the documents into the same
folder, and what lies there is added up once all are done. That works on CPUs and with one GPU per process, and a
partition that was finished is never computed again. Scores are dealt out by documents, whose order is kept.

Processes are spawned, each with its own copy of the model (shared memory on a CPU) and its share of the threads.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arithcirc.errors import ArithcircError, EnvironmentFailure, RequestError
from arithcirc.influence.engine import Engine, Settings, completion_nll
from arithcirc.influence.factors import NEEDED, weights_sha256
from arithcirc.influence.rows import Rows
from arithcirc.influence.task import Measurement


@dataclass(frozen=True)
class Job:
    """What every process is given. `devices`: one per process in turn, none for the model's own."""

    model: nn.Module
    tracked: tuple[str, ...]
    folder: Path
    settings: Settings
    measurement: Measurement
    weights: str
    documents: Rows
    queries: Rows | None = None
    out: Path | None = None
    devices: tuple[str, ...] = ()

    def engine(self, process: int) -> Engine:
        """The engine of one process, on its device."""
        model = self.model.to(self.devices[process % len(self.devices)]) if self.devices else self.model
        return Engine(
            model, self.tracked, self.folder, settings=self.settings, measurement=self.measurement, weights=self.weights
        )


def fit_in_processes(
    model: nn.Module,
    tracked: Sequence[str],
    folder: Path,
    documents: Rows,
    *,
    settings: Settings,
    processes: int,
    devices: Sequence[str] = (),
    weights: str | None = None,
) -> None:
    """`Engine.fit` by several processes; the partitions of documents become a multiple of their number.

    Factors equal those of one process with as many partitions exactly, those without partitions to rounding. Raises
    what a process raised.
    """
    processes = _usable(processes, len(documents))
    parts = -(-settings.data_partitions // processes) * processes
    settings = replace(settings, data_partitions=min(parts, len(documents)))
    named = weights or weights_sha256(model)
    job = Job(model, tuple(tracked), folder, settings, completion_nll, named, documents, devices=tuple(devices))
    Engine(model, tracked, folder, settings=settings, weights=named).claim(documents)
    _spread(_fit, job, processes)


def scores_in_processes(
    model: nn.Module,
    tracked: Sequence[str],
    folder: Path,
    queries: Rows,
    documents: Rows,
    *,
    settings: Settings,
    processes: int,
    measurement: Measurement = completion_nll,
    devices: Sequence[str] = (),
    weights: str | None = None,
) -> Float[Tensor, "query document"]:
    """`Engine.scores` by several processes, each with its share of the documents. Raises what a process raised.

    `measurement` must be importable by name (a function of a module, or a `functools.partial` of one).
    """
    processes = _usable(processes, len(documents))
    named = weights or weights_sha256(model)
    with TemporaryDirectory() as out:
        job = Job(
            model, tuple(tracked), folder, settings, measurement, named, documents, queries, Path(out), tuple(devices)
        )
        _spread(_score, job, processes)
        return torch.cat([load_file(Path(out) / f"{process}.safetensors")["scores"] for process in range(processes)], 1)


def _usable(processes: int, rows: int) -> int:
    if processes < 1:
        raise RequestError(f"--processes {processes} is too few: give 1 or more")
    return max(1, min(processes, rows))


def _fit(process: int, processes: int, job: Job, wait: Callable[[], Any]) -> None:
    """One process's share; the first also decomposes and adds up."""
    engine = job.engine(process)
    for stage in NEEDED[job.settings.strategy]:
        pending = engine.pending(stage)
        wait()  # nobody looks again before all have looked
        mine = pending[process::processes] if stage != "eigen" else pending * (process == 0)
        for partition in mine:
            engine.fit_partition(stage, job.documents, partition)
        wait()
        if process == 0:
            engine.close(stage)
        wait()


def _score(process: int, processes: int, job: Job, wait: Callable[[], Any]) -> None:
    """One process's share of the documents, a stretch of them."""
    bounds = [len(job.documents) * i // processes for i in (process, process + 1)]
    part = Rows(job.documents.rows[slice(*bounds)])
    if job.queries is None or job.out is None:
        raise RequestError("scoring needs queries and a folder to write to")
    scores = job.engine(process).scores(job.queries, part)
    save_file({"scores": scores.contiguous()}, job.out / f"{process}.safetensors")
    wait()


def _spread(work: Callable[..., None], job: Job, processes: int) -> None:
    """Run `work` in fresh processes and raise the first error of any; a process that dies stops the others."""
    if processes == 1:
        work(0, 1, job, lambda: None)
        return
    context = torch.multiprocessing.get_context("spawn")
    barrier, said = context.Barrier(processes), context.SimpleQueue()
    threads = max(1, torch.get_num_threads() // processes)
    arguments = (work, processes, job, threads, barrier, said)
    started = [context.Process(target=_process, args=(i, *arguments), daemon=True) for i in range(processes)]
    for one in started:
        one.start()
    watch = [threading.Thread(target=_abort_with, args=(one, barrier), daemon=True) for one in started]
    try:
        for thread in watch:
            thread.start()
        for thread in watch:
            thread.join()
    except BaseException:
        for one in started:
            one.terminate()
        raise
    errors: list[BaseException] = []
    while not said.empty():
        errors.append(said.get())
    if errors:
        raise errors[0]
    if died := [one.exitcode for one in started if one.exitcode]:
        raise EnvironmentFailure(
            f"a process of --processes {processes} was ended (exit code {died[0]}), often for want of memory: "
            "run again with fewer, finished partitions are kept"
        )


def _abort_with(process: Any, barrier: Any) -> None:
    process.join()
    if process.exitcode:
        with contextlib.suppress(OSError, ValueError):
            barrier.abort()


def _process(
    number: int, work: Callable[..., None], processes: int, job: Job, threads: int, barrier: Any, said: Any
) -> None:
    torch.set_num_threads(threads)
    try:
        work(number, processes, job, barrier.wait)
    except threading.BrokenBarrierError:  # another process said why
        raise SystemExit(1) from None
    except ArithcircError as error:
        said.put(error)
        raise SystemExit(1) from None
