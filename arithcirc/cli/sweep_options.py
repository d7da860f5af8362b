"""Options of `arithcirc sweep`: those of the other commands, with a sweep's defaults, and its own."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from arithcirc.cli.options import CircuitOptions, LoadOptions, NeuronOptions, ProbeOptions, PromptOptions
from arithcirc.config import KnockoutConfig, PromptConfig

if TYPE_CHECKING:
    from arithcirc.sweep.task import Loading
    from arithcirc.sweep.where import Where

OUT = Path("runs/sweep")
_HIDDEN = Parameter(parse=False, show=False)


@Parameter(name="*")
@dataclass(frozen=True)
class SweepOptions:
    """Which checkpoints, how far, and where to; or a query instead."""

    revisions: Annotated[
        str | None,
        Parameter(
            help="step512; step0..step4000; step1000..step143000/20000; all; pythia or pythia/10; or several, joined "
            "by commas (default: all step folders of a local model). MODEL@REVISIONS gives one model its own."
        ),
    ] = None
    reference: Annotated[
        str | None, Parameter(help="Revision that the others are compared with (default: the last).")
    ] = None
    stages: Annotated[
        str,
        Parameter(
            help="circuit (up to faithfulness), neurons (and their effects) or heuristics (and labels, and what the "
            "labelled neurons do)."
        ),
    ] = "heuristics"
    out: Annotated[Path, Parameter(help="Folder of the sweep.")] = OUT
    plan_only: Annotated[bool, Parameter(negative="", help="Print the plan and stop.")] = False
    sql: Annotated[
        str | None,
        Parameter(help='Query the tables of the sweep in OUT and stop, as "select step, accuracy from steps".'),
    ] = None
    csv: Annotated[Path | None, Parameter(help="Write the query's rows to this file, all of them.")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class SweepPromptOptions(PromptOptions):
    """Which prompts are used, of each checkpoint and operator."""

    prompts: Annotated[int, Parameter(help="Correct prompts per operator to discover with.")] = 50
    evaluate: Annotated[int, Parameter(help="Others to judge circuits and ablations on.")] = 100
    level: Annotated[
        float, Parameter(help="Analyse a checkpoint where it beats the most frequent answer at this p (1: always).")
    ] = 0.01
    counterfactual_seeds: Annotated[int, Parameter(help="Counterfactuals drawn per prompt.")] = 1
    pairs: Annotated[Path | None, _HIDDEN] = None

    def config(self) -> PromptConfig:
        """The configuration these options stand for."""
        return replace(super().config(), n_evaluate=self.evaluate)


@Parameter(name="*")
@dataclass(frozen=True)
class SweepCircuitOptions(CircuitOptions):
    """How each circuit is chosen and judged."""

    random_circuits: Annotated[int, Parameter(help="Random circuits per size, as the baseline.")] = 3
    mean_prompts: Annotated[int | None, Parameter(help="Prompts per operator behind the means.")] = 2000


@Parameter(name="*")
@dataclass(frozen=True)
class SweepProbeOptions(ProbeOptions):
    """How the linear probes of the reference are trained."""

    probe_prompts: Annotated[int, Parameter(help="Prompts tried per operator; the correct ones are used.")] = 2000


@Parameter(name="*")
@dataclass(frozen=True)
class SweepNeuronOptions(NeuronOptions):
    """Which neurons count as important: a rule found on the reference, for all checkpoints."""

    top_neurons: Annotated[int | None, Parameter(help="Neurons per layer, for all operators (the paper: 200).")] = 100
    first_layer: Annotated[
        int | None, Parameter(help="First layer with heuristics (default: from the reference's probe).")
    ] = None
    random_neurons: Annotated[int, Parameter(help="Random rankings of neurons, as the baseline.")] = 1


@Parameter(name="*")
@dataclass(frozen=True)
class SweepKnockoutOptions:
    """How many prompts the ablations by prompt use, for matched and for significant labels alike."""

    by_prompt: Annotated[int, Parameter(help="Evaluate prompts whose own heuristics are knocked out.")] = 100

    def config(self) -> KnockoutConfig:
        """The configuration these options stand for."""
        return KnockoutConfig(by_prompt=self.by_prompt)


@Parameter(name="*")
@dataclass(frozen=True)
class SweepLoadOptions(LoadOptions):
    """How models are loaded and run."""

    revision: Annotated[str | None, _HIDDEN] = None
    threads: Annotated[int | None, Parameter(help="CPU threads of each worker (default: cores / workers).")] = None
    batch_size: Annotated[int, Parameter(help="Rows in flight; halved by itself when memory runs out.")] = 2048

    def settled(self) -> "Loading":
        """What tasks are given."""
        from arithcirc.cli.execute import check_batch_size
        from arithcirc.sweep.task import Loading

        check_batch_size(self.batch_size)
        cache = None if self.cache_dir is None else str(self.cache_dir.expanduser().absolute())
        return Loading(self.device, self.device_map, self.dtype, cache, self.offline, self.threads, self.batch_size)


@Parameter(name="*")
@dataclass(frozen=True)
class WhereOptions:
    """Where tasks run."""

    workers: Annotated[
        int | None, Parameter(help="Tasks at once (default: one per GPU, else as many as cores and memory allow).")
    ] = None
    executor: Annotated[str, Parameter(help="local, ray or slurm; the last two need the extra `cluster`.")] = "local"
    address: Annotated[
        str | None, Parameter(help="Ray cluster, HOST:PORT of its head, or auto (default: started here).")
    ] = None
    gpus_per_task: Annotated[float, Parameter(help="GPUs that Ray or SLURM reserves for a task.")] = 0.0
    cpus_per_task: Annotated[int | None, Parameter(help="Cores that Ray or SLURM reserves for a task.")] = None
    partition: Annotated[str | None, Parameter(help="SLURM partition.")] = None
    time_limit: Annotated[int | None, Parameter(help="Minutes that SLURM gives a job (default: 240).")] = None
    memory_gb: Annotated[float | None, Parameter(help="Memory that SLURM reserves for a job, in GB.")] = None
    retries: Annotated[int, Parameter(help="How often a task is tried again when its worker dies.")] = 2
    drop_weights: Annotated[
        bool, Parameter(negative="", help="Delete downloaded weights of a checkpoint after its last task.")
    ] = False

    def where(self) -> "Where":
        """Where tasks run, checked."""
        from arithcirc.errors import RequestError
        from arithcirc.sweep.where import KINDS, Where

        kind = next((k for k in KINDS if k == self.executor), None)
        if kind is None:
            raise RequestError(f"--executor {self.executor!r} is not known: use one of {', '.join(KINDS)}")
        return Where(
            kind, self.workers, self.address, self.gpus_per_task, self.cpus_per_task,
            self.partition, self.time_limit, self.memory_gb,
        )  # fmt: skip
