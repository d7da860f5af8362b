"""The left side of page Documents: all queries, or all mechanisms, of the study; a click opens one."""

from typing import Any

import dash_mantine_components as dmc
import pandas as pd
from dash import html

from arithcirc.explorer import kit
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.frames import column
from arithcirc.viz.influence import names
from arithcirc.viz.influence.ranked import MECHANISM, QUERY
from arithcirc.viz.influence.study import Study

HELP = {
    QUERY: "Questions put to the model. ✓ and ✗ say whether its own completion is right: influence is that on what it "
    "says, right or wrong. Click a row to see its documents.",
    MECHANISM: "A neuron’s activation on its heuristic’s prompts minus elsewhere, or the summed contribution of all "
    "neurons that carry a heuristic to the answer’s logit: the contrast. Click a row to see the documents with the "
    "largest influence on it.",
}
WHAT = {QUERY: "queries", MECHANISM: "mechanisms"}
_FIXED = {"function": "params.value == null ? '–' : d3.format('.2f')(params.value)"}


def panel(view: View, study: Study, table: str, chosen: str) -> Any:
    """The list with its switch between queries and mechanisms."""
    rows = query_rows(view, study) if table == QUERY else mechanism_rows(view, study)
    columns = _QUERY_COLUMNS if table == QUERY else _MECHANISM_COLUMNS
    at = [i for i, name in enumerate(rows["query"]) if name == chosen]
    listed = rows.drop(columns=["query"]).astype(object)
    listed = listed.where(listed.notna(), None)
    grid = kit.grid(
        listed, columns, id="documents-list", name=f"influence_{WHAT[table]}", height=600,
        getRowId="params.data.href", scrollTo={"rowIndex": at[0], "rowPosition": "middle"} if at else None,
        defaultColDef={"sortable": True, "filter": True, "resizable": True, "minWidth": 40},
        rowClassRules={"ov-chosen-row": f"params.data.href === {_quoted(rows['href'][at[0]])}"} if at else {},
        className="ag-theme-quartz documents-grid",
    )  # fmt: skip
    held = [t for t in (QUERY, MECHANISM) if study.has(t)]
    switch = dmc.SegmentedControl(
        id="documents-what", value=table, data=[{"value": t, "label": WHAT[t]} for t in held], size="xs",
        style={} if len(held) > 1 else {"display": "none"},
    )  # fmt: skip
    title = f"{len(rows):,} {WHAT[table]}" if len(rows) != 1 else f"1 {WHAT[table][:-1].replace('rie', 'ry')}"
    body = html.Div(grid, className="documents-list")
    return kit.panel(title, body, help=HELP[table], actions=switch, className="panel has-actions documents-left")


def _quoted(text: str) -> str:
    """A text in an expression of the grid; an address has neither quotes nor backslashes unescaped."""
    return "'" + text.replace("\\", "%5C").replace("'", "%27") + "'"


def _href(view: View, query: str) -> str:
    held = {name: view.choices.get(name) for name in ("method", "end")}
    return view.url("documents", query=query, what=None, n=None, **held).replace("'", "%27")


def query_rows(view: View, study: Study) -> pd.DataFrame:
    """Queries by group and task: columns query, href, mark, group, task, prompt, completion, nats."""
    table = study.table(QUERY)
    group = column(table, "group", default="").fillna("").astype(str)
    marks = {True: "✓", False: "✗", None: ""}
    rows = pd.DataFrame({
        "query": table["query"].astype(str),
        "href": [_href(view, str(q)) for q in table["query"]],
        "mark": [marks[names.answered(c)] for c in column(table, "correct", default=None)],
        "group": [names.group(g) for g in group],
        "task": [str(t or "").replace("_", " ") for t in column(table, "task", default="")],
        "prompt": table["prompt"].astype(str),
        "completion": column(table, "completion", default="").astype(str),
        "nats": pd.to_numeric(column(table, "nats")),
    })  # fmt: skip
    places = {names.group(g): i for i, g in enumerate(names.in_order(group, names.GROUPS))}
    order = rows["group"].map(places).to_numpy().argsort(kind="stable")
    return rows.iloc[order].reset_index(drop=True)


def mechanism_rows(view: View, study: Study) -> pd.DataFrame:
    """Mechanisms as the study has them: columns query, href, operator, name, heuristic, value."""
    table = study.table(MECHANISM)
    name = [
        f"L{layer}N{neuron}" if what == "neuron" else "all"
        for what, layer, neuron in zip(table["what"], table["layer"], table["neuron"], strict=True)
    ]
    return pd.DataFrame({
        "query": table["query"].astype(str),
        "href": [_href(view, str(q)) for q in table["query"]],
        "operator": [theme.OPERATOR_SIGNS.get(str(o), str(o)) for o in table["operator"]],
        "name": name,
        "heuristic": column(table, "heuristic", default="").astype(str),
        "value": pd.to_numeric(column(table, "value")),
    })  # fmt: skip


_ENDS_WITH = {
    "function": "params.value && params.value.length > 14 ? '… ' + params.value.split(' ').slice(-1)[0] : params.value"
}
"""A long completion by its last word: its beginning says what the prompt says."""
_QUERY_COLUMNS: list[dict[str, Any]] = [
    {"field": "mark", "headerName": "", "width": 38, "cellClassRules": {"right": "params.value == '✓'",
     "wrong": "params.value == '✗'"}, "filter": False},
    {"field": "prompt", "headerName": "prompt", "flex": 1, "minWidth": 120, "tooltipField": "prompt"},
    {"field": "completion", "headerName": "says", "width": 108, "minWidth": 100, "tooltipField": "completion",
     "valueFormatter": _ENDS_WITH, "useValueFormatterForExport": False},
    {"field": "group", "headerName": "group", "width": 88, "minWidth": 86, "tooltipField": "group"},
    {"field": "task", "hide": True}, {"field": "nats", "hide": True},
]  # fmt: skip
_MECHANISM_COLUMNS: list[dict[str, Any]] = [
    {"field": "operator", "headerName": "", "width": 36, "filter": False},
    {"field": "name", "headerName": "neuron", "width": 84, "cellClass": "ov-cell-link"},
    {"field": "heuristic", "headerName": "heuristic", "flex": 1, "minWidth": 120, "tooltipField": "heuristic"},
    {"field": "value", "headerName": "contrast", "width": 96,
     "headerTooltip": "mean inside the heuristic minus outside", "valueFormatter": _FIXED, "type": "rightAligned",
     "filter": False, "useValueFormatterForExport": False},
]  # fmt: skip
