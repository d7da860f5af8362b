"""Page Heuristics: every label of an operator, who carries it, and whether ablating its neurons breaks its own prompts.

Above, the table of all heuristics beside the scatter of accuracy inside against outside; a row or a point chooses one.
Below, what the chosen one says in words, and its neurons.
"""

from typing import Any

import dash
import dash_ag_grid as dag
import dash_mantine_components as dmc
import pandas as pd
from dash import Input, Output, State, dcc, html
from dash.dependencies import ClientsideFunction

from arithcirc.errors import ArithcircError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.heuristic_table import heuristic_table
from arithcirc.explorer.pages import heuristics_chosen
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.inside_outside import enough, scatter
from arithcirc.viz.knockouts import ABLATIONS, FEWEST

HELP = (
    "A heuristic is a condition on the prompt. A neuron carries it when its strongest prompts are the heuristic's own: "
    "score is the share in common, base rate what a random map scores. Matching is correlation; the ablation asks "
    "whether prompts inside the heuristic break when its neurons are replaced, while those outside do not."
)
ZOOMS = {"all": "all", "near": "near (1, 1)"}
HELP_SCATTER = (
    "Each mark is a heuristic, at the accuracy left on prompts outside it and inside it when its neurons are ablated "
    "(1 before). Far below the diagonal: only its own prompts break, so these neurons do this heuristic's work. On "
    "it: nothing in particular breaks. Grey squares: as many random important neurons of the same layers."
)


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    table, problem = heuristic_table(source, view.op, ablation_of(view))
    if table.empty:
        return kit.empty(
            f"No heuristic of {theme.operator_title(view.op)} here",
            "no important neuron's map reaches the score threshold, or too few prompts are answered correctly to look "
            "for any: choose another operator, or a later checkpoint",
        )
    families = theme.family_order(table["family"])
    family = view.choice("family", families, "")
    chosen = view.choices.get("label", "")
    chosen = chosen if chosen in set(table["heuristic"]) else str(table["heuristic"].iloc[0])
    listed = kit.panel(
        f"{len(table):,} heuristics of {theme.operator_title(view.op)}",
        _controls(view, families, family, problem),
        _grid(table, family, chosen, known=problem is None),
        help=HELP, actions=html.Button("CSV", className="quiet", **_csv_of("heuristics-grid", "heuristics")),
    )  # fmt: skip
    right = (
        kit.panel(
            "Accuracy inside against outside",
            _graph(table, family, chosen, near(view)),
            help=HELP_SCATTER,
            actions=dmc.SegmentedControl(
                id="heuristics-zoom",
                value=view.choice("zoom", list(ZOOMS), "all"),
                size="xs",
                data=[{"value": name, "label": label} for name, label in ZOOMS.items()],
            ),
        )
        if problem is None
        else kit.panel("No accuracies by heuristic", kit.small(problem, mt=6))
    )
    return dmc.Stack(
        [
            dmc.Grid([dmc.GridCol(listed, span=7), dmc.GridCol(right, span=5)], gutter=12),
            html.Div(heuristics_chosen.panel(view, source, table, chosen, problem is None), id="heuristics-chosen"),
            dcc.Store(id="heuristics-label", data=chosen),
        ],
        gap=12,
    )


def near(view: View) -> bool:
    """The address asks for the points near (1, 1)."""
    return view.choices.get("zoom") == "near"


def ablation_of(view: View) -> str:
    """The ablation an address asks for."""
    return view.choice("ablation", list(ABLATIONS), "zero")


def _csv_of(grid: str, name: str) -> dict[str, str]:
    return {"data-csv": grid, "data-name": name, "title": f"download {name}.csv"}


