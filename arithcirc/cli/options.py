"""Options shared by the commands, with their help. Importing this must stay cheap: no torch, no plotly."""

from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from arithcirc.config import (
    CircuitConfig,
    HeuristicConfig,
    KnockoutConfig,
    MapsConfig,
    NeuronConfig,
    ProbeConfig,
    PromptConfig,
)

DEFAULT_OUT = Path("runs")
COMMAND_LINE: ContextVar[str | None] = ContextVar("command_line", default=None)
"""The command line as it was typed, for the manifest."""


@Parameter(name="*")
@dataclass(frozen=True)
class PlainOptions:
    """How the model is loaded: any decoder of transformers, without hooks."""

    revision: Annotated[
        str | None,
        Parameter(help="Hub revision (Pythia: step0 .. step143000), or a step<N> folder (default: the last)."),
    ] = None
    device: Annotated[str | None, Parameter(help="cpu, cuda or cuda:N (default: cuda where there is one).")] = None
    dtype: Annotated[str, Parameter(help="float32, bfloat16 or float16.")] = "float32"
    cache_dir: Annotated[Path | None, Parameter(help="Where hub models are kept (default: the hub's own cache).")] = (
        None
    )
    offline: Annotated[bool, Parameter(negative="", help="Use only files already here; ask the hub nothing.")] = False
    threads: Annotated[int | None, Parameter(help="CPU threads (default: all cores).")] = None

    def loading(self) -> dict[str, Any]:
        """What `load_plain` is asked for."""
        return {
            "revision": self.revision,
            "device": self.device,
            "dtype": self.dtype,
            "cache_dir": self.cache_dir,
            "offline": self.offline,
        }


@Parameter(name="*")
@dataclass(frozen=True)
class LoadOptions(PlainOptions):
    """How the model is loaded."""

    device_map: Annotated[str | None, Parameter(help="auto: spread the layers over all GPUs here.")] = None

    def loading(self) -> dict[str, Any]:
        """What `load` is asked for."""
        return super().loading() | {"device_map": self.device_map}


@Parameter(name="*")
@dataclass(frozen=True)
class ModelOptions(LoadOptions):
    """How the model is loaded and run."""

    batch_size: Annotated[int, Parameter(help="Rows in flight; halved by itself when memory runs out.")] = 2048
    out: Annotated[Path, Parameter(help="Runs go to OUT/<model>/<revision>.")] = DEFAULT_OUT
    plan_only: Annotated[bool, Parameter(negative="", help="Print the plan and stop.")] = False


