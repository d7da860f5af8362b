"""What a run will cost, said before it starts.

Work is counted in forward passes of one prompt: a suffix replay is the share of a forward that it runs. The rate is
measured by timing a few batches on the loaded model, so times are estimates (attention, memory traffic and small
batches make stages differ by a factor of up to two). Memory is the peak of each stage (pipeline.memory).
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from arithcirc.pipeline.job import Job
from arithcirc.pipeline.memory import held_bytes
from arithcirc.pipeline.peak import resident_bytes
from arithcirc.pipeline.stage import Stage


@dataclass(frozen=True)
class StageCost:
    """One stage: rows run through (part of) the model, their cost in whole forward passes of one prompt, seconds.

    `memory_bytes` is its peak on the model's device, with what is in use there before.
    """

    stage: str
    rows: int
    forwards: float
    seconds: float
    memory_bytes: int
    done: bool


@dataclass(frozen=True)
class Plan:
    """Costs of the stages asked for; `rate` is forward passes of one prompt per second."""

    stages: tuple[StageCost, ...]
    rate: float

    @property
    def memory_bytes(self) -> int:
        """Peak of what is not done yet; 0 where nothing is."""
        return max((s.memory_bytes for s in self.stages if not s.done), default=0)

    @property
    def seconds(self) -> float:
        """Estimated time of what is not done yet."""
        return sum((s.seconds for s in self.stages if not s.done), 0.0)


def make_plan(job: Job, stages: Sequence[Stage]) -> Plan:
    """Estimate these stages on the loaded model."""
    rate = _forwards_per_second(job)
    costs, now = [], resident_bytes(job.model.device)
    for stage in stages:
        cost = stage.count(job)
        costs.append(
            StageCost(
                stage.name,
                cost.rows,
                cost.forwards,
                cost.forwards / rate,
                now + held_bytes(job, stage),
                job.run.finished(stage.name),
            )
        )
    return Plan(tuple(costs), rate)


def _forwards_per_second(job: Job) -> float:
    rows = min(job.batch_size, 256)
    tokens = torch.from_numpy(job.encoder.frame).repeat(rows, 1)
    job.model.logits(tokens)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        job.model.logits(tokens)
        seconds.append(time.perf_counter() - start)
    return rows / max(statistics.median(seconds), 1e-9)
