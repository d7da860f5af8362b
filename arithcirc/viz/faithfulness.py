"""Figures of the `faithfulness` table: how much of the model's behaviour a circuit of n heads keeps.

F(c) = (NL(c) - NL(0)) / (NL(M) - NL(0)), with NL = logit of the answer / largest logit on centred logits, 0 = every
component mean-ablated and M = none: F = 0 keeps nothing, F = 1 the whole model, and F may leave [0, 1] on either side
(Nikankin et al. 2024, arXiv 2410.21272). Heads enter by rank. Random circuits of the same size are the control: a
ranking that means something lies above their band. The band is the range over draws, its line their mean.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.errors import RequestError
from arithcirc.viz import theme

MEASURES: dict[str, str] = {
    "faithfulness": "faithfulness F (mean of ratios)",
    "faithfulness_ratio": "faithfulness F (ratio of means)",
    "probability": "probability of the answer",
    "accuracy": "accuracy",
    "kl": "KL from the whole model (nats)",
}
_GREY = "#8a8f98"


def faithfulness_curves(
    faithfulness: pd.DataFrame,
    *,
    measure: str = "faithfulness",
    target: float | None = 0.9,
    operators: Sequence[str] | None = None,
) -> go.Figure:
    """`measure` against number of heads, one panel per operator: ranked on both prompt sets, random band, chosen.

    `target` is drawn for faithfulness only. Raises RequestError when the table has no rows for the operators.
    """
    rows = faithfulness if operators is None else faithfulness[faithfulness["operator"].isin(list(operators))]
    rows = rows[rows["circuit"].isin(["ranked", "random", "full", "empty"])]
    if rows.empty:
        raise RequestError("the faithfulness table has no rows to draw: run 'arithcirc faithfulness' first")
    if measure not in MEASURES or measure not in rows.columns:
        raise RequestError(f"unknown measure {measure!r}: use one of {', '.join(MEASURES)}")
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present)
    for column, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        _add_random(figure, column, part, measure)
        _add_ranked(figure, column, part, measure, operator)
        _add_chosen(figure, column, part, measure)
        _add_references(figure, column, part, measure, target)
    figure.update_layout(
        title=f"{MEASURES[measure][0].upper()}{MEASURES[measure][1:]} against number of heads in the circuit",
        height=400,
        legend={"y": -0.26, "yanchor": "top"},
        margin={"b": 100},
    )
    figure.update_xaxes(title="heads in the circuit", rangemode="tozero", zeroline=False)
    figure.update_yaxes(range=value_range(rows, measure), zeroline=True)
    figure.update_yaxes(title=MEASURES[measure], row=1, col=1)
    return figure


def random_band(rows: pd.DataFrame, measure: str, prompt_set: str = "evaluate") -> pd.DataFrame:
    """Random circuits of one operator by size: n_heads, mean, low, high, draws; falls back to the set there is."""
    random = rows[(rows["circuit"] == "random") & rows[measure].notna()]
    if (random["set"] == prompt_set).any():
        random = random[random["set"] == prompt_set]
    grouped = random.groupby("n_heads")[measure]
    return grouped.agg(mean="mean", low="min", high="max", draws="count").reset_index()


def value_range(rows: pd.DataFrame, measure: str) -> list[float]:
    """Vertical range: all ranked values, and for F no further than [-1, 2], so that one wild ratio hides nothing."""
    values = rows[measure].to_numpy(dtype=np.float64, na_value=np.nan)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    low = min(low, 0.0)
    if measure.startswith("faithfulness"):
        low, high = max(low, -1.0), min(max(high, 1.0), 2.0)
    elif measure != "kl":
        high = 1.0
    margin = 0.06 * ((high - low) or 1.0)
    return [low - margin if low < 0 or measure != "kl" else 0.0, high + margin]


def _add_random(figure: go.Figure, column: int, part: pd.DataFrame, measure: str) -> None:
    band = random_band(part, measure)
    if band.empty:
        return
    x = band["n_heads"].tolist()
    outline = go.Scatter(
        x=x + x[::-1],
        y=band["high"].tolist() + band["low"].tolist()[::-1],
        fill="toself",
        fillcolor="rgba(138,143,152,0.25)",
        line={"width": 0 if len(x) > 1 else 3, "color": _GREY},
        mode="lines",
        hoverinfo="skip",
        name="random circuits, range",
        legendgroup="band",
        showlegend=column == 1,
    )
    middle = go.Scatter(
        x=x,
        y=band["mean"],
        mode="lines+markers",
        line={"color": _GREY, "width": 1.5, "dash": "dot"},
        marker={"size": 5, "symbol": "square"},
        customdata=band[["low", "high", "draws"]].to_numpy(),
        hovertemplate="random, %{x} heads<br>mean %{y:.4f}<br>from %{customdata[0]:.4f} to %{customdata[1]:.4f}"
        "<br>%{customdata[2]:.0f} circuits<extra></extra>",
        name="random circuits, mean",
        legendgroup="random",
        showlegend=column == 1,
    )
    figure.add_traces([outline, middle], rows=1, cols=column)


def _add_ranked(figure: go.Figure, column: int, part: pd.DataFrame, measure: str, operator: str) -> None:
    styles = {"discover": ("dash", "circle-open"), "evaluate": ("solid", "circle")}
    for prompt_set, (dash, symbol) in styles.items():
        line = _ranked(part, prompt_set)
        if line.empty:
            continue
        columns = [measure, "faithfulness_sem", "n", "undefined"]
        spread = f" ± %{{customdata[1]:.4f}}{' (standard error)'}" if measure == "faithfulness" else ""
        figure.add_trace(
            go.Scatter(
                x=line["n_heads"],
                y=line[measure],
                mode="lines+markers",
                line={"color": theme.operator_colour(operator), "width": 2, "dash": dash},
                marker={"size": 6, "symbol": symbol},
                customdata=line[columns].to_numpy(dtype=np.float64, na_value=np.nan),
                hovertemplate=f"{prompt_set}, %{{x}} heads<br>%{{y:.4f}}{spread}<br>%{{customdata[2]:.0f}} prompts, "
                "%{customdata[3]:.0f} undefined<extra></extra>",
                name=f"ranked, {prompt_set} prompts",
                legendgroup=prompt_set,
                showlegend=column == 1,
            ),
            row=1,
            col=column,
        )


def _ranked(part: pd.DataFrame, prompt_set: str) -> pd.DataFrame:
    """The ranked curve on one prompt set, with the empty and the full circuit as its ends where they are known."""
    on_set = part[part["set"] == prompt_set]
    ranked = on_set[on_set["circuit"] == "ranked"]
    ends = on_set[on_set["circuit"] == "full"]
    if not ranked.empty and not ends.empty and ends["n_heads"].max() > ranked["n_heads"].max():
        ranked = pd.concat([ranked, ends.head(1)])
    return ranked.sort_values("n_heads")


def _add_chosen(figure: go.Figure, column: int, part: pd.DataFrame, measure: str) -> None:
    ranked = part[(part["circuit"] == "ranked") & part["chosen"].astype(bool)]
    chosen = ranked[ranked["set"] == "evaluate"] if (ranked["set"] == "evaluate").any() else ranked
    if chosen.empty:
        return
    row = chosen.iloc[0]
    side = "left" if 2 * int(row["n_heads"]) > int(part["n_heads"].max()) else "right"
    figure.add_trace(
        go.Scatter(
            x=[int(row["n_heads"])],
            y=[float(row[measure])],
            mode="markers+text",
            marker={"size": 15, "symbol": "diamond-open", "line": {"width": 2.5}, "color": "#c2255c"},
            text=[f"{int(row['n_heads'])} heads"],
            textposition=f"bottom {side}",
            hovertemplate="chosen circuit, %{x} heads<br>%{y:.4f}<extra></extra>",
            name="chosen circuit",
            legendgroup="chosen",
            showlegend=column == 1,
        ),
        row=1,
        col=column,
    )


def _add_references(figure: go.Figure, column: int, part: pd.DataFrame, measure: str, target: float | None) -> None:
    """Horizontal lines: the target for F; the whole and the fully ablated model for the other measures."""
    if measure.startswith("faithfulness"):
        if target is not None:
            label = f"target {target:g}" if column == 1 else None
            _line(figure, column, target, "dash", label)
        return
    on_set = part[part["set"] == "evaluate"] if (part["set"] == "evaluate").any() else part
    for circuit, label in (("full", "whole model"), ("empty", "all ablated")):
        values = on_set.loc[on_set["circuit"] == circuit, measure].dropna()
        if not values.empty:
            _line(figure, column, float(values.iloc[0]), "dot", label if column == 1 else None)


def _line(figure: go.Figure, column: int, y: float, dash: str, label: str | None) -> None:
    note = {"annotation_text": label, "annotation_position": "bottom right"} if label else {}
    size = {"annotation_font_size": theme.SMALL} if label else {}
    figure.add_hline(y=y, line_dash=dash, row=1, col=column, **note, **size)
