"""The head of page Documents: what was asked, what the model says, what the answer needs and which method finds it."""

from typing import Any

import dash_mantine_components as dmc
import pandas as pd
from dash import html

from arithcirc.explorer import kit
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.influence import names, ranked
from arithcirc.viz.influence.births import WHEN
from arithcirc.viz.influence.highlight import shows
from arithcirc.viz.influence.lift import mechanism
from arithcirc.viz.influence.mechanism_words import first_row, measured, obeying
from arithcirc.viz.influence.ranked import QUERY, Asked
from arithcirc.viz.influence.study import Study

FOUND_HELP = (
    "Documents among each method’s top ones that hold a statement the query needs, and the rank of the first. Random "
    "shows what luck gives here: a method that does no better has found nothing."
)


def head(view: View, study: Study, asked: Asked, method: str) -> Any:
    """The panel about the query, or about the mechanism."""
    if asked.table != QUERY:
        return _mechanism(view, study, asked)
    row = asked.row
    parts: list[Any] = [_said(asked), *_facts(asked)]
    found = ranked.hits_by_method(study, asked)
    side = _found(view, asked, found, method, study) if len(found) else _no_needs(asked)
    title = [
        names.group(str(row.get("group") or "")),
        f" · {str(row['task']).replace('_', ' ')}" if row.get("task") else "",
    ]
    columns = dmc.Grid(
        [dmc.GridCol(parts, span={"base": 12, "lg": 6.4}), dmc.GridCol(side, span={"base": 12, "lg": 5.6})], gutter=20
    )
    return kit.panel(["Query: ", *title], columns, help=QUERY_HELP)


QUERY_HELP = (
    "The documents below drive what the model itself says after the prompt, shown in colour: green where it is right, "
    "orange where it is wrong. Only the completion counts, the prompt is given."
)


def _said(asked: Asked) -> html.Div:
    """The prompt with the model's own completion, and the true answer where it differs."""
    row, correct = asked.row, asked.correct
    how = {True: "right", False: "wrong", None: ""}[correct]
    mark = {True: " ✓", False: " ✗", None: ""}[correct]
    lines: list[Any] = [
        html.Div([
            html.Span(str(row.get("prompt", ""))), html.B(str(row.get("completion", "")), className=how),
            html.Span(mark, className=how),
        ], className="doc-prompt")
    ]  # fmt: skip
    if correct is False:
        lines.append(html.Div(["true answer: ", html.Code(str(row.get("answer", "")))], className="muted"))
    return html.Div(lines)


def _facts(asked: Asked) -> list[Any]:
    """One line of numbers, and what the answer needs."""
    row = asked.row
    nats, tokens = row.get("nats"), row.get("tokens")
    told = [html.Code(asked.name)]
    if tokens is not None and not pd.isna(tokens):
        many = f"{int(tokens)} token{'' if int(tokens) == 1 else 's'}"
        told.append(html.Span(f"{many} of completion, {theme.number(nats, 2)} nats"))
    if row.get("norm") is not None:
        told.append(html.Span(f"gradient norm {names.score(row['norm']).lstrip('+')}"))
    lines = [html.Div(told, className="doc-about doc-numbers")]
    if asked.needs:
        needs = [html.Span(shows(need), className="doc-need") for need in asked.needs]
        lines.append(html.Div([html.Span("needs", className="muted"), *needs], className="doc-needs"))
    return lines


