"""`analyze` and its stages as commands. Heavy imports stay inside the functions."""

from pathlib import Path
from typing import TYPE_CHECKING

from arithcirc.cli import show
from arithcirc.cli.options import COMMAND_LINE, CircuitOptions, ModelOptions, PromptOptions

if TYPE_CHECKING:
    from arithcirc.pipeline.job import Job
    from arithcirc.store import RunFolder

_MODEL, _PROMPTS, _CIRCUIT = ModelOptions(), PromptOptions(), CircuitOptions()


def analyze(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
) -> None:
    """Run the whole analysis and write the report: prompts, localisation, circuit, faithfulness.

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    run = _stages("faithfulness", model, options, prompts, circuit)
    if run is not None:
        _report(run)


def prompts_command(
    model: str | None = None, *, options: ModelOptions = _MODEL, prompts: PromptOptions = _PROMPTS
) -> None:
    """Choose prompts the model answers correctly, and their counterfactuals.

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    _stages("prompts", model, options, prompts, _CIRCUIT)


def localize_command(
    model: str | None = None, *, options: ModelOptions = _MODEL, prompts: PromptOptions = _PROMPTS
) -> None:
    """Exact effect of patching every head and MLP at every position (table `effects`).

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    run = _stages("localize", model, options, prompts, _CIRCUIT)
    if run is not None:
        _strongest(run)


def faithfulness_command(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
) -> None:
    """Choose a circuit and measure its faithfulness, with random circuits beside it (tables `circuit`, `faithfulness`).

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    _stages("faithfulness", model, options, prompts, circuit)


def report_command(run: Path) -> None:
    """Write report.html again from a run's tables.

    Parameters
    ----------
    run
        A run folder: OUT/<model>/<revision>.
    """
    from arithcirc.store import RunFolder

    _report(RunFolder.open(run))


def export_command(run: Path, *, out: Path, formats: str = "html") -> None:
    """Write a run's figures as files, each with a .json sidecar that says where it came from.

    Parameters
    ----------
    run
        A run folder: OUT/<model>/<revision>.
    out
        Folder for the figures.
    formats
        Any of html, png, svg, pdf, separated by commas; all but html need the extra `figures` and chromium.
    """
    from arithcirc.store import RunFolder
    from arithcirc.viz.export import write_figures

    written = write_figures(RunFolder.open(run), out, [f.strip() for f in formats.split(",")])
    show.out.print(f"{len(written)} figures: {out}")


def _stages(
    goal: str,
    model: str | None,
    options: ModelOptions,
    prompts: PromptOptions,
    circuit: CircuitOptions,
) -> "RunFolder | None":
    """Plan, run and summarise; None when only the plan was asked for."""
    prompt_config, circuit_config = prompts.config(), circuit.config()
    check_batch_size(options.batch_size)
    show.passing("loading ...")
    from arithcirc.models.load import load, set_threads
    from arithcirc.pipeline.job import open_job
    from arithcirc.pipeline.plan import make_plan
    from arithcirc.pipeline.run import run_stages, stages_for

    set_threads(options.threads)
    loaded = load(model, revision=options.revision, device=options.device, dtype=options.dtype)
    stages = stages_for(goal)
    job: Job = open_job(
        loaded,
        options.out,
        prompts=prompt_config,
        circuit=circuit_config,
        pairs_file=prompts.pairs,
        batch_size=options.batch_size,
        sections=list(dict.fromkeys(section for stage in stages for section in stage.sections)),
        facts={"command": COMMAND_LINE.get()},
        write=not options.plan_only,
    )
    info = loaded.info
    show.plan(make_plan(job, stages), f"{info.name} ({info.revision}, {info.dtype}, {info.device})")
    if options.plan_only:
        return None
    with show.progress() as report:
        job.report = report
        run_stages(job, stages, notice=show.notice)
    show.summary(job.run)
    show.out.print(f"tables: {job.run.path}")
    return job.run


def check_batch_size(batch_size: int) -> None:
    """Refuse a batch of nothing."""
    from arithcirc.errors import RequestError

    if batch_size < 1:
        raise RequestError(f"--batch-size {batch_size} is too small: give 1 or more (2048 is the default)")


def _strongest(run: "RunFolder") -> None:
    """The strongest heads at `=` per operator, on the terminal."""
    effects = run.table("effects")
    mine = effects[(effects["metric"] == "logit_diff") & (effects["change"] == "any") & (effects["kind"] == "head")]
    for operator, rows in mine.groupby("operator", sort=False):
        top = rows.sort_values("mean", ascending=False).head(5)
        named = [f"L{r.layer}H{r.head}@{r.position} {r.mean:.2f}" for r in top.itertuples()]
        show.out.print(f"{operator}  strongest heads (logit difference, nats): {', '.join(named)}")


def _report(run: "RunFolder") -> None:
    from arithcirc.report import write_report

    show.out.print(f"report: {write_report(run)}")
