"""Figures of the ablations: do the prompts a heuristic is about break, and no others?

`knockout_scatter`  one point per heuristic: accuracy on prompts outside it (x) and inside it (y) after ablating its
                    neurons; below the diagonal the damage is specific. Open marks: as many random important neurons of
                    the same layers. Here and in the means: heuristics with enough prompts on both sides
`knockout_means`    the means of the same over heuristics, per operator and kind of ablation, +- 2 standard errors over
                    heuristics (they share neurons, so these are too small)
`knockout_curves`   by prompt: accuracy against neurons ablated per layer, for the neurons of the heuristics the prompt
                    satisfies, random important neurons, and neurons of heuristics that do not apply; 95% Wilson bands.
                    A control is drawn only where it ablates nearly as many neurons as what it is a control for

Prompts are ones the model answers correctly, so accuracy without ablation is 1.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.frames import column, numbers, require
from arithcirc.viz.panels import at, band, count_axis, legend_below

ABLATIONS = {"zero": "zero", "mean": "mean", "resample": "resample"}
ARMS = {
    "targeted": ("neurons of the heuristics that apply", "#c2255c", "solid", "circle"),
    "targeted_as_few": ("the best of these, as many as do not apply", "#e08fb0", "dashdot", "circle-open"),
    "random": ("random important neurons", "#8a8f98", "dot", "square"),
    "not_applying": ("neurons of heuristics that do not apply", "#2f7ebc", "dash", "triangle-up"),
}
RIVALS = {"random": "targeted", "not_applying": "targeted_as_few"}
"""What each control is compared with; `not_applying` with `targeted` where there is no `targeted_as_few`."""

FEWEST = 10
"""Correct prompts a heuristic must have on each side to count in a mean; the verdict asks for as many."""

SAME_SIZE = 0.9
"""A control must ablate this share of its rival's neurons, else the two do not compare."""

_SIDES = (
    ("targeted", "in", "its neurons, inside"),
    ("targeted", "out", "its neurons, outside"),
    ("random", "in", "random neurons, inside"),
    ("random", "out", "random neurons, outside"),
)
_BY_HEURISTIC = ("operator", "heuristic", "ablation", "arm", "where", "accuracy")


def pairs(table: pd.DataFrame, ablation: str) -> pd.DataFrame:
    """One row per operator, heuristic and arm, with columns `<number>_in` and `<number>_out`.

    Only heuristics with an accuracy on both sides, from at least `FEWEST` prompts each.
    """
    rows = require(table, "knockouts_by_heuristic", _BY_HEURISTIC, {"ablation": ablation})
    keys = ["operator", "heuristic", "arm"]
    numbered = rows[[*keys, "where"]].assign(
        accuracy=numbers(rows, ["accuracy"])[:, 0],
        n=numbers(rows, ["n"])[:, 0],
        p=numbers(rows, ["p"])[:, 0],
        neurons=numbers(rows, ["neurons"])[:, 0],
        family=column(rows, "family", default="").astype(str),
    )
    sides = [
        numbered[numbered["where"] == side].drop(columns="where").groupby(keys, as_index=False, sort=False).first()
        for side in ("in", "out")
    ]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_in", "_out"))
    few = (both["n_in"] < FEWEST) | (both["n_out"] < FEWEST)  # unknown numbers pass
    return both[~few & both["accuracy_in"].notna() & both["accuracy_out"].notna()]


def knockout_scatter(table: pd.DataFrame, *, ablation: str = "zero") -> go.Figure:
    """Accuracy inside against outside, one point per heuristic and arm, one panel per operator."""
    rows = require(pairs(table, ablation), "knockouts_by_heuristic", ("operator",))
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present)
    for panel, operator in enumerate(present, start=1):
        figure.add_shape(
            type="line", x0=0, y0=0, x1=1, y1=1, line={"color": theme.GREY, "dash": "dot", "width": 1.5},
            row=1, col=panel,
        )  # fmt: skip
        for arm in ("random", "targeted"):
            part = rows[(rows["operator"] == operator) & (rows["arm"] == arm)]
            if not part.empty:
                _add_points(figure, panel, part, arm)
    figure.update_layout(
        title=f"Accuracy inside against outside each heuristic after {ablation} ablation of its neurons"
    )
    legend_below(figure, 420)
    figure.update_xaxes(title="accuracy outside", range=[-0.04, 1.04], zeroline=False)
    figure.update_yaxes(range=[-0.04, 1.04], zeroline=False)
    figure.update_yaxes(title="accuracy inside", row=1, col=1)
    return figure


