"""Training on the way: the loss, and the exams at checkpoints, against steps. A line for each training of a mix.

Trainings that were repeated with another seed are dotted; they do not count.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.frames import require
from arithcirc.viz.panels import legend_below

LOSS = "loss"
MOST = 400
"""Points of a loss curve; longer ones are means over neighbours."""


def training_figure(training: pd.DataFrame, models: pd.DataFrame, *, mix: str = "TS2") -> go.Figure:
    """A panel for the loss and one for each set of the exam. Raises RequestError where the mix has no training."""
    mine = require(models, "models", ("model", "mix", "positions", "seed", "counted"), {"mix": mix})
    rows = require(training, "training", ("model", "step", "part", "accuracy", "loss"))
    rows = require(rows[rows["model"].isin(set(mine["model"]))], "training", ("model",))
    panels = [LOSS] if (rows["part"] == LOSS).any() else []
    panels += [str(part) for part in rows["part"].unique() if part != LOSS]
    figure = make_subplots(
        rows=1, cols=len(panels), horizontal_spacing=0.035,
        subplot_titles=[LOSS if p == LOSS else f"accuracy, {_said(p)}" for p in panels],
    )  # fmt: skip
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in panels]
    )
    named: set[str] = set()
    order = {kind: place for place, kind in enumerate(names.POSITIONS)}
    for model in mine.sort_values("positions", key=lambda c: c.map(order), kind="stable").to_dict("records"):
        for panel, part in enumerate(panels, start=1):
            of = rows[(rows["model"] == model["model"]) & (rows["part"] == part)].sort_values("step")
            if len(of):
                first = model["positions"] not in named
                named.add(str(model["positions"]))
                _line(figure, panel, of, model, "loss" if part == LOSS else "accuracy", legend=first)
    for panel, part in enumerate(panels, start=1):
        ends = {"rangemode": "tozero"} if part == LOSS else {"range": [-0.02, 1.03], "dtick": 0.25}
        figure.update_yaxes(**ends, zeroline=False, row=1, col=panel)
    figure.update_xaxes(title="step", zeroline=False, nticks=5)
    figure.update_layout(title=f"Training on {names.MIXES.get(mix, mix)}: loss, and exams on the way")
    legend_below(figure, 400)
    return figure


def _said(part: str) -> str:
    """`sequential-04` -> `sequential 4`."""
    name, _, nodes = part.rpartition("-")
    return f"{name.replace('-', ' ')} {int(nodes)}" if nodes.isdecimal() else part


def _line(
    figure: go.Figure, panel: int, rows: pd.DataFrame, model: dict[Any, Any], column: str, *, legend: bool
) -> None:
    who = str(model["positions"])
    step, value = (rows[c].to_numpy(dtype=float) for c in ("step", column))
    if len(step) > MOST:
        parts = np.array_split(np.arange(len(step)), MOST)
        step, value = (np.array([v[part].mean() for part in parts]) for v in (step, value))
    figure.add_trace(
        go.Scatter(
            x=step, y=value, mode="lines" if column == LOSS else "lines+markers", name=names.position(who),
            legendgroup=who, showlegend=legend,
            line={"color": names.colour(who), "width": 1.6, "dash": "solid" if model["counted"] else "dot"},
            marker={"size": 6, "symbol": names.symbol(who)},
            hovertemplate=f"{names.position(who)}, seed {model['seed']}<br>step %{{x}}: %{{y:.3f}}<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip
