"""`arithcirc sweep`: one analysis over many checkpoints. Heavy imports stay inside the functions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from arithcirc.cli import show, show_sweep
from arithcirc.cli.options import COMMAND_LINE, HeuristicOptions, KnockoutOptions
from arithcirc.cli.sweep_options import (
    SweepCircuitOptions,
    SweepLoadOptions,
    SweepNeuronOptions,
    SweepProbeOptions,
    SweepPromptOptions,
    WhereOptions,
)

if TYPE_CHECKING:
    from arithcirc.catalogue import SweepFolder
    from arithcirc.sweep.task import StageSet

OUT = Path("runs/sweep")
_LOADING, _WHERE = SweepLoadOptions(), WhereOptions()
_PROMPTS, _CIRCUIT, _PROBE, _NEURONS = (
    SweepPromptOptions(),
    SweepCircuitOptions(),
    SweepProbeOptions(),
    SweepNeuronOptions(),
)
_HEURISTICS, _KNOCKOUT = HeuristicOptions(), KnockoutOptions()


def sweep_command(
    *models: str,
    revisions: str | None = None,
    reference: str | None = None,
    stages: str = "heuristics",
    out: Path = OUT,
    plan_only: Annotated[bool, Parameter(negative="")] = False,
    sql: str | None = None,
    csv: Path | None = None,
    where: WhereOptions = _WHERE,
    loading: SweepLoadOptions = _LOADING,
    prompts: SweepPromptOptions = _PROMPTS,
    circuit: SweepCircuitOptions = _CIRCUIT,
    probe: SweepProbeOptions = _PROBE,
    neurons: SweepNeuronOptions = _NEURONS,
    heuristics: HeuristicOptions = _HEURISTICS,
    knockout: KnockoutOptions = _KNOCKOUT,
) -> None:
    """Run the analysis over training checkpoints, or several models: when did each heuristic appear?

    Every (model, revision, operator) is a task; those done before are not done again. Ends with tables over the steps
    and a report. Interrupt at any moment; the same command goes on.

    Parameters
    ----------
    models
        Hugging Face ids or local folders (default: the shipped model).
    revisions
        step512; step0..step4000; step1000..step143000/20000; all; pythia or pythia/10; or several, joined by commas
        (default: all step folders of a local model).
    reference
        Revision that the others are compared with (default: the last).
    stages
        circuit (up to faithfulness), neurons (and their effects) or heuristics (and labels, and what became of them).
    out
        Folder of the sweep.
    plan_only
        Print the plan and stop.
    sql
        Query the tables of the sweep in OUT and stop, as "select step, accuracy from steps".
    csv
        Write the query's rows to this file, all of them.
    """
    if sql is not None:
        query(out, sql, csv)
        return
    from arithcirc.errors import RequestError, SweepIncomplete
    from arithcirc.sweep.api import run_sweep
    from arithcirc.sweep.task import Settings

    if csv is not None:
        raise RequestError(f"--csv {csv} writes the rows of a query: add --sql")
    settings = Settings(
        _stages(stages), prompts.config(), circuit.config(), probe.config(), neurons.config(), heuristics.config(),
        knockout.config(),
    )  # fmt: skip
    with show_sweep.Live() as live:
        try:
            folder = run_sweep(
                models,
                revisions=revisions,
                operators=prompts.operators,
                out=out,
                settings=settings,
                loading=loading.settled(),
                where=where.where(),
                reference=reference,
                retries=where.retries,
                drop_weights=where.drop_weights,
                command=COMMAND_LINE.get(),
                plan_only=plan_only,
                on_plan=live.plan,
                listen=live.hear,
            )
        except SweepIncomplete:
            live.stop()
            _finish(out)
            raise
    if not plan_only:
        _finish(out, folder)


def _stages(name: str) -> "StageSet":
    from arithcirc.errors import RequestError
    from arithcirc.sweep.task import STAGE_SETS

    found = next((s for s in STAGE_SETS if s == name), None)
    if found is None:
        raise RequestError(f"--stages {name!r} is not known: use one of {', '.join(STAGE_SETS)}")
    return found


def _finish(out: Path, folder: "SweepFolder | None" = None) -> None:
    """Results on the terminal, and the report."""
    from arithcirc.catalogue import SweepFolder
    from arithcirc.report import write_report

    sweep = folder or SweepFolder.open(out)
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
