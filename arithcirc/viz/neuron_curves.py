"""Figure of `neuron_faithfulness`: how many neurons per layer the circuit needs.

From the first heuristics layer on, only the top k neurons of each MLP are kept and the others are mean-ablated; earlier
MLPs stay whole. F is that of the circuit (see `viz.faithfulness`). Neurons enter by the exact effect, by its
first-order estimate, or at random (the control: the band is the range over draws). `heads` says what else is kept: the
circuit's heads, or every head, which asks about the neurons alone.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.faithfulness import MEASURES, value_range
from arithcirc.viz.frames import flags, numbers, require
from arithcirc.viz.panels import at, band, count_axis, legend_below, level

HEADS = {"circuit": "circuit's heads", "all": "every head"}
_STYLES = {
    "exact": ("solid", "circle", "top neurons by exact effect"),
    "estimate": ("dash", "square-open", "by estimate"),
}
_ESTIMATE = "#c9a227"
_COLUMNS = ("operator", "set", "ranking", "heads", "top")


def neuron_faithfulness(
    table: pd.DataFrame, *, heads: str = "circuit", measure: str = "faithfulness", target: float | None = 0.9
) -> go.Figure:
    """`measure` against neurons kept per layer, one panel per operator, on an axis that shows 0."""
    rows = require(table, "neuron_faithfulness", (*_COLUMNS, measure), {"heads": heads})
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present)
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        part = part[part["set"] == ("evaluate" if (part["set"] == "evaluate").any() else part["set"].iloc[0])]
        _add_random(figure, panel, part[part["ranking"] == "random"], measure)
        for ranking in _STYLES:
            _add_ranked(figure, panel, part[part["ranking"] == ranking].sort_values("top"), ranking, measure)
        _add_chosen(figure, panel, part, measure)
        if target is not None and measure.startswith("faithfulness"):
            level(figure, panel, target, f"target {target:g}")
    label = MEASURES[measure]
    figure.update_layout(
        title=f"{label[0].upper()}{label[1:]} against neurons kept per layer; kept too: {HEADS[heads]}"
    )
    legend_below(figure, 430)
    count_axis(figure, rows["top"].unique().tolist(), "neurons kept per layer")
    figure.update_yaxes(range=value_range(rows, measure), zeroline=True)
    figure.update_yaxes(title=label, row=1, col=1)
    return figure


def _add_random(figure: go.Figure, panel: int, rows: pd.DataFrame, measure: str) -> None:
    grouped = rows.dropna(subset=[measure]).groupby("top")[measure].agg(["mean", "min", "max", "count"])
    if grouped.empty:
        return
    x, facts = at(grouped.index), grouped.reset_index().to_numpy(dtype=np.float64)
    legend = panel == 1
    band(
        figure, panel, x.tolist(), grouped["min"].tolist(), grouped["max"].tolist(), colour=theme.GREY,
        name="random neurons, range", legend=legend,
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=x,
            y=grouped["mean"].to_numpy(),
            mode="lines+markers",
            line={"color": theme.GREY, "width": 1.5, "dash": "dot"},
            marker={"size": 5, "symbol": "square"},
            customdata=facts,
            hovertemplate="random, %{customdata[0]:.0f} per layer<br>mean %{y:.4f}<br>from %{customdata[2]:.4f} to "
            "%{customdata[3]:.4f}<br>%{customdata[4]:.0f} draws<extra></extra>",
            name="random neurons, mean",
            legendgroup="random",
            showlegend=legend,
        ),
        row=1,
        col=panel,
    )


def _add_ranked(figure: go.Figure, panel: int, rows: pd.DataFrame, ranking: str, measure: str) -> None:
    if rows.empty:
        return
    dash, symbol, name = _STYLES[ranking]
    facts = numbers(rows, ["top", "n", "undefined", "faithfulness_sem"])
    bars = {"type": "data", "array": facts[:, 3], "thickness": 1.2, "width": 3}
    colour = theme.operator_colour(str(rows["operator"].iloc[0])) if ranking == "exact" else _ESTIMATE
    figure.add_trace(
        go.Scatter(
            x=at(rows["top"]),
            y=rows[measure].to_numpy(dtype=np.float64),
            error_y=bars if measure == "faithfulness" else None,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"size": 7, "symbol": symbol},
            customdata=facts,
            hovertemplate=f"{name}<br>%{{customdata[0]:.0f}} per layer: %{{y:.4f}}<br>%{{customdata[1]:.0f}} prompts, "
            "%{customdata[2]:.0f} undefined<extra></extra>",
            name=name,
            legendgroup=ranking,
            showlegend=panel == 1,
        ),
        row=1,
        col=panel,
    )


def _add_chosen(figure: go.Figure, panel: int, rows: pd.DataFrame, measure: str) -> None:
    chosen = rows[flags(rows, "chosen") & (rows["ranking"] == "exact").to_numpy()]
    if chosen.empty:
        return
    top = int(chosen["top"].iloc[0])
    figure.add_trace(
        go.Scatter(
            x=at([top]),
            y=[float(chosen[measure].iloc[0])],
            mode="markers",
            marker={"size": 15, "symbol": "diamond-open", "line": {"width": 2.5}, "color": theme.CHOSEN},
            hovertemplate=f"chosen: {top:,} neurons per layer<br>%{{y:.4f}}<extra></extra>",
            name="chosen",
            legendgroup="chosen",
            showlegend=panel == 1,
        ),
        row=1,
        col=panel,
    )
    figure.add_annotation(
        x=float(at(top)), y=0, yanchor="bottom", text=f"{top:,} per layer", showarrow=False,
        font={"size": theme.SMALL, "color": theme.CHOSEN}, row=1, col=panel,
    )  # fmt: skip
