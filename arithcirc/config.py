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
