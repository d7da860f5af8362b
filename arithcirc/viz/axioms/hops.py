"""Accuracy by the length of the shortest path, a panel for each size of a family, and how often Yes is said.

A path of 0 is No, of 1 a stated edge; what needs transitivity begins at 2. Numbers of several seeds are pooled. Lengths
that fewer than `FEWEST` questions have are left out.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.cells import of_mix, who_and_what
from arithcirc.viz.frames import column, numbers, require
from arithcirc.viz.panels import legend_below

NEEDED = ("kind", "model", "mix", "positions", "set", "nodes", "hops", "questions", "accuracy")
FEWEST = 10
PANELS = 4
"""Sizes that are drawn of a family, spread from the smallest to the largest of MOST nodes or fewer."""
MOST = 15
_TICKS = {0: "No", 1: "stated"}


def by_hops(hops: pd.DataFrame) -> pd.DataFrame:
    """Columns: kind, mix, who, set, nodes, hops, value, questions; seeds pooled, as `over_seeds` has them otherwise."""
    rows = require(hops, "hops", NEEDED)
    rows = rows[column(rows, "counted", True).astype("boolean").fillna(True).to_numpy(dtype=bool)]
    questions = rows["questions"].astype(int).to_numpy()
    made = pd.DataFrame(who_and_what(rows) | {"hops": rows["hops"].astype(int).to_numpy(), "questions": questions})
    made["right"] = numbers(rows, ["accuracy"])[:, 0] * made["questions"]
    keys = ["kind", "mix", "who", "set", "nodes", "hops"]
    found: pd.DataFrame = made.groupby(keys, sort=False, as_index=False)[["right", "questions"]].sum()
    return found.assign(value=found["right"] / found["questions"]).drop(columns="right")


def hops_figure(
    hops: pd.DataFrame, cells: pd.DataFrame | None = None, *, mix: str = "TS2", name: str = "flipped"
) -> go.Figure:
    """Panels by size, and, with `cells`, the share of Yes by size. Raises RequestError for what was not asked."""
    table = by_hops(hops)
    drawn = of_mix(table[table["set"] == name], mix)
    if not any((part["kind"] == "model").any() for part in drawn.values()):
        raise RequestError(f"{names.set_title(name)} were not asked of models of {mix}")
    sizes = _sizes({int(n) for part in drawn.values() for n in part["nodes"]})
    yes = _said_yes(cells, mix, name)
    titles = [f"{n} nodes" for n in sizes] + (["how often Yes is said"] if yes else [])
    figure = make_subplots(
        rows=1, cols=len(titles), shared_yaxes=True, horizontal_spacing=0.02, subplot_titles=titles,
    )  # fmt: skip
    figure.update_layout(template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}}] * 5)
    for panel, nodes in enumerate(sizes, start=1):
        longest = 1
        for who, part in drawn.items():
            rows = part[(part["nodes"] == nodes) & (part["questions"] >= FEWEST)].sort_values("hops")
            longest = max(longest, int(rows["hops"].max()) if len(rows) else 1)
            _line(figure, panel, who, rows["hops"], rows["value"], rows["questions"], legend=panel == 1)
        ticks = [n for n in range(longest + 1) if n < 2 or longest < 8 or n % 2 == 0]
        figure.update_xaxes(
            tickvals=ticks, ticktext=[_TICKS.get(n, str(n)) for n in ticks], range=[-0.5, longest + 0.5],
            title="edges of the path", zeroline=False, tickangle=0, row=1, col=panel,
        )  # fmt: skip
    for who, part in yes.items():
        _line(figure, len(titles), who, part["nodes"], part["said_yes"], part["questions"], legend=False, share=True)
    if yes:
        figure.update_xaxes(title="nodes", zeroline=False, row=1, col=len(titles))
    figure.update_yaxes(range=[-0.03, 1.04], dtick=0.25, zeroline=False)
    figure.update_yaxes(title="accuracy", row=1, col=1)
    figure.update_layout(
        title=f"Accuracy by path length: {names.set_title(name)}, trained on {names.MIXES.get(mix, mix)}"
    )
    legend_below(figure, 460)
    return figure


def _sizes(held: set[int]) -> list[int]:
    """At most PANELS sizes, the smallest and the largest among them."""
    known = sorted(n for n in held if n <= MOST) or sorted(held)
    places = np.unique(np.linspace(0, len(known) - 1, min(PANELS, len(known))).round().astype(int))
    return [known[i] for i in places]


def _said_yes(cells: pd.DataFrame | None, mix: str, name: str) -> dict[str, pd.DataFrame]:
    """Share of Yes by whoever answered and size, mean over seeds; empty where it is not known."""
    if cells is None or not {"said_yes", "set", "nodes", "positions", "questions"} <= set(cells.columns):
        return {}
    rows = cells[(cells["set"] == name) & column(cells, "counted", True).astype("boolean").fillna(True)]
    rows = rows[(rows["nodes"] <= MOST) & rows["said_yes"].notna()]
    shortcut = rows["kind"] == "shortcut"
    rows = rows.assign(who=rows["positions"].where(~shortcut, rows["model"]), mix=rows["mix"].where(~shortcut, ""))
    keys = ["kind", "mix", "who", "nodes"]
    means = rows.groupby(keys, sort=False, as_index=False).agg(
        said_yes=("said_yes", "mean"), questions=("questions", "sum")
    )
    return {who: part.sort_values("nodes") for who, part in of_mix(means, mix).items()}


def _line(
    figure: go.Figure, panel: int, who: str, x: pd.Series, y: pd.Series, questions: pd.Series, *, legend: bool,
    share: bool = False,
) -> None:  # fmt: skip
    """One model or shortcut; the point of No stands alone, as it is no path."""
    shortcut = who in names.SHORTCUTS
    name = who if shortcut else names.position(who)
    places, values, asked = (v.astype(float).tolist() for v in (x, y, questions))
    if not share and places and places[0] == 0.0:
        places[1:1], values[1:1], asked[1:1] = [0.5], [np.nan], [0.0]
    line = {"color": names.colour(who), "width": 1.6 if shortcut else 2.2}
    if shortcut:
        line["dash"] = names.SHORTCUTS[who][1]
    marker: dict[str, Any] = {"size": 6 if shortcut else 7, "symbol": names.symbol(who), "color": names.colour(who)}
    if shortcut:
        marker |= {"line": {"color": names.colour(who), "width": 1.5}}
    said = "%{x} nodes: Yes in %{y:.2f}" if share else "%{x} edges: %{y:.3f}"
    figure.add_trace(
        go.Scatter(
            x=places, y=values, customdata=asked, mode="lines+markers", name=name, legendgroup=name,
            showlegend=legend, line=line, marker=marker,
            hovertemplate=f"{name}<br>{said} of %{{customdata:.0f}}<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip
