"""What an influence study was asked to do, section by section, for the manifest of its folder.

The folder is `influence/` inside the run folder of the model (`OUT/<model>/<revision>/influence/`): a `RunFolder` with
stages of its own. Sections hold hashes of what was read, so factors of other weights or another corpus are refused.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from arithcirc.config import ModelConfig
from arithcirc.errors import RequestError

LONG = ("truncate", "chunk")


@dataclass(frozen=True)
class CorpusConfig:
    """Which documents: hash and number, the longest row in tokens, and what happens to longer texts."""

    sha256: str = ""
    documents: int = 0
    max_tokens: int = 512
    long: str = "truncate"

    def __post_init__(self) -> None:
        if self.max_tokens < 2:
            raise RequestError(f"--max-tokens {self.max_tokens} is too few: give 2 or more, 512 is the paper's")
        if self.long not in LONG:
            raise RequestError(f"--long {self.long!r} is not known: use {' or '.join(LONG)}")


@dataclass(frozen=True)
class FactorConfig:
    """How curvature is fitted: method, tracked layers, documents drawn for it (None: all), seed of sampled labels."""

    strategy: str = "ekfac"
    layers: str = "mlp"
    tracked: tuple[str, ...] = ()
    fit_documents: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class QueryConfig:
    """Which queries: hash and number, longest completion in tokens, text it ends before (None: a line break)."""

    sha256: str = ""
    queries: int = 0
    max_new_tokens: int = 48
    stop: str | None = None


@dataclass(frozen=True)
class ScoreConfig:
    """How scores are computed. `damping` None: 0.1 x mean eigenvalue of each layer; `low_rank` None: exact queries."""

    damping: float | None = None
    low_rank: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class InfluenceConfig:
    """All sections of an influence study."""

    model: ModelConfig
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    factors: FactorConfig = field(default_factory=FactorConfig)
    queries: QueryConfig = field(default_factory=QueryConfig)
    scores: ScoreConfig = field(default_factory=ScoreConfig)

    def section(self, name: str) -> dict[str, Any]:
        """One section as plain values. An option that came later is left out at its default: older folders lack it."""
        values = asdict(getattr(self, name))
        if name == "queries" and values["stop"] is None:
            del values["stop"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
