"""The documents at one end of a ranking, ready to show: rank, score, kind, source, and text with what is needed marked.

A ranking is that of a query (tables `queries`, `top`) or of a mechanism (`mechanisms`, `mechanism_top`). Texts are read
by row number, so a page costs what it shows, whatever the corpus' size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arithcirc.errors import RequestError
from arithcirc.viz.influence import names
from arithcirc.viz.influence.highlight import Piece, pieces, rule_pieces
from arithcirc.viz.influence.study import Study

QUERY, MECHANISM = "queries", "mechanisms"
TOPS = {QUERY: "top", MECHANISM: "mechanism_top"}


@dataclass(frozen=True)
class Ranked:
    """One document at its place. `rank` counts from 1; `hits` are the query's needs that it holds."""

    rank: int
    document: int
    id: str
    score: float
    kind: str
    source: str
    hits: tuple[str, ...]
    tokens: int
    cut: bool
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """The document as it was read."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Asked:
    """A query or a mechanism of a study: `table` is QUERY or MECHANISM, `row` its row."""

    table: str
    row: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its id."""
        return str(self.row["query"])

    @property
    def needs(self) -> tuple[str, ...]:
        """Statements that together hold the answer; none for a mechanism."""
        return words(self.row.get("needs"))

    @property
    def correct(self) -> bool | None:
        """Whether the model answers rightly; None for a mechanism."""
        return names.answered(self.row.get("correct"))

    def marked(self, text: str) -> tuple[Piece, ...]:
        """A document's text with what the query needs, or what the mechanism's heuristic holds of, marked."""
        if self.table == QUERY:
            said = str(self.row.get("completion") or "") if self.correct is False else ""
            return tuple(pieces(text, self.needs, str(self.row.get("answer") or ""), said=said))
        return tuple(rule_pieces(text, str(self.row.get("heuristic") or ""), str(self.row.get("operator") or "")))


def find(study: Study, name: str) -> Asked:
    """The query or mechanism of this id, a `+` in it told from a space or not. Raises RequestError, NoStudy."""
    held = [t for t in (QUERY, MECHANISM) if study.has(t)]
    for table in held or [QUERY]:
        rows = study.table(table)
        same = rows["query"].astype(str) == name
        if not same.any():  # links lose the escape of a plus sign on their way
            same = rows["query"].astype(str).str.replace("+", " ", regex=False) == name.replace("+", " ")
        if same.any():
            return Asked(table, {str(name): value for name, value in rows[same].iloc[0].items()})
    raise RequestError(f"the study has no query and no mechanism {name[:60]!r}: choose one of the list")


def methods(study: Study, table: str) -> list[str]:
    """Methods with a ranking in the table, the paper's first."""
    known = study.values(TOPS[table], "method") if study.has(TOPS[table]) else []
    return names.in_order(known, names.METHODS)


def ranked(study: Study, asked: Asked, *, method: str, end: str = "top", at_most: int | None = None) -> list[Ranked]:
    """Documents of one end in order, with their texts. Raises NoStudy, RunConflictError, RequestError for no rows."""
    top = study.rows(
        TOPS[asked.table], {"query": asked.name, "method": method, "end": end}, order="rank", at_most=at_most
    )
    if top.empty:
        raise RequestError(f"the study has no ranking of {asked.name[:60]!r} by {names.method(method)}")
    return placed(asked, top, study.texts(top["document"].tolist()))


def firsts(study: Study, table: str, *, method: str, most: Mapping[str, int]) -> dict[tuple[str, str], pd.DataFrame]:
    """Of all queries or mechanisms at once, the first rows of each end in `most`: `{(query, end): rows}` for `placed`.

    Raises NoStudy, RunConflictError.
    """
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for end, many in most.items():
        rows = study.rows(TOPS[table], {"method": method, "end": end}, order="rank")
        rows = rows[rows["rank"] < many]
        found |= {(str(query), end): part for query, part in rows.groupby("query", sort=False)}
    return found


def placed(asked: Asked, top: pd.DataFrame, texts: pd.DataFrame) -> list[Ranked]:
    """Documents as rows of the top table name them; `texts` are those of `Study.texts`, or more of them."""
    if top.empty:
        return []
    held = texts.set_index("document")
    found = []
    for row in top.to_dict("records"):
        number = int(row["document"])
        of = held.loc[number].to_dict() if number in held.index else {}
        found.append(
            Ranked(
                int(row["rank"]) + 1, number, str(of.get("id", number)), float(row["score"]), _text(row.get("kind")),
                _text(row.get("source")), words(row.get("hits")), _whole(of.get("tokens")), bool(of.get("cut", False)),
                asked.marked(str(of.get("text", ""))),
            )
        )  # fmt: skip
    return found


def kinds(study: Study, asked: Asked, *, method: str, end: str = "top", what: str = "kind") -> list[str]:
    """The kind (or source) of every document at this end."""
    top = study.rows(TOPS[asked.table], {"query": asked.name, "method": method, "end": end}, order="rank")
    return [_text(word) for word in top[what]] if what in top.columns else []


def hits_by_method(study: Study, asked: Asked) -> pd.DataFrame:
    """For each method, how many of its top documents hold a need, all of them, and the rank of the first (from 1).

    Columns method, n, some, every, first (missing where none does). Empty for a mechanism or a query without needs.
    """
    needs = set(asked.needs)
    if not needs:
        return pd.DataFrame(columns=["method", "n", "some", "every", "first"])
    top = study.rows(TOPS[asked.table], {"query": asked.name, "end": "top"}, order="rank")
    rows = []
    for method in names.in_order(top["method"], names.METHODS):
        part = top[top["method"] == method]
        held = [set(words(h)) & needs for h in part["hits"]]
        first = next((int(r) + 1 for r, h in zip(part["rank"], held, strict=True) if h), None)
        rows.append((method, len(part), sum(map(bool, held)), sum(h == needs for h in held), first))
    return pd.DataFrame(rows, columns=["method", "n", "some", "every", "first"])


def as_table(found: Sequence[Ranked]) -> pd.DataFrame:
    """For a file: one row per document, with its whole text."""
    rows = [
        (d.rank, d.document, d.id, d.score, d.kind, d.source, d.tokens, d.cut, "; ".join(d.hits), d.text) for d in found
    ]
    columns = ["rank", "document", "id", "score", "kind", "source", "tokens", "cut", "holds", "text"]
    return pd.DataFrame(rows, columns=columns)


def words(value: Any) -> tuple[str, ...]:
    """A list of texts out of a table; none where there is none."""
    if value is None or isinstance(value, float):
        return ()
    return (value,) if isinstance(value, str) else tuple(str(v) for v in value)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _whole(value: Any) -> int:
    return 0 if value is None or value != value else int(value)
