"""Where a sweep's tasks run: the options, and the executor made from them.

Ray and SLURM come with the extra `cluster`; their modules are imported only when they are asked for.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from arithcirc.errors import RequestError
from arithcirc.sweep.executors import Executor, Work
from arithcirc.sweep.local import LocalExecutor, cores, gpus
from arithcirc.sweep.remote import DO
from arithcirc.sweep.task import Loading

Kind = Literal["local", "ray", "slurm"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Where:
    """Local processes, Ray or SLURM; `workers` None: as many as fit.

    `address` is a running Ray cluster's (None: one is started here). `gpus_per_task` and `cpus_per_task` are what Ray
    and SLURM reserve; partition, time limit (minutes; None: 240) and memory (GB) are SLURM's. `command` replaces a
    local worker's. Options of another kind are refused with RequestError.
    """

    kind: Kind = "local"
    workers: int | None = None
    address: str | None = None
    gpus_per_task: float = 0.0
    cpus_per_task: int | None = None
    partition: str | None = None
    time_limit: int | None = None
    memory_gb: float | None = None
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RequestError(f"--executor {self.kind!r} is not known: use one of {', '.join(KINDS)}")
        if self.workers is not None and self.workers < 1:
            raise RequestError(f"--workers {self.workers} is too few: give 1 or more, or leave it out")
        if self.gpus_per_task < 0:
            raise RequestError(f"--gpus-per-task {self.gpus_per_task} is negative: give 0 or more")
        if self.cpus_per_task is not None and self.cpus_per_task < 1:
            raise RequestError(f"--cpus-per-task {self.cpus_per_task} is too few: give 1 or more, or leave it out")
        if self.address is not None and self.kind != "ray":
            raise RequestError(f"--address {self.address} is of a Ray cluster: add --executor ray")
        slurms = {"--partition": self.partition, "--time-limit": self.time_limit, "--memory-gb": self.memory_gb}
        shared = {"--gpus-per-task": self.gpus_per_task or None, "--cpus-per-task": self.cpus_per_task}
        if self.kind != "slurm":
            self._refuse(slurms, "is of SLURM's jobs: add --executor slurm, or leave it out")
        if self.kind == "local":
            self._refuse(shared, "is what Ray or SLURM reserves: add --executor ray or slurm, or leave it out")

    @staticmethod
    def _refuse(options: Mapping[str, object], why: str) -> None:
        for name, value in options.items():
            if value is not None:
                raise RequestError(f"{name} {value} {why}")


def devices_for(loading: Loading) -> list[str]:
    """GPUs that local workers share out; none where the device is chosen by hand, or a model takes them all."""
    alone = loading.device_map is not None or loading.device not in (None, "cuda")
    return [] if alone else gpus()


def default_workers(loading: Loading, n_tasks: int) -> int:
    """One per GPU, one in all for a model over all GPUs or on a chosen one, else one per core."""
    if loading.device_map is not None or (loading.device or "").startswith("cuda:"):
        return 1
    return max(1, min(n_tasks, len(devices_for(loading)) or cores()))


def make_executor(
    where: Where, root: Path, tasks: Sequence[Work], loading: Loading, *, logs: Path, do: str = DO
) -> Executor:
    """The executor asked for; its workers do tasks by `do`.

    Raises RequestError when its package is missing, EnvironmentFailure when it is away.
    """
    if where.kind == "local":
        workers = where.workers or default_workers(loading, len(tasks))
        command = where.command or (sys.executable, "-m", "arithcirc.sweep.worker", do)
        return LocalExecutor(
            root, workers=workers, threads=loading.threads, devices=devices_for(loading), logs=logs, command=command
        )
    options: dict[str, Any] = {
        "gpus_per_task": where.gpus_per_task,
        "cpus_per_task": where.cpus_per_task or 1,
        "do": do,
    }
    try:
        if where.kind == "ray":
            from arithcirc.sweep.ray_executor import RayExecutor

            return RayExecutor(root, address=where.address, slots=where.workers, **options)
        from arithcirc.sweep.slurm import SlurmExecutor

        options |= {"partition": where.partition, "memory_gb": where.memory_gb}
        options |= {} if where.time_limit is None else {"time_limit": where.time_limit}
        return SlurmExecutor(root, slots=where.workers or len(tasks), **options)
    except ModuleNotFoundError as error:
        raise missing_extra(where.kind, str(error.name)) from None


def missing_extra(kind: str, package: str) -> RequestError:
    """The executor needs a package of the extra `cluster`."""
    return RequestError(f"--executor {kind} needs the package {package}: pip install 'arithcirc[cluster]'")
