"""Page Sweep: how accuracy, circuits and the bag of heuristics came about over training.

The answers to the three questions, the checkpoints as a table (a click moves every page to that checkpoint), when each
heuristic was born (a click leads to its neurons), the curves with their sentences, the map of patching effects at this
checkpoint, and how the tasks ended. The dotted line in every figure is the checkpoint of the header's slider.
"""

from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Input, Output, State, dcc, html
from dash.dependencies import ClientsideFunction

from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.pages import sweep_figures as figures
from arithcirc.explorer.pages import sweep_tables as tables
from arithcirc.explorer.pages.sweep_figures import Choices, Drawing
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import SCALES
from arithcirc.viz.emergence.data import LABELS, PROMPTS, SweepData
from arithcirc.viz.emergence.summary import headline
from arithcirc.viz.emergence.timeline import ROWS

ACROSS = {"one": "this operator", "all": "all operators"}
INDEX = {
    "timeline": "births by heuristic", "accuracy": "accuracy", "circuits": "circuits", "families": "families",
    "births": "born and lost", "overlap": "already there", "kept": "neurons that stay", "knockouts": "ablation",
    "jumps": "around a birth", "tasks": "tasks",
}  # fmt: skip
"""Sections to jump to, by the key of their panel."""
CONTROLS = ("across", "prompts", "labels", "scale", "rows", "where")


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    data = figures.read(source)
    chosen = replace(_choices(view, source, data), operator=view.op)
    return html.Div(
        [
            dmc.Grid(
                [
                    dmc.GridCol(_answers(view, source, data), span={"base": 12, "lg": 5}),
                    dmc.GridCol(
                        dmc.Stack(
                            [_checkpoints(source, data, view), html.Div(_map(source, chosen), id="sweep-map")], gap="sm"
                        ),
                        span={"base": 12, "lg": 7},
                    ),
                ],
                gutter="sm",
            ),
            _controls(view, source, data),
            html.Div(_figures(view, source), id="sweep-figures"),
            tables.tasks(source, data, view.op),
            dcc.Store(id="sweep-places", data=_places(source, data)),
        ],
        className="sweep",
    )


def _model(source: Source) -> str:
    return source.checkpoint.model if source.checkpoint is not None else ""


def _places(source: Source, data: SweepData) -> dict[str, Any]:
    """Labels and revisions of the checkpoints, so that a click on a figure finds the address."""
    axis = data.model(_model(source)).axis
    return {"labels": axis.labels, "revisions": list(axis.revisions)}


def _choices(view: View, source: Source, data: SweepData) -> Choices:
    """What the controls say, defaults filled in."""
    axis = data.model(_model(source)).axis
    where = list(figures.positions(source)) or [""]
    return Choices(
        model=_model(source),
        operator="" if view.choice("across", list(ACROSS), "one") == "all" else view.op,
        prompts=view.choice("prompts", list(PROMPTS), next(iter(PROMPTS))),
        labels=view.choice("labels", list(LABELS), next(iter(data.label_order))),
        scale=view.choice("scale", axis.ways, axis.ways[0]),
        rows=view.choice("rows", list(ROWS), next(iter(ROWS))),
        where=view.choice("where", where, where[0]),
    )


def _answers(view: View, source: Source, data: SweepData) -> Any:
    """The three questions, in words."""
    help = (
        "Each question has a fixed rule, stated in its sentence, and is answered per operator. The number stands "
        "beside what chance would give."
    )
    return kit.panel(
        "What the sweep says",
        dmc.Text(theme.prose(headline(data)), size="sm", mb=6),
        tables.verdict(view, data),
        help=help,
        h="100%",
    )


def _checkpoints(source: Source, data: SweepData, view: View) -> Any:
    help = (
        "One row per checkpoint, for this operator and its own correct prompts. Click a row: every page then shows "
        "that checkpoint. F: faithfulness of its circuit on prompts it was not chosen on."
    )
    return kit.panel(
        f"Checkpoints, {theme.operator_title(view.op)}", tables.checkpoints(source, data, view.op),
        help=help,
    )  # fmt: skip


def _controls(view: View, source: Source, data: SweepData) -> Any:
    """What holds for all figures below."""
    chosen = _choices(view, source, data)
    ways = data.model(chosen.model).axis.ways
    parts = [
        _control("across", "show", ACROSS, "one" if chosen.operator else "all"),
        _control("prompts", "prompts", PROMPTS, chosen.prompts),
        _control("labels", "labels", LABELS, chosen.labels),
        _control("scale", "steps", {way: SCALES[way] for way in ways}, chosen.scale),
    ]
    index = [html.A(text, href=f"#sweep-at-{key}") for key, text in INDEX.items()]
    lead = html.Span("go to", className="control-label")
    return html.Div(
        [dmc.Group(parts, gap="lg"), html.Nav([lead, *index], className="sweep-index")], className="sweep-controls"
    )


def _control(name: str, label: str, options: dict[str, str], value: str) -> Any:
    data = [{"value": v, "label": text} for v, text in options.items()]
    control = dmc.SegmentedControl(id=f"sweep-{name}", data=data, value=value, size="xs")
    return dmc.Group([html.Span(label, className="control-label"), control], gap=6)


