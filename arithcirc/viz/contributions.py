"""What a prompt's explanation shows: its parts in groups, and figures of them layer by layer and head by head.

The contributions of an `Explanation` (direct logit attribution, nats) are read for one number's logit, or for the
difference of two numbers' (`Target`). `parts` sums them into groups per layer,

    heads      attention heads
    holding    neurons that carry a heuristic which holds of the prompt
    important  other important neurons: unlabelled, or labelled with what does not hold
    others     the remaining neurons
    rest       embedding; biases of attention, MLPs and the final norm

which sum to the logit exactly, up to rounding; `singles` names the neurons that contribute most instead, one step each,
with all heads and all other neurons in a step of their own. `by_layer` draws how the logits of a few numbers build up,
`at_equals` what each head contributes and where it looks from `=`, `side_by_side` the groups of two prompts.
None of it shows what a part does through later layers: that takes a knockout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float
from plotly.subplots import make_subplots

from arithcirc.components import Neuron
from arithcirc.questions import Explanation
from arithcirc.viz import theme
from arithcirc.viz.panels import faint

GROUPS: Mapping[str, tuple[str, str]] = {
    "heads": ("attention heads", "#1b9e77"),
    "holding": ("neurons whose heuristics hold", "#2f7ebc"),
    "important": ("other important neurons", "#d9731a"),
    "others": ("other neurons", "#b267a8"),
    "rest": ("embedding and biases", theme.GREY),
}
"""Name and colour of each group."""
SHORT = {"heads": "heads", "holding": "heuristics that hold", "important": "other important", "others": "other neurons"}
"""Names for legends and columns."""
MOST_LAYERS = 12
"""Layers drawn one by one; of a deeper model, those that contribute most."""
MOST_NEURONS = 24
"""Neurons drawn one by one: as many as have room for their names."""
_LINES = ("#2f7ebc", "#d9731a", "#1b9e77", "#b267a8", "#c9a227")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Target:
    """What contributions are to: the logit of `plus`, less that of `minus` if given."""

    plus: int
    minus: int | None = None

    def __str__(self) -> str:
        return f"logit of {self.plus}" + (f" − logit of {self.minus}" if self.minus is not None else "")

    def of(self, explanation: Explanation, part: Float[np.ndarray, "*axes number"]) -> Float[np.ndarray, "*axes"]:
        """The target's share of an array over the explanation's numbers."""
        out = part[..., explanation.numbers.index(self.plus)].astype(np.float64)
        if self.minus is not None:
            out = out - part[..., explanation.numbers.index(self.minus)]
        return np.asarray(out)


@dataclass(frozen=True)
class Part:
    """A group's contribution in one layer (None: in no layer, or in those not drawn one by one), or one neuron's."""

    group: str
    name: str
    layer: int | None
    value: float
    size: int = 1
    neuron: Neuron | None = None


@dataclass(frozen=True)
class Parts:
    """Contributions in the order of the layers; with `rest` they sum to `total`, the target's logit."""

    target: Target
    parts: tuple[Part, ...]
    total: float

    def group(self, name: str) -> float:
        """A group's sum over layers."""
        return float(sum(part.value for part in self.parts if part.group == name))

    @property
    def layers(self) -> tuple[int | None, ...]:
        """Layers that are drawn, None for the parts outside them."""
        return tuple(dict.fromkeys(part.layer for part in self.parts))


def parts(
    explanation: Explanation,
    target: Target,
    holding: Bool[np.ndarray, "layer neuron"],
    important: Bool[np.ndarray, "layer neuron"],
) -> Parts:
    """An explanation in groups. `holding` counts before `important`, so no neuron counts twice."""
    neurons = target.of(explanation, explanation.neurons)
    groups = {"holding": holding, "important": important & ~holding, "others": ~(important | holding)}
    heads = target.of(explanation, explanation.heads)
    by_layer = {"heads": heads.sum(axis=1)} | {name: (neurons * at).sum(axis=1) for name, at in groups.items()}
    sizes = {"heads": np.full(len(heads), heads.shape[1])} | {name: at.sum(axis=1) for name, at in groups.items()}
    shown = _drawn_layers(np.abs(np.stack(list(by_layer.values()))).sum(axis=0))
    found = [Part("rest", "embedding", None, float(target.of(explanation, explanation.embedding)))]
    for layer in shown:
        found += [
            Part(name, f"L{layer} {GROUPS[name][0]}", layer, float(values[layer]), int(sizes[name][layer]))
            for name, values in by_layer.items()
            if sizes[name][layer]
        ]
    away = np.setdiff1d(np.arange(len(heads)), shown)
    if len(away):
        for name, values in by_layer.items():
            size = int(sizes[name][away].sum())
            found.append(
                Part(name, f"{len(away)} other layers, {GROUPS[name][0]}", None, float(values[away].sum()), size)
            )
    found.append(Part("rest", "biases", None, _biases(explanation, target)))
    return Parts(target, tuple(found), float(target.of(explanation, explanation.logits)))


