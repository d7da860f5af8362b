"""The Neuron page's maps on the wire: each number once, as it is stored; the browser makes the rest (assets/maps.js).

A figure of K, KV and hits over n x n prompts says K once (float16 where that is exact, as runs store it, else float32)
and what one unit writes into each number's logit. In the browser KV = K value[answer] in float32, the answer is the
operator's, and prompts without K are no legal ones: the figure is the one that `viz.neuron_maps` draws, value for
value, in 3 bytes a cell instead of 15. The grey of illegal prompts is a rectangle behind a map, not a map of its own,
which halves what the browser draws. A map of which this does not hold (other answers, a gap in K) stays as it is.
"""

import base64
from typing import Any

import numpy as np

from arithcirc.neuron_maps import NeuronMap
from arithcirc.viz import masks
from arithcirc.viz.neuron_hits import ILLEGAL, NEITHER

CODES = 5
Figure = dict[str, Any]


def packed(figure: Figure, held: NeuronMap) -> Figure:
    """The figure with its arrays as `assets/maps.js` reads them; itself where they cannot be made again."""
    if not again(held):
        return figure
    traces: list[dict[str, Any]] = []
    shapes = [*figure["layout"].get("shapes", ())]
    shades = {t["xaxis"]: t["colorscale"][-1][1] for t in figure["data"] if _is_shade(t)}
    for trace in figure["data"]:
        kind, place = trace.get("meta"), trace.get("xaxis")
        if _is_shade(trace):
            continue
        if kind in ("k", "kv"):
            first = not any(t.get("meta") in ("k", "kv") for t in traces)
            traces.append({k: v for k, v in trace.items() if k != "customdata"} | {"z": _numbers(held, kind, first)})
            if place in shades:
                shapes.append(_behind(held, trace, shades[place]))
        elif kind == "hits":
            scale = _with_grey(shades[place], trace["colorscale"]) if place in shades else trace["colorscale"]
            rows, columns = trace["z"].shape
            codes = {"packed": kind, "rows": rows, "columns": columns, "codes": _text(trace["z"].astype(np.uint8))}
            traces.append(trace | {"z": codes, "colorscale": scale})
        else:
            traces.append(trace)
    return figure | {"data": traces, "layout": figure["layout"] | {"shapes": shapes}}


def again(held: NeuronMap) -> bool:
    """The answers are the operator's on the operands, and K is known of exactly the legal prompts."""
    op1, op2 = (np.asarray(at + held.first) for at in np.indices(held.k.shape))
    legal = held.answer >= 0
    same = (masks.result(held.operator, op1, op2) == held.answer) | ~legal
    return bool(same.all() and (np.isfinite(held.k) == legal).all())


def _is_shade(trace: dict[str, Any]) -> bool:
    return trace.get("type") == "heatmap" and trace.get("hoverinfo") == "skip"


def _numbers(held: NeuronMap, kind: str, first: bool) -> dict[str, Any]:
    """What a map is made of; K goes with the figure's first one."""
    rows, columns = held.k.shape
    found: dict[str, Any] = {"packed": kind, "rows": rows, "columns": columns, "first": held.first}
    found["operator"] = held.operator
    if first:
        half = held.k.astype(np.float16)
        exact = np.array_equal(half.astype(np.float32), held.k.astype(np.float32), equal_nan=True)
        found["k"] = _text(half) if exact else _text(held.k.astype(np.float32))
    if kind == "kv":
        found["value"] = _text(held.value.astype(np.float32))
    return found


def _behind(held: NeuronMap, trace: dict[str, Any], colour: str) -> dict[str, Any]:
    """A rectangle behind the cells of a map."""
    low = held.first - 0.5
    return {
        "type": "rect", "xref": trace["xaxis"], "yref": trace["yaxis"], "layer": "below", "line": {"width": 0},
        "fillcolor": colour, "x0": low, "x1": low + held.k.shape[1], "y0": low, "y1": low + held.k.shape[0],
    }  # fmt: skip


def _with_grey(colour: str, scale: list[list[Any]]) -> list[list[Any]]:
    """The scale of the hits' codes with illegal prompts grey: the first of its steps."""
    step = 1 / CODES
    grey = [[ILLEGAL * step, colour], [(ILLEGAL + 1) * step, colour]]
    return [*grey, *scale[2 * NEITHER :]]


def _text(values: np.ndarray) -> str:
    """An array's bytes in base64 with `_` for `/`, which JSON for pages escapes, and `-` for `N`.

    A long text has NaN in it by chance; plotly takes that for a number JSON does not know and writes everything twice.
    """
    text = base64.b64encode(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes())
    return text.translate(bytes.maketrans(b"/N", b"_-")).decode("ascii")
