"""Figures of single MLP neurons at `=`: how strong, how well estimated, how much shared.

`agreement`       per layer: Spearman correlation of the first-order estimate with the exact effect over all neurons,
                  and the share of the exact top k that the estimate's top k has, beside what chance gives
`effect_curves`   the neurons of each layer by the size of their effect: how few carry it
`overlap_matrix`  intersection over union of the operators' important neurons, beside that of random sets of the same
                  sizes per layer

Effects are exact (table `neurons`, method `exact`): one neuron patched alone from the counterfactual prompt, in nats of
logit difference, positive when the neuron speaks for the answer. Single neurons that back each other up look weak.
"""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from arithcirc.viz import theme
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.panels import colour_axis, heat, legend_below

POINTS = 60
"""Points drawn of each effect curve, spread evenly over the logarithm of the rank."""

LAYERS = 10
"""Layers drawn at most by `effect_curves`; of more, evenly spaced ones with the first and the last."""

_SHAPES = {"+": ("solid", "circle"), "-": ("dash", "square"), "*": ("dot", "triangle-up"), "/": ("dashdot", "diamond")}
_LAYER_SCALE = ("#3b4cc0", "#2f8fd0", "#1fb5a6", "#6fbf4a", "#d8b11e", "#e0752a", "#b8322a")


def agreement(table: pd.DataFrame) -> go.Figure:
    """How well the estimate ranks: rank correlation on the left, overlap of the top k on the right."""
    rows = require(table, "neuron_agreement", ("operator", "layer", "spearman", "overlap"))
    top = sorted({f"{t:.0f}" for t in numbers(rows, ["top"])[:, 0] if np.isfinite(t)}, key=int)
    k = f"k = {', '.join(top)}" if len(top) <= 4 else "k of each layer"
    figure = make_subplots(
        rows=1,
        cols=2,
        horizontal_spacing=0.08,
        subplot_titles=["rank correlation over all neurons", f"share of the exact top k found, {k}"],
    )
    figure.update_layout(template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}}] * 2)
    for add in (_agreement_lines, _chance_line):
        for operator in theme.ordered(rows["operator"]):
            part = rows[rows["operator"] == operator].sort_values("layer")
            facts = numbers(part, ["spearman", "overlap", "expected", "top", "n", "pearson"])
            facts[np.isnan(facts[:, 0]), 1] = np.nan  # without any effect in the layer, the top k are arbitrary
            add(figure, operator, part["layer"].to_numpy(dtype=np.int64), facts)
    figure.update_layout(title="First-order estimate against exact effect of every neuron, per layer")
    legend_below(figure, 380)
    few = rows["layer"].max() <= 16
    figure.update_xaxes(title="layer", zeroline=False, dtick=1 if few else None)
    lowest = float(np.nanmin(numbers(rows, ["spearman"]), initial=0.0))
    figure.update_yaxes(title="Spearman correlation", range=[lowest - 0.05, 1.05], row=1, col=1)
    figure.update_yaxes(title="share", range=[-0.05, 1.05], row=1, col=2)
    return figure


def _agreement_lines(figure: go.Figure, operator: str, layers: np.ndarray, facts: np.ndarray) -> None:
    dash, symbol = _SHAPES.get(operator, ("solid", "circle"))
    colour, name = theme.operator_colour(operator), theme.operator_title(operator)
    hovers = (
        "layer %{x}<br>Spearman %{y:.3f}, Pearson %{customdata[5]:.3f}<br>%{customdata[4]:.0f} neurons",
        "layer %{x}<br>%{y:.3f} of the top %{customdata[3]:.0f}<br>by chance %{customdata[2]:.3f}",
    )
    for panel, hover in enumerate(hovers, start=1):
        line = go.Scatter(
            x=layers,
            y=facts[:, panel - 1],
            customdata=facts,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"size": 8, "symbol": symbol},
            name=name,
            legendgroup=operator,
            showlegend=panel == 1,
            hovertemplate=f"{hover}<extra>{name}</extra>",
        )
        figure.add_trace(line, row=1, col=panel)


def _chance_line(figure: go.Figure, operator: str, layers: np.ndarray, facts: np.ndarray) -> None:
    chance = go.Scatter(
        x=layers,
        y=facts[:, 2],
        mode="lines",
        line={"color": theme.operator_colour(operator), "width": 1, "dash": "dot"},
        name="expected by chance (in the operator's colour)",
        legendgroup="chance",
        showlegend=not any(t.legendgroup == "chance" for t in figure.data),
        hovertemplate=f"by chance %{{y:.3f}}<extra>{theme.operator_title(operator)}</extra>",
    )
    figure.add_trace(chance, row=1, col=2)


