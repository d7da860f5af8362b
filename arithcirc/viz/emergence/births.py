"""When labels are born and die, pair by pair.

`birth_bars`    per checkpoint, the pairs born there for good, by family, upwards; downwards those that were seen for
                the last time at the checkpoint before and then gone, though their neuron was still tested
`birth_raster`  one row per pair of the last checkpoint, ordered by birth: coloured from the checkpoint on from which it
                stays, faint from its first sight until then; white is absent or not tested
`fates`         of all pairs ever seen, how many stay, die, flicker, or leave with their neuron

A birth is the first checkpoint from which a pair is present at every later one at which its neuron was tested.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import StepAxis
from arithcirc.viz.emergence.data import LABELS, SweepData
from arithcirc.viz.emergence.lines import finish, named, panels
from arithcirc.viz.frames import column, require
from arithcirc.viz.panels import faint

ROWS = 240
"""Most rows of the raster per operator; of more, evenly spaced ones are drawn."""
FATES = ("stays", "dies", "flickers", "left")
_COLUMNS = ("operator", "family", "birth", "first", "last", "fate")


def _pairs(data: SweepData, model: str, labels: str) -> pd.DataFrame:
    """The births of a model, with the places of birth, first and last sight; -1 where there is none."""
    table = data.tables.get("births", pd.DataFrame())
    where = {"model": model, "labels": labels}
    rows = require(table, "births", _COLUMNS, where) if len(table.columns) else require(table, "births", _COLUMNS)
    axis = data.model(model).axis
    return rows.assign(**{name: places(rows[name], axis) for name in ("birth", "first", "last")})


def places(steps: pd.Series, axis: StepAxis) -> np.ndarray:
    """Places of steps (or of revisions, where there are no steps) on the axis; -1 for none."""
    known: dict[Any, int] = {r: i for i, r in enumerate(axis.revisions)}
    known |= {s: i for i, s in enumerate(axis.steps) if s is not None}
    return np.array([-1 if pd.isna(s) else known.get(s, -1) for s in steps], dtype=np.int64)


def birth_bars(data: SweepData, model: str, labels: str) -> go.Figure:
    """Births upwards and deaths downwards by family against checkpoint, one panel per operator; evenly spaced."""
    rows = _pairs(data, model, labels)
    figure, present = panels(rows, shared_y=False)
    axis = data.model(model).axis
    for family in theme.family_order(rows["family"].unique()):
        name, colour, _ = theme.FAMILIES.get(family, (family, theme.GREY, ""))
        for panel, operator in enumerate(present, start=1):
            part = rows[(rows["operator"] == operator) & (rows["family"] == family)]
            born = np.bincount(part.loc[part["birth"] >= 0, "birth"], minlength=len(axis))
            gone = part.loc[part["fate"].isin(["dies", "flickers"]) & (part["last"] >= 0), "last"] + 1
            died = np.bincount(gone[gone < len(axis)], minlength=len(axis))
            for counts, word, sign in ((born, "born", 1), (died, "gone", -1)):
                if counts.any():
                    _bars(figure, panel, axis, (name, family, colour), counts, word, sign)
    title = f"Births above, deaths below: pairs with {LABELS[labels]} labels"
    figure.update_layout(barmode="relative", bargap=0.15)
    finish(figure, axis, title, "pairs born (+), gone (−)", panels=len(present), height=420, ways=("even",))
    return figure.update_yaxes(zeroline=True)


def _bars(
    figure: go.Figure,
    panel: int,
    axis: StepAxis,
    family: tuple[str, str, str],
    counts: np.ndarray,
    word: str,
    sign: int,
) -> None:
    name, group, colour = family
    figure.add_trace(
        go.Bar(
            x=list(range(len(axis))),
            y=(sign * counts).astype(np.float32),
            marker={"color": colour, "line": {"width": 0}, "opacity": 1.0 if sign > 0 else 0.55},
            text=axis.labels,
            textposition="none",
            customdata=counts,
            hovertemplate=f"{name}<br>%{{text}}: %{{customdata}} {word}<extra></extra>",
            name=name,
            legendgroup=group,
            showlegend=not named(figure, name),
        ),
        row=1,
        col=panel,
    )


def birth_raster(data: SweepData, model: str, labels: str) -> go.Figure:
    """Pairs that stay, ordered by birth, against checkpoint, in their families' colours; one panel per operator."""
    rows = _pairs(data, model, labels)
    rows = require(rows[rows["birth"] >= 0], "births", ("operator", "layer", "neuron", "heuristic"))
    figure, present = panels(rows, shared_y=False)
    axis = data.model(model).axis
    families = theme.family_order(rows["family"].unique())
    tallest = 0
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator].sort_values(["birth", "family", "first"], kind="stable")
        shown = part.iloc[np.unique(np.linspace(0, len(part) - 1, min(ROWS, len(part))).round().astype(int))]
        tallest = max(tallest, len(shown))
        said = [
            f"L{layer}N{neuron}: {heuristic}<br>stays from {axis.label(birth)} on"
            for layer, neuron, heuristic, birth in zip(
                shown["layer"], shown["neuron"], shown["heuristic"], shown["birth"], strict=True
            )
        ]
        figure.add_trace(
            go.Heatmap(
                x=list(range(len(axis))),
                y=said,
                z=_grid(shown, families, len(axis)).tolist(),
                colorscale=_colours(families),
                zmin=0,
                zmax=2 * len(families),
                showscale=False,
                ygap=1 if len(shown) <= 80 else 0,
                hovertemplate="%{y}<extra></extra>",
            ),
            row=1,
            col=panel,
        )
        counted = f"{len(part):,}" if len(shown) == len(part) else f"{len(shown)} of {len(part):,}"
        figure.layout.annotations[panel - 1].text += f": {counted} pairs"
    _family_legend(figure, families)
    figure.update_yaxes(autorange="reversed", type="category", showticklabels=False, showgrid=False, ticks="")
    title = f"The pairs of the last checkpoint by birth, {LABELS[labels]} labels"
    height = 200 + min(420, max(120, 4 * tallest))
    return finish(figure, axis, title, "pairs, the first born on top", panels=len(present), height=height)


