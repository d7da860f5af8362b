"""How much influence the documents have on a query, per nat of its completion, and how it is spread over them.

`cumulative_curves`  summed influence of the top k% of a query's positive documents, per nat, and the share of the
                     total that they hold; mean over the queries of a group, with 95% of that mean (normal)
`rank_influence`     score against rank on two logarithmic axes, mean over queries, and the slope alpha of every query:
                     the steeper, the more a query rests on its first documents

Dashed: queries answered wrongly.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.influence import names
from arithcirc.viz.panels import faint, interval, legend_below


def cumulative_curves(table: pd.DataFrame) -> go.Figure:
    """Two panels: per nat, and as a share of the total."""
    rows = require(table, "magnitude", ("query", "group", "share", "cumulative", "part"))
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.1, subplot_titles=["summed influence per nat", "share of the total"]
    )
    for panel, value in enumerate(("cumulative", "part"), start=1):
        for group, correct, part in parts(rows):
            found = part.groupby("share")[value].agg(["mean", "sem", "count"]).sort_index()
            _curve(figure, panel, found, group, correct)
    _even(figure, rows)
    title = "Influence of a query’s most influential positive documents (mean over queries, 95%)"
    figure.update_layout(template=theme.template("light"), title=title)
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 430)
    shares = sorted(rows["share"].unique())
    ticks = [s for s in shares if any(np.isclose(s, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]))]
    figure.update_xaxes(
        type="log", title="top documents, as a share of those with positive influence",
        tickvals=ticks or shares, ticktext=[f"{100 * s:g}%" for s in ticks or shares],
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(tickformat=".0%", row=1, col=2)
    return figure


def parts(rows: pd.DataFrame) -> list[tuple[str, bool, pd.DataFrame]]:
    """The rows by group and by whether the query was answered rightly, right first."""
    found = []
    for group in names.in_order(rows["group"], names.GROUPS):
        of_group = rows[rows["group"] == group]
        for correct in (True, False):
            held = of_group[of_group["correct"].astype("boolean").fillna(False) == correct]
            if len(held):
                found.append((group, correct, held))
    return found


def _curve(figure: go.Figure, panel: int, found: pd.DataFrame, group: str, correct: bool) -> None:
    x = found.index.to_numpy(dtype=np.float64)
    mean = found["mean"].to_numpy(dtype=np.float64)
    spread = 1.96 * found["sem"].fillna(0.0).to_numpy(dtype=np.float64)
    n = int(found["count"].max())
    colour, name = names.group_colour(group), f"{names.group(group)}, {names.ANSWERED[correct]} (n = {n})"
    key = f"{group} {correct}"
    if correct and n > 2:
        figure.add_trace(
            go.Scatter(
                x=[*x, *x[::-1]], y=[*(mean + spread), *(mean - spread)[::-1]], fill="toself", mode="lines",
                fillcolor=faint(colour, 0.16), line={"width": 0}, hoverinfo="skip", legendgroup=key, showlegend=False,
            ),
            row=1, col=panel,
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=x, y=mean, mode="lines+markers", name=name, legendgroup=key, showlegend=panel == 1,
            line={"color": colour, "dash": "solid" if correct else "dash", "width": 2},
            marker={"size": 6, "symbol": names.group_symbol(group)}, customdata=spread,
            hovertemplate=f"{name}<br>top %{{x:.1%}}: %{{y:.4g}} ± %{{customdata:.2g}}<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip


def _even(figure: go.Figure, rows: pd.DataFrame) -> None:
    """What equal influence of every document would give: the share itself."""
    x = np.array(sorted(rows["share"].unique()), dtype=np.float64)
    figure.add_trace(
        go.Scatter(
            x=x, y=x, mode="lines", line={"color": theme.GREY, "dash": "dot", "width": 1.5},
            name="every document alike", hoverinfo="skip",
        ),
        row=1, col=2,
    )  # fmt: skip


def rank_influence(ranks: pd.DataFrame, slopes: pd.DataFrame) -> go.Figure:
    """Left, mean score per nat against rank; right, the slope of every query. `ranks`: group, correct, rank, score."""
    rows = require(ranks, "top", ("group", "correct", "rank", "score"))
    alphas = require(slopes, "power_law", ("query", "group", "correct", "alpha"))
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.5, 0.5], horizontal_spacing=0.16,
        subplot_titles=["influence per nat against rank", "slope α of each query"],
    )  # fmt: skip
    for group, correct, part in parts(rows[rows["score"] > 0]):
        found = part.groupby("rank")["score"].mean().sort_index()
        colour = names.group_colour(group)
        name = f"{names.group(group)}, {names.ANSWERED[correct]}"
        figure.add_trace(
            go.Scatter(
                x=found.index.to_numpy(dtype=np.float64) + 1, y=found.to_numpy(dtype=np.float64), mode="lines",
                line={"color": colour, "dash": "solid" if correct else "dash", "width": 2}, name=name,
                legendgroup=f"{group} {correct}",
                hovertemplate=f"{name}<br>rank %{{x}}: %{{y:.3g}}<extra></extra>",
            ),
            row=1, col=1,
        )  # fmt: skip
    _slopes(figure, alphas)
    k = numbers(alphas, ["k"])[:, 0]
    title = "Influence falls with rank as a power law"
    title += f": fitted to the first {np.nanmedian(k):.0f} documents" if np.isfinite(k).any() else ""
    figure.update_layout(template=theme.template("light"), title=title)
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 430)
    figure.update_xaxes(type="log", title="rank", row=1, col=1, dtick=1)
    figure.update_yaxes(type="log", title="mean score per nat", row=1, col=1, exponentformat="power")
    return figure


def _slopes(figure: go.Figure, alphas: pd.DataFrame) -> None:
    """Each query's slope as a dot, spread within its line; the group's mean with its standard deviation."""
    labels = []
    for at, (group, correct, part) in enumerate(parts(alphas)):
        values = numbers(part, ["alpha"])[:, 0]
        colour = names.group_colour(group)
        labels.append(f"{names.group(group)}<br>{names.ANSWERED[correct]}")
        spread = (np.arange(len(part)) * 0.618 % 1 - 0.5) * 0.5
        figure.add_trace(
            go.Scatter(
                x=values, y=at + spread, mode="markers", showlegend=False, text=[names.plain(q) for q in part["query"]],
                marker={"color": faint(colour, 0.6), "size": 6, "symbol": "circle" if correct else "circle-open"},
                hovertemplate="%{text}<br>α %{x:.3f}<extra></extra>",
            ),
            row=1, col=2,
        )  # fmt: skip
        mean, sd = float(np.nanmean(values)), float(np.nanstd(values, ddof=1)) if len(values) > 1 else 0.0
        one = np.array([mean])
        figure.add_trace(
            go.Scatter(
                x=one, y=[at], mode="markers", showlegend=False,
                error_x=interval(one, one - sd, one + sd, color=colour, width=6),
                marker={"color": colour, "size": 11, "symbol": "diamond", "line": {"width": 1, "color": "white"}},
                hovertemplate=f"mean α %{{x:.3f}}, sd {sd:.3f}, n = {len(values)}<extra></extra>",
            ),
            row=1, col=2,
        )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, autorange="reversed", showgrid=False, zeroline=False,
        row=1, col=2,
    )  # fmt: skip
    figure.update_xaxes(title="α (diamond: mean ± sd over queries)", zeroline=False, row=1, col=2)
