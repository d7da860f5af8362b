"""Heads that follow an edge: attention from a mention of a node to the sentences it is in, and what cutting it costs.

Left: attention along the edges beyond what uniform attention over the sentences would have there. Right: how much of
the margin towards the answer is gone when these edges of this head alone are cut.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.frames import require
from arithcirc.viz.panels import heat

NEEDED = ("opening", "questions", "layer", "head", "query", "node", "target", "excess", "effect", "se", "base_rate")
MOST = 32
"""Heads of the map: those that follow or need edges most."""


def edge_head_map(edges: pd.DataFrame, *, opening: str, questions: str) -> go.Figure:
    """Head by kind of edge. Raises RequestError where there is none."""
    rows = require(edges, "edge_heads", NEEDED, {"opening": opening, "questions": questions})
    rows = rows.assign(
        name=[f"L{a}H{b}" for a, b in zip(rows["layer"], rows["head"], strict=True)],
        edge=[_edge(q, n, t) for q, n, t in zip(rows["query"], rows["node"], rows["target"], strict=True)],
    )
    strength = rows[["excess", "effect"]].abs().max(axis=1).groupby(rows["name"]).max()
    kept = set(strength.nlargest(MOST).index)
    labels = list(dict.fromkeys(rows.sort_values(["layer", "head"])["name"][lambda names_: names_.isin(kept)]))
    kinds = list(dict.fromkeys(rows["edge"]))
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.1,
        subplot_titles=["Attention along edges, beyond uniform", "Margin lost when they are cut"],
    )  # fmt: skip
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in range(2)]
    )
    for panel, column in enumerate(("excess", "effect"), start=1):
        held = rows.pivot_table(index="name", columns="edge", values=column, sort=False)
        z = held.reindex(index=labels, columns=kinds).to_numpy(dtype=float)
        text = np.array([["" if not abs(v) >= 0.05 else theme.number(v, 2) for v in row] for row in z])
        heat(figure, panel, z, kinds, labels, text=text, hover="%{y}, %{x}<br>%{z:.3f}<extra></extra>")
        figure.data[-1].coloraxis = "coloraxis" if panel == 1 else "coloraxis2"
        limit = max(0.25, float(np.nanmax(np.abs(z), initial=0.0)))
        bar = {"x": 0.455 if panel == 1 else 1.005, "title": {"text": column, "side": "right"}}
        axis = {"cmin": -limit, "cmax": limit, "autocolorscale": True, "colorbar": bar}
        figure.update_layout(**{"coloraxis" if panel == 1 else "coloraxis2": axis})
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False, tickmode="linear")
    figure.update_xaxes(showgrid=False, zeroline=False, tickangle=-65, tickmode="linear")
    figure.update_layout(
        title=f"Heads that follow edges, {questions.replace('-0', ' ').replace('-', ' ')}",
        height=270 + 20 * len(labels), margin={"b": 170, "l": 60},
    )  # fmt: skip
    return figure


def _edge(query: str, node: str, target: str) -> str:
    """`asked cause: its node as cause`; at a full stop or mark, which node is followed."""
    said = names.role(query).removeprefix("full ")
    return f"{said}: {'' if query.endswith(node) else node + ' '}{target}"
