"""Rule or shortcut, as a figure: hard accuracy of the models that were opened beside that of the shortcuts."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.judged import against
from arithcirc.viz.frames import require
from arithcirc.viz.influence.names import plain
from arithcirc.viz.panels import interval, legend_below

NEEDED = ("opening", "part", "questions", "n", "hard", "hard_low", "hard_high")
_COLOURS = ("#2f7ebc", "#d9731a", "#1b9e77", "#b267a8", theme.CHOSEN)
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "star")


def rule_figure(general: pd.DataFrame) -> go.Figure:
    """Rows are sets of questions; a model's interval right of every grey mark beats the shortcuts there."""
    rows = require(general, "generalisation", NEEDED)
    order = list(dict.fromkeys(rows["questions"]))
    models = list(dict.fromkeys(rows["opening"]))
    figure = go.Figure(layout={"template": theme.template("light")})
    figure.add_vline(x=0.5, line_width=1, opacity=0.5)
    for number, model in enumerate(models):
        part = rows[(rows["opening"] == model) & (rows["n"] > 0)]
        value, low, high = (part[c].to_numpy(dtype=float) for c in ("hard", "hard_low", "hard_high"))
        shift = 0.22 * (number - (len(models) - 1) / 2)
        figure.add_trace(
            go.Scatter(
                x=value, y=[order.index(q) + shift for q in part["questions"]], mode="markers", name=plain(model),
                marker={"size": 10, "color": _COLOURS[number % 5], "symbol": _SYMBOLS[number % 5]},
                error_x=interval(value, low, high), customdata=np.stack([low, high, part["n"]], axis=1),
                hovertemplate=f"{model}<br>%{{x:.3f}} [%{{customdata[0]:.3f}}, %{{customdata[1]:.3f}}]"
                "<br>%{customdata[2]:.0f} questions<extra></extra>",
            )
        )  # fmt: skip
    first = rows[rows["n"] > 0].groupby("questions", as_index=False, sort=False).first()
    for name in against(first):
        column = f"{names.SHORTCUT_COLUMNS[name]}_hard"
        figure.add_trace(
            go.Scatter(
                x=first[column], y=[order.index(q) for q in first["questions"]], mode="markers", name=name,
                marker={"size": 11, "color": theme.GREY, "symbol": names.SHORTCUTS[name][2],
                        "line": {"width": 2, "color": theme.GREY}},
                hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(order))), ticktext=[q.replace("-0", " ").replace("-", " ") for q in order],
        range=[len(order) - 0.4, -0.6], showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_xaxes(title="hard accuracy", range=[-0.03, 1.05], dtick=0.25, zeroline=False)
    figure.update_layout(title="Hard accuracy beside the shortcuts")
    legend_below(figure, 150 + 34 * len(order))
    return figure
