"""What fitting and scoring cost: sizes, floating-point operations and memory, from shapes alone.

With F = 2 x parameters x tokens for a forward pass, T tokens, and layers of d_out x d_in (bias counted in d_in):

    pass of a document     F forward, 2F backward, 2 T d_out d_in per layer for its own gradient
    covariances            the pass without its own gradients, 2 T (d_in^2 + d_out^2) per layer
    eigenvectors           9 (d_in^3 + d_out^3) per layer, once (LAPACK's order of magnitude)
    corrected eigenvalues  the pass, 2 (d_out d_in^2 + d_out^2 d_in) per layer and document
    preconditioning        twice the rotation, per query
    scores                 the pass and 2 d_out d_in per layer, document and query
    self-scores            the pass and, with curvature, a preconditioning per document

Seconds follow from a rate measured on a few rows of the same job (`plan`), or, marked as such, from another machine's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_FLOAT = 4
Shape = tuple[int, int]


@dataclass(frozen=True)
class Job:
    """A study's size: documents and their tokens in all, of which so many are fitted, queries and their tokens."""

    documents: int
    tokens: int
    fit_documents: int
    queries: int
    query_tokens: int
    partitions: int = 1


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of each part of a study."""

    covariances: float
    eigenvectors: float
    eigenvalues: float
    ekfac: float
    dot: float
    self_scores: float
    norms: float
    losses: float

    @property
    def fit(self) -> float:
        """The stage `factors`."""
        return self.covariances + self.eigenvectors + self.eigenvalues

    @property
    def score(self) -> float:
        """The stage `scores`."""
        return self.ekfac + self.dot + self.self_scores + self.norms + self.losses


def tracked_shapes(network: Any, tracked: Sequence[str]) -> list[Shape]:
    """(d_out, d_in) of each tracked layer, a bias counted as one more input."""
    modules = dict(network.named_modules())
    return [
        (modules[name].out_features, modules[name].in_features + (modules[name].bias is not None)) for name in tracked
    ]


def study_cost(n_params: int, shapes: Sequence[Shape], job: Job) -> Cost:
    """Operations of all parts; `n_params` are those that a token passes through (embeddings left out)."""
    per_token = 2.0 * n_params
    own = sum(2.0 * o * i for o, i in shapes)
    rotation = sum(2.0 * (o * i * i + o * o * i) for o, i in shapes)
    per_query = sum(2.0 * o * i for o, i in shapes)
    share = job.fit_documents / max(job.documents, 1)
    fit_tokens = job.tokens * share
    one_pass = job.tokens * (3 * per_token + own)
    asked = job.partitions * job.query_tokens * (3 * per_token + own)
    products = job.documents * job.queries * per_query
    return Cost(
        covariances=fit_tokens * (3 * per_token + sum(2.0 * (i * i + o * o) for o, i in shapes)),
        eigenvectors=sum(9.0 * (i**3 + o**3) for o, i in shapes),
        eigenvalues=fit_tokens * (3 * per_token + own) + job.fit_documents * rotation,
        ekfac=one_pass + products + asked + job.partitions * job.queries * 2 * rotation,
        dot=one_pass + products + asked,
        self_scores=one_pass + job.documents * 2 * rotation,
        norms=one_pass,
        losses=job.tokens * per_token,
    )


def factor_bytes(shapes: Sequence[Shape]) -> int:
    """Covariances and eigenvectors of both sides, and the eigenvalues, in float32."""
    return sum(_FLOAT * (2 * (i * i + o * o) + i * i // max(i, 1) + o + 2 * o * i) for o, i in shapes)


def query_bytes(shapes: Sequence[Shape], low_rank: int | None) -> int:
    """A query's gradient as it is held while documents stream by, and the copy it is made from."""
    if low_rank is None:
        return sum(2 * _FLOAT * o * i for o, i in shapes)
    return sum(_FLOAT * min(o * i, low_rank * (o + i)) for o, i in shapes)


def disk_bytes(job: Job) -> int:
    """Scores of four methods and three vectors, and the tokens."""
    return _FLOAT * job.documents * (4 * job.queries + 3) + (_FLOAT * job.tokens + 56 * job.documents)
