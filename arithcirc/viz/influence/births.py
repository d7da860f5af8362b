"""What a mechanism's documents were before and after it appeared in training.

`births_figure`  over checkpoints, one line per mechanism: its contrast (sign x value), the correlation of its influence
                 vector with the final one, and the lift of one kind of documents. Open marks lie before the birth

The factors of every checkpoint are its own. Two checkpoints make a line, not a trend.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import flags, numbers, require
from arithcirc.viz.influence import names
from arithcirc.viz.influence.lift import mechanism
from arithcirc.viz.panels import legend_below

COLOURS = ("#2f7ebc", "#d9731a", "#1b9e77", "#b267a8", "#79b4e3", "#c9a227", "#a0522d", "#7c8794")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "cross", "x", "hexagon")
PANELS = ("value", "r", "lift")
WHEN = {"before": "before its birth", "after": "after its birth", "final": "the last checkpoint"}


def births_figure(table: pd.DataFrame, values: pd.DataFrame | None = None, *, kind: str = "") -> go.Figure:
    """Three panels over the checkpoints. `values` has the contrast at every checkpoint; `kind` chooses whose lift."""
    rows = require(table, "births", ("query", "step", "when", "kind", "value", "r", "lift"))
    kinds = names.in_order(rows["kind"], names.KINDS)
    kind = kind if kind in kinds else kinds[0]
    lift = f"lift of kind {names.plain(names.kind(kind))}"
    titles = ["contrast (× −1 where low follows)", "r with its final influence vector", lift]
    figure = make_subplots(rows=1, cols=3, horizontal_spacing=0.08, subplot_titles=titles)
    chosen = rows[rows["kind"] == kind].drop_duplicates(["query", "step"])
    curve = _curves(chosen, values)
    steps = sorted({int(s) for s in [*chosen["step"], *curve["step"]]})
    for i, (query, part) in enumerate(chosen.groupby("query", sort=False)):
        held = [curve[curve["query"] == query], part, part]
        for panel, (name, of_panel) in enumerate(zip(PANELS, held, strict=True), start=1):
            _line(figure, panel, i, str(query), (of_panel.sort_values("step"), name, steps))
    for panel, level in ((2, 0.0), (3, 1.0)):
        figure.add_hline(y=level, line_color=theme.GREY, line_dash="dot", line_width=1.2, row=1, col=panel)
    figure.update_layout(
        template=theme.template("light"), title="Before (open) and after (filled) the mechanism’s birth in training"
    )
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 440, bottom=130)
    figure.update_xaxes(
        title="training step", tickvals=list(range(len(steps))), ticktext=[f"{s:,}" for s in steps],
        range=[-0.4, len(steps) - 0.6], showgrid=False, zeroline=False, tickangle=-60 if len(steps) > 6 else 0,
    )  # fmt: skip
    figure.update_yaxes(range=[-1.05, 1.05], row=1, col=2)
    figure.update_yaxes(rangemode="tozero", row=1, col=3)
    return figure


def _curves(chosen: pd.DataFrame, values: pd.DataFrame | None) -> pd.DataFrame:
    """Contrast by checkpoint: columns query, step, value, when; of every checkpoint where that was measured.

    It is sign x value where the sign is known: of a neuron whose rule is to be low, the negative.
    """
    if values is None or not {"query", "step", "value", "born"} <= set(values.columns):
        return chosen[["query", "step", "value", "when"]]
    held = values[values["query"].isin(chosen["query"])]
    strength = held["value"] * held.get("sign", 1)
    return held.assign(value=strength, when=["after" if born else "before" for born in flags(held, "born")])


def _line(figure: go.Figure, panel: int, i: int, query: str, what: tuple[pd.DataFrame, str, list[int]]) -> None:
    part, name, steps = what
    colour, symbol = COLOURS[i % len(COLOURS)], SYMBOLS[(i + i // len(COLOURS)) % len(SYMBOLS)]
    said = names.plain(mechanism(query), 40)
    figure.add_trace(
        go.Scatter(
            x=[steps.index(int(s)) for s in part["step"]], y=numbers(part, [name])[:, 0], mode="lines+markers",
            name=said, legendgroup=query, showlegend=panel == 1, line={"color": colour, "width": 1.5},
            marker={
                "symbol": [f"{symbol}-open" if w == "before" else symbol for w in part["when"]], "size": 8,
                "color": colour,
            },
            text=[f"step {s:,}, {WHEN.get(w, w)}" for s, w in zip(part["step"], part["when"].astype(str), strict=True)],
            hovertemplate=f"{said}<br>%{{text}}: %{{y:.3g}}<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip
