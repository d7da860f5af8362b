"""The panels of page Neuron beside its map: labels, the same neuron under other operators and at other checkpoints."""

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
import numpy as np
import pandas as pd
from dash import dcc, html

from arithcirc.components import Neuron
from arithcirc.explorer import follow, kit
from arithcirc.explorer.pages.neuron_body import named
from arithcirc.explorer.pages.neuron_facts import Facts, labels, marked, over_steps, rows_of
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import StepAxis
from arithcirc.viz.frames import flags
from arithcirc.viz.neuron_maps import plain_small
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
        "minWidth": 62, "cellRenderer": "NeuronSmall",
    }  # fmt: skip


def other_operators(source: Source, view: View, facts: Facts) -> Any:
    """The same neuron under every operator: a small map, its effect and best label; a click opens it there."""
    cards = [_card(source, view, facts, operator) for operator in source.operators]
    return kit.panel(
        "The same neuron under each operator", dmc.SimpleGrid(cards, cols=len(cards) or 1, spacing=8, mt=6), h="100%",
        help="The map its best label there was scored on, in per cent of its largest value; K where it has no label. "
        "Click one to open the neuron under that operator.",
    )  # fmt: skip


def _card(source: Source, view: View, facts: Facts, operator: str) -> Any:
    mine = labels(source, operator, facts.neuron) if operator != facts.operator else facts.labels
    other = Facts(operator, facts.neuron, None, mine)
    label, held = other.label(""), source.neuron_map(operator, facts.neuron)
    effect = _effect_of(source, operator, facts.neuron)
    picture: Any = html.Div("no stored map", className="no-map")
    if held is not None:
        figure = plain_small(held, marked(label))
        figure["layout"] |= {"template": theme.template(kit.scheme()), "height": None}
        config = kit.CONFIG | {"staticPlot": True}
        picture = dcc.Graph(
            figure=kit.typed(figure), config=config, className="thumb", responsive=True, style={"height": "104px"}
        )
    lines = [
        html.B(theme.operator_title(operator), className="operator-name", title=theme.operator_title(operator)),
        None if source.sweep else picture,
        html.Div(effect if effect else "no effect measured", className="muted"),
        html.Div(
            f"{label['heuristic']} ({theme.number(label['score'], 2)})" if label else "no label", className="muted"
        ),
    ]
    here = operator == facts.operator
    where = view.url(op=operator, layer=facts.neuron.layer, neuron=facts.neuron.index, label=None)
    return dmc.Anchor(lines, href=where, underline="never", className="operator-card here" if here else "operator-card")


def _effect_of(source: Source, operator: str, neuron: Neuron) -> str:
    """Effect and rank in its layer, in words."""
    if not source.has("neurons"):
        return ""
    rows = rows_of(source, "neurons", operator, neuron)
    held = rows[(rows["method"] == "exact") & (rows["metric"] == "logit_diff")]
    if held.empty:
        return ""
    row = held.iloc[0]
    return f"{theme.number(row['effect'])} nats, rank {int(row['rank'])}"


def checkpoints(source: Source, facts: Facts, label: Mapping[str, Any] | None) -> Any:
    """In a sweep: effect and labels at every checkpoint; a click opens one."""
    if not source.sweep or source.checkpoint is None:
        return None
    held = [c for c in source.checkpoints if c.model == source.checkpoint.model]
    steps = tuple(int(c.step) if np.isfinite(c.step) else None for c in held)
    axis = StepAxis(tuple(c.revision for c in held), steps)
    effects = over_steps(source, facts.operator, facts.neuron, "neurons")
    rows = over_steps(source, facts.operator, facts.neuron, "heuristics")
    title = "Across checkpoints"
    if effects.empty and rows.empty:
        return kit.panel(title, kit.small("No checkpoint of this sweep measured this neuron under this operator."))
    chosen = str(label["heuristic"]) if label is not None else ""
    figure = neuron_steps(axis, effects, rows, chosen=chosen, here=source.checkpoint.revision)
    return kit.panel(
        title, kit.small(_steps_line(effects, rows, len(held))),
        kit.graph(
            follow.leads_to(figure, "neuron", {"revision": "customdata"}), id="neuron-steps",
            name=f"{named(facts)}_checkpoints",
        ),
        help="Above, the exact effect at each checkpoint (filled: important there); below, its labels at the "
        "threshold, darker for a higher score. Click a point to open that checkpoint; the live model "
        "computes the maps of each.",
    )  # fmt: skip


def _steps_line(effects: pd.DataFrame, rows: pd.DataFrame, total: int) -> str:
    important = int(flags(effects, "important").sum()) if len(effects) else 0
    held = rows[flags(rows, "matched")]["heuristic"].nunique() if len(rows) else 0
    return (
        f"important at {important} of {total} checkpoints; {held} different label{'' if held == 1 else 's'} "
        "at the threshold at one of them or more"
    )
