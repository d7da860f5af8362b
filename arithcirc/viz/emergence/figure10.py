"""The paper's three analyses over training (Nikankin et al. 2024, arXiv 2410.21272, figure 10), against a reference.

`overlap_curves`   (a) of what the reference has (pairs, neurons, heuristics), the share that a checkpoint has too;
                   dotted, what random sets of the same sizes would share
`kept_curves`      (b) F when, in the layers with heuristics, only some neurons work: all labelled ones here, those with
                   a pair the reference also has (kept), the rest (new), random ones as many as kept, or none
`knockout_curves`  (c) accuracy after ablating, per layer, up to so many neurons whose heuristic holds of the prompt:
                   the best of all, of the kept or of the new ones, each against as many random important neurons
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.emergence.data import LABELS, WHOSE, SweepData
from arithcirc.viz.emergence.lines import BLUE, GREEN, ORANGE, Style, finish, line, mark_absent, panels, spread_band
from arithcirc.viz.faithfulness import value_range
from arithcirc.viz.frames import numbers, require

MEASURES = {"faithfulness": "F", "accuracy": "accuracy"}
HEADS = {"all": "all heads", "circuit": "the circuit’s heads"}
RED = theme.CHOSEN
_LIGHT_BLUE, _LIGHT_ORANGE = "#79b4e3", "#e3a877"

OVERLAP = {
    "pairs": Style("(neuron, heuristic) pairs", RED, width=2.6, size=8),
    "pairs_tested": Style("pairs, of unimportant neurons too", "#e08fb0", "dash", "circle-open", 1.5, 5),
    "neurons": Style("important neurons", BLUE, "solid", "square"),
    "heuristics": Style("heuristics", GREEN, "solid", "triangle-up"),
}
"""What of the reference is looked for, how it is drawn."""

KEPT = {
    "all": Style("all labelled neurons", RED, rank=1),
    "kept": Style("kept: with a pair of the reference", BLUE, "solid", "square", rank=2),
    "new": Style("new: the other labelled ones", ORANGE, "dash", "triangle-up", rank=3),
    "random_kept": Style("random neurons, as many as kept", _LIGHT_BLUE, "dot", "square-open", 1.5, 5, rank=4),
    "random_new": Style("random neurons, as many as new", _LIGHT_ORANGE, "dot", "triangle-up-open", 1.5, 5, rank=5),
    "none": Style("none", theme.GREY, "longdash", "line-ew", 1.2, 0, rank=6),
}
ARMS = {
    "targeted": Style("best neurons whose heuristic holds", RED, rank=1),
    "random": Style("random, as many", theme.GREY, "dot", "circle-open", 1.5, 5, rank=2),
    "kept": Style("best kept ones", BLUE, "solid", "square", rank=3),
    "random_kept": Style("random, as many as kept", _LIGHT_BLUE, "dot", "square-open", 1.5, 5, rank=4),
    "new": Style("best new ones", ORANGE, "dash", "triangle-up", rank=5),
    "random_new": Style("random, as many as new", _LIGHT_ORANGE, "dot", "triangle-up-open", 1.5, 5, rank=6),
}


def overlap_curves(data: SweepData, model: str, prompts: str, labels: str) -> go.Figure:
    """(a): share of the reference's pairs, neurons and heuristics against checkpoint, with what chance would give."""
    rows = data.rows("overlap", model=model, prompts=prompts)
    rows = require(rows, "overlap", ("operator", "what", "labels", "share", "expected"))
    rows = rows[rows["labels"].isin([labels, ""]) | rows["labels"].isna()]
    rows = with_prompts(data, rows, model, prompts)
    rows = require(rows[rows["what"].isin(list(OVERLAP))], "overlap", ("operator",))
    figure, present = panels(rows)
    axis = data.model(model).axis
    for panel, operator in enumerate(present, start=1):
        of_operator = rows[rows["operator"] == operator]
        for what, style in OVERLAP.items():
            part = of_operator[of_operator["what"] == what]
            facts = {"shared": "{}", "at_reference": "of {} of the reference", "here": "{} here",
                     "expected": "chance {}"}  # fmt: skip
            line(figure, panel, axis, part, "share", style, facts=facts, n="n_prompts")
            if what != "pairs_tested":
                _chance(figure, panel, axis, part, "expected", f"{style.name}: chance", style.colour, "dot")
            if what == "pairs" and "given_neurons" in part.columns:
                name = "pairs: chance, given the neurons"
                _chance(figure, panel, axis, part, "given_neurons", name, style.colour, "dashdot")
        mark_absent(figure, panel, data, model, operator, -0.06)
    title = f"(a) Share of what the reference has that is there already: {_with(labels, prompts)}"
    return finish(
        figure, axis, title, "share of the reference’s", panels=len(present), height=440, y_range=(-0.1, 1.05)
    )


