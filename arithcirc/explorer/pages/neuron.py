"""Page Neuron: one neuron under one operator, from where it is active to what it breaks.

The address names the neuron (`layer`, `neuron`), one of its labels (`label`), how the maps are shown (`zoom`, `map`)
and what the arrow keys step through (`order`). Maps come from the run; where it has none, the live model computes them
in the background and the rest of the page stands meanwhile.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ALL, MATCH, Input, Output, State, dcc, html
from dash.dependencies import ClientsideFunction

from arithcirc.components import Neuron
from arithcirc.errors import RequestError
from arithcirc.explorer import follow, kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.pages import neuron_documents, neuron_knockout, neuron_more, neuron_pin, neuron_small
from arithcirc.explorer.pages.neuron_body import MAP_HELP, MAPS, ZOOMS, maps, rest
from arithcirc.explorer.pages.neuron_computed import computed, map_of
from arithcirc.explorer.pages.neuron_facts import ORDERS, Facts, Neighbours, chosen, effects, facts, marked, neighbours
from arithcirc.explorer.pages.neuron_pin import who_of
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.neuron_maps import NeuronMap
from arithcirc.viz import theme
from arithcirc.viz.neuron_hits import hits, where
from arithcirc.viz.neuron_words import inside, matters, where_active, writes

POLL = 1_000
"""Milliseconds between looks at a map that is being computed."""
LINKS = ("neuron-before", "neuron-after", "neuron-below", "neuron-above")
_NAME = re.compile(r"\s*[lL]?(\d{1,5})\s*[nN./, ]\s*(\d{1,7})\s*")


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    ranked = effects(source, view.op)
    try:
        neuron = chosen(view, source, ranked)
    except RequestError as error:
        return _nobody(view, error)
    found = facts(source, view.op, neuron, ranked)
    label = found.label(view.choices.get("label", ""))
    held = map_of(context.live, source, view.op, neuron)
    order = view.choice("order", list(ORDERS), "effect")
    parts = [
        _head(view, source, found, label, order, ranked, held),
        _maps_panel(context, view, source, found, label, held),
        dmc.Grid(
            [
                dmc.GridCol(neuron_more.label_table(source, found), span=7),
                dmc.GridCol(neuron_more.other_operators(context, source, view, found), span=5),
            ],
            gutter=12,
        ),
        html.Div(
            rest(source, found, held, label) if held is not None else None,
            id=view.part("neuron-rest"),
            className="neuron-rest",
        ),
        neuron_knockout.panel(context, view, source, view.op, neuron),
        neuron_documents.panel(view, source, view.op, neuron),
        neuron_more.checkpoints(context, source, view, found, label),
        dcc.Store(id="neuron-who", data={"layer": neuron.layer, "neuron": neuron.index}),
        dcc.Interval(id=view.part("neuron-poll"), interval=POLL, disabled=held is not None),
        dcc.Store(id=view.part("neuron-made")),
        dcc.Store(id=view.part("neuron-changed")),
        follow.shown("neuron", {"order": order}),
    ]
    return dmc.Stack([part for part in parts if part is not None], gap=12)


def _nobody(view: View, error: RequestError) -> Any:
    """A page of no neuron: the field to name another, what is wrong, and the way to the list."""
    kept = {"order": view.choices.get("order", ""), "zoom": view.choices.get("zoom", ""), "map": ""}
    hidden = [dcc.Input(id=f"neuron-{name}", type="hidden", value=value) for name, value in kept.items()]
    row = [html.Span("Neuron", className="neuron-name"), _finder(str(error)), *hidden]
    told = [dmc.Text(str(error), size="sm", c="orange"), kit.link("page Neurons lists them", view.url("neurons"))]
    return dmc.Paper([html.Div(row, className="neuron-head"), *told, follow.shown("neuron", kept)], className="panel")


# -- head --------------------------------------------------------------------------------------------------------------


def _head(
    view: View, source: Source, found: Facts, label: Mapping[str, Any] | None, order: str, ranked: Any,
    held: NeuronMap | None,
) -> Any:  # fmt: skip
    """Name, place in the order, effect, label, pin; and the neuron in words."""
    steps = html.Div(
        _row(view, source, found, label, order, ranked), id=view.part("neuron-head"), className="neuron-steps"
    )
    fields = [_finder(), html.Div(className="spring"), *_badges(found), neuron_pin.button(view, source, found)]
    row = html.Div([steps, *fields], className="neuron-head")
    words = html.Div(_words(source, found, label, held), id=view.part("neuron-words"), className="neuron-words")
    return dmc.Paper([row, words], className="panel")


def _row(
    view: View, source: Source, found: Facts, label: Mapping[str, Any] | None, order: str, ranked: Any
) -> list[Any]:
    """The first line of the page, but for its fields: it is drawn again, and what is typed in them must stay."""
    heuristic = str(label["heuristic"]) if label is not None else ""
    beside = neighbours(source, found, order, heuristic, ranked)
    kept = heuristic if order == "label" else None
    places = f"{theme.count(beside.place)} of {theme.count(beside.total)}" if beside.place else "not in this order"
    orders = dmc.Select(
        id="neuron-order", value=order, data=[{"value": k, "label": v} for k, v in ORDERS.items()], size="xs", w=170,
        allowDeselect=False, **{"aria-label": "what the arrow keys step through"},
    )  # fmt: skip
    return [
        _step(view, "‹", beside.before, "neuron-before", "ArrowLeft", "before in this order: ←", kept),
        html.Span(str(found.neuron), className="neuron-name"),
        _step(view, "›", beside.after, "neuron-after", "ArrowRight", "next in this order: →", kept),
        _way(beside, heuristic if order == "label" else ""), dmc.Text(places, size="xs", c="dimmed"), orders,
        _step(view, [html.Kbd("["), " layer −"], beside.below, "neuron-below", "[", "strongest one layer below", None),
        _step(view, [html.Kbd("]"), " layer +"], beside.above, "neuron-above", "]", "strongest one layer above", None),
    ]  # fmt: skip


def _finder(error: str = "") -> Any:
    """The field that goes to a neuron by its name."""
    return dmc.TextInput(
        id="neuron-find", placeholder="L3N17", size="xs", w=96, debounce=True, leftSection=html.Kbd("/"),
        error=bool(error), className="finder", **{"aria-label": "go to a neuron", "data-key": "/"},
    )  # fmt: skip


def _way(beside: Neighbours, label: str) -> Any:
    """Neurons of the order around this one, for keys pressed faster than pages are drawn (assets/neuron.js)."""
    held = {"way": beside.way, "at": beside.at, "label": label}
    return html.Span("← → step", id="neuron-way", className="muted", **{"data-way": json.dumps(held)})


def _step(view: View, text: Any, to: Neuron | None, id: str, key: str, title: str, label: str | None) -> Any:
    """A link to another neuron, pressed by a key; grey where there is none."""
    if to is None:
        return dmc.Anchor(
            text, id=id, href="", className="neuron-step off", underline="never", **{"aria-disabled": True}
        )
    href = view.url(layer=to.layer, neuron=to.index, label=label)
    said = f"{title} ({to})"
    names = {"data-key": key, "aria-label": said, "attributes": {"root": {"title": said}}}
    return dmc.Anchor(text, id=id, href=href, className="neuron-step", underline="never", **names)


def _badges(found: Facts) -> list[Any]:
    """Effect, importance and number of labels, short."""
    plain = {"variant": "outline", "color": "gray", "tt": "none", "size": "md", "radius": "sm", "className": "fact"}
    said = []
    if found.effect is not None:
        text = f"effect {theme.number(found.effect.effect)} nats"
        said.append((text, "mean fall of the logit difference when it is patched alone"))
        if found.effect.important:
            said.append(("important", "among the neurons of its layer that are tested for labels"))
    many = found.carried
    said.append((f"{many} label{'' if many == 1 else 's'}", "heuristics that match at the score threshold"))
    return [html.Span(dmc.Badge(text, **plain), title=title) for text, title in said]


def _words(source: Source, found: Facts, label: Mapping[str, Any] | None, held: NeuronMap | None) -> list[Any]:
    """The neuron in three or four sentences."""
    heuristic, level = marked(label), source.data().level
    agreement = None
    if held is not None and heuristic is not None:
        agreement = hits(held, heuristic.name, heuristic.kind, heuristic.end)
    said = [where_active(str(found.neuron), label, agreement, level=level)]
    if held is not None:
        holds = where(held, heuristic.name) if heuristic is not None else None
        said += [inside(held, holds)] if holds is not None else []
        said.append(writes(held.value, active_below=bool((held.k < 0).any()) and _below(heuristic)))
    e = found.effect
    if e is not None:
        said.append(matters(e.effect, e.rank, e.of_layer, e.overall, e.of_all, found.neuron.layer))
    else:
        said.append("Its patching effect under this operator was not measured.")
    return [html.P(text) for text in said if text]


def _below(heuristic: Any) -> bool:
    return heuristic is not None and heuristic.end == "bottom"


# -- maps --------------------------------------------------------------------------------------------------------------


def _maps_panel(
    context: Context, view: View, source: Source, found: Facts, label: Mapping[str, Any] | None, held: NeuronMap | None
) -> Any:
    """The large maps with their controls, or what is done to get them."""
    keys = found.keys
    labelled = dmc.Select(
        id="neuron-label", value=str(label["key"]) if label is not None else None, data=keys, size="xs", w=230,
        placeholder="no label", allowDeselect=False, searchable=len(keys) > 8, disabled=not keys,
        comboboxProps={"width": 300, "position": "bottom-end"}, **{"aria-label": "label"},
    )  # fmt: skip
    zoom = dmc.Select(
        id="neuron-zoom", value=view.choice("zoom", list(ZOOMS), "auto"), size="xs", w=136, allowDeselect=False,
        data=[{"value": k, "label": f"zoom: {v}" if k == "auto" else v} for k, v in ZOOMS.items()],
        **{"aria-label": "zoom"},
    )  # fmt: skip
    which = dmc.SegmentedControl(
        id="neuron-map", value=view.choice("map", list(MAPS), "all"), size="xs",
        data=[{"value": k, "label": v} for k, v in MAPS.items()],
    )  # fmt: skip
    shown = maps(found, held, label, zoom.value, which.value) if held is not None else _waiting(context, source, found)
    return kit.panel(
        "Activation on every prompt", html.Div(shown, id=view.part("neuron-body")), help=MAP_HELP,
        actions=dmc.Group([html.Span("label", className="control-label"), labelled, zoom, which], gap=8),
    )  # fmt: skip


def _waiting(context: Context, source: Source, found: Facts, said: str = "") -> Any:
    """No stored map: the live model makes one, or a command does."""
    state = context.live.state(source, start=False)  # a page only stepped over loads no model: see `_poll`
    how: list[Any] = [
        dmc.Text(f"No map of {found.neuron} under {theme.operator_title(found.operator)} is stored.", fw=600, size="sm")
    ]
    if state.name in ("idle", "loading", "ready"):
        waits = {"idle": "the live model loads, then computes it", "ready": "computing it with the live model"}
        text = said or waits.get(state.name, state.text)
        how.append(dmc.Group([dmc.Loader(size="xs"), dmc.Text(f"{text} …", size="sm", c="dimmed")], gap=8))
    else:
        how.append(kit.small(said or state.text, "."))
    if source.sweep:
        how.append(kit.small("A sweep keeps no maps: the live model computes them, for the checkpoint chosen above."))
    else:
        how += [
            kit.small("Maps of the strongest labelled neurons are made with"),
            dmc.Code(source.command("maps"), block=True),
        ]
    return dmc.Stack(how, gap=6, className="waiting", maw=760)


def _poll(context: Context, _: Any, who: Any, data: Any) -> tuple[Any, Any, bool]:
    """Have the map computed, and say how far it is: quick answers, so that looks cannot pile up behind a drawing."""
    source, view, neuron = context.source(data), View.of(data), who_of(who)
    if map_of(context.live, source, view.op, neuron) is not None:
        return dash.no_update, "made", True
    state = context.live.state(source)
    said, going = "", state.name == "loading"
    if state.ready:
        status, said = computed(context.live).want(context.live, source, view.op, neuron)
        going = status != "failed"
    return _waiting(context, source, facts(source, view.op, neuron), said), dash.no_update, not going


def _made(
    context: Context, made: Any, label: Any, zoom: Any, which: Any, who: Any, data: Any
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The page's parts that need the map, once it is there."""
    source, view, neuron = context.source(data), View.of(data), who_of(who)
    held = map_of(context.live, source, view.op, neuron)
    if not made or held is None:
        return dash.no_update, dash.no_update, dash.no_update
    found = facts(source, view.op, neuron)
    chosen_label = found.label(str(label or ""))
    body = maps(found, held, chosen_label, str(zoom), str(which))
    return body, rest(source, found, held, chosen_label), _words(source, found, chosen_label, held)


