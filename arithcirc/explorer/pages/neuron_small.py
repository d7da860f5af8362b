"""Small maps of one neuron beside each other: under every operator, and at every checkpoint of its model.

A map is the run's, or one that the live model has computed (`neuron_computed`). Those that neither has are computed on
request, one after another in the background, each shown as it comes. A run is shown at the checkpoints of a sweep that
holds the same model, where one is among the folders of the explorer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dash
import dash_mantine_components as dmc
import numpy as np
from dash import MATCH, Input, Output, State, dcc, html

from arithcirc.catalogue import SWEEP
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context
from arithcirc.explorer.live import Live
from arithcirc.explorer.pages.neuron_computed import computed, map_of
from arithcirc.explorer.pages.neuron_facts import Facts, facts, labels, marked, over_steps, rows_of
from arithcirc.explorer.pages.neuron_pin import who_of
from arithcirc.explorer.source import Source, open_source
from arithcirc.explorer.view import View
from arithcirc.neuron_maps import NeuronMap
from arithcirc.viz import theme
from arithcirc.viz.neuron_maps import Marked, plain_small

POLL = 700
"""Milliseconds between looks at maps that are being computed."""
KINDS = ("operators", "checkpoints")


@dataclass(frozen=True)
class Place:
    """Where the neuron is looked at: a run or checkpoint and an operator, what that is called, and its address."""

    source: Source
    operator: str
    title: str
    href: str
    here: bool
    lines: tuple[str, ...]
    mark: Marked | None


def panel(context: Context, view: View, places: Sequence[Place], neuron: Any, kind: str) -> list[Any]:
    """The cards of one kind, and what has missing maps computed."""
    return [
        html.Div(cards(context.live, places, neuron, kind), id=view.part(f"neuron-{kind}")),
        dcc.Interval(id=view.part(f"neuron-{kind}-poll"), interval=POLL, disabled=True),
    ]


def go(context: Context, view: View, places: Sequence[Place], neuron: Any, kind: str) -> Any:
    """The button that asks the live model for what is missing; out of sight where nothing is."""
    missing = [p for p in places if map_of(context.live, p.source, p.operator, neuron) is None]
    off = bool(places) and context.live.state(places[0].source, start=False).name == "off"
    return dmc.Button(
        "draw missing maps live", id=view.part(f"neuron-{kind}-go"), size="compact-xs", variant="light",
        disabled=off or not missing, style={} if missing else {"display": "none"},
    )  # fmt: skip


def cards(live: Live, places: Sequence[Place], neuron: Any, kind: str, said: str = "") -> list[Any]:
    """A card for each place, and a line about maps that are missing."""
    held = [map_of(live, place.source, place.operator, neuron) for place in places]
    drawn = [_card(place, found) for place, found in zip(places, held, strict=True)]
    lacking = sum(found is None for found in held)
    if lacking and not said and places:
        state = live.state(places[0].source, start=False)
        said = "" if state.name in ("ready", "idle", "loading") else state.text
    parts: list[Any] = [html.Div(drawn, className=f"small-maps {kind}")]
    return [*parts, kit.small(said, size="xs", mt=4)] if lacking and said else parts


def _card(place: Place, held: NeuronMap | None) -> Any:
    """One small map with its title and lines; a click opens the neuron there."""
    picture: Any = html.Div("no map yet", className="no-map")
    scale = ""
    if held is not None:
        figure = plain_small(held, place.mark)
        figure["layout"] |= {"template": theme.template(kit.scheme()), "height": None}
        picture = dcc.Graph(
            figure=kit.typed(figure), config=kit.CONFIG | {"staticPlot": True}, className="thumb", responsive=True,
            style={"height": "104px"},
        )  # fmt: skip
        kind = place.mark.kind if place.mark is not None else "indirect"
        most = float(np.nanmax(np.abs(held.scored(kind)), initial=0.0))
        scale = f"largest |{'K' if kind == 'indirect' else 'KV'}| {theme.number(most, 2)}"
    lines = [html.B(place.title, className="operator-name", title=place.title), picture]
    lines += [html.Div(text, className="muted") for text in (*place.lines, scale) if text]
    name = "operator-card here" if place.here else "operator-card"
    return dmc.Anchor(lines, href=place.href, underline="never", className=name)


# -- places ------------------------------------------------------------------------------------------------------------


def operators(source: Source, view: View, of: Facts) -> list[Place]:
    """The neuron under every operator of the source."""
    return [_under(source, view, of, operator) for operator in source.operators]


def _under(source: Source, view: View, of: Facts, operator: str) -> Place:
    mine = labels(source, operator, of.neuron) if operator != of.operator else of.labels
    label = Facts(operator, of.neuron, None, mine).label("")
    said = f"{label['heuristic']} ({theme.number(label['score'], 2)})" if label else "no label"
    href = view.url(op=operator, layer=of.neuron.layer, neuron=of.neuron.index, label=None)
    lines = (_effect_of(source, operator, of) or "no effect measured", said)
    return Place(source, operator, theme.operator_title(operator), href, operator == of.operator, lines, marked(label))


def _effect_of(source: Source, operator: str, of: Facts) -> str:
    """Effect and rank in its layer, in words."""
    if not source.has("neurons"):
        return ""
    rows = rows_of(source, "neurons", operator, of.neuron)
    held = rows[(rows["method"] == "exact") & (rows["metric"] == "logit_diff")]
    if held.empty:
        return ""
    row = held.iloc[0]
    return f"{theme.number(row['effect'])} nats, rank {int(row['rank'])}"


def steps(source: Source, sweep: Source, view: View, of: Facts, label: Mapping[str, Any] | None) -> list[Place]:
    """The neuron at every checkpoint of its model in a sweep; that of a run itself is the run's."""
    found = []
    model = sweep.checkpoint.model if sweep.checkpoint is not None else ""
    rows = over_steps(sweep, of.operator, of.neuron, "neurons")
    effects = dict(zip(rows["revision"], rows["effect"], strict=True)) if len(rows) else {}
    for at in sweep.checkpoints:
        if at.model != model:
            continue
        open_now = at == source.checkpoint if source.sweep else at.revision == source.model.get("revision")
        here = source if open_now else replace(sweep, checkpoint=at)
        href = view.url(run=sweep.key, model=at.model, revision=at.revision)
        lines = (f"{theme.number(effects[at.revision])} nats" if at.revision in effects else "no effect measured",)
        found.append(Place(here, of.operator, at.revision, href, open_now, lines, marked(label)))
    return found