def _with(labels: str, prompts: str) -> str:
    """The choices a figure was drawn with, for its title."""
    return f"{LABELS[labels]} labels, {WHOSE[prompts]}"


def _chance(
    figure: go.Figure, panel: int, axis: Any, rows: pd.DataFrame, column: str, name: str, colour: str, dash: str
) -> None:
    line(figure, panel, axis, rows, column, Style(name, colour, dash, width=1.2, size=0), n="n_prompts")


def with_prompts(data: SweepData, rows: pd.DataFrame, model: str, prompts: str) -> pd.DataFrame:
    """The rows with how many prompts are behind the circuit of their checkpoint, `n_prompts`."""
    steps = data.rows("steps", model=model, prompts=prompts)
    if "n_prompts" not in steps.columns:
        return rows
    behind = steps[["operator", "place", "n_prompts"]].drop_duplicates(["operator", "place"])
    return rows.merge(behind, on=["operator", "place"], how="left")


def kept_curves(data: SweepData, model: str, prompts: str, labels: str, measure: str, heads: str) -> go.Figure:
    """(b): F with only some neurons against checkpoint."""
    where = {"model": model, "prompts": prompts, "labels": labels, "heads": heads}
    rows = require(data.rows("kept_faithfulness", **where), "kept_faithfulness", ("operator", "neurons", measure))
    figure, present = panels(rows)
    axis = data.model(model).axis
    value = numbers(rows, [measure])[:, 0]
    sem = 2 * np.nan_to_num(numbers(rows, ["faithfulness_sem"])[:, 0])
    rows = rows.assign(sem_low=value - sem, sem_high=value + sem)
    low, high = value_range(rows, measure)
    facts = {"n_neurons": "{} neurons", "n": "{} prompts", "undefined": "{} undefined"}
    for panel, operator in enumerate(present, start=1):
        of_operator = rows[rows["operator"] == operator]
        for name, style in reversed(KEPT.items()):  # the first ones on top
            part = of_operator[of_operator["neurons"] == name]
            if name.startswith("random"):
                spread_band(figure, panel, part, measure, style, axis=axis)
            else:
                bars = ("sem_low", "sem_high") if measure == "faithfulness" and style.size else None
                line(figure, panel, axis, part, measure, style, facts=facts, bounds=bars)
        mark_absent(figure, panel, data, model, operator, low)
    title = f"(b) {MEASURES[measure]} with only these neurons in the layers with heuristics: {_with(labels, prompts)}"
    return finish(figure, axis, title, MEASURES[measure], panels=len(present), height=430, y_range=(low - 0.05, high))


def knockout_curves(data: SweepData, model: str, prompts: str, labels: str, per_layer: str, ablation: str) -> go.Figure:
    """(c): accuracy after ablation by prompt against checkpoint, with 95% intervals of the arms that are not random."""
    where = {"model": model, "prompts": prompts, "labels": labels, "ablation": ablation, "per_layer": int(per_layer)}
    rows = require(data.rows("knockouts_by_prompt", **where), "knockouts_by_prompt", ("operator", "arm", "accuracy"))
    figure, present = panels(rows)
    axis = data.model(model).axis
    for panel, operator in enumerate(present, start=1):
        of_operator = rows[rows["operator"] == operator]
        for arm, style in reversed(ARMS.items()):
            part = of_operator[of_operator["arm"] == arm]
            random = arm.startswith("random")
            facts = {"neurons": "{} neurons ablated", "n": "{} prompts"} | ({"p": "p = {}"} if random else {})
            bounds = None if random or "low" not in part.columns else ("low", "high")
            line(figure, panel, axis, part, "accuracy", style, facts=facts, bounds=bounds)
        mark_absent(figure, panel, data, model, operator, -0.06)
    title = f"(c) Accuracy after {ablation} ablation of up to {per_layer} neurons per layer: {_with(labels, prompts)}"
    return finish(figure, axis, title, "accuracy", panels=len(present), height=430, y_range=(-0.1, 1.06))
