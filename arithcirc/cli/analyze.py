"""`analyze`, the stages up to the circuit and `report` as commands. Heavy imports stay in the functions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from arithcirc.cli import show
from arithcirc.cli.execute import Asked, execute, write_the_report
from arithcirc.cli.options import (
    CircuitOptions,
    HeuristicOptions,
    KnockoutOptions,
    MapsOptions,
    ModelOptions,
    NeuronOptions,
    ProbeOptions,
    PromptOptions,
)
from arithcirc.cli.show_mechanism import labels, verdicts

if TYPE_CHECKING:
    from arithcirc.store import RunFolder

_MODEL, _PROMPTS, _CIRCUIT = ModelOptions(), PromptOptions(), CircuitOptions()
_PROBE, _NEURONS, _HEURISTICS, _KNOCKOUT = ProbeOptions(), NeuronOptions(), HeuristicOptions(), KnockoutOptions()
_MAPS = MapsOptions()


def analyze(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
    probe: ProbeOptions = _PROBE,
    neurons: NeuronOptions = _NEURONS,
    heuristics: HeuristicOptions = _HEURISTICS,
    knockout: KnockoutOptions = _KNOCKOUT,
    maps: MapsOptions = _MAPS,
) -> None:
    """Run the whole analysis and write the report: circuit, probes, neurons, heads, heuristics, knockouts, failures.

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    asked = Asked(
        prompts.config(), circuit.config(), probe.config(), neurons.config(), heuristics.config(), knockout.config(),
        maps.config(),
    )  # fmt: skip
    job = execute((), model, options, asked, prompts.pairs)
    if job is not None:
        labels(job.run)
        verdicts(job.run)
        write_the_report(job.run)


def prompts_command(
    model: str | None = None, *, options: ModelOptions = _MODEL, prompts: PromptOptions = _PROMPTS
) -> None:
    """Choose prompts the model answers correctly, and their counterfactuals.

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    execute(("prompts",), model, options, Asked(prompts.config()), prompts.pairs)


def localize_command(
    model: str | None = None, *, options: ModelOptions = _MODEL, prompts: PromptOptions = _PROMPTS
) -> None:
    """Exact effect of patching every head and MLP at every position (table `effects`).

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    job = execute(("localize",), model, options, Asked(prompts.config()), prompts.pairs)
    if job is not None:
        _strongest(job.run)


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
    execute(("faithfulness",), model, options, Asked(prompts.config(), circuit.config()), prompts.pairs)


def report_command(
    run: Path,
    *,
    form: Annotated[str, Parameter(name="--format", help="html, md (with PNG figures) or pdf.")] = "html",
) -> None:
    """Write a run's or a sweep's report again from its tables: report.html, report.md or report.pdf.

    A PDF is printed by chromium; figures beside Markdown need the extra `figures` and chromium.

    Parameters
    ----------
    run
        A run folder, OUT/<model>/<revision>, or a sweep's folder.
    """
    from arithcirc.report import open_folder

    write_the_report(open_folder(run), form=form)


def _strongest(run: "RunFolder") -> None:
    """The strongest heads at `=` per operator, on the terminal."""
    effects = run.table("effects")
    mine = effects[(effects["metric"] == "logit_diff") & (effects["change"] == "any") & (effects["kind"] == "head")]
    for operator, rows in mine.groupby("operator", sort=False):
        top = rows.sort_values("mean", ascending=False).head(5)
        named = [f"L{r.layer}H{r.head}@{r.position} {r.mean:.2f}" for r in top.itertuples()]
        show.out.print(f"{operator}  strongest heads (logit difference, nats): {', '.join(named)}")
