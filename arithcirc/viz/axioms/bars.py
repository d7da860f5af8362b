"""What the study was expected to show, and whether it does: one row a bar, the tick is what was wanted."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.frames import require
from arithcirc.viz.panels import legend_below

_COLOURS = {True: ("holds", "#1b9e77", "circle"), False: ("does not hold", "#d6604d", "x")}


def bars_figure(bars: pd.DataFrame) -> go.Figure:
    """Measured means against what was wanted, dots for single seeds. Raises RequestError where none is known."""
    rows = require(bars, "bars", ("bar", "sign", "wanted", "measured", "values", "holds"))
    rows = require(rows[rows["measured"].notna()], "bars", ("bar",))
    figure = go.Figure(layout={"template": theme.template("light")})
    for y, (wanted, sign) in enumerate(zip(rows["wanted"], rows["sign"], strict=True)):
        ends = (wanted, 1.0) if sign == ">=" else (min(0.0, float(rows["measured"].min())), wanted)
        figure.add_shape(
            type="rect", x0=ends[0], x1=ends[1], y0=y - 0.32, y1=y + 0.32, fillcolor=theme.GREY, opacity=0.16,
            line_width=0, layer="below",
        )  # fmt: skip
        figure.add_shape(type="line", x0=wanted, x1=wanted, y0=y - 0.36, y1=y + 0.36, line_width=2)
    holds = rows["holds"].astype("boolean").fillna(False).to_numpy(dtype=bool)
    at = np.arange(len(rows))
    seeds = [(v, y) for y, values in zip(at, rows["values"], strict=True) if len(values) > 1 for v in values]
    if seeds:
        figure.add_trace(
            go.Scatter(
                x=[v for v, _ in seeds], y=[y for _, y in seeds], mode="markers", name="single seeds",
                marker={"size": 5, "color": theme.GREY}, hovertemplate="seed: %{x:.3f}<extra></extra>",
            )
        )  # fmt: skip
    for value, (name, colour, symbol) in _COLOURS.items():
        mine = holds == value
        if mine.any():
            figure.add_trace(
                go.Scatter(
                    x=rows["measured"].to_numpy()[mine], y=at[mine], mode="markers", name=name,
                    marker={"size": 11, "color": colour, "symbol": symbol},
                    customdata=[f"{s} {w:.2f}".replace(">=", "≥").replace("<=", "≤")
                                for s, w in zip(rows["sign"][mine], rows["wanted"][mine], strict=True)],
                    hovertemplate="%{x:.3f}, wanted %{customdata}<extra></extra>",
                )
            )  # fmt: skip
    figure.update_yaxes(
        tickvals=at, ticktext=[str(b).replace(" - ", " − ") for b in rows["bar"]], range=[len(rows) - 0.4, -0.6],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_xaxes(title="accuracy, or difference of accuracies", zeroline=True, range=[None, 1.03])
    figure.update_layout(title="What was expected, and what was measured")
    legend_below(figure, 160 + 30 * len(rows))
    return figure
