"""When the answer is there: probes by layer and length of path, and how soon attention may stop.

`probe_map`     accuracy of a linear probe for reachability on graphs it was not trained on, coloured by what it has
                beyond probes that were trained on shuffled labels
`layer_curves`  accuracy against layers, a line for each distance; a ring where a curve is nearly at its end and stays
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.frames import require
from arithcirc.viz.influence.names import in_order
from arithcirc.viz.panels import colour_axis, heat, interval, legend_below

PROBES = ("opening", "layer", "role", "distance", "accuracy", "low", "high", "shuffled", "shuffled_high", "test")
CURVES = ("opening", "curve", "scope", "distance", "layers", "accuracy", "low", "high")
PANELS = (
    ("read", "mark", "read by a probe at “?”"),
    ("attention", "everywhere", "attention stops everywhere"),
    ("attention", "premise", "attention stops in the premise"),
    ("attention", "question", "attention stops in the question"),
)
"""Curve, scope, title."""
_ROLE_ORDER = {"last stop": 0} | dict.fromkeys(names.QUESTION_ROLES, 1)


def distance_name(distance: int) -> str:
    """0 is all of them."""
    return "all" if not distance else str(distance)


def probe_map(probes: pd.DataFrame, *, opening: str) -> go.Figure:
    """A panel for each role, distance by layer."""
    rows = require(probes, "reach_probes", PROBES, {"opening": opening})
    roles = in_order(rows["role"], _ROLE_ORDER)
    layers, distances = sorted({int(n) for n in rows["layer"]}), sorted({int(n) for n in rows["distance"]})
    figure = make_subplots(
        rows=1, cols=len(roles), shared_yaxes=True, horizontal_spacing=0.012,
        subplot_titles=[f"at {names.role(r)}" for r in roles],
    )  # fmt: skip
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in roles]
    )
    widest = 0.1
    for panel, role in enumerate(roles, start=1):
        mine = rows[rows["role"] == role].set_index(["distance", "layer"])
        grids = {
            c: np.array([[mine[c].get((d, n), np.nan) for n in layers] for d in distances], dtype=float)
            for c in ("accuracy", "shuffled", "low", "high")
        }
        beyond = grids["accuracy"] - grids["shuffled"]
        widest = max(widest, float(np.nanmax(np.abs(beyond), initial=0.0)))
        text = np.array([[_short(v) for v in row] for row in grids["accuracy"]])
        heat(
            figure, panel, beyond, [str(n) for n in layers], [distance_name(d) for d in distances],
            text=text if len(layers) <= 13 else None, customdata=np.stack(list(grids.values()), axis=-1),
            hover="distance %{y}, after %{x} layers<br>%{customdata[0]:.3f} [%{customdata[2]:.3f}, "
            "%{customdata[3]:.3f}]<br>shuffled labels %{customdata[1]:.3f}<extra></extra>",
        )  # fmt: skip
    colour_axis(figure, "beyond shuffled", -widest, widest)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False, type="category")
    figure.update_xaxes(title="layers", showgrid=False, zeroline=False, tickmode="linear")
    figure.update_yaxes(title="distance", row=1, col=1)
    figure.update_layout(
        title="Where reachability can be read: accuracy of linear probes", height=170 + 34 * len(distances)
    )
    return figure


def _short(value: float) -> str:
    """`.87`: six panels have no room for the zero."""
    return "" if np.isnan(value) else f"{value:.2f}".removeprefix("0")


def layer_curves(curves: pd.DataFrame, needed: pd.DataFrame | None = None, *, opening: str) -> go.Figure:
    """Four curves: what a probe reads at the mark, and accuracy when attention stops after so many layers."""
    rows = require(curves, "layer_curves", CURVES, {"opening": opening})
    held = [p for p in PANELS if ((rows["curve"] == p[0]) & (rows["scope"] == p[1])).any()]
    if not held:
        raise RequestError("table 'layer_curves' has no curve that is known")
    distances = sorted({int(d) for d in rows["distance"]} - {0})
    shades = sample_colorscale([[0, "#9ecae1"], [0.5, "#2f7ebc"], [1, "#b267a8"]], np.linspace(0, 1, len(distances)))
    colours = {0: theme.GREY, **dict(zip(distances, shades, strict=True))}
    figure = make_subplots(
        rows=1, cols=len(held), shared_yaxes=True, horizontal_spacing=0.02, subplot_titles=[t for _, _, t in held]
    )
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in held]
    )
    for panel, (curve, scope, _) in enumerate(held, start=1):
        figure.add_hline(y=0.5, line_width=1, opacity=0.5, row=1, col=panel, exclude_empty_subplots=False)
        for distance, colour in colours.items():
            part = rows[(rows["curve"] == curve) & (rows["scope"] == scope) & (rows["distance"] == distance)]
            _curve(figure, panel, part.sort_values("layers"), distance, colour)
            if needed is not None:
                _ring(figure, panel, part, needed, (opening, curve, scope, distance), colour)
    figure.update_xaxes(title="layers", dtick=1, zeroline=False)
    figure.update_yaxes(range=[0.3, 1.03], zeroline=False)
    figure.update_yaxes(title="accuracy", row=1, col=1)
    figure.update_layout(title="How many layers a path needs")
    legend_below(figure, 430, title="edges of the path ")
    return figure


def _curve(figure: go.Figure, panel: int, part: pd.DataFrame, distance: int, colour: str) -> None:
    value, low, high = (part[c].to_numpy(dtype=float) for c in ("accuracy", "low", "high"))
    name = distance_name(distance)
    figure.add_trace(
        go.Scatter(
            x=part["layers"], y=value, mode="lines+markers", name=name, legendgroup=name, showlegend=panel == 1,
            line={"color": colour, "width": 3 if not distance else 1.6}, marker={"size": 5},
            error_y=interval(value, low, high, thickness=0.8, width=0),
            hovertemplate=f"distance {name}<br>%{{x}} layers: %{{y:.3f}}<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip


def _ring(
    figure: go.Figure, panel: int, part: pd.DataFrame, needed: pd.DataFrame, key: tuple[object, ...], colour: str
) -> None:
    """A ring around the first point from which on the curve stays near its end."""
    found = needed
    for column, value in zip(("opening", "curve", "scope", "distance"), key, strict=True):
        found = found[found[column] == value]
    if found.empty or pd.isna(found["needed"].iloc[0]):
        return
    at = int(found["needed"].iloc[0])
    y = part.loc[part["layers"] == at, "accuracy"]
    figure.add_trace(
        go.Scatter(
            x=[at] * len(y), y=y, mode="markers", showlegend=False, hoverinfo="skip",
            marker={"size": 13, "symbol": "circle-open", "color": colour, "line": {"width": 2}},
        ),
        row=1, col=panel,
    )  # fmt: skip
