"""Accuracy against length, a line for each kind of positions, beside the shortcuts.

Whiskers are 95 % intervals clustered by graph; of several seeds they reach from the lowest end to the highest, and
small dots are the single seeds. Grey lines are the shortcuts on the same questions; grey ground the trained lengths.
The paper's numbers can be switched on in the legend.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.cells import TRAINED, of_mix, over_seeds
from arithcirc.viz.panels import interval, legend_below

PANELS = {"sequential": "Chains in order", "flipped": "Chains with edges turned at random"}
_TICKS = (3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 20, 30, 50)
_APART = 0.006
"""Shift in log nodes between kinds of positions, so that whiskers stand side by side."""


def length_figure(
    cells: pd.DataFrame,
    published: pd.DataFrame | None = None,
    *,
    mix: str = "TS2",
    measure: str = "accuracy",
    trained: tuple[int, int] = TRAINED,
) -> go.Figure:
    """One panel for chains in order, one for turned edges. Raises RequestError where the mix was asked neither."""
    table = over_seeds(cells, measure=measure)
    drawn = of_mix(table[table["set"].isin(list(PANELS))], mix)
    held = [name for name in PANELS if any((part["set"] == name).any() for part in drawn.values())]
    if not held or not any((part["kind"] == "model").any() for part in drawn.values()):
        raise RequestError(f"no chains were asked of models of {mix}")
    figure = make_subplots(
        rows=1, cols=len(held), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=[PANELS[n] for n in held]
    )
    figure.update_layout(template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}}] * 2)
    nodes: set[int] = set()
    for panel, name in enumerate(held, start=1):
        figure.add_vrect(
            x0=trained[0] * 0.96, x1=trained[1] * 1.04, fillcolor=theme.GREY, opacity=0.12, line_width=0,
            layer="below", row=1, col=panel, exclude_empty_subplots=False,
        )  # fmt: skip
        figure.add_hline(y=0.5, line_width=1, opacity=0.5, row=1, col=panel, exclude_empty_subplots=False)
        for number, (who, part) in enumerate(drawn.items()):
            rows = part[part["set"] == name].sort_values("nodes")
            nodes |= set(rows["nodes"])
            shift = _APART * (number - (len(drawn) - 2) / 2)
            _line(figure, panel, who, rows, shift=shift, legend=panel == 1)
        if published is not None and measure == "accuracy":
            _published(figure, panel, published, name, mix)
    ticks = [n for n in _TICKS if n in nodes]
    figure.update_xaxes(
        type="log", title="nodes of the chain", tickvals=ticks, ticktext=[str(n) for n in ticks], zeroline=False,
        range=[np.log10(min(nodes) * 0.94), np.log10(max(nodes) * 1.06)],
    )  # fmt: skip
    figure.update_yaxes(range=[-0.02, 1.03], zeroline=False, dtick=0.25)
    figure.update_yaxes(title=names.MEASURES[measure], row=1, col=1)
    figure.update_layout(title=f"{names.MEASURES[measure].capitalize()} against length, trained on {_mix(mix)}")
    legend_below(figure, 520)
    return figure


def _mix(mix: str) -> str:
    return names.MIXES.get(mix, mix)


def _line(figure: go.Figure, panel: int, who: str, rows: pd.DataFrame, *, shift: float, legend: bool) -> None:
    """One model over seeds, or one shortcut."""
    if rows.empty:
        return
    value, low, high = (rows[c].to_numpy(dtype=float) for c in ("value", "low", "high"))
    shortcut = (rows["kind"] == "shortcut").all()
    x = rows["nodes"].to_numpy() * 10 ** (0.0 if shortcut else shift)
    name = who if shortcut else names.position(who)
    line = {"color": names.colour(who), "width": 1.6 if shortcut else 2.2}
    if shortcut:
        line["dash"] = names.SHORTCUTS[who][1] if who in names.SHORTCUTS else "dashdot"
    figure.add_trace(
        go.Scatter(
            x=x, y=value, mode="lines" if shortcut else "lines+markers", name=name, legendgroup=name,
            showlegend=legend, line=line, marker={"size": 8, "symbol": names.symbol(who)},
            error_y=None if shortcut else interval(value, low, high),
            customdata=np.stack([rows["nodes"], low, high, rows["seeds"], rows["questions"]], axis=1),
            hovertemplate=f"{name}<br>%{{customdata[0]:.0f}} nodes: %{{y:.3f}} [%{{customdata[1]:.3f}}, "
            "%{customdata[2]:.3f}]<br>%{customdata[3]:.0f} seed(s), %{customdata[4]:.0f} questions<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip
    if shortcut or rows["seeds"].max() < 2:
        return
    every = [(at, seed) for at, values in zip(x, rows["values"], strict=True) for seed in values]
    figure.add_trace(
        go.Scatter(
            x=[at for at, _ in every], y=[seed for _, seed in every], mode="markers", name=name, legendgroup=name,
            showlegend=False, marker={"size": 4, "color": names.colour(who), "opacity": 0.7}, hoverinfo="skip",
        ),
        row=1, col=panel,
    )  # fmt: skip


def _published(figure: go.Figure, panel: int, published: pd.DataFrame, name: str, mix: str) -> None:
    """The paper's models of the mix, off until they are asked for."""
    rows = published[(published["family"] == name) & (published["mix"] == mix) & (published["metric"] == "accuracy")]
    rows = rows[rows["value"].notna() & rows["nodes"].notna()]
    shown = {trace.name for trace in figure.data}
    for printed, part in rows.groupby("model", sort=False):
        who = str(part["positions"].iloc[0])
        figure.add_trace(
            go.Scatter(
                x=part["nodes"].astype(int), y=part["value"], mode="lines+markers", visible="legendonly",
                name=f"paper: {printed}", legendgroup=f"paper {printed}",
                showlegend=f"paper: {printed}" not in shown,
                line={"color": names.colour(who), "width": 1.2, "dash": "dash"},
                marker={"size": 8, "symbol": f"{names.symbol(who)}-open"},
                hovertemplate=f"paper: {printed}<br>%{{x}} nodes: %{{y:.2f}}<extra></extra>",
            ),
            row=1, col=panel,
        )  # fmt: skip
