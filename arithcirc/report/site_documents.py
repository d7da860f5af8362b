"""The documents of a static export: those with the largest influence on a query's answer, or on a neuron's rule.

Both come from the run's influence study (`viz.influence`), by its first method (the paper's, EK-FAC influence divided
by the document's gradient norm): the first `ENDS` documents from the top and from the bottom. A run without a study has
neither; a study that is not scored, or cannot be read, leaves them out and says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.components import Neuron
from arithcirc.errors import ArithcircError, RequestError
from arithcirc.report.site_neurons import FOLDER, Chosen
from arithcirc.store import RunFolder
from arithcirc.viz.influence import names, ranked
from arithcirc.viz.influence.lift import mechanism
from arithcirc.viz.influence.mechanism_words import ends as headings
from arithcirc.viz.influence.mechanism_words import first_row, measured, obeying
from arithcirc.viz.influence.ranked import MECHANISM, QUERY, Asked
from arithcirc.viz.influence.study import Study

PAGE = "documents.html"
ENDS = {"top": 10, "bottom": 5}
"""Documents shown of each end of a ranking."""
MOST = 150
"""Queries listed, and mechanisms: of more, some are taken evenly, so that the page stays light."""

Ends = dict[str, list[ranked.Ranked]]


@dataclass(frozen=True)
class Documents:
    """What a study has to show: `study` is None for nothing, then `note` says why unless there is no study at all."""

    study: Study | None = None
    note: str = ""

    def has(self, table: str) -> bool:
        """Rankings of queries (QUERY) or of mechanisms (MECHANISM) can be read."""
        wanted = (table, ranked.TOPS[table], "documents")
        return self.study is not None and all(self.study.has(name) for name in wanted)


def find(run: RunFolder) -> Documents:
    """The study of a run, as far as it can be shown."""
    try:
        study = Study.find(run.path)
        if study is None:
            return Documents()
        held = Documents(study)
        if not held.has(QUERY) and not held.has(MECHANISM):
            return Documents(None, f"no documents, since they were not scored: make it with '{study.command()}'")
        for table in (t for t in (QUERY, MECHANISM) if held.has(t)):
            _sample(study, table)
    except ArithcircError as error:
        return Documents(None, f"no documents: {str(error).rstrip('.')}")
    return held


def neuron(held: Documents, operator: str, of: Neuron) -> dict[str, Any] | None:
    """The documents of a neuron's mechanism, for its page; None where none was scored. Raises RunConflictError."""
    name = f"neuron:{operator}:{of}"
    if held.study is None or not held.has(MECHANISM):
        return None
    if not (held.study.table(MECHANISM)["query"].astype(str) == name).any():
        return None
    asked, ends = next(_rankings(held.study, MECHANISM, [name]))
    return _mechanism(held.study, asked, ends, {}) | {"method": names.method(ranked.methods(held.study, MECHANISM)[0])}


def content(held: Documents, chosen: Sequence[Chosen]) -> dict[str, Any]:
    """What the page of documents is given. Raises RunConflictError for a damaged table."""
    study = held.study
    if study is None:
        raise RequestError("this run has no influence study to show")
    pages = {f"neuron:{c.operator}:{c.neuron}": f"{FOLDER}/{c.file}" for c in chosen}
    parts: dict[str, list[dict[str, Any]]] = {QUERY: [], MECHANISM: []}
    left = dict.fromkeys(parts, 0)
    for table, rows in parts.items():
        if held.has(table):
            listed, total = _sample(study, table)
            for asked, ends in _rankings(study, table, listed):
                rows.append(_query(asked, ends) if table == QUERY else _mechanism(study, asked, ends, pages))
            left[table] = total - len(rows)
    return {
        "queries": parts[QUERY],
        "mechanisms": parts[MECHANISM],
        "left": left,
        "documents": int(study.corpus()["documents"].sum()),
        "method": names.method(ranked.methods(study, QUERY if parts[QUERY] else MECHANISM)[0]),
    }


def ranking_count(study: Study, table: str) -> int:
    """How many queries or mechanisms the page lists. Raises RunConflictError for a damaged table."""
    return len(_sample(study, table)[0])


def _sample(study: Study, table: str) -> tuple[list[str], int]:
    """Ids of the rows that have a ranking, at most `MOST` taken evenly, and how many there are."""
    known = set(study.values(ranked.TOPS[table], "query"))
    held = [name for name in study.table(table)["query"].astype(str) if name in known]
    places: Any = np.unique(np.linspace(0, len(held) - 1, min(len(held), MOST)).astype(int)) if held else []
    return [held[int(at)] for at in places], len(held)


def _rankings(study: Study, table: str, listed: Sequence[str]) -> Iterator[tuple[Asked, Ends]]:
    """Each query or mechanism with its documents; tables are read once, not query by query."""
    tops = ranked.firsts(study, table, method=ranked.methods(study, table)[0], most=ENDS)
    rows = {(name, end): tops.get((name, end), pd.DataFrame()) for name in listed for end in ENDS}
    wanted = sorted({int(number) for part in rows.values() if len(part) for number in part["document"]})
    texts = study.texts(wanted)
    for name in listed:
        asked = ranked.find(study, name)
        yield asked, {end: ranked.placed(asked, rows[name, end], texts) for end in ENDS}


def _query(asked: Asked, ends: Ends) -> dict[str, Any]:
    row, right = asked.row, asked.correct
    needed = {need for d in ends["top"] for need in d.hits} & set(asked.needs)
    group, task = str(row.get("group") or ""), str(row.get("task") or "").replace("_", " ")
    return {
        "name": asked.name,
        "group": names.group(group),
        "task": "" if task == group else task,
        "prompt": str(row.get("prompt", "")),
        "completion": str(row.get("completion", "")),
        "answer": str(row.get("answer", "")),
        "how": {True: "right", False: "wrong", None: ""}[right],
        "nats": row.get("nats"),
        "needs": asked.needs,
        "found": len(needed) if asked.needs else None,
        **ends,
    }


def _mechanism(study: Study, asked: Asked, ends: Ends, pages: dict[str, str]) -> dict[str, Any]:
    row = asked.row
    value = row.get("value")
    top, bottom = headings(row)
    held = study.has("mechanism_retrieval")
    obeys = first_row(study.rows("mechanism_retrieval", {"query": asked.name})) if held else {}
    return {
        "name": asked.name,
        "title": mechanism(asked.name),
        "what": str(row.get("what") or ""),
        "operator": str(row.get("operator") or ""),
        "heuristic": str(row.get("heuristic") or ""),
        "value": None if pd.isna(value) else value,
        "said": measured(row),
        "obeying": obeying(obeys) if obeys else "",
        "better": top,
        "worse": bottom,
        "file": pages.get(asked.name, ""),
        **ends,
    }
