"""Which heads and MLPs are enough: removing them one by one, and what the rest answers, beside random circuits."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.frames import flags, has, require
from arithcirc.viz.panels import interval, legend_below

NEEDED = ("opening", "questions", "circuit", "draw", "heads", "mlps", "n", "faithfulness", "accuracy", "low", "high")
_APART = {"full": 0.0, "found": -0.14, "without": 0.14, "random": 0.28}


def faithfulness_figure(table: pd.DataFrame, circuit: pd.DataFrame | None = None, *, opening: str) -> go.Figure:
    """Left F while parts are removed, middle F and right accuracy by questions, which the circuit was not chosen on."""
    rows = require(table, "faithfulness", NEEDED, {"opening": opening})
    removed = pd.DataFrame()
    if circuit is not None and has({"circuit": circuit}, "circuit", "removed", "faithfulness_after", "in_circuit"):
        removed = circuit[circuit["opening"] == opening]
    figure = make_subplots(
        rows=1, cols=3, horizontal_spacing=0.09, column_widths=[0.36, 0.32, 0.32],
        subplot_titles=["Faithfulness while parts are removed", "Faithfulness by questions", "Accuracy by questions"],
    )  # fmt: skip
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}} for _ in range(3)]
    )
    if len(removed):
        _removal(figure, removed)
    order = list(dict.fromkeys(rows["questions"]))
    for panel, column in ((2, "faithfulness"), (3, "accuracy")):
        for name, (title, colour, symbol) in names.CIRCUITS.items():
            part = rows[rows["circuit"] == name]
            if part.empty or (name == "full" and column == "faithfulness"):
                continue
            value, low, high = (part[c].to_numpy(dtype=float) for c in (column, "low", "high"))
            figure.add_trace(
                go.Scatter(
                    x=value, y=[order.index(q) + _APART[name] for q in part["questions"]], mode="markers",
                    name=title, legendgroup=name, showlegend=panel == 3,
                    marker={"color": colour, "symbol": symbol, "size": 6 if name == "random" else 10,
                            "line": {"width": 1 if name == "random" else 2, "color": colour}},
                    error_x=interval(value, low, high) if name == "found" and column == "accuracy" else None,
                    customdata=part[["questions", "heads", "mlps"]].to_numpy(),
                    hovertemplate=f"{title}<br>%{{customdata[0]}}: %{{x:.3f}}<br>%{{customdata[1]}} heads, "
                    "%{customdata[2]} MLPs<extra></extra>",
                ),
                row=1, col=panel,
            )  # fmt: skip
        figure.update_yaxes(
            tickvals=list(range(len(order))), ticktext=[q.replace("-0", " ").replace("-", " ") for q in order],
            range=[len(order) - 0.4, -0.6], showgrid=False, zeroline=False, row=1, col=panel,
        )  # fmt: skip
    figure.update_xaxes(title="F", row=1, col=2)
    figure.update_xaxes(title="accuracy", range=[0.3, 1.03], zeroline=False, row=1, col=3)
    figure.update_layout(title="The circuit: what is enough, and whether anything else would be")
    legend_below(figure, 460)
    return figure


def _removal(figure: go.Figure, rows: pd.DataFrame) -> None:
    """F against the number of parts that are left."""
    rows = rows.sort_values("removed")
    left = len(rows) - rows["removed"].to_numpy()
    known = rows["faithfulness_after"].notna().to_numpy()
    figure.add_trace(
        go.Scatter(
            x=left[known], y=rows["faithfulness_after"][known], mode="lines+markers", showlegend=False,
            line={"color": theme.GREY, "width": 1.6}, marker={"size": 5}, customdata=rows["part"][known],
            hovertemplate="%{x} parts left, last removed %{customdata}<br>F %{y:.3f}<extra></extra>",
        ),
        row=1, col=1,
    )  # fmt: skip
    size = int(flags(rows, "in_circuit").sum())
    figure.add_vline(x=size, line_width=1.5, line_dash="dash", line_color="#2f7ebc", row=1, col=1)
    figure.add_annotation(
        x=size, y=0.02, yref="y domain", xanchor="left", text=f" circuit: {size} parts", showarrow=False,
        font={"size": theme.SMALL}, row=1, col=1,
    )  # fmt: skip
    figure.update_xaxes(title="heads and MLPs left", zeroline=False, row=1, col=1)
    figure.update_yaxes(title="F", row=1, col=1)
