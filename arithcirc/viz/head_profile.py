"""Figures of one attention head, and of all heads on one prompt.

`attention_bars`  mean attention from `=` to each position, +- standard deviation over prompts
`decoded_bars`    held-out accuracy of a linear probe on the head's output at `=`, beside its base rate
`head_effects`    position x counterfactual: the head's patching effect wherever it was patched
`prompt_attention`  one head's attention from `=` on one prompt, over its tokens
`logit_map`       layer x head: direct logit attribution of every head to one number on one prompt, in nats

Attention says where a head looks, not what it takes from there; a decodable part need not be used; direct logit
attribution leaves out what a head does through later layers. All take plain rows or arrays of one operator.
"""

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.effects import drawn
from arithcirc.viz.frames import numbers, require
from arithcirc.viz.panels import colour_axis, heat, outline

PARTS = ("op1", "operator", "op2", "result")


def attention_bars(rows: pd.DataFrame, *, colour: str) -> go.Figure:
    """Rows of table `heads` of one operator and one head."""
    held = require(rows, "heads", ("position", "attention"))
    places = [p for p in theme.ALL_POSITIONS if p in set(held["position"])]
    facts = numbers(held.set_index("position").loc[places], ["attention", "attention_std", "n"])
    labels = [theme.POSITION_LABELS.get(p, p) for p in places]
    figure = go.Figure(
        go.Bar(
            x=facts[:, 0],
            y=labels,
            orientation="h",
            marker={"color": colour},
            error_x={"type": "data", "array": facts[:, 1], "thickness": 1.2, "width": 3},
            customdata=facts,
            hovertemplate="from = to %{y}<br>mean attention %{x:.3f}, s.d. %{customdata[1]:.3f} over "
            "%{customdata[2]:.0f} prompts<extra></extra>",
        )
    )
    return _bars(figure, labels, "mean attention (± s.d. over prompts)")


def prompt_attention(tokens: Sequence[tuple[str, str]], attention: np.ndarray, *, colour: str) -> go.Figure:
    """`tokens` are (position, text), `attention` one number for each."""
    labels = [_named(theme.POSITION_LABELS.get(place, place), html.escape(text)) for place, text in tokens]
    figure = go.Figure(
        go.Bar(
            x=np.asarray(attention, dtype=np.float64),
            y=labels,
            orientation="h",
            marker={"color": colour},
            text=[f"{a:.2f}" for a in attention],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="from = to %{y}<br>attention %{x:.4f}<extra></extra>",
        )
    )
    return _bars(figure, labels, "attention from = on this prompt")


def _named(place: str, text: str) -> str:
    return place if place == text.strip() else f"{place}  {text}"


def _single() -> go.Figure:
    """One empty panel that `heat` can draw into."""
    return theme.facets([""]).update_layout(annotations=())


def _bars(figure: go.Figure, labels: Sequence[str], title: str) -> go.Figure:
    figure.update_layout(template=theme.template("light"), bargap=0.35, showlegend=False)
    figure.update_xaxes(title=title, range=[0, 1.12], zeroline=False, tickvals=[0, 0.25, 0.5, 0.75, 1])
    order = {"type": "category", "categoryorder": "array", "categoryarray": list(labels)[::-1]}
    return figure.update_yaxes(**order, showgrid=False, ticks="")


def decoded_bars(rows: pd.DataFrame, *, colour: str) -> go.Figure:
    """Rows of table `head_copies` of one head: those of one operator, and those of operator `all`."""
    held = require(rows, "head_copies", ("what", "accuracy", "base_rate")).drop_duplicates("what").set_index("what")
    parts = [p for p in PARTS if p in held.index]
    facts = numbers(held.loc[parts], ["accuracy", "base_rate", "n"])
    figure = go.Figure(
        [
            go.Bar(
                x=facts[:, 0],
                y=parts,
                orientation="h",
                marker={"color": colour},
                customdata=facts,
                name="probe on the head’s output",
                hovertemplate="%{y}: accuracy %{x:.3f}, base rate %{customdata[1]:.3f}<br>%{customdata[2]:.0f} "
                "held-out prompts<extra></extra>",
            ),
            go.Scatter(
                x=facts[:, 1],
                y=parts,
                mode="markers",
                marker={"symbol": "line-ns", "size": 20, "line": {"width": 2.5, "color": theme.CHOSEN}},
                name="always the most frequent value",
                hovertemplate="%{y}: base rate %{x:.3f}<extra></extra>",
            ),
        ]
    )
    return _bars(figure, parts, "held-out accuracy (mark: base rate)")


def head_effects(effects: pd.DataFrame, *, layer: int, head: int, metric: str = "logit_diff") -> go.Figure:
    """Rows of table `effects` of one operator: where patching this head matters, and for which change of the prompt."""
    where = {"kind": "head", "layer": layer, "head": head, "metric": metric}
    rows = require(effects, "effects", ("position", "change", "mean"), where)
    places = [p for p in theme.POSITIONS if p in set(rows["position"])]
    changes = [c for c in theme.CHANGES if c in set(rows["change"])]
    facts = np.full((len(changes), len(places), 4), np.nan)
    y, x = rows["change"].map(changes.index).to_numpy(), rows["position"].map(places.index).to_numpy()
    facts[y, x] = numbers(rows, ["mean", "median", "sem", "n"])
    z = drawn(facts[..., 0], metric)
    unit = f" {theme.METRICS[metric].unit}".rstrip() if metric != "E" else ""
    figure = _single()
    heat(
        figure, 1, z, [theme.POSITION_LABELS[p] for p in places], [theme.CHANGE_LABELS[c] for c in changes],
        hover=f"patched at %{{x}}, %{{y}} differs<br>mean %{{customdata[0]:.4~g}}{unit}<br>median "
        f"%{{customdata[1]:.4~g}}{unit}<br>standard error %{{customdata[2]:.3~g}}, n = %{{customdata[3]:.0f}}"
        "<extra></extra>",
        customdata=facts.astype(np.float32),
    )  # fmt: skip
    limit = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 1.0
    colour_axis(figure, theme.METRICS[metric].axis, -(limit or 1) if theme.METRICS[metric].signed else 0.0, limit or 1)
    figure.update_xaxes(title="patched position", type="category", showgrid=False, zeroline=False)
    return figure.update_yaxes(title="counterfactual", type="category", autorange="reversed", showgrid=False)


def logit_map(values: np.ndarray, *, chosen: tuple[int, int] | None = None, number: int | str = "") -> go.Figure:
    """`values` has shape (layer, head): what each head writes into the logit of `number`, in nats."""
    z = np.asarray(values, dtype=np.float64)
    figure = _single()
    hover = f"L%{{y}}H%{{x}} writes %{{z:.3f}} nats into the logit of {number}<extra></extra>"
    heat(figure, 1, z, range(z.shape[1]), range(z.shape[0]), hover=hover, decimals=1)
    limit = float(np.abs(z).max(initial=0.0)) or 1.0
    colour_axis(figure, "direct logit attribution (nats)", -limit, limit)
    if chosen is not None:
        outline(figure, 1, chosen[1], chosen[0])
    figure.update_xaxes(title="head", showgrid=False, zeroline=False, dtick=1 if z.shape[1] <= 12 else None)
    return figure.update_yaxes(title="layer", showgrid=False, zeroline=False, dtick=1 if z.shape[0] <= 16 else None)
