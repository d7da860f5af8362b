"""What a sweep of published checkpoints would cost, computed on models without weights: nothing is fetched or run.

    forwards   of every task, counted by its stages on the model's shape (`estimate`), as if each checkpoint answered
               every legal prompt correctly: a bound, since early ones answer few
    GPU hours  forwards x the roofline time of a whole forward in batches (measure.cost), at a machine's full rates and
               at half of them. Replays of few layers move more bytes per FLOP than whole forwards; launches of small
               batches and the host's work are not in it.
    host hours matching maps to heuristics, on one core
    disk       bytes of the tasks' files, from their shapes
    traffic    published weights x checkpoints; with dropped weights a few checkpoints are on disk at once

A sweep's tasks share work: the first layer is probed at the reference only, where all neurons are patched; elsewhere
those from that layer on are, which is taken to lie at FIRST_LAYER of the depth unless it is asked for. Mean activations
are computed once per checkpoint, and the reference has no shared run.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from arithcirc.catalogue import SweepFolder
from arithcirc.measure.cost import H200, Machine, counting
from arithcirc.models.built import built
from arithcirc.models.memory import weights_bytes
from arithcirc.models.zoo import named
from arithcirc.pipeline.job import Job, silent
from arithcirc.pipeline.plan import Plan, StageCost
from arithcirc.pipeline.stage import Stage
from arithcirc.sweep import estimate
from arithcirc.sweep.emergence_stage import Compared, emergence
from arithcirc.sweep.loaded import Loaded
from arithcirc.sweep.runs import Doing, first_stages, labels_stage, open_run
from arithcirc.sweep.shared import ANSWERS
from arithcirc.sweep.task import Loading, Settings, Task
from arithcirc.training.tokenizer import build_tokenizer

ON_DISK = 4
"""Checkpoints whose weights are on disk at once when they are dropped: the reference's, one in use, two ahead."""
FIRST_LAYER = 14 / 32
"""First layer with heuristics as a share of the depth: Pythia-6.9B's (Nikankin et al. 2024, arXiv 2410.21272)."""
_TOKENS = 530
"""Numbers with a token of their own in the tokenizer that is counted with, as Pythia has them."""


@dataclass(frozen=True)
class SweepCost:
    """The computed cost of a sweep over `checkpoints` of a model.

    `forwards` are of all tasks; `seconds` on the machine at its full rates, `slow_seconds` at half of them;
    `host_seconds` of one core. Bytes: `disk_bytes` of the sweep's files, `weights_bytes` of one checkpoint.
    """

    model: str
    checkpoints: int
    operators: str
    machine: str
    forwards: float
    seconds: float
    slow_seconds: float
    host_seconds: float
    disk_bytes: float
    weights_bytes: int

    def __str__(self) -> str:
        """One line for people."""
        hours = " to ".join(short(seconds / 3600) for seconds in (self.seconds, self.slow_seconds))
        return (
            f"{self.model}, {self.checkpoints} checkpoints: {self.forwards:.2g} forwards at most, for these at least "
            f"{hours} GPU hours on one {self.machine} in bfloat16 (launches and loading are not counted) and "
            f"{self.host_seconds / 3600:.2g} h of one core (computed from the model's shape); weights at once on disk "
            f"with --drop-weights: {self.dropped_bytes / 1e9:.2g} GB"
        )

    @property
    def traffic_bytes(self) -> int:
        """Bytes fetched."""
        return self.weights_bytes * self.checkpoints

    @property
    def dropped_bytes(self) -> int:
        """Most bytes of weights on disk when they are dropped, with one worker."""
        return self.weights_bytes * min(ON_DISK, self.checkpoints)


def short(number: float) -> str:
    """Two digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def sweep_cost(
    model: str,
    *,
    checkpoints: int,
    operators: str = "+-*/",
    settings: Settings | None = None,
    batch_size: int = Loading.batch_size,
    dtype: str = "bfloat16",
    machine: Machine = H200,
) -> SweepCost:
    """Compute it for a model of the table of published ones. Raises ModelError for another name."""
    entry = named(model)
    tokenizer = build_tokenizer(min(_TOKENS, entry.number_limit or _TOKENS))
    network = built(entry.shape, tokenizer, name=entry.name, device="meta", dtype=dtype)
    forwards = disk = host = 0.0
    rule = settings or Settings()
    if rule.neurons.first_layer is None:
        rule = replace(rule, neurons=replace(rule.neurons, first_layer=int(FIRST_LAYER * entry.shape.n_layers)))
    for position, symbol in enumerate(operators):
        task = Task(entry.name, entry.name, "main", None, symbol, "main", settings or Settings())
        task = replace(task, loading=replace(task.loading, batch_size=batch_size, dtype=dtype))
        job, once = counted(task, network)
        _, again = counted(replace(task, settings=rule), network)
        forwards += _total(once, "own/", means=position == 0)
        forwards += (checkpoints - 1) * _total(again, "", means=position == 0)
        disk += checkpoints * estimate._disk_bytes(job, task)
        if task.settings.stages == "heuristics":
            host += checkpoints * estimate._matching_seconds(job) * max(1, torch.get_num_threads())
    fast, slow = (forwards * forward_seconds(network, job, m) for m in (machine, machine.at(0.5)))
    return SweepCost(
        entry.name, checkpoints, operators, machine.name, forwards, fast, slow, host, disk,
        weights_bytes(entry.n_params, entry.dtype),
    )  # fmt: skip


def counted(task: Task, model: Any) -> tuple[Job, dict[str, dict[str, float]]]:
    """A task's job on a model that need not have weights, and its forwards by `own/<stage>` and `shared/<stage>`."""
    files = SweepFolder(Path("planned")).files(*task.key)
    doing = Doing(task, files, Loaded(model, 0.0), None, silent)
    whole = task.settings.stages == "heuristics"
    job = replace(open_run(doing, "own", neurons=[] if whole else None, write=False), neurons=None)
    first = first_stages(task, None)
    last: list[Stage] = [labels_stage(), emergence(Compared(reference=True))] if whole else [ANSWERS]
    costs = [(stage.name, stage.count(job)) for stage in [*first, *last]]
    plan = Plan(tuple(StageCost(name, c.rows, c.forwards, 0.0, 0, False) for name, c in costs), 1.0)
    return job, estimate._by_stage(job, plan, first)


def forward_seconds(model: Any, job: Job, machine: Machine) -> float:
    """Roofline seconds of one prompt's whole forward, in batches."""
    frame = torch.from_numpy(job.encoder.frame)
    with counting() as count:
        model.logits(frame.repeat(job.batch_size, 1).to(model.device))
    return count.cost.seconds(machine) / job.batch_size


def _total(stages: dict[str, dict[str, float]], part: str, *, means: bool) -> float:
    """Forwards of one task's stages whose names begin so; `means` says whether the task computes the means."""
    counted = [c["forwards"] for name, c in stages.items() if name.startswith(part) and (means or name != "own/means")]
    return sum(counted)
