"""Do the documents that hold the answer come first? Ranks against chance, by exact matching of what a query needs.

`answer_ranks`   rank of the best document that holds each needed statement, one point per query and statement; the
                 grey tick is the median rank of the best of as many documents drawn at random
`answer_rates`   share of queries all of whose statements are found in the top k, by method, and the chance of that
                 at random (grey)

A needed statement that no document holds has no rank and is counted as not found.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.influence import names
from arithcirc.viz.influence.highlight import shows
from arithcirc.viz.influence.magnitude import parts
from arithcirc.viz.panels import interval, legend_below


def answer_ranks(table: pd.DataFrame, *, method: str = "ekfac_normed", documents: int = 0) -> go.Figure:
    """Ranks of the answers, right and wrong queries apart. `documents`: how many the corpus has."""
    columns = ("query", "method", "group", "correct", "need", "documents", "best_rank", "k", "found")
    rows = require(by_best(table), "answers", columns, {"method": method})
    rows = rows[pd.to_numeric(rows["documents"]) > 0]
    rows = require(rows, "answers", ("best_rank",))
    total = max(documents, int(numbers(rows, ["best_rank"]).max()) + 1)
    figure = go.Figure(layout={"template": theme.template("light")})
    labels = []
    for at, (group, correct, part) in enumerate(parts(rows)):
        found = int(part["found"].astype(bool).sum())
        labels.append(f"{names.group(group)}<br>{names.ANSWERED[correct]}")
        _points(figure, at, part, group, correct, total)
        figure.add_annotation(
            x=1.0, xref="paper", xanchor="left", y=at, text=f" {found} of {len(part)}", showarrow=False,
            font={"size": theme.SMALL},
        )  # fmt: skip
    k = int(rows["k"].max())
    figure.add_vline(x=k, line_dash="dash", line_color=theme.CHOSEN, line_width=1.2)
    figure.add_annotation(
        x=np.log10(k), y=1, yref="paper", yanchor="bottom", text=f"top {k:,}", showarrow=False,
        font={"size": theme.SMALL},
    )  # fmt: skip
    figure.update_layout(
        title=f"Rank of the best document that holds what a query needs, {names.method(method)}",
        margin={"r": 70, "l": 130},
    )
    legend_below(figure, 130 + 64 * len(labels))
    figure.add_annotation(
        x=1.0, xref="paper", xanchor="left", y=1, yref="paper", yanchor="bottom", text=" in it", showarrow=False,
        font={"size": theme.SMALL},
    )  # fmt: skip
    ends = [np.log10(0.8), np.log10(1.15 * total)]
    figure.update_xaxes(
        type="log", title=f"rank among {total:,} documents", dtick=1, zeroline=False, range=ends, tickformat=","
    )
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6], showgrid=False,
        zeroline=False,
    )  # fmt: skip
    return figure


def by_best(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by what documents list themselves to state where any does, else by matching in their texts."""
    if "by" not in table.columns:
        return table
    return table[table["by"] == ("holds" if (table["by"] == "holds").any() else "text")]


def chance_rank(documents: int, holding: np.ndarray) -> np.ndarray:
    """Median rank, from 1, of the best of `holding` documents placed at random among `documents`.

    P(best > r) is about (1 - r / documents)^holding, so the median solves this for one half.
    """
    return np.asarray(np.maximum(1.0, documents * (1.0 - 0.5 ** (1.0 / np.maximum(holding, 1)))))


def _points(figure: go.Figure, at: int, part: pd.DataFrame, group: str, correct: str, total: int) -> None:
    rank, holding = numbers(part, ["best_rank", "documents"]).T
    expected = chance_rank(total, holding)
    spread = at + (np.arange(len(part)) * 0.618 % 1 - 0.5) * 0.62
    said = [
        f"{names.plain(q)}: {names.plain(shows(str(n)))}<br>rank {r + 1:,.0f}; by chance {e:,.0f}; held by {h:,.0f}"
        for q, n, r, e, h in zip(part["query"], part["need"], rank, expected, holding, strict=True)
    ]
    for x, name, marker in (
        (expected, "by chance (median)", {"color": theme.GREY, "symbol": "line-ns-open", "size": 9}),
        (rank + 1, "rank of the best document", {
            "color": names.group_colour(group), "symbol": names.SYMBOLS[correct], "size": 8,
        }),
    ):  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=x, y=spread, mode="markers", marker=marker, name=name, legendgroup=name, showlegend=at == 0,
                text=said, hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip


def answer_rates(table: pd.DataFrame) -> go.Figure:
    """Found in full by method, one panel for queries answered rightly and one for the others."""
    rows = require(by_best(table), "answer_groups", ("group", "correct", "method", "queries", "rate", "base_rate"))
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06, subplot_titles=list(names.ANSWERED.values())
    )
    held = names.in_order(rows["group"], names.GROUPS)
    for panel, correct in enumerate(names.ANSWERED, start=1):
        for at, name in enumerate(names.in_order(rows["method"], names.METHODS)):
            mine = rows["correct"] == correct
            part = rows[(rows["method"] == name) & mine].drop_duplicates("group").set_index("group").reindex(held)
            _rates(figure, panel, at, name, part)
    figure.update_layout(
        template=theme.template("light"), title="Queries whose whole answer is found in the top documents"
    )
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 400)
    figure.update_xaxes(
        tickvals=list(range(len(held))), ticktext=[names.group(g) for g in held], range=[-0.6, len(held) - 0.4],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%", zeroline=False)
    return figure


def _rates(figure: go.Figure, panel: int, at: int, method: str, part: pd.DataFrame) -> None:
    label, colour, symbol = names.METHODS.get(method, (method, theme.GREY, "diamond"))
    x = np.arange(len(part)) + 0.12 * (at - 2.5)
    rate, base, low, high, n = numbers(part, ["rate", "base_rate", "low", "high", "queries"]).T
    if at == 0:
        figure.add_trace(
            go.Scatter(
                x=np.arange(len(part)), y=base, mode="markers", name="by chance", showlegend=panel == 1,
                marker={"symbol": "line-ew-open", "size": 46, "color": theme.GREY, "line": {"width": 2}},
                hovertemplate="by chance %{y:.1%}<extra></extra>", legendgroup="base",
            ),
            row=1, col=panel,
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=x, y=rate, mode="markers", name=label, legendgroup=method, showlegend=panel == 1,
            marker={"color": colour, "symbol": symbol, "size": 9},
            error_y=interval(rate, np.where(np.isfinite(low), low, rate), np.where(np.isfinite(high), high, rate)),
            customdata=n, hovertemplate=f"{label}<br>%{{y:.1%}} of %{{customdata:.0f}} queries<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip
