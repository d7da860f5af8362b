"""Maps of one neuron over op1 x op2 at `=`, at full resolution, with where a heuristic holds.

`activation_maps`  K (the activation h_n), KV (K times what the neuron writes into the answer's logit, up to the final
                   norm's scale), and, for a heuristic, the scored map's strongest |H| prompts against H: hit, miss,
                   false alarm (`viz.neuron_hits`). Panels share their axes, so zooming one zooms all
`small_map`        one map without axes, at most a hundred cells wide, to tell operators apart at a glance

Colours are centred at zero, whatever the sign of the values, so that red is above zero and blue below in every map.

Cells are drawn one by one, as float32 and int8 arrays; grey cells are no legal prompts. A line encloses the
heuristic's cells. Around thin stripes (residues, last digits, single values) lines would hide what they enclose: there,
small ticks at the edges say where the stripes end, and lines appear when few cells are shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool

from arithcirc.neuron_maps import NeuronMap
from arithcirc.viz import masks, theme
from arithcirc.viz.gallery import CROP, MARK, SPARSE_CROP, shrink
from arithcirc.viz.neuron_hits import FALSE_ALARM, HIT, MISS, Hits, hits, where

PANELS = ("k", "kv", "hits")
FEW_CELLS = 60
"""Cells along a side up to which lines are drawn around each cell of thin stripes."""
THIN = 2.5
"""Cells: stripes thinner than this are not outlined on larger maps."""
SPARSE = 0.25
"""Share of legal cells below which a map is shown by its corner of small operands."""
HIT_COLOURS = {"hit": "#2f7ebc", "miss": "#e6a700", "false alarm": "#c2255c"}
_NAMES = {"k": "K: activation at =", "kv": "KV: K × what it writes into the answer"}
_SHADE = "rgba(128,136,148,0.22)"
"""Cells that are no legal prompts."""
_CLEAR = "rgba(0,0,0,0)"
Window = tuple[int, int, int, int]
"""First and last op1, first and last op2, all of them shown."""


@dataclass(frozen=True)
class Marked:
    """A heuristic with the kind of map it was scored on and the end of it."""

    name: str
    kind: str
    end: str


def activation_maps(
    neuron_map: NeuronMap,
    heuristic: Marked | None = None,
    *,
    panels: Sequence[str] = PANELS,
    window: Window | None = None,
) -> go.Figure:
    """K, KV and hits side by side; without a heuristic, or for one of unknown form, K and KV alone."""
    return theme.figure(plain_maps(neuron_map, heuristic, panels=panels, window=window))


def plain_maps(
    neuron_map: NeuronMap,
    heuristic: Marked | None = None,
    *,
    panels: Sequence[str] = PANELS,
    window: Window | None = None,
    found: Hits | None = None,
) -> theme.Plain:
    """The same as plain values, for pages that are written by the hundred; `found` are the hits, where known."""
    if found is None and heuristic is not None:
        found = hits(neuron_map, heuristic.name, heuristic.kind, heuristic.end)
    drawn = [p for p in panels if p != "hits" or found is not None] or ["k"]
    shown = window or _whole(neuron_map)
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "margin": {"l": 48, "r": 12, "t": 30, "b": 76}, "height": 470, "annotations": [],
    }  # fmt: skip
    inside = where(neuron_map, heuristic.name) if heuristic is not None and found is not None else None
    comb = inside is not None and not _few(shown) and thickness(inside) < THIN
    for at, panel in enumerate(drawn):
        place = _axes(layout, at, len(drawn), shown, comb=comb)
        values, spots = (
            _hit_panel(found, neuron_map.first, place, None if shown == _whole(neuron_map) else shown)
            if panel == "hits" and found
            else _values(neuron_map, panel, place)
        )
        layout |= {k: v for k, v in spots.items() if k != "annotations"}
        layout["annotations"] += [*spots.get("annotations", []), _heading(_title(panel, heuristic), place)]
        of_panel = [values, *_shade(neuron_map)]
        if heuristic is not None and inside is not None and (panel != "hits" or comb):
            of_panel += (
                _ticks_of(neuron_map, heuristic.name, shown) if comb else _lines(inside, neuron_map.first, shown)
            )
        traces += [trace | {"xaxis": place.x, "yaxis": place.y} for trace in of_panel]
    return {"data": traces, "layout": layout}


def small_map(neuron_map: NeuronMap, heuristic: Marked | None = None, *, cells: int = 75) -> go.Figure:
    """The scored map (K without a heuristic) in % of its largest, without axes.

    Square blocks are averaged, but for heuristics that change from one number to the next: their first operands.
    """
    return theme.figure(plain_small(neuron_map, heuristic, cells=cells))


def plain_small(neuron_map: NeuronMap, heuristic: Marked | None = None, *, cells: int = 75) -> theme.Plain:
    """The same as plain values."""
    values = neuron_map.scored(heuristic.kind if heuristic is not None else "indirect")
    sparse = float(np.isfinite(values).mean()) < SPARSE
    side = CROP if heuristic is not None and masks.fine(heuristic.name) else SPARSE_CROP if sparse else None
    values = values[:side, :side]
    block = max(1, -(-max(values.shape) // cells))
    small = shrink(values, block)
    largest = float(np.nanmax(np.abs(small), initial=0.0)) or 1.0
    start = neuron_map.first + (block - 1) / 2
    trace = {
        "type": "heatmap", "z": (100 * small / largest).astype(np.float32), "x0": start, "dx": block, "y0": start,
        "dy": block, "coloraxis": "coloraxis", "hoverongaps": False,
        "hovertemplate": f"op1 about %{{y}}, op2 about %{{x}}: %{{z:.0f}}% of {largest:.3g}<extra></extra>",
    }  # fmt: skip
    traces, hidden = [trace], {"visible": False}
    inside = where(neuron_map, heuristic.name) if heuristic is not None else None
    if inside is not None and thickness(inside) >= THIN:
        rows, columns = values.shape
        traces.append(_line(*masks.edges(inside[:rows, :columns], neuron_map.first)))
    layout = {
        "height": 150, "margin": dict.fromkeys("lrtb", 0), "xaxis": hidden,
        "yaxis": hidden, "coloraxis": {"cmin": -100.0, "cmax": 100.0, "autocolorscale": True, "showscale": False},
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def _title(panel: str, heuristic: Marked | None) -> str:
    if panel != "hits" or heuristic is None:
        scored = heuristic is not None and panel == ("k" if heuristic.kind == "indirect" else "kv")
        return _NAMES.get(panel, panel) + (" (scored)" if scored else "")
    source = "K" if heuristic.kind == "indirect" else "KV"
    return f"{'lowest' if heuristic.end == 'bottom' else 'strongest'} |H| prompts of {source} against H"


def _whole(neuron_map: NeuronMap) -> Window:
    first, (rows, columns) = neuron_map.first, neuron_map.k.shape
    return first, first + rows - 1, first, first + columns - 1


def _values(neuron_map: NeuronMap, which: str, place: "_Place") -> tuple[dict[str, Any], dict[str, Any]]:
    """K or KV on its own colour axis, centred at zero."""
    values = (neuron_map.k if which == "k" else neuron_map.kv).astype(np.float32)
    held = values[np.isfinite(values)]
    largest = float(np.abs(held).max(initial=0.0)) or 1.0
    name = "activation" if which == "k" else "KV"
    answer = np.maximum(neuron_map.answer, 0)  # -1 is all slashes in base64, which JSON for pages escapes
    trace = _heat(
        neuron_map.first, z=values, coloraxis=place.colour, hoverongaps=False, name=name, meta=which,
        hovertemplate=f"op1 %{{y}}, op2 %{{x}}, answer %{{customdata}}<br>{name} %{{z:.4~g}}<extra></extra>",
        customdata=answer.astype(np.int16 if answer.max(initial=0) < 2**15 else np.int32),
    )  # fmt: skip
    bar = {
        "orientation": "h", "x": place.middle, "xanchor": "center", "y": 0, "yref": "container", "yanchor": "bottom",
        "ypad": 4, "len": 0.7 * place.width, "thickness": 9, "outlinewidth": 0, "nticks": 5,
    }  # fmt: skip
    return trace, {place.colour: {"cmin": -largest, "cmax": largest, "autocolorscale": True, "colorbar": bar}}


def _hit_panel(found: Hits, first: int, place: "_Place", shown: Window | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Three colours, with their counts below: of the cells that are shown, where that is not all of them."""
    colours = dict(zip((HIT, MISS, FALSE_ALARM), HIT_COLOURS.values(), strict=True))
    steps = [colours.get(code, _CLEAR) for code in range(5)]
    scale = [[edge / 5, colour] for i, colour in enumerate(steps) for edge in (i, i + 1)]
    trace = _heat(
        first, z=found.codes.astype(np.int8), zmin=-0.5, zmax=4.5, colorscale=scale,
        showscale=False, name="hits", meta="hits", hovertemplate="op1 %{y}, op2 %{x}<extra></extra>",
    )  # fmt: skip
    rows, columns = _cut(first, shown) if shown is not None else (slice(None), slice(None))
    held = np.bincount(found.codes[rows, columns].ravel(), minlength=5)
    counts = zip(HIT_COLOURS.items(), (held[code] for code in (HIT, MISS, FALSE_ALARM)), strict=True)
    text = "   ".join(f"<span style='color:{colour}'>■</span> {name} {count:,}" for (name, colour), count in counts)
    text += f"   in this part ({found.hit:,} of {found.k:,} hits in all)" if shown is not None else "   in all"
    below = {"text": text, "y": 0, "yanchor": "top", "yshift": -46, "font": {"size": theme.SMALL + 1}}
    return trace, {"annotations": [_beside(place) | below]}


