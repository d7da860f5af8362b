"""Figures of how well runs agree with a reference run on the same prompts, one line per run.

`layers`  rank correlation of the neurons of each layer, by mean + standard deviation, one panel per operator
`sizes`   |difference| of effects against the size of the reference's effect, both in nats, on logarithmic axes; left of
          where a line crosses the diagonal an effect cannot be told from the difference between the runs

Both are drawn from the tables `agreement` and `sizes` of `measure.agreement`, put after each other with a column `run`
that names the run: `run_agreement` and `run_sizes`.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import require
from arithcirc.viz.panels import legend_below

_LINES = (
    ("#2f7ebc", "solid", "circle"),
    ("#d9731a", "dash", "square"),
    ("#1b9e77", "dot", "triangle-up"),
    ("#b267a8", "dashdot", "diamond"),
    ("#8a8f98", "longdash", "cross"),
)
_KINDS = {"head": "heads", "mlp": "MLPs", "neuron": "neurons"}


def layers(table: pd.DataFrame) -> go.Figure:
    """Spearman correlation per layer of the neurons, as they are ranked."""
    names = ("run", "operator", "layer", "score", "spearman")
    rows = require(table, "run_agreement", names, {"kind": "neuron", "score": "mean + sd"})
    rows = rows[rows["spearman"].notna()]
    operators = theme.ordered(rows["operator"])
    figure = theme.facets(operators)
    for panel, operator in enumerate(operators, start=1):
        for i, (run, part) in enumerate(rows[rows["operator"] == operator].groupby("run", sort=False)):
            ordered = part.sort_values("layer")
            line = _line(i, str(run), ordered["layer"].to_numpy(dtype=np.int64), ordered["spearman"].to_numpy())
            line.update(showlegend=panel == 1, hovertemplate=f"layer %{{x}}<br>Spearman %{{y:.3f}}<extra>{run}</extra>")
            figure.add_trace(line, row=1, col=panel)
    figure.update_layout(title="Do neurons keep their ranks? Against the reference run, per layer")
    figure.update_xaxes(title="layer", zeroline=False, dtick=1 if rows["layer"].max() <= 16 else None)
    figure.update_yaxes(title="Spearman correlation", row=1, col=1)
    legend_below(figure, 380)
    return figure


def sizes(table: pd.DataFrame) -> go.Figure:
    """Median difference by size of effect, per kind of component; on the diagonal it is as large as the effect."""
    rows = require(table, "run_sizes", ("run", "kind", "effect", "difference"))
    rows = rows[(rows["effect"] > 0) & (rows["difference"] > 0)]
    kinds = [kind for kind in _KINDS if kind in set(rows["kind"])]
    figure = make_subplots(
        rows=1, cols=len(kinds), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=[_KINDS[k] for k in kinds]
    )
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in kinds]
    )
    for panel, kind in enumerate(kinds, start=1):
        mine = rows[rows["kind"] == kind]
        ends = [float(mine["effect"].min()), float(mine["effect"].max())]
        equal = go.Scatter(
            x=ends, y=ends, mode="lines", line={"color": theme.GREY, "width": 1}, name="difference = effect",
            hoverinfo="skip", legendgroup="equal", showlegend=panel == 1,
        )  # fmt: skip
        figure.add_trace(equal, row=1, col=panel)
        for i, (run, part) in enumerate(mine.groupby("run", sort=False)):
            ordered = part.sort_values("low")
            line = _line(i, str(run), ordered["effect"].to_numpy(), ordered["difference"].to_numpy())
            hover = "effect %{x:.4f} nats<br>median difference %{y:.4f} nats<br>%{customdata} effects"
            line.update(showlegend=panel == 1, customdata=ordered["n"], hovertemplate=f"{hover}<extra>{run}</extra>")
            figure.add_trace(line, row=1, col=panel)
    figure.update_layout(title="Which effects survive? Difference from the reference run, by size of the effect")
    figure.update_xaxes(type="log", title="size of the effect (nats)", exponentformat="power", dtick=1)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(title="median |difference| (nats)", row=1, col=1)
    legend_below(figure, 420)
    return figure


def _line(i: int, name: str, x: np.ndarray, y: np.ndarray) -> go.Scatter:
    colour, dash, symbol = _LINES[i % len(_LINES)]
    return go.Scatter(
        x=x, y=y, mode="lines+markers", name=name, legendgroup=name,
        line={"color": colour, "width": 2, "dash": dash}, marker={"size": 7, "symbol": symbol},
    )  # fmt: skip
