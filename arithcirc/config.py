"""What a run was asked to do: frozen, comparable, and written into its manifest.

The configuration has one section per concern. A stage names the sections it depends on, so `localize` and `analyze` can
share a run folder as long as the sections both use are equal.
"""

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from arithcirc.errors import PromptError, RequestError


@dataclass(frozen=True)
class PromptConfig:
    """Which prompts: operators, operand range, counts, counterfactual seeds, format. `pairs` is a file's sha256."""

    operators: str = "+-*/"
    operands: str = "0..299"
    n_discover: int = 100
    n_evaluate: int = 100
    counterfactual_seeds: int = 3
    seed: int = 0
    prefix: str = ""
    template: str = "{op1}{operator}{op2}="
    pairs: str | None = None

    def __post_init__(self) -> None:
        if (fewest := min(self.n_discover, self.n_evaluate)) < 1:
            raise PromptError(f"--prompts {fewest} is too few: at least 1 is needed, 100 is usual")
        if self.counterfactual_seeds < 1:
            raise PromptError(f"--counterfactual-seeds {self.counterfactual_seeds} is too few: at least 1 is needed")
        if self.seed < 0:
            raise PromptError(f"--seed {self.seed} is negative: give 0 or more")


@dataclass(frozen=True)
class CircuitConfig:
    """How the circuit is chosen and judged. `n_heads` None: the smallest that reaches `target` on the discover set."""

    n_heads: int | None = None
    mlps: str = "all"
    rank_by: str = "logit_diff"
    target: float = 0.9
    random_circuits: int = 10
    mean_prompts: int | None = None

    def __post_init__(self) -> None:
        if self.n_heads is not None and self.n_heads < 0:
            raise RequestError(f"--heads {self.n_heads} is negative: give 0 or more, or leave it out")
        if not 0 < self.target <= 1:
            raise RequestError(f"--target {self.target} is not in (0, 1]: faithfulness 0.9 is the default")
        if self.random_circuits < 1:
            raise RequestError(f"--random-circuits {self.random_circuits} is too few: at least 1 is needed")
        if self.mean_prompts is not None and self.mean_prompts < 1:
            raise RequestError(f"--mean-prompts {self.mean_prompts} is too few: give 1 or more, or leave it out")


@dataclass(frozen=True)
class ProbeConfig:
    """How the linear probes are trained: prompts tried per operator, Adam's step, rows per step, most epochs.

    The correct ones of the prompts tried are used. The paper's step and batch are 3e-4 and 32.
    """

    prompts: int = 4000
    learning_rate: float = 1e-2
    batch: int = 256
    epochs: int = 60

    def __post_init__(self) -> None:
        if self.prompts < 10:
            raise RequestError(f"--probe-prompts {self.prompts} is too few: give 10 or more, 4000 is the default")
        if not 0 < self.learning_rate < 1:
            raise RequestError(f"--probe-lr {self.learning_rate} is not in (0, 1): 0.01 is the default")
        counts = {"--probe-batch": self.batch, "--probe-epochs": self.epochs}
        if few := [f"{option} {n}" for option, n in counts.items() if n < 1]:
            raise RequestError(f"{few[0]} is too few: give 1 or more")


@dataclass(frozen=True)
class NeuronConfig:
    """Which neurons count as important: the `top` of each layer from `first_layer` on, by exact effect.

    `top` None: the fewest per layer with which faithfulness reaches the circuit's `target` on the discover prompts,
    every head and earlier MLP kept. `first_layer` None: per operator, from the probe; given, no neuron below it is
    patched.
    """

    top: int | None = None
    first_layer: int | None = None
    random_draws: int = 5

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise RequestError(f"--top-neurons {self.top} is too few: give 1 or more, or leave it out")
        if self.first_layer is not None and self.first_layer < 0:
            raise RequestError(f"--first-layer {self.first_layer} is negative: give a layer, or leave it out")
        if self.random_draws < 1:
            raise RequestError(f"--random-neurons {self.random_draws} is too few: at least 1 is needed")


@dataclass(frozen=True)
class HeuristicConfig:
    """How neurons are labelled. `neurons` is the sha256 of a file of neurons given instead of the ranked ones."""

    preset: str = "paper"
    threshold: float = 0.6
    q: float = 0.01
    draws: int = 200
    neurons: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise RequestError(f"--threshold {self.threshold} is not in (0, 1]: 0.6 is the paper's")
        if not 0 < self.q <= 1:
            raise RequestError(f"--q {self.q} is not in (0, 1]: 0.01 is the default")
        if self.draws < 20:
            raise RequestError(f"--null-draws {self.draws} is too few to read a p-value off: give 20 or more")


LABELS = ("matched", "significant")


@dataclass(frozen=True)
class KnockoutConfig:
    """Ablations: prompts inside and outside each heuristic, prompts of the by-prompt sweep and of the failures.

    `labels`: which labels say what a neuron does, the `matched` ones (score at the threshold, as in the paper) or only
    the `significant` ones.
    """

    prompts: int = 100
    by_prompt: int = 50
    failures: int = 50
    labels: str = "matched"

    def __post_init__(self) -> None:
        if self.labels not in LABELS:
            raise RequestError(f"--labels {self.labels!r} is not known: use {' or '.join(LABELS)}")
        counts = {"--knockout-prompts": self.prompts, "--by-prompt": self.by_prompt, "--failures": self.failures}
        if few := [f"{option} {n}" for option, n in counts.items() if n < 1]:
            raise RequestError(f"{few[0]} is too few: give 1 or more")


@dataclass(frozen=True)
class MapsConfig:
    """How many neurons' activation maps are kept per operator, half of them the strongest, half labelled; 0: none."""

    top: int = 500

    def __post_init__(self) -> None:
        if self.top < 0:
            raise RequestError(f"--maps {self.top} is negative: give the neurons per operator, or 0 for none")


@dataclass(frozen=True)
class ModelConfig:
    """Which model, by what was loaded: hashes stand for the weights, so a moved folder is still the same model."""

    name: str
    revision: str
    weights_sha256: str
    tokenizer_sha256: str
    dtype: str


@dataclass(frozen=True)
class RunConfig:
    """All sections of a run's configuration."""

    model: ModelConfig
    prompts: PromptConfig = field(default_factory=PromptConfig)
    circuit: CircuitConfig = field(default_factory=CircuitConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    neurons: NeuronConfig = field(default_factory=NeuronConfig)
    heuristics: HeuristicConfig = field(default_factory=HeuristicConfig)
    knockout: KnockoutConfig = field(default_factory=KnockoutConfig)
    maps: MapsConfig = field(default_factory=MapsConfig)

    def section(self, name: str) -> dict[str, Any]:
        """One section as plain values."""
        section = getattr(self, name)
        return asdict(section) if is_dataclass(section) and not isinstance(section, type) else {}

    def sections(self) -> dict[str, dict[str, Any]]:
        """Every section as plain values, ready for JSON."""
        return {f.name: self.section(f.name) for f in fields(self)}


def differing_fields(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """`["seed: 0 here, 1 asked"]` for every field in which a stored section differs from the one asked for."""
    names = sorted(set(ours) | set(theirs))
    return [
        f"{n}: {theirs.get(n)!r} in the folder, {ours.get(n)!r} asked" for n in names if ours.get(n) != theirs.get(n)
    ]
