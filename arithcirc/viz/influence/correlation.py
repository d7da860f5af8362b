"""Do queries take their influence from the same documents? Pearson r between the influence vectors of two queries.

`correlation_figure`  left, r of every pair of queries, ordered by group and task, with a line between groups; right,
                      the mean r of each relation between two queries with its bootstrap interval over queries, and as
                      bars what documents in random order give, freely and within their kind (95%)

A mean on the grey bar shows nothing; one on the yellow bar shows no more than that the queries like the same kinds.
r is blind to the scale of either query.
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

NULLS = (
    ("null_", "documents in random order (95%)", theme.GREY, 13),
    ("kind_null_", "in random order within their kind (95%)", "#c9a227", 5),
)
MOST = 200
"""Queries drawn in the matrix, evenly from the ordered list."""
RELATIONS = (
    "same task", "same task, same output", "same task, other output", "same task, right", "same task, wrong",
    "across reasoning", "across reasoning, other output", "reasoning-factual", "factual", "factual, right",
    "factual, wrong", "task-control", "control", "unrelated control",
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
    said = [
        f"{names.plain(q, 40)} ({names.plain(names.group(g))}{', ' if t else ''}{names.plain(t)})"
        for q, g, t in shown[["query", "group", "task"]].itertuples(index=False)
    ]
    heat(figure, 1, z, said, said, decimals=None, hover="%{x}<br>%{y}<br>r %{z:.3f}<extra></extra>")
    _blocks(figure, shown, said)
    limit = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 1.0
    bar = {"title": {"text": "r", "side": "top"}, "x": 0.36, "xanchor": "left", "len": 1.0, "thickness": 10}
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


def _blocks(figure: go.Figure, shown: pd.DataFrame, said: Sequence[str]) -> None:
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
        "type": "category", "tickvals": [said[(s + e - 1) // 2] for s, e in zip(starts, ends, strict=True)],
        "ticktext": [key[s] for s in starts], "showgrid": False, "zeroline": False,
    }  # fmt: skip
    figure.update_xaxes(**ticks, tickangle=-35, row=1, col=1)
    figure.update_yaxes(**ticks, autorange="reversed", row=1, col=1)


def _means(figure: go.Figure, rows: pd.DataFrame) -> None:
    """Means with intervals, and what shuffled documents give, one line per relation."""
    known = names.in_order(rows["relation"], dict.fromkeys(RELATIONS))
    rows = rows.set_index("relation").loc[known]
    mean, low, high, n, p, kind_p = numbers(rows, ["mean", "low", "high", "n", "p", "kind_p"]).T
    for prefix, label, colour, width in NULLS:
        ends = numbers(rows, [f"{prefix}low", f"{prefix}high"])
        shown = False
        for name, (a, b) in zip(known, ends, strict=True):
            if np.isfinite([a, b]).all():
                figure.add_trace(
                    go.Scatter(
                        x=[a, b], y=[name, name], mode="lines", line={"color": colour, "width": width}, opacity=0.5,
                        name=label, legendgroup=prefix, showlegend=not shown, hoverinfo="skip",
                    ),
                    row=1, col=2,
                )  # fmt: skip
                shown = True
    said = [
        f"{k:.0f} pairs, p = {theme.p_value(q)}, within kinds p = {theme.p_value(w)}"
        for k, q, w in zip(n, p, kind_p, strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=mean, y=known, mode="markers", error_x=interval(mean, low, high),
            marker={"color": "#2f7ebc", "size": 9}, name="mean r (95% over queries)", customdata=said,
            hovertemplate="%{y}<br>mean r %{x:.3f}<br>%{customdata}<extra></extra>",
        ),
        row=1, col=2,
    )  # fmt: skip
    beyond = np.nanmax([mean, *numbers(rows, ["high", "null_high", "kind_null_high"]).T], axis=0)
    figure.add_trace(
        go.Scatter(
            x=beyond, y=known, mode="text", showlegend=False, hoverinfo="skip", cliponaxis=False,
            text=[f"  {theme.number(m)}" for m in mean], textposition="middle right", textfont={"size": theme.SMALL},
        ),
        row=1, col=2,
    )  # fmt: skip
    figure.update_xaxes(title="mean r", zeroline=True, row=1, col=2)
    figure.update_yaxes(autorange="reversed", showgrid=False, row=1, col=2)
    figure.update_layout(legend={"x": 1.0, "xanchor": "right", "y": -0.16, "yanchor": "top"})
