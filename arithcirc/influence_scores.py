"""Scores of an influence study as they lie on disk: arrays per partition of documents, read without loading them whole.

`scores/part-00000.safetensors`, `part-00001...` hold float32 arrays of consecutive documents: of each stored method
(ekfac, dot, bm25, random) one `[query, document]`, and `norm`, `self`, `nll` `[document]`; the metadata say `start`,
`end` (document numbers, end not included) and whatever the writer adds. `mechanism_scores/` is the same for mechanism
queries. Two methods are derived on reading:

    ekfac_normed[q, d] = ekfac[q, d] / norm[d]                 the ranking of Ruis et al. (arXiv 2411.12580)
    cosine[q, d]       = dot[q, d] / (norm_q[q] norm[d])

with the norms of plain gradients, of queries from the table beside the folder. A document or query without a gradient
(norm 0) scores 0. Positive = the document raises the completion's log-likelihood. This module imports no torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from arithcirc.errors import RequestError, RunConflictError
from arithcirc.store import write_atomic

METHODS = ("ekfac", "ekfac_normed", "dot", "cosine", "bm25", "random")
"""All methods, in the order of tables and figures."""
SCORES, MECHANISM_SCORES = "scores", "mechanism_scores"
_TABLES = {SCORES: "queries", MECHANISM_SCORES: "mechanisms"}
_FROM = {"ekfac_normed": "ekfac", "cosine": "dot"}
_AGAIN = "run 'arithcirc influence score' again, it computes what is missing"

Scores = Float32[np.ndarray, "query document"]
Row = Float32[np.ndarray, "document"]


@dataclass(frozen=True)
class Part:
    """One partition's file: documents `start` to `end` - 1, the arrays it holds, and the writer's metadata."""

    file: Path
    start: int
    end: int
    arrays: tuple[str, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class ScoreStore:
    """All partitions of one folder, in the order of documents. Arrays are memory-mapped and read where asked for."""

    folder: Path
    parts: tuple[Part, ...]
    n_queries: int
    query_norms: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def open(cls, folder: Path | str) -> "ScoreStore":
        """Open `<study>/scores` or `<study>/mechanism_scores`.

        Raises RunConflictError where there is no partition, one is damaged or missing between others, or they
        disagree about methods and queries.
        """
        folder = Path(folder)
        parts = tuple(sorted((read_part(file) for file in folder.glob("part-*.safetensors")), key=lambda p: p.start))
        if not parts:
            raise RunConflictError(f"{folder} holds no scores: run 'arithcirc influence score' first")
        for before, after in zip((None, *parts), parts, strict=False):
            expected = before.end if before else 0
            if after.start != expected:
                raise RunConflictError(
                    f"scores of documents {expected} to {after.start - 1} are not in {folder}: {_AGAIN}"
                )
        if len({part.arrays for part in parts}) > 1:
            raise RunConflictError(f"partitions in {folder} hold different methods: delete the folder and {_AGAIN}")
        stored = [name for name in parts[0].arrays if name in METHODS]
        if not stored:
            raise RunConflictError(
                f"{parts[0].file} holds none of {', '.join(METHODS)}: delete the folder and {_AGAIN}"
            )
        counts = {_shape(part, stored[0])[0] for part in parts}
        if len(counts) > 1:
            raise RunConflictError(f"partitions in {folder} hold different queries: delete the folder and {_AGAIN}")
        norms = _query_norms(folder)
        if norms is not None and len(norms) != min(counts):
            raise RunConflictError(f"{folder} holds {min(counts)} queries, the table beside it {len(norms)}: {_AGAIN}")
        return cls(folder, parts, counts.pop(), norms)

    @property
    def n_documents(self) -> int:
        """Number of documents over all partitions."""
        return self.parts[-1].end

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that can be read, stored or derived, in the order of METHODS."""
        arrays = set(self.parts[0].arrays)
        derived = {"ekfac_normed"} if {"ekfac", "norm"} <= arrays else set()
        if {"dot", "norm"} <= arrays and self.query_norms is not None:
            derived |= {"cosine"}
        return tuple(name for name in METHODS if name in arrays | derived)

    def row(self, query: int, method: str) -> Row:
        """Scores of all documents for one query (its row in the table). Raises RequestError for an unknown method."""
        self._check(method)
        if not 0 <= query < self.n_queries:
            raise RequestError(f"there is no query {query}: {self.folder} has 0 to {self.n_queries - 1}")
        return np.concatenate([self._read(part, method, slice(query, query + 1))[0] for part in self.parts])

    def blocks(self, method: str) -> Iterator[tuple[int, int, Scores]]:
        """`(start, end, scores[query, document])` of one partition after the other."""
        self._check(method)
        for part in self.parts:
            yield part.start, part.end, self._read(part, method, slice(None))

    def documents(self, name: str) -> Row:
        """`norm`, `self` or `nll` of all documents. Raises RequestError where it was not stored."""
        if name not in self.parts[0].arrays or name in METHODS:
            raise RequestError(f"{self.folder} has no {name!r} of documents: it has {', '.join(self.parts[0].arrays)}")
        return np.concatenate([_array(part, name) for part in self.parts])

    def _check(self, method: str) -> None:
        if method not in self.methods:
            raise RequestError(f"{self.folder} has no scores by {method!r}: it has {', '.join(self.methods)}")

    def _read(self, part: Part, method: str, queries: slice) -> Scores:
        scores = _array(part, _FROM.get(method, method), queries)
        if method not in _FROM:
            return scores
        norms = _array(part, "norm")[None].astype(np.float64)
        if method == "cosine" and self.query_norms is not None:
            norms = norms * self.query_norms[queries, None]
        divided: Scores = np.divide(scores, norms, out=np.zeros(scores.shape), where=norms > 0).astype(np.float32)
        return divided


