"""What one neuron does to prompts, not on average but prompt by prompt.

`effect_histogram`  the exact effect of patching it on every discover pair (nats of logit difference; positive: it
                    speaks for the answer), for pairs whose clean prompt is in the chosen heuristic and for the others,
                    with both means
`drop_histogram`    fall of the answer's log probability (nats), or of its lead (its logit less the largest other one),
                    when it is knocked out, over prompts answered correctly before; those whose answer changes apart

A share per bar, so that groups of different size compare. One neuron patched alone: neurons that back each other up
look weak.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float

from arithcirc.viz import theme
from arithcirc.viz.gallery import MARK

BINS = 40
PILED = 0.75
"""Share of a group in one bar from which shares are on a logarithmic axis: the few others would not be seen."""
INSIDE, OUTSIDE, CHANGED = MARK, "#2f7ebc", "#c2255c"


def effect_histogram(
    effects: Float[np.ndarray, "pair"], inside: Bool[np.ndarray, "pair"] | None = None, *, name: str = "the heuristic"
) -> go.Figure:
    """Effects per pair; `inside` says which pairs' clean prompts the heuristic holds of."""
    return theme.figure(plain_effects(effects, inside, name=name))


def drop_histogram(
    drop: Float[np.ndarray, "case"], changed: Bool[np.ndarray, "case"], *, of: str = "log probability"
) -> go.Figure:
    """Falls of the answer's log probability, or of what `of` says; `changed` tells where another answer is given."""
    return theme.figure(plain_drops(drop, changed, of=of))


def plain_effects(
    effects: Float[np.ndarray, "pair"], inside: Bool[np.ndarray, "pair"] | None = None, *, name: str = "the heuristic"
) -> theme.Plain:
    """`effect_histogram` as plain values."""
    groups = [("all pairs", OUTSIDE, np.ones(len(effects), dtype=bool))]
    if inside is not None and inside.any() and not inside.all():
        groups = [(f"outside {name}", OUTSIDE, ~inside), (f"in {name}", INSIDE, inside)]
    means = [float(effects[held].mean()) for *_, held in groups]
    named = [
        (f"{label}: mean (dashed) {theme.number(mean, 3)}, n = {int(held.sum())}", colour, effects[held])
        for (label, colour, held), mean in zip(groups, means, strict=True)
    ]
    layout = _layout("patching effect (nats)") | {"barmode": "overlay"}
    layout["shapes"] = [
        {
            "type": "line", "xref": "x", "x0": mean, "x1": mean, "yref": "y domain", "y0": 0, "y1": 1,
            "line": {"width": 1.5, "dash": "dash", "color": colour},
        }
        for (_, colour, _), mean in zip(groups, means, strict=True)
    ]  # fmt: skip
    bars = _bars(named, "effect %{x:.3g} nats")
    if bars and max(float(bar["y"].max()) for bar in bars) > PILED:
        least = np.log10(0.5 / len(effects))
        layout["yaxis"] |= {"type": "log", "range": [least, 0.1], "tickformat": "~%", "dtick": 1}
        layout["yaxis"]["title"] = layout["yaxis"]["title"] | {"text": "share of prompts (log)"}
    return {"data": bars, "layout": layout}


def plain_drops(
    drop: Float[np.ndarray, "case"], changed: Bool[np.ndarray, "case"], *, of: str = "log probability"
) -> theme.Plain:
    """`drop_histogram` as plain values."""
    groups = [("answer stays", OUTSIDE, ~changed), ("answer changes", CHANGED, changed)]
    held = [(f"{label}, n = {int(at.sum())}", colour, drop[at]) for label, colour, at in groups if at.any()]
    layout = _layout(f"fall of the answer's {of} (nats)") | {"barmode": "stack"}
    return {"data": _bars(held, "falls by %{x:.3g} nats", together=True), "layout": layout}


def _bars(groups: list[tuple[str, str, np.ndarray]], hover: str, *, together: bool = False) -> list[dict[str, Any]]:
    """Histograms with the same bins: shares of each group, or of all groups `together`."""
    values = np.concatenate([v for *_, v in groups]) if groups else np.zeros(1)
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    edges = np.linspace(low, high if high > low else low + 1e-3, BINS + 1)
    traces = []
    for label, colour, held in groups:
        count = np.histogram(held, bins=edges)[0]
        traces.append({
            "type": "bar", "x": ((edges[:-1] + edges[1:]) / 2).astype(np.float32),
            "y": (count / max(len(values) if together else len(held), 1)).astype(np.float32),
            "width": float(edges[1] - edges[0]), "customdata": count.astype(np.int32), "name": label, "opacity": 0.62,
            "marker": {"color": colour, "line": {"width": 0}},
            "hovertemplate": f"{hover}<br>%{{customdata}} prompts, %{{y:.1%}}<extra></extra>",
        })  # fmt: skip
    return traces


def _layout(title: str) -> dict[str, Any]:
    return {
        "height": 250, "margin": {"l": 48, "r": 10, "t": 8, "b": 66}, "bargap": 0, "showlegend": True,
        "legend": {"y": -0.27, "yanchor": "top", "x": 0, "font": {"size": theme.SMALL}},
        "xaxis": {"title": {"text": title, "standoff": 2}, "zeroline": True, "exponentformat": "power"},
        "yaxis": {"title": {"text": "share of prompts", "standoff": 4}, "tickformat": ".0%", "nticks": 5},
    }  # fmt: skip
