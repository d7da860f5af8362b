"""The panels of page Neuron that are drawn from its map: the maps, their means and periods, values, effects."""

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import html

from arithcirc.catalogue import OPERATOR_FOLDERS
from arithcirc.explorer import kit
from arithcirc.explorer.pages.neuron_facts import Facts, marked
from arithcirc.explorer.pages.neuron_pack import packed
from arithcirc.explorer.source import Source
from arithcirc.neuron_maps import NeuronMap
from arithcirc.viz import masks, theme
from arithcirc.viz.marginals import plain_marginals
from arithcirc.viz.neuron_effects import plain_effects
from arithcirc.viz.neuron_maps import SPARSE, Window, plain_maps
from arithcirc.viz.value_tokens import plain_line, plain_tokens

ZOOMS = {"auto": "auto", "all": "whole map", "40": "first 40", "100": "first 100", "peak": "peak ± 20"}
MAPS = {"all": "all three", "k": "K", "kv": "KV", "hits": "hits"}
CORNER = 100
"""First operands that a map with few legal prompts opens on, where the neuron is active there."""
AROUND = 20
"""Operands on each side of the peak."""
MAP_HELP = (
    "Each cell is one prompt: op1 upwards, op2 to the right; grey cells are no legal prompts. K is the neuron's "
    "activation at the last token, =. KV is K times what the neuron writes into the logit of that prompt's right "
    "answer. The yellow line (for residues and last digits: ticks at the edges, lines when few cells are shown) "
    "encloses H, the prompts of which the chosen heuristic holds. The third map takes as many strongest prompts as "
    "H has: in H they are hits, outside it false alarms; prompts of H that are not among them are misses. Score = "
    "hits / |H|. Drag to zoom, double-click to zoom out."
)
MARGINAL_HELP = (
    "Above: the map averaged over all prompts with the same op1, op2 or result; yellow marks values of which the "
    "heuristic holds. Below: which periods that line is made of, as shares of its variance. A neuron that reads the"
    " last digit has peaks at the periods 10, 5, 3⅓, 2½ and 2; one that reads a range has them at long periods."
)
VALUE_HELP = (
    "What one unit of activation writes into the logit of each number (direct logit attribution, up to the final "
    "norm's scale). The bars are the ten numbers it speaks for and the ten it speaks against most."
)
EFFECT_HELP = (
    "For each discover pair, the neuron's activation at = is replaced by that on the counterfactual prompt and "
    "nothing else: how far the logit difference falls is its effect on that prompt. Their mean is the effect the "
    "neurons are ranked by. Positive: it speaks for the answer."
)


# -- maps --------------------------------------------------------------------------------------------------------------


def map_figure(neuron_map: NeuronMap, label: Mapping[str, Any] | None, zoom: str, which: str) -> theme.Plain:
    """The large maps as the controls ask for them."""
    panels = ("k", "kv", "hits") if which not in ("k", "kv", "hits") else (which,)
    window = _window(neuron_map, label, zoom)
    figure = plain_maps(neuron_map, marked(label), panels=panels, window=window)
    figure["layout"] = {k: v for k, v in figure["layout"].items() if k != "height"}
    return packed(figure, neuron_map)


def _window(neuron_map: NeuronMap, label: Mapping[str, Any] | None, zoom: str) -> Window | None:
    """Which operands a zoom shows; None for all."""
    first, side = neuron_map.first, neuron_map.k.shape[0]
    if zoom == "auto":
        zoom = "100" if _in_corner(neuron_map, label) else "all"
    if zoom in ("40", "100"):
        last = first + min(int(zoom), side) - 1
        return first, last, first, last
    if zoom != "peak" or not np.isfinite(neuron_map.k).any():
        return None
    values = neuron_map.scored(str(label["kind"]) if label is not None else "indirect")
    find = np.nanargmin if label is not None and label["end"] == "bottom" else np.nanargmax
    at = np.unravel_index(int(find(values)), values.shape)
    row, column = (int(min(max(i, AROUND), max(side - 1 - AROUND, AROUND))) + first for i in at)
    return row - AROUND, row + AROUND, column - AROUND, column + AROUND


