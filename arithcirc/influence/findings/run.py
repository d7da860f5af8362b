"""Stage `findings`: every table of the findings, from the scores and tables of a study alone (no model).

Scores are read one query's row at a time (and, for correlations, one partition at a time), texts batch by batch, so
memory is some rows of scores. Files of the stage and what their columns mean stand in the modules beside this one;
`findings` holds the verdicts. The stage is reused when what it read has not changed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from arithcirc.errors import NumericsError, RunConflictError
from arithcirc.influence.findings import correlation, magnitude
from arithcirc.influence.findings.accuracy import accuracy
from arithcirc.influence.findings.answers import answer_groups, search
from arithcirc.influence.findings.kinds import Lifts
from arithcirc.influence.findings.matching import Corpus, needs_of, read_corpus, said_of
from arithcirc.influence.findings.ranking import auc, depths, search_depth, tie_order, top
from arithcirc.influence.findings.retrieval import retrieval_groups, retrieval_pairs
from arithcirc.influence.findings.verdicts import verdicts
from arithcirc.influence_scores import MECHANISM_SCORES, SCORES, ScoreStore
from arithcirc.store import RunFolder, sha256_file

VERSION = 2
"""Raised with every change of rules, words or tables of the findings: older tables are made anew."""
STAGE, MECHANISMS, RETRIEVAL = "findings", "mechanisms", "mechanism_retrieval"
TABLES = (
    "correlation", "correlation_groups", "magnitude", "magnitude_groups", "power_law", "power_law_groups", "answers",
    "answer_groups", "kinds", "sources", "retrieval", "retrieval_groups", "retrieval_pairs", "retrieval_said",
    "accuracy", "findings",
)  # fmt: skip
ENDS = ("top", "bottom")
Progress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`."""


@dataclass(frozen=True)
class Inputs:
    """What the findings are computed from. `needs` are those looked for, by query; `said` what it was answered wrong.

    `seed` is of every random order.
    """

    scores: ScoreStore
    queries: pd.DataFrame
    corpus: Corpus
    needs: Mapping[str, tuple[str, ...]]
    said: Mapping[str, str]
    seed: int = 0


@dataclass
class _Rows:
    """Rows of the per-query tables, and each query's top documents by (method, end)."""

    magnitude: list[dict[str, Any]] = field(default_factory=list)
    power_law: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    retrieval: list[dict[str, Any]] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    tops: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)


def run(folder: RunFolder, *, progress: Progress | None = None, seed: int = 0) -> None:
    """Compute all tables of the stage and record it, with `mechanism_kinds` where mechanisms were scored.

    Raises RunConflictError where scores or tables are missing, NumericsError where a score is not finite.
    """
    report = progress or (lambda *_: None)
    read = _files_read(folder)
    complete = folder.manifest["stages"].get(STAGE, {}).get("version") == VERSION and all(
        (folder.path / f"{name}.parquet").is_file() for name in TABLES
    )
    if complete and folder.finished(STAGE) and folder.manifest["stages"][STAGE]["inputs"] == _hashes(folder, read):
        report(STAGE, 1, 1)
        return
    start = time.perf_counter()
    inputs = read_inputs(folder, seed=seed)
    total = len(inputs.queries) * len(inputs.scores.methods)
    tables = dict(correlation_tables(inputs))
    tables |= query_tables(inputs, lambda done: report(STAGE, done, total))
    tables["accuracy"] = accuracy(inputs.queries, inputs.needs, seed=seed)
    tables["findings"] = verdicts(tables | _mechanism_tables(folder), inputs.corpus.n, seed=seed)
    names = list(TABLES)
    if MECHANISMS in folder.manifest["stages"]:
        tables["mechanism_kinds"] = mechanism_kinds(folder, inputs.corpus, seed=seed)
        names.append("mechanism_kinds")
    outputs = [folder.write_table(name, tables[name]) for name in names]
    facts = {
        "version": VERSION, "documents": inputs.corpus.n, "queries": len(inputs.queries), "seed": seed,
        "depths": list(depths(inputs.corpus.n)), "search_depth": search_depth(inputs.corpus.n),
        "fit_depth": magnitude.fit_depth(inputs.corpus.n),
    }  # fmt: skip
    folder.finish(STAGE, outputs, inputs=read, seconds=time.perf_counter() - start, facts=facts)


