"""Exact activation patching of minimal pairs, as maps: which tokens carry the difference, after how many layers.

`patching_map`    role by layer, for the residual stream, attention or MLPs
`patching_heads`  head by role

0: nothing of the difference between Yes and No passes there, 1: all of it.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.frames import require
from arithcirc.viz.panels import colour_axis, heat

NEEDED = ("opening", "pair", "component", "layer", "head", "role", "offset", "effect", "se", "pairs")
COMPONENTS = {"residual": "residual stream", "attention": "attention outputs", "mlp": "MLP outputs"}
SEEN = 0.03
"""Effect that a role of a later sentence must have somewhere to be in the map."""
_FARTHEST = 2
"""Sentences after the one that differs that are shown in the map of heads."""


def _rows(patching: pd.DataFrame, opening: str, pair: str, component: str) -> pd.DataFrame:
    rows = require(
        patching, "patching", NEEDED, {"opening": opening, "pair": pair, "component": component}
    ).copy()  # fmt: skip
    rows["place"] = [names.role(r, o) for r, o in zip(rows["role"], _plain(rows["offset"]), strict=True)]
    return rows


def _plain(offset: pd.Series) -> np.ndarray:
    return offset.astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def patching_map(patching: pd.DataFrame, *, opening: str, pair: str, component: str = "residual") -> go.Figure:
    """Roles in the order of the prompt, layers from left to right."""
    rows = _rows(patching, opening, pair, component)
    places, layers = list(dict.fromkeys(rows["place"])), sorted({int(n) for n in rows["layer"]})
    places = [p for p in places if " later" not in p or rows.loc[rows["place"] == p, "effect"].abs().max() >= SEEN]
    z, se = (_grid(rows, places, layers, column) for column in ("effect", "se"))
    figure = make_subplots(rows=1, cols=1)
    figure.update_layout(template=theme.template("light"))
    last = max(layers)
    labels = ["end" if component == "residual" and n == last else f"L{n}" for n in layers]
    heat(
        figure, 1, z, labels, places, text=_texts(z), customdata=se,
        hover="%{y}, %{x}<br>effect %{z:.3f} (standard error %{customdata:.3f})<extra></extra>",
    )  # fmt: skip
    _finish(figure, z, len(places))
    figure.update_xaxes(title="before layer" if component == "residual" else "layer")
    figure.update_layout(title=f"Where the difference is, {pair}: {COMPONENTS.get(component, component)} put in")
    return figure


def patching_heads(patching: pd.DataFrame, *, opening: str, pair: str) -> go.Figure:
    """Heads from first to last layer; of the premise, sentences up to two after the one that differs."""
    rows = _rows(patching, opening, pair, "head")
    offset = _plain(rows["offset"])
    rows = rows[~(offset > _FARTHEST)]
    heads = sorted({(int(a), int(b)) for a, b in zip(rows["layer"], rows["head"], strict=True)})
    places = list(dict.fromkeys(rows["place"]))
    rows = rows.assign(name=[f"L{a}H{b}" for a, b in zip(rows["layer"], rows["head"], strict=True)])
    labels = [f"L{a}H{b}" for a, b in heads]
    held = rows.pivot_table(index="name", columns="place", values="effect", sort=False)
    z = held.reindex(index=labels, columns=places).to_numpy(dtype=float)
    figure = make_subplots(rows=1, cols=1)
    figure.update_layout(template=theme.template("light"))
    heat(figure, 1, z, places, labels, text=_texts(z, 0.05), hover="%{y} at %{x}<br>effect %{z:.3f}<extra></extra>")
    _finish(figure, z, len(labels))
    figure.update_layout(title=f"Which heads carry the difference, {pair}")
    figure.update_xaxes(tickangle=-40)
    return figure


def _grid(rows: pd.DataFrame, places: list[str], layers: list[int], column: str) -> np.ndarray:
    held = rows.pivot_table(index="place", columns="layer", values=column, sort=False)
    return held.reindex(index=places, columns=layers).to_numpy(dtype=float)


def _texts(z: np.ndarray, least: float = 0.005) -> np.ndarray:
    """Effects that are to be seen."""
    return np.array([["" if not abs(v) >= least else theme.number(v, 2) for v in row] for row in z])


def _finish(figure: go.Figure, z: np.ndarray, rows: int) -> None:
    limit = max(1.0, float(np.nanmax(np.abs(z), initial=0.0)))
    colour_axis(figure, "effect", -limit, limit)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False, tickmode="linear")
    figure.update_xaxes(showgrid=False, zeroline=False, tickmode="linear")
    figure.update_layout(height=150 + 22 * rows, margin={"l": 120, "b": 60})
