"""Figures that set two runs, checkpoints or operators side by side, A and B, on common axes and colour scales.

`effect_pair`     layer x head of A, of B and, where both have the same shape, B - A on the same scale, in nats
`curve_pair`      faithfulness of the ranked circuit against number of heads
`neuron_pair`     exact effect of each neuron in A against B; important ones marked by where they are important
`overlap_layers`  per layer, how many important neurons both have, beside what random sets of the same sizes share
`family_pair`     share of the neurons tested for labels that have one of each family

A neuron of A and one of B are the same only where the weights descend from each other (checkpoints of one run, or two
operators of one model); between unrelated models an index means nothing, and chance is what to expect.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.effects import drawn
from arithcirc.viz.frames import flags, numbers, require
from arithcirc.viz.heuristics import sample
from arithcirc.viz.panels import colour_axis, heat, legend_below

COLOURS = {"A": "#2f7ebc", "B": "#d9731a"}
DASHES = {"A": "solid", "B": "dash"}
SHOWN = 600
"""Neurons important in neither that are drawn."""
_KINDS = {
    "both": ("important in both", "#1b9e77", "circle"),
    "A": ("important in A only", COLOURS["A"], "triangle-up"),
    "B": ("important in B only", COLOURS["B"], "square"),
    "neither": ("in neither", theme.GREY, "circle-open"),
}


def effect_grid(effects: pd.DataFrame, *, position: str, change: str, metric: str) -> np.ndarray:
    """Mean effects of one operator's heads, shape (layer, head), as they are drawn. RequestError without such rows."""
    where = {"kind": "head", "position": position, "change": change, "metric": metric}
    rows = require(effects, "effects", ("layer", "head", "mean"), where)
    layer, head = rows["layer"].to_numpy(dtype=np.int64), rows["head"].to_numpy(dtype=np.int64)
    grid = np.full((int(layer.max()) + 1, int(head.max()) + 1), np.nan)
    grid[layer, head] = rows["mean"].to_numpy(dtype=np.float64)
    return drawn(grid, metric)


def effect_pair(a: np.ndarray, b: np.ndarray, *, metric: str = "logit_diff") -> go.Figure:
    """`a` and `b` have shape (layer, head)."""
    grids = [("A", a), ("B", b)]
    if a.shape == b.shape:
        grids.append(("B − A", b - a))
    figure = make_subplots(rows=1, cols=len(grids), subplot_titles=[name for name, _ in grids], horizontal_spacing=0.05)
    figure.update_layout(
        template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}}] * len(grids)
    )
    limit = 0.0
    for column, (name, z) in enumerate(grids, start=1):
        hover = f"{name}, L%{{y}}H%{{x}}: %{{z:.3f}}<extra></extra>"
        heat(figure, column, z, range(z.shape[1]), range(z.shape[0]), hover=hover, decimals=1)
        limit = max(limit, float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 0.0)
    colour_axis(figure, theme.METRICS[metric].axis, -(limit or 1.0), limit or 1.0)
    figure.update_xaxes(title="head", showgrid=False, zeroline=False)
    for column, (_, z) in enumerate(grids, start=1):
        figure.update_xaxes(dtick=1 if z.shape[1] <= 12 else None, row=1, col=column)
        figure.update_yaxes(dtick=1 if z.shape[0] <= 16 else None, row=1, col=column)
    figure.update_yaxes(showgrid=False, zeroline=False)
    return figure.update_yaxes(title="layer", row=1, col=1)