def _mechanism_tables(folder: RunFolder) -> dict[str, pd.DataFrame]:
    """Tables of finding 6, where mechanisms were scored."""
    names = (MECHANISMS, RETRIEVAL) if MECHANISMS in folder.manifest["stages"] else ()
    there = all((folder.path / f"{name}.parquet").is_file() for name in names)
    return {name: folder.table(name) for name in names if there}


def read_inputs(folder: RunFolder, *, seed: int = 0) -> Inputs:
    """Scores, queries and what is known of the documents. Raises RunConflictError where they do not fit together."""
    scores = ScoreStore.open(folder.path / SCORES)
    queries = folder.table("queries").reset_index(drop=True)
    queries["group"] = queries["group"].fillna("")
    queries["task"] = queries["task"].fillna("")
    asked = queries.to_dict("records")
    needs = {q["query"]: needs_of(q["group"], q["prompt"], q["answer"] or "", _list(q["needs"])) for q in asked}
    said = {
        q["query"]: wrong for q in asked if not q["correct"] and (wrong := said_of(needs[q["query"]], q["completion"]))
    }
    looked_for = [need for some in needs.values() for need in some] + list(said.values())
    corpus = read_corpus(folder.path / "documents.parquet", looked_for)
    if (len(queries), corpus.n) != (scores.n_queries, scores.n_documents):
        raise RunConflictError(
            f"{folder.path} has scores of {scores.n_queries} queries and {scores.n_documents} documents, but tables of "
            f"{len(queries)} and {corpus.n}: run 'arithcirc influence score' again"
        )
    queries["group"] = queries["group"].replace("", "ungrouped")
    return Inputs(scores, queries, corpus, needs, said, seed)


def correlation_tables(inputs: Inputs) -> Iterator[tuple[str, pd.DataFrame]]:
    """Tables `correlation` and `correlation_groups`."""
    masks = correlation.relations(inputs.queries)
    pairs, groups = [pd.DataFrame(columns=list(correlation.PAIR_COLUMNS))], []
    for method in [name for name in correlation.METHODS if name in inputs.scores.methods]:
        if not masks:  # one query: no pairs
            break
        kind = inputs.corpus.kind
        found = correlation.moments(inputs.scores, method, correlation.strata(inputs.scores, method))
        pairs.append(correlation.pair_rows(found.r, inputs.queries, method))
        orders = correlation.RANKED_PERMUTATIONS if method == correlation.METHODS[0] else correlation.PERMUTATIONS
        groups.append(
            correlation.group_rows(inputs.scores, found, masks, kind, method, seed=inputs.seed, permutations=orders)
        )
    yield "correlation", pd.concat(pairs[1:] or pairs, ignore_index=True)
    yield "correlation_groups", pd.concat(groups or [correlation.no_groups()], ignore_index=True)


def query_tables(inputs: Inputs, progress: Callable[[int], None]) -> dict[str, pd.DataFrame]:
    """All tables that are computed from one query's scores at a time, and their groups."""
    rows, queries, corpus, seed = _Rows(), inputs.queries, inputs.corpus, inputs.seed
    k, ties = max(depths(corpus.n)), tie_order(corpus.n, seed)
    for i, method in enumerate(inputs.scores.methods):
        for end in ENDS:
            rows.tops[method, end] = np.zeros((len(queries), k), dtype=np.int32)
        for query in range(len(queries)):
            scores = inputs.scores.row(query, method)
            if not np.isfinite(scores).all():
                raise NumericsError(
                    f"scores of query {queries['query'][query]!r} by {method} are not finite: "
                    "fit with more damping or in float32, and score again"
                )
            for end in ENDS:
                rows.tops[method, end][query] = top(scores, k, ties, bottom=end == "bottom")
            _one_query(rows, inputs, query, method, scores)
            progress(i * len(queries) + query + 1)
    tables = {
        "magnitude": _frame(rows.magnitude, ("end", "share", "cumulative", "part")),
        "power_law": _frame(rows.power_law, ("k", "alpha", "r2")),
        "answers": _frame(rows.answers, ("by", "need", "documents", "best_rank", "k", "found", "base_rate", "p")),
        "retrieval": _frame(rows.retrieval, ("by", "positives", "auc")),
        "retrieval_said": _frame(rows.said, ("by", "said", "positives", "auc")),
        "kinds": _lift_rows(inputs, rows, Lifts("kind", corpus.kind, corpus.kinds, seed=seed)),
        "sources": _lift_rows(
            inputs, rows, Lifts("source", corpus.source, corpus.sources, seed=seed, within=corpus.kind)
        ),
    }
    return tables | {
        "magnitude_groups": magnitude.magnitude_groups(tables["magnitude"], seed),
        "power_law_groups": magnitude.power_law_groups(tables["power_law"]),
        "answer_groups": answer_groups(tables["answers"], inputs.needs, corpus.ways, corpus.n),
        "retrieval_groups": retrieval_groups(tables["retrieval"], corpus.n, seed),
        "retrieval_pairs": retrieval_pairs(tables["retrieval"], seed),
    }


