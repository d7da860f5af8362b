"""Figures of what attention heads do, and of the first MLP's neurons.

`head_attention`    mean attention from `=` to each position, circuit's heads x position
`head_copies`       what a linear probe decodes from each head's output at `=` (held-out accuracy minus base rate)
`head_cuts`         accuracy after the edge between two positions is cut in every layer: does a position need what it
                    received from an earlier one? 95% Wilson intervals
`number_responses`  how selective neurons of the first MLP respond to a single number token

Attention says where a head looks, not what it takes from there; a decodable part of the prompt need not be used.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.effects import head_names
from arithcirc.viz.frames import column, flags, numbers, require
from arithcirc.viz.panels import colour_axis, grid_height, heat, interval

Cells = Callable[[pd.DataFrame, list[str]], tuple[np.ndarray, np.ndarray]]
PARTS = ("op1", "operator", "op2", "result")
HEAD_ROWS = 40
NEURON_ROWS = 48


def head_attention(table: pd.DataFrame) -> go.Figure:
    """Attention from `=`, one panel per operator; rows are the circuit's heads by layer."""
    rows = _circuit(require(table, "heads", ("operator", "layer", "head", "position", "attention")))
    labels = {p: theme.POSITION_LABELS.get(p, p) for p in theme.ALL_POSITIONS if p in set(rows["position"])}

    def cells(part: pd.DataFrame, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return _grid(part, names, "position", list(labels), ("attention", "attention_std", "n"))

    hover = (
        "%{y} attends to %{x}<br>mean %{z:.3f}, s.d. %{customdata[1]:.3f} over %{customdata[2]:.0f} prompts"
        "<extra></extra>"
    )
    figure = _head_panels(rows, list(labels.values()), cells, hover)
    figure.update_layout(title="Mean attention from = to each position, heads of the circuits")
    colour_axis(figure, "attention", 0.0, 1.0)
    figure.update_xaxes(title="attended position")
    return figure


def head_copies(table: pd.DataFrame) -> go.Figure:
    """Held-out accuracy above the base rate of a linear probe on each head's output at `=`."""
    found = require(table, "head_copies", ("operator", "layer", "head", "what", "accuracy"))
    rows = _circuit(found[found["operator"] != "all"])
    rows = require(rows, "head_copies", ("operator",))
    shared = found[found["operator"] == "all"]
    parts = [p for p in PARTS if p in set(found["what"])]

    def cells(part: pd.DataFrame, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        both = pd.concat([part, shared[head_names(shared).isin(names)]])
        both = both.assign(gain=numbers(both, ["accuracy"])[:, 0] - np.nan_to_num(numbers(both, ["base_rate"])[:, 0]))
        return _grid(both, names, "what", parts, ("gain", "accuracy", "base_rate", "n"))

    hover = (
        "%{y}, %{x}<br>accuracy %{customdata[1]:.3f}, base rate %{customdata[2]:.3f}"
        "<br>%{customdata[3]:.0f} held-out prompts<extra></extra>"
    )
    figure = _head_panels(rows, parts, cells, hover)
    figure.update_layout(
        title="What a linear probe decodes from a head's output at =: held-out accuracy above base rate"
    )
    colour_axis(figure, "accuracy − base rate", -1.0, 1.0)
    figure.update_xaxes(title="decoded")
    return figure


def _circuit(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the circuit's heads; all rows when none is marked."""
    inside = rows[flags(rows, "in_circuit")]
    return rows if inside.empty else inside


def _head_panels(rows: pd.DataFrame, x: list[str], cells: Cells, hover: str) -> go.Figure:
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present, shared_y=False, spacing=0.2 / max(len(present), 2))
    most = 0
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator].sort_values(["layer", "head"])
        names = list(dict.fromkeys(head_names(part)))[:HEAD_ROWS]
        most = max(most, len(names))
        z, facts = cells(part, names)
        heat(figure, panel, z, x, names, hover=hover, customdata=facts)
    figure.update_layout(height=grid_height(most))
    figure.update_xaxes(type="category", showgrid=False, zeroline=False)
    figure.update_yaxes(type="category", showgrid=False, zeroline=False, range=[most - 0.5, -0.5])
    figure.update_yaxes(title="head", row=1, col=1)
    return figure


def _grid(
    rows: pd.DataFrame, names: list[str], axis: str, values: list[str], columns: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The first column by head and `axis`, and all columns for the hover text."""
    rows = rows.assign(name=head_names(rows))
    rows = rows[rows["name"].isin(names) & rows[axis].isin(values)]
    facts = np.full((len(names), len(values), len(columns)), np.nan)
    y, x = rows["name"].map(names.index).to_numpy(dtype=np.int64), rows[axis].map(values.index).to_numpy(dtype=np.int64)
    facts[y, x] = numbers(rows, columns)
    return facts[..., 0], facts.astype(np.float32)


def head_cuts(table: pd.DataFrame) -> go.Figure:
    """Accuracy after each cut, with 95% Wilson intervals; the uncut model on top."""
    rows = require(table, "head_cuts", ("operator", "cut", "accuracy"))
    present, cuts = theme.ordered(rows["operator"]), list(dict.fromkeys(rows["cut"].astype(str)))
    cuts = sorted(cuts, key=lambda c: c != "none")
    names = {c: "nothing cut" if c == "none" else c.replace("<-", "←") for c in cuts}
    figure = theme.facets(present)
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        facts = numbers(part, ["accuracy", "low", "high", "n", "logit_diff", "kl"])
        colour = theme.operator_colour(operator)
        figure.add_trace(
            go.Scatter(
                x=facts[:, 0],
                y=[names[c] for c in part["cut"].astype(str)],
                error_x=interval(facts[:, 0], facts[:, 1], facts[:, 2], thickness=2, color=colour),
                mode="markers",
                marker={
                    "size": 10,
                    "color": [theme.GREY if c == "none" else colour for c in part["cut"]],
                },
                customdata=facts,
                hovertemplate="%{y}<br>accuracy %{x:.3f}, 95% from %{customdata[1]:.3f} to %{customdata[2]:.3f}, "
                "n = %{customdata[3]:.0f}<br>log probability of the answer falls by %{customdata[4]:.3f} nats<br>"
                "KL %{customdata[5]:.3f} nats<extra></extra>",
                showlegend=False,
            ),
            row=1,
            col=panel,
        )
    figure.update_layout(title="Accuracy when a position cannot read an earlier one (to ← from), 95% Wilson intervals")
    figure.update_layout(height=150 + 32 * len(cuts))
    figure.update_xaxes(title="accuracy", range=[-0.05, 1.08], zeroline=False, tickvals=[0, 0.25, 0.5, 0.75, 1])
    order = {"type": "category", "categoryorder": "array", "categoryarray": [names[c] for c in cuts][::-1]}
    figure.update_yaxes(**order, zeroline=False)
    return figure


def number_responses(
    table: pd.DataFrame | None, response: np.ndarray, *, operands: tuple[int, int] | None = None
) -> go.Figure:
    """Selective neurons of the first MLP x the number read, in % of each neuron's largest response to an operand.

    `response` has shape (number, neuron). Numbers beyond the `operands` (first, last) occur as results only, so they
    neither choose nor scale; a line marks where they begin.
    """
    first, last = operands if operands is not None else (0, response.shape[0] - 1)
    inside = np.asarray(response[first : last + 1], dtype=np.float64)
    chosen = selective(inside, NEURON_ROWS)
    largest = np.abs(inside[:, chosen]).max(axis=0).clip(min=1e-12)
    z = np.rint(100.0 * response[:, chosen] / largest).clip(-127, 127).astype(np.int8).T
    figure = theme.facets(["all"])
    hover = "neuron %{y}<br>number %{x}: %{z}% of its largest response<extra></extra>"
    heat(figure, 1, z, range(response.shape[0]), _labels(table, chosen), hover=hover, decimals=None)
    figure.data[0].update(x=None, x0=0, dx=1, ygap=0)
    figure.update_layout(
        title=f"First MLP: response of {len(chosen)} selective neurons to one number, by where they peak",
        height=grid_height(len(chosen), extra=130),
        annotations=[{"text": ""}],
    )
    if last < response.shape[0] - 1:
        figure.add_vline(
            x=last + 0.5, line_dash="dash", annotation_text="results only", annotation_position="top right",
            annotation_yanchor="bottom",
        )  # fmt: skip
    colour_axis(figure, "% of the neuron's largest", -100.0, 100.0)
    figure.update_xaxes(title="number after the beginning-of-sequence token", showgrid=False, zeroline=False)
    figure.update_yaxes(
        title="neuron", type="category", showgrid=False, autorange="reversed", tickfont={"size": 9}, dtick=1
    )
    return figure


def selective(response: np.ndarray, count: int) -> np.ndarray:
    """Indices of neurons that stand out, in the order of where they peak.

    The numbers are cut into `count` stretches; of the neurons that peak in a stretch the one with the largest peak over
    its root mean square is taken. Stretches without a neuron leave room for the next most selective ones.
    """
    values = np.abs(np.asarray(response, dtype=np.float64))
    contrast = values.max(axis=0) / np.sqrt((values**2).mean(axis=0)).clip(min=1e-12)
    at = values.argmax(axis=0)
    stretch = at * count // max(len(values), 1)
    best_first = np.argsort(-contrast, kind="stable")
    _, first_seen = np.unique(stretch[best_first], return_index=True)
    leaders = best_first[np.sort(first_seen)]
    rest = best_first[~np.isin(best_first, leaders)]
    chosen = np.concatenate([leaders, rest])[:count]
    return chosen[np.argsort(at[chosen], kind="stable")]


def _labels(table: pd.DataFrame | None, chosen: np.ndarray) -> list[str]:
    if table is None or "neuron" not in table.columns:
        return [str(n) for n in chosen]
    named = dict(zip(table["neuron"], column(table, "heuristic", default=None), strict=True))
    words = [named.get(int(n)) for n in chosen]
    return [str(n) if w is None or pd.isna(w) else f"{n}: {w}" for n, w in zip(chosen, words, strict=True)]