def _add_points(figure: go.Figure, panel: int, rows: pd.DataFrame, arm: str) -> None:
    targeted = arm == "targeted"
    _, colour, _, symbol = ARMS[arm]
    facts = numbers(rows, ["n_in", "n_out", "neurons_in", "p_in"])
    p = "<br>p against random, inside %{customdata[3]:.2g}" if targeted else ""
    figure.add_trace(
        go.Scatter(
            x=rows["accuracy_out"].to_numpy(dtype=np.float32),
            y=rows["accuracy_in"].to_numpy(dtype=np.float32),
            mode="markers",
            marker={
                "size": 7 if targeted else 6,
                "symbol": symbol if targeted else f"{symbol}-open",
                "color": colour,
                "opacity": 0.75,
            },
            text=rows["heuristic"].tolist(),
            customdata=facts.astype(np.float32),
            hovertemplate="%{text}<br>inside %{y:.2f} (n = %{customdata[0]:.0f}), outside %{x:.2f} "
            f"(n = %{{customdata[1]:.0f}})<br>%{{customdata[2]:.0f}} neurons{p}<extra></extra>",
            name="neurons of the heuristic" if targeted else "as many random important neurons",
            legendgroup=arm,
            showlegend=panel == 1,
        ),
        row=1,
        col=panel,
    )


def knockout_means(table: pd.DataFrame) -> go.Figure:
    """Mean accuracy over heuristics, up to four points per ablation, one panel per operator."""
    held = [a for a in ABLATIONS if (table.get("ablation", pd.Series(dtype=object)) == a).any()]
    if not held:
        require(table, "knockouts_by_heuristic", _BY_HEURISTIC, {"ablation": "zero"})
    rows = pd.concat([pairs(table, a).assign(ablation=a) for a in held])
    rows = require(rows, "knockouts_by_heuristic", ("operator",))
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present)
    lowest = 1.0
    for panel, operator in enumerate(present, start=1):
        for i, (arm, side, name) in enumerate(_SIDES):
            part = rows[(rows["operator"] == operator) & (rows["arm"] == arm)]
            found = part.groupby("ablation")[f"accuracy_{side}"].agg(["mean", "sem", "count"]).reindex(held)
            mean, sem = found["mean"].to_numpy(dtype=np.float64), found["sem"].fillna(0.0).to_numpy(dtype=np.float64)
            lowest = float(np.nanmin([lowest, *(mean - 2 * sem)]))
            _add_mean(figure, panel, held, (mean, sem, found["count"].to_numpy()), (arm, side, name, i))
    figure.update_layout(title="Mean accuracy over heuristics, ± 2 standard errors over heuristics")
    legend_below(figure, 390)
    middles = {"tickvals": list(range(len(held))), "ticktext": held, "range": [-0.5, len(held) - 0.5]}
    figure.update_xaxes(title="ablation", showgrid=False, zeroline=False, **middles)
    figure.update_yaxes(range=[max(0.0, lowest - 0.05), min(1.04, 1.0 + 0.1 * (1.02 - lowest))], zeroline=False)
    figure.update_yaxes(title="mean accuracy", row=1, col=1)
    return figure


