"""What one unit of a neuron's activation writes into the logit of each number (direct logit attribution of W_out).

`value_line`    that value for every number 0..limit, with the numbers of which a result heuristic holds marked
`value_tokens`  the numbers it speaks for and against most

Values are read through the final norm's scale and the unembedding, centred over the vocabulary; the final norm's
division by the residual's size, which only rescales a prompt, is left out. A neuron whose activation is negative
writes the opposite. What later layers make of it is not in it.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from arithcirc.viz import masks, theme
from arithcirc.viz.gallery import MARK
from arithcirc.viz.marginals import LINE

TOKENS = 10
FOR, AGAINST = "#d6604d", "#4a90c2"
"""The ends of the diverging scale: above and below zero."""


def extremes(value: Float[np.ndarray, "number"], count: int = TOKENS) -> tuple[list[int], list[int]]:
    """Numbers with the largest and with the smallest values, the most extreme first; no number is in both."""
    order = np.argsort(-value, kind="stable").tolist()
    count = min(count, len(order) // 2)
    return order[:count], order[::-1][:count]


def value_line(value: Float[np.ndarray, "number"], heuristic: str | None = None) -> go.Figure:
    """Value against number."""
    return theme.figure(plain_line(value, heuristic))


def plain_line(value: Float[np.ndarray, "number"], heuristic: str | None = None) -> theme.Plain:
    """The same as plain values."""
    numbers = np.arange(len(value))
    base = {"type": "scatter", "hovertemplate": "number %{x}: %{y:+.3f} per unit<extra></extra>"}
    traces: list[dict[str, Any]] = [
        base | {
            "x": numbers.astype(np.int32), "y": value.astype(np.float32), "mode": "lines", "name": "value",
            "line": {"color": LINE, "width": 1.2},
        }
    ]  # fmt: skip
    found = masks.condition(heuristic) if heuristic is not None else None
    if found is not None and found[0] == "result":
        held = np.asarray(found[1](numbers))
        traces.append(
            base | {
                "x": numbers[held].astype(np.int32), "y": value[held].astype(np.float32), "mode": "markers",
                "name": "heuristic", "marker": {"size": 4 if held.sum() <= 120 else 3, "color": MARK},
            }
        )  # fmt: skip
    layout = {
        "height": 170, "showlegend": False, "margin": {"l": 44, "r": 10, "t": 8, "b": 38},
        "xaxis": {"title": {"text": "number", "standoff": 2}, "showgrid": False, "zeroline": False},
        "yaxis": {"title": {"text": "logit per unit", "standoff": 4}, "nticks": 5},
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def value_tokens(value: Float[np.ndarray, "number"], *, count: int = TOKENS) -> go.Figure:
    """Bars of the numbers most spoken for, above those most spoken against."""
    return theme.figure(plain_tokens(value, count=count))


def plain_tokens(value: Float[np.ndarray, "number"], *, count: int = TOKENS) -> theme.Plain:
    """The same as plain values."""
    top, bottom = extremes(value, count)
    shown = [*top, *bottom[::-1]]
    names = [str(n) for n in shown]
    heights = value[shown].astype(np.float64)
    trace = {
        "type": "bar", "x": heights, "y": names, "orientation": "h", "name": "value",
        "marker": {"color": [FOR if h > 0 else AGAINST for h in heights]},
        "text": [theme.number(h, 2) for h in heights],
        "textposition": "auto", "textangle": 0, "textfont": {"size": theme.SMALL}, "insidetextanchor": "end",
        "hovertemplate": "%{y}: %{x:+.3f} per unit<extra></extra>",
    }  # fmt: skip
    layout: dict[str, Any] = {
        "height": 60 + 20 * len(shown), "margin": {"l": 38, "r": 10, "t": 8, "b": 38}, "bargap": 0.18,
        "xaxis": {"title": {"text": "logit per unit", "standoff": 2}, "nticks": 5},
        "yaxis": {
            "type": "category", "autorange": "reversed", "showgrid": False, "dtick": 1,
            "tickfont": {"size": theme.SMALL},
        },
    }  # fmt: skip
    if top and bottom:
        between = len(top) - 0.5
        layout["shapes"] = [{
            "type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": between, "y1": between,
            "line": {"width": 1, "dash": "dot"},
        }]  # fmt: skip
    return {"data": [trace], "layout": layout}
