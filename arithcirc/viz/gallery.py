"""Example maps over op1 x op2 at `=`, marked with where the matched heuristic holds.

Operand heuristics show the activation h_n, result heuristics h_n times what the neuron writes into the answer's logit:
the map they were scored on.

Each map is drawn in % of its largest absolute value, illegal prompts empty. A map of 300 x 300 prompts is too large for
a page, so it is shrunk by the mean over square blocks; heuristics that change from one number to the next (residues,
last digits) would vanish in that mean, so for them the first 40 x 40 prompts are drawn one by one and the prompts where
the heuristic holds carry a dot. Elsewhere a line encloses them.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.errors import RequestError
from arithcirc.viz import masks, theme
from arithcirc.viz.frames import require
from arithcirc.viz.panels import colour_axis, heat

COLUMNS = 4
MAPS = 8
CROP = 40
SPARSE_CROP = 100
MARK = "#e6a700"
"""Colour of what marks the heuristic: apart from both ends of the diverging scale, in light and dark."""

_BAR = {"one": {"len": 0.95}, "more": {"len": 0.6}}


def gallery_maps(
    table: pd.DataFrame,
    arrays: dict[str, np.ndarray],
    *,
    operator: str,
    first: int = 0,
    cells: int = 100,
) -> go.Figure:
    """Up to `MAPS` maps of one operator, `COLUMNS` in a row; at most `cells` cells along each side."""
    needed = ("operator", "layer", "neuron", "heuristic", "score", "base_rate", "q", "key")
    rows = require(table, "gallery", needed, {"operator": operator})
    rows = varied(rows[rows["key"].isin(list(arrays))]).head(MAPS)
    if rows.empty:
        raise RequestError("the gallery names no map that is in gallery.safetensors: run 'arithcirc heuristics' again")
    height = math.ceil(len(rows) / COLUMNS)
    figure = make_subplots(
        rows=height,
        cols=COLUMNS,
        horizontal_spacing=0.055,
        vertical_spacing=0.3 / max(height, 2),
        subplot_titles=[_title(r) for r in rows.to_dict("records")],
    )
    figure.update_layout(template=theme.template("light"))
    figure.update_annotations(font={"size": theme.SMALL})
    for i, entry in enumerate(rows.to_dict("records")):
        values = np.asarray(arrays[entry["key"]], dtype=np.float32)
        _add_map(figure, (i // COLUMNS + 1, i % COLUMNS + 1), values, str(entry["heuristic"]), (operator, first, cells))
    figure.update_layout(
        title=f"{theme.operator_title(operator)}: {_which(rows)}",
        height=110 + 275 * height,
        margin={"t": 96},
    )
    colour_axis(figure, "% of the map's largest", -100.0, 100.0, **_BAR["more" if height > 1 else "one"])
    figure.update_xaxes(title="op2", showgrid=False, zeroline=False, nticks=6)
    figure.update_yaxes(title="op1", showgrid=False, zeroline=False, nticks=6)
    return figure


def varied(rows: pd.DataFrame) -> pd.DataFrame:
    """The first map of every family, then the second of every family, and so on; the table's order within a family."""
    if "family" not in rows.columns:
        return rows
    turn = rows.groupby("family", sort=False).cumcount()
    return rows.iloc[np.argsort(turn.to_numpy(), kind="stable")]


def _which(rows: pd.DataFrame) -> str:
    """Whose maps these are: a gallery holds significant labels, unless its column `significant` says otherwise."""
    if "significant" in rows.columns and not rows["significant"].astype(bool).any():
        return "maps of neurons without a significant label, marked where their best heuristic holds"
    return "maps of labelled neurons, marked where the heuristic holds"


def _title(entry: Mapping[Any, Any]) -> str:
    end = " (bottom)" if entry.get("end") == "bottom" else ""
    q = theme.p_value(entry["q"])
    return (
        f"<b>L{entry['layer']} N{entry['neuron']}: {entry['heuristic']}</b>{end}<br>"
        f"score {theme.number(entry['score'], 2)}, base rate {theme.p_value(entry['base_rate'])}, q {q}"
    )


