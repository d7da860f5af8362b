"""Figure of the failures: are the right neurons missing when the model is wrong, or do they speak too softly?

`failure_boxes` has, per operator, the number of neurons whose heuristics the prompt satisfies (top) and their summed
direct contribution to the answer's logit (bottom), for prompts answered correctly and incorrectly; a point is a prompt.
The rank test (Mann-Whitney U, table `failure_tests`) is noted in each panel. The paper finds the number alike and the
contribution higher when the model is right (Nikankin et al. 2024, arXiv 2410.21272).
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import flags, numbers, require
from arithcirc.viz.panels import note

MEASURES = {"neurons": "associated neurons", "contribution": "their contribution to the logit"}
SIDES = {True: ("correct", "#2f7ebc", "circle"), False: ("incorrect", "#d9731a", "diamond")}
_HEIGHT = 620


def failure_boxes(failures: pd.DataFrame, tests: pd.DataFrame | None = None) -> go.Figure:
    """A row of panels per measure, a column per operator."""
    rows = require(failures, "failures", ("operator", "prompt", "correct", *MEASURES))
    present = theme.ordered(rows["operator"])
    figure = make_subplots(
        rows=2,
        cols=len(present),
        vertical_spacing=0.1,
        horizontal_spacing=0.22 / max(len(present), 2),
        subplot_titles=[theme.operator_title(o) for o in present],
    )
    figure.update_layout(template=theme.template("light"))
    figure.update_annotations(font={"size": theme.FONT_SIZE})
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        correct = flags(part, "correct")
        for row, measure in enumerate(MEASURES, start=1):
            for side in SIDES:
                _add_box(figure, (row, panel), part[correct == side], measure, side)
            figure.update_yaxes(range=_range(numbers(part, [measure])[:, 0]), row=row, col=panel)
            if (text := rank_note(tests, operator, measure)) is not None:
                note(figure, panel, text, row=row)
    figure.update_layout(
        title="Neurons of the heuristics a prompt satisfies, by whether the model answers it correctly",
        height=_HEIGHT,
        showlegend=False,
        boxgap=0.35,
    )
    figure.update_yaxes(zeroline=True)
    for row, label in enumerate(MEASURES.values(), start=1):
        figure.update_yaxes(title=label, row=row, col=1)
    return figure


def rank_note(tests: pd.DataFrame | None, operator: str, measure: str) -> str | None:
    """`rank test p = 0.031`, or that there was no test and how many prompts there were; None without a row."""
    row = rank_row(tests, operator, measure)
    if row is None:
        return None
    if pd.isna(row.get("p")):
        sides = [row.get("n_correct"), row.get("n_incorrect")]
        known = all(n is not None and pd.notna(n) for n in sides)
        return f"not tested (n = {sides[0]:.0f} and {sides[1]:.0f})" if known else "not tested"
    return f"rank test p = {theme.p_value(row['p'])}"


def rank_row(tests: pd.DataFrame | None, operator: str, measure: str) -> dict[str, Any] | None:
    """The row of `failure_tests`, or None."""
    if tests is None or not {"operator", "measure"} <= set(tests.columns):
        return None
    held = tests[(tests["operator"] == operator) & (tests["measure"] == measure)]
    return None if held.empty else {str(k): v for k, v in held.iloc[0].to_dict().items()}


def _range(values: np.ndarray) -> list[float]:
    """All values with room on top for the note."""
    held = values[np.isfinite(values)]
    low, high = (float(held.min()), float(held.max())) if held.size else (0.0, 1.0)
    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0
    return [low - 0.06 * span, high + 0.22 * span]


def _add_box(figure: go.Figure, place: tuple[int, int], rows: pd.DataFrame, measure: str, side: bool) -> None:
    if rows.empty:
        return
    name, colour, symbol = SIDES[side]
    answers = zip(rows["prompt"], rows.get("answer", rows["prompt"]), rows.get("given", rows["prompt"]), strict=True)
    figure.add_trace(
        go.Box(
            y=numbers(rows, [measure])[:, 0],
            x=[f"{name}<br>n = {len(rows)}"] * len(rows),
            name=name,
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            fillcolor="rgba(0,0,0,0)",
            line={"color": colour, "width": 1.6},
            marker={"color": colour, "size": 4, "symbol": symbol, "opacity": 0.55},
            text=[f"{p}{a}, given {g}" for p, a, g in answers],
            hovertemplate="%{text}<br>%{y:.4g}<extra></extra>",
            hoveron="points",
        ),
        row=place[0],
        col=place[1],
    )
