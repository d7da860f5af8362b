"""What fitting and scoring cost in floating-point operations, from shapes alone.

With F = 2 x parameters per token for a forward pass, and tracked layers of d_out x d_in (a bias is one more input):

    pass of a document     F forward, 2F backward; per layer 2 d_out d_in a token for its own gradient
    covariances            the pass without own gradients, 2 (d_in^2 + d_out^2) a token and layer
    eigenvectors           25 (d_in^3 + d_out^3) a layer, once, in double precision
    eigenvalues            the pass, 2 (d_out d_in^2 + d_out^2 d_in) a document and layer
    ekfac, dot             the pass, 2 d_out d_in a document, layer and query; the queries' own pass per partition,
                           and with curvature 4 (d_out d_in^2 + d_out^2 d_in) a query, layer and partition
    measures               the pass, 2 (d_in^2 + d_out^2) a token and layer

Seconds follow from a rate measured on a few rows of the same job (`plan`). Embeddings are looked up, not multiplied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from arithcirc.influence.footprint import Sizes

_FLOAT = 4
_EIGEN = 25.0
Shape = tuple[int, int]


@dataclass(frozen=True)
class Job:
    """A study's size: documents and tokens that are fitted and scored, queries and their tokens, partitions."""

    documents: int
    tokens: int
    fit_documents: int
    fit_tokens: int
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
    measures: float

    @property
    def fit(self) -> float:
        """The stage `factors`."""
        return self.covariances + self.eigenvectors + self.eigenvalues

    @property
    def score(self) -> float:
        """The stage `scores`."""
        return self.ekfac + self.dot + self.measures

    def times(self, number: float) -> "Cost":
        """Every part so many times."""
        return Cost(**{f.name: number * getattr(self, f.name) for f in fields(self)})


def study_cost(n_params: int, shapes: Sequence[Shape], job: Job) -> Cost:
    """Operations of all parts; `shapes` are (d_in, d_out), `n_params` those that a token is multiplied with."""
    token = 3 * 2.0 * n_params
    own = sum(2.0 * i * o for i, o in shapes)
    squares = sum(2.0 * (i * i + o * o) for i, o in shapes)
    rotation = sum(2.0 * (o * i * i + o * o * i) for i, o in shapes)
    one_pass = job.tokens * (token + own)
    asked = job.partitions * job.query_tokens * (token + own)
    products = job.documents * job.queries * own
    return Cost(
        covariances=job.fit_tokens * (token + squares),
        eigenvectors=sum(_EIGEN * (i**3 + o**3) for i, o in shapes),
        eigenvalues=job.fit_tokens * (token + own) + job.fit_documents * rotation,
        ekfac=one_pass + products + asked + job.partitions * job.queries * 2 * rotation,
        dot=one_pass + products + asked,
        measures=one_pass + job.tokens * squares,
    )


def multiplied(network: Any) -> int:
    """Parameters that every token is multiplied with: all but the input embeddings, the unembedding included."""
    whole = sum(p.numel() for p in network.parameters())
    tables = [m for name, m in network.named_modules() if type(m).__name__ == "Embedding"]
    outside = network.get_output_embeddings()
    tied = outside is not None and any(m.weight is outside.weight for m in tables)
    looked_up = sum(m.weight.numel() for m in tables)
    return int(whole - looked_up + (outside.weight.numel() if tied else 0))


def shapes_of(sizes: Sizes) -> list[Shape]:
    """(d_in with bias, d_out) of each tracked layer."""
    return list(sizes.layers.values())


def disk_bytes(job: Job) -> int:
    """Scores of four methods, three vectors, and the tokens with their places; texts and factors not counted."""
    return _FLOAT * job.documents * (4 * job.queries + 3) + _FLOAT * job.tokens + 48 * job.documents
