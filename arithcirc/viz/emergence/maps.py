"""Heat maps of patching effects, one frame per checkpoint, for a slider.

`effect_frames` draws the reference's map, layer x head at one position or layer x position for MLPs, one panel per
operator, and puts the values of every checkpoint into the layout's `meta.frames`: labels, and per frame and panel an
array. The page's script shows another frame by exchanging the arrays, so the axes and the colours stay where they are.
Drop in logit difference, in nats, on one colour scale over all frames that is cut at the 99.5% quantile of their sizes.
At most FRAMES checkpoints are held, evenly spread and with the last.
"""

import base64
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.emergence.data import SweepData
from arithcirc.viz.emergence.lines import panels
from arithcirc.viz.frames import require
from arithcirc.viz.panels import colour_axis, grid_height, heat

FRAMES = 24
WHERE = {"equals": "heads at =", "op1": "heads at op1", "op2": "heads at op2", "operator": "heads at operator"}
MLPS = "mlps"
CHOICES = WHERE | {MLPS: "MLPs"}


def effect_frames(data: SweepData, model: str, prompts: str, where: str) -> go.Figure:
    """The maps of every checkpoint, the reference's shown; one panel per operator."""
    rows = data.rows("effects", model=model, prompts=prompts, kind="mlp" if where == MLPS else "head")
    if where != MLPS and not rows.empty:
        rows = rows[rows["position"] == where]
    rows = require(rows, "effects", ("operator", "layer", "mean"))
    axis = data.model(model).axis
    figure, present = panels(rows)
    shape, x = _shape(rows, where)
    places = _thinned(sorted({int(p) for p in rows["place"]}))
    grids = {place: [_grid(rows, place, o, shape, where) for o in present] for place in places}
    last = places[-1]
    for panel, grid in enumerate(grids[last], start=1):
        name = "L%{y} MLP at %{x}" if where == MLPS else "L%{y}H%{x}"
        heat(
            figure, panel, grid, x, list(range(shape[0])), decimals=1,
            hover=f"{name}<br>%{{z:.3f}} nats<extra>{theme.operator_title(present[panel - 1])}</extra>",
        )  # fmt: skip
    values = np.abs(np.concatenate([g.ravel() for part in grids.values() for g in part]))
    values = values[np.isfinite(values)]
    limit = float(np.quantile(values, 0.995)) if values.size else 1.0
    colour_axis(figure, "drop in logit difference (nats)", -(limit or 1.0), limit or 1.0)
    frames: dict[str, Any] = {"labels": [axis.label(p) for p in places]}
    frames["z"] = [[_encoded(grid) for grid in grids[place]] for place in places]
    title = f"Effect of patching {'whole MLPs' if where == MLPS else f'single {CHOICES[where]}'} from a random prompt"
    figure.update_layout(title=title, height=grid_height(shape[0], extra=130), meta={"frames": frames})
    figure.update_xaxes(
        title="position" if where == MLPS else "head", showgrid=False, zeroline=False,
        type="category" if where == MLPS else None, dtick=1 if shape[1] <= 12 else None,
    )  # fmt: skip
    figure.update_yaxes(showgrid=False, zeroline=False, dtick=1 if shape[0] <= 16 else None)
    figure.update_yaxes(title="layer", row=1, col=1)
    return figure


def _shape(rows: pd.DataFrame, where: str) -> tuple[tuple[int, int], list[Any]]:
    """Size of a map, and the labels of its columns."""
    layers = int(rows["layer"].max()) + 1
    if where == MLPS:
        return (layers, len(theme.POSITIONS)), [theme.POSITION_LABELS[p] for p in theme.POSITIONS]
    heads = int(rows["head"].max()) + 1
    return (layers, heads), list(range(heads))


def _thinned(places: list[int]) -> list[int]:
    """At most FRAMES of them, evenly spread, the last among them."""
    chosen = np.unique(np.linspace(0, len(places) - 1, min(FRAMES, len(places))).round().astype(int))
    return [places[i] for i in chosen]


def _grid(rows: pd.DataFrame, place: int, operator: str, shape: tuple[int, int], where: str) -> np.ndarray:
    """Means of one checkpoint and operator, NaN where there is none."""
    grid = np.full(shape, np.nan, dtype=np.float32)
    part = rows[(rows["place"] == place) & (rows["operator"] == operator)]
    columns = part["position"].map({p: i for i, p in enumerate(theme.POSITIONS)}) if where == MLPS else part["head"]
    grid[part["layer"].to_numpy(dtype=np.int64), columns.to_numpy(dtype=np.int64)] = part["mean"].to_numpy(np.float32)
    return grid


def _encoded(grid: np.ndarray) -> dict[str, str]:
    """An array as plotly.js reads it."""
    data = base64.b64encode(np.ascontiguousarray(grid, dtype="<f4").tobytes()).decode("ascii")
    return {"dtype": "f4", "bdata": data, "shape": f"{grid.shape[0]}, {grid.shape[1]}"}