def _controls(view: View, families: list[str], family: str, problem: str | None) -> dmc.Group:
    search = dmc.TextInput(
        id="heuristics-q", value=view.choices.get("q", ""), placeholder="mod 10, op2, 150..180", size="xs", w=200,
        debounce=200, leftSection=html.Kbd("/"), **{"aria-label": "search heuristics"},
    )  # fmt: skip
    pick = dmc.Select(
        id="heuristics-family", value=family or None, clearable=True, placeholder="any family", size="xs", w=150,
        data=[{"value": f, "label": theme.family_name(f)} for f in families], **{"aria-label": "family"},
    )  # fmt: skip
    ablation = dmc.SegmentedControl(
        id="heuristics-ablation", value=ablation_of(view), data=list(ABLATIONS), size="xs",
        disabled=problem is not None,
    )  # fmt: skip
    return dmc.Group(
        [html.Div(search, **{"data-key": "/"}), pick, html.Span("ablation", className="control-label"), ablation],
        gap=8,
        className="controls",
    )


_RIGHT = {"type": "rightAligned", "filter": "agNumberColumnFilter", "sortingOrder": ["desc", "asc"]}


def _number(field: str, header: str, width: int, explained: str, digits: int | None = 2) -> dict[str, Any]:
    show = "params.value" if digits is None else f"d3.format('.{digits}f')(params.value)"
    return {
        "field": field, "headerName": header, "width": width, "headerTooltip": explained,
        "valueFormatter": {"function": f"params.value == null ? '–' : {show}"}, **_RIGHT,
    }  # fmt: skip


def _grid(table: pd.DataFrame, family: str, chosen: str, *, known: bool) -> dag.AgGrid:
    colours = {name: colour for name, (_, colour, _) in theme.FAMILIES.items()}
    label = {
        "field": "heuristic", "headerName": "heuristic", "width": 152, "cellRenderer": "HeuristicName",
        "cellRendererParams": {"colours": colours}, "filter": "agTextColumnFilter",
        "headerTooltip": "filled dot: significant for at least one neuron",
    }  # fmt: skip
    columns = [
        label,
        _number("matched", "neurons", 72, "important neurons with this label at the score threshold", None),
        _number(
            "significant", "significant", 88, "of these, those whose label is significant (q below the level)", None
        ),
        _number(
            "best", "best score", 62, "largest score of a neuron for it: share of its strongest (or lowest) prompts"
        ),
        {**_number("base_rate", "base rate", 66, "score that a random map would have"), "cellRenderer": "NeuronSmall"},
    ]
    if known:
        columns += [
            _number("inside", "inside", 66, "accuracy left on prompts inside, when its neurons are ablated"),
            _number("outside", "outside", 70, "accuracy left on prompts outside"),
            _number("gap", "gap", 62, "outside − inside: damage to its own prompts in particular"),
            {**_number("p", "p", 62, "McNemar, its neurons against random ones inside"), "cellRenderer": "NeuronSmall"},
        ]
    return dag.AgGrid(
        id="heuristics-grid",
        rowData=rows(table, family),
        columnDefs=columns,
        defaultColDef={
            "sortable": True, "filter": True, "resizable": True, "minWidth": 44, "suppressMovable": True,
            "wrapHeaderText": True,
        },
        getRowId="params.data.heuristic",
        selectedRows={"ids": [chosen]},
        scrollTo={"rowId": chosen, "rowPosition": "middle"},
        dashGridOptions={
            "animateRows": False, "headerHeight": 40, "rowHeight": 28, "theme": kit.GRID_THEME,
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
        },
        columnSize="responsiveSizeToFit",
        className="ag-theme neurons-grid",
        style={"height": 424},
    )  # fmt: skip


def rows(table: pd.DataFrame, family: str) -> list[dict[str, Any]]:
    """Rows for the browser, of one family if given; what is not known is None."""
    shown = table[table["family"] == family] if family else table
    return [
        {str(k): None if pd.isna(v) else v for k, v in row.items()} for row in shown.astype(object).to_dict("records")
    ]


