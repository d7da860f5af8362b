"""Stage `scores`: influence of every document on every query, partition by partition.

A partition's documents are read, their scores by all methods computed, and the file written whole; what is there and
was made for the same configuration is skipped, so a stop at any moment loses one partition. Memory is one partition
and the queries' gradients: where those do not fit together, queries are taken in groups and the partition's gradients
are computed once per group.

kronfluence computes the queries' gradients anew for each partition: with n_q queries and partitions of P documents that
is n_q / P of the work, 1.5 % at 60 queries and P = 4096.

    ekfac   grad f . (G + lambda)^-1 grad L      dot   grad f . grad L      self   grad L . (G + lambda)^-1 grad L
    norm    |grad L|                             nll   L in nats            bm25, random   see `baselines`
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from arithcirc.errors import RequestError, RunConflictError
from arithcirc.influence.engine import Engine
from arithcirc.influence.rows import Row, Rows
from arithcirc.influence.study.baselines import bm25, noise
from arithcirc.influence.study.fit import engine, peak_bytes, plain_engine
from arithcirc.influence.study.queries import answer_queries, query_rows, query_texts, read_words
from arithcirc.influence.study.study import FACTORS, SCORE, SCORES, TOKENS, Report, Study, needs_stage
from arithcirc.influence.study.table import write_documents
from arithcirc.influence.study.tokens import TokenStore
from arithcirc.influence.study.top import write_top
from arithcirc.influence_scores import ScoreStore, part_name, read_part, write_part
from arithcirc.models.memory import free_bytes

_PASSES = 3
Compute = Callable[[int, int, list[Row]], Mapping[str, np.ndarray]]
"""Arrays of the documents from a first to before a last number, given as rows."""


def score(study: Study, *, partitions: Iterable[int] | None = None) -> bool:
    """Stage `scores`: all partitions that are missing, then the tables; whether the stage is finished.

    Given `partitions`, those alone are computed and no table is written, so that several processes can share the work;
    a last call without them makes the tables. Raises RunConflictError without factors, RequestError for a partition
    that is not there.
    """
    needs_stage(study, FACTORS, "fit")
    store = TokenStore.open(study.run.path / TOKENS)
    wanted = _chosen(partitions, len(portions(study, store)))
    table = answer_queries(study)
    if study.run.finished(SCORES):
        study.notice(SCORES, "finished before, reused")
        return True
    start = time.perf_counter()
    with TemporaryDirectory() as scratch:
        work = _Pass(study, store, table, Path(scratch))
        complete = write_parts(study, store, SCORES, study.hash_of(SCORE), work.arrays, wanted)
    if partitions is not None or not complete:
        return False
    finish(study, store, seconds=time.perf_counter() - start)
    return True


def finish(study: Study, store: TokenStore, *, seconds: float) -> None:
    """Tables of documents and of the top ones, once all partitions are there."""
    folder = study.run.path / SCORES
    count = len(portions(study, store))
    for extra in folder.glob("part-*.safetensors"):
        if extra.name not in {part_name(i) for i in range(count)}:
            extra.unlink()
    scores = ScoreStore.open(folder)
    write_documents(study, store, scores)
    write_top(study.run, scores, "queries", "top")
    outputs = [*study.files_in(SCORES), "documents.parquet", "top.parquet"]
    facts = {"partition": study.how.partition, "partitions": count, "documents": len(store), "peak_bytes": peak_bytes()}
    study.run.finish(SCORES, outputs, inputs=["queries.parquet"], seconds=seconds, facts=facts)


def portions(study: Study, store: TokenStore) -> list[tuple[int, int]]:
    """First and last-but-one document number of every partition."""
    size = study.how.partition
    return [(start, min(start + size, len(store))) for start in range(0, len(store), size)]


def write_parts(
    study: Study, store: TokenStore, folder: str, config: str, compute: Compute, wanted: Iterable[int]
) -> bool:
    """Compute and write the partitions asked for, unless they are there; whether all partitions are there then.

    `folder` is below the study's, `config` the hash of what the arrays depend on.
    """
    parts, path = portions(study, store), study.run.path / folder
    for number in wanted:
        start, end = parts[number]
        if not _fits(path, number, start, end, config):
            arrays = compute(start, end, store.rows(start, end))
            write_part(path, number, start, arrays, {"config": config})
        study.report(folder, end, len(store))
    return all(_fits(path, number, *part, config) for number, part in enumerate(parts))


def _fits(folder: Path, number: int, start: int, end: int, config: str) -> bool:
    """Whether a whole partition of these documents and this configuration is there."""
    try:
        found = read_part(folder / part_name(number))
    except RunConflictError:
        return False
    return (found.start, found.end, found.metadata.get("config")) == (start, end, config)


def _chosen(partitions: Iterable[int] | None, count: int) -> list[int]:
    chosen = list(range(count)) if partitions is None else sorted(set(partitions))
    if outside := [n for n in chosen if not 0 <= n < count]:
        raise RequestError(f"--partitions {outside[0]} is not there: this corpus has partitions 0..{count - 1}")
    return chosen


@dataclass
class _Pass:
    """What all partitions share: queries as rows and texts, and the engines once they are needed."""

    study: Study
    store: TokenStore
    table: pd.DataFrame
    scratch: Path

    def __post_init__(self) -> None:
        self._rows = query_rows(self.table)
        self._texts = query_texts(self.table)
        self._counts = read_words(self.study)
        self._engines: tuple[Engine, Engine] | None = None

    def arrays(self, start: int, end: int, rows: list[Row]) -> dict[str, np.ndarray]:
        """All arrays of one partition."""
        study = self.study
        if self._engines is None:
            self._engines = engine(study), plain_engine(study, self.scratch, rows)
        curved, plain = self._engines
        documents = Rows(rows)
        texts = [piece.text for piece in self.store.pieces(study.source.documents, start, end)]
        seen = [self._progress(start, end, step) for step in range(_PASSES)]
        measures = curved.measures(documents, progress=seen[0])
        return {
            "ekfac": pairs(study, curved, self._rows, documents, progress=seen[1]),
            "dot": pairs(study, plain, self._rows, documents, progress=seen[2]),
            "bm25": bm25(self._texts, texts, self._counts),
            "random": noise(study.config.scores.seed, len(self._rows), start, end),
            "self": measures.self_influence.float().numpy(),
            "norm": measures.norm.float().numpy(),
            "nll": measures.nll.float().numpy(),
        }

    def _progress(self, start: int, end: int, step: int) -> Report:
        """A report that counts one pass over a partition as a third of its documents."""

        def report(_: str, done: int, total: int) -> None:
            through = (step + done / max(total, 1)) / _PASSES
            self.study.report(SCORES, start + int((end - start) * through), len(self.store))

        return report


def pairs(
    study: Study, engine: Engine, queries: list[Row], documents: Rows, *, progress: Report | None = None
) -> np.ndarray:
    """Scores of all queries with a partition's documents, (query, document), so many queries together as fit."""
    free = study.how.memory if study.how.memory is not None else free_bytes(study.model.info.device) * 9 // 10
    size = len(queries)
    while size > 1 and engine.predict(documents, queries=size).scores > free:
        size = -(-size // 2)
    groups = [queries[i : i + size] for i in range(0, len(queries), size)]
    return np.concatenate(
        [engine.scores(Rows(group), documents, progress=progress).float().numpy() for group in groups]
    )
