"""Several processes that train one model, as `torchrun` and `accelerate launch` start them.

Each process holds the whole model and reads its own rows of every step's batch; gradients are averaged over processes
before each update (data-parallel training, torch's DistributedDataParallel). With B rows, N processes and A(r) answers
in the rows of process r, that process minimises

    loss(r) = N x A(r) / (A(1) + ... + A(N)) x mean over its own answers,

whose mean over processes is the mean over all answers of the step, as one process computes it, also where processes
have different numbers of answers. Only the order of additions differs, and dropout, which each process draws for its
own rows. Processes of several machines must see the same output folder.
"""

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.utils.data import Dataset

from arithcirc.errors import RequestError
from arithcirc.training.course import Batch

IGNORED = -100
"""Label of a place that is not answered."""
PATIENCE = datetime.timedelta(hours=1)
"""How long processes wait for one that examines a checkpoint."""


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this is, and how many there are."""

    rank: int = 0
    number: int = 1

    @classmethod
    def started(cls) -> "Ranks":
        """As the environment tells it; alone where it tells nothing."""
        number = int(os.environ.get("WORLD_SIZE") or 1)
        return cls(int(os.environ.get("RANK") or 0), number) if number > 1 else cls()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, examines and reports."""
        return self.rank == 0

    def hear(self, said: bool) -> bool:
        """What the first process says; the others' word does not count. All wait for each other here."""
        if self.number == 1:
            return said
        where = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        told = torch.tensor([int(said)], device=where)
        distributed.broadcast(told, 0)
        return bool(told.item())

    def wait(self) -> None:
        """Go on when all are here."""
        if self.number > 1:
            distributed.barrier()


@contextmanager
def joined(ranks: Ranks, device: str) -> Iterator[None]:
    """Connect the processes for a while, over NCCL on GPUs and gloo on processors. Raises RequestError.

    After an error nothing is disconnected: a process that ends tells the others by that.
    """
    if ranks.number == 1 or distributed.is_initialized():
        yield
        return
    if device == "cuda":
        here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.number)), torch.cuda.device_count()
        if here > gpus:
            raise RequestError(f"{here} processes were started on a machine of {gpus} GPU(s): start {gpus} at most")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", ranks.rank)))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    yield
    distributed.destroy_process_group()


def share(batch: Batch, rank: int, number: int) -> Batch:
    """Rows of one process: consecutive ones, as many as the others' or one more. Every tensor has its rows first."""
    rows = len(batch["labels"])
    return {name: value[rows * rank // number : rows * (rank + 1) // number] for name, value in batch.items()}


class SharedBatches(Dataset[Batch]):
    """Item i x number + r is what process r reads of step i.

    The Trainer hands items to processes in turn, so that process r reads items r, number + r, 2 x number + r ...
    """

    def __init__(self, batches: "Dataset[Batch]", steps: int, number: int) -> None:
        self.batches, self.steps, self.number = batches, steps, number

    def __len__(self) -> int:
        return self.steps * self.number

    def __getitem__(self, index: int) -> Batch:
        step, rank = divmod(index, self.number)
        return share(self.batches[step], rank, self.number)


def weighted(loss: Tensor, labels: Tensor, answers: Tensor | int) -> Tensor:
    """A share's mean loss times its share of the step's answers; the Trainer multiplies by the number of processes."""
    return loss * ((labels != IGNORED).sum() / answers)
