"""Page Documents: which training documents drive an answer, or have the largest influence on a neuron's rule.

The address names a query or a mechanism (`query`), the method that ranks (`method`), which end of the ranking is shown
(`end`), how many documents (`n`), and, where no query is named, whether queries or mechanisms are listed (`what`).
Everything is read from the run's influence study; texts by row, so a corpus of any size opens at once.
"""

from typing import Any
from urllib.parse import quote

import dash_mantine_components as dmc
from dash import html
from flask import Response, request

from arithcirc.errors import ArithcircError, RequestError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.follow import choose, follow_rows, shown
from arithcirc.explorer.pages import documents_list
from arithcirc.explorer.pages.documents_parts import document, shares
from arithcirc.explorer.pages.documents_query import head
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz.influence import names, ranked
from arithcirc.viz.influence.lift import counts
from arithcirc.viz.influence.mechanism_words import end_hint
from arithcirc.viz.influence.ranked import MECHANISM, QUERY, Asked
from arithcirc.viz.influence.study import Study, command_line

MOST = 10
"""Kinds or sources listed."""
FEW, STEP = 20, 80
"""Documents shown at first, and how many more at a time."""
HELP = (
    "Positive scores of the gradient methods: had the model seen more of the document, it would be likelier to say "
    "what it says; of a mechanism, what a score above 0 means stands with its contrast. "
    "Yellow: a statement that the query needs, found in the text however it is spaced. "
    "Dotted: the answer by itself, which may stand there for another reason. "
    "Orange: what the model says, where it is wrong. Scores of different methods have "
    "different units; only their order compares."
)
SHARES_HELP = (
    "Bar: share among the top (or bottom) documents; tick: share of the corpus. Lift is the first over the second: 1× "
    "is no preference. The interval is for the documents of this query and ignores that documents of a kind resemble "
    "each other, so it is too narrow."
)


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    study = source.study
    if study is None:
        return no_study(source)
    if not study.has("top") and not study.has("mechanism_top"):
        text = "The study has documents, but they were not scored yet. This goes on where it stopped:"
        return kit.empty("No scores yet", text, study.command())
    asked = chosen(view, study)
    method = view.choice("method", ranked.methods(study, asked.table), ranked.methods(study, asked.table)[0])
    end = view.choice("end", list(names.ENDS), "top")
    held = shown("documents", {"method": method, "end": end, "what": asked.table}, drops={"what": ["query", "n"]})
    return html.Div(
        [
            documents_list.panel(view, study, asked.table, asked.name),
            dmc.Stack(
                [head(view, study, asked, method), _ranking(view, study, asked, method, end)], gap=12, miw=0
            ),
            held,
        ],
        className="documents-columns",
    )  # fmt: skip


def chosen(view: View, study: Study) -> Asked:
    """The query or mechanism of the address; without one, the first of the list. Raises RequestError, NoStudy."""
    name = view.choices.get("query", "")
    if name:
        return ranked.find(study, name)
    held = [t for t in (QUERY, MECHANISM) if study.has(t) and study.has(ranked.TOPS[t])]
    table = view.choice("what", held, held[0]) if held else QUERY
    rows = documents_list.query_rows(view, study) if table == QUERY else documents_list.mechanism_rows(view, study)
    if rows.empty:
        raise RequestError(f"the study has no {documents_list.WHAT[table]}: score some with '{study.command()}'")
    return ranked.find(study, str(rows["query"].iloc[0]))


def no_study(source: Source) -> Any:
    """What to run to get one."""
    if source.sweep:
        return kit.empty(
            "A sweep has no influence study",
            "Influence is computed for one model at one checkpoint, into its own run folder. Choose such a run above, "
            "or make one:",
            command_line("fit", {}, {}),
        )
    fit, score = (command_line(stage, {}, source.model) for stage in ("fit", "score"))
    return kit.empty(
        "No influence study",
        "Which training documents drive this model’s answers, and its neurons’ rules, is computed from the "
        "corpus it was trained on: first the curvature, then the scores.",
        f"{fit}\n{score}",
    )


# -- the ranking -------------------------------------------------------------------------------------------------------