def singles(
    explanation: Explanation,
    target: Target,
    holding: Bool[np.ndarray, "layer neuron"],
    important: Bool[np.ndarray, "layer neuron"],
    *,
    most: int = MOST_NEURONS,
) -> Parts:
    """The `most` neurons with the largest contributions by name, layer after layer; other neurons and heads at once."""
    neurons = target.of(explanation, explanation.neurons)
    heads = target.of(explanation, explanation.heads)
    width = neurons.shape[1]
    largest = np.argsort(-np.abs(neurons), axis=None, kind="stable")[:most]
    order = sorted((int(i) for i in largest), key=lambda i: (i // width, -neurons.flat[i]))
    found = [
        Part("rest", "embedding", None, float(target.of(explanation, explanation.embedding))),
        Part("heads", f"{heads.size} heads", None, float(heads.sum()), heads.size),
    ]
    for i in order:
        at = Neuron(i // width, i % width)
        group = "holding" if holding.flat[i] else "important" if important.flat[i] else "others"
        found.append(Part(group, str(at), at.layer, float(neurons.flat[i]), 1, at))
    left = neurons.size - len(order)
    if left:
        value = float(neurons.sum() - neurons.flat[order].sum())
        found.append(Part("others", f"{left:,} other neurons", None, value, left))
    found.append(Part("rest", "biases", None, _biases(explanation, target)))
    return Parts(target, tuple(found), float(target.of(explanation, explanation.logits)))


def _biases(explanation: Explanation, target: Target) -> float:
    """What the biases of attention, MLPs and the final norm write."""
    every = (explanation.attention_bias, explanation.mlp_bias, explanation.constant)
    return sum(float(target.of(explanation, part).sum()) for part in every)


def _drawn_layers(size: Float[np.ndarray, "layer"]) -> list[int]:
    return sorted(np.argsort(-size, kind="stable")[:MOST_LAYERS].tolist())


def building_up(explanation: Explanation) -> Float[np.ndarray, "step number"]:
    """Each number's logit so far: after the embedding (with the final norm's bias), then each attention and MLP.

    The final norm's scale is the finished prompt's throughout, so the last row is the logits.
    """
    attention = explanation.heads.sum(axis=1) + explanation.attention_bias
    mlp = explanation.neurons.sum(axis=1) + explanation.mlp_bias
    steps = np.stack([attention, mlp], axis=1).reshape(-1, attention.shape[-1])
    return np.cumsum(np.concatenate([(explanation.embedding + explanation.constant)[None], steps]), axis=0)


def by_layer(explanation: Explanation, numbers: Sequence[int], words: Mapping[int, str]) -> go.Figure:
    """How the logits of these numbers (at most five) build up from the embedding to the last MLP."""
    built = building_up(explanation)
    depth = explanation.heads.shape[0]
    x = np.arange(len(built)) / 2
    names = ["embedding", *(f"L{i // 2} {'MLP' if i % 2 else 'attention'}" for i in range(2 * depth))]
    figure = go.Figure().update_layout(template=theme.template("light"))
    for i, number in enumerate(numbers[: len(_LINES)]):
        word = words.get(number, "")
        name = f"{number} {word}".strip()
        figure.add_trace(
            go.Scatter(
                x=x,
                y=built[:, explanation.numbers.index(number)],
                mode="lines+markers",
                line={"color": _LINES[i], "dash": _DASHES[i], "width": 2.5 if i == 0 else 1.5},
                marker={"size": 5},
                name=name,
                text=names,
                hovertemplate=f"{name}<br>after %{{text}}: %{{y:.2f}} nats<extra></extra>",
            )
        )
    every = max(1, -(-depth // 12))
    ticks = list(range(0, depth, every))
    figure.update_xaxes(
        title="after layer", tickvals=[0, *(t + 1 for t in ticks)], ticktext=["embed.", *(f"L{t}" for t in ticks)],
        zeroline=False, showgrid=False,
    )  # fmt: skip
    figure.update_yaxes(title="logit so far (nats)")
    inside = {"orientation": "v", "x": 0.02, "y": 1.0, "yanchor": "top", "bgcolor": "rgba(0,0,0,0)"}
    return figure.update_layout(margin={"t": 12, "r": 8, "b": 44}, legend=inside)


def at_equals(explanation: Explanation, target: Target) -> go.Figure:
    """Per head, its contribution to the target (bars) and what it attends to from `=` (map of positions x heads)."""
    heads = target.of(explanation, explanation.heads)
    n_layers, n_heads = heads.shape
    tokens = explanation.reply.tokens
    names = [f"L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads)]
    x = np.arange(len(names))
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.45, 0.55], vertical_spacing=0.06)
    figure.update_layout(template=theme.template("light"))
    colour = GROUPS["heads"][1]
    figure.add_trace(
        go.Bar(
            x=x, y=heads.ravel(), marker={"color": colour}, showlegend=False, customdata=names,
            hovertemplate="%{customdata}: %{y:+.2f} nats<extra></extra>",
        ),
        row=1, col=1,
    )  # fmt: skip
    rows = [f"{theme.POSITION_LABELS.get(position, position)} {text.strip()}".strip() for position, text in tokens]
    rows = ["=" if position == "equals" else row for (position, _), row in zip(tokens, rows, strict=True)]
    labels = [f"{row}{'' if rows.index(row) == i else ' ' * i}" for i, row in enumerate(rows)]
    figure.add_trace(
        go.Heatmap(
            z=explanation.attention.reshape(len(names), -1).T.astype(np.float32), x=x, y=labels,
            customdata=np.array([names] * len(labels)), coloraxis="coloraxis", xgap=1, ygap=1,
            hovertemplate="%{customdata} attends to %{y}: %{z:.3f}<extra></extra>",
        ),
        row=2, col=1,
    )  # fmt: skip
    every = max(1, -(-n_layers // 16))
    middle = (n_heads - 1) / 2
    figure.update_xaxes(
        tickvals=[layer * n_heads + middle for layer in range(0, n_layers, every)],
        ticktext=[f"L{layer}" for layer in range(0, n_layers, every)], showgrid=False, zeroline=False, ticklen=0,
    )  # fmt: skip
    dots = {"width": 1, "color": theme.GREY, "dash": "dot"}
    border = {"type": "line", "y0": 0, "y1": 1, "xref": "x", "yref": "paper", "line": dots, "opacity": 0.5}
    ends = [layer * n_heads - 0.5 for layer in range(1, n_layers)]
    figure.layout.shapes = [border | {"x0": x, "x1": x} for x in ends]
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, row=2, col=1)
    figure.update_yaxes(title="nats", row=1, col=1)
    figure.update_xaxes(title=f"heads H0 to H{n_heads - 1} of each layer", row=2, col=1)
    bar = {"title": {"text": "attention", "side": "right"}, "len": 0.55, "y": 0.0, "yanchor": "bottom"}
    figure.update_layout(
        coloraxis={"cmin": 0, "cmax": 1, "autocolorscale": True, "colorbar": bar},
        margin={"t": 10, "r": 8, "b": 44}, bargap=0.2, clickmode="event", meta={"heads": names},
    )  # fmt: skip
    return figure


def side_by_side(found: Sequence[tuple[str, Parts]]) -> go.Figure:
    """The groups' contributions to each prompt's target, summed over layers, and the targets' logits."""
    figure = go.Figure().update_layout(template=theme.template("light"))
    names = [SHORT.get(group, GROUPS[group][0]) for group in GROUPS]
    for i, (prompt, held) in enumerate(found):
        values = [held.group(group) for group in GROUPS] + [held.total]
        colour = _LINES[i % len(_LINES)]
        figure.add_trace(
            go.Bar(
                y=[*names, "sum: the logit"], x=values, orientation="h", name=f"{prompt} ({held.target})",
                marker={"color": colour if i == 0 else faint(colour, 0.55), "line": {"color": colour, "width": 1}},
                text=[f"{theme.number(v, 1)}" for v in values], textposition="outside", cliponaxis=False,
                textfont={"size": theme.SMALL}, hovertemplate="%{y}: %{x:+.2f} nats<extra></extra>",
            )
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False, ticklen=0)
    ends = [0.0, *(float(v) for trace in figure.data for v in trace.x)]
    room = 0.25 * ((max(ends) - min(ends)) or 1.0)  # for the numbers beside the bars, which names stand left of
    span = [min(ends) - (2 * room if min(ends) < 0 else 0), max(ends) + room]
    figure.update_xaxes(title="contribution (nats)", zeroline=True, range=span)
    return figure.update_layout(
        margin={"t": 12, "r": 40, "b": 44}, barmode="group", bargap=0.3, legend={"y": 1.02, "yanchor": "bottom"}
    )
