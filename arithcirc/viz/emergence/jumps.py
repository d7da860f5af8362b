"""Does accuracy on a heuristic's own prompts jump when the heuristic is born?

`event_study`  per operator, against the distance from the birth in measured checkpoints: by how much more accuracy rose
               inside the heuristic than on matched prompts outside it, since the checkpoint before. Small points are
               single heuristics with FEWEST prompts inside or more, diamonds their mean with its interval. 0 is the
               birth; the other distances are the placebo, the same heuristics when nothing of theirs is born
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.emergence.data import LABELS, SweepData
from arithcirc.viz.emergence.lines import named, panels
from arithcirc.viz.frames import column, numbers, require
from arithcirc.viz.panels import interval, legend_below

ALL = "(all)"
"""The row of all heuristics of an operator together."""
FEWEST = 20
"""Prompts inside a heuristic that the mean asks for; those with fewer are not drawn."""
_COLUMNS = ("operator", "heuristic", "offset", "difference")


def event_study(data: SweepData, model: str, labels: str) -> go.Figure:
    """Difference in differences against distance from the birth, one panel per operator."""
    table = data.tables.get("jumps", pd.DataFrame())
    rows = require(table, "jumps", _COLUMNS, {"model": model, "labels": labels} if len(table.columns) else None)
    rows = require(rows[rows["difference"].notna()], "jumps", _COLUMNS)
    figure, present = panels(rows)
    rng = np.random.default_rng(0)
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        single, mean = part[part["heuristic"] != ALL], part[part["heuristic"] == ALL].sort_values("offset")
        single = single[column(single, "n_in", np.inf).fillna(0) >= FEWEST]
        if not single.empty:
            _points(figure, panel, single, single["offset"] + rng.uniform(-0.16, 0.16, len(single)))
        if not mean.empty:
            _means(figure, panel, mean, theme.operator_colour(operator))
    figure.update_layout(
        title=f"Accuracy inside a heuristic against outside, around its birth: {LABELS[labels]} labels"
    )
    legend_below(figure, 410)
    offsets = sorted({int(o) for o in rows["offset"]})
    figure.update_xaxes(
        title="checkpoints after the birth", tickvals=offsets, zeroline=False,
        range=[offsets[0] - 0.5, offsets[-1] + 0.5],
        ticktext=["birth" if o == 0 else f"{o:+d}".replace("-", "−") for o in offsets],
    )  # fmt: skip
    counted = rows[(rows["heuristic"] == ALL) | (column(rows, "n_in", np.inf).fillna(0) >= FEWEST)]
    shown = numbers(counted if len(counted) else rows, ["difference", "low", "high"])
    limit = float(np.nanquantile(np.abs(shown), 0.98)) * 1.1 or 0.1
    figure.update_yaxes(range=[-limit, limit], zeroline=True, tickformat="+.2f")
    figure.update_yaxes(title="rise inside − rise outside", row=1, col=1)
    return figure


def _points(figure: go.Figure, panel: int, rows: pd.DataFrame, x: pd.Series) -> None:
    facts = numbers(rows, ["change_in", "change_out", "n_in", "n_out"])
    figure.add_trace(
        go.Scatter(
            x=x.to_numpy(dtype=np.float32),
            y=rows["difference"].to_numpy(dtype=np.float32),
            mode="markers",
            marker={"size": 4, "color": theme.GREY, "opacity": 0.55},
            text=rows["heuristic"].astype(str).tolist(),
            customdata=facts.astype(np.float32),
            hovertemplate="%{text}<br>inside %{customdata[0]:+.3f} (n = %{customdata[2]:.0f}), outside "
            "%{customdata[1]:+.3f} (n = %{customdata[3]:.0f})<br>difference %{y:+.3f}<extra></extra>",
            name="single heuristics",
            legendgroup="single",
            showlegend=not named(figure, "single heuristics"),
        ),
        row=1,
        col=panel,
    )


def _means(figure: go.Figure, panel: int, rows: pd.DataFrame, colour: str) -> None:
    values = numbers(rows, ["difference", "low", "high", "p"])
    figure.add_trace(
        go.Scatter(
            x=rows["offset"].tolist(),
            y=values[:, 0],
            mode="lines+markers",
            line={"color": colour, "width": 1.5, "dash": "dot"},
            marker={"size": 11, "symbol": "diamond", "color": colour},
            error_y=interval(values[:, 0], values[:, 1], values[:, 2], thickness=2, width=5),
            customdata=values,
            hovertemplate="mean over heuristics %{y:+.3f}<br>from %{customdata[1]:+.3f} to %{customdata[2]:+.3f}"
            "<br>p = %{customdata[3]:.2g}<extra></extra>",
            name="mean over heuristics, 95%",
            legendgroup="mean",
            showlegend=not named(figure, "mean over heuristics, 95%"),
        ),
        row=1,
        col=panel,
    )
