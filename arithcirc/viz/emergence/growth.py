"""Accuracy, circuits and families over training steps.

`accuracy_curves`  accuracy on prompts of the training split and on held-out ones where the split is known, on all
                   prompts tried otherwise; what always giving the most frequent answer would score is dotted
`circuit_curves`   F of the chosen circuit on prompts it was not chosen on, +- 2 standard errors, with the mean of
                   random circuits of the nearest size; or how large it is: heads, neurons, pairs
`family_bars`      labelled neurons (or pairs) of each family, stacked: one with labels of two families counts in both
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.emergence.data import SweepData
from arithcirc.viz.emergence.lines import BLUE, GREEN, ORANGE, PURPLE, Style, finish, line, mark_absent, named, panels
from arithcirc.viz.faithfulness import value_range
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.panels import level

MEASURES = {"faithfulness": "F", "heads": "heads", "important": "neurons", "pairs_matched": "pairs"}
"""What `circuit_curves` can draw."""
COUNTS = {"neurons": "neurons", "pairs": "pairs"}

_ACCURACY = {
    "accuracy": Style("all prompts tried", BLUE, size=6),
    "accuracy_train": Style("prompts in the training split", theme.GREY, "dot", "square", size=6),
    "accuracy_held_out": Style("held-out prompts", ORANGE, "solid", "diamond", size=7),
    "base_rate": Style("what the most frequent answer scores", theme.GREY, "longdash", width=1.2, size=0),
    "given_share": Style("share of its most common output", PURPLE, "dot", width=1.2, size=0),
}
_GROUPS: dict[str, dict[str, Style]] = {
    "heads": {"heads": Style("heads in the circuit", PURPLE)},
    "important": {
        "important": Style("important neurons", theme.GREY, symbol="square"),
        "labelled_matched": Style("with a matched label", BLUE, "dash", "triangle-up"),
        "labelled_significant": Style("with a significant label", GREEN),
    },
    "pairs_matched": {
        "pairs_matched": Style("matched pairs", BLUE, "dash", "triangle-up"),
        "pairs_significant": Style("significant pairs", GREEN),
    },
}
_Y = {"heads": "heads", "important": "neurons", "pairs_matched": "(neuron, heuristic) pairs"}


def accuracy_curves(data: SweepData, model: str) -> go.Figure:
    """Accuracy against checkpoint, one panel per operator. Own prompts: every legal or tried one."""
    rows = require(data.rows("steps", model=model, prompts="own"), "steps", ("operator", "accuracy"))
    figure, present = panels(rows)
    axis = data.model(model).axis
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        split = "accuracy_held_out" in part.columns and part["accuracy_held_out"].notna().any()
        for column, style in _ACCURACY.items():
            if column not in part.columns or (column == "accuracy" and split):
                continue
            count = {"accuracy": "n", "accuracy_held_out": "n_held_out"}.get(column)
            line(figure, panel, axis, part, column, style, n=count)
        mark_absent(figure, panel, data, model, operator, -0.06)
    title = "Accuracy over training"
    return finish(figure, axis, title, "accuracy", panels=len(present), height=390, y_range=(-0.1, 1.05))


def circuit_curves(data: SweepData, model: str, prompts: str, measure: str) -> go.Figure:
    """F, or a size, of the chosen circuits against checkpoint, one panel per operator."""
    rows = require(data.rows("steps", model=model, prompts=prompts), "steps", ("operator",))
    figure, present = panels(rows)
    axis = data.model(model).axis
    if measure == "faithfulness":
        return _faithfulness(data, figure, rows, model, present)
    top = 0.0
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        for column, style in _GROUPS[measure].items():
            if column in part.columns:
                line(figure, panel, axis, part, column, style, n=None)
                top = float(np.nanmax([top, *numbers(part, [column])[:, 0], 1.0]))
    for panel, operator in enumerate(present, start=1):
        mark_absent(figure, panel, data, model, operator, -0.05 * top)
    title = f"How large it is: {MEASURES[measure]}"
    return finish(figure, axis, title, _Y[measure], panels=len(present), y_range=(-0.09 * top, 1.06 * top))


def _faithfulness(data: SweepData, figure: go.Figure, rows: pd.DataFrame, model: str, present: list[str]) -> go.Figure:
    require(rows, "steps", ("faithfulness",))
    axis = data.model(model).axis
    value = numbers(rows, ["faithfulness"])[:, 0]
    sem = 2 * np.nan_to_num(numbers(rows, ["faithfulness_sem"])[:, 0])
    rows = rows.assign(low=value - sem, high=value + sem)
    low, high = value_range(rows, "faithfulness")
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        style = Style("chosen circuit, ± 2 standard errors", theme.operator_colour(operator))
        facts = {"heads": "{} heads", "n_prompts": "{} prompts"}
        line(figure, panel, axis, part, "faithfulness", style, bounds=("low", "high"), n="n_prompts", facts=facts)
        if "random_faithfulness" in part.columns:
            random = Style("random circuits of that size, mean", theme.GREY, "dot", "square", 1.5, 5)
            line(figure, panel, axis, part, "random_faithfulness", random, n=None)
        level(figure, panel, float(data.setting("circuit", "target", 0.9)), "target")
        mark_absent(figure, panel, data, model, operator, low)
    title = "Faithfulness of the chosen circuits, on prompts they were not chosen on"
    return finish(figure, axis, title, "F", panels=len(present), y_range=(low - 0.05, high))


def family_bars(data: SweepData, model: str, prompts: str, labels: str, count: str) -> go.Figure:
    """Neurons or pairs by family against checkpoint, stacked, one panel per operator; evenly spaced."""
    rows = require(
        data.rows("families", model=model, prompts=prompts, labels=labels), "families", ("operator", "family", count)
    )
    figure, present = panels(rows)
    axis = data.model(model).axis
    for family in theme.family_order(rows["family"].unique()):
        name, colour, _ = theme.FAMILIES.get(family, (family, theme.GREY, ""))
        for panel, operator in enumerate(present, start=1):
            part = rows[(rows["operator"] == operator) & (rows["family"] == family)].drop_duplicates("place")
            values = numbers(part.set_index("place").reindex(range(len(axis))), [count])[:, 0]
            if not np.nansum(values):
                continue
            figure.add_trace(
                go.Bar(
                    x=list(range(len(axis))),
                    y=values,
                    marker={"color": colour, "line": {"width": 0}},
                    text=axis.labels,
                    textposition="none",
                    hovertemplate=f"{name}<br>%{{text}}: %{{y}} {count}<extra></extra>",
                    name=name,
                    legendgroup=family,
                    showlegend=not named(figure, name),
                ),
                row=1,
                col=panel,
            )
    title = f"Heuristic families over training: {labels} labels"
    figure.update_layout(barmode="stack", bargap=0.15)
    return finish(figure, axis, title, count, panels=len(present), height=420, ways=("even",))
