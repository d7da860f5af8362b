"""Figures of the `probes` table: where a linear probe reads the answer out of the residual stream.

`probe_heatmap`    layer x position, held-out accuracy, one panel per operator; the first layer from which `=` holds the
                   answer (table `first_layers`) is outlined
`probe_at_equals`  the same at `=` against layer, with 95% Wilson intervals, beside what always giving the most frequent
                   answer of the held-out prompts would score

A probe that reads the answer shows that it is there in a linear form, not that the model uses it; one that does not
says that this probe, with this many prompts, found nothing.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.panels import colour_axis, grid_height, heat, interval, legend_below, outline

_COLUMNS = ("operator", "layer", "position", "accuracy")
_MEASURED = ("low", "high", "n", "base_rate", "classes")


def probe_heatmap(probes: pd.DataFrame, first_layers: pd.DataFrame | None = None) -> go.Figure:
    """Held-out accuracy, layer x position, from 0 to 1 on one scale."""
    rows = require(probes, "probes", _COLUMNS)
    present = theme.ordered(rows["operator"])
    places = [p for p in theme.ALL_POSITIONS if p in set(rows["position"])]
    n_layers = int(rows["layer"].max()) + 1
    figure = theme.facets(present)
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        z, facts = np.full((n_layers, len(places)), np.nan), np.full((n_layers, len(places), len(_MEASURED)), np.nan)
        y, x = part["layer"].to_numpy(dtype=np.int64), part["position"].map(places.index).to_numpy(dtype=np.int64)
        z[y, x], facts[y, x] = part["accuracy"].to_numpy(dtype=np.float64), numbers(part, _MEASURED)
        hover = (
            "after layer %{y}, at %{x}<br>accuracy %{z:.3f}, 95% from %{customdata[0]:.3f} to %{customdata[1]:.3f}"
            "<br>base rate %{customdata[3]:.3f}<br>%{customdata[2]:.0f} held-out prompts, %{customdata[4]:.0f} answers"
            f"<extra>{theme.operator_title(operator)}</extra>"
        )
        labels = [theme.POSITION_LABELS.get(p, p) for p in places]
        heat(figure, panel, z, labels, range(n_layers), hover=hover, customdata=facts.astype(np.float32))
        first = first_layer(first_layers, operator)
        if first is not None and "equals" in places:
            outline(figure, panel, places.index("equals"), first)
    figure.update_layout(
        title="Held-out accuracy of a linear probe for the answer (outlined: first layer that counts as reading it)",
        height=grid_height(n_layers),
    )
    colour_axis(figure, "accuracy", 0.0, 1.0)
    figure.update_xaxes(title="position", type="category", showgrid=False, zeroline=False)
    figure.update_yaxes(showgrid=False, zeroline=False, dtick=1 if n_layers <= 16 else None)
    figure.update_yaxes(title="after layer", row=1, col=1)
    return figure


def probe_at_equals(probes: pd.DataFrame, first_layers: pd.DataFrame | None = None) -> go.Figure:
    """Held-out accuracy at `=` against layer, one panel per operator."""
    rows = require(probes, "probes", _COLUMNS, {"position": "equals"})
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present)
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator].sort_values("layer")
        facts = numbers(part, ("accuracy", *_MEASURED))
        _add_line(figure, panel, operator, part["layer"].tolist(), facts)
        first = first_layer(first_layers, operator)
        hit = part[part["layer"] == first]
        if not hit.empty:
            _add_first(figure, panel, first or 0, float(hit["accuracy"].iloc[0]))
    figure.update_layout(title="Held-out accuracy at = by layer, with 95% Wilson intervals")
    legend_below(figure, 380)
    figure.update_xaxes(title="after layer", zeroline=False, dtick=1 if rows["layer"].max() <= 12 else None)
    figure.update_yaxes(range=[-0.04, 1.06], zeroline=False)
    figure.update_yaxes(title="held-out accuracy", row=1, col=1)
    return figure


def first_layer(first_layers: pd.DataFrame | None, operator: str) -> int | None:
    """The operator's first heuristics layer; None where the table or the row is missing."""
    if first_layers is None or not {"operator", "layer"} <= set(first_layers.columns):
        return None
    held = first_layers.loc[first_layers["operator"] == operator, "layer"].dropna()
    return None if held.empty else int(held.iloc[0])


def _add_line(figure: go.Figure, panel: int, operator: str, layers: list[int], facts: np.ndarray) -> None:
    accuracy, low, high, _, base = facts[:, :5].T
    guess = go.Scatter(
        x=layers,
        y=base,
        mode="lines",
        line={"color": theme.GREY, "width": 1.5, "dash": "dot"},
        hovertemplate="most frequent answer: %{y:.3f}<extra></extra>",
        name="always the most frequent answer",
        legendgroup="base",
        showlegend=panel == 1,
    )
    line = go.Scatter(
        x=layers,
        y=accuracy,
        error_y=interval(accuracy, low, high),
        mode="lines+markers",
        line={"color": theme.operator_colour(operator), "width": 2},
        marker={"size": 7},
        customdata=facts,
        hovertemplate="after layer %{x}<br>accuracy %{y:.3f}, 95% from %{customdata[1]:.3f} to %{customdata[2]:.3f}"
        "<br>%{customdata[3]:.0f} held-out prompts<extra></extra>",
        name="probe at =",
        legendgroup="probe",
        showlegend=panel == 1,
    )
    figure.add_traces([guess, line], rows=1, cols=panel)


def _add_first(figure: go.Figure, panel: int, layer: int, accuracy: float) -> None:
    figure.add_trace(
        go.Scatter(
            x=[layer],
            y=[accuracy],
            mode="markers",
            marker={"size": 16, "symbol": "diamond-open", "line": {"width": 2.5}, "color": theme.CHOSEN},
            hovertemplate="first layer that counts: %{x}<br>accuracy %{y:.3f}<extra></extra>",
            name="first layer that counts",
            legendgroup="first",
            showlegend=panel == 1,
        ),
        row=1,
        col=panel,
    )
