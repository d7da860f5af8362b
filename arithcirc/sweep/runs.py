"""The runs of a task: opening own/ and shared/, the stages of each, and what running them cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from arithcirc.catalogue import TaskFiles
from arithcirc.components import Neuron
from arithcirc.pipeline.heuristic_stages import heuristics_stage
from arithcirc.pipeline.job import Job, Report, open_job
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.pipeline.stage import Stage
from arithcirc.sweep.given import Given
from arithcirc.sweep.loaded import Loaded
from arithcirc.sweep.task import Task

GOALS = {"circuit": "faithfulness", "neurons": "neurons", "heuristics": "neurons"}
"""The last stage of own/ before the labels, and of shared/, by set of stages."""


@dataclass
class Tally:
    """What a task cost so far."""

    forwards: float = 0.0
    peak_bytes: int = 0
    reused: float = 0.0


@dataclass(frozen=True)
class Doing:
    """A task under way: its files, model, what the reference gave, and the cost so far."""

    task: Task
    files: TaskFiles
    loaded: Loaded
    given: Given | None
    report: Report
    tally: Tally = field(default_factory=Tally)


def first_stages(task: Task, given: Given | None) -> list[Stage]:
    """Up to the circuit or the neurons; a given first layer needs no probe."""
    asked = task.settings.neurons.first_layer is not None or (given is not None and given.first_layer is not None)
    return stages_for(GOALS[task.settings.stages], without=("probe",) if asked else ())


def labels_stage() -> Stage:
    """The stage `heuristics` without example maps, which are for a report of one run."""
    (stage,) = [s for s in stages_for("heuristics") if s.name == "heuristics"]
    return replace(stage, run=partial(heuristics_stage, examples=0))


def open_run(doing: Doing, part: str, *, neurons: Sequence[Neuron] | None = None, write: bool = True) -> Job:
    """Open own/ or shared/ with the rule that the reference gave; `neurons` are those to label."""
    s, loading, given = doing.task.settings, doing.task.loading, doing.given
    rule = s.neurons
    if given is not None:
        rule = replace(
            rule,
            first_layer=given.first_layer if rule.first_layer is None else rule.first_layer,
            top=given.top if rule.top is None else rule.top,
        )
    sections = ["model", "prompts", "circuit"]
    sections += [] if s.stages == "circuit" else ["probe", "neurons"]
    sections += [] if neurons is None else ["heuristics", "knockout"]
    job = open_job(
        doing.loaded.model,
        doing.files.folder,
        folder=doing.files.own if part == "own" else doing.files.shared,
        prompts=replace(s.prompts, operators=doing.task.operator),
        circuit=s.circuit,
        probe=s.probe,
        neurons=rule,
        heuristics=s.heuristics,
        knockout=s.knockout,
        pairs_file=doing.files.shared_pairs if part == "shared" else None,
        given_neurons=neurons,
        batch_size=loading.batch_size,
        sections=sections,
        facts={"task": str(doing.task), "loading": asdict(loading)},
        report=lambda stage, done, total: doing.report(f"{part}/{stage}", done, total),
        write=write,
    )
    job.means = doing.loaded.means
    return job


def run(doing: Doing, job: Job, stages: Sequence[Stage]) -> None:
    """Run what is not finished, and count what it cost."""
    known = len(job.means)
    before = {s.name: job.run.finished(s.name) for s in stages}
    run_stages(job, stages)
    for stage in stages:
        record = job.run.manifest["stages"][stage.name]
        if before[stage.name]:
            doing.tally.reused += record["seconds"]
        else:
            doing.tally.peak_bytes = max(doing.tally.peak_bytes, _peak(job, record["memory"]["measured"]))
        if stage.name != "means" or before[stage.name] or len(job.means) > known:
            doing.tally.forwards += stage.count(job).forwards


def _peak(job: Job, measured: int | None) -> int:
    """A stage's peak of resident memory; on a GPU what was measured is the GPU's."""
    return measured or 0 if job.model.device.type == "cpu" else 0
