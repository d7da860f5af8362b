"""What a task will cost, counted on the loaded model before it runs.

Forwards are counted as for a single run (pipeline.plan) and timed on the loaded model. Counted is the dearer kind of
task: one with a shared run beside its own, both with as many prompts as were asked for, as if every legal prompt were
answered correctly; the reference's task has one run, an early checkpoint's fewer prompts. Matching maps to heuristics
runs no model: its time is by neurons and prompts. Bytes are those of the tables and arrays, from their shapes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from arithcirc.catalogue import SweepFolder
from arithcirc.models.memory import weights_bytes
from arithcirc.pipeline.heuristic_stages import expected_neurons
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.plan import Plan, make_plan
from arithcirc.pipeline.prompt_stage import legal_by_operator, n_pairs
from arithcirc.pipeline.stage import Stage
from arithcirc.sweep.emergence_stage import Compared, emergence
from arithcirc.sweep.loaded import loaded_for
from arithcirc.sweep.runs import Doing, first_stages, labels_stage, open_run
from arithcirc.sweep.shared import ANSWERS
from arithcirc.sweep.task import Task

LABELLED = 2
"""Neurons labelled over those that count: by own prompts, by shared prompts and for the reference differ in part."""
MATCH_SECONDS = 1.7e-7
"""Ranking and scoring one prompt of one neuron's map, with its share of the nulls, on one thread."""
RUN_BYTES = 150_000
"""Tables of a run whose size depends on little."""
NEURON_BYTES, LABEL_BYTES, ANSWER_BYTES = 70, 64, 2
"""A neuron's rows of the table `neurons`, its labels, and an answer, compressed."""


def plan_task(task: Task, root: Path) -> dict[str, Any]:
    """Forwards and seconds by `own/<stage>` and `shared/<stage>`, forwards per second, and bytes; nothing is written.

    `memory_bytes` is the process's or the GPU's peak, `disk_bytes` what the task's files take. Loads the model; raises
    what loading it raises.
    """
    loaded, _ = loaded_for(task)
    unwritten = SweepFolder(root / "planned").files(*task.key)
    doing = Doing(task, unwritten, loaded, None, lambda *_: None)
    whole = task.settings.stages == "heuristics"
    job = open_run(doing, "own", neurons=[] if whole else None, write=False)
    job = replace(job, neurons=None)
    first = first_stages(task, None)
    last = [labels_stage(), emergence(Compared(reference=True))] if whole else [ANSWERS]
    plan = make_plan(job, [*first, *last])
    stages = _by_stage(job, plan, first)
    if whole:
        stages["own/heuristics"]["seconds"] += _matching_seconds(job)
    return {
        "stages": stages,
        "rate": plan.rate,
        "model_bytes": weights_bytes(loaded.model.info.n_params, loaded.model.info.dtype),
        "memory_bytes": max(s.memory_bytes for s in plan.stages),
        "disk_bytes": _disk_bytes(job, task),
    }


def _by_stage(job: Job, plan: Plan, first: list[Stage]) -> dict[str, dict[str, float]]:
    """The plan's stages of the own run, and those that the shared run repeats; emergence looks at both."""
    found: dict[str, dict[str, float]] = {}
    for cost in plan.stages:
        times = 2 if cost.stage == "emergence" else 1
        found[f"own/{cost.stage}"] = {"forwards": times * cost.forwards, "seconds": times * cost.seconds}
    again = {s.name for s in first} - {"means", "probe"}  # means are kept, a given first layer needs no probe
    for cost in plan.stages:
        if cost.stage in again:
            forwards = _shared_forwards(job, cost.stage, cost.forwards)
            found[f"shared/{cost.stage}"] = {"forwards": forwards, "seconds": forwards / plan.rate}
    return found


def _shared_forwards(job: Job, stage: str, forwards: float) -> float:
    """A stage on given pairs: each prompt has one counterfactual, and no others are tried."""
    cfg = job.config.prompts
    if stage == "prompts":
        return float(cfg.n_discover + cfg.n_evaluate)
    return forwards * cfg.n_discover / max(1, n_pairs(job)) if stage == "localize" else forwards


def _matching_seconds(job: Job) -> float:
    """What matching takes beside running the model."""
    rows = sum(len(legal) * len(expected_neurons(job, op)) for op, legal in legal_by_operator(job).items())
    return LABELLED * rows * MATCH_SECONDS / max(1, torch.get_num_threads())


def _disk_bytes(job: Job, task: Task) -> float:
    """Bytes of a task's files."""
    info, cfg = job.model.info, job.config.prompts
    per_pair = info.n_layers * (info.n_heads + 1) * 4 * 3 * 4  # positions, metrics, bytes of a number
    effects = (n_pairs(job) + cfg.n_discover) * per_pair
    means = 2 * info.n_layers * job.encoder.length * (info.d_mlp + info.n_heads * info.d_head) * 4
    legal = sum(len(prompts) for prompts in legal_by_operator(job).values())
    total = 2 * RUN_BYTES + effects + means + ANSWER_BYTES * legal
    if task.settings.stages != "circuit":
        total += 2 * NEURON_BYTES * info.n_layers * info.d_mlp
    if task.settings.stages == "heuristics":
        total += LABELLED * LABEL_BYTES * sum(len(expected_neurons(job, op)) for op in job.operators)
    return float(total)