def mechanism_kinds(folder: RunFolder, corpus: Corpus, *, seed: int = 0) -> pd.DataFrame:
    """Kinds of the top and bottom documents of every neuron and heuristic, at each depth."""
    scores = ScoreStore.open(folder.path / MECHANISM_SCORES)
    names, ties, ks = folder.table("mechanisms")["query"].tolist(), tie_order(corpus.n, seed), depths(corpus.n)
    found = Lifts("kind", corpus.kind, corpus.kinds, seed=seed)
    for method in scores.methods:
        for number, name in enumerate(names):
            row = scores.row(number, method)
            for end in ENDS:
                best = top(row, max(ks), ties, bottom=end == "bottom")[None]
                for k in ks:
                    found.add(best[:, :k], query=name, method=method, end=end, k=k)
    return found.table()


def _one_query(rows: _Rows, inputs: Inputs, number: int, method: str, scores: Float32[np.ndarray, "document"]) -> None:
    query = inputs.queries.iloc[number]
    about = {"query": query["query"], "group": query["group"], "correct": bool(query["correct"]), "method": method}
    ordered = np.sort(scores)
    if method in magnitude.METHODS:
        nats = float(query["nats"])
        rows.magnitude += [about | row for row in magnitude.cumulative(ordered, nats)]
        if (fitted := magnitude.power_law(ordered, magnitude.fit_depth(len(scores)))) is not None:
            rows.power_law.append(about | fitted)
    needs, ways = inputs.needs[query["query"]], inputs.corpus.ways
    for by, holders in ways.items():
        found = search(scores, ordered, needs, holders, search_depth(len(scores)))
        rows.answers += [about | {"by": by} | row for row in found]
    by = next(iter(ways))
    stating = [ways[by][need] for need in needs]
    positives = np.unique(np.concatenate(stating)) if stating else np.zeros(0, np.int64)
    _area(rows.retrieval, about | {"by": by}, positives, scores, ordered)
    if (said := inputs.said.get(query["query"])) is not None:
        _area(rows.said, about | {"by": "text", "said": said}, inputs.corpus.by_text[said], scores, ordered)


def _area(
    rows: list[dict[str, Any]], about: dict[str, Any], positives: np.ndarray, scores: np.ndarray, ordered: np.ndarray
) -> None:
    """One row of a table of areas, unless there is nothing to tell apart."""
    if 0 < len(positives) < len(scores):
        rows.append(about | {"positives": len(positives), "auc": auc(ordered, scores[positives])})


def _lift_rows(inputs: Inputs, rows: _Rows, found: Lifts) -> pd.DataFrame:
    """Table `kinds` or `sources`: lifts by group, answered right or wrong, method, end and k."""
    for group, side, some in magnitude.sides(inputs.queries):
        chosen = some.index.to_numpy()
        for (method, end), tops in rows.tops.items():
            for k in depths(inputs.corpus.n):
                found.add(tops[chosen, :k], group=group, correct=side, method=method, end=end, k=k, n=len(chosen))
    return found.table()


def _frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """A per-query table with its columns, even when there is no row."""
    return pd.DataFrame(rows, columns=["query", "method", "group", "correct", *names])


def _list(needs: object) -> tuple[str, ...]:
    return tuple(needs) if isinstance(needs, list | tuple | np.ndarray) else ()


def _files_read(folder: RunFolder) -> list[str]:
    """Names of the files that the findings depend on."""
    parts = [p for name in (SCORES, MECHANISM_SCORES) for p in sorted((folder.path / name).glob("part-*.safetensors"))]
    tables = [folder.path / f"{name}.parquet" for name in ("documents", "queries", MECHANISMS, RETRIEVAL)]
    return [str(p.relative_to(folder.path)) for p in [*tables, *parts] if p.is_file()]


def _hashes(folder: RunFolder, names: Sequence[str]) -> dict[str, str]:
    return {name: sha256_file(folder.path / name) for name in names}