def _add_mean(
    figure: go.Figure,
    panel: int,
    held: list[str],
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
    which: tuple[str, str, str, int],
) -> None:
    (mean, sem, count), (arm, side, name, i) = values, which
    symbol = ARMS[arm][3]
    figure.add_trace(
        go.Scatter(
            x=np.arange(len(held)) + 0.16 * (i - 1.5),
            y=mean,
            mode="markers",
            error_y={"type": "data", "array": 2 * sem, "thickness": 1.5, "width": 4},
            marker={"size": 10, "color": ARMS[arm][1], "symbol": symbol if side == "in" else f"{symbol}-open"},
            customdata=count,
            text=held,
            hovertemplate=f"{name}, %{{text}}<br>mean %{{y:.3f}} over %{{customdata:.0f}} heuristics<extra></extra>",
            name=name,
            legendgroup=name,
            showlegend=panel == 1,
        ),
        row=1,
        col=panel,
    )


def knockout_curves(table: pd.DataFrame, *, ablation: str = "zero") -> go.Figure:
    """Accuracy against neurons ablated per layer, with Wilson bands, one panel per operator."""
    rows = require(table, "knockouts_by_prompt", ("operator", "arm", "per_layer", "accuracy"), {"ablation": ablation})
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present)
    for panel, operator in enumerate(present, start=1):
        of_operator = comparable(rows[rows["operator"] == operator])
        for arm in reversed(ARMS):
            part = of_operator[of_operator["arm"] == arm].sort_values("per_layer")
            if not part.empty:
                _add_arm(figure, panel, part, arm)
    n = sorted({f"{v:.0f}" for v in numbers(rows, ["n"])[:, 0] if np.isfinite(v)}, key=int)
    count = f", n = {n[0]}" if len(n) == 1 else f", n = {n[0]} to {n[-1]}" if n else ""
    figure.update_layout(title=f"Accuracy after {ablation} ablation of the prompt's neurons (95% Wilson bands{count})")
    legend_below(figure, 410)
    figure.update_layout(legend_traceorder="reversed")
    count_axis(figure, rows["per_layer"].unique().tolist(), "neurons ablated per layer, at most")
    figure.update_yaxes(range=[-0.04, 1.06], zeroline=False)
    figure.update_yaxes(title="accuracy", row=1, col=1)
    return figure


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one operator and ablation without those that ablate nothing, and without undersized controls."""
    if "neurons" not in rows.columns:
        return rows
    sizes = {(a, k): n for a, k, n in zip(rows["arm"], rows["per_layer"], rows["neurons"], strict=True)}
    kept = []
    for arm, k, n in zip(rows["arm"], rows["per_layer"], rows["neurons"], strict=True):
        rival = sizes.get((RIVALS.get(arm, ""), k), sizes.get(("targeted", k)) if arm in RIVALS else None)
        kept.append((n > 0 or k == 0) and (rival is None or n >= SAME_SIZE * rival))
    return rows[np.array(kept, dtype=bool)]


def _add_arm(figure: go.Figure, panel: int, rows: pd.DataFrame, arm: str) -> None:
    name, colour, dash, symbol = ARMS[arm]
    x, facts = at(rows["per_layer"]), numbers(rows, ["accuracy", "low", "high", "n", "neurons", "p", "per_layer"])
    if np.isfinite(facts[:, 1:3]).all():
        low, high = facts[:, 1].tolist(), facts[:, 2].tolist()
        band(figure, panel, x.tolist(), low, high, colour=colour, name=f"{name}, 95%", legend=False)
    p = "" if arm == "targeted" else "<br>p against targeted %{customdata[5]:.2g}"
    figure.add_trace(
        go.Scatter(
            x=x,
            y=facts[:, 0],
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"size": 7, "symbol": symbol},
            customdata=facts,
            hovertemplate=f"{name}<br>%{{customdata[6]:.0f}} per layer, %{{customdata[4]:.1f}} in all"
            "<br>accuracy %{y:.3f}, 95% from %{customdata[1]:.3f} to %{customdata[2]:.3f}, n = %{customdata[3]:.0f}"
            f"{p}<extra></extra>",
            name=name,
            legendgroup=arm,
            showlegend=panel == 1,
        ),
        row=1,
        col=panel,
    )