def curve_pair(curves: Mapping[str, pd.DataFrame], *, target: float = 0.9) -> go.Figure:
    """`curves` maps A and B to rows of table `faithfulness` of one operator; a side without rows is left out."""
    figure = go.Figure(layout={"template": theme.template("light")})
    for name, table in curves.items():
        rows = table[table["circuit"].isin(["ranked", "full"])]
        rows = rows[rows["set"] == "evaluate"] if (rows["set"] == "evaluate").any() else rows
        rows = rows.sort_values("n_heads").drop_duplicates("n_heads")
        facts = numbers(rows, ["faithfulness", "faithfulness_sem", "n"])
        marked = flags(rows, "chosen")
        figure.add_trace(
            go.Scatter(
                x=rows["n_heads"],
                y=facts[:, 0],
                mode="lines+markers",
                line={"color": COLOURS[name], "width": 2, "dash": DASHES[name]},
                marker={
                    "size": np.where(marked, 14, 5).tolist(),
                    "symbol": ["diamond-open" if m else "circle" for m in marked],
                    "color": COLOURS[name],
                    "line": {"width": np.where(marked, 2, 0).tolist(), "color": COLOURS[name]},
                },
                customdata=facts,
                hovertemplate=f"{name}, %{{x}} heads<br>F %{{y:.3f}} ± %{{customdata[1]:.3f}}, "
                "%{customdata[2]:.0f} prompts<extra></extra>",
                name=name,
            )
        )
    if not figure.data:
        raise RequestError("neither side has a circuit: run 'arithcirc circuit' first")
    figure.add_hline(y=target, line_dash="dot", line_color=theme.GREY, line_width=1)
    figure.update_xaxes(title="heads in the circuit (diamond: chosen)", rangemode="tozero", zeroline=False)
    return figure.update_yaxes(title="faithfulness F", zeroline=True)


