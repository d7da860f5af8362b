"""Controls and figures that lead to another address: a click on a cell opens what it shows, a choice redraws the page.

`leads_to` writes into a figure where its points lead; `follow` registers the click. `choose` registers a control whose
value becomes a parameter of the address and draws the page anew, for choices that change what other controls offer;
`shown` holds what these controls stand at, so that drawing a page is not taken for a choice.
All of it happens in the browser (assets/follow.js), so it costs no request before the page itself.
"""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from dash import Input, Output, dcc
from dash.dependencies import ClientsideFunction, State

from arithcirc.explorer.context import Context


def leads_to(
    figure: go.Figure,
    page: str,
    parameters: Mapping[str, str],
    *,
    values: Mapping[str, Mapping[str, str]] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> go.Figure:
    """A click on a point of the figure opens `page` with parameters read off the point.

    `parameters` says for each parameter which of the point's `x`, `y`, `text` or `customdata.0` it is; `values` turns
    words on an axis into parameter values; `fixed` are the same for every point (None drops one from the address).
    """
    meta = {"page": page, "parameters": dict(parameters), "values": dict(values or {}), "fixed": dict(fixed or {})}
    return figure.update_layout(meta=meta, clickmode="event")


def follow(context: Context, graph: str) -> None:
    """Register the clicks of a graph whose figure says where they lead."""
    context.dash.clientside_callback(
        ClientsideFunction("follow", "point"),
        Output("url", "pathname", allow_duplicate=True), Output("url", "search", allow_duplicate=True),
        Input(graph, "clickData"), State(graph, "figure"), State("view", "data"),
        prevent_initial_call=True,
    )  # fmt: skip


def follow_rows(context: Context, grid: str) -> None:
    """Register clicks on a grid whose rows are identified by their address (`getRowId="params.data.href"`)."""
    context.dash.clientside_callback(
        ClientsideFunction("follow", "row"),
        Output("url", "pathname", allow_duplicate=True), Output("url", "search", allow_duplicate=True),
        Input(grid, "cellClicked"),
        prevent_initial_call=True,
    )  # fmt: skip


def shown(page: str, values: Mapping[str, Any], *, drops: Mapping[str, list[str]] | None = None) -> dcc.Store:
    """What the page's redrawing controls show, and which parameters each makes void; part of the page's layout."""
    return dcc.Store(id=f"{page}-shown", data={"values": dict(values), "drops": dict(drops or {})})


def choose(context: Context, component: str, prop: str = "value") -> None:
    """Write a control's value into the address and draw the page anew; the layout holds `shown(page, ...)`.

    The parameter is named by what follows the first hyphen of the component's id.
    """
    page = component.split("-", 1)[0]
    context.dash.clientside_callback(
        ClientsideFunction("follow", "choose"),
        Output("url", "search", allow_duplicate=True),
        Input(component, prop), State("view", "data"), State(f"{page}-shown", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
