"""The report of an influence study: which of the five findings hold here, with figures, examples and settings.

`influence_report` writes `report.html` (self-contained, like a run's) or `report.md` (with PNG figures) into the
study's folder `influence/`. Words come from `viz.influence.words`, verdicts from the study's own table `findings`; of
documents only the few that are shown are read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arithcirc.errors import RequestError
from arithcirc.report.page import REPORT, flat, render
from arithcirc.store import write_text
from arithcirc.viz.embed import FigureGroup, plate_groups
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.influence import mechanism_words, names, ranked, words
from arithcirc.viz.influence.lift import mechanism
from arithcirc.viz.influence.plates import PLATES, TABLES, read_study
from arithcirc.viz.influence.ranked import MECHANISM, QUERY, Asked
from arithcirc.viz.influence.study import Study

FORMATS = ("html", "md")
BUDGET = 3_000_000
"""Bytes of figure JSON; with plotly.js the page stays below 8 MB."""
SHOWN, MECHANISMS_SHOWN = 5, 3
"""Documents shown of an example and of a mechanism."""
SECTIONS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (1, "Do queries of one task share their documents?", ("influence_correlation",)),
    (2, "How much influence, on how many documents?", ("influence_magnitude", "influence_power_law")),
    (3, "Is the answer in the top documents?", ("influence_answers", "influence_answer_rates", "influence_retrieval")),
    (4, "Which kinds of documents?", ("influence_kinds",)),
    (5, "Which sources?", ("influence_sources",)),
)
_OPTIONAL = ("accuracy", "mechanisms", "mechanism_kinds", "mechanism_retrieval", "births", "mechanism_values")
"""Tables that a whole study may lack: a corpus without equations, a model without labelled neurons, an older study."""


def influence_report(folder: Path | str, *, form: str = "html") -> Path:
    """Write the report of a run's influence study, or of the study's own folder; returns its path.

    Raises RequestError for another format or a folder without a study, RunConflictError for a damaged table.
    """
    if form not in FORMATS:
        raise RequestError(f"--format {form!r} is not known: use one of {', '.join(FORMATS)}")
    study = Study.find(Path(folder))
    if study is None:
        raise RequestError(f"{folder} holds no influence study: make one with 'arithcirc influence fit' and 'score'")
    if form == "md":
        from arithcirc.report.influence_markdown import MARKDOWN, render_markdown

        path = study.path / MARKDOWN
        write_text(path, render_markdown(study))
        return path
    path = study.path / REPORT
    write_text(path, render_influence(study))
    return path


def render_influence(study: Study) -> str:
    """The HTML page as text; nothing is written."""
    data = read_study(study)
    return render("influence.html", content(study, data), groups(data))


def groups(data: RunData) -> dict[str, FigureGroup]:
    """The page's figures, as far as there are tables and room for them."""
    return plate_groups(data, plates=PLATES, budget=BUDGET)


