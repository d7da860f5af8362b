"""Heat maps as compact binary for pages that open from disk, where nothing can be fetched.

A map K over (op1, op2) becomes one byte per cell: 0: an illegal prompt, else 1 + round(254 (K - low) / (high - low)),
so that a decoded cell differs from the stored one by at most (high - low) / 508. The bytes are deflated (zlib) and
written in base64 into a script element that no browser runs; the page inflates them. What a neuron writes into each
number's logit travels as float32, so KV = K value[answer] is made on the page and no second map is sent. Which prompts
are hits, misses and false alarms of a heuristic is exact: one code per cell, deflated.

`pack_figures` takes these arrays out of the figures and packs the rest; the page's script puts them back where a
trace's `meta` names one.
"""

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.io.json import to_json_plotly

from arithcirc.viz import theme

STEPS = 254
REFILLED = ("k", "kv", "hits", "illegal")
"""Values of a trace's `meta` that name an array of the page."""


@dataclass(frozen=True)
class Packed:
    """One map: base64 of its deflated bytes, the values of the lowest and highest code, rows and columns."""

    data: str
    low: float
    high: float
    rows: int
    columns: int

    def attributes(self) -> dict[str, Any]:
        """What the page must know to decode it."""
        return {"low": self.low, "high": self.high, "rows": self.rows, "columns": self.columns}


def pack_map(values: Float[np.ndarray, "op1 op2"]) -> Packed:
    """A map with NaN where there is no prompt."""
    held = np.isfinite(values)
    low, high = (float(values[held].min()), float(values[held].max())) if held.any() else (0.0, 0.0)
    span = (high - low) or 1.0
    codes = np.zeros(values.shape, dtype=np.uint8)
    codes[held] = 1 + np.rint(STEPS * (values[held].astype(np.float64) - low) / span).astype(np.uint8)
    return Packed(deflated(codes), low, high, *values.shape)


def unpack_map(packed: Packed) -> Float[np.ndarray, "op1 op2"]:
    """What the page makes of it."""
    codes = inflated(packed.data, np.uint8).reshape(packed.rows, packed.columns).astype(np.float64)
    values = packed.low + (codes - 1) * (packed.high - packed.low) / STEPS
    return np.asarray(np.where(codes == 0, np.nan, values))


def pack_codes(codes: Int[np.ndarray, "op1 op2"]) -> str:
    """Small whole numbers, one byte each."""
    return deflated(codes.astype(np.uint8))


def pack_floats(values: Float[np.ndarray, "number"]) -> str:
    """float32, exact."""
    return deflated(values.astype("<f4"))


def deflated(values: np.ndarray) -> str:
    """An array's bytes, deflated, in base64."""
    return _base64(zlib.compress(np.ascontiguousarray(values).tobytes(), 9))


def inflated(data: str, dtype: Any) -> np.ndarray:
    """The flat array back."""
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=dtype)


def pack_figures(figures: Mapping[str, go.Figure | theme.Plain], *, size: int = 2_000) -> tuple[str, str]:
    """Figures by name (or their plain values) as deflated JSON, and the deflated numbers of their arrays; no templates.

    Arrays that the page holds anyway (`REFILLED`, more than `size` cells) are left out; a heat map that shades illegal
    prompts is known by having no hover text. The others are stored once each, floats with 12 bits of mantissa (one part
    in 8,000, far below a pixel), byte by byte across the array, which deflates well. In the JSON stands `{"$": index}`.
    """
    arrays = _Arrays([], {})
    plain = {name: _plain(figure, size, arrays) for name, figure in figures.items()}
    text = to_json_plotly({"arrays": [[dtype, n] for dtype, n, _ in arrays.held], "figures": plain})
    blob = zlib.compress(b"".join(data for _, _, data in arrays.held), 9)
    return _base64(zlib.compress(text.encode(), 9)), _base64(blob)


@dataclass(frozen=True)
class _Arrays:
    """Arrays met so far: type, length, shuffled bytes; and where each stands."""

    held: list[tuple[str, int, bytes]]
    places: dict[tuple[str, bytes], int]

    def put(self, values: np.ndarray) -> int:
        """Where the array stands, after storing it in the smallest type that pages read."""
        if values.dtype.kind in "iu":
            low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
            dtype = next((d for d in ("i1", "i2", "i4") if np.iinfo(d).min <= low and high <= np.iinfo(d).max), "f4")
        else:
            dtype = "f4"
        values = np.ascontiguousarray(values).ravel().astype(f"<{dtype}")
        if dtype == "f4":
            values = (values.view("<u4") + 0x400 & 0xFFFFF800).view("<f4")
            values = np.where(np.isfinite(values), values, np.float32(np.nan)).astype("<f4")
        key = dtype, values.tobytes()
        if key not in self.places:
            shuffled = np.frombuffer(key[1], dtype=np.uint8).reshape(-1, values.itemsize).T.tobytes()
            self.places[key] = len(self.held)
            self.held.append((dtype, len(values), shuffled))
        return self.places[key]


def _plain(figure: go.Figure | theme.Plain, size: int, arrays: _Arrays) -> dict[str, Any]:
    plain = cast(dict[str, Any], figure.to_plotly_json() if isinstance(figure, go.Figure) else figure)
    layout = {k: v for k, v in plain["layout"].items() if k != "template"}
    traces = []
    for trace in plain["data"]:
        cells = _cells(trace.get("z"))
        if cells > size and trace.get("hoverinfo") == "skip":
            trace = trace | {"meta": "illegal"}
        if cells > size and trace.get("meta") in REFILLED:
            trace = {k: v for k, v in trace.items() if k not in ("z", "customdata")}
        traces.append(trace)
    return cast(dict[str, Any], _without_arrays({"data": traces, "layout": layout}, arrays))


def _without_arrays(value: Any, arrays: _Arrays) -> Any:
    """The same with each encoded array replaced by where it stands."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iuf":
            return value.tolist()
        shape = {"shape": ",".join(str(n) for n in value.shape)} if value.ndim > 1 else {}
        return {"$": arrays.put(value)} | shape
    if isinstance(value, dict):
        if isinstance(value.get("bdata"), str):
            place = {"$": arrays.put(np.frombuffer(base64.b64decode(value["bdata"]), dtype=f"<{value['dtype']}"))}
            return place | ({"shape": value["shape"]} if "shape" in value else {})
        return {key: _without_arrays(part, arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(part, arrays) for part in value]
    return value


def _cells(z: Any) -> int:
    """Cells of an array, as numpy has it or as plotly writes it."""
    if isinstance(z, dict):
        return math.prod(int(n) for n in str(z.get("shape", "0")).split(","))
    return int(np.size(z)) if isinstance(z, np.ndarray) else 0


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