def _shade(neuron_map: NeuronMap) -> list[dict[str, Any]]:
    illegal = neuron_map.answer < 0
    if not illegal.any():
        return []
    return [
        _heat(
            neuron_map.first, z=illegal.astype(np.int8), zmin=0, zmax=1, showscale=False, hoverinfo="skip",
            colorscale=[[0, _CLEAR], [0.5, _CLEAR], [0.5, _SHADE], [1, _SHADE]], name="no legal prompt",
        )
    ]  # fmt: skip


def _heat(first: int, **options: Any) -> dict[str, Any]:
    return {"type": "heatmap", "x0": first, "dx": 1, "y0": first, "dy": 1, **options}


def thickness(inside: Bool[np.ndarray, "op1 op2"]) -> float:
    """How many cells wide a mask's stripes are, about: twice its area by the length of its borders."""
    x, y = masks.edges(inside, 0)
    length = np.abs(np.diff(x)[::3]).sum() + np.abs(np.diff(y)[::3]).sum()
    return float(2 * inside.sum() / length) if length else 0.0


def _lines(inside: Bool[np.ndarray, "op1 op2"], first: int, shown: Window) -> list[dict[str, Any]]:
    """Lines around the cells that are shown."""
    rows, columns = _cut(first, shown)
    x, y = masks.edges(inside[rows, columns], 0)
    return [_line(x + shown[2], y + shown[0])]