def sweep_of(context: Context, source: Source) -> Source | None:
    """The sweep at this source's checkpoint: itself, or one of the explorer that holds the run's model."""
    if source.sweep:
        return source if source.checkpoint is not None else None
    name, revision = str(source.model.get("name", "")), str(source.model.get("revision", ""))
    for key, path in context.library.paths().items():
        if not name or not (path / SWEEP).is_file():
            continue
        try:
            sweep = open_source(key, path, name, revision)
        except (RunConflictError, RequestError):
            continue
        if sweep.checkpoint is not None and sweep.checkpoint.model == name and _same(source, sweep):
            return sweep
    return None


def _same(source: Source, sweep: Source) -> bool:
    """The weights are the same where both know those of one revision; else the name must do."""
    mine, its = (held.config.get("model", {}) for held in (source, sweep))
    both = [held.get("weights_sha256") for held in (mine, its)]
    return mine.get("revision") != its.get("revision") or None in both or both[0] == both[1]


# -- maps that are missing ---------------------------------------------------------------------------------------------


def compute(live: Live, places: Sequence[Place], neuron: Any) -> tuple[str, bool]:
    """Have the first missing map made; a line about it, and whether there is more to wait for."""
    lacking = [p for p in places if map_of(live, p.source, p.operator, neuron) is None]
    if not lacking:
        return "", False
    place, left = lacking[0], f"{len(lacking)} of {len(places)} maps to come"
    state = live.state(place.source)
    if state.name in ("off", "failed"):
        return f"{place.title}: {state.text}", False
    if not state.ready:
        return f"{left}: loading the model of {place.source.title} …", True
    status, said = computed(live).want(live, place.source, place.operator, neuron)
    return (f"{place.title}: {said}", False) if status == "failed" else (f"{left}: {place.title} …", True)


def _places(context: Context, view: View, neuron: Any, kind: str) -> list[Place]:
    source = context.library.open(view)
    of = facts(source, view.op, neuron)
    if kind == "operators":
        return operators(source, view, of)
    sweep = sweep_of(context, source)
    return steps(source, sweep, view, of, of.label(view.choices.get("label", ""))) if sweep is not None else []


def _drawn(context: Context, kind: str, who: Any, data: Any) -> tuple[Any, bool, Any]:
    """The cards as they are now; the next map is asked for unless another page's map merely came."""
    view, neuron = View.of(data), who_of(who)
    places = _places(context, view, neuron, kind)
    triggered = str(dash.ctx.triggered_id.get("type", "")) if isinstance(dash.ctx.triggered_id, dict) else ""
    said, going = ("", False) if triggered == "neuron-made" else compute(context.live, places, neuron)
    left = any(map_of(context.live, p.source, p.operator, neuron) is None for p in places)
    return cards(context.live, places, neuron, kind, said), not going, {} if left else {"display": "none"}


def register(context: Context) -> None:
    """Buttons and looks; an answer finds only the neuron it was asked about (MATCH)."""

    def part(kind: str) -> dict[str, Any]:
        return {"type": f"neuron-{kind}", "asked": MATCH}

    for kind in KINDS:
        context.dash.callback(
            Output(part(kind), "children"), Output(part(f"{kind}-poll"), "disabled"),
            Output(part(f"{kind}-go"), "style"),
            Input(part(f"{kind}-go"), "n_clicks"), Input(part(f"{kind}-poll"), "n_intervals"),
            Input(part("made"), "data"),
            State("neuron-who", "data"), State("view", "data"),
            prevent_initial_call=True,
        )(lambda *asked, kind=kind: _drawn(context, kind, *asked[-2:]))  # fmt: skip
