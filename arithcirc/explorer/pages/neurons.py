"""Page Neurons: every neuron of a run in one grid that searches, sorts and filters on the server.

The grid asks for rows as it is scrolled (AG Grid's infinite row model), with its own order and filters; the controls
above it are read with every such request, so nothing is kept here between two. A click on a row opens the neuron;
ticked rows are pinned, or switched off on page Prompt.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import dash
import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Input, Output, State, dcc, html
from dash.dependencies import ClientsideFunction
from flask import Response, request

from arithcirc.components import Neuron
from arithcirc.errors import ArithcircError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.heuristic_table import example
from arithcirc.explorer.neuron_query import SHOWN, SORT, Search, Wanted, read_sort
from arithcirc.explorer.neuron_table import NeuronTable, NoNeurons, neuron_table
from arithcirc.explorer.pages import neurons_pinned
from arithcirc.explorer.pages.neurons_columns import MARGIN, columns
from arithcirc.explorer.pins import read_pins
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme

BLOCK = 100
"""Rows asked for at a time."""
MOST_CHOSEN = 200
CONTROLS = ("q", "layer", "family", "shown", "operators")
HELP = (
    "One row per neuron and operator. The effect is the drop in logit difference (nats) when the neuron's activation "
    "at = is replaced by that on another prompt: how much it matters for the answer. The label is the heuristic "
    "whose prompts its strongest activations are about: score is the share of the two sets in common, base rate what a "
    "random map would score, q the false discovery rate. A filled dot: significant. Effects are causal, labels "
    "correlation: only a knockout shows that a heuristic is used."
)


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    try:
        main = _grid_panel(view, source)
    except NoNeurons as error:
        main = kit.empty("No neuron here", str(error))
    except ArithcircError as error:
        main = kit.problem(error)
    return dmc.Stack([main, html.Div(neurons_pinned.panel(view, source), id="neurons-pinned")], gap=12)


def _grid_panel(view: View, source: Source) -> Any:
    table = neuron_table(source)
    parts = [_controls(view, source, table)]
    if view.op not in table.operators:
        parts.append(
            kit.small(
                f"No neuron was patched for {theme.operator_title(view.op)} here: too few of its prompts are answered "
                "correctly. Choose another operator, or a later checkpoint."
            )
        )
    if not table.names:
        parts.append(
            kit.small("No neuron has a label here: compute them with ", dmc.Code(source.command("heuristics")), ".")
        )
    elif view.op in table.first:
        parts.append(kit.small(_tested(table, view.op), size="xs", mb=6))
    parts.append(html.Div(id="neurons-near"))
    found = dmc.Text(id="neurons-count", size="xs", c="dimmed", className="found")
    pinned = html.A("pinned neurons ↓", href="#neurons-pinned", className="to-pinned")
    csv = html.Button(
        "CSV", id="neurons-csv", className="quiet", title="all rows found, as a table of comma-separated values"
    )
    actions = dmc.Group([found, pinned, csv], gap=12)
    return kit.panel(
        "All neurons by patching effect", *parts, _grid(view, source, table),
        dcc.Store(id="neurons-sort"), dcc.Store(id="neurons-filter"), dcc.Store(id="neurons-open"),
        help=HELP, actions=actions,
    )  # fmt: skip


def _tested(table: NeuronTable, operator: str) -> str:
    """From which layer on labels are looked for, in words."""
    first = table.first[operator]
    from_ = f"in layers {first}..{table.layers[-1]}" if first < table.layers[-1] else f"in layer {first}"
    below = " In earlier layers the answer can hardly be read at =: their neurons are not tested." if first else ""
    return f"Heuristics of {theme.operator_title(operator)} are looked for among the important neurons {from_}.{below}"


def _hint(table: NeuronTable, operator: str) -> str:
    """Searches that find something here."""
    labels = table.names_of(operator)
    said = [next((name for name in labels if " mod " in name), labels[0])] if labels else []
    families = [theme.family_name(f) for f in table.families if f in ("modulo", "range")]
    layer = table.layers[-1]
    return ", ".join([*said, *(families[:1] if labels else []), f"L{layer}N17", f"layer {layer}"])


def _controls(view: View, source: Source, table: NeuronTable) -> Any:
    """Search, layer, family, which neurons, which operators; and what was found."""
    chosen = view.choices
    search = dmc.Autocomplete(
        id="neurons-q", value=chosen.get("q", ""), data=table.names_of(view.op)[:3000], limit=12, debounce=300,
        placeholder=_hint(table, view.op), size="xs", w=360, clearable=True, leftSection=html.Kbd("/"),
        **{"aria-label": "search neurons"},
    )  # fmt: skip
    layer = dmc.Select(
        id="neurons-layer", value=view.choice("layer", [str(n) for n in table.layers], "") or None, size="xs", w=110,
        data=[{"value": str(n), "label": f"layer {n}"} for n in table.layers], clearable=True, placeholder="any layer",
        **{"aria-label": "layer"},
    )  # fmt: skip
    family = dmc.Select(
        id="neurons-family", value=view.choice("family", list(table.families), "") or None, size="xs", w=150,
        data=[{"value": f, "label": theme.family_name(f)} for f in theme.family_order(table.families)],
        clearable=True, placeholder="any family", **{"aria-label": "family"},
    )  # fmt: skip
    shown = dmc.Select(
        id="neurons-shown", value=view.choice("shown", list(SHOWN), "all"), allowDeselect=False, size="xs", w=190,
        data=[{"value": value, "label": label} for value, label in SHOWN.items()], **{"aria-label": "which neurons"},
    )  # fmt: skip
    sign = theme.OPERATOR_SIGNS.get(view.op, view.op)
    operators = dmc.SegmentedControl(
        id="neurons-operators", value=view.choice("operators", ["one", "all"], "one"), size="xs",
        data=[{"value": "one", "label": f"{sign} only"}, {"value": "all", "label": "all operators"}],
    )  # fmt: skip
    row = dmc.Group([html.Div(search, **{"data-key": "/"}), layer, family, shown, operators], gap=8)
    return html.Div([row, _chosen_bar()], className="controls")


def _chosen_bar() -> html.Div:
    """What can be done with ticked rows; shown while there are some."""
    button = {"size": "compact-xs", "variant": "light"}
    return html.Div(
        [
            dmc.Text(id="neurons-ticked", size="xs"),
            dmc.Anchor(dmc.Button("open the first", **button), id="neurons-first", href="/neuron"),
            dmc.Anchor(dmc.Button("switch off in Prompt", **button), id="neurons-off", href="/prompt"),
            dmc.Button("pin", id="neurons-pin", **button),
            dmc.Button("untick all", id="neurons-untick", **(button | {"color": "gray"})),
        ],
        id="neurons-chosen", className="chosen", hidden=True,
    )  # fmt: skip


def _grid(view: View, source: Source, table: NeuronTable) -> dag.AgGrid:
    sort = read_sort(view.choices.get("sort", ""))
    return dag.AgGrid(
        id="neurons-grid",
        rowModelType="infinite",
        columnDefs=columns(table, sweep=source.sweep),
        defaultColDef={"sortable": True, "filter": True, "resizable": True, "minWidth": 44, "suppressMovable": True},
        getRowId="params.data.id",
        dashGridOptions={
            "animateRows": False, "headerHeight": 32, "rowHeight": 28, "theme": kit.GRID_THEME,
            "localeText": {"noRowsToShow": "Nothing to show: the line above the grid says why"},
            "cacheBlockSize": BLOCK, "maxBlocksInCache": 40, "maxConcurrentDatasourceRequests": 1,
            "infiniteInitialRowCount": min(table.total, BLOCK), "blockLoadDebounceMillis": 60, "rowBuffer": 20,
            "rowSelection": {
                "mode": "multiRow", "checkboxes": True, "headerCheckbox": False, "enableClickSelection": False,
            },
            "selectionColumnDef": {"width": 36, "minWidth": 36, "maxWidth": 36, "suppressHeaderMenuButton": True},
            "initialState": {
                "sort": {"sortModel": [{"colId": column, "sort": way} for column, way in sort]},
                "filter": {"filterModel": _filters(view.choices.get("filter", ""))},
            },
        },
        columnSize="responsiveSizeToFit",
        className="ag-theme neurons-grid",
        style={"height": f"max(340px, calc(100vh - {MARGIN}px))"},
    )  # fmt: skip


# -- what is asked for -------------------------------------------------------------------------------------------------


def wanted(
    source: Source, op: str, choices: Mapping[str, Any], sort: tuple[tuple[str, str], ...], filters: Mapping[str, Any]
) -> Wanted:
    """The page's choices as a request; what an address has wrong counts as not asked for."""
    layer, shown = str(choices.get("layer") or ""), str(choices.get("shown") or "all")
    pins = read_pins(source) if shown == "pinned" else []
    return Wanted(
        operator=None if choices.get("operators") == "all" else op,
        search=str(choices.get("q") or ""),
        layer=int(layer) if layer.isdecimal() and len(layer) < 6 else None,
        family=str(choices.get("family") or ""),
        shown=shown if shown in SHOWN else "all",
        pinned=tuple((pin.operator, pin.component) for pin in pins),
        filters=filters,
        sort=sort,
    )


