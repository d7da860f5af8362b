"""What a study will take, told before it starts: rows, tokens, passes, seconds, memory, disk.

Operations are counted from shapes (`cost`); the rate comes from a few documents and queries scored for real, without
curvature, on this machine. Eigenvectors are timed on a matrix of their own. Numbers of tokens are exact once the
corpus is encoded, before that a sample's. Completing the queries is not counted: at most `max_new_tokens` steps.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from arithcirc.influence.documents import read_documents
from arithcirc.influence.engine import Engine
from arithcirc.influence.rows import Row, Rows
from arithcirc.influence.study.cost import Cost, Job, disk_bytes, multiplied, shapes_of, study_cost
from arithcirc.influence.study.fit import plain_engine
from arithcirc.influence.study.source import queries_of
from arithcirc.influence.study.study import FACTORS, SCORES, TOKENS, Study
from arithcirc.influence.study.tokens import TokenStore

_SAMPLE, _ROWS, _QUERIES, _WIDTH = 200, 32, 8, 256


@dataclass(frozen=True)
class Step:
    """A stage: rows and tokens it reads, passes over them, predicted seconds and peak bytes beside the model."""

    stage: str
    rows: int
    tokens: int
    passes: int
    seconds: float
    memory: int
    disk: int
    done: bool


@dataclass(frozen=True)
class StudyPlan:
    """All stages; `rate` is the measured number of floating-point operations a second."""

    steps: tuple[Step, ...]
    rate: float
    cut: float

    @property
    def seconds(self) -> float:
        """Of what is left."""
        return sum((step.seconds for step in self.steps if not step.done), 0.0)


def make_plan(study: Study, *, scoring: bool) -> StudyPlan:
    """Measure a few rows and predict. With `scoring` False only what fitting takes."""
    lengths, cut = _lengths(study)
    queries = queries_of(study.source) if scoring else []
    width = [len(study.encoder.prompt(q.prompt)) + len(study.encoder.prompt(q.answer)) - 1 for q in queries]
    n = len(lengths)
    fitted = min(study.config.factors.fit_documents or n, n)
    mean = float(lengths.mean())
    job = Job(n, int(lengths.sum()), fitted, int(fitted * mean), len(queries), sum(width), -(-n // study.how.partition))
    with TemporaryDirectory() as folder:
        rows = _sample(study)
        engine = plain_engine(study, Path(folder), rows)
        cost = study_cost(multiplied(study.model.network), shapes_of(engine.sizes), job)
        rate = _rate(study, engine, rows)
        steps = _steps(study, engine, job, cost, rate, Row((0,) * int(lengths.max())))
    return StudyPlan(steps if scoring else steps[:2], rate, cut)


def _steps(study: Study, engine: Engine, job: Job, cost: Cost, rate: float, longest: Row) -> tuple[Step, ...]:
    batch = Rows([longest] * min(study.how.batch_size, job.documents))
    peak = engine.predict(batch, queries=job.queries)
    fit = peak.peak("covariance", "eigen", "eigenvalues")
    eigen = _eigen_seconds(cost)
    done = study.run.finished
    arrays = 4 * (4 * job.queries + 3) * min(study.how.partition, job.documents)
    tokens = 4 * job.tokens + 48 * job.documents
    return (
        Step("documents", job.documents, job.tokens, 0, job.tokens / 5e5, tokens, tokens, done("documents")),
        Step(
            FACTORS, job.fit_documents, job.fit_tokens, 2, (cost.fit - cost.eigenvectors) / rate + eigen, fit,
            peak.disk, done(FACTORS),
        ),
        Step("queries", job.queries, job.query_tokens, 1, job.query_tokens * cost.measures / job.tokens / rate,
             peak.scores, 0, done("queries")),
        Step(SCORES, job.documents, job.tokens, 3, cost.score / rate, peak.scores + arrays, disk_bytes(job) - tokens,
             done(SCORES)),
    )  # fmt: skip


def _lengths(study: Study) -> tuple[np.ndarray, float]:
    """Tokens of every document, and the share that is cut: exact, or as a sample of the first ones has it."""
    if study.run.finished("documents"):
        store = TokenStore.open(study.run.path / TOKENS)
        return store.lengths(), float(np.mean(np.concatenate([p[:, 4] > 0 for p in store.places])))
    pieces = [
        [(span.chunk, len(ids)) for span, ids in study.encoder.pieces(document.text)]
        for document, _ in zip(read_documents(study.source.documents), range(_SAMPLE), strict=False)
    ]
    some = np.array([length for each in pieces for _, length in each])
    count = round(study.source.n_documents * len(some) / len(pieces))
    return np.resize(some, max(count, 1)), float(np.mean([each[0][0] > 0 for each in pieces]))


def _sample(study: Study) -> list[Row]:
    """Some documents as rows."""
    found = []
    for document, _ in zip(read_documents(study.source.documents), range(_ROWS), strict=False):
        found.append(Row(next(study.encoder.pieces(document.text))[1]))
    return found


def _rate(study: Study, engine: Engine, rows: list[Row]) -> float:
    """Operations a second of the pass and of the products with queries."""
    queries, documents = Rows(rows[:_QUERIES]), Rows(rows)
    engine.scores(Rows(rows[:2]), Rows(rows[:2]))  # what the first call alone costs
    start = time.perf_counter()
    engine.scores(queries, documents)
    seconds = time.perf_counter() - start
    tokens, asked = (sum(len(r.tokens) for r in rs.rows) for rs in (documents, queries))
    job = Job(len(documents), tokens, 0, 0, len(queries), asked)
    return study_cost(multiplied(study.model.network), shapes_of(engine.sizes), job).dot / max(seconds, 1e-6)


def _eigen_seconds(cost: Cost) -> float:
    """Seconds of the eigenvectors, from one small matrix of this machine."""
    matrix = torch.eye(_WIDTH, dtype=torch.float64) + torch.ones(_WIDTH, _WIDTH, dtype=torch.float64).tril() / _WIDTH
    square = matrix @ matrix.T
    torch.linalg.eigh(square)
    start = time.perf_counter()
    torch.linalg.eigh(square)
    return cost.eigenvectors / (25.0 * _WIDTH**3) * (time.perf_counter() - start)
