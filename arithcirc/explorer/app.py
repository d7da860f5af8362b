"""The application: the frame around every page, and the one callback that turns an address into a page.

Data flows one way. The address says everything (`view.View`); the router draws the page it names, whole, and fills the
frame's controls; a control of the frame makes a new address; a page's own control redraws its part and writes itself
into the address without a reload (`kit.remember`). So nothing is kept between requests, every view can be shared, and
the browser's back button works.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html
from dash.dependencies import ClientsideFunction
from flask import Response
from plotly.io.json import to_json_plotly

from arithcirc.errors import ArithcircError
from arithcirc.explorer import asked, kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.library import Library
from arithcirc.explorer.live import Live, Opener
from arithcirc.explorer.pages import compare, documents, heads, heuristics, neuron, neurons, overview, prompt, sweep
from arithcirc.explorer.source import DamagedTable, Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme

PAGES: dict[str, Page] = {
    page.name: page
    for page in (
        overview.PAGE, neurons.PAGE, neuron.PAGE, prompt.PAGE, heuristics.PAGE, heads.PAGE,
        documents.PAGE, sweep.PAGE, compare.PAGE,
    )
}  # fmt: skip
TITLE = "arithcirc explorer"
ASSETS = Path(__file__).parent / "assets"
POLL = 700
"""Milliseconds between looks at a model that is loading."""
SELDOM = 4_000
"""Milliseconds between looks at a model that no page has asked for yet: another reader, or a page, may start it."""
TRIES = 4
"""Times that a page is drawn when a table turns out to be damaged inside: each time one more counts as missing."""


def make_app(folders: Sequence[Path], *, live: Opener | None = None) -> Context:
    """The explorer over these folders; `context.dash.server` is the WSGI application.

    `live` loads a model for questions, given a run's folder, or a sweep's with model and revision; without it the
    pages say that there is none.
    """
    app = Dash(
        __name__,
        title=TITLE,
        update_title=None,
        assets_folder=str(ASSETS),
        serve_locally=True,
        suppress_callback_exceptions=True,
        on_error=_on_error,
        add_log_handler=False,
    )
    context = Context(app, Library(folders), Live(live))
    app.layout = _frame
    _register(context)
    for page in PAGES.values():
        page.register(context)
    app.server.add_url_rule("/_templates/<scheme>.json", "templates", _template)
    return context


def _template(scheme: str) -> Response:
    """The figures' template of a colour scheme, for those drawn before the reader changed it."""
    shown = theme.template("dark" if scheme == "dark" else "light").to_plotly_json()
    return Response(to_json_plotly(shown), mimetype="application/json")


def _frame() -> dmc.MantineProvider:
    """What stays while pages change."""
    tabs = [dmc.TabsTab(page.title, value=page.name) for page in PAGES.values() if not page.hidden]
    run = dmc.Select(
        id="frame-run", data=[], value=None, searchable=True, allowDeselect=False, size="xs", w=260,
        **{"aria-label": "run or sweep"},
    )  # fmt: skip
    operators = dmc.SegmentedControl(id="frame-op", data=[], value="", size="xs")
    step = html.Div(
        [
            dmc.Text("checkpoint", size="xs", c="dimmed"),
            dmc.Slider(id="frame-step", min=0, max=1, step=1, value=0, updatemode="mouseup", size="sm", label=None),
            dmc.Text(id="frame-step-name", size="xs", className="step-name"),
        ],
        id="frame-steps",
        className="steps",
        hidden=True,
    )
    header = html.Header(
        [
            html.Div(
                [
                    dmc.Anchor([html.B("arithcirc"), " explorer"], href="/", className="brand", underline="never"),
                    run,
                    step,
                    html.Div(className="spring"),
                    html.Span("operator", className="control-label"),
                    operators,
                    html.Span(id="frame-live", className="live"),
                    html.Button("◐", id="scheme", title="light or dark", **{"aria-label": "light or dark"}),
                ],
                className="bar",
            ),
            dmc.Tabs(dmc.TabsList(tabs), id="frame-page", value="overview", variant="default", className="tabs"),
        ],
        className="frame",
    )
    return dmc.MantineProvider(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="view"),
            dcc.Store(id="frame-shown"),
            dcc.Store(id="frame-checkpoints", data=[]),
            dcc.Interval(id="frame-poll", interval=POLL, disabled=True),
            dcc.Download(id="download"),
            dmc.NotificationContainer(id="notes", position="bottom-right"),
            header,
            html.Main(id="page", className="page"),
        ],
        defaultColorScheme="auto",
        theme={"primaryColor": "blue", "fontFamily": theme.FONT, "defaultRadius": "sm", "fontSizes": {"sm": "0.82rem"}},
    )