def _ranking(view: View, study: Study, asked: Asked, method: str, end: str) -> Any:
    """Controls, kinds and sources at this end, and the documents in order."""
    most = view.whole("n", FEW) or FEW
    found = ranked.ranked(study, asked, method=method, end=end, at_most=max(1, min(most, 10_000)))
    held = ranked.kinds(study, asked, method=method, end=end)
    offered = ranked.methods(study, asked.table)
    by_method = asked.table == QUERY or method == "random"
    hint = names.END_HINTS.get(method, names.END_HINTS[""])[end] if by_method else end_hint(asked.row, end)
    ends = dmc.SegmentedControl(
        id="documents-end", value=end, size="xs", data=[{"value": e, "label": e} for e in names.ENDS]
    )
    select = dmc.Select(
        id="documents-method", value=method, size="xs", w=178, allowDeselect=False,
        data=[{"value": m, "label": names.method(m)} for m in offered], **{"aria-label": "method"},
    )  # fmt: skip
    link = f"/_documents.csv{view.url(query=asked.name, method=method, end=end, n=None).partition('/documents')[2]}"
    csv = html.A("CSV", href=link, className="quiet doc-csv", title="all of them as a table", download="documents.csv")
    controls = dmc.Group([ends, html.Span("ranked by", className="control-label"), select, csv], gap=8)
    largest = max((abs(d.score) for d in found), default=0.0)
    rows = html.Ol([document(d, largest) for d in found], className="docs")
    said = f"The {end} {len(held):,} of {_documents(study)}: "
    parts = [
        kit.small(
            said,
            hint,
            ". ",
            html.Span("By ", title=names.METHOD_HINTS.get(method, "")),
            names.METHOD_HINTS.get(method, method),
            ".",
            size="xs",
            mt=2,
        ),
        html.Div(
            [
                html.Div([rows, *_more(view, len(found), len(held))]),
                html.Div([_shares(study, asked, what, (method, end)) for what in ("kind", "source")]),
            ],
            className="doc-ranking",
        ),
    ]
    return kit.panel("Documents", *parts, help=HELP, actions=controls)


def _documents(study: Study) -> str:
    return f"{int(study.corpus()['documents'].sum()):,}" if study.has("documents") else "all"


def _shares(study: Study, asked: Asked, what: str, where: tuple[str, str]) -> Any:
    """Kinds or sources among all documents kept of this end."""
    method, end = where
    held = ranked.kinds(study, asked, method=method, end=end, what=what)
    counted = counts(held, study.corpus(what), what)
    rest = max(0, len(counted) - MOST)
    if rest:  # a foreign corpus may have many sources: those that stand out by number
        counted = counted.loc[counted[["share", "corpus_share"]].max(axis=1).nlargest(MOST).index].sort_index()
    title = dmc.Group([html.Span(f"{what.capitalize()}s among the {end} {len(held):,}", className="ov-map-title"),
                       kit.hint(SHARES_HELP)], gap=6)  # fmt: skip
    more = [kit.small(f"and {rest:,} more", size="xs")] if rest else []
    return html.Div([title, shares(counted, what, len(held)), *more], className="doc-shares-box")


def _more(view: View, here: int, total: int) -> list[Any]:
    if here >= total:
        return []
    more = min(total, here + STEP)
    return [kit.link(f"show {more - here} more of {total:,}", view.url(n=more), className="doc-more")]


def _csv(context: Context) -> Response:
    """All documents of an address, with their whole texts, as a download."""
    view = View.parse("documents", request.query_string.decode("utf-8", "replace"))
    try:
        study = context.library.open(view).study
        if study is None:
            raise RequestError("this run has no influence study")
        asked = chosen(view, study)
        method = view.choice("method", ranked.methods(study, asked.table), ranked.methods(study, asked.table)[0])
        end = view.choice("end", list(names.ENDS), "top")
        lines = ranked.as_table(ranked.ranked(study, asked, method=method, end=end)).to_csv(index=False)
    except ArithcircError as error:
        return Response(f"{error}\n", 400, mimetype="text/plain")
    name = "".join(c if c.isalnum() else "_" for c in f"{end}_{method}_{asked.name}")[:80]
    head = {"Content-Disposition": f"attachment; filename={quote(name)}.csv"}
    return Response(lines, mimetype="text/csv", headers=head)


def register(context: Context) -> None:
    """Rows lead to their query; controls draw the page anew; the CSV."""
    follow_rows(context, "documents-list")
    for control in ("method", "end", "what"):
        choose(context, f"documents-{control}")
    context.dash.server.add_url_rule("/_documents.csv", "documents-csv", lambda: _csv(context))


PAGE = Page("documents", "Documents", "Which training documents drive an answer, or a neuron’s rule?", layout, register)