def _filters(text: str) -> dict[str, Any]:
    """Filters of the grid as an address has them; none where they cannot be read."""
    try:
        held = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def _rows(context: Context, asked: Any, data: Any, *values: Any) -> tuple[Any, Any, Any]:
    """The rows a grid asked for, what was found in words, and what there is instead of nothing."""
    if not isinstance(asked, Mapping):
        return dash.no_update, dash.no_update, dash.no_update
    try:
        source, view = context.source(data), View.of(data)
        first, last = (_bound(asked.get(name)) for name in ("startRow", "endRow"))
        models = [m for m in asked.get("sortModel") or [] if isinstance(m, Mapping)]
        sort = tuple((str(m.get("colId")), str(m.get("sort"))) for m in models) or SORT
        filters = asked.get("filterModel") or {}
        choices = dict(zip(CONTROLS, values, strict=True))
        table = neuron_table(source)
        request_ = wanted(source, view.op, choices, sort, filters if isinstance(filters, Mapping) else {})
        rows, count, search = table.page(request_, first, min(max(last, first), first + 5 * BLOCK))
    except ArithcircError as error:
        return {"rowData": [], "rowCount": 0}, dmc.Text(str(error), size="xs", c="orange"), None
    pinned = {(pin.operator, pin.layer, pin.neuron): pin.note for pin in read_pins(source)}
    near = None if count or not search.label else _near(table, view, search)
    return {"rowData": [_shown(row, pinned) for row in rows], "rowCount": count}, _found(count, search.said), near


