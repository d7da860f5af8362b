"""How much influence the documents have on a query, per nat of its completion, and how it is spread over them.

`cumulative_curves`  summed influence of the top k% of a query's positive documents, per nat, and the share of the
                     total that they hold; mean over the queries of a group, with its 95% interval
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


def cumulative_curves(groups: pd.DataFrame, *, method: str = "ekfac", end: str = "positive") -> go.Figure:
    """Two panels: per nat, and as a share of the total. `groups` is the table `magnitude_groups`."""
    columns = (
        "method",
        "group",
        "correct",
        "end",
        "share",
        "mean",
        "low",
        "high",
        "part",
        "part_low",
        "part_high",
        "n",
    )
    rows = require(groups, "magnitude_groups", columns, {"method": method, "end": end})
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.1, subplot_titles=["summed influence per nat", "share of the total"]
    )
    for panel, value in enumerate(("mean", "part"), start=1):
        for group, correct, part in parts(rows):
            _curve(figure, panel, part.sort_values("share"), value, (group, correct))
    shares = sorted(rows["share"].unique())
    figure.add_trace(
        go.Scatter(
            x=shares, y=shares, mode="lines", line={"color": theme.GREY, "dash": "dot", "width": 1.5},
            name="every document alike", hoverinfo="skip",
        ),
        row=1, col=2,
    )  # fmt: skip
    title = f"Influence of a query’s strongest {end} documents, {names.method(method)} (mean over queries, 95%)"
    figure.update_layout(template=theme.template("light"), title=title)
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 430)
    ticks = [s for s in shares if any(np.isclose(s, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]))]
    figure.update_xaxes(
        type="log", title=f"strongest documents, as a share of those with {end} influence",
        tickvals=ticks or shares, ticktext=[f"{100 * s:g}%" for s in ticks or shares],
    )  # fmt: skip
    figure.update_yaxes(zeroline=True)
    figure.update_yaxes(tickformat=".0%", row=1, col=2)
    return figure


def parts(rows: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """The rows by group and by whether the query was answered rightly ("right", "wrong"), right first."""
    correct = rows["correct"].map({True: "right", False: "wrong"}).fillna(rows["correct"])
    found = []
    for group in names.in_order(rows["group"], names.GROUPS):
        for side in names.ANSWERED:
            held = rows[(rows["group"] == group) & (correct == side)]
            if len(held):
                found.append((group, side, held))
    return found


def _curve(figure: go.Figure, panel: int, rows: pd.DataFrame, value: str, which: tuple[str, str]) -> None:
    group, correct = which
    ends = ["low", "high"] if value == "mean" else ["part_low", "part_high"]
    x, y, low, high = numbers(rows, ["share", value, *ends]).T
    n = int(rows["n"].max())
    colour, name = names.group_colour(group), f"{names.group(group)}, {names.ANSWERED[correct]} (n = {n})"
    key = f"{group} {correct}"
    if np.isfinite([low, high]).all():
        figure.add_trace(
            go.Scatter(
                x=[*x, *x[::-1]], y=[*high, *low[::-1]], fill="toself", mode="lines", showlegend=False,
                fillcolor=faint(colour, 0.15), line={"width": 0}, hoverinfo="skip", legendgroup=key,
            ),
            row=1, col=panel,
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines+markers", name=name, legendgroup=key, showlegend=panel == 1,
            line={"color": colour, "dash": "solid" if correct == "right" else "dash", "width": 2},
            marker={"size": 6, "symbol": names.group_symbol(group)}, customdata=np.stack([low, high], axis=1),
            hovertemplate=f"{name}<br>top %{{x:.1%}}: %{{y:.3g}} [%{{customdata[0]:.3g}}, %{{customdata[1]:.3g}}]"
            "<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip


def rank_influence(ranks: pd.DataFrame, slopes: pd.DataFrame, *, method: str = "ekfac_normed") -> go.Figure:
    """Left, mean score per nat against rank, over the ranks the slopes are fitted to; right, the slope of every query.

    `ranks`: see `plates.read_study`. Where it is shorter than the fit, the title says to which rank it is drawn.
    """
    rows = require(ranks, "top", ("group", "correct", "rank", "score"), {"method": method})
    alphas = require(slopes, "power_law", ("query", "group", "correct", "alpha"), {"method": method})
    k = numbers(alphas, ["k"])[:, 0]
    fitted = int(np.nanmax(k)) if np.isfinite(k).any() else 0
    rows = rows[rows["rank"] < fitted] if fitted else rows
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
                line={"color": colour, "dash": "solid" if correct == "right" else "dash", "width": 2}, name=name,
                legendgroup=f"{group} {correct}",
                hovertemplate=f"{name}<br>rank %{{x}}: %{{y:.3g}}<extra></extra>",
            ),
            row=1, col=1,
        )  # fmt: skip
    _slopes(figure, alphas)
    title = f"Does influence fall with rank as a power law? {names.method(method)}"
    title += f", slopes fitted to the first {fitted} documents" if fitted else ""
    reached = int(rows["rank"].max()) + 1
    title += f", drawn to {reached}" if reached < fitted else ""
    figure.update_layout(template=theme.template("light"), title=title)
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 430)
    figure.update_xaxes(type="log", title="rank", row=1, col=1, dtick=1)
    figure.update_yaxes(type="log", title="mean score per nat", row=1, col=1, dtick="D2", tickformat="~g")
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
                marker={"color": faint(colour, 0.6), "size": 6, "symbol": names.SYMBOLS[correct]},
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