def _redraw(
    context: Context, changed: Any, label: Any, zoom: Any, which: Any, order: Any, who: Any, data: Any
) -> tuple[Any, Any, Any, Any]:
    """Another label, zoom or map. What the arrow keys step through changes with the label where it is its neurons.

    `changed` holds the control that was, first.
    """
    source, view, neuron = context.source(data), View.of(data), who_of(who)
    ranked = effects(source, view.op)
    found = facts(source, view.op, neuron, ranked)
    chosen_label = found.label(str(label or ""))
    held = map_of(context.live, source, view.op, neuron)
    body = part = words = head = dash.no_update
    if changed and changed[0] == "neuron-label":
        words = _words(source, found, chosen_label, held)
        part = rest(source, found, held, chosen_label) if held is not None else part
        if order == "label":
            head = _row(_standing(view, zoom, which, order), source, found, chosen_label, "label", ranked)
    if held is not None:
        body = maps(found, held, chosen_label, str(zoom), str(which))
    return body, part, words, head


def _standing(view: View, zoom: Any, which: Any, order: Any) -> View:
    """The view with what the page's controls stand at now."""
    now = {"zoom": zoom, "map": which, "order": order}
    return replace(view, choices={**view.choices, **{k: str(v) for k, v in now.items() if v}})


