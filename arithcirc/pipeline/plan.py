"""What a run will cost, said before it starts.

Work is counted in forward passes of one prompt: a suffix replay is the share of a forward that it runs. The rate is
measured by timing a few batches on the loaded model, so times are estimates (attention, memory traffic and small
batches make stages differ by a factor of up to two); memory counts weights, one batch and the recorded activations.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from arithcirc.arithmetic.operators import OPERATORS
from arithcirc.arithmetic.pairs import Counterfactual
from arithcirc.components import PATCHED_POSITIONS, Position
from arithcirc.models.load import memory_needed
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.stages import AT_LEAST_TRIED, CHANGES, circuit_sizes, legal_by_operator, random_grid


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


def suffix_share(n_layers: int, n_pos: int, index: int, kind_layers: range) -> float:
    """Mean share of a full forward that patches at token `index`, one per layer in `kind_layers`, replay."""
    layers = [(n_layers - 1 - layer) / n_layers for layer in kind_layers]
    return sum(layers) / len(layers) * (n_pos - index) / n_pos


def make_plan(job: Job, stages: list[str]) -> Plan:
    """Estimate the stages named, on the loaded model."""
    rate = _forwards_per_second(job)
    costs = []
    for stage in stages:
        rows, forwards = _COUNTS[stage](job)
        costs.append(StageCost(stage, rows, forwards, forwards / rate, job.run.finished(stage)))
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


def _prompts(job: Job) -> tuple[int, float]:
    if job.pairs is not None:
        return len(job.pairs), float(len(job.pairs))
    cfg = job.config.prompts
    most = max(AT_LEAST_TRIED, cfg.n_discover + cfg.n_evaluate)
    n = sum(min(len(legal), most) for legal in legal_by_operator(job).values())
    return n, float(n)


def _n_prompts(job: Job) -> tuple[int, int]:
    """Prompts of all operators to discover and to evaluate: as chosen, else as given, else as asked."""
    if job.run.finished("prompts"):
        table = job.run.table("prompts")
        used = table[(table["change"] == Counterfactual.ANY) & (table["seed"] == 0)]
        return int((used["set"] == "discover").sum()), int((used["set"] == "evaluate").sum())
    if job.pairs is None or job.pair_sets is None:
        cfg = job.config.prompts
        wanted = cfg.n_discover + cfg.n_evaluate
        shares = [min(1.0, len(legal) / wanted) for legal in legal_by_operator(job).values()]
        return round(sum(shares) * cfg.n_discover), round(sum(shares) * cfg.n_evaluate)
    discover = int((job.pair_sets == "discover").sum())
    return discover, len(job.pairs) - discover or discover


def _n_pairs(job: Job) -> int:
    """Prompts to discover, counted once for each of their counterfactuals."""
    if job.run.finished("prompts"):
        return int((job.run.table("prompts")["set"] == "discover").sum())
    draws = 1 if job.pairs is not None else job.config.prompts.counterfactual_seeds + len(CHANGES) - 1
    return draws * _n_prompts(job)[0]


def _localize(job: Job) -> tuple[int, float]:
    info = job.model.info
    pairs = _n_pairs(job)
    layers = range(info.n_layers)
    per_position = [
        suffix_share(info.n_layers, job.encoder.length, job.encoder.index(p), layers) for p in PATCHED_POSITIONS
    ]
    patches = (info.n_heads + 1) * info.n_layers
    return pairs * patches * len(PATCHED_POSITIONS), pairs * (patches * sum(per_position) + 2)


def _means(job: Job) -> tuple[int, float]:
    sample = job.config.circuit.mean_prompts
    everything = len(OPERATORS) * len(job.operands) ** 2
    if sample is not None:
        n = len(OPERATORS) * min(sample, len(job.operands) ** 2)
        return n, float(n)
    tail = (job.encoder.length - job.encoder.index(Position.OP2)) / job.encoder.length
    return everything, everything * tail


def _faithfulness(job: Job) -> tuple[int, float]:
    sizes = circuit_sizes(job)
    rivals = len(random_grid(sizes)) * job.config.circuit.random_circuits
    discover, evaluate = _n_prompts(job)
    n = discover * (len(sizes) + 2) + evaluate * (len(sizes) + 2 + rivals)
    return n, float(n)


_COUNTS: dict[str, Callable[[Job], tuple[int, float]]] = {
    "prompts": _prompts,
    "localize": _localize,
    "means": _means,
    "faithfulness": _faithfulness,
}


def _memory(job: Job) -> int:
    """Bytes: weights, one batch in flight (MLP, attention, float32 logits), clean and counterfactual records."""
    info, n_pos = job.model.info, job.encoder.length
    weights = memory_needed(info.n_params, info.dtype)
    element = memory_needed(1, info.dtype)
    row = n_pos * (8 * info.d_model + 2 * info.d_mlp) * element + 2 * info.d_vocab * 4
    record = 2 * _n_prompts(job)[0] // len(job.operators) * n_pos * info.n_layers * 6 * info.d_model * element
    return weights + job.batch_size * row + record
