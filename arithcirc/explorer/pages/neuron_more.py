"""The panels of page Neuron beside its map: labels, the same neuron under other operators and at other checkpoints."""

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
import numpy as np
import pandas as pd

from arithcirc.explorer import follow, kit
from arithcirc.explorer.context import Context
from arithcirc.explorer.pages import neuron_small
from arithcirc.explorer.pages.neuron_body import named
from arithcirc.explorer.pages.neuron_facts import Facts, over_steps
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import StepAxis
from arithcirc.viz.frames import flags
from arithcirc.viz.neuron_steps import neuron_steps

LABEL_HELP = (
    "Heuristics whose prompts the neuron's strongest (top) or lowest (bottom) activations fall into. Score: share "
    "of the strongest |H| prompts that are in H. Base rate: the score of a map that ignores H. p: how often the "
    "values' names, shuffled, give any heuristic of its kind as good a score; p shift: the same with the names "
    "shifted in a circle; q: false discovery rate over all tests. Click one to see it in the maps."
)

MARKS = "({significant: '●', matched: '○'})[params.value] || '–'"
FIXED = "params.value == null ? '–' : d3.format('.2f')(params.value)"


def label_table(source: Source, facts: Facts) -> Any:
    """Every label of the neuron; a click shows it in the maps."""
    title = "Labels"
    if not len(facts.labels):
        if not source.has("heuristics"):
            text, command = "No neuron of this run has been labelled:", source.command("heuristics")
            return kit.panel(title, kit.small(text), dmc.Code(command, block=True), help=LABEL_HELP, h="100%")
        text = "Only important neurons, from the first heuristics layer on, are matched; this one was not, here."
        return kit.panel(title, kit.small(text), help=LABEL_HELP, h="100%")
    rows = facts.labels.copy()
    rows["family"] = [theme.family_name(str(f)) for f in rows["family"]]
    rows["said"] = np.where(rows["significant"], "significant", np.where(rows["matched"], "matched", "below threshold"))
    rows = rows.replace({np.nan: None})
    columns = [
        {"field": "said", "headerName": "", "width": 34, "minWidth": 34, "tooltipField": "said"} | _shown(MARKS),
        {"field": "heuristic", "minWidth": 140, "flex": 2}, {"field": "family", "width": 104, "minWidth": 90},
        {"field": "end", "width": 70, "minWidth": 66}, _number("score", "score", FIXED),
        _small("base_rate", "base", "base rate: the score of a map that ignores the heuristic"),
        _small("p", "p", "names shuffled"), _small("p_shift", "p shift", "names shifted in a circle"),
        _small("q", "q", "false discovery rate over all tests"),
    ]  # fmt: skip
    kept = ["key", "heuristic", "family", "end", "kind", "score", "base_rate", "p", "p_shift", "q", "said"]
    table = kit.grid(
        rows[[c for c in kept if c in rows.columns]], columns, id="neuron-labels", name=f"{named(facts)}_labels",
        height=min(300, 52 + 28 * len(rows)), getRowId="params.data.key",
        defaultColDef={"sortable": True, "resizable": True, "suppressHeaderMenuButton": True},
    )  # fmt: skip
    return kit.panel(
        f"Labels ({facts.carried} at the threshold)",
        table,
        kit.small("● significant (q below the level) · ○ at the score threshold only", size="xs", mt=4),
        help=LABEL_HELP,
        h="100%",
    )


def _shown(expression: str) -> dict[str, Any]:
    """How a column shows its values; its CSV has them as they are."""
    return {"valueFormatter": {"function": expression}, "useValueFormatterForExport": False}


def _number(field: str, title: str, expression: str) -> dict[str, Any]:
    return {"field": field, "headerName": title, "type": "numericColumn", "width": 62, "minWidth": 58} | _shown(
        expression
    )


def _small(field: str, title: str, explained: str) -> dict[str, Any]:
    """A probability: three decimals, or a power of ten when it is small (assets/neurons.js)."""
    return {
        "field": field, "headerName": title, "headerTooltip": explained, "type": "numericColumn", "width": 64,
        "minWidth": 62, "cellRenderer": "NeuronSmall", "cellStyle": {"paddingLeft": "3px", "paddingRight": "5px"},
    }  # fmt: skip


