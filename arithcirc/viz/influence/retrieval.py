"""Which method finds the documents that state the fact: AUC of documents that hold a need against all others.

`retrieval_figure`  mean AUC over queries by method with its 95% interval, a panel per group of queries; filled for
                    queries answered rightly, hollow for the others. One half is chance

The AUC is the chance that a document which holds what the query needs ranks above one that does not.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.influence import names
from arithcirc.viz.panels import interval, legend_below


def retrieval_figure(groups: pd.DataFrame) -> go.Figure:
    """One panel per group, one line per method."""
    rows = require(groups, "retrieval_groups", ("group", "correct", "method", "n", "auc"))
    held, methods = names.in_order(rows["group"], names.GROUPS), names.in_order(rows["method"], names.METHODS)
    told = set[str]()
    figure = make_subplots(
        rows=1, cols=len(held), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[names.group(g) for g in held],
    )  # fmt: skip
    for panel, group in enumerate(held, start=1):
        for correct in names.ANSWERED:
            mine = rows["correct"] == correct
            part = rows[(rows["group"] == group) & mine].drop_duplicates("method")
            if len(part):
                _points(figure, panel, part, methods, correct, named=correct not in told)
                told.add(correct)
        figure.add_vline(x=0.5, line_dash="dash", line_color=theme.GREY, line_width=1.2, row=1, col=panel)
    title = "How well documents that hold what a query needs are ranked above the others (AUC, 95%)"
    figure.update_layout(template=theme.template("light"), title=title)
    figure.update_annotations(font_size=theme.FONT_SIZE)
    legend_below(figure, 150 + 40 * len(methods))
    figure.update_xaxes(range=[-0.03, 1.03], title="AUC", zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(methods))), ticktext=[names.method(m) for m in methods],
        range=[len(methods) - 0.4, -0.6], showgrid=False, zeroline=False,
    )  # fmt: skip
    return figure


def _points(
    figure: go.Figure, panel: int, part: pd.DataFrame, methods: list[str], correct: str, *, named: bool
) -> None:
    auc, low, high, n = numbers(part, ["auc", "low", "high", "n"]).T
    shift = -0.12 if correct == "right" else 0.12
    colours = [names.METHODS.get(m, (m, theme.GREY, ""))[1] for m in part["method"]]
    figure.add_trace(
        go.Scatter(
            x=auc, y=[methods.index(m) + shift for m in part["method"]], mode="markers",
            error_x=interval(auc, *np.where(np.isfinite([low, high]), [low, high], auc), color=theme.GREY),
            marker={
                "size": 10, "color": colours, "symbol": names.SYMBOLS[correct], "line": {"width": 2, "color": colours}
            },
            name=names.ANSWERED[correct], legendgroup=correct, showlegend=named, customdata=n,
            text=[names.method(m) for m in part["method"]],
            hovertemplate="%{text}<br>AUC %{x:.3f} over %{customdata:.0f} queries<extra></extra>",
        ),
        row=1, col=panel,
    )  # fmt: skip
