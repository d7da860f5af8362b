"""`arithcirc sweep`: one analysis over many checkpoints. Heavy imports stay inside the functions."""

from pathlib import Path
from typing import TYPE_CHECKING

from arithcirc.cli import show, show_sweep
from arithcirc.cli.options import COMMAND_LINE, HeuristicOptions
from arithcirc.cli.sweep_options import (
    SweepCircuitOptions,
    SweepKnockoutOptions,
    SweepLoadOptions,
    SweepNeuronOptions,
    SweepOptions,
    SweepProbeOptions,
    SweepPromptOptions,
    WhereOptions,
)

if TYPE_CHECKING:
    from arithcirc.sweep.task import StageSet

_SWEEP, _LOADING, _WHERE = SweepOptions(), SweepLoadOptions(), WhereOptions()
_PROMPTS, _CIRCUIT, _PROBE = SweepPromptOptions(), SweepCircuitOptions(), SweepProbeOptions()
_NEURONS, _HEURISTICS, _KNOCKOUT = SweepNeuronOptions(), HeuristicOptions(), SweepKnockoutOptions()


def sweep_command(
    *models: str,
    options: SweepOptions = _SWEEP,
    where: WhereOptions = _WHERE,
    loading: SweepLoadOptions = _LOADING,
    prompts: SweepPromptOptions = _PROMPTS,
    circuit: SweepCircuitOptions = _CIRCUIT,
    probe: SweepProbeOptions = _PROBE,
    neurons: SweepNeuronOptions = _NEURONS,
    heuristics: HeuristicOptions = _HEURISTICS,
    knockout: SweepKnockoutOptions = _KNOCKOUT,
) -> None:
    """Run the analysis over training checkpoints, or several models: when did each heuristic appear?

    Every (model, revision, operator) is a task; those done before are not done again. Ends with tables over the steps
    and a report. Interrupt at any moment; the same command goes on.

    Parameters
    ----------
    models
        Hugging Face ids or local folders, or MODEL@REVISIONS for revisions of its own (default: the shipped model).
    """
    if options.sql is not None:
        query(options.out, options.sql, options.csv)
        return
    from arithcirc.errors import RequestError, SweepIncomplete
    from arithcirc.sweep.api import run_sweep
    from arithcirc.sweep.task import Settings

    if options.csv is not None:
        raise RequestError(f"--csv {options.csv} writes the rows of a query: add --sql")
    settings = Settings(
        _stages(options.stages), prompts.config(), circuit.config(), probe.config(), neurons.config(),
        heuristics.config(), knockout.config(), prompts.level,
    )  # fmt: skip
    with show_sweep.Live() as live:
        try:
            run_sweep(
                models,
                revisions=options.revisions,
                operators=prompts.operators,
                out=options.out,
                settings=settings,
                loading=loading.settled(),
                where=where.where(),
                reference=options.reference,
                retries=where.retries,
                drop_weights=where.drop_weights,
                command=COMMAND_LINE.get(),
                plan_only=options.plan_only,
                on_plan=live.plan,
                listen=live.hear,
            )
        except SweepIncomplete:
            live.stop()
            _finish(options.out)
            raise
    if not options.plan_only:
        _finish(options.out)


def _stages(name: str) -> "StageSet":
    from arithcirc.errors import RequestError
    from arithcirc.sweep.task import STAGE_SETS

    found = next((s for s in STAGE_SETS if s == name), None)
    if found is None:
        raise RequestError(f"--stages {name!r} is not known: use one of {', '.join(STAGE_SETS)}")
    return found


def _finish(out: Path) -> None:
    """Results on the terminal, and the report."""
    from arithcirc.catalogue import SweepFolder
    from arithcirc.report import write_report

    sweep = SweepFolder.open(out)
    show_sweep.results(sweep)
    show.out.print(f"report: {write_report(sweep)}")


def query(out: Path, sql: str, csv: Path | None) -> None:
    """Print the rows of a query, and write them all to a file when one is given."""
    from arithcirc.catalogue import SweepFolder
    from arithcirc.store import write_text

    rows = SweepFolder.open(out).sql(sql)
    if csv is not None:
        write_text(csv, rows.to_csv(index=False))
        show.out.print(f"{len(rows)} rows: {csv}")
        return
    show_sweep.rows(rows)
