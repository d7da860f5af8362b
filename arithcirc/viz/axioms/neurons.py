"""What neurons go by, and whether the answer needs them.

`class_shares`  share of each layer's neurons by the feature of their largest partial correlation
`knockouts`     share of the margin lost without the strongest neurons of a class, beside as many random ones
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.frames import require
from arithcirc.viz.influence.names import in_order
from arithcirc.viz.panels import legend_below

KNOCKED = ("opening", "questions", "class", "of_class", "neurons", "lost", "se", "random_lost", "random_lost_high",
           "accuracy", "clean")  # fmt: skip


def class_shares(neurons: pd.DataFrame, *, opening: str) -> go.Figure:
    """Stacked bars, a panel for each place that neurons are read at."""
    rows = require(neurons, "neurons", ("opening", "role", "layer", "neuron", "class"), {"opening": opening})
    roles = in_order(rows["role"], dict.fromkeys(names.QUESTION_ROLES))
    figure = make_subplots(
        rows=1, cols=len(roles), shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=[f"at {names.role(r)}" for r in roles],
    )  # fmt: skip
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in roles]
    )
    for panel, role in enumerate(roles, start=1):
        mine = rows[rows["role"] == role]
        count = pd.crosstab(mine["layer"], mine["class"])
        total = count.sum(axis=1)
        for name in in_order(pd.Series(count.columns), names.CLASSES):
            title, colour = names.CLASSES.get(name, (name, theme.GREY))
            figure.add_trace(
                go.Bar(
                    x=[f"L{n}" for n in count.index], y=(count[name] / total).to_numpy(), name=title, legendgroup=name,
                    showlegend=panel == 1, marker={"color": colour, "opacity": 0.45 if name == "none" else 1},
                    customdata=count[name], hovertemplate=f"%{{x}}, {title}<br>%{{customdata}} neurons, "
                    "%{y:.1%}<extra></extra>",
                ),
                row=1, col=panel,
            )  # fmt: skip
    figure.update_yaxes(range=[0, 1.001], tickformat=".0%", zeroline=False)
    figure.update_yaxes(title="share of the layer’s neurons", row=1, col=1)
    figure.update_xaxes(showgrid=False)
    figure.update_layout(barmode="stack", bargap=0.25, title="What neurons go by")
    legend_below(figure, 400)
    return figure


def knockouts(table: pd.DataFrame, *, opening: str) -> go.Figure:
    """A panel for each class: loss with its interval, and the mean and the most of random sets."""
    rows = require(table, "knockouts", KNOCKED, {"opening": opening})
    rows = require(rows[rows["neurons"] > 0], "knockouts", ("class",))
    classes = in_order(rows["class"], names.CLASSES)
    order = list(dict.fromkeys(rows["questions"]))
    titles = []
    for name in classes:
        first = rows[rows["class"] == name].iloc[0]
        titles.append(f"{names.CLASSES.get(name, (name,))[0]} ({first['neurons']:,} of {first['of_class']:,} neurons)")
    figure = make_subplots(
        rows=1, cols=len(classes), shared_yaxes=True, shared_xaxes="all", horizontal_spacing=0.03, subplot_titles=titles
    )
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in classes]
    )
    for panel, name in enumerate(classes, start=1):
        part = rows[rows["class"] == name]
        y = np.array([order.index(q) for q in part["questions"]], dtype=float)
        _random(figure, panel, part, y, legend=panel == 1)
        lost, se = (part[c].to_numpy(dtype=float) for c in ("lost", "se"))
        figure.add_trace(
            go.Scatter(
                x=lost, y=y - 0.08, mode="markers", showlegend=False,
                marker={"size": 10, "color": names.CLASSES.get(name, ("", theme.GREY))[1]},
                error_x={"type": "data", "array": 1.96 * se, "thickness": 1.2, "width": 3},
                customdata=part[["questions", "accuracy", "clean"]].to_numpy(),
                hovertemplate="%{customdata[0]}<br>lost %{x:.3f}<br>accuracy %{customdata[1]:.3f}, before "
                "%{customdata[2]:.3f}<extra></extra>",
            ),
            row=1, col=panel,
        )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(order))), ticktext=[q.replace("-0", " ").replace("-", " ") for q in order],
        range=[len(order) - 0.4, -0.6], showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_xaxes(title="share of the margin lost", tickformat=".0%", zeroline=True)
    figure.update_layout(title="Knocking out the strongest neurons of a class")
    legend_below(figure, 400)
    return figure


def _random(figure: go.Figure, panel: int, part: pd.DataFrame, y: np.ndarray, *, legend: bool) -> None:
    """Ticks for the mean of random sets and the most that one of them costs."""
    for column, label, symbol in (
        ("random_lost", "random neurons, mean", "line-ns-open"),
        ("random_lost_high", "random neurons, most", "triangle-left-open"),
    ):
        figure.add_trace(
            go.Scatter(
                x=part[column], y=y + 0.16, mode="markers", name=label, legendgroup=label, showlegend=legend,
                marker={"size": 9, "color": theme.GREY, "symbol": symbol, "line": {"width": 2}},
                hovertemplate=f"{label}: %{{x:.3f}}<extra></extra>",
            ),
            row=1, col=panel,
        )  # fmt: skip