def effect_curves(table: pd.DataFrame) -> go.Figure:
    """Size of the exact mean effect against rank in the layer, one line per layer, one panel per operator.

    Both axes are logarithmic, so a layer in which no neuron has an effect worth drawing is left out; the title says so.
    """
    wanted = {"method": "exact", "metric": "logit_diff"}
    rows = require(table, "neurons", ("operator", "layer", "neuron", "effect"), wanted)
    present = theme.ordered(rows["operator"])
    layers = shown_layers(sorted(rows["layer"].unique().tolist()))
    figure = theme.facets(present)
    drawn: set[int] = set()
    largest = float(rows["effect"].abs().max()) or 1.0
    floor = largest * 1e-4
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        for i, layer in enumerate(layers):
            effect = part.loc[part["layer"] == layer, "effect"].to_numpy(dtype=np.float64)
            if effect.size and np.abs(effect).max() > floor:
                _add_curve(figure, panel, operator, effect, (layer, layer_colour(i, len(layers)), layer not in drawn))
                drawn.add(layer)
    still = [str(n) for n in layers if n not in drawn]
    left_out = f"; next to no effect in layer {', '.join(still)}" if still else ""
    figure.update_layout(title=f"Exact effect of every neuron at =, largest first (open marks: negative){left_out}")
    legend_below(figure, 420)
    figure.update_xaxes(title="neurons, largest effect first", type="log", dtick=1, zeroline=False)
    ticks = [10.0**e for e in range(math.floor(np.log10(floor)), math.ceil(np.log10(largest)) + 1)]
    limits = [np.log10(floor), np.log10(largest) + 0.15]
    figure.update_yaxes(type="log", range=limits, tickvals=ticks, ticktext=[f"{t:g}" for t in ticks], zeroline=False)
    figure.update_yaxes(title="size of the effect (nats)", row=1, col=1)
    return figure


def _add_curve(figure: go.Figure, panel: int, operator: str, effect: np.ndarray, line: tuple[int, str, bool]) -> None:
    layer, colour, legend = line
    ordered = effect[np.argsort(-np.abs(effect), kind="stable")]
    rank = log_ranks(effect.size)
    shown = ordered[rank - 1]
    figure.add_trace(
        go.Scatter(
            x=rank,
            y=np.where(shown == 0, np.nan, np.abs(shown)).astype(np.float32),
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"symbol": "circle-open", "size": np.where(shown < 0, 6, 0).tolist(), "color": colour},
            customdata=shown.astype(np.float32),
            name=f"layer {layer}",
            legendgroup=f"layer {layer}",
            showlegend=legend,
            hovertemplate=f"layer {layer}, neuron %{{x}} of {effect.size:,} by size<br>%{{customdata:.4f}} nats"
            f"<extra>{theme.operator_title(operator)}</extra>",
        ),
        row=1,
        col=panel,
    )


def shown_layers(layers: list[int]) -> list[int]:
    """All layers, or `LAYERS` of them, evenly spaced."""
    if len(layers) <= LAYERS:
        return layers
    return [layers[i] for i in sorted(set(np.linspace(0, len(layers) - 1, LAYERS).round().astype(int).tolist()))]


def log_ranks(n: int) -> np.ndarray:
    """Ranks 1..n, thinned to about `POINTS` evenly over their logarithm; the first and the last are kept."""
    return np.unique(np.geomspace(1, n, POINTS).round().astype(np.int32))


def layer_colour(index: int, count: int) -> str:
    """Colours from early to late layers."""
    return _LAYER_SCALE[round(index * (len(_LAYER_SCALE) - 1) / max(count - 1, 1))]


def overlap_matrix(table: pd.DataFrame) -> go.Figure:
    """Intersection over union of the operators' important neurons, and what random sets of the same sizes share."""
    rows = require(table, "neuron_overlap", ("operator", "other", "iou"))
    present = theme.ordered([*rows["operator"], *rows["other"]])
    names = [theme.operator_title(o) for o in present]
    index = {o: i for i, o in enumerate(present)}
    columns = ("iou", "expected", "shared", "union")
    grid = np.full((len(present), len(present), len(columns)), np.nan)
    y, x = rows["operator"].map(index).to_numpy(), rows["other"].map(index).to_numpy()
    facts = numbers(rows, columns)
    grid[x, y] = facts
    grid[y, x] = facts
    grid[np.arange(len(present)), np.arange(len(present))] = np.nan
    titles = ["important neurons of this model", "random sets of the same sizes per layer"]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06, subplot_titles=titles)
    figure.update_layout(template=theme.template("light"), annotations=[{"font": {"size": theme.FONT_SIZE}}] * 2)
    hover = (
        "%{y} and %{x}<br>IoU %{customdata[0]:.3f}, expected %{customdata[1]:.3f}"
        "<br>%{customdata[2]:.0f} shared of %{customdata[3]:.0f}<extra></extra>"
    )
    for panel in (1, 2):
        z = grid[..., panel - 1]
        cells = np.array([["" if np.isnan(v) else f"{v:.2f}" for v in line] for line in z])
        heat(figure, panel, z, names, names, hover=hover, text=cells, customdata=grid)
    figure.update_layout(title="Overlap of the operators' important neurons (intersection over union)", height=330)
    colour_axis(figure, "IoU", 0.0, 1.0)
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(showgrid=False, zeroline=False, autorange="reversed")
    return figure