def _near(table: NeuronTable, view: View, search: Search) -> Any:
    """Labels most like one that no neuron has, and the operators whose neurons have it."""
    close, others = table.instead(view.op, search)
    said: list[Any] = ["No neuron found. "]
    if others:
        said.append("Under another operator: ")
        for o in theme.ordered(others):
            text = f"{theme.operator_title(o)} ({theme.count(others[o])})"
            said += [kit.link(text, view.url("neurons", op=o, q=search.typed)), "  "]
    if close:
        said.append("Nearest labels here: ")
        for name, n in close:
            text = f"{name} ({theme.count(n)} neuron{'' if n == 1 else 's'})"
            said += [kit.link(text, view.url("neurons", q=name)), "  "]
    return kit.small(*said, size="xs", className="near")


def _bound(given: Any) -> int:
    return min(max(given, 0), 10_000_000) if isinstance(given, int) else 0


def _found(count: int, said: str) -> str:
    many = f"{theme.count(count)} neuron{'' if count == 1 else 's'}"
    return f"{many}: {said}" if said else many


def _shown(row: dict[str, Any], pinned: Mapping[tuple[str, int, int], str]) -> dict[str, Any]:
    """A row as the browser gets it."""
    who = row["operator"], row["layer"], row["neuron"]
    return row | {
        "id": f"{who[0]} {who[1]} {who[2]}",
        "name": str(Neuron(who[1], who[2])),
        "pinned": pinned.get(who, "") or "pinned" if who in pinned else None,
    }


def _csv(context: Context) -> Response:
    """All rows of an address, as a download."""
    view = View.parse("neurons", request.query_string.decode("utf-8", "replace"))
    try:
        source = context.library.open(view)
        choices = {name: view.choices.get(name, "") for name in CONTROLS}
        op = view.op if view.op in source.operators else next(iter(source.operators), "")
        sort = read_sort(view.choices.get("sort", ""))
        asked = wanted(source, op, choices, sort, _filters(view.choices.get("filter", "")))
        lines = neuron_table(source).csv(asked)
    except ArithcircError as error:
        return Response(f"{error}\n", 400, mimetype="text/plain")
    name = "".join(c if c.isalnum() else "_" for c in f"neurons_{source.title}")[:80]
    head = {"Content-Disposition": f"attachment; filename={quote(name)}.csv"}
    return Response(lines, mimetype="text/csv", headers=head)


# -- ticked rows -------------------------------------------------------------------------------------------------------