def _find(context: Context, text: Any, zoom: Any, which: Any, order: Any, data: Any) -> tuple[Any, Any]:
    """The address of a neuron by its name, or what is wrong with it, said at the field."""
    if not text:
        return dash.no_update, None
    try:
        return f"?{_named(context, text, zoom, which, order, data)}", None
    except RequestError as error:
        return dash.no_update, str(error)


def _named(context: Context, text: Any, zoom: Any, which: Any, order: Any, data: Any) -> str:
    """The address of a neuron by its name. Raises RequestError."""
    read = _NAME.fullmatch(str(text or ""))
    if read is None:
        raise RequestError(f"{str(text)[:40]!r} names no neuron: write layer and index as in L3N17")
    view = _standing(View.of(data), zoom, which, order)
    wanted = replace(view, choices={**view.choices, "layer": read[1], "neuron": read[2]})
    source = context.source(data)
    neuron = chosen(wanted, source, effects(source, view.op))
    return view.url(layer=neuron.layer, neuron=neuron.index, label=None).partition("?")[2]


CONTROLS = [(f"neuron-{name}", "value") for name in ("label", "zoom", "map")]


def _any_of(kind: str) -> dict[str, Any]:
    """A part of the page under any one address: an answer finds only the part of the address that asked (MATCH)."""
    return {"type": f"neuron-{kind}", "asked": MATCH}


