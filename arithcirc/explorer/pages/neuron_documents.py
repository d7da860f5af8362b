"""The panel of page Neuron about training: the documents with the largest influence on this neuron's rule."""

from typing import Any

import dash_mantine_components as dmc
from dash import html

from arithcirc.components import Neuron
from arithcirc.errors import ArithcircError
from arithcirc.explorer import kit
from arithcirc.explorer.pages.documents_parts import document, missing, shares
from arithcirc.explorer.pages.documents_query import obeys
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz.influence import ranked
from arithcirc.viz.influence.lift import counts
from arithcirc.viz.influence.mechanism_words import end_hint
from arithcirc.viz.influence.study import Study, command_line

TITLE = "Documents with the largest influence on this neuron’s rule"
SHOWN = 4
HELP = (
    "Influence of every training document on the neuron’s activation on its heuristic’s prompts minus elsewhere, "
    "its contrast. An estimate to first order, from this checkpoint. "
    "Yellow: equations of its operator of which the heuristic holds."
)


def panel(view: View, source: Source, operator: str, neuron: Neuron) -> Any:
    """The top documents and their kinds, or why there are none and what computes them; nothing for a sweep."""
    if source.sweep:
        return None
    try:
        study = source.study
        if study is None:
            text = "Which training text has the largest influence on this neuron’s rule was not computed. "
            text += "It needs the corpus of the training:"
            return missing(TITLE, text, "\n".join(command_line(s, {}, source.model) for s in ("fit", "score")))
        return _found(view, study, operator, neuron)
    except ArithcircError as error:
        return kit.panel(TITLE, kit.small(str(error), mt=4))


def _found(view: View, study: Study, operator: str, neuron: Neuron) -> Any:
    name = f"neuron:{operator}:{neuron}"
    if not study.has("mechanisms") or not study.has(ranked.TOPS[ranked.MECHANISM]):
        return missing(TITLE, "The influence study has no mechanisms yet.", study.command("mechanisms"))
    held = study.table("mechanisms")
    if not (held["query"].astype(str) == name).any():
        return kit.panel(TITLE, _others(view, study, held[held["what"] == "neuron"], operator), help=HELP)
    asked = ranked.find(study, name)
    method = ranked.methods(study, asked.table)[0]
    found = ranked.ranked(study, asked, method=method, at_most=SHOWN)
    kinds = ranked.kinds(study, asked, method=method)
    table = shares(counts(kinds, study.corpus("kind")), "kind", len(kinds))
    largest = max((abs(d.score) for d in found), default=0.0)
    rows = html.Ol([document(d, largest, brief=True) for d in found], className="docs brief")
    heuristic = str(asked.row.get("heuristic") or "")
    side = [html.Span(f"Kinds among the top {len(kinds):,}", className="ov-map-title"), table]
    columns = dmc.Grid(
        [dmc.GridCol(rows, span={"base": 12, "md": 7.4}), dmc.GridCol(side, span={"base": 12, "md": 4.6}, mt=8)],
        gutter=24,
    )
    said = f"For its heuristic {heuristic}: " if heuristic else ""
    link = kit.link("all its documents →", view.url("documents", op=operator, query=name))
    first = f"the first {len(found)} of {len(kinds):,} kept, {end_hint(asked.row, 'top')}."
    return kit.panel(TITLE, kit.small(said, first), *obeys(study, asked), columns, help=HELP, actions=link)


def _others(view: View, study: Study, held: Any, operator: str) -> Any:
    """This neuron was not measured: which were."""
    if held.empty:
        return kit.small("The influence study measured no neuron.")
    mine = held[held["operator"] == operator]
    shown = mine if len(mine) else held
    links = [
        kit.link(f"L{layer}N{index}", view.url("neuron", op=op, layer=layer, neuron=index, label=None), size="sm")
        for op, layer, index in zip(shown["operator"], shown["layer"], shown["neuron"], strict=True)
    ][:12]
    text = "This neuron was not among those whose influence was computed. Measured under "
    where = "this operator" if len(mine) else "other operators"
    return html.Div([kit.small(f"{text}{where}:", mt=4), dmc.Group(links, gap=10, mt=4)])
