"""From options to a finished run: load, plan, run the stages, summarise. Heavy imports stay inside the functions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arithcirc.cli import show
from arithcirc.cli.options import COMMAND_LINE, LoadOptions, ModelOptions
from arithcirc.config import (
    CircuitConfig,
    HeuristicConfig,
    KnockoutConfig,
    MapsConfig,
    NeuronConfig,
    ProbeConfig,
    PromptConfig,
)

if TYPE_CHECKING:
    from arithcirc.catalogue import SweepFolder
    from arithcirc.pipeline.job import Job
    from arithcirc.store import RunFolder


@dataclass(frozen=True)
class Asked:
    """Configurations a command was given; those of stages it does not run stay None."""

    prompts: PromptConfig
    circuit: CircuitConfig | None = None
    probe: ProbeConfig | None = None
    neurons: NeuronConfig | None = None
    heuristics: HeuristicConfig | None = None
    knockout: KnockoutConfig | None = None
    maps: MapsConfig | None = None


def execute(
    goals: tuple[str, ...],
    model: str | None,
    options: ModelOptions,
    asked: Asked,
    pairs: Path | None,
    *,
    neurons_file: Path | None = None,
    summarise: bool = True,
) -> "Job | None":
    """Plan, run and summarise some stages (all without goals); None when only the plan was asked for."""
    check_batch_size(options.batch_size)
    check_loading(model, options)
    show.passing("loading ...")
    from arithcirc.models.load import load, set_threads
    from arithcirc.pipeline import map_stage
    from arithcirc.pipeline.job import open_job
    from arithcirc.pipeline.memory import fit_batch_size
    from arithcirc.pipeline.plan import make_plan
    from arithcirc.pipeline.run import run_stages, stages_for

    set_threads(options.threads)
    loading = options.loading()
    loaded = load(model, **loading)
    stages = stages_for(*goals, without=() if neurons_file is None else ("neurons",))
    job = open_job(
        loaded,
        options.out,
        **vars(asked),
        pairs_file=pairs,
        neurons_file=neurons_file,
        batch_size=options.batch_size,
        sections=list(dict.fromkeys(section for stage in stages for section in stage.sections)),
        facts={
            "command": COMMAND_LINE.get(),
            "loading": {"model": model, **{k: v and str(v) for k, v in loading.items()}},
        },
        write=not options.plan_only,
    )
    info = loaded.info
    show.tokens(job.encoder)
    if (lowered := fit_batch_size(job, stages)) is not None:
        show.notice("memory", lowered)
    show.plan(make_plan(job, stages), f"{info.name} ({info.revision}, {info.dtype}, {info.device})")
    if "maps" in {stage.name for stage in stages if not job.run.finished(stage.name)}:
        show.maps_to_come(*map_stage.expected_size(job))
    if options.plan_only:
        return None
    with show.progress() as report:
        job.report = report
        run_stages(job, stages, notice=show.notice)
    if summarise:
        show.summary(job.run)
        show.out.print(f"tables: {job.run.path}")
    return job


def check_batch_size(batch_size: int) -> None:
    """Refuse a batch of nothing."""
    from arithcirc.errors import RequestError

    if batch_size < 1:
        raise RequestError(f"--batch-size {batch_size} is too small: give 1 or more (2048 is the default)")


def check_loading(model: str | None, options: LoadOptions) -> None:
    """Refuse a model, revision, device or dtype that cannot be, before torch is imported."""
    from arithcirc.models.zoo import check_request

    check_request(model, revision=options.revision, device=options.device, dtype=options.dtype)


def write_the_report(folder: "RunFolder | SweepFolder", *, form: str = "html") -> None:
    """Write the report of a run or a sweep and say where it is."""
    from arithcirc.report import write_report

    show.out.print(f"report: {write_report(folder, form=form)}")