def _grid(rows: pd.DataFrame, families: list[str], width: int) -> np.ndarray:
    """Per row and place: 2 code + 2 from the birth on, 2 code + 1 between first sight and birth, 0 else."""
    code = rows["family"].map({f: i for i, f in enumerate(families)}).to_numpy(dtype=np.int64)[:, None]
    place = np.arange(width)[None, :]
    birth, first = rows["birth"].to_numpy()[:, None], rows["first"].to_numpy()[:, None]
    seen = np.where(place >= birth, 2, np.where((first >= 0) & (place >= first), 1, 0))
    return np.asarray(np.where(seen > 0, 2 * code + seen, 0))


def _colours(families: list[str]) -> list[list[float | str]]:
    """A scale in steps: nothing, then per family a faint and a full colour."""
    steps = ["rgba(0,0,0,0)"]
    for family in families:
        colour = theme.FAMILIES.get(family, (family, theme.GREY, ""))[1]
        steps += [faint(colour, 0.3), colour]
    n = len(steps)
    return [[edge / n, colour] for i, colour in enumerate(steps) for edge in (i, i + 1)]


def _family_legend(figure: go.Figure, families: list[str]) -> None:
    for family in families:
        name, colour, _ = theme.FAMILIES.get(family, (family, theme.GREY, ""))
        marker = {"symbol": "square", "size": 10, "color": colour}
        figure.add_trace(go.Scatter(x=[0], y=[None], mode="markers", marker=marker, name=name), row=1, col=1)


@dataclass(frozen=True)
class Fates:
    """Of one operator's pairs ever seen: how many there were, and how many of each fate."""

    operator: str
    total: int
    stays: int
    dies: int
    flickers: int
    left: int
    changed: int
    """Of those that died or flickered, how many of their neurons carry another label where last tested."""


def fates(data: SweepData, model: str, labels: str) -> list[Fates]:
    """One per operator; empty where the sweep has no births."""
    try:
        rows = _pairs(data, model, labels)
    except RequestError:
        return []
    found = []
    for operator in theme.ordered(rows["operator"]):
        part = rows[rows["operator"] == operator]
        count = {fate: int((part["fate"] == fate).sum()) for fate in FATES}
        gone = part[part["fate"].isin(["dies", "flickers"])]
        changed = int(column(gone, "becomes", None).notna().sum())
        found.append(Fates(operator, len(part), **count, changed=changed))
    return found
