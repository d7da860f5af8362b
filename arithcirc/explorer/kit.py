"""Building blocks of the pages: panels, figures that download, tables that export, what to say when there is nothing.

Text from runs, models and users goes into components as plain strings, which React escapes; nothing here makes HTML or
Markdown of it.
"""

import base64
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import dash_ag_grid as dag
import dash_mantine_components as dmc
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from dash import Input, dcc, html
from dash.dependencies import ClientsideFunction
from flask import has_request_context, request

from arithcirc.errors import ArithcircError
from arithcirc.explorer.context import Context
from arithcirc.explorer.source import DamagedTable, MissingTable
from arithcirc.viz import theme

CONFIG = theme.PLOTLY_CONFIG | {"displayModeBar": False}
Children = Any
GRID_THEME = {
    "function": "themeQuartz.withParams({fontSize: 12.5, spacing: 5, wrapperBorderRadius: 4, headerFontWeight: 600, "
    "backgroundColor: 'var(--panel)', foregroundColor: 'var(--ink)', headerBackgroundColor: 'var(--page)', "
    "borderColor: 'var(--rule)', rowHoverColor: 'var(--hover)', fontFamily: 'inherit'})"
}
"""The grid's look, in the page's own colours, which follow the colour scheme."""


def scheme() -> theme.Scheme:
    """Light or dark, as the browser says in a cookie."""
    dark = has_request_context() and request.cookies.get("scheme") == "dark"
    return "dark" if dark else "light"


def styled(figure: go.Figure) -> go.Figure:
    """The figure in the template of the reader's colour scheme."""
    return figure.update_layout(template=theme.template(scheme()))


@cache
def _template(scheme: theme.Scheme) -> dict[str, Any]:
    """A template as plain values, which need no check; not to be written into."""
    plain: dict[str, Any] = theme.template(scheme).to_plotly_json()
    return plain


def typed(value: Any) -> Any:
    """A plain figure with its numpy arrays in base64, as plotly.js reads them: Dash would write out their digits."""
    if isinstance(value, dict):
        return {name: typed(part) for name, part in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [typed(part) for part in value]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim > 2 or not value.size:
        return value
    narrow = {"i8": "i4", "u8": "u4", "f2": "f4"}
    dtype = narrow.get(value.dtype.str[1:], value.dtype.str[1:])
    data = base64.b64encode(np.ascontiguousarray(value.astype(f"<{dtype}")).tobytes()).decode("ascii")
    shape = {"shape": ", ".join(map(str, value.shape))} if value.ndim == 2 else {}
    return {"dtype": dtype, "bdata": data} | shape


def graph(
    figure: go.Figure | dict[str, Any], *, id: str | dict[str, Any], name: str, height: int | None = None
) -> html.Div:
    """A figure with its downloads; `name` is the file's, without an ending. A plain dict is not written into."""
    plain = figure if isinstance(figure, dict) else figure.to_dict()
    held = plain["layout"] | {"template": _template(scheme())} | ({"height": height} if height else {})
    plain = typed(plain | {"layout": held})
    buttons = [
        html.Button(form.upper(), title=f"download {name}.{form}", **{"data-download": form, "data-name": name})
        for form in ("png", "svg")
    ]
    tall = held.get("height")
    style = {"height": f"{tall:g}px"} if tall else {}
    plot = dcc.Graph(id=id, figure=plain, config=CONFIG, className="plot", responsive=True, style=style)
    return html.Div([html.Div(buttons, className="downloads"), plot], className="figure")


def panel(title: Children, *children: Children, help: str = "", actions: Children = None, **options: Any) -> dmc.Paper:
    """A titled box. `help` says how to read it; `actions` stand at the right of the title."""
    head = [dmc.Title(title, order=3, className="panel-title")]
    if help:
        head.append(hint(help))
    row = dmc.Group([dmc.Group(head, gap=6), *([actions] if actions is not None else [])], justify="space-between")
    options = {"className": "panel" if actions is None else "panel has-actions"} | options
    return dmc.Paper([row, *children], **options)


def hint(text: str) -> dmc.HoverCard:
    """A question mark that explains on hover, and to a screen reader."""
    mark = html.Button("?", className="hint", **{"aria-label": text})
    return dmc.HoverCard(
        [dmc.HoverCardTarget(mark), dmc.HoverCardDropdown(dmc.Text(text, size="sm"))],
        width=340, shadow="md", withArrow=True,
    )  # fmt: skip


def link(text: Children, href: str, **options: Any) -> dmc.Anchor:
    """A link inside the explorer: no reload."""
    return dmc.Anchor(text, href=href, **({"size": "sm"} | options))


def small(*children: Children, **options: Any) -> dmc.Text:
    """A muted line."""
    return dmc.Text(list(children), **({"size": "sm", "c": "dimmed"} | options))


def facts(pairs: Sequence[tuple[Children, Children]]) -> html.Dl:
    """Names and values in two columns."""
    return html.Dl([part for name, value in pairs for part in (html.Dt(name), html.Dd(value))], className="facts")


def empty(title: str, text: str, command: str | None = None) -> dmc.Paper:
    """What to say when there is nothing to show, and the command that changes it."""
    parts: list[Any] = [dmc.Text(title, fw=600), dmc.Text(text, size="sm", c="dimmed")]
    if command:
        parts.append(dmc.Code(command, block=True))
    return dmc.Paper(dmc.Stack(parts, gap=6), className="panel empty")


def problem(error: ArithcircError) -> dmc.Paper:
    """An error on purpose, as a person should read it."""
    command = error.command if isinstance(error, MissingTable) else None
    title = "Not computed yet" if command else "This cannot be shown"
    title = "A damaged file" if isinstance(error, DamagedTable) else title
    return empty(title, str(error), command)


def grid(
    frame: pd.DataFrame, columns: Sequence[dict[str, Any]], *, id: str, name: str, height: int = 360, **options: Any
) -> html.Div:
    """A sortable, filterable table of a few thousand rows at most, with its CSV."""
    button = html.Button("CSV", title=f"download {name}.csv", **{"data-csv": id, "data-name": name})
    held = {
        "rowData": cast(list[dict[str, Any]], frame.to_dict("records")),
        "columnDefs": list(columns),
        "defaultColDef": {"sortable": True, "filter": True, "resizable": True, "minWidth": 70},
        "dashGridOptions": {
            "animateRows": False, "headerHeight": 32, "rowHeight": 28, "enableCellTextSelection": True,
            "theme": GRID_THEME, "suppressColumnVirtualisation": False,
        },
        "columnSize": "responsiveSizeToFit",
        "style": {"height": height},
    } | options  # fmt: skip
    return html.Div([html.Div([button], className="downloads of-grid"), dag.AgGrid(id=id, **held)], className="figure")


def remember(context: Context, component: str, prop: str = "value") -> None:
    """Write a control's value into the address, without a reload, so that the address restores it.

    The parameter is named by what follows the first hyphen of the component's id: `neuron-map` is `map`.
    """
    context.dash.clientside_callback(
        ClientsideFunction("arithcirc", "remember"), Input(component, prop), prevent_initial_call=True
    )
