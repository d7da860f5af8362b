"""The documents that score highest and lowest for each query by each method, as a table small enough to show.

Parts are read one after the other and only the best so far are kept, so memory does not grow with the corpus. Of equal
scores the document with the lower number comes first, at both ends.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from jaxtyping import Float, Int

from arithcirc.influence_scores import ScoreStore
from arithcirc.store import RunFolder

MOST, SHARE = 100, 5
"""At most so many rows per query, method and end, and at most a fifth of the documents."""
ENDS = ("top", "bottom")
Best = tuple[Int[np.ndarray, "query rank"], Float[np.ndarray, "query rank"]]


def write_top(run: RunFolder, scores: ScoreStore, table: str, name: str) -> None:
    """Write the table `name` of the top and bottom documents of every row of `table` (queries or mechanisms)."""
    queries = run.table(table)
    count = max(1, min(MOST, scores.n_documents // SHARE))
    frames = []
    for method in scores.methods:
        for end, (documents, values) in best(scores, method, count).items():
            n, k = documents.shape
            frames.append(
                pd.DataFrame(
                    {
                        "query": np.repeat(queries["query"].to_numpy(), k),
                        "method": method,
                        "end": end,
                        "rank": np.tile(np.arange(k), n),
                        "document": documents.ravel(),
                        "score": values.ravel(),
                    }
                )
            )
    top = pd.concat(frames, ignore_index=True)
    run.write_table(name, _described(top, run, queries))


def best(scores: ScoreStore, method: str, count: int) -> dict[str, Best]:
    """Numbers and scores of the `count` best and worst documents of every query, best (or worst) first."""
    held: dict[str, Best] = {}
    for start, _, block in scores.blocks(method):
        numbers = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        for end in ENDS:
            found = _first(numbers, block, count, descending=end == "top")
            if end in held:
                joined = [np.concatenate(both, axis=1) for both in zip(held[end], found, strict=True)]
                found = _first(joined[0], joined[1], count, descending=end == "top")
            held[end] = found
    return held


def _first(
    numbers: Int[np.ndarray, "query document"], values: Float[np.ndarray, "query document"], count: int, *,
    descending: bool,
) -> Best:  # fmt: skip
    """The first `count` by value, then by number."""
    keys = -values if descending else values
    order = np.stack([np.lexsort((n, k))[:count] for n, k in zip(numbers, keys, strict=True)])
    return np.take_along_axis(numbers, order, 1), np.take_along_axis(values, order, 1)


def _described(top: pd.DataFrame, run: RunFolder, queries: pd.DataFrame) -> pd.DataFrame:
    """With kind and source of each document, and which of the query's needs it holds."""
    wanted = set(top["document"].tolist())
    known = {row["document"]: row for row in _rows(run, wanted)}
    needs = {
        query: list(wants)
        for query, wants in zip(queries["query"], queries.get("needs", [()] * len(queries)), strict=True)
    }
    about = [known[document] for document in top["document"].tolist()]
    holds = {document: frozenset(row["holds"]) for document, row in known.items()}
    pairs = zip(top["query"].tolist(), top["document"].tolist(), strict=True)
    hits = pd.Series([[need for need in needs[query] if need in holds[document]] for query, document in pairs])
    return top.assign(kind=[row["kind"] for row in about], source=[row["source"] for row in about], hits=hits)


def _rows(run: RunFolder, wanted: set[int]) -> Iterator[dict[str, Any]]:
    """Some documents' kind, source and statements, without reading the others' texts."""
    found = ds.dataset(run.path / "documents.parquet", format="parquet")
    columns = ["document", "kind", "source", "holds"]
    for batch in found.to_batches(columns=columns, filter=ds.field("document").isin(sorted(wanted))):
        yield from batch.to_pylist()