def _cut(first: int, shown: Window) -> tuple[slice, slice]:
    rows, columns = (slice(shown[i] - first, shown[i + 1] - first + 1) for i in (0, 2))
    return rows, columns


def _ticks_of(neuron_map: NeuronMap, heuristic: str, shown: Window) -> list[dict[str, Any]]:
    """Ticks at the edges: where the stripes of a heuristic meet them."""
    shape = (neuron_map.k.shape[0], neuron_map.k.shape[1])
    held = masks.mask(heuristic, neuron_map.operator, neuron_map.first, shape)
    if held is None:
        return []
    rows, columns = _cut(neuron_map.first, shown)
    cut, out = held[rows, columns], 0.5 + 0.014 * (1 + max(shown[1] - shown[0], shown[3] - shown[2]))
    both = heuristic.startswith("both")
    top, right = (cut.any(axis=0), cut.any(axis=1)) if both else (cut[-1], cut[:, -1])
    found = []
    if top.any() and not top.all():
        at = np.flatnonzero(top) + shown[2]
        found.append(_ticks(at, np.full(len(at), shown[1] + out), "line-ns-open"))
    if right.any() and not right.all():
        at = np.flatnonzero(right) + shown[0]
        found.append(_ticks(np.full(len(at), shown[3] + out), at, "line-ew-open"))
    return found


def _few(shown: Window) -> bool:
    return max(shown[1] - shown[0], shown[3] - shown[2]) < FEW_CELLS


_MARK = {"type": "scatter", "hoverinfo": "skip", "showlegend": False, "name": "heuristic"}


def _ticks(x: np.ndarray, y: np.ndarray, symbol: str) -> dict[str, Any]:
    marker = {"symbol": symbol, "size": 7, "color": MARK, "line": {"width": 1.5}}
    return _MARK | {"x": x.astype(np.float32), "y": y.astype(np.float32), "mode": "markers", "marker": marker}


def _line(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return _MARK | {"x": x, "y": y, "mode": "lines", "connectgaps": False, "line": {"color": MARK, "width": 1.5}}


# -- panels beside each other -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """One panel: names of its axes, and where it is on the paper."""

    x: str
    y: str
    colour: str
    left: float
    width: float

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


def _axes(layout: dict[str, Any], at: int, count: int, shown: Window, *, comb: bool) -> _Place:
    """Add the axes of panel `at` of `count`; all zoom together. A comb of ticks gets a strip beside the map."""
    gap = 0.028 if count > 1 else 0.0
    width = (1 - gap * (count - 1)) / count
    left = at * (width + gap)
    number = "" if at == 0 else str(at + 1)
    strip = 0.03 * (max(shown[1] - shown[0], shown[3] - shown[2]) + 1) if comb else 0.0
    plain = {"showgrid": False, "zeroline": False, "nticks": 7}
    layout[f"xaxis{number}"] = plain | {
        "anchor": f"y{number}", "domain": [left, left + width], "range": [shown[2] - 0.5, shown[3] + 0.5 + strip],
        "title": {"text": "op2", "standoff": 2},
    }  # fmt: skip
    layout[f"yaxis{number}"] = plain | {
        "anchor": f"x{number}", "range": [shown[0] - 0.5, shown[1] + 0.5 + strip],
    }  # fmt: skip
    if at == 0:
        layout["yaxis"]["title"] = {"text": "op1", "standoff": 4}
    else:
        layout[f"xaxis{number}"]["matches"] = "x"
        layout[f"yaxis{number}"] |= {"matches": "y", "showticklabels": False}
    return _Place(f"x{number}", f"y{number}", f"coloraxis{number}", left, width)


def _beside(place: _Place) -> dict[str, Any]:
    return {"x": place.middle, "xanchor": "center", "xref": "paper", "yref": "paper", "showarrow": False}


def _heading(text: str, place: _Place) -> dict[str, Any]:
    return _beside(place) | {"text": text, "y": 1, "yanchor": "bottom", "yshift": 4, "font": {"size": theme.FONT_SIZE}}
