"""One question walked through the circuit: who looks where, and when the answer appears.

`walk_attention`  attention of the circuit's heads of a layer, from every token to those before it
`walk_margins`    margin Yes minus No that the read-out has of the residual stream after every layer
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.frames import require
from arithcirc.viz.influence.names import plain
from arithcirc.viz.panels import colour_axis, heat, legend_below

TOKENS = ("opening", "index", "token", "role", "sentence")
EDGES = ("opening", "layer", "head", "query", "key", "attention")
_MARGIN_COLOURS = {"asked effect": "#d9731a", "mark": "#2f7ebc"}


def walk_attention(tokens: pd.DataFrame, attention: pd.DataFrame, *, opening: str, layer: int) -> go.Figure:
    """A panel for each head of the circuit in a layer: queries down, keys across."""
    words = require(tokens, "walk_tokens", TOKENS, {"opening": opening}).sort_values("index")
    edges = require(attention, "walk_attention", EDGES, {"opening": opening, "layer": layer})
    heads = sorted({int(h) for h in edges["head"]})
    said = [plain(t) for t in words["token"]]
    ticks, size = list(range(len(said))), len(said)
    figure = make_subplots(
        rows=1, cols=len(heads), shared_yaxes=True, horizontal_spacing=0.015,
        subplot_titles=[f"L{layer}H{h}" for h in heads],
    )  # fmt: skip
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in heads]
    )
    labels = [f"{w} ({names.role(r)})" for w, r in zip(said, words["role"], strict=True)]
    pairs = np.array([[f"{q} → {k}" for k in labels] for q in labels])
    for panel, head in enumerate(heads, start=1):
        part = edges[edges["head"] == head]
        z = np.full((size, size), np.nan)
        z[np.tril_indices(size)] = 0.0
        z[part["query"].astype(int), part["key"].astype(int)] = part["attention"]
        heat(
            figure, panel, z, ticks, ticks, decimals=None, customdata=pairs,
            hover="%{customdata}<br>attention %{z:.2f}<extra></extra>",
        )  # fmt: skip
    colour_axis(figure, "attention", 0.0, 1.0)
    axis = {"tickvals": ticks, "ticktext": said, "showgrid": False, "zeroline": False, "tickfont": {"size": 10}}
    figure.update_yaxes(autorange="reversed", **axis)
    figure.update_xaxes(tickangle=-90, **axis)
    figure.update_layout(
        title=f"Attention of the circuit’s heads in layer {layer}: from the row’s token to the column’s",
        height=max(400, min(760, 170 + 15 * size)), margin={"b": 76},
    )  # fmt: skip
    return figure


def walk_margins(margins: pd.DataFrame, *, opening: str) -> go.Figure:
    """A line for each place; above 0 the read-out says Yes."""
    rows = require(margins, "walk_margins", ("opening", "layers", "role", "margin", "label"), {"opening": opening})
    figure = go.Figure(layout={"template": theme.template("light")})
    for role, part in rows.groupby("role", sort=False):
        figure.add_trace(
            go.Scatter(
                x=part["layers"], y=part["margin"], mode="lines+markers", name=f"at {names.role(str(role))}",
                line={"color": _MARGIN_COLOURS.get(str(role), theme.GREY), "width": 2.2}, marker={"size": 7},
                hovertemplate="after %{x} layers: %{y:+.2f} nats<extra></extra>",
            )
        )  # fmt: skip
    figure.add_hline(y=0, line_width=1)
    answer = "Yes" if bool(rows["label"].iloc[0]) else "No"
    figure.update_xaxes(title="layers", dtick=1, zeroline=False)
    figure.update_yaxes(title="Yes minus No, nats")
    figure.update_layout(title=f"When the answer appears; it is {answer}")
    legend_below(figure, 340)
    return figure