def _add_map(
    figure: go.Figure, place: tuple[int, int], values: np.ndarray, heuristic: str, options: tuple[str, int, int]
) -> None:
    operator, first, cells = options
    where = masks.mask(heuristic, operator, first, (values.shape[0], values.shape[1]))
    is_fine = masks.fine(heuristic)
    side = CROP if is_fine else SPARSE_CROP if np.isfinite(values).mean() < 0.25 else max(values.shape)
    shown = values[:side, :side]
    block = 1 if is_fine else max(1, math.ceil(max(shown.shape) / cells))
    small = shrink(shown, block)
    largest = float(np.nanmax(np.abs(small))) if np.isfinite(small).any() else 1.0
    percent = np.rint(100.0 * small / (largest or 1.0))
    start = first + (block - 1) / 2
    axes = {"x0": start, "dx": block, "y0": start, "dy": block}
    text = f"op1 %{{y}}, op2 %{{x}}: %{{z}}% of {largest:.3g}<extra></extra>"
    text = text if block == 1 else text.replace("op1 ", "op1 about ").replace("op2 ", "op2 about ")
    row, panel = place
    heat(figure, panel, percent, (), (), hover=text, decimals=None, row=row)
    figure.data[-1].update(x=None, y=None, xgap=0, ygap=0, z=_bytes(percent), **axes)
    if where is None or not where[:side, :side].any():
        return
    if is_fine:
        _add_dots(figure, place, where[:side, :side] & np.isfinite(shown), first)
    else:
        _add_outline(figure, place, shrink(where[:side, :side].astype(np.float32), block, largest=True), axes)


def shrink(values: np.ndarray, block: int, *, largest: bool = False) -> np.ndarray:
    """Mean (or largest value) over square blocks, NaN left out; a block without numbers stays NaN."""
    height, width = (math.ceil(n / block) * block for n in values.shape)
    padded = np.full((height, width), np.nan, dtype=np.float64)
    padded[: values.shape[0], : values.shape[1]] = values
    cut = padded.reshape(height // block, block, width // block, block).swapaxes(1, 2)
    blocks = cut.reshape(height // block, width // block, block * block)
    held = np.isfinite(blocks)
    if largest:
        return np.asarray(np.where(held, blocks, -np.inf).max(axis=-1))
    total = np.where(held, blocks, 0.0).sum(axis=-1)
    return np.where(held.any(axis=-1), total / held.sum(axis=-1).clip(min=1), np.nan)


def _bytes(percent: np.ndarray) -> np.ndarray | list[list[int | None]]:
    """One byte per cell where every cell has a number; else a list with nulls, which is what a gap needs."""
    if np.isfinite(percent).all():
        return percent.astype(np.int8)
    return [[None if np.isnan(v) else int(v) for v in line] for line in percent]


def _add_outline(figure: go.Figure, place: tuple[int, int], where: np.ndarray, axes: dict[str, float]) -> None:
    figure.add_trace(
        go.Contour(
            z=(where > 0).astype(np.int8),
            **axes,
            contours={"start": 0.5, "end": 0.5, "size": 1, "coloring": "none"},
            line={"color": MARK, "width": 2, "smoothing": 0},
            showscale=False,
            showlegend=False,
            hoverinfo="skip",
        ),
        row=place[0],
        col=place[1],
    )


def _add_dots(figure: go.Figure, place: tuple[int, int], where: np.ndarray, first: int) -> None:
    y, x = np.nonzero(where)
    figure.add_trace(
        go.Scatter(
            x=(x + first).astype(np.int16),
            y=(y + first).astype(np.int16),
            mode="markers",
            marker={"size": 2.5, "color": MARK},
            hoverinfo="skip",
            showlegend=False,
        ),
        row=place[0],
        col=place[1],
    )