def _in_corner(neuron_map: NeuronMap, label: Mapping[str, Any] | None) -> bool:
    """Few prompts are legal, and most of the scored map lies among the first operands, as with products."""
    values = np.abs(np.nan_to_num(neuron_map.scored(str(label["kind"]) if label is not None else "indirect")))
    sparse = float(np.isfinite(neuron_map.k).mean()) < SPARSE
    return sparse and float(values[:CORNER, :CORNER].sum()) >= 0.5 * float(values.sum())


def maps(facts: Facts, neuron_map: NeuronMap, label: Mapping[str, Any] | None, zoom: str, which: str) -> list[Any]:
    """The maps, and the line that says what is under the pointer."""
    figure = map_figure(neuron_map, label, zoom, which)
    return [
        html.Div(
            kit.graph(figure, id="neuron-plot", name=f"{named(facts)}_maps"),
            className="neuron-maps" if which == "all" else "neuron-maps single",
        ),
        html.Div("Point at a cell to read it.", id="neuron-readout", className="readout"),
    ]


def named(facts: Facts) -> str:
    """For files: `L3N17_add`."""
    return f"{facts.neuron}_{OPERATOR_FOLDERS.get(facts.operator, 'operator')}"


# -- marginals, values, effects ---------------------------------------------------------------------------------------


def rest(source: Source, facts: Facts, neuron_map: NeuronMap, label: Mapping[str, Any] | None) -> Any:
    """What else the map says, and effects per prompt."""
    heuristic = marked(label)
    means = kit.graph(plain_marginals(neuron_map, heuristic), id="neuron-marginals", name=f"{named(facts)}_marginals")
    direct = heuristic.name if heuristic is not None else None
    value = [
        kit.graph(plain_line(neuron_map.value, direct), id="neuron-value", name=f"{named(facts)}_value", height=190),
        kit.graph(plain_tokens(neuron_map.value), id="neuron-tokens", name=f"{named(facts)}_tokens", height=500),
    ]
    scored = "K" if heuristic is None or heuristic.kind == "indirect" else "KV"
    return dmc.Grid(
        [
            dmc.GridCol(
                dmc.Stack(
                    [
                        kit.panel(f"Mean {scored} by op1, op2 and result, and its periods", means, help=MARGINAL_HELP),
                        _effects(source, facts, neuron_map, label),
                    ],
                    gap=12,
                ),
                span=8,
            ),
            dmc.GridCol(kit.panel("What it writes", *value, help=VALUE_HELP, h="100%"), span=4),
        ],
        gutter=12,
    )


def _effects(source: Source, facts: Facts, neuron_map: NeuronMap, label: Mapping[str, Any] | None) -> Any:
    """Histogram of the effects per pair, inside and outside the heuristic."""
    title = "Patching effect, prompt by prompt"
    stored = source.maps(facts.operator)
    if neuron_map.effects is None or stored is None or not len(neuron_map.effects):
        text = "Effects per prompt are stored with a run's maps, not computed live: "
        if source.sweep:
            text = "A sweep keeps no effects per prompt; a run of this checkpoint alone has them: "
        return kit.panel(title, kit.small(text, dmc.Code(source.command("maps"))), help=EFFECT_HELP)
    effects, inside = neuron_map.effects.astype(np.float64), None
    if label is not None:
        pairs = stored.pairs() - neuron_map.first
        shape = (neuron_map.k.shape[0], neuron_map.k.shape[1])
        mask = masks.mask(str(label["heuristic"]), facts.operator, neuron_map.first, shape)
        fits = len(pairs) == len(effects) and bool(((pairs >= 0) & (pairs < shape)).all())
        inside = mask[pairs[:, 0], pairs[:, 1]] if mask is not None and fits else None
    figure = plain_effects(effects, inside, name=str(label["heuristic"]) if label is not None else "the heuristic")
    line = (
        f"mean {theme.number(effects.mean())} nats, median {theme.number(np.median(effects))}, "
        f"standard deviation {theme.number(effects.std(), 3)}, n = {len(effects)} pairs"
    )
    graph = kit.graph(figure, id="neuron-effects", name=f"{named(facts)}_effects", height=250)
    return kit.panel(title, kit.small(line), graph, help=EFFECT_HELP)