def part_name(index: int) -> str:
    """File name of a partition."""
    return f"part-{index:05d}.safetensors"


def write_part(
    folder: Path, index: int, start: int, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> Path:
    """Write one partition whole or not at all; returns its path. Raises EnvironmentFailure.

    `arrays`: stored methods [query, document] and `norm`, `self`, `nll` [document], of documents from `start` on.
    """
    rows = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    end = start + next(iter(rows.values())).shape[-1]
    about = {**metadata, "start": str(start), "end": str(end)}
    path = folder / part_name(index)
    write_atomic(path, lambda file: save_file(rows, file, metadata=about))
    return path


def read_part(file: Path) -> Part:
    """What one partition's file holds, arrays unread. Raises RunConflictError where it is damaged."""
    try:
        with safe_open(file, framework="numpy") as stored:
            metadata = dict(stored.metadata() or {})
            return Part(file, int(metadata["start"]), int(metadata["end"]), tuple(sorted(stored.keys())), metadata)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise RunConflictError(f"{file} is damaged ({error}): delete it and {_AGAIN}") from None


def _shape(part: Part, name: str) -> tuple[int, ...]:
    with safe_open(part.file, framework="numpy") as stored:
        shape: list[int] = stored.get_slice(name).get_shape()
    if shape[-1] != part.end - part.start:
        raise RunConflictError(f"{part.file} is damaged ({name} has {shape[-1]} documents): delete it and {_AGAIN}")
    return tuple(shape)


def _array(part: Part, name: str, rows: slice = slice(None)) -> np.ndarray:
    with safe_open(part.file, framework="numpy") as stored:
        found: np.ndarray = stored.get_slice(name)[rows]
    return found


def _query_norms(folder: Path) -> np.ndarray | None:
    table = folder.parent / f"{_TABLES.get(folder.name, 'queries')}.parquet"
    if not table.is_file():
        return None
    try:
        columns = pd.read_parquet(table, columns=["norm"])
    except (OSError, ValueError):  # no such column, or no table
        return None
    norms: np.ndarray = columns["norm"].to_numpy(np.float64)
    return norms
