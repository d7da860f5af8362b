"""What a run will cost, said before it starts.

Work is counted in forward passes of one prompt: a suffix replay is the share of a forward that it runs. The rate is
measured by timing a few batches on the loaded model, so times are estimates (attention, memory traffic and small
batches make stages differ by a factor of up to two); memory counts weights, one batch and the recorded activations.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from arithcirc.models.memory import weights_bytes
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.prompt_stage import n_prompts
from arithcirc.pipeline.stage import Stage


@dataclass(frozen=True)
class StageCost:
    """One stage: rows run through (part of) the model, their cost in whole forward passes of one prompt, seconds."""

    stage: str
    rows: int
    forwards: float
    seconds: float
    done: bool


@dataclass(frozen=True)
class Plan:
    """Costs of the stages asked for; `rate` is forward passes of one prompt per second."""

    stages: tuple[StageCost, ...]
    rate: float
    memory_bytes: int

    @property
    def seconds(self) -> float:
        """Estimated time of what is not done yet."""
        return sum((s.seconds for s in self.stages if not s.done), 0.0)


def make_plan(job: Job, stages: Sequence[Stage]) -> Plan:
    """Estimate these stages on the loaded model."""
    rate = _forwards_per_second(job)
    costs = []
    for stage in stages:
        cost = stage.count(job)
        costs.append(
            StageCost(stage.name, cost.rows, cost.forwards, cost.forwards / rate, job.run.finished(stage.name))
        )
    return Plan(tuple(costs), rate, _memory(job))


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


def _memory(job: Job) -> int:
    """Bytes: weights, one batch in flight (MLP, attention, float32 logits), clean and counterfactual records."""
    info, n_pos = job.model.info, job.encoder.length
    weights = weights_bytes(info.n_params, info.dtype)
    element = weights_bytes(1, info.dtype)
    row = n_pos * (8 * info.d_model + 2 * info.d_mlp) * element + 2 * info.d_vocab * 4
    record = 2 * n_prompts(job)[0] // len(job.operators) * n_pos * info.n_layers * 6 * info.d_model * element
    return weights + job.batch_size * row + record