@Parameter(name="*")
@dataclass(frozen=True)
class PromptOptions:
    """Which prompts are used."""

    operators: Annotated[str, Parameter(allow_leading_hyphen=True, help="Any of + - * /, as '+-' or add,sub.")] = "+-*/"
    operands: Annotated[str, Parameter(help="Inclusive operand range LOW..HIGH.")] = "0..299"
    prompts: Annotated[
        int, Parameter(help="Correct prompts per operator to discover with, and as many to evaluate.")
    ] = 100
    counterfactual_seeds: Annotated[int, Parameter(help="Counterfactuals drawn per prompt.")] = 3
    seed: Annotated[int, Parameter(help="Seed of every random choice.")] = 0
    prefix: Annotated[str, Parameter(help="Few-shot text put before every prompt.")] = ""
    template: Annotated[
        str, Parameter(help="Prompt with {op1}, {operator}, {op2}, ending in '='; a last space belongs to the answer.")
    ] = "{op1}{operator}{op2}="
    pairs: Annotated[Path | None, Parameter(help="CSV, JSON lines or Parquet of prompts and counterfactuals.")] = None

    def config(self) -> PromptConfig:
        """The configuration these options stand for."""
        return PromptConfig(
            operators=self.operators,
            operands=self.operands,
            n_discover=self.prompts,
            n_evaluate=self.prompts,
            counterfactual_seeds=self.counterfactual_seeds,
            seed=self.seed,
            prefix=self.prefix.replace("\\n", "\n"),
            template=self.template,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class CircuitOptions:
    """How the circuit is chosen and judged."""

    heads: Annotated[int | None, Parameter(help="Heads in the circuit (default: fewest that reach --target).")] = None
    mlps: Annotated[str, Parameter(help="MLPs kept: all, none, or layers such as 0,2-5.")] = "all"
    rank_by: Annotated[str, Parameter(help="Effect that ranks heads: logit_diff, E or kl.")] = "logit_diff"
    target: Annotated[float, Parameter(help="Faithfulness the circuit must reach on the discover set.")] = 0.9
    random_circuits: Annotated[int, Parameter(help="Random circuits per size, as the baseline.")] = 10
    mean_prompts: Annotated[
        int | None, Parameter(help="Prompts per operator behind the means (default: all of them).")
    ] = None

    def config(self) -> CircuitConfig:
        """The configuration these options stand for."""
        return CircuitConfig(
            n_heads=self.heads,
            mlps=self.mlps,
            rank_by=self.rank_by,
            target=self.target,
            random_circuits=self.random_circuits,
            mean_prompts=self.mean_prompts,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class ProbeOptions:
    """How the linear probes are trained."""

    probe_prompts: Annotated[int, Parameter(help="Prompts tried per operator; the correct ones are used.")] = 4000
    probe_lr: Annotated[float, Parameter(help="Adam's learning rate (the paper's is 0.0003).")] = (
        ProbeConfig.learning_rate
    )
    probe_batch: Annotated[int, Parameter(help="Prompts per step (the paper's is 32).")] = ProbeConfig.batch
    probe_epochs: Annotated[int, Parameter(help="Most epochs; a probe stops when it no longer improves.")] = (
        ProbeConfig.epochs
    )

    def config(self) -> ProbeConfig:
        """The configuration these options stand for."""
        return ProbeConfig(self.probe_prompts, self.probe_lr, self.probe_batch, self.probe_epochs)


@Parameter(name="*")
@dataclass(frozen=True)
class NeuronOptions:
    """Which neurons count as important."""

    top_neurons: Annotated[
        int | None, Parameter(help="Neurons per layer (default: fewest that reach --target with all heads).")
    ] = None
    first_layer: Annotated[int | None, Parameter(help="First layer with heuristics (default: from the probe).")] = None
    random_neurons: Annotated[int, Parameter(help="Random rankings of neurons, as the baseline.")] = 5

    def config(self) -> NeuronConfig:
        """The configuration these options stand for."""
        return NeuronConfig(self.top_neurons, self.first_layer, self.random_neurons)


@Parameter(name="*")
@dataclass(frozen=True)
class HeuristicOptions:
    """How neurons are labelled."""

    preset: Annotated[str, Parameter(help="List of heuristics: paper or reference.")] = "paper"
    threshold: Annotated[float, Parameter(help="Score from which a neuron carries a label.")] = 0.6
    q: Annotated[float, Parameter(help="False-discovery rate below which a label is significant.")] = 0.01
    null_draws: Annotated[int, Parameter(help="Relabellings behind each p-value.")] = HeuristicConfig.draws

    def config(self) -> HeuristicConfig:
        """The configuration these options stand for."""
        return HeuristicConfig(self.preset, self.threshold, self.q, self.null_draws)


@Parameter(name="*")
@dataclass(frozen=True)
class KnockoutOptions:
    """How many prompts the ablations and the comparison of right and wrong answers use."""

    knockout_prompts: Annotated[int, Parameter(help="Correct prompts inside each heuristic, and outside.")] = 100
    by_prompt: Annotated[int, Parameter(help="Prompts whose own heuristics are knocked out.")] = 50
    failures: Annotated[int, Parameter(help="Correct prompts, and incorrect ones, to compare.")] = 50
    labels: Annotated[str, Parameter(help="Labels that count: matched (score alone, the paper's) or significant.")] = (
        "matched"
    )

    def config(self) -> KnockoutConfig:
        """The configuration these options stand for."""
        return KnockoutConfig(self.knockout_prompts, self.by_prompt, self.failures, self.labels)


@Parameter(name="*")
@dataclass(frozen=True)
class MapsOptions:
    """Which neurons' activation maps are kept for the explorer."""

    maps: Annotated[int, Parameter(help="Neurons per operator whose activation maps are kept; 0: none.")] = (
        MapsConfig.top
    )

    def config(self) -> MapsConfig:
        """The configuration these options stand for."""
        return MapsConfig(self.maps)
