"""What a mechanism's documents were before and after it appeared in training.

`births_figure`  over checkpoints, one line per mechanism: its measured strength, the correlation of its influence
                 vector with the final one, and the lift of one kind of documents. Open marks lie before the birth

The factors of every checkpoint are its own. Two checkpoints make a line, not a trend.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.influence import names
from arithcirc.viz.influence.lift import mechanism
from arithcirc.viz.panels import legend_below

COLOURS = ("#2f7ebc", "#d9731a", "#1b9e77", "#b267a8", "#79b4e3", "#c9a227", "#a0522d", "#7c8794")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "cross", "x", "hexagon")
PANELS = ("value", "r", "lift")


def births_figure(table: pd.DataFrame, *, kind: str = "") -> go.Figure:
    """Three panels over the checkpoints. `kind` chooses whose lift the third shows."""
    rows = require(table, "births", ("query", "step", "when", "kind", "value", "r", "lift"))
    kinds = names.in_order(rows["kind"], names.KINDS)
    kind = kind if kind in kinds else kinds[0]
    lift = f"lift of kind {names.plain(names.kind(kind))}"
    titles = ["strength of the mechanism", "r with its final influence vector", lift]
    figure = make_subplots(rows=1, cols=3, horizontal_spacing=0.08, subplot_titles=titles)
    steps = sorted({int(s) for s in numbers(rows, ["step"])[:, 0] if np.isfinite(s)})
    for i, (query, part) in enumerate(rows[rows["kind"] == kind].groupby("query", sort=False)):
        _line(figure, i, str(query), part.drop_duplicates(["query", "step"]).sort_values("step"), steps)
    for panel, level in ((2, 0.0), (3, 1.0)):
        figure.add_hline(y=level, line_color=theme.GREY, line_dash="dot", line_width=1.2, row=1, col=panel)
    figure.update_layout(
        template=theme.template("light"), title="Before (open) and after (filled) the mechanism’s birth in training"
    )
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 420, bottom=120)
    ticks = list(range(len(steps)))
    figure.update_xaxes(
        title="training step", tickvals=ticks, ticktext=[f"{s:,}" for s in steps], range=[-0.4, len(steps) - 0.6],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_yaxes(range=[-1.05, 1.05], row=1, col=2)
    figure.update_yaxes(rangemode="tozero", row=1, col=3)
    return figure


def _line(figure: go.Figure, i: int, query: str, part: pd.DataFrame, steps: list[int]) -> None:
    colour, symbol = COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)]
    x = [steps.index(int(s)) for s in part["step"]]
    marks = [symbol if w == "after" else f"{symbol}-open" for w in part["when"]]
    values, said = numbers(part, list(PANELS)), names.plain(mechanism(query), 40)
    for panel, y in enumerate(values.T, start=1):
        figure.add_trace(
            go.Scatter(
                x=x, y=y, mode="lines+markers", name=said,
                legendgroup=query, showlegend=panel == 1, line={"color": colour, "width": 1.6},
                marker={"symbol": marks, "size": 10, "color": colour}, text=[str(w) for w in part["when"]],
                hovertemplate=f"{said}<br>%{{text}} birth: %{{y:.3g}}<extra></extra>",
            ),
            row=1, col=panel,
        )  # fmt: skip
