"""The table `documents`: what each document is, and what its gradient is like; written row group by row group."""

import pyarrow as pa
import pyarrow.parquet as pq

from arithcirc.influence.study.study import Study
from arithcirc.influence.study.tokens import TokenStore
from arithcirc.influence_scores import ScoreStore
from arithcirc.store import write_atomic

GROUP = 8192
"""Rows of one group: what a page reads to show one document."""
SCHEMA = pa.schema(
    [
        ("document", pa.int64()), ("id", pa.string()), ("kind", pa.string()), ("source", pa.string()),
        ("task", pa.string()), ("tokens", pa.int32()), ("cut", pa.bool_()), ("nll", pa.float32()),
        ("norm", pa.float32()), ("self", pa.float32()), ("holds", pa.list_(pa.string())), ("text", pa.string()),
    ]
)  # fmt: skip


def write_documents(study: Study, store: TokenStore, scores: ScoreStore) -> None:
    """Write `documents.parquet` from the corpus, its tokens and the vectors of the score parts."""
    columns = {name: scores.documents(name) for name in ("nll", "norm", "self")} | {"tokens": store.lengths()}

    def write(part: object) -> None:
        with pq.ParquetWriter(str(part), SCHEMA) as writer:
            for start in range(0, len(store), GROUP):
                end = min(start + GROUP, len(store))
                pieces = list(store.pieces(study.source.documents, start, end))
                writer.write_table(
                    pa.table(
                        {
                            "document": range(start, end),
                            "id": [p.id for p in pieces],
                            "kind": [p.document.kind for p in pieces],
                            "source": [p.document.source for p in pieces],
                            "task": [p.document.task for p in pieces],
                            "cut": [p.cut for p in pieces],
                            "holds": [list(p.holds) for p in pieces],
                            "text": [p.text for p in pieces],
                            **{name: column[start:end] for name, column in columns.items()},
                        },
                        schema=SCHEMA,
                    ),
                    row_group_size=GROUP,
                )

    write_atomic(study.run.path / "documents.parquet", write)
