"""Pieces that several figures share: a heat map in one panel, a band, points with intervals, an axis that shows 0.

Nothing here knows a table: callers pass arrays and the words of the hover text. Panels are columns of a figure made by
`theme.facets`, counted from 1. An axis of counts (neurons kept, neurons ablated) runs over 0, 1, 10, 100 ..., so it is
drawn at log2(1 + count), which shows 0 and spreads the small ones; ticks carry the counts themselves.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from arithcirc.viz import theme

_PANEL_TITLES = {theme.operator_title(operator) for operator in theme.OPERATOR_NAMES} | {""}


def heat(
    figure: go.Figure,
    panel: int,
    z: np.ndarray,
    x: Sequence[Any],
    y: Sequence[Any],
    *,
    hover: str,
    text: np.ndarray | None = None,
    decimals: int | None = 2,
    customdata: np.ndarray | None = None,
    row: int = 1,
) -> None:
    """One heat map on the figure's colour axis. Cells carry `text`, or their value, when they are few enough."""
    if text is None and decimals is not None and z.shape[1] <= 6 and z.shape[0] <= 24:
        text = cell_texts(z, decimals)
    figure.add_trace(
        go.Heatmap(
            z=z if z.dtype == np.int8 else z.astype(np.float32),
            x=list(x),
            y=list(y),
            text=text.tolist() if text is not None else None,
            customdata=customdata,
            coloraxis="coloraxis",
            xgap=1 if z.shape[1] <= 40 else 0,
            ygap=1 if z.shape[0] <= 60 else 0,
            hoverongaps=False,
            texttemplate="%{text}" if text is not None else None,
            textfont={"size": theme.SMALL} if text is not None else None,
            hovertemplate=hover,
        ),
        row=row,
        col=panel,
    )


def cell_texts(z: np.ndarray, decimals: int) -> np.ndarray:
    """Values as they are written in cells, as everywhere else: a real minus, nothing where there is no value."""
    return np.array([["" if np.isnan(v) else theme.number(v, decimals) for v in row] for row in z.astype(float)])


def outline(figure: go.Figure, panel: int, x: int, y: int) -> None:
    """A frame around the cell of a heat map in column x, row y."""
    figure.add_shape(
        type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": theme.CHOSEN, "width": 3},
        row=1, col=panel,
    )  # fmt: skip


def colour_axis(figure: go.Figure, title: str, low: float, high: float, **options: Any) -> None:
    """The shared colour axis. It is diverging, and must then be centred, exactly when `low` is negative."""
    bar = {"title": {"text": title, "side": "right", "font": {"size": theme.SMALL + 1}}, **options}
    figure.update_layout(coloraxis={"cmin": low, "cmax": high, "autocolorscale": True, "colorbar": bar})


def grid_height(rows: int, *, extra: int = 150, least: int = 250) -> int:
    """Height of a figure of heat maps with so many rows."""
    return max(least, extra + (32 if rows <= 10 else 22 if rows <= 24 else 14) * rows)


def band(
    figure: go.Figure,
    panel: int,
    x: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    colour: str,
    name: str,
    legend: bool,
) -> None:
    """A translucent band from `low` to `high`; a single point becomes a thick bar."""
    around = [*x, *list(x)[::-1]]
    figure.add_trace(
        go.Scatter(
            x=around,
            y=[*high, *list(low)[::-1]],
            fill="toself",
            fillcolor=faint(colour),
            line={"width": 0 if len(x) > 1 else 3, "color": faint(colour)},
            mode="lines",
            hoverinfo="skip",
            name=name,
            legendgroup=name,
            showlegend=legend,
        ),
        row=1,
        col=panel,
    )


def faint(colour: str, alpha: float = 0.22) -> str:
    """`#2f7ebc` -> `rgba(47,126,188,0.22)`."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha:g})"


def interval(value: np.ndarray, low: np.ndarray, high: np.ndarray, **options: Any) -> dict[str, Any]:
    """Error bars from `low` to `high` around `value`, for `error_x` or `error_y`; never negative."""
    above, below = np.maximum(high - value, 0.0), np.maximum(value - low, 0.0)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.2, "width": 3} | (
        options
    )


def at(counts: Any) -> np.ndarray:
    """Where counts are drawn: log2(1 + count)."""
    return np.asarray(np.log2(1.0 + np.asarray(counts, dtype=np.float64)))


def count_axis(figure: go.Figure, counts: Iterable[Any], title: str) -> None:
    """Ticks at counts drawn by `at`, left out where they would touch."""
    values = sorted({float(c) for c in counts})
    span = float(at(values[-1]) - at(values[0])) if values else 0.0
    kept: list[float] = []
    for value in reversed(values):
        if not kept or at(kept[-1]) - at(value) >= 0.11 * span or value == values[0]:
            kept.append(value)
    if len(kept) > 2 and at(kept[-2]) - at(kept[-1]) < 0.11 * span:
        del kept[-2]
    figure.update_xaxes(
        title=title, tickvals=at(kept).tolist(), ticktext=[f"{v:g}" for v in kept], tickangle=0, zeroline=False
    )


def legend_below(figure: go.Figure, height: int, *, title: str = "", bottom: int = 96) -> None:
    """The legend under the panels, at the same distance whatever the height."""
    plot = height - 64 - bottom
    legend: dict[str, Any] = {"y": -58 / max(plot, 1), "yanchor": "top", "traceorder": "normal"}
    if title:
        legend["title"] = {"text": title}
    figure.update_layout(height=height, margin={"b": bottom}, legend=legend)


def note(figure: go.Figure, panel: int, text: str, *, row: int = 1) -> None:
    """A small line of text in the upper left corner of a panel."""
    figure.add_annotation(
        text=text, x=0.02, y=0.99, xref="x domain", yref="y domain", xanchor="left", yanchor="top",
        showarrow=False, font={"size": theme.SMALL}, align="left", row=row, col=panel,
    )  # fmt: skip


def level(figure: go.Figure, panel: int, y: float, label: str) -> None:
    """A dashed horizontal line, named in the first panel only."""
    named = {
        "annotation_text": label, "annotation_font_size": theme.SMALL, "annotation_position": "bottom right",
    } if panel == 1 else {}  # fmt: skip
    figure.add_hline(y=y, line_dash="dash", row=1, col=panel, **named)


def bare(figure: go.Figure, **margin: int) -> go.Figure:
    """The figure without titles of its own, for a panel that has one: fits figures of one operator."""
    kept = [a for a in figure.layout.annotations if (a.text or "") not in _PANEL_TITLES]
    figure.layout.annotations = tuple(kept)
    return figure.update_layout(title=None, margin={"t": 10, "b": 44, "l": 48, "r": 8} | margin)