def _graph(table: pd.DataFrame, family: str, chosen: str, close: bool) -> html.Div:
    shown = table[table["family"] == family] if family else table
    drawn = int(enough(shown).sum())
    left = int(shown["inside"].notna().sum()) - drawn
    said = f"{drawn:,} drawn" + (f"; {left:,} with fewer than {FEWEST} prompts on a side are not" if left else "")
    figure = scatter(shown, chosen=chosen, height=452, near=close)
    return html.Div(
        [
            kit.graph(figure, id="heuristics-scatter", name="heuristics_in_out"),
            kit.small(said, id="heuristics-drawn", size="xs"),
        ]
    )


# -- callbacks ---------------------------------------------------------------------------------------------------------


def _table(context: Context, ablation: Any, data: Any) -> tuple[View, Source, pd.DataFrame, str | None]:
    source, view = context.source(data), View.of(data)
    chosen = str(ablation) if ablation in ABLATIONS else "zero"
    return view, source, *heuristic_table(source, view.op, chosen)


def _list(context: Context, ablation: Any, family: Any, data: Any) -> Any:
    table = _table(context, ablation, data)[2]
    return rows(table, str(family or ""))


def _draw(context: Context, ablation: Any, family: Any, label: Any, zoom: Any, data: Any) -> tuple[Any, Any]:
    table = _table(context, ablation, data)[2]
    both = _graph(table, str(family or ""), str(label or ""), zoom == "near").children
    return both[0].children[1].figure, both[1].children


def _tell(context: Context, ablation: Any, label: Any, data: Any) -> Any:
    view, source, table, problem = _table(context, ablation, data)
    view = View(view.page, view.run, view.model, view.revision, view.op, {"ablation": str(ablation or "zero")})
    try:
        return heuristics_chosen.panel(view, source, table, str(label or ""), problem is None)
    except ArithcircError as error:
        return kit.problem(error)


def _searched(text: Any) -> Any:
    """The quick filter of the grid."""
    patch = dash.Patch()
    patch["quickFilterText"] = str(text or "")[:200]
    return patch


def register(context: Context) -> None:
    """The choice of a heuristic, ablation, family and search."""
    app = context.dash
    app.clientside_callback(
        ClientsideFunction("arithcirc_heuristics", "choose"),
        Output("heuristics-label", "data"), Output("heuristics-grid", "selectedRows"),
        Input("heuristics-scatter", "clickData"), Input("heuristics-grid", "cellClicked"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.callback(
        Output("heuristics-grid", "rowData"),
        Input("heuristics-ablation", "value"), Input("heuristics-family", "value"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda ablation, family, data: _list(context, ablation, family, data))  # fmt: skip
    app.callback(
        Output("heuristics-scatter", "figure"), Output("heuristics-drawn", "children"),
        Input("heuristics-ablation", "value"), Input("heuristics-family", "value"), Input("heuristics-label", "data"),
        Input("heuristics-zoom", "value"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda *asked: _draw(context, *asked))  # fmt: skip
    app.callback(
        Output("heuristics-chosen", "children"),
        Input("heuristics-ablation", "value"), Input("heuristics-label", "data"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda ablation, label, data: _tell(context, ablation, label, data))  # fmt: skip
    app.callback(
        Output("heuristics-grid", "dashGridOptions"), Input("heuristics-q", "value"),
    )(_searched)  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("arithcirc_heuristics", "open"),
        Output("url", "pathname", allow_duplicate=True), Output("url", "search", allow_duplicate=True),
        Input("heuristics-neurons", "cellClicked"), State("heuristics-label", "data"), State("view", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    for control in ("heuristics-q", "heuristics-family", "heuristics-ablation", "heuristics-zoom"):
        kit.remember(context, control)
    kit.remember(context, "heuristics-label", "data")


PAGE = Page("heuristics", "Heuristics", "Which conditions do neurons stand for, and are they needed?", layout, register)