def _drawn_later(context: Context) -> None:
    """Parts that are drawn again: by another label, zoom or map, and when a map has been computed."""
    app = context.dash
    held = State("neuron-who", "data"), State("view", "data")
    body, *others = (Output(_any_of(kind), "children") for kind in ("body", "rest", "words"))
    again = [Output(one.component_id, "children", allow_duplicate=True) for one in (body, *others)]
    states, order = [State(i, p) for i, p in CONTROLS], State("neuron-order", "value")
    app.clientside_callback(  # controls are on every page: only the browser knows which page they are on
        ClientsideFunction("neuron", "changed"), Output({"type": "neuron-changed", "asked": ALL}, "data"),
        *(Input(i, p) for i, p in CONTROLS),
        prevent_initial_call=True,
    )  # fmt: skip
    app.callback(
        body, *others, Output(_any_of("head"), "children"), Input(_any_of("changed"), "data"), *states, order, *held,
        prevent_initial_call=True,
    )(lambda changed, *now: _redraw(context, changed, *now))  # fmt: skip
    app.callback(
        again[0], Output(_any_of("made"), "data"), Output(_any_of("poll"), "disabled"),
        Input(_any_of("poll"), "n_intervals"), *held,
        prevent_initial_call=True,
    )(lambda n, who, data: _poll(context, n, who, data))  # fmt: skip
    app.callback(*again, Input(_any_of("made"), "data"), *states, *held, prevent_initial_call=True)(
        lambda made, label, zoom, which, who, data: _made(context, made, label, zoom, which, who, data)
    )


def register(context: Context) -> None:
    """Controls, keys and links, pins, knockouts, computed maps."""
    app = context.dash
    _drawn_later(context)
    pinned, unpin, note = (_any_of(kind) for kind in ("pinned", "unpin", "note"))
    app.callback(
        Output(pinned, "children"), Output(pinned, "variant"), Output(note, "value"), Output(unpin, "style"),
        Input(pinned, "n_clicks"), Input(unpin, "n_clicks"), Input(note, "value"),
        State("neuron-who", "data"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda pin, remove, note, who, data: neuron_pin.saved(context, pin, remove, note, who, data))  # fmt: skip
    app.callback(
        Output("url", "search", allow_duplicate=True), Output("neuron-find", "error"), Input("neuron-find", "value"),
        *(State(i, p) for i, p in CONTROLS[1:]), State("neuron-order", "value"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda text, *held: _find(context, text, *held))  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("neuron", "readout"),
        Output("neuron-readout", "children"), Input("neuron-plot", "hoverData"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("neuron", "links"), *(Output(name, "href") for name in LINKS),
        Input("neuron-zoom", "value"), Input("neuron-map", "value"), *(State(name, "href") for name in LINKS),
        prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("neuron", "label"), Output("neuron-label", "value"), Input("neuron-labels", "cellClicked"),
        prevent_initial_call=True,
    )  # fmt: skip
    for name, _ in CONTROLS:
        kit.remember(context, name)
    follow.choose(context, "neuron-order")
    follow.follow(context, "neuron-steps")
    neuron_knockout.register(context)
    neuron_small.register(context)


PAGE = Page("neuron", "Neuron", "Where is a neuron active, what does it write, what does it matter?", layout, register)