def _ticked(rows: Any) -> list[tuple[str, Neuron]]:
    """Ticked rows as operator and neuron; what is none of them is left out."""
    found = []
    for row in rows[:MOST_CHOSEN] if isinstance(rows, list) else []:
        parts = str(row.get("id", "")).split(" ") if isinstance(row, Mapping) else []
        if (
            len(parts) == 3
            and all(p.isdecimal() and len(p) < 8 for p in parts[1:])
            and parts[0] in theme.OPERATOR_NAMES
        ):
            found.append((parts[0], Neuron(int(parts[1]), int(parts[2]))))
    return found


def _choose(context: Context, rows: Any, data: Any) -> tuple[bool, str, str, str]:
    """The bar of ticked rows: hidden or not, its text, and where its links lead.

    Switched off are those of the first one's operator, on a prompt that its label holds of.
    """
    chosen, view = _ticked(rows), View.of(data)
    if not chosen:
        return True, "", "/neuron", "/prompt"
    op, first = chosen[0]
    label = next((str(r["heuristic"]) for r in rows if isinstance(r, Mapping) and r.get("heuristic")), None)
    off = list(dict.fromkeys(str(neuron) for operator, neuron in chosen if operator == op))
    said = f"{len(chosen)} ticked: {', '.join(str(n) for _, n in chosen[:3])}{' …' if len(chosen) > 3 else ''}"
    return (
        False, said, view.url("neuron", op=op, layer=first.layer, neuron=first.index),
        view.url("prompt", op=op, off=",".join(off), prompt=example(context.source(data), op, label)),
    )  # fmt: skip


def _pin(context: Context, clicks: Any, rows: Any, data: Any) -> tuple[Any, Any]:
    """Pin ticked rows; where pins cannot be saved, hand them over as a file."""
    chosen = _ticked(rows)
    if not clicks or not chosen:
        return dash.no_update, dash.no_update
    source, view = context.source(data), View.of(data)
    download = neurons_pinned.pinned_or_file(source, chosen)
    return neurons_pinned.panel(view, source), download


def register(context: Context) -> None:
    """Rows, ticked rows, the address, the CSV."""
    app = context.dash
    controls = [f"neurons-{name}" for name in CONTROLS]
    app.callback(
        Output("neurons-grid", "getRowsResponse"), Output("neurons-count", "children"),
        Output("neurons-near", "children"),
        Input("neurons-grid", "getRowsRequest"), State("view", "data"), *(State(c, "value") for c in controls),
        prevent_initial_call=True,
    )(lambda asked, data, *values: _rows(context, asked, data, *values))  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("arithcirc_neurons", "refresh"),
        Output("neurons-open", "data"), *(Input(c, "value") for c in controls),
        prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("arithcirc_neurons", "order"),
        Output("neurons-sort", "data"), Output("neurons-filter", "data"), Input("neurons-grid", "getRowsRequest"),
        prevent_initial_call=True,
    )  # fmt: skip
    for control in controls:
        kit.remember(context, control)
    kit.remember(context, "neurons-sort", "data")
    kit.remember(context, "neurons-filter", "data")
    app.clientside_callback(
        ClientsideFunction("arithcirc_neurons", "open"),
        Output("url", "pathname", allow_duplicate=True), Output("url", "search", allow_duplicate=True),
        Input("neurons-grid", "cellClicked"), State("view", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.callback(
        Output("neurons-chosen", "hidden"), Output("neurons-ticked", "children"), Output("neurons-first", "href"),
        Output("neurons-off", "href"),
        Input("neurons-grid", "selectedRows"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda rows, data: _choose(context, rows, data))  # fmt: skip
    app.callback(
        Output("neurons-pinned", "children"), Output("download", "data", allow_duplicate=True),
        Input("neurons-pin", "n_clicks"), State("neurons-grid", "selectedRows"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda clicks, rows, data: _pin(context, clicks, rows, data))  # fmt: skip
    for button, action in (("neurons-untick", "untick"), ("neurons-csv", "csv")):
        app.clientside_callback(
            ClientsideFunction("arithcirc_neurons", action),
            Input(button, "n_clicks"), State("view", "data"), prevent_initial_call=True,
        )  # fmt: skip
    neurons_pinned.register(context)
    app.server.add_url_rule("/_neurons.csv", "neurons-csv", lambda: _csv(context))


PAGE = Page("neurons", "Neurons", "Which neurons do the arithmetic, and by which heuristic?", layout, register)
