"""Pinned neurons and their notes: the list below the grid of page Neurons, and how pins are saved or handed over."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ALL, MATCH, Input, Output, State, dcc, html

from arithcirc.components import Neuron
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context
from arithcirc.explorer.pins import (
    FILE,
    Pin,
    as_json,
    joined,
    read_pins,
    remove_pin,
    savable,
    set_pin,
    set_pins,
    stored,
)
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme

SHOWN = 200
"""Pins listed; the file has all of them."""
HELP = (
    "Pins mark neurons to come back to; notes are plain text. They are kept in pins.json beside the run, so whoever "
    "opens this run sees them too."
)


def panel(view: View, source: Source) -> Any:
    """The list, what is wrong with the file, and its download."""
    held = stored(source, every=True)
    said: list[Any] = []
    if held.problem:
        said.append(dmc.Text(held.problem, size="sm", c="orange"))
    if not savable(source):
        said.append(
            dmc.Text(
                "Pins cannot be saved here: the run's folder is read-only. Pinning hands over the file instead.",
                size="sm",
                c="orange",
            )
        )
    if not held.pins:
        said.append(kit.small("Tick neurons above and pin them, or pin one on its own page."))
    rows = [_row(view, source, pin) for pin in held.pins[:SHOWN]]
    if len(held.pins) > SHOWN:
        said.append(kit.small(f"The newest {SHOWN} of {len(held.pins):,}; {FILE} has all."))
    button = html.Button("JSON", id="neurons-json", className="quiet", title=f"download {FILE}", disabled=not held.pins)
    title = f"Pinned ({len(held.pins)})" if held.pins else "Pinned"
    return kit.panel(title, *said, html.Div(rows, className="pins"), help=HELP, actions=button)


def _row(view: View, source: Source, pin: Pin) -> html.Div:
    """One pin: where it leads, its note, when, and a way to take it away."""
    index = _index(pin)
    at = {"model": pin.model or None, "revision": pin.revision or None} if source.sweep else {}
    where = view.url("neuron", op=pin.operator, layer=pin.layer, neuron=pin.neuron, **at)
    note = dmc.Textarea(
        id={"type": "neurons-note", "pin": index}, value=pin.note, placeholder="a note", autosize=True, minRows=1,
        maxRows=6, size="xs", debounce=700, variant="unstyled", className="note",
        disabled=not savable(source), **{"aria-label": f"note on {pin.component}"},
    )  # fmt: skip
    remove = html.Button(
        "×", id={"type": "neurons-unpin", "pin": index}, className="quiet", title="remove this pin",
        **{"aria-label": f"remove the pin of {pin.component}"},
    )  # fmt: skip
    return html.Div(
        [
            kit.link(str(pin.component), where, fw=600),
            html.Span(theme.OPERATOR_SIGNS.get(pin.operator, pin.operator), className="sign"),
            html.Span(pin.revision, className="muted"),
            note,
            html.Span(id={"type": "neurons-saved", "pin": index}, className="muted"),
            html.Span(pin.when[:10], className="muted", title=pin.when),
            remove,
        ],
        className="pin",
    )


def pinned_or_file(source: Source, chosen: Sequence[tuple[str, Neuron]]) -> Any:
    """Save pins; where that cannot be done, the file to download, with a word about it."""
    try:
        set_pins(source, chosen)
    except EnvironmentFailure as error:
        note = {
            "action": "show", "title": "Not saved, downloaded", "color": "orange", "autoClose": 9000,
            "message": f"{error}; put the file there as {FILE} to see these pins again",
        }  # fmt: skip
        dash.set_props("notes", {"sendNotifications": [note]})
        return dcc.send_string(as_json(joined(source, chosen)), FILE)
    return dash.no_update


def _index(pin: Pin) -> str:
    """What a pin is called in the browser."""
    return "|".join(str(part) for part in pin.key)


def _named(context: Context, data: Any, index: Any) -> tuple[Source, str, Neuron]:
    """The source, operator and neuron of such a name. Raises RequestError for another text."""
    parts = str(index).rsplit("|", 3)
    model, _, revision = parts[0].rpartition("|")
    if len(parts) != 4 or not all(p.isdecimal() and len(p) < 8 for p in parts[2:]):
        raise RequestError(f"{str(index)[:60]!r} names no pin: reload the page")
    view = View.of(data)
    source = context.library.open(replace(view, model=model or view.model, revision=revision or view.revision))
    at = source.checkpoint
    if at is not None and (at.model, at.revision) != (model, revision):
        raise RequestError(f"{model} {revision} is not a checkpoint of this sweep any more: reload the page")
    return source, parts[1], Neuron(int(parts[2]), int(parts[3]))


def _note(context: Context, text: Any, own: Any, data: Any) -> str:
    """Save a note as it is now."""
    source, operator, neuron = _named(context, data, own.get("pin") if isinstance(own, dict) else "")
    set_pin(source, operator, neuron, str(text or ""))
    return "saved"


def _unpin(context: Context, clicks: Any, data: Any) -> Any:
    """Take the clicked pin away."""
    clicked = dash.ctx.triggered_id
    if not any(clicks or []) or clicked is None:
        return dash.no_update
    source, operator, neuron = _named(context, data, clicked.get("pin"))
    remove_pin(source, operator, neuron)
    return panel(View.of(data), context.source(data))


def register(context: Context) -> None:
    """Notes, pins taken away, the file."""
    app = context.dash
    app.callback(
        Output({"type": "neurons-saved", "pin": MATCH}, "children"),
        Input({"type": "neurons-note", "pin": MATCH}, "value"),
        State({"type": "neurons-note", "pin": MATCH}, "id"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda text, own, data: _note(context, text, own, data))  # fmt: skip
    app.callback(
        Output("neurons-pinned", "children", allow_duplicate=True),
        Input({"type": "neurons-unpin", "pin": ALL}, "n_clicks"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda clicks, data: _unpin(context, clicks, data))  # fmt: skip
    app.callback(
        Output("download", "data", allow_duplicate=True),
        Input("neurons-json", "n_clicks"), State("view", "data"),
        prevent_initial_call=True,
    )(
        lambda clicks, data: (
            dcc.send_string(as_json(read_pins(context.source(data), every=True)), FILE) if clicks else dash.no_update
        )
    )  # fmt: skip