def _figures(view: View, source: Source) -> list[Any]:
    """Everything that the controls change."""
    data = figures.read(source)
    chosen = _choices(view, source, data)
    words = figures.sentences(source, chosen)
    one = replace(chosen, operator=view.op)
    first = _pair(_timeline(source, one), [_panel(d, source, chosen, words) for d in figures.DRAWINGS[:2]])
    rest = [_panel(d, source, chosen, words) for d in figures.DRAWINGS[2:]]
    wide = {"base": 1, "lg": 2} if chosen.operator else {"base": 1}
    return [first, dmc.SimpleGrid([p for p in rest if p is not None], cols=wide, spacing="sm", verticalSpacing="sm")]


def _pair(left: Any, right: list[Any]) -> Any:
    column = dmc.Stack([part for part in right if part is not None], gap="sm", h="100%")
    parts = [
        dmc.GridCol(left, span={"base": 12, "lg": 6}) if left is not None else None,
        dmc.GridCol(column, span={"base": 12, "lg": 6 if left is not None else 12}),
    ]
    return dmc.Grid([p for p in parts if p is not None], gutter="sm", mb="sm")


def _panel(drawing: Drawing, source: Source, chosen: Choices, words: dict[str, list[tuple[str, str]]]) -> Any:
    """A figure with its sentences; None where there is nothing to draw."""
    figure = figures.drawn(source, drawing, chosen)
    if figure is None:
        return None
    said = words.get(drawing.words, [])
    lines = [_line(*([] if chosen.operator else [html.B(f"{title}. ")]), theme.prose(text)) for title, text in said]
    plot = kit.graph(figure, id={"type": "sweep-figure", "key": drawing.key}, name=f"sweep_{drawing.key}")
    return kit.panel(drawing.title, plot, *lines, help=drawing.help, id=f"sweep-at-{drawing.key}")


def _line(*parts: Any) -> Any:
    return dmc.Text(list(parts), size="sm", mt=4)


def _timeline(source: Source, chosen: Choices) -> Any:
    drawing = figures.TIMELINE
    rows = _control("rows", "rows", {name: name for name in ROWS}, chosen.rows)
    figure = figures.drawn(source, drawing, chosen)
    if figure is None:
        said = f"No pair with {LABELS[chosen.labels]} labels stays to the last checkpoint under this operator."
        body: Any = kit.small(f"{said} Choose other labels above, or let the sweep analyse heuristics (--stages).")
    else:
        body = kit.graph(figure, id={"type": "sweep-figure", "key": drawing.key}, name="sweep_births")
    return kit.panel(drawing.title, body, help=drawing.help, actions=rows, h="100%", id=f"sweep-at-{drawing.key}")


def _map(source: Source, chosen: Choices) -> Any:
    """Effects of patching at this checkpoint."""
    where = figures.positions(source)
    figure = figures.effect_map(source, chosen) if where else None
    if figure is None:
        return None
    name = source.checkpoint.revision if source.checkpoint is not None else ""
    help = (
        "Fall of logit(answer) − logit(counterfactual answer), in nats, when one head’s or MLP’s output at that "
        "position is replaced by its value on another prompt. The colours are the same at every checkpoint: move "
        "the slider."
    )
    plot = kit.graph(figure, id={"type": "sweep-figure", "key": "map"}, name=f"sweep_effects_{name}")
    return kit.panel(f"Patching effect at {name}", plot, help=help, actions=_control("where", "", where, chosen.where))


def _redraw(context: Context, data: Any, *values: Any) -> tuple[list[Any], Any]:
    """The figures and the map under new choices."""
    source = context.source(data)
    view = View.of(data)
    held = dict(view.choices) | {n: str(v) for n, v in zip(CONTROLS, values, strict=True) if v is not None}
    view = replace(view, choices=held)
    chosen = replace(_choices(view, source, figures.read(source)), operator=view.op)
    return _figures(view, source), _map(source, chosen)


def register(context: Context) -> None:
    """Callbacks of the page."""
    for name in CONTROLS:
        kit.remember(context, f"sweep-{name}")
    context.dash.callback(
        Output("sweep-figures", "children"),
        Output("sweep-map", "children"),
        *(Input(f"sweep-{name}", "value") for name in CONTROLS),
        State("view", "data"),
        prevent_initial_call=True,
    )(lambda *given: _redraw(context, given[-1], *given[:-1]))
    context.dash.clientside_callback(
        ClientsideFunction("arithcirc_sweep", "pick"),
        Output("url", "pathname", allow_duplicate=True), Output("url", "search", allow_duplicate=True),
        Input({"type": "sweep-figure", "key": ALL}, "clickData"), Input("sweep-checkpoints", "cellClicked"),
        State("sweep-places", "data"), State("view", "data"),
        prevent_initial_call=True,
    )  # fmt: skip


PAGE = Page(
    "sweep", "Sweep", "How accuracy, circuits and heuristics came about over training.", layout, register, sweep=True
)