def other_operators(context: Context, source: Source, view: View, facts: Facts) -> Any:
    """The same neuron under every operator: a small map, its effect and best label; a click opens it there."""
    places = neuron_small.operators(source, view, facts)
    return kit.panel(
        "The same neuron under each operator",
        *neuron_small.panel(context, view, places, facts.neuron, "operators"), h="100%",
        actions=neuron_small.go(context, view, places, facts.neuron, "operators"),
        help="The map its best label there was scored on, in per cent of its largest value; K where it has no label. "
        "Click one to open the neuron under that operator. Maps that are not stored are drawn by the live model.",
    )  # fmt: skip


def checkpoints(context: Context, source: Source, view: View, facts: Facts, label: Mapping[str, Any] | None) -> Any:
    """Effect, labels and small maps at every checkpoint of the model, for a run from a sweep that holds its model."""
    title, sweep = "Across checkpoints", neuron_small.sweep_of(context, source)
    if sweep is None or sweep.checkpoint is None:
        text = "No sweep of this model is among the folders shown here. Make one, and start the explorer on both:"
        parts = neuron_small.panel(context, view, (), facts.neuron, "checkpoints")
        parts.append(neuron_small.go(context, view, (), facts.neuron, "checkpoints"))
        return kit.panel(title, kit.small(text), dmc.Code("arithcirc sweep", block=True), *parts)
    places = neuron_small.steps(source, sweep, view, facts, label)
    return kit.panel(
        title, *_over_steps(source, sweep, view, facts, label),
        *neuron_small.panel(context, view, places, facts.neuron, "checkpoints"),
        actions=neuron_small.go(context, view, places, facts.neuron, "checkpoints"),
        help="Above, the exact effect at each checkpoint (filled: important there); below, its labels at the "
        "threshold, darker for a higher score. Then its map at each checkpoint, in per cent of the largest value "
        "there, with the chosen heuristic outlined; a sweep stores none, so the live model of each checkpoint draws "
        "them. Click a point or a map to open that checkpoint.",
    )  # fmt: skip


def _over_steps(source: Source, sweep: Source, view: View, facts: Facts, label: Mapping[str, Any] | None) -> list[Any]:
    """The figure of effects and labels over the sweep's steps, where it measured the neuron."""
    at = sweep.checkpoint
    held = [c for c in sweep.checkpoints if at is not None and c.model == at.model]
    steps = tuple(int(c.step) if np.isfinite(c.step) else None for c in held)
    axis = StepAxis(tuple(c.revision for c in held), steps)
    effects = over_steps(sweep, facts.operator, facts.neuron, "neurons")
    rows = over_steps(sweep, facts.operator, facts.neuron, "heuristics")
    parts: list[Any] = []
    model = held[0].model if held else ""
    here = at.revision if at is not None else ""
    if not source.sweep:
        href = view.url(run=sweep.key, model=model, revision=here)
        text = f"From sweep {sweep.key}, which holds this model at {len(held)} checkpoints. "
        parts.append(kit.small(text, kit.link("Open this neuron there", href, id="neuron-sweep")))
    if effects.empty and rows.empty:
        return [*parts, kit.small("No checkpoint of the sweep measured this neuron under this operator.")]
    chosen = str(label["heuristic"]) if label is not None else ""
    figure = neuron_steps(axis, effects, rows, chosen=chosen, here=here)
    to = follow.leads_to(figure, "neuron", {"revision": "customdata"}, fixed={"run": sweep.key, "model": model})
    graph = kit.graph(to, id="neuron-steps", name=f"{named(facts)}_checkpoints")
    return [*parts, kit.small(_steps_line(effects, rows, len(held))), graph]


def _steps_line(effects: pd.DataFrame, rows: pd.DataFrame, total: int) -> str:
    important = int(flags(effects, "important").sum()) if len(effects) else 0
    held = rows[flags(rows, "matched")]["heuristic"].nunique() if len(rows) else 0
    return (
        f"important at {important} of {total} checkpoints; {held} different label{'' if held == 1 else 's'} "
        "at the threshold at one of them or more"
    )
