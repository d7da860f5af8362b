"""All evaluation sets: a dot plot for each family, and one map of every model against every family.

`set_dots`   accuracy with its interval for each size of a family; kinds of positions side by side, shortcuts grey
`overview`   mean accuracy over the sets of a family, less one half: what lies below chance is blue
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.cells import TRAINED, of_mix, over_seeds
from arithcirc.viz.influence.names import in_order
from arithcirc.viz.panels import colour_axis, grid_height, heat, interval, legend_below

_LENGTHS = ("sequential", "flipped")
_DODGE = 0.15
MOST = 15
"""Longest chains that count in a mean over lengths; 20 and 50 nodes stand in the figure of lengths."""


def set_dots(cells: pd.DataFrame, *, mix: str = "TS2", measure: str = "accuracy") -> go.Figure:
    """Every family but the two of lengths. Raises RequestError where the mix was asked none of them."""
    table = over_seeds(cells, measure=measure)
    drawn = of_mix(table[~table["set"].isin(_LENGTHS)], mix)
    models = [who for who, part in drawn.items() if (part["kind"] == "model").any()]
    if not models:
        raise RequestError(f"no such sets were asked of models of {mix}")
    held = in_order(pd.concat([drawn[who] for who in models])["set"], names.SETS)
    figure = make_subplots(
        rows=1, cols=len(held), horizontal_spacing=0.03, subplot_titles=[names.set_title(name) for name in held]
    )
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in held]
    )
    for panel, name in enumerate(held, start=1):
        sizes = sorted({int(n) for part in drawn.values() for n in part.loc[part["set"] == name, "nodes"]})
        figure.add_vline(x=0.5, line_width=1, opacity=0.5, row=1, col=panel, exclude_empty_subplots=False)
        for who, part in drawn.items():
            rows = part[part["set"] == name].sort_values("nodes")
            shift = _DODGE * (models.index(who) - (len(models) - 1) / 2) if who in models else 0.0
            _dots(figure, panel, who, rows, [sizes.index(n) + shift for n in rows["nodes"]], legend=panel == 1)
        figure.update_yaxes(
            tickvals=list(range(len(sizes))), ticktext=[str(n) for n in sizes], range=[len(sizes) - 0.4, -0.6],
            showgrid=False, zeroline=False, row=1, col=panel,
        )  # fmt: skip
    figure.update_xaxes(range=[-0.03, 1.05], dtick=0.25, zeroline=False, title=names.MEASURES[measure], tickangle=0)
    figure.update_yaxes(title="nodes", row=1, col=1)
    figure.update_layout(
        title=f"{names.MEASURES[measure].capitalize()} on other graphs, trained on {names.MIXES.get(mix, mix)}"
    )
    legend_below(figure, 560)
    return figure


def _dots(figure: go.Figure, panel: int, who: str, rows: pd.DataFrame, y: list[float], *, legend: bool) -> None:
    """One model's or shortcut's accuracies in a panel."""
    value, low, high = (rows[c].to_numpy(dtype=float) for c in ("value", "low", "high"))
    shortcut = who in names.SHORTCUTS
    name = who if shortcut else names.position(who)
    marker: dict[str, Any] = {"color": names.colour(who), "size": 10 if shortcut else 8, "symbol": names.symbol(who)}
    if shortcut:
        marker |= {"line": {"color": names.colour(who), "width": 2}}
    figure.add_trace(
        go.Scatter(
            x=value, y=y, mode="markers", name=name, legendgroup=name, showlegend=legend, marker=marker,
            error_x=None if shortcut else interval(value, low, high),
            customdata=np.stack([rows["nodes"], low, high, rows["seeds"], rows["questions"]], axis=1),
            hovertemplate=f"{name}<br>%{{customdata[0]:.0f}} nodes: %{{x:.3f}} [%{{customdata[1]:.3f}}, "
            "%{customdata[2]:.3f}]<br>%{customdata[3]:.0f} seed(s), %{customdata[4]:.0f} questions<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip


def families(table: pd.DataFrame, trained: tuple[int, int]) -> dict[str, pd.DataFrame]:
    """Rows of `over_seeds` by column of the overview; lengths are split at the longest chain of training."""
    found = {}
    for name in in_order(table["set"], names.SETS):
        rows = table[table["set"] == name]
        if name not in _LENGTHS:
            found[names.set_title(name)] = rows
            continue
        inside, beyond = rows["nodes"] <= trained[1], (rows["nodes"] > trained[1]) & (rows["nodes"] <= MOST)
        for part in (rows[inside], rows[beyond]):
            if len(part):
                found[f"{names.set_title(name)}, {_span(part['nodes'])} nodes"] = part
    return found


def _span(nodes: pd.Series) -> str:
    low, high = int(nodes.min()), int(nodes.max())
    return str(low) if low == high else f"{low} to {high}"


def _broken(title: str) -> str:
    """A column's title in short lines: columns are narrow."""
    parts = [words for part in title.replace(", ", ",|").split("|") for words in _lines(part.split())]
    return "<br>".join(parts)


def _lines(words: list[str]) -> list[str]:
    """Words by lines of at most 14 characters, one word at least."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < 14:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def overview(cells: pd.DataFrame, *, measure: str = "accuracy", trained: tuple[int, int] = TRAINED) -> go.Figure:
    """Every model and shortcut against every family. A star: not every set of the family could be asked."""
    table = over_seeds(cells, measure=measure)
    columns = families(table, trained)
    models = table[table["kind"] == "model"]
    if models.empty or not columns:
        raise RequestError("no model was asked anything")
    asked = models.groupby(["mix", "who"], sort=False).size().index
    rows = [(m, w) for m in in_order(models["mix"], names.MIXES) for w in in_order(models["who"], names.POSITIONS)]
    rows = [pair for pair in rows if pair in asked]
    rows += [("", who) for who in in_order(table.loc[table["kind"] == "shortcut", "who"], names.SHORTCUTS)]
    z = np.full((len(rows), len(columns)), np.nan)
    text = np.full(z.shape, "", dtype=object)
    for j, part in enumerate(columns.values()):
        every = len(part["nodes"].unique())
        for i, (mix, who) in enumerate(rows):
            mine = part[(part["mix"] == mix) & (part["who"] == who)]
            if len(mine):
                z[i, j] = mine["value"].mean()
                text[i, j] = theme.number(z[i, j], 2) + ("*" if len(mine) < every else "")
    figure = make_subplots(rows=1, cols=1)
    figure.update_layout(template=theme.template("light"))
    labels = [f"{names.MIXES.get(m, m)} · {names.position(w)}" if m else w for m, w in rows]
    heat(
        figure, 1, z - 0.5, [_broken(c) for c in columns], labels, text=text,
        customdata=z, hover="%{y}<br>%{x}<br>%{customdata:.3f}<extra></extra>",
    )  # fmt: skip
    colour_axis(figure, f"{names.MEASURES[measure]} − ½", -0.5, 0.5)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    figure.update_xaxes(side="top", showgrid=False, zeroline=False, tickangle=0)
    figure.update_layout(
        title=f"Mean {names.MEASURES[measure]} by family of graphs", height=grid_height(len(rows), extra=160),
        margin={"t": 140, "b": 20},
    )  # fmt: skip
    return figure
