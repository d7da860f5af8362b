"""Lines over checkpoints: points with a gap where there is none, hollow where few prompts are behind them.

A `Style` is a name, a colour, a dash and a marker, so that no line is told by its colour alone. Checkpoints without a
circuit, and tasks that failed, get a mark at the foot of the panel: there is nothing to draw, and that is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import StepAxis, dress
from arithcirc.viz.emergence.data import FEWEST, SweepData
from arithcirc.viz.frames import numbers
from arithcirc.viz.panels import band, interval, legend_below

BLUE, ORANGE, GREEN, PURPLE = "#2f7ebc", "#d9731a", "#1b9e77", "#b267a8"
_MARKS = {"no circuit": ("no circuit", "line-ew-open", theme.GREY), "failed": ("task failed", "x-thin-open", "#c2255c")}


@dataclass(frozen=True)
class Style:
    """How one line looks and what it is called."""

    name: str
    colour: str
    dash: str = "solid"
    symbol: str = "circle"
    width: float = 2.0
    size: int = 7
    rank: int = 1000
    """Where it stands in the legend; equal ranks stand in the order they are drawn."""


def panels(rows: pd.DataFrame, *, shared_y: bool = True) -> tuple[go.Figure, list[str]]:
    """An empty figure with a panel per operator of the rows. Raises RequestError when there are none."""
    if rows.empty:
        raise RequestError("no rows to draw")
    present = theme.ordered(rows["operator"])
    return theme.facets(present, shared_y=shared_y, spacing=(0.1 if shared_y else 0.16) / max(len(present), 2)), present


def line(
    figure: go.Figure,
    panel: int,
    axis: StepAxis,
    rows: pd.DataFrame,
    value: str,
    style: Style,
    *,
    facts: Mapping[str, str] | None = None,
    bounds: tuple[str, str] | None = None,
    n: str | None = "n",
) -> None:
    """One line: `value` of the rows, at most one per checkpoint, against the checkpoint.

    `facts` are columns with a format for the hover text, `bounds` columns of an interval's ends, `n` the column that
    says how many prompts are behind a point.
    """
    table = rows.drop_duplicates("place").set_index("place").reindex(range(len(axis)))
    y = numbers(table, [value])[:, 0]
    if not np.isfinite(y).any():
        return
    columns = [c for c in {**(facts or {}), **({n: ""} if n else {})} if c in rows.columns]
    count = numbers(table, [n])[:, 0] if n and n in rows.columns else np.full(len(axis), np.inf)
    thin = np.nan_to_num(count, nan=np.inf) < FEWEST
    symbols = [f"{style.symbol}-open" if few and "open" not in style.symbol else style.symbol for few in thin]
    said = "".join(f"<br>{(facts or {}).get(c, 'n = {}').format(f'%{{customdata[{i}]:.4~g}}')}"
                   for i, c in enumerate(columns))  # fmt: skip
    ends = numbers(table, list(bounds)) if bounds else None
    figure.add_trace(
        go.Scatter(
            x=list(range(len(axis))),
            y=y,
            mode="lines+markers" if style.size else "lines",
            line={"color": style.colour, "width": style.width, "dash": style.dash},
            marker={"size": style.size, "symbol": symbols if thin.any() else style.symbol, "color": style.colour},
            error_y=interval(y, ends[:, 0], ends[:, 1], width=0, thickness=1) if ends is not None else None,
            customdata=numbers(table, columns) if columns else None,
            text=axis.labels,
            hovertemplate=f"{style.name}<br>%{{text}}: %{{y:.3f}}{said}<extra></extra>",
            name=style.name,
            legendgroup=style.name,
            legendrank=style.rank,
            showlegend=not named(figure, style.name),
        ),
        row=1,
        col=panel,
    )


def spread_band(
    figure: go.Figure, panel: int, draws: pd.DataFrame, value: str, style: Style, *, axis: StepAxis
) -> None:
    """A line at the mean over draws and a band over their range, in pieces where checkpoints are missing."""
    drawn = draws[draws[value].notna()]
    grouped = drawn.groupby("place")[value].agg(["mean", "min", "max", "count"])
    for held in [c for c in ("n", "n_neurons") if c in drawn.columns]:
        grouped[held] = drawn.groupby("place")[held].mean()
    for piece in _pieces(grouped.index.tolist()):
        if len(piece) > 1:
            part = grouped.loc[piece]
            low, high = part["min"].tolist(), part["max"].tolist()
            at = [float(place) for place in piece]
            band(figure, panel, at, low, high, colour=style.colour, name=style.name, legend=False)
    rows = grouped.reset_index()
    line(
        figure, panel, axis, rows, "mean", style,
        facts={"min": "from {}", "max": "to {}", "count": "{} draws", "n_neurons": "{} neurons", "n": "{} prompts"},
    )  # fmt: skip


def named(figure: go.Figure, name: str) -> bool:
    """The legend already has this name."""
    return any(t.name == name and t.showlegend for t in figure.data)


def _pieces(places: Sequence[int]) -> list[list[int]]:
    """Runs of consecutive places."""
    pieces: list[list[int]] = []
    for place in places:
        if pieces and place == pieces[-1][-1] + 1:
            pieces[-1].append(place)
        else:
            pieces.append([place])
    return pieces


def mark_absent(figure: go.Figure, panel: int, data: SweepData, model: str, operator: str, foot: float) -> None:
    """Marks at the foot of a panel for checkpoints without a circuit and for tasks that failed."""
    tasks = data.rows("tasks", model=model, operator=operator)
    if tasks.empty or "status" not in tasks.columns or (tasks["status"] == "done").all():
        return
    axis = data.model(model).axis
    for status, (name, symbol, colour) in _MARKS.items():
        part = tasks[tasks["status"] == status]
        if part.empty:
            continue
        reasons = [str(r or name) for r in part.get("reason", pd.Series("", index=part.index))]
        figure.add_trace(
            go.Scatter(
                x=part["place"].tolist(),
                y=[foot] * len(part),
                mode="markers",
                marker={"symbol": symbol, "size": 9, "color": colour, "line": {"width": 2, "color": colour}},
                text=[f"{axis.label(p)}: {r}" for p, r in zip(part["place"], reasons, strict=True)],
                hovertemplate="%{text}<extra></extra>",
                name=name,
                legendgroup=name,
                legendrank=2000,
                showlegend=not named(figure, name),
            ),
            row=1,
            col=panel,
        )


def finish(
    figure: go.Figure,
    axis: StepAxis,
    title: str,
    y_title: str,
    *,
    panels: int,
    height: int = 400,
    y_range: Sequence[float] | None = None,
    ways: Sequence[str] | None = None,
) -> go.Figure:
    """Titles, legend, ranges and the axis of steps."""
    figure.update_layout(title=title)
    legend_below(figure, height)
    if y_range is not None:
        figure.update_yaxes(range=list(y_range), zeroline=False)
    figure.update_yaxes(title=y_title, row=1, col=1)
    return dress(figure, axis, panels=panels, ways=ways)
