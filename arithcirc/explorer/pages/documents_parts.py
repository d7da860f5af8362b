"""Parts of page Documents that other pages show too: documents with what is needed marked, and shares of kinds."""

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
import pandas as pd
from dash import html

from arithcirc.explorer import kit
from arithcirc.viz import theme
from arithcirc.viz.influence import names
from arithcirc.viz.influence.highlight import MARKS, Piece, excerpt, short_lines, shows
from arithcirc.viz.influence.ranked import Ranked

HITS = 4
"""Statements named above a text; all are marked in it."""


def marked(found: Sequence[Piece]) -> list[Any]:
    """A text with its marks as elements; every piece is plain text, which the browser cannot take for markup."""
    return [
        html.Mark(piece.text, className=f"hit-{piece.mark}", title=MARKS[piece.mark]) if piece.mark else piece.text
        for piece in found
    ]


def document(ranked: Ranked, largest: float, *, brief: bool = False) -> html.Li:
    """One document: rank, score with a bar, kind, source, text. A long text is cut around its marks and opens whole."""
    longest = 260 if brief else 520
    short = excerpt(ranked.pieces, longest=longest)
    text: list[Any] = [html.Div(marked(short), className="doc-text doc-lines" if short_lines(short) else "doc-text")]
    if len(ranked.text) > longest:
        said = html.Summary(f"whole text, {len(ranked.text):,} characters")
        text.append(html.Details([said, html.Div(marked(ranked.pieces), className="doc-text")]))
    about: list[Any] = [
        html.Span(names.kind(ranked.kind), className="doc-kind", style={"--kind": names.kind_colour(ranked.kind)}),
        html.Span(ranked.source or "no source"),
        html.Span(f"{ranked.id}", className="doc-id", title=f"row {ranked.document:,} of the corpus"),
    ]
    if not brief:
        about.append(html.Span(f"{ranked.tokens:,} tokens" + (", cut" if ranked.cut else "")))
    about += [html.Span(f"holds {shows(need)}", className="doc-holds") for need in ranked.hits[:HITS]]
    if len(ranked.hits) > HITS:
        about.append(html.Span(f"and {len(ranked.hits) - HITS} more"))
    return html.Li(
        [
            html.Div(f"{ranked.rank}", className="doc-rank"),
            _bar(ranked.score, largest),
            html.Div([html.Div(about, className="doc-about"), *text], className="doc-body"),
        ],
        className="doc",
    )


def _bar(score: float, largest: float) -> html.Div:
    """The score, and its size against the largest shown."""
    share = min(1.0, abs(score) / largest) if largest > 0 else 0.0
    fill = html.I(style={"width": f"{100 * share:.0f}%"}, className="above" if score > 0 else "below")
    return html.Div([html.Span(names.score(score)), html.Div(fill, className="doc-track")], className="doc-score")


def shares(counted: pd.DataFrame, what: str, total: int) -> html.Table:
    """Kinds or sources among the documents shown, against their share of the corpus (tick), as bars with their lift."""
    top = max(1e-9, float(counted[["share", "corpus_share"]].max().max())) if len(counted) else 1.0
    rows = [_share(row, what, top) for row in counted.to_dict("records")]
    head = html.Tr([
        html.Th(what), html.Th("of them", className="n"), html.Th(""),
        html.Th("lift", className="n", title=f"share of the {total:,} documents over share of the corpus"),
        html.Th("95%", className="n"),
    ])  # fmt: skip
    return html.Table([html.Thead(head), html.Tbody(rows)], className="doc-shares")


def _share(row: dict[Any, Any], what: str, top: float) -> html.Tr:
    word = str(row[what])
    colour = names.kind_colour(word) if what == "kind" else "#7c8794"
    name = names.kind(word) if what == "kind" else word or "no source"
    bar = [
        html.I(style={"width": f"{100 * row['share'] / top:.1f}%", "background": colour}),
        html.B(style={"left": f"{100 * row['corpus_share'] / top:.1f}%"}),
    ]
    said = f"{theme.percent(row['share'])} of them, {theme.percent(row['corpus_share'])} of the corpus"
    return html.Tr([
        html.Td(name, title=name), html.Td(f"{row['count']:,}", className="n"),
        html.Td(html.Div(bar, className="doc-share", title=said)),
        html.Td(html.Strong(lift(row["lift"])), className="n", title=f"95%: {lift(row['low'])} to {lift(row['high'])}"),
        html.Td(f"{lift(row['low'])} – {lift(row['high'])}", className="n muted"),
    ])  # fmt: skip


def lift(value: float) -> str:
    """`2.4×`; a dash where the corpus has none."""
    return "–" if pd.isna(value) else f"{theme.number(value, 1 if value >= 0.95 else 2)}×"


def missing(title: str, text: str, command: str) -> Any:
    """Why there are no documents, and the command that finds them, inside a panel."""
    return kit.panel(title, dmc.Stack([kit.small(text), dmc.Code(command, block=True)], gap=6, mt=4))