def _found(view: View, asked: Asked, found: pd.DataFrame, method: str, study: Study) -> Any:
    """Method by method: how many top documents hold what is needed."""
    many = len(asked.needs) > 1
    head = html.Tr([
        html.Th("found by"),
        html.Th("first at", className="n", title="rank of the first document that holds what is needed"),
        html.Th("with a step" if many else "hold it", className="n"),
        *([html.Th("with all", className="n")] if many else []),
    ])  # fmt: skip
    rows = []
    for row in found.to_dict("records"):
        first = "none" if pd.isna(row["first"]) else f"{int(row['first']):,}"
        link = kit.link(
            names.method(row["method"]), view.url(query=asked.name, method=row["method"], n=None), size="xs"
        )
        cells = [html.Td(link), html.Td(first, className="n"), html.Td(f"{row['some']} of {row['n']}", className="n")]
        cells += [html.Td(f"{row['every']}", className="n")] if many else []
        rows.append(html.Tr(cells, className="at-operator" if row["method"] == method else ""))
    holding = _holding(study, asked)
    said = [kit.small(holding, size="xs", mt=4)] if holding else []
    title = dmc.Group(
        [html.Span("Is the answer among the top?", className="ov-map-title"), kit.hint(FOUND_HELP)], gap=6
    )
    return html.Div([title, html.Table([html.Thead(head), html.Tbody(rows)], className="plain doc-found"), *said])


def _holding(study: Study, asked: Asked) -> str:
    """How many documents of the corpus hold each need, as the findings counted them."""
    if not study.has("answers"):
        return ""
    rows = study.rows("answers", {"query": asked.name})
    if rows.empty or not {"need", "documents"} <= set(rows.columns):
        return ""
    many = rows.drop_duplicates("need").set_index("need")["documents"]
    told = [f"{shows(str(need))} in {int(n):,}" for need, n in many.items()]
    return f"In the whole corpus: {', '.join(told)} document{'' if list(many) == [1] else 's'}."


def _no_needs(asked: Asked) -> Any:
    text = "No statement is listed that the answer of this query needs, so none can be looked for in documents."
    if str(asked.row.get("group") or "").startswith("control"):
        text = "A control: its answer stands in the prompt, so no document is needed for it."
    return kit.small(text)


def _mechanism(view: View, study: Study, asked: Asked) -> Any:
    """What was measured of a neuron or of a heuristic."""
    row = asked.row
    operator = str(row.get("operator", ""))
    neuron = str(row.get("what")) == "neuron"
    heuristic = str(row.get("heuristic") or "")
    if neuron:
        layer, index = int(row["layer"]), int(row["neuron"])
        where = view.url("neuron", op=operator, layer=layer, neuron=index, query=None, method=None, end=None, n=None)
        name: Any = kit.link(f"L{layer}N{index} →", where)
    else:
        where = view.url("heuristics", op=operator, query=None, method=None, end=None, n=None)
        name = kit.link("page Heuristics →", where)
    said = measured(row)
    told = [html.Span(f"heuristic {heuristic or '–'}"), html.Span(theme.operator_title(operator)), name]
    if row.get("revision"):
        told.append(html.Span(f"at {row['revision']}"))
    title = f"Mechanism: {mechanism(asked.name)}"
    parts = [
        dmc.Text(said, size="sm", mt=4),
        html.Div(told, className="doc-about doc-numbers"),
        *obeys(study, asked),
        *_births(study, asked),
    ]
    return kit.panel(
        title, *parts,
        help="Influence on what a neuron does instead of on an answer: on its contrast, the mean inside the heuristic "
        "minus that outside. The interval of an AUC takes documents as independent, so it is rather too narrow. "
        "Yellow: equations of its operator of which the heuristic holds.",
    )  # fmt: skip


def obeys(study: Study, asked: Asked) -> list[Any]:
    """Whether documents whose equations obey the heuristic come first, where that was computed."""
    if not study.has("mechanism_retrieval"):
        return []
    row = first_row(study.rows("mechanism_retrieval", {"query": asked.name}))
    text = obeying(row) if row else ""
    return [kit.small(text, mt=4)] if text else []


def _births(study: Study, asked: Asked) -> list[Any]:
    """The mechanism at checkpoints before and after it appeared, where that was computed."""
    if not study.has("births"):
        return []
    rows = study.rows("births", {"query": asked.name}, order="step").drop_duplicates("step")
    if rows.empty:
        return []
    told = [
        f"{row['revision']} ({WHEN.get(str(row['when']), row['when'])}): contrast {theme.number(row['value'], 2)}, "
        f"r with the final influence vector {theme.number(row['r'], 2)}"
        for row in rows.to_dict("records")
    ]
    return [html.Ul([html.Li(text) for text in told], className="ov-limits")]
