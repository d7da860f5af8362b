"""The figures of an influence study as data, and what they are drawn from.

`embed.plate_groups` puts these plates on the report's page and `export.write_figures` writes them to files, as it does
with a run's. What grows with the corpus is not held: of each query only the highest scores of two methods, of the
documents only how many there are. Each opens at the method and depth that the claims are judged by.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.errors import RequestError
from arithcirc.influence_scores import SCORES, ScoreStore
from arithcirc.viz import plates
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.influence import names
from arithcirc.viz.influence.answers import answer_ranks, answer_rates
from arithcirc.viz.influence.births import births_figure
from arithcirc.viz.influence.correlation import correlation_figure
from arithcirc.viz.influence.lift import lift_figure, mechanism_kinds
from arithcirc.viz.influence.magnitude import cumulative_curves, rank_influence
from arithcirc.viz.influence.retrieval import retrieval_figure
from arithcirc.viz.influence.study import Study
from arithcirc.viz.plates import Options, Plate, Selector

TABLES = (
    "findings", "accuracy", "queries", "correlation", "correlation_groups", "magnitude_groups", "power_law",
    "power_law_groups", "answers", "answer_groups", "kinds", "sources", "retrieval_groups", "retrieval_pairs",
    "mechanisms", "mechanism_kinds", "mechanism_retrieval", "births", "mechanism_values",
)  # fmt: skip
"""Tables of the study that a report reads whole."""
RANKED = ("ekfac", "ekfac_normed")
"""Whose scores are drawn against rank."""


def read_study(study: Study) -> RunData:
    """What figures and sentences are made from, as far as it is there.

    Beside the study's tables: `ranks` (method, group, correct, rank, score per nat of the top documents),
    `corpus` (kind, documents, share, tokens) and `corpus_sources`.
    """
    tables = {name: study.table(name) for name in TABLES if study.has(name)}
    if study.has("documents"):
        tables["corpus"] = study.corpus("kind")
        tables["corpus_sources"] = study.corpus("source")
    if has(tables, "mechanisms", "query", "what", "family"):
        tables["mechanisms"] = in_turn(tables["mechanisms"])
    if study.has("top") and has(tables, "queries", "query", "group", "correct", "nats"):
        scores = _ranked(study, tables)
        ranks = scores.merge(tables["queries"][["query", "group", "correct", "nats"]], on="query")
        tables["ranks"] = ranks.assign(score=ranks["score"] / ranks["nats"].where(ranks["nats"] > 0))
    return RunData(tables, {}, dict(study.config))


def _ranked(study: Study, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The highest scores of every query, as deep as slopes were fitted: columns query, method, rank, score.

    Where the study's scores are not there, as deep as its table `top` goes.
    """
    k = int(tables["power_law"]["k"].max()) if has(tables, "power_law", "k") else 0
    held = study.rows("top", {"end": "top"})[["query", "method", "rank", "score"]]
    held = held[held["method"].isin(RANKED)]
    if k <= int(held["rank"].max() if len(held) else 0) + 1 or not (study.path / SCORES).is_dir():
        return held
    store, queries = ScoreStore.open(study.path / SCORES), tables["queries"]["query"].to_numpy()
    frames = []
    for method in (m for m in RANKED if m in store.methods):
        best = np.empty((store.n_queries, 0), np.float32)
        for _, _, block in store.blocks(method):
            best = np.concatenate([best, block], axis=1)
            if best.shape[1] > k:
                best = -np.partition(-best, k - 1, axis=1)[:, :k]
        best, n = -np.sort(-best, axis=1), best.shape[1]
        frames.append(
            pd.DataFrame(
                {
                    "query": np.repeat(queries, n),
                    "method": method,
                    "rank": np.tile(np.arange(n), len(queries)),
                    "score": best.ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else held


def in_turn(mechanisms: pd.DataFrame, most: int = 6) -> pd.DataFrame:
    """The table with `most` examples first: neurons and heuristics in turn, of families not yet among them first."""
    rows = list(zip(mechanisms["what"].astype(str), mechanisms["family"].astype(str), strict=True))
    left, first, families = list(range(len(rows))), list[int](), set[str]()
    while left and len(first) < most:
        wanted = ("neuron", "heuristic")[len(first) % 2]
        chosen = min(left, key=lambda i: (rows[i][0] != wanted, rows[i][1] in families, i))
        first.append(chosen)
        left.remove(chosen)
        families.add(rows[chosen][1])
    return mechanisms.iloc[[*first, *left]].reset_index(drop=True)


def drawn(data: RunData) -> Iterator[tuple[str, tuple[str, ...], go.Figure]]:
    """Every figure that the study's tables allow: file stem, files it is drawn from, figure."""
    for plate, stem, figure in plates.drawn(PLATES, data):
        used = (t for t in (*plate.tables, *plate.uses) if t in data.tables and t not in DERIVED)
        yield stem, tuple(f"{t}.parquet" for t in used) or ("top.parquet",), figure


DERIVED = ("ranks", "corpus", "corpus_sources")


def _options(table: str, column: str, known: dict[str, str]) -> Options:
    def options(data: RunData) -> dict[str, str]:
        if not has(data.tables, table, column):
            return {}
        return {word: known.get(word, word) for word in names.in_order(data.tables[table][column], known)}

    return options


def _tops(table: str) -> Options:
    """At most three depths: the one of the claims, the first, the last; the table has them all."""

    def options(data: RunData) -> dict[str, str]:
        held = sorted({int(k) for k in data.tables[table]["k"]}) if has(data.tables, table, "k") else []
        claims = claimed_depth(_documents(data))
        first = [claims] if claims in held else held[len(held) // 2 :][:1]
        return {str(k): f"{k:,}" for k in dict.fromkeys([*first, *held[:1], *held[-1:]])}

    return options


def claimed_depth(documents: int) -> int:
    """How many top documents the claims about kinds and sources read: 3% of the corpus, 10 or more, half at most."""
    return min(max(1, documents // 2), max(10, round(documents * 0.03)))


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise RequestError(f"{text!r} is no number of documents") from None


def _documents(data: RunData) -> int:
    return int(data.tables["corpus"]["documents"].sum()) if has(data.tables, "corpus", "documents") else 0


_METHODS = {name: words[0] for name, words in names.METHODS.items()}
_SIGNS = {"positive": "positive", "negative": "negative"}
_SUMS = ("ekfac", "ekfac_normed")
"""Raw EK-FAC first: its sums are log-likelihood."""
_SLOPES = ("ekfac_normed", "ekfac")
"""Normed first: its slopes are what the claim compares."""
_FEW = ("ekfac_normed", "ekfac", "dot", "random")
"""Where figures are many, so that the page stays light."""
_MEANT = ("ekfac_normed", "ekfac", "dot", "cosine", "bm25", "random")


def _method(table: str, wanted: Sequence[str] = _MEANT) -> Selector:
    """The methods that the table has of those wanted, the first by default."""

    def options(data: RunData) -> dict[str, str]:
        held = set(data.tables[table]["method"]) if has(data.tables, table, "method") else set()
        return {m: _METHODS[m] for m in wanted if m in held}

    return Selector("method", options, exported=False)


def _lift(table: str, what: str) -> Plate:
    return Plate(
        f"influence_{table}", f"{what.capitalize()}s at the ends of the rankings", (table,),
        lambda d, end, k, method: lift_figure(d.tables[table], what, end=end, k=_number(k), method=method),
        (
            Selector("end", _options(table, "end", names.ENDS)),
            Selector("documents", _tops(table), exported=False), _method(table, _FEW),
        ),
    )  # fmt: skip


def _ranks(data: RunData) -> pd.DataFrame:
    return data.tables["ranks"]


PLATES: tuple[Plate, ...] = (
    Plate(
        "influence_correlation", "Correlation of influence vectors between queries",
        ("correlation", "correlation_groups", "queries"),
        lambda d, method: correlation_figure(
            d.tables["correlation"], d.tables["correlation_groups"], d.tables["queries"], method=method
        ),
        (_method("correlation_groups"),),
    ),
    Plate(
        "influence_magnitude", "Cumulative influence", ("magnitude_groups",),
        lambda d, end, method: cumulative_curves(d.tables["magnitude_groups"], method=method, end=end),
        (
            Selector("documents with influence", _options("magnitude_groups", "end", _SIGNS), exported=False),
            _method("magnitude_groups", _SUMS),
        ),
    ),
    Plate(
        "influence_power_law", "Influence against rank", ("power_law", "ranks"),
        lambda d, method: rank_influence(_ranks(d), d.tables["power_law"], method=method),
        (_method("power_law", _SLOPES),),
    ),
    Plate(
        "influence_answers", "Ranks of documents that hold the answer", ("answers",),
        lambda d, method: answer_ranks(d.tables["answers"], method=method, documents=_documents(d)),
        (_method("answers"),),
    ),
    Plate(
        "influence_answer_rates", "Answers found in the top documents", ("answer_groups",),
        lambda d: answer_rates(d.tables["answer_groups"]),
    ),
    _lift("kinds", "kind"),
    _lift("sources", "source"),
    Plate(
        "influence_retrieval", "Finding the documents that state the fact", ("retrieval_groups",),
        lambda d: retrieval_figure(d.tables["retrieval_groups"]),
    ),
    Plate(
        "influence_mechanism_kinds", "Kinds of documents of each mechanism", ("mechanism_kinds",),
        lambda d, end, k, method: mechanism_kinds(d.tables["mechanism_kinds"], end=end, k=_number(k), method=method),
        (
            Selector("end", _options("mechanism_kinds", "end", names.ENDS), exported=False),
            Selector("documents", _tops("mechanism_kinds"), exported=False), _method("mechanism_kinds", _FEW),
        ),
    ),
    Plate(
        "influence_births", "Before and after birth", ("births",),
        lambda d, kind: births_figure(d.tables["births"], d.tables.get("mechanism_values"), kind=kind),
        (Selector("kind", _options("births", "kind", {k: w[0] for k, w in names.KINDS.items()}), exported=False),),
        uses=("mechanism_values",),
    ),
)  # fmt: skip
