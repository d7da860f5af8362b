"""`probe`, `neurons`, `heads`, `heuristics`, `knockout`, `failures` and `maps` as commands."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from arithcirc.cli import show_mechanism as show
from arithcirc.cli.execute import Asked, execute
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

_MODEL, _PROMPTS, _CIRCUIT = ModelOptions(), PromptOptions(), CircuitOptions()
_PROBE, _NEURONS, _HEURISTICS, _KNOCKOUT = ProbeOptions(), NeuronOptions(), HeuristicOptions(), KnockoutOptions()
_MAPS = MapsOptions()


def probe_command(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    probe: ProbeOptions = _PROBE,
) -> None:
    """Train linear probes for the answer at every layer and position (tables `probes`, `first_layers`).

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    asked = Asked(prompts.config(), probe=probe.config())
    if (job := execute(("probe",), model, options, asked, prompts.pairs)) is not None:
        show.probes(job.run)


def neurons_command(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
    probe: ProbeOptions = _PROBE,
    neurons: NeuronOptions = _NEURONS,
) -> None:
    """Exact effect of patching every MLP neuron at `=`, and the first-order estimate beside it (table `neurons`).

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    asked = Asked(prompts.config(), circuit.config(), probe.config(), neurons.config())
    if (job := execute(("neurons",), model, options, asked, prompts.pairs)) is not None:
        show.neurons(job.run)


def heads_command(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
    probe: ProbeOptions = _PROBE,
) -> None:
    """Where heads look from `=`, what they copy, and which edges the answer needs (table `heads`).

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    asked = Asked(prompts.config(), circuit.config(), probe.config())
    if (job := execute(("heads",), model, options, asked, prompts.pairs)) is not None:
        show.heads(job.run)


def heuristics_command(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
    probe: ProbeOptions = _PROBE,
    neurons: NeuronOptions = _NEURONS,
    heuristics: HeuristicOptions = _HEURISTICS,
    neurons_file: Annotated[Path | None, Parameter(name="--neurons")] = None,
) -> None:
    """Label important neurons, or those of a file, with the heuristics they implement (table `heuristics`).

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    neurons_file
        CSV with the columns layer, neuron: label these instead of the ranked ones.
    """
    asked = Asked(prompts.config(), circuit.config(), probe.config(), neurons.config(), heuristics.config())
    job = execute(("heuristics",), model, options, asked, prompts.pairs, neurons_file=neurons_file)
    if job is not None:
        show.labels(job.run)


def knockout_command(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
    probe: ProbeOptions = _PROBE,
    neurons: NeuronOptions = _NEURONS,
    heuristics: HeuristicOptions = _HEURISTICS,
    knockout: KnockoutOptions = _KNOCKOUT,
    heuristic: str | None = None,
    prompt: str | None = None,
    per_layer: int | None = None,
) -> None:
    """Ablate the neurons of every heuristic, and those of single prompts; or of one heuristic, or one prompt.

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    heuristic
        Only this heuristic, as "op2 = 8 mod 10": accuracy inside and outside it, and the answers before and after.
    prompt
        Only this prompt, as "226-68=": the answers before and after its heuristics' neurons are zeroed.
    per_layer
        With --prompt: zero at most so many neurons of each layer, those with the best labels.
    """
    asked = Asked(
        prompts.config(), circuit.config(), probe.config(), neurons.config(), heuristics.config(), knockout.config()
    )
    one = heuristic is not None or prompt is not None
    show.check_case(heuristic, prompt, per_layer, prompts)
    goals = ("means", "heuristics") if one else ("knockout",)
    job = execute(goals, model, options, asked, prompts.pairs, summarise=not one)
    if job is None:
        return
    if one:
        show.case(job, heuristic, prompt, per_layer)
    else:
        show.verdicts(job.run)


def failures_command(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
    probe: ProbeOptions = _PROBE,
    neurons: NeuronOptions = _NEURONS,
    heuristics: HeuristicOptions = _HEURISTICS,
    knockout: KnockoutOptions = _KNOCKOUT,
) -> None:
    """Compare heuristic neurons of prompts answered rightly and wrongly (tables `failures`, `failure_tests`).

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    asked = Asked(
        prompts.config(), circuit.config(), probe.config(), neurons.config(), heuristics.config(), knockout.config()
    )
    if (job := execute(("failures",), model, options, asked, prompts.pairs)) is not None:
        show.failures(job.run)


def maps_command(
    model: str | None = None,
    *,
    options: ModelOptions = _MODEL,
    prompts: PromptOptions = _PROMPTS,
    circuit: CircuitOptions = _CIRCUIT,
    probe: ProbeOptions = _PROBE,
    neurons: NeuronOptions = _NEURONS,
    heuristics: HeuristicOptions = _HEURISTICS,
    maps: MapsOptions = _MAPS,
) -> None:
    """Keep the activation maps of the most important labelled neurons, to look at in the explorer.

    Parameters
    ----------
    model
        Hugging Face id or local folder (default: the shipped model).
    """
    asked = Asked(
        prompts.config(), circuit.config(), probe.config(), neurons.config(), heuristics.config(), maps=maps.config()
    )
    if (job := execute(("maps",), model, options, asked, prompts.pairs, summarise=False)) is not None:
        show.maps(job.run)
