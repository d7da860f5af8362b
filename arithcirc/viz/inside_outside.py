"""Accuracy inside a heuristic against accuracy outside it, after its neurons are ablated: one operator, to click on.

`in_out`   one row per heuristic: neurons ablated, prompts and accuracy on both sides, the same for as many random
           important neurons of the same layers where the run has that control, and p
`scatter`  the rows with enough prompts on both sides; a heuristic's point lies below the diagonal where the damage is
           to its own prompts. The chosen one is ringed and tied to its control

p is McNemar's: the heuristic's neurons against the random ones on the same prompts inside. Prompts are ones the model
answers correctly, so accuracy without ablation is 1. Points share neurons, so they are no independent evidence.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.frames import require
from arithcirc.viz.knockouts import FEWEST

NUMBERS = (
    "neurons", "n_in", "inside", "n_out", "outside", "control", "random_inside", "random_outside", "p", "gap",
)  # fmt: skip

CORNER = 0.995
"""Accuracy from which a point counts as lying at 1."""
NEAR = 0.9
"""Share of the heuristics that the view near (1, 1) shows."""
CAPTION = 0.36
"""Width of a caption, as a share of the axis."""


def in_out(table: pd.DataFrame, operator: str, ablation: str) -> pd.DataFrame:
    """Columns heuristic, family and `NUMBERS` (NaN where unknown). `gap` is outside - inside."""
    needed = ("heuristic", "family", "arm", "where", "neurons", "n", "accuracy", "p")
    rows = require(table, "knockouts_by_heuristic", needed, {"operator": operator, "ablation": ablation})
    sides = {
        (arm, where): part.drop_duplicates("heuristic").set_index("heuristic")
        for (arm, where), part in rows.groupby(["arm", "where"])
    }
    inside, outside = sides.get(("targeted", "in")), sides.get(("targeted", "out"))
    if inside is None or outside is None:
        raise RequestError(
            "table 'knockouts_by_heuristic' has no ablation of a heuristic's own neurons here: compute it again"
        )
    found = pd.DataFrame({"family": inside["family"].astype(str)})
    taken = (
        ("neurons", "targeted", "in", "neurons"), ("n_in", "targeted", "in", "n"),
        ("inside", "targeted", "in", "accuracy"), ("n_out", "targeted", "out", "n"),
        ("outside", "targeted", "out", "accuracy"), ("control", "random", "in", "neurons"),
        ("random_inside", "random", "in", "accuracy"), ("random_outside", "random", "out", "accuracy"),
        ("p", "targeted", "in", "p"),
    )  # fmt: skip
    for name, arm, where, column in taken:
        side = sides.get((arm, where))
        found[name] = np.nan if side is None else pd.to_numeric(side[column].reindex(found.index))
    found["gap"] = found["outside"] - found["inside"]
    return found.reset_index(names="heuristic")


def enough(rows: pd.DataFrame) -> np.ndarray:
    """Rows with at least `FEWEST` prompts on both sides."""
    counts = rows[["n_in", "n_out"]].to_numpy(dtype=np.float64)
    return np.asarray(counts.min(axis=1) >= FEWEST)


def scatter(rows: pd.DataFrame, *, chosen: str = "", height: int = 440, near: bool = False) -> go.Figure:
    """One point per heuristic with enough prompts, by family; grey: its random control; `customdata` is the name.

    `near` shows the `NEAR` of them that lie nearest to (1, 1), where most points pile up.
    """
    drawn = rows[enough(rows) & rows[["inside", "outside"]].notna().all(axis=1)]
    figure = go.Figure(layout={"template": theme.template("light")})
    values = drawn[["inside", "outside", "random_inside", "random_outside"]].to_numpy(dtype=np.float64)
    low = min(float(np.nanmin(values)) if len(drawn) else 0.9, 0.9) - 0.03
    if near and len(drawn):
        low = max(low, min(float(np.quantile(values[:, :2].min(axis=1), 1 - NEAR)), 0.98) - 0.005)
    figure.add_shape(
        type="line", x0=low, y0=low, x1=1, y1=1, line={"color": theme.GREY, "dash": "dot", "width": 1.5}, layer="below"
    )
    _add_points(figure, drawn, "random", "random important neurons", theme.GREY, "square-open")
    for family in theme.family_order(drawn["family"]):
        name, colour, symbol = theme.FAMILIES.get(family, (theme.family_name(family), theme.GREY, "circle"))
        _add_points(figure, drawn[drawn["family"] == family], "", name, colour, symbol)
    _add_chosen(figure, drawn[drawn["heuristic"] == chosen])
    high = 1 + 0.1 * (1 - low)
    marks = values[:, [1, 0, 3, 2]].reshape(-1, 2)
    captions = (
        ("its own prompts break", 1.0, (0.02, 0.1, 0.18, 0.26), "right"),
        ("all other prompts break", 0.02, (0.8, 0.72, 0.64, 0.88), "left"),
    )
    for text, x, heights, at in captions if not near else ():
        x, y = _free((marks - low) / (high - low), x, heights, at)
        _say(figure, text, x, y, at)
    corner = int((values[:, :2] >= CORNER).all(axis=1).sum())
    if corner > 1:
        _say(figure, f"{corner:,} of {len(drawn):,} heuristics lie at (1, 1)", 1.0, 0.985, "right")
    away = int((values[:, :2] < low).any(axis=1).sum())
    if away:
        _say(figure, f"{away:,} lie outside this part", 0.3, 0.03, "left")
    figure.update_layout(
        height=height, margin={"t": 10, "b": 70, "l": 52, "r": 10}, legend={"y": -0.14, "yanchor": "top"}
    )
    figure.update_xaxes(title="accuracy outside", range=[low, high], zeroline=False)
    figure.update_yaxes(title="accuracy inside", range=[low, high], zeroline=False)
    return figure


def _free(marks: np.ndarray, x: float, heights: tuple[float, ...], at: str) -> tuple[float, float]:
    """A place for a caption, left of the line of points at 1, that no mark lies on; all in shares of the axes."""
    edge = 1 / 1.1 - 0.05 if at == "right" else x
    for y in heights:
        left, right = (edge - CAPTION, edge) if at == "right" else (edge, edge + CAPTION)
        near = (marks[:, 0] > left) & (marks[:, 0] < right) & (np.abs(marks[:, 1] - y) < 0.05)
        if not near.any():
            return edge, y
    return edge, heights[0]


def _say(figure: go.Figure, text: str, x: float, y: float, at: str) -> None:
    figure.add_annotation(
        text=text, x=x, y=y, xref="x domain", yref="y domain", xanchor=at, showarrow=False,
        font={"size": theme.SMALL, "color": theme.GREY},
    )  # fmt: skip


def _add_points(figure: go.Figure, rows: pd.DataFrame, arm: str, name: str, colour: str, symbol: str) -> None:
    columns = ("random_outside", "random_inside", "control") if arm else ("outside", "inside", "neurons")
    rows = rows[rows[list(columns[:2])].notna().all(axis=1)]
    if rows.empty:
        return
    neurons = rows[columns[2]].to_numpy(dtype=np.float64)
    facts = [
        f"{h}<br>{_whole(k)} {'random important ' if arm else ''}neurons ablated"
        for h, k in zip(rows["heuristic"], neurons, strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=rows[columns[0]].to_numpy(dtype=np.float32),
            y=rows[columns[1]].to_numpy(dtype=np.float32),
            mode="markers",
            marker={
                "size": 6.0 if arm else np.clip(5 + 1.6 * np.sqrt(np.nan_to_num(neurons)), 6, 18),
                "symbol": symbol,
                "color": colour,
                "opacity": 0.45 if arm else 0.8,
            },
            customdata=rows["heuristic"].tolist(),
            text=facts,
            hovertemplate="%{text}<br>inside %{y:.2f}, outside %{x:.2f}<extra></extra>",
            name=name,
        )
    )


def _whole(value: float) -> str:
    return "?" if np.isnan(value) else f"{value:.0f}"


def _add_chosen(figure: go.Figure, rows: pd.DataFrame) -> None:
    """A ring around the chosen heuristic, and a line to its control."""
    if rows.empty:
        return
    row = rows.iloc[0]
    if pd.notna(row["random_inside"]):
        figure.add_trace(
            go.Scatter(
                x=[row["outside"], row["random_outside"]], y=[row["inside"], row["random_inside"]], mode="lines",
                line={"color": theme.CHOSEN, "width": 1.5}, hoverinfo="skip", showlegend=False,
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[row["outside"]], y=[row["inside"]], mode="markers", hoverinfo="skip", showlegend=False, name="chosen",
            cliponaxis=False,
            marker={"size": 22, "symbol": "circle-open", "color": theme.CHOSEN, "line": {"width": 2.5}},
        )
    )  # fmt: skip
