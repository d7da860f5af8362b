"""When heuristics and families are born: one row each, a disc per checkpoint whose area is the number of pairs.

A pair (neuron, heuristic) is born at the first checkpoint from which it is present at every later one at which its
neuron was tested; only pairs that stay to the last checkpoint are counted. Rows are ordered by their median birth, the
first born on top, so that the figure reads as the order in which the bag of heuristics filled. One operator at a time.
What it does not show: pairs that died on the way (`births.birth_bars` has them).
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import StepAxis, dress
from arithcirc.viz.emergence.births import places
from arithcirc.viz.emergence.data import LABELS, SweepData
from arithcirc.viz.frames import require

ROWS = {"heuristics": "heuristic", "families": "family"}
"""What a row can be, and the column of table `births` that names it."""
MOST = 44
"""Rows drawn: those with the most pairs."""
LARGEST = 20.0
"""Diameter of the largest disc, pixels."""
_COLUMNS = ("operator", "heuristic", "family", "birth", "fate")


def birth_timeline(data: SweepData, model: str, labels: str, operator: str, rows: str = "heuristics") -> go.Figure:
    """Births by heuristic or by family against checkpoint; `customdata` is (heuristic or family, revision)."""
    table = data.tables.get("births", pd.DataFrame())
    held = require(table, "births", _COLUMNS, {"model": model, "labels": labels, "operator": operator})
    axis = data.model(model).axis
    held = held.assign(place=places(held["birth"], axis))
    held = require(held[(held["place"] >= 0) & (held["fate"] == "stays")], "births", _COLUMNS)
    column = ROWS[rows]
    keys = list(dict.fromkeys((column, "family", "place")))
    counts = held.groupby(keys, observed=True).size().rename("pairs").reset_index()
    shown, total = _rows(held, column)
    counts = counts[counts[column].isin(shown)]
    figure = go.Figure(layout={"template": theme.template("light")})
    largest = float(counts["pairs"].max())
    for family in theme.family_order(counts["family"].unique()):
        _discs(figure, counts[counts["family"] == family], column, axis, largest)
    more = f", the {len(shown)} largest of {total:,}" if total > len(shown) else ""
    figure.update_layout(
        title=f"Births of the {rows} that stay{more}: {LABELS[labels]} labels",
        height=150 + 20 * max(len(shown), 5),
        margin={"l": 8, "b": 92},
        legend={"y": -62 / max(20 * len(shown), 100), "yanchor": "top", "itemsizing": "constant"},
    )
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=[_shown(v, column) for v in shown][::-1], dtick=1,
        range=[-0.7, len(shown) - 0.3], tickfont={"size": theme.SMALL},
    )  # fmt: skip
    return dress(figure, axis, panels=1)


def _rows(pairs: pd.DataFrame, column: str) -> tuple[list[str], int]:
    """The names of the rows drawn, the first born first, and how many names there are."""
    grouped = pairs.groupby(column, observed=True)["place"].agg(["size", "median", "min"])
    kept = grouped.sort_values(["size", "median"], ascending=[False, True]).head(MOST)
    return [str(v) for v in kept.sort_values(["median", "min", "size"], ascending=[True, True, False]).index], len(
        grouped
    )


def _shown(name: str, column: str) -> str:
    return theme.family_name(name) if column == "family" else name


def _discs(figure: go.Figure, counts: pd.DataFrame, column: str, axis: StepAxis, largest: float) -> None:
    family = str(counts["family"].iloc[0])
    name, colour, _ = theme.FAMILIES.get(family, (family, theme.GREY, ""))
    said: list[list[Any]] = [
        [value, axis.revisions[place], int(pairs), axis.label(place)]
        for value, place, pairs in zip(counts[column].astype(str), counts["place"], counts["pairs"], strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=counts["place"].tolist(),
            y=[_shown(str(v), column) for v in counts[column]],
            mode="markers",
            marker={
                "color": colour,
                "size": np.maximum(5.0, LARGEST * np.sqrt(counts["pairs"] / largest)).round(1).tolist(),
                "opacity": 0.9,
                "line": {"width": 0},
            },
            customdata=said,
            hovertemplate="%{y}<br>%{customdata[3]}: %{customdata[2]} pairs born<extra></extra>",
            name=name,
        )
    )