def matched_neurons(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Exact effects of neurons both sides have: layer, neuron, effect and rank of each, and where it is important."""
    both = _exact(a).merge(_exact(b), on=["layer", "neuron"], suffixes=("_a", "_b"))
    where = np.select(
        [both["important_a"] & both["important_b"], both["important_a"], both["important_b"]],
        ["both", "A", "B"],
        "neither",
    )
    return both.assign(where=where)


def _exact(table: pd.DataFrame) -> pd.DataFrame:
    rows = require(table, "neurons", ("layer", "neuron", "effect", "rank"), {"method": "exact", "metric": "logit_diff"})
    return rows[["layer", "neuron", "effect", "rank"]].assign(important=flags(rows, "important"))


def neuron_pair(both: pd.DataFrame, *, by: str = "effect") -> go.Figure:
    """`both` as `matched_neurons` makes it; `by` is effect (nats, on a square-root scale) or rank (in its layer)."""
    figure = go.Figure(layout={"template": theme.template("light")})
    place = _root if by == "effect" else np.asarray
    for kind in ("neither", "A", "B", "both"):
        name, colour, symbol = _KINDS[kind]
        rows = both[both["where"] == kind]
        shown = sample(rows, SHOWN) if kind == "neither" else rows
        count = f"{len(rows):,}" if len(shown) == len(rows) else f"{len(shown):,} of {len(rows):,}"
        values = numbers(shown, [f"{by}_a", f"{by}_b"])
        figure.add_trace(
            go.Scatter(
                x=place(values[:, 0]).astype(np.float32),
                y=place(values[:, 1]).astype(np.float32),
                mode="markers",
                marker={"size": 4 if kind == "neither" else 6, "color": colour, "symbol": symbol, "opacity": 0.7},
                customdata=np.column_stack([shown[["layer", "neuron"]].to_numpy(dtype=np.float64), values]),
                text=[f"L{layer}N{n}" for layer, n in zip(shown["layer"], shown["neuron"], strict=True)],
                hovertemplate="%{text}<br>A %{customdata[2]:.4~g}, B %{customdata[3]:.4~g}<extra></extra>",
                name=f"{name} ({count})",
            )
        )
    held = both[[f"{by}_a", f"{by}_b"]].to_numpy(dtype=np.float64)
    low, high = (float(np.nanmin(held)), float(np.nanmax(held))) if len(both) else (0.0, 1.0)
    ends = place(np.array([low, high]))
    figure.add_shape(
        type="line", x0=ends[0], y0=ends[0], x1=ends[1], y1=ends[1],
        line={"color": theme.GREY, "dash": "dot", "width": 1},
    )  # fmt: skip
    axis: dict[str, Any] = {"zeroline": False, "autorange": "reversed"}
    if by == "effect":
        ticks = [t for t in _TICKS if low * 1.1 <= t <= high * 1.1]
        axis = {"zeroline": True, "tickvals": _root(np.array(ticks)).tolist(), "ticktext": [f"{t:g}" for t in ticks]}
    unit = "exact effect (nats, square-root scale)" if by == "effect" else "rank in its layer"
    figure.update_xaxes(title=f"A: {unit}", **axis)
    figure.update_yaxes(title=f"B: {unit}", **axis)
    legend_below(figure, 380)
    return figure


def _root(values: np.ndarray) -> np.ndarray:
    """Signed square root: spreads the many small effects and keeps zero."""
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)))


_TICKS = (-20, -10, -5, -2, -1, -0.5, -0.2, -0.05, 0, 0.05, 0.2, 0.5, 1, 2, 5, 10, 20)


def shared_by_layer(both: pd.DataFrame) -> pd.DataFrame:
    """Per layer: neurons, important in a and b, shared, and `expected` to be shared by random sets of these sizes."""
    a, b = both["where"].isin(["A", "both"]), both["where"].isin(["B", "both"])
    counted = pd.DataFrame({"layer": both["layer"], "n": 1, "a": a, "b": b, "shared": a & b})
    found = counted.groupby("layer", as_index=False).sum()
    return found.assign(expected=found["a"] * found["b"] / found["n"])


def overlap_layers(by_layer: pd.DataFrame) -> go.Figure:
    """`by_layer` as `shared_by_layer` makes it; layers where neither side has an important neuron are left out."""
    rows = by_layer[(by_layer["a"] > 0) | (by_layer["b"] > 0)]
    figure = go.Figure(layout={"template": theme.template("light")})
    x = rows["layer"].astype(str).tolist()
    bars = [("A", "a", COLOURS["A"]), ("B", "b", COLOURS["B"]), ("both", "shared", _KINDS["both"][1])]
    for name, column, colour in bars:
        hover = f"layer %{{x}}: %{{y}} important in {name}<extra></extra>"
        figure.add_trace(go.Bar(x=x, y=rows[column], name=name, marker={"color": colour}, hovertemplate=hover))
    figure.add_trace(
        go.Scatter(
            x=x,
            y=rows["expected"],
            mode="markers",
            marker={"symbol": "line-ew", "size": 26, "line": {"width": 2.5, "color": theme.CHOSEN}},
            name="both, by chance",
            hovertemplate="layer %{x}: %{y:.1f} expected in both by chance<extra></extra>",
        )
    )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(title="layer", type="category", showgrid=False)
    figure.update_yaxes(title="important neurons", rangemode="tozero")
    legend_below(figure, 380)
    return figure


def family_counts(labels: pd.DataFrame, tested: int, *, kind: str = "matched") -> dict[str, float]:
    """Share of the neurons tested for labels that have one of each family."""
    rows = labels[flags(labels, kind)][["family", "layer", "neuron"]].drop_duplicates()
    counts = rows["family"].value_counts()
    return {str(family): int(n) / max(tested, 1) for family, n in counts.items()}


def family_pair(shares: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """`shares` maps A and B to shares by family."""
    families = theme.family_order({family for side in shares.values() for family in side})
    figure = go.Figure(layout={"template": theme.template("light")})
    for name, side in shares.items():
        figure.add_trace(
            go.Bar(
                y=[theme.family_name(family) for family in families],
                x=[side.get(family, 0.0) for family in families],
                orientation="h",
                name=name,
                marker={"color": COLOURS[name], "pattern": {"shape": "" if name == "A" else "/"}},
                hovertemplate=f"{name}, %{{y}}: %{{x:.1%}} of the neurons tested<extra></extra>",
            )
        )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(
        title="share of the neurons tested that have such a label", tickformat=".0%", rangemode="tozero"
    )
    return figure.update_yaxes(autorange="reversed", showgrid=False)