def content(study: Study, data: RunData) -> dict[str, Any]:
    """Everything the page says but its figures."""
    manifest, found = study.manifest, words.findings(data)
    return {
        "name": str(study.model.get("name") or "the model"),
        "revision": str(study.model.get("revision") or ""),
        "headline": headline(study, data),
        "missing": missing(study),
        "command": study.command(),
        "accuracy": words.accuracy(data),
        "in_short": words.in_short(found),
        "sayable": words.sayable(found),
        "unsayable": words.unsayable(found),
        "together": "" if any(f.number > words.PAPER for f in found) else mechanism_words.together(data),
        "ours": [f for f in found if f.number > words.PAPER],
        "findings": found,
        "levels": words.levels(found),
        "answered": words.asked(data),
        "corpus": [
            ("Kinds of documents", words.corpus(data, "corpus", "kind")),
            ("Sources", words.corpus(data, "corpus_sources", "source")),
        ],
        "sections": SECTIONS,
        "how_to_read": words.HOW_TO_READ,
        "not_shown": words.not_shown(data),
        "method": names.method(_method(study, QUERY)),
        "examples": examples(study, data),
        "mechanisms": mechanisms(study, data),
        "settings": words.settings(data, study.config, study.manifest.get("facts", {})),
        "method_hints": [(m, (names.method(m), hint)) for m, hint in names.METHOD_HINTS.items()],
        "config": {section: flat(_plain(values)) for section, values in study.config.items()},
        "facts": [(k, v) for k, v in flat(_plain(manifest.get("facts", {}))) if k != "command"],
        "stages": [(name, f"{record.get('seconds', 0):.1f}") for name, record in manifest.get("stages", {}).items()],
        "packages": manifest.get("packages", {}),
        "git_sha": manifest.get("git_sha"),
        "created": manifest.get("updated") or manifest.get("created", ""),
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as their words, files by their names: where they lie on a machine says nothing to a reader."""

    def one(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return {name: one(value) for name, value in values.items()}


def headline(study: Study, data: RunData) -> str:
    """How large the study is, in one line."""
    said = []
    if has(data.tables, "corpus", "documents"):
        said.append(f"{int(data.tables['corpus']['documents'].sum()):,} documents")
    said += [f"{len(data.tables[t]):,} {t}" for t in (QUERY, MECHANISM) if has(data.tables, t)]
    tracked = len(study.config.get("factors", {}).get("tracked") or ())
    strategy = str(study.config.get("factors", {}).get("strategy", "ekfac")).upper().replace("EKFAC", "EK-FAC")
    return (
        f"{', '.join(said) or 'Nothing scored yet'}; influence functions with {strategy} curvature of {tracked} layers."
    )


def missing(study: Study) -> list[tuple[str, list[str]]]:
    """`(command, tables it makes that are not there)`."""
    lacking: dict[str, list[str]] = {}
    for name in ("documents", "top", *TABLES):
        if not study.has(name) and name not in _OPTIONAL:
            lacking.setdefault(study.command(name), []).append(name)
    return list(lacking.items())


def _method(study: Study, table: str) -> str:
    held = ranked.methods(study, table)
    return held[0] if held else next(iter(names.METHODS))


# -- examples ----------------------------------------------------------------------------------------------------------


def examples(study: Study, data: RunData) -> list[dict[str, Any]]:
    """Of every group the first query answered right and the first answered wrong, with their first documents."""
    if not (has(data.tables, QUERY, "query", "group", "correct") and study.has("top") and study.has("documents")):
        return []
    table, found = data.tables[QUERY], []
    for group in names.in_order(table["group"], names.GROUPS):
        for correct in (True, False):
            mine = table[(table["group"] == group) & (table["correct"].astype("boolean").fillna(False) == correct)]
            if len(mine):
                found.append(_example(study, str(mine["query"].iloc[0])))
    return found


def _example(study: Study, name: str) -> dict[str, Any]:
    asked = ranked.find(study, name)
    row = asked.row
    right = bool(asked.correct)
    return {
        "name": name,
        "group": names.group(str(row.get("group") or "")),
        "task": str(row.get("task") or "").replace("_", " "),
        "prompt": str(row.get("prompt", "")),
        "completion": str(row.get("completion", "")),
        "answer": str(row.get("answer", "")),
        "nats": row.get("nats"),
        "needs": asked.needs,
        "how": "right" if right else "wrong",
        "mark": "✓" if right else "✗",
        "documents": _first(study, asked, SHOWN),
    }


def _first(study: Study, asked: Asked, most: int) -> list[ranked.Ranked]:
    try:
        return ranked.ranked(study, asked, method=_method(study, asked.table), at_most=most)
    except RequestError:
        return []


def mechanisms(study: Study, data: RunData) -> list[dict[str, Any]]:
    """The study's mechanisms, each with its first documents."""
    if not (has(data.tables, MECHANISM, "query", "value") and study.has(ranked.TOPS[MECHANISM])):
        return []
    found = []
    for row in data.tables[MECHANISM].to_dict("records"):
        asked = ranked.find(study, str(row["query"]))
        found.append(
            {
                "title": mechanism(str(row["query"])),
                "heuristic": str(row.get("heuristic") or "–"),
                "inside": row.get("inside"),
                "outside": row.get("outside"),
                "value": row["value"],
                "said": mechanism_words.measured(row),
                "obeying": (obeying := _obeying(data, str(row["query"]))),
                "interval": mechanism_words.interval(obeying) if obeying else (None, None),
                "obeyed": mechanism_words.obeying(obeying) if obeying else "",
                "documents": _first(study, asked, MECHANISMS_SHOWN),
            }
        )
    return found


def _obeying(data: RunData, query: str) -> dict[str, Any]:
    """Whether documents that obey the mechanism's heuristic come first, by the first method; empty where unknown."""
    if not has(data.tables, "mechanism_retrieval", "query", "method", "auc", "auc_others"):
        return {}
    rows = data.tables["mechanism_retrieval"]
    return mechanism_words.first_row(rows[rows["query"].astype(str) == query])