def _register(context: Context) -> None:
    app = context.dash
    app.callback(
        Output("page", "children"), Output("view", "data"), Output("frame-shown", "data"),
        Output("frame-checkpoints", "data"),
        Input("url", "pathname"), Input("url", "search"),
    )(lambda path, query: _route(context, path, query))  # fmt: skip
    app.clientside_callback(ClientsideFunction("arithcirc", "fill"), Input("frame-shown", "data"))
    app.clientside_callback(ClientsideFunction("typed", "leave"), Input("url", "pathname"), Input("url", "search"))
    app.clientside_callback(
        ClientsideFunction("arithcirc", "steps"),
        Output("frame-steps", "hidden"), Output("frame-step", "max"), Output("frame-step", "marks"),
        Input("frame-checkpoints", "data"),
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("arithcirc", "stepName"),
        Output("frame-step-name", "children"),
        Input("frame-step", "value"), State("frame-checkpoints", "data"),
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("arithcirc", "go"),
        Output("url", "pathname"), Output("url", "search"),
        Input("frame-run", "value"), Input("frame-op", "value"), Input("frame-step", "value"),
        Input("frame-page", "value"),
        State("frame-checkpoints", "data"), State("view", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.callback(
        Output("frame-live", "children"), Output("frame-poll", "disabled"), Output("frame-poll", "interval"),
        Input("view", "data"), Input("frame-poll", "n_intervals"),
    )(lambda data, _: _live_badge(context, data))  # fmt: skip


def _route(context: Context, path: Any, query: Any) -> tuple[Any, ...]:
    """The page of an address, and what the frame's controls show.

    The controls are filled by the browser (`fill`), not by outputs of their own: Dash would hold back what a reader
    chooses while a page is being drawn, and then forget it.
    """
    view = View.parse(path, query)
    keys = context.library.named()
    shown: dict[str, Any]
    try:
        source = context.library.open(view)
        missing, view = asked.missing(view, source), asked.known(asked.settled(view, source))
        held = [c for c in source.checkpoints if source.checkpoint and c.model == source.checkpoint.model]
    except Exception as error:
        shown = {
            "runs": keys,
            "run": view.run or None,
            "ops": [],
            "op": "",
            "step": 0,
            "page": view.page,
            "title": TITLE,
        }
        return _told(context, error), view.data(), shown, []
    shown = {
        "runs": keys, "run": source.key, "op": view.op, "page": view.page,
        "ops": [{"value": o, "label": theme.OPERATOR_SIGNS.get(o, o)} for o in source.operators],
        "step": held.index(source.checkpoint) if source.checkpoint in held else 0,
        "address": view.url() if missing or "step=" in str(query) else "", "title": _title(view, source),
    }  # fmt: skip
    page = _drawn(context, view, source)  # first: reading finds what is damaged inside
    drawn = [*_told_first(view, source, missing), page]
    return drawn, view.data(), shown, [[c.model, c.revision] for c in held]


def _title(view: View, source: Source) -> str:
    """What the browser's tab says: `Neuron L2N209 − · neox-arith/step4000 · arithcirc explorer`."""
    page = PAGES.get(view.page)
    if page is None:
        return TITLE
    at, held = page.at(view, source), view.choices
    what = held.get("prompt", "")[:40] if view.page == "prompt" else ""
    if view.page == "neuron" and "layer" in held and "neuron" in held:
        what = f"L{held['layer'][:6]}N{held['neuron'][:8]}"
    sign = theme.OPERATOR_SIGNS.get(at.op, at.op) if view.page != "prompt" else ""
    step = source.checkpoint.revision if source.checkpoint is not None else ""
    named = " ".join(part for part in (page.title, what, sign) if part)
    return " · ".join([named, f"{source.key} {step}".strip(), TITLE])


def _told_first(view: View, source: Source, missing: str) -> list[Any]:
    """Lines above the page: what the address asks for in vain, and where a checkpoint without results has some."""
    view = PAGES[view.page].at(view, source) if view.page in PAGES else view
    lines: list[Any] = [html.Div(missing, className="told", role="status")] if missing else []
    for command, names in source.damaged_files.items():
        said = f"{_listed(names)} damaged, and left out here: make {'them' if len(names) > 1 else 'it'} again with "
        lines.append(html.Div([said, dmc.Code(command), ", then reload."], className="told", role="status"))
    first = asked.first_analysed(view, source)
    if first is not None and source.checkpoint is not None:
        said = f"{source.checkpoint.revision} has no circuit for {theme.operator_title(view.op)}. First that has one: "
        lines.append(html.Div([said, kit.link(first, view.url(revision=first)), "."], className="told"))
    return lines


def _listed(names: Sequence[str], most: int = 4) -> str:
    """`a is`, `a and b are`, `a, b, c, d and 3 more are`."""
    held = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return f"{', '.join(held[:-1])} and {held[-1]} are" if len(held) > 1 else f"{held[0]} is"


def _drawn(context: Context, view: View, source: Source) -> Any:
    """The page, or what is wrong in words."""
    page = PAGES.get(view.page)
    if page is None:
        names = ", ".join(PAGES)
        return kit.empty("No such page", f"there is no page {view.page[:40]!r}: the pages are {names}")
    if page.sweep and not source.sweep:
        return kit.empty(
            f"{page.title} needs a sweep",
            f"{source.key} is one run; a sweep analyses many checkpoints and says when each heuristic appeared. "
            "Choose one above, or make one:",
            "arithcirc sweep",
        )
    told: Exception | None = None
    for _ in range(TRIES):
        try:
            return page.layout(context, view, source)
        except DamagedTable as error:  # found when it was read: without it the page may have the rest
            told = error
        except Exception as error:
            return _told(context, error)
    return _told(context, told) if told is not None else None


def _told(context: Context, error: Exception) -> Any:
    """What a page says instead of itself; an unexpected failure names its kind, the log has the rest."""
    if isinstance(error, ArithcircError):
        return kit.problem(error)
    context.dash.logger.error("a page failed", exc_info=error)
    return kit.empty("This page failed", _unexpected(error))


def _unexpected(error: Exception) -> str:
    return f"unexpected {type(error).__name__}: please report it; the explorer's log has the details"


def _live_badge(context: Context, data: Any) -> tuple[Any, bool, int]:
    """How the live model is; the browser asks again until it is there, often while it loads."""
    try:
        state = context.live.state(context.source(data), start=False)
    except ArithcircError:
        return None, True, SELDOM
    colour = {"ready": "teal", "loading": "blue", "failed": "red"}.get(state.name, "gray")
    badge = dmc.Badge(f"model {state.name}", color=colour, variant="dot", size="sm", tt="none")
    shown = dmc.Tooltip(badge, label=state.text, multiline=True, w=280)
    return shown, state.name not in ("idle", "loading"), POLL if state.name == "loading" else SELDOM


def _on_error(error: Exception) -> Any:
    """A callback failed: say it in one line where the reader looks; an unexpected failure names its kind only."""
    if isinstance(error, ArithcircError):
        text, colour = str(error), "orange"
    else:
        dash.get_app().logger.exception("callback failed", exc_info=error)
        text, colour = _unexpected(error), "red"
    note = {"action": "show", "title": "This did not work", "message": text, "color": colour, "autoClose": 9000}
    dash.set_props("notes", {"sendNotifications": [note]})
