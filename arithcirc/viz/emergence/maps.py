"""Heat maps of patching effects, one frame per checkpoint, for a slider.

`effect_frames` draws the reference's map, layer x head at one position or layer x position for MLPs, one panel per
operator, and puts the values of every checkpoint into the layout's `meta.frames`: labels, and per frame and panel an
array and, where there is no map, why. The page's script shows another frame by exchanging these, so the axes and the
colours stay where they are. Files show the reference's and say so.
Drop in logit difference, in nats, on one colour scale over all frames that is cut at the 99.5% quantile of their sizes.
At most FRAMES checkpoints are held, evenly spread and with the last and the reference.
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
NO_CIRCUIT = "no circuit at this checkpoint"
CHOICES = WHERE | {MLPS: "MLPs"}


def effect_frames(data: SweepData, model: str, prompts: str, where: str) -> go.Figure:
    """The maps of every checkpoint, the reference's shown; one panel per operator.

    Raises RequestError where the table holds no row of them.
    """
    rows = data.rows("effects", model=model, prompts=prompts, kind="mlp" if where == MLPS else "head")
    if where != MLPS and not rows.empty:
        rows = rows[rows["position"] == where]
    rows = require(rows, "effects", ("operator", "layer", "mean"))
    axis = data.model(model).axis
    figure, present = panels(rows)
    shape, x = _shape(rows, where)
    shown = axis.revisions.index(data.model(model).reference)
    places = sorted({*_thinned(len(axis)), shown})
    grids = {place: [_grid(rows, place, o, shape, where) for o in present] for place in places}
    for panel, grid in enumerate(grids[shown], start=1):
        name = "L%{y} MLP at %{x}" if where == MLPS else "L%{y}H%{x}"
        heat(
            figure, panel, grid, x, list(range(shape[0])), decimals=1,
            hover=f"{name}<br>%{{z:.3f}} nats<extra>{theme.operator_title(present[panel - 1])}</extra>",
        )  # fmt: skip
    values = np.abs(np.concatenate([g.ravel() for part in grids.values() for g in part]))
    values = values[np.isfinite(values)]
    limit = float(np.quantile(values, 0.995)) if values.size else 1.0
    _keep_colours(figure)
    colour_axis(figure, "drop in logit difference (nats)", -(limit or 1.0), limit or 1.0)
    frames: dict[str, Any] = {"labels": [axis.label(p) for p in places]}
    frames["z"] = [[_encoded(grid) for grid in grids[place]] for place in places]
    frames["said"] = [[_gap(data, model, place, o, g) for o, g in zip(present, grids[place], strict=True)]
                      for place in places]  # fmt: skip
    frames["shown"] = places.index(shown)
    title = f"Effect of patching {'whole MLPs' if where == MLPS else f'single {CHOICES[where]}'} from a random prompt"
    figure.update_layout(title=title, height=grid_height(shape[0], extra=130), meta={"frames": frames})
    figure.update_xaxes(
        title="position" if where == MLPS else "head", showgrid=False, zeroline=False,
        type="category" if where == MLPS else None, dtick=1 if shape[1] <= 12 else None,
        range=[-0.5, shape[1] - 0.5],
    )  # fmt: skip
    figure.update_yaxes(
        showgrid=False, zeroline=False, dtick=1 if shape[0] <= 16 else None, range=[-0.5, shape[0] - 0.5]
    )
    if where == MLPS:
        figure.update_xaxes(categoryorder="array", categoryarray=x)
    _say(figure, frames)
    figure.update_yaxes(title="layer", row=1, col=1)
    return figure


def _shape(rows: pd.DataFrame, where: str) -> tuple[tuple[int, int], list[Any]]:
    """Size of a map, and the labels of its columns."""
    layers = int(rows["layer"].max()) + 1
    if where == MLPS:
        return (layers, len(theme.POSITIONS)), [theme.POSITION_LABELS[p] for p in theme.POSITIONS]
    heads = int(rows["head"].max()) + 1
    return (layers, heads), list(range(heads))


def _thinned(n: int) -> list[int]:
    """At most FRAMES of n places, evenly spread, the last among them."""
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(FRAMES, n)).round())]


def _keep_colours(figure: go.Figure) -> None:
    """A point that is not seen, so that the colour bar stays, and the panels' widths, where no panel has a map."""
    marker = {"color": [0], "coloraxis": "coloraxis"}
    figure.add_trace(
        go.Scatter(x=[None], y=[None], mode="markers", marker=marker, showlegend=False, hoverinfo="skip"), row=1, col=1
    )


def _gap(data: SweepData, model: str, place: int, operator: str, grid: np.ndarray) -> str:
    """Why a panel is empty at a checkpoint; empty itself where it is not."""
    if np.isfinite(grid).any():
        return ""
    tasks = data.rows("tasks", model=model, operator=operator)
    status = [str(s) for s in tasks.loc[tasks["place"] == place, "status"]] if "status" in tasks.columns else []
    return {"no circuit": NO_CIRCUIT, "failed": "the task failed here", "done": "too few shared prompts here"}.get(
        status[0] if status else "", "not computed yet"
    )


def _say(figure: go.Figure, frames: dict[str, Any]) -> None:
    """Put the words for empty panels of the frame shown into a figure; the page's script does it for the others."""
    for panel, text in enumerate(frames["said"][frames["shown"]], start=1):
        if text:
            figure.add_annotation(x=0.5, y=0.5, xref="x domain", yref="y domain", text=text, showarrow=False,
                                  row=1, col=panel)  # fmt: skip


def still(figure: go.Figure) -> go.Figure:
    """A figure for a file: without frames, its title naming the checkpoint; others stay as they are."""
    meta = figure.layout.meta
    if isinstance(meta, dict) and "frames" in meta:
        frames = meta["frames"]
        title = f"{figure.layout.title.text}: {frames['labels'][frames['shown']]}"
        figure.update_layout(title=title, meta={k: v for k, v in meta.items() if k != "frames"})
    return figure


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
