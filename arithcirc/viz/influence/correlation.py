"""Do queries take their influence from the same documents? Pearson r between the influence vectors of two queries.

`correlation_figure`  left, r of every pair of queries, ordered by group and task, with a line between groups; right,
                      the mean r of each relation between two queries with its bootstrap interval over queries, and as
                      a grey bar what documents shuffled among each other give (95%)

A mean outside the grey bar is more than chance; a mean on it shows nothing. r is blind to the scale of either query.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import column, numbers, require
from arithcirc.viz.influence import names
from arithcirc.viz.panels import heat, interval

MOST = 200
"""Queries drawn in the matrix, evenly from the ordered list."""
RELATIONS = (
    "same task", "across reasoning", "reasoning-factual", "factual", "control", "task-control",
)  # fmt: skip


def correlation_figure(
    pairs: pd.DataFrame, groups: pd.DataFrame, queries: pd.DataFrame, *, method: str = "ekfac_normed"
) -> go.Figure:
    """The matrix and the means of one method. Raises RequestError when a table has no rows of it."""
    pairs = require(pairs, "correlation", ("query_a", "query_b", "r", "method"), {"method": method})
    order = ordered(queries, set(pairs["query_a"]) | set(pairs["query_b"]))
    shown = order.iloc[np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST)).astype(int))]
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.46, 0.54], horizontal_spacing=0.24,
        subplot_titles=["r between two queries", "mean r by relation"],
    )  # fmt: skip
    z = _matrix(pairs, shown["query"].tolist())
    places = list(range(len(shown)))
    said = [
        f"{names.plain(q)} ({names.plain(names.group(g))}, {names.plain(t)})"
        for q, g, t in shown[["query", "group", "task"]].itertuples(index=False)
    ]
    text = np.array([[f"{a}<br>{b}" for b in said] for a in said], dtype=object)
    heat(
        figure, 1, z, places, places, decimals=None, customdata=text,
        hover="%{customdata}<br>r %{z:.3f}<extra></extra>",
    )  # fmt: skip
    _blocks(figure, shown)
    limit = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 1.0
    bar = {"title": {"text": "r", "side": "top"}, "x": 0.475, "len": 0.9, "thickness": 10}
    figure.update_layout(coloraxis={"cmin": -limit, "cmax": limit, "autocolorscale": True, "colorbar": bar})
    _means(figure, require(groups, "correlation_groups", ("relation", "mean"), {"method": method}))
    title = f"Pearson r between influence vectors of queries, {names.method(method)}"
    figure.update_layout(template=theme.template("light"), title=title, height=470, margin={"b": 92, "l": 92})
    figure.update_annotations(font_size=theme.FONT_SIZE)
    return figure


def ordered(queries: pd.DataFrame, held: set[str]) -> pd.DataFrame:
    """The queries that are held, by group, task and id: columns query, group, task."""
    rows = queries[queries["query"].isin(held)].assign(
        group=column(queries, "group", default="").fillna("").astype(str),
        task=column(queries, "task", default="").fillna("").astype(str),
    )[["query", "group", "task"]]
    places = {name: i for i, name in enumerate(names.in_order(rows["group"], names.GROUPS))}
    rows = rows.assign(place=rows["group"].map(places)).sort_values(["place", "task", "query"], kind="stable")
    return rows.drop(columns="place").reset_index(drop=True)


def _matrix(pairs: pd.DataFrame, order: Sequence[str]) -> np.ndarray:
    """r [query, query], the diagonal left out."""
    at = {name: i for i, name in enumerate(order)}
    rows = pairs[pairs["query_a"].isin(at.keys()) & pairs["query_b"].isin(at.keys())]
    a, b = rows["query_a"].map(at).to_numpy(dtype=int), rows["query_b"].map(at).to_numpy(dtype=int)
    z = np.full((len(order), len(order)), np.nan)
    z[a, b] = z[b, a] = rows["r"].to_numpy(dtype=np.float64)
    np.fill_diagonal(z, np.nan)
    return z


def _blocks(figure: go.Figure, shown: pd.DataFrame) -> None:
    """A line between groups, and their names at the axes."""
    key = [names.plain(names.group(g) if g != "reasoning" or not t else t.replace("_", "-"), 24)
           for g, t in shown[["group", "task"]].itertuples(index=False)]  # fmt: skip
    starts = [i for i in range(len(key)) if i == 0 or key[i] != key[i - 1]]
    ends = [*starts[1:], len(key)]
    for start in starts[1:]:
        for axis in ("x", "y"):
            line = {"type": "line", "line": {"color": theme.GREY, "width": 1}, "row": 1, "col": 1}
            ends_at = {f"{axis}0": start - 0.5, f"{axis}1": start - 0.5}
            other = "y" if axis == "x" else "x"
            figure.add_shape(**line, **ends_at, **{f"{other}0": -0.5, f"{other}1": len(key) - 0.5})
    ticks = {
        "tickvals": [(s + e - 1) / 2 for s, e in zip(starts, ends, strict=True)],
        "ticktext": [key[s] for s in starts], "showgrid": False, "zeroline": False,
    }  # fmt: skip
    figure.update_xaxes(**ticks, tickangle=-35, row=1, col=1)
    figure.update_yaxes(**ticks, autorange="reversed", row=1, col=1)


def _means(figure: go.Figure, rows: pd.DataFrame) -> None:
    """Means with intervals, and what shuffled documents give, one line per relation."""
    known = names.in_order(rows["relation"], dict.fromkeys(RELATIONS))
    rows = rows.set_index("relation").loc[known]
    mean, low, high, null_low, null_high, n = numbers(
        rows, ["mean", "low", "high", "null_low", "null_high", "n"]
    ).T  # fmt: skip
    p = numbers(rows, ["p"])[:, 0]
    for name, a, b in zip(known, null_low, null_high, strict=True):
        if np.isfinite([a, b]).all():
            figure.add_trace(
                go.Scatter(
                    x=[a, b], y=[name, name], mode="lines", line={"color": theme.GREY, "width": 11}, opacity=0.45,
                    name="documents shuffled (95%)", legendgroup="null", showlegend=name == known[0], hoverinfo="skip",
                ),
                row=1, col=2,
            )  # fmt: skip
    said = [f"n = {k:.0f}, p = {theme.p_value(q)}" for k, q in zip(n, p, strict=True)]
    figure.add_trace(
        go.Scatter(
            x=mean, y=known, mode="markers+text", error_x=interval(mean, low, high),
            marker={"color": "#2f7ebc", "size": 9}, name="mean r over pairs (95%, queries drawn again)",
            text=[f"  {theme.number(m)}" for m in mean], textposition="top center",
            textfont={"size": theme.SMALL}, customdata=said,
            hovertemplate="%{y}<br>mean r %{x:.3f}<br>%{customdata}<extra></extra>",
        ),
        row=1, col=2,
    )  # fmt: skip
    figure.update_xaxes(title="mean r", zeroline=True, row=1, col=2)
    figure.update_yaxes(autorange="reversed", showgrid=False, row=1, col=2)
    figure.update_layout(legend={"x": 0.56, "y": -0.2, "yanchor": "top"})
