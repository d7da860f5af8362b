"""The waterfall of a prompt: from 0 to a logit (or a difference of two) in steps, a neuron or a group of parts each.

Bars run from the sum so far to the next; their colour is the group, their direction the sign, and the last bar is the
logit itself. Steps come in the order of the layers, so the height after a layer is what has been written directly up to
there. Since contributions sum to the logit exactly, no step is left over.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from arithcirc.components import Neuron
from arithcirc.viz import theme
from arithcirc.viz.contributions import GROUPS, SHORT, Part, Parts

_GAP = 0.8
_LABELLED = 0.05
"""Share of the figure's range from which a step carries its number."""


def waterfall(found: Parts, said: Mapping[Neuron, str] | None = None) -> go.Figure:
    """Steps from 0 to the target's logit; `said` is what hovering over a neuron tells of it.

    The points' `customdata` ends with the layer and index of a neuron's step, None for a group's.
    """
    steps, told = found.parts, said or {}
    x, ticks = _places(steps)
    value = np.array([step.value for step in steps])
    ends = np.cumsum(value)
    starts = ends - value
    span = float(np.ptp([0.0, *ends, found.total])) or 1.0
    figure = go.Figure().update_layout(template=theme.template("light"))
    last = x[-1] + 1 + _GAP
    figure.add_trace(_joints(np.append(x, last), ends))
    for group, (name, colour) in GROUPS.items():
        at = [i for i, step in enumerate(steps) if step.group == group]
        if at:
            figure.add_trace(_bars(steps, at, x, starts, span, SHORT.get(group, name), colour, told))
    figure.add_trace(
        go.Bar(
            x=[last], y=[found.total], width=1, marker={"color": theme.CHOSEN}, name=str(found.target),
            text=[theme.number(found.total, 1)], textposition="outside", cliponaxis=False,
            textfont={"size": theme.SMALL}, showlegend=False,
            hovertemplate=f"{found.target}: %{{y:.3f}} nats, the sum of all steps<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(
        tickvals=[*ticks.values(), last], ticktext=[*ticks, "sum"],
        showgrid=False, zeroline=False, ticklen=0, range=[x[0] - 0.9, last + 0.9],
        tickangle=-60 if _named(steps) else 0,
    )  # fmt: skip
    low, high = min(0.0, ends.min(), found.total), max(0.0, ends.max(), found.total)
    figure.update_yaxes(title=f"{found.target} (nats)", range=[low - 0.1 * span, high + 0.1 * span])
    return figure.update_layout(
        barmode="overlay",
        margin={"t": 12, "r": 8, "b": 84 if _named(steps) else 36},
        legend={"y": 1.02, "yanchor": "bottom"},
    )


def _named(steps: Sequence[Part]) -> bool:
    """Steps are called by their own names, not by their layers."""
    return any(step.neuron is not None for step in steps)


def _places(steps: Sequence[Part]) -> tuple[np.ndarray, dict[str, float]]:
    """Where each step stands, with room between layers, and the middle of each layer."""
    x, at, before = [], 0.0, steps[0]
    for i, step in enumerate(steps):
        apart = i and (step.layer != before.layer or (step.layer is None and step.group != before.group))
        at += 1 + _GAP if apart else float(bool(i))
        x.append(at)
        before = step
    held: dict[str, list[float]] = {}
    for step, place in zip(steps, x, strict=True):
        away = "other layers" if "other layers" in step.name else step.name
        by_layer = step.layer is not None and step.neuron is None
        held.setdefault(f"L{step.layer}" if by_layer else away, []).append(place)
    return np.array(x), {name: float(np.mean(places)) for name, places in held.items()}


def _bars(
    steps: Sequence[Part], at: Sequence[int], x: np.ndarray, starts: np.ndarray, span: float, name: str, colour: str,
    told: Mapping[Neuron, str],
) -> go.Bar:  # fmt: skip
    value = [steps[i].value for i in at]
    text = [_signed(v) if abs(v) >= _LABELLED * span or steps[i].neuron else "" for i, v in zip(at, value, strict=True)]
    facts = [[_fact(steps[i], told), starts[i] + steps[i].value, *_where(steps[i])] for i in at]
    return go.Bar(
        x=x[list(at)], y=value, base=starts[list(at)], width=1, marker={"color": colour}, name=name, text=text,
        textposition="outside", cliponaxis=False, textfont={"size": theme.SMALL - 1}, customdata=facts,
        textangle=-90 if _named(steps) else 0,
        hovertemplate="%{customdata[0]}: %{y:+.2f} nats<br>sum so far %{customdata[1]:.2f}<extra></extra>",
    )  # fmt: skip


def _fact(step: Part, told: Mapping[Neuron, str]) -> str:
    """What a step is: a group with its size, a neuron with its label."""
    if step.neuron is None:
        return step.name if step.name[:1].isdigit() else f"{step.name} ({step.size})"
    label = told.get(step.neuron, "")
    return f"{step.name} ({label})" if label else step.name


def _where(step: Part) -> tuple[int | None, int | None]:
    return (None, None) if step.neuron is None else (step.neuron.layer, step.neuron.index)


def _signed(value: float) -> str:
    """`+3.2`, `−0.4`; two digits where one would say 0."""
    text = theme.number(value, 1 if abs(value) >= 0.05 else 2)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def _joints(x: np.ndarray, ends: np.ndarray) -> go.Scatter:
    """Thin lines from each step's end to the next step."""
    across = np.full((len(ends), 3), np.nan)
    across[:, 0], across[:, 1] = x[:-1], x[1:]
    up = np.repeat(ends[:, None], 3, axis=1)
    up[:, 2] = np.nan
    return go.Scatter(
        x=across.ravel(), y=up.ravel(), mode="lines", line={"color": theme.GREY, "width": 1}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
