"""Page Compare: two runs, checkpoints or operators side by side, on common axes and colour scales.

A is what the header shows; B is chosen on the page (`with`, `with_model`, `with_revision`, `with_op` in the address).
What cannot be compared, because the architectures differ or a side lacks a table, is said and the rest is shown.
"""

from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Input, Output, State, html

from arithcirc.errors import ArithcircError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.follow import choose, follow, follow_rows, shown
from arithcirc.explorer.pages.compare_panels import (
    BY,
    curves_panel,
    heads_figure,
    labels_panels,
    matched,
    neuron_figure,
    neurons_panels,
    numbers_panel,
)
from arithcirc.explorer.pages.compare_sides import Side, comparability, other, sides, swapped
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme

POSITION, CHANGE, METRIC, LABELS = "equals", "any", "logit_diff", "matched"
METRICS = {"logit_diff": "logit difference (nats)", "E": "E: log₁₀(1 + E)"}
KINDS = {"matched": "matched", "significant": "significant"}


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    wanted = other(view, source)
    try:
        a, b = sides(context, view, source)
    except ArithcircError as error:
        keys = context.library.named()
        return html.Div([_choosers(wanted, None, keys), html.Div(kit.problem(error), style={"marginTop": 12})])
    columns = dmc.Grid(
        [
            dmc.GridCol(_heading(context, view, a, b), span=12),
            dmc.GridCol(numbers_panel(a, b), span={"base": 12, "md": 5}),
            dmc.GridCol(curves_panel(a, b), span={"base": 12, "md": 7}),
            dmc.GridCol(_heads(view, a, b), span=12),
            *neurons_panels(view, a, b, _segmented("by", BY, view.choice("by", list(BY), "effect"))),
            *labels_panels(a, b, _kind(view), _segmented("labels", KINDS, _kind(view))),
        ],
        gutter=12,
    )
    return html.Div(columns)


def _kind(view: View) -> str:
    return view.choice("labels", list(KINDS), LABELS)


# -- the two sides -----------------------------------------------------------------------------------------------------


def _heading(context: Context, view: View, a: Side, b: Side) -> Any:
    """What A and B are, the choice of B, and what can be compared."""
    first = html.Div(
        [
            html.Div([html.Span("A", className="ov-badge ov-a"), html.B(a.title)]),
            html.Div(
                [html.Code(a.source.key), html.Span(f" {theme.OPERATOR_SIGNS.get(a.op, a.op)}  from the header above")],
                className="ov-from",
            ),
        ],
        className="ov-side",
    )
    keys = context.library.named()
    second = html.Div(
        [
            html.Div([html.Span("B", className="ov-badge ov-b"), html.B(b.title)]),
            _choosers(b.view, b.source, keys, kind=_kind(view)),
        ],
        className="ov-side",
    )
    exchange = kit.link("⇄ exchange A and B", swapped(view, a, b))
    return kit.panel(
        "Two sides", html.Div([first, second], className="ov-sides"), dmc.Text(comparability(a, b), size="sm", mt=8),
        actions=exchange, help="A follows the header's run, checkpoint and operator; B is chosen here.",
    )  # fmt: skip


def _choosers(at: View, source: Source | None, keys: list[dict[str, str]], kind: str = LABELS) -> Any:
    """Run, checkpoint and operator of B."""
    run = at.run if any(key["value"] == at.run for key in keys) else ""
    common: dict[str, Any] = {"size": "xs", "allowDeselect": False}
    parts: list[Any] = [
        dmc.Select(
            id="compare-with", data=keys, value=run or None, searchable=True, w=220,
            placeholder="run", **{"aria-label": "run of B"}, **common,
        )
    ]  # fmt: skip
    if source is not None and source.checkpoint is not None:
        models = list(dict.fromkeys(c.model for c in source.checkpoints))
        if len(models) > 1:
            parts.append(
                dmc.Select(id="compare-with_model", data=models, value=source.checkpoint.model, w=160,
                           **{"aria-label": "model of B"}, **common)
            )  # fmt: skip
        held = [c.revision for c in source.checkpoints if c.model == source.checkpoint.model]
        parts.append(
            dmc.Select(id="compare-with_revision", data=held, value=source.checkpoint.revision, w=120, searchable=True,
                       **{"aria-label": "checkpoint of B"}, **common)
        )  # fmt: skip
    if source is not None:
        operators = [{"value": o, "label": theme.OPERATOR_SIGNS.get(o, o)} for o in source.operators]
        parts.append(dmc.SegmentedControl(id="compare-with_op", data=operators, value=at.op, size="xs"))
    values = {"with": run, "with_model": at.model, "with_revision": at.revision}
    now = shown(
        "compare", values | {"with_op": at.op, "labels": kind},
        drops={"with": ["with_model", "with_revision"], "with_model": ["with_revision"]},
    )  # fmt: skip
    return dmc.Group([*parts, now], gap=8)


