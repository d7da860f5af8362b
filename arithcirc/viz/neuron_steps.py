"""One neuron across a model's checkpoints: its exact effect above, the scores of its labels below.

Both panels share the axis of training steps (spread as `viz.emergence.axis` does). A filled point is an important
neuron at that step. Cells are scores of labels at the threshold; an empty cell is a label below it, or one that was not
tested there. Labels of a checkpoint come from its own prompts.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import StepAxis
from arithcirc.viz.frames import flags
from arithcirc.viz.marginals import LINE

SHOWN = 10
"""Labels drawn: those held at the most checkpoints, then those with the highest score."""


def neuron_steps(
    axis: StepAxis, effects: pd.DataFrame, labels: pd.DataFrame, *, chosen: str = "", here: str = ""
) -> go.Figure:
    """Effect and labels by step; `chosen` is a label always drawn, `here` the revision that is open."""
    place = {revision: i for i, revision in enumerate(axis.revisions)}
    at = axis.at(axis.ways[0])
    names = kept_labels(labels, chosen)
    height = 40 + 22 * max(len(names), 1)
    figure = go.Figure(layout={"template": theme.template("light"), "height": 230 + height, "showlegend": False})
    split = height / (height + 150)
    _add_effects(figure, effects[effects["revision"].isin(place)], place, at, axis)
    _add_labels(figure, labels[labels["revision"].isin(place)], names, place, at, axis)
    values, texts = axis.ticks(axis.ways[0], 1)
    room = 0.03 * (float(at[-1] - at[0]) or 1.0)
    shared: dict[str, Any] = {
        "tickvals": values, "ticktext": texts, "range": [at[0] - room, at[-1] + room], "zeroline": False,
        "tickangle": 0,
    }  # fmt: skip
    figure.update_layout(
        margin={"l": 150, "r": 12, "t": 10, "b": 44},
        xaxis=shared | {"anchor": "y", "showticklabels": False},
        yaxis={"domain": [split + 0.05, 1], "title": {"text": "patching effect (nats)", "standoff": 4}, "nticks": 5},
        xaxis2=shared | {"anchor": "y2", "title": {"text": "training step" if axis.stepped else "checkpoint"}},
        yaxis2={"domain": [0, split - 0.02], "autorange": "reversed", "showgrid": False, "type": "category"},
        coloraxis={"cmin": 0.0, "cmax": 1.0, "autocolorscale": True, "showscale": False},
    )
    if here in place:
        for number in ("", "2"):
            figure.add_shape(
                type="line", x0=at[place[here]], x1=at[place[here]], y0=0, y1=1, xref=f"x{number}",
                yref=f"y{number} domain", line={"color": theme.CHOSEN, "width": 1.5, "dash": "dot"},
            )  # fmt: skip
    return figure


def kept_labels(labels: pd.DataFrame, chosen: str = "", count: int = SHOWN) -> list[str]:
    """Labels to draw, those held longest first."""
    if labels.empty:
        return []
    rows = labels[flags(labels, "matched")]
    held = rows.groupby("heuristic").agg(steps=("revision", "nunique"), score=("score", "max"))
    names = [str(n) for n in held.sort_values(["steps", "score"], ascending=False, kind="stable").index[:count]]
    if chosen in held.index and chosen not in names:
        names[-1] = chosen
    return names


def _add_effects(figure: go.Figure, rows: pd.DataFrame, place: dict[str, int], at: np.ndarray, axis: StepAxis) -> None:
    if rows.empty:
        return
    spots = rows["revision"].map(place).to_numpy(dtype=np.int64)
    order = np.argsort(spots, kind="stable")
    rows, spots = rows.iloc[order], spots[order]
    fill = np.where(flags(rows, "important"), "circle", "circle-open").tolist()
    figure.add_trace(
        go.Scatter(
            x=at[spots], y=rows["effect"].to_numpy(dtype=np.float64), mode="lines+markers", name="effect",
            line={"color": LINE, "width": 1.5}, marker={"size": 8, "symbol": fill, "color": LINE},
            customdata=rows["revision"].astype(str).tolist(),
            text=[f"{axis.label(s)}<br>rank {r} in its layer" for s, r in zip(spots, rows["rank"], strict=True)],
            hovertemplate="%{text}<br>%{y:.4f} nats<extra></extra>",
        )
    )  # fmt: skip


def _add_labels(
    figure: go.Figure, rows: pd.DataFrame, names: list[str], place: dict[str, int], at: np.ndarray, axis: StepAxis
) -> None:
    z = np.full((len(names), len(axis)), np.nan)
    index = {name: i for i, name in enumerate(names)}
    held = rows[flags(rows, "matched")] if len(rows) else rows
    for name, revision, score in zip(
        held.get("heuristic", []), held.get("revision", []), held.get("score", []), strict=True
    ):
        if name in index:
            cell = index[name], place[str(revision)]
            z[cell] = np.nanmax([z[cell], float(score)])
    known = np.isfinite(z)
    y, x = np.nonzero(known)
    if not len(x):
        return
    figure.add_trace(
        go.Scatter(
            x=at[x], y=[names[i] for i in y], mode="markers", xaxis="x2", yaxis="y2", name="score",
            marker={
                "symbol": "square", "size": 15, "color": z[known], "coloraxis": "coloraxis",
                "line": {"width": 0.5, "color": theme.GREY},
            },
            customdata=[axis.revisions[i] for i in x], text=[axis.label(i) for i in x],
            hovertemplate="%{y}<br>%{text}: score %{marker.color:.2f}<extra></extra>",
        )
    )  # fmt: skip