# -- heads -------------------------------------------------------------------------------------------------------------


def _heads(view: View, a: Side, b: Side) -> Any:
    title = "Heads: patching effects of A, of B, and their difference"
    position, change, metric = _patched(view)
    try:
        figure = heads_figure(a, b, position, change, metric)
    except ArithcircError as error:
        return kit.panel(title, kit.small(f"Not shown: {error}", mt=6))
    controls = dmc.Group(
        [
            _segmented("position", dict(theme.POSITION_LABELS), position),
            _segmented("change", dict(theme.CHANGE_LABELS), change),
            dmc.Select(
                id="compare-metric", data=_data(METRICS), value=metric, size="xs", w=176, allowDeselect=False,
                **{"aria-label": "metric"},
            ),
        ],
        gap=12,
    )  # fmt: skip
    return kit.panel(
        title, kit.graph(figure, id="compare-heads", name="heads_a_b", height=320), actions=controls,
        help="All maps share one colour scale centred at zero. Red in B − A: the answer of B needs this head more.",
    )  # fmt: skip


def _patched(view: View) -> tuple[str, str, str]:
    return (
        view.choice("position", list(theme.POSITIONS), POSITION),
        view.choice("change", list(theme.CHANGES), CHANGE),
        view.choice("metric", list(METRICS), METRIC),
    )


def _segmented(name: str, options: dict[str, str], value: str) -> dmc.SegmentedControl:
    return dmc.SegmentedControl(id=f"compare-{name}", data=_data(options), value=value, size="xs")


def _data(options: dict[str, str]) -> list[dict[str, str]]:
    return [{"value": value, "label": label} for value, label in options.items()]


# -- what the browser asks for ---------------------------------------------------------------------------------------


def _redraw_heads(context: Context, position: Any, change: Any, metric: Any, data: Any) -> go.Figure:
    a, b = sides(context, View.of(data), context.source(data))
    held = View("compare", choices={"position": str(position), "change": str(change), "metric": str(metric)})
    return kit.styled(heads_figure(a, b, *_patched(held)))


def _redraw_neurons(context: Context, by: Any, data: Any) -> go.Figure:
    a, b = sides(context, View.of(data), context.source(data))
    both = matched(a, b)
    if isinstance(both, str):
        return go.Figure()
    return kit.styled(neuron_figure(both, str(by) if str(by) in BY else "effect").update_layout(height=380))


def register(context: Context) -> None:
    """B and the kind of labels draw the page anew; the other controls redraw their figure."""
    context.dash.callback(
        Output("compare-heads", "figure"),
        Input("compare-position", "value"), Input("compare-change", "value"), Input("compare-metric", "value"),
        State("view", "data"), prevent_initial_call=True,
    )(lambda position, change, metric, data: _redraw_heads(context, position, change, metric, data))  # fmt: skip
    context.dash.callback(
        Output("compare-neurons", "figure"), Input("compare-by", "value"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda by, data: _redraw_neurons(context, by, data))  # fmt: skip
    for control in ("position", "change", "metric", "by"):
        kit.remember(context, f"compare-{control}")
    for control in ("with", "with_model", "with_revision", "with_op", "labels"):
        choose(context, f"compare-{control}")
    follow(context, "compare-heads")
    follow(context, "compare-neurons")
    follow_rows(context, "compare-labels-grid")


PAGE = Page("compare", "Compare", "Two runs, checkpoints or operators side by side", layout, register)
