"""Figures of the labels: how many important neurons have one, of which family, and how far above luck they score.

`labelled_share`  per operator: share of the important neurons with a label at the score threshold, and with one
                  that is also significant (q below the level)
`family_shares`   layer x family: share of the layer's important neurons with a label of the family. The shares do not
                  add up to 1, since a neuron may have several labels
`score_scatter`   score against base rate for labels, by family; a filled mark is significant. Luck lies on the curve
                  score = base rate

A score is the share of a neuron's k strongest prompts that are among the heuristic's k prompts; the base rate k / n is
what a random map scores on average (Nikankin et al. 2024, arXiv 2410.21272). Correlation only.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.viz import theme
from arithcirc.viz.frames import RunData, flags, has, neuron_count, numbers, require
from arithcirc.viz.panels import colour_axis, grid_height, heat, legend_below, level

SHOWN = 500
"""Labels drawn per operator, and as many again that are not significant."""

KINDS = {"significant": "significant labels", "matched": "labels at the threshold"}
_NAMED = ("operator", "layer", "neuron", "heuristic", "family")


def labelled_share(summary: pd.DataFrame, *, threshold: float = 0.6, q_level: float = 0.01) -> go.Figure:
    """Two or three bars per operator, with counts on them: `structured` leaves out labels with a weak null."""
    rows = require(summary, "label_summary", ("operator", "important", "matched", "significant"))
    rows = rows.set_index("operator").loc[theme.ordered(rows["operator"])]
    names = [theme.operator_title(o) for o in rows.index]
    important = rows["important"].to_numpy(dtype=np.float64)
    figure = go.Figure(layout={"template": theme.template("light")})
    bars = (
        ("matched", f"a label with score ≥ {threshold:g}", theme.GREY),
        ("significant", f"one that also has q < {q_level:g}", theme.OPERATOR_COLOURS["+"]),
        ("structured", "and is no single value or set", theme.OPERATOR_COLOURS["*"]),
    )
    for name, label, colour in (b for b in bars if b[0] in rows.columns):
        counts = rows[name].to_numpy(dtype=np.float64)
        figure.add_trace(
            go.Bar(
                x=names,
                y=counts / np.maximum(important, 1),
                name=label,
                marker={"color": colour},
                text=[f"{c:.0f} of {n:.0f}" for c, n in zip(counts, important, strict=True)],
                textposition="outside",
                cliponaxis=False,
                hovertemplate="%{x}<br>%{text} important neurons (%{y:.1%})<extra></extra>",
            )
        )
    figure.update_layout(title="Important neurons with at least one label", bargap=0.35)
    legend_below(figure, 330)
    figure.update_yaxes(title="share of important neurons", range=[0, 1.12], tickformat=".0%")
    return figure


def important_by_layer(data: RunData, operator: str) -> dict[int, int]:
    """How many neurons were labelled per layer: the important ones, else every neuron the label tables name."""
    if has(data.tables, "neurons", "operator", "layer", "neuron", "important"):
        rows = data.tables["neurons"]
        rows = rows[(rows["operator"] == operator).to_numpy() & flags(rows, "important")]
        if not rows.empty and not data.setting("heuristics", "neurons", None):
            return _per_layer(rows)
    named = [
        data.tables[t].loc[data.tables[t]["operator"] == operator, ["layer", "neuron"]]
        for t in ("heuristics", "unlabelled")
        if has(data.tables, t, "operator", "layer", "neuron")
    ]
    return _per_layer(pd.concat(named)) if named else {}


def _per_layer(rows: pd.DataFrame) -> dict[int, int]:
    counts = rows[["layer", "neuron"]].drop_duplicates().groupby("layer").size()
    return {int(layer): int(n) for layer, n in counts.items()}  # type: ignore[call-overload]


def family_shares(data: RunData, *, kind: str = "significant") -> go.Figure:
    """Layer x family heat maps, one panel per operator."""
    rows = require(data.tables["heuristics"], "heuristics", (*_NAMED, kind))
    present, families = theme.ordered(rows["operator"]), theme.family_order(rows["family"])
    universe = {o: important_by_layer(data, o) for o in present}
    figure = theme.facets(present, shared_y=True)
    labels = [theme.family_name(f) for f in families]
    highest = 0.0
    for panel, operator in enumerate(present, start=1):
        part = rows[(rows["operator"] == operator).to_numpy() & flags(rows, kind)]
        layers = sorted(universe[operator])
        z = np.zeros((len(families), len(layers)))
        facts = np.zeros((len(families), len(layers), 2))
        for i, family in enumerate(families):
            for j, layer in enumerate(layers):
                count = neuron_count(part[(part["family"] == family) & (part["layer"] == layer)])
                z[i, j], facts[i, j] = count / universe[operator][layer], (count, universe[operator][layer])
        highest = max(highest, float(z.max(initial=0.0)))
        text = np.array([[f"{100 * v:.0f}" for v in line] for line in z]) if len(layers) <= 8 else None
        hover = (
            "layer %{x}, %{y}<br>%{customdata[0]:.0f} of %{customdata[1]:.0f} important neurons (%{z:.1%})"
            f"<extra>{theme.operator_title(operator)}</extra>"
        )
        heat(
            figure, panel, z, [str(n) for n in layers], labels, hover=hover, text=text, customdata=facts, decimals=None
        )
    figure.update_layout(
        title=f"Important neurons by family of their {KINDS[kind]}, per layer (per cent; a neuron may have several)",
        height=grid_height(len(families), extra=140),
    )
    colour_axis(figure, "share of important neurons", 0.0, highest or 1.0, tickformat=".0%")
    figure.update_xaxes(title="layer", type="category", showgrid=False, zeroline=False)
    figure.update_yaxes(showgrid=False, zeroline=False, autorange="reversed")
    return figure


def score_scatter(table: pd.DataFrame, *, threshold: float = 0.6) -> go.Figure:
    """Score against base rate, one panel per operator; at most `SHOWN` significant and `SHOWN` other labels each."""
    rows = require(table, "heuristics", (*_NAMED, "score", "base_rate", "q", "significant"))
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present)
    drawn = 0
    for family in theme.family_order(rows["family"]):
        _add_key(figure, family)
    for panel, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        significant = flags(part, "significant")
        for filled in (False, True):
            shown = sample(part[significant == filled], SHOWN)
            drawn += len(shown)
            for family in theme.family_order(shown["family"]):
                _add_scores(figure, panel, shown[shown["family"] == family], family, filled)
        _add_luck(figure, panel, threshold)
    counted = f"{drawn:,} of {len(rows):,} drawn" if drawn < len(rows) else f"all {drawn:,}"
    figure.update_layout(title=f"Score against base rate of neuron and heuristic; filled: significant ({counted})")
    legend_below(figure, 450, bottom=116)
    lowest = float(np.nanmin(np.maximum(numbers(rows, ["base_rate"]), 1e-5)))
    ticks = [v for v in (0.0001, 0.001, 0.01, 0.1, 1.0) if v >= lowest / 2]
    figure.update_xaxes(
        title="base rate", type="log", range=[np.log10(lowest) - 0.1, 0.05], tickvals=ticks, zeroline=False,
        ticktext=[f"{v:g}" for v in ticks],
    )  # fmt: skip
    low = max(0.0, float(np.nanmin(numbers(rows, ["score"]))) - 0.05)
    figure.update_yaxes(range=[low - 0.02, 1.04], zeroline=False)
    figure.update_yaxes(title="score", row=1, col=1)
    return figure


def sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` rows, drawn evenly without replacement from a fixed generator."""
    if len(rows) <= count:
        return rows
    return rows.iloc[np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))]


def _add_key(figure: go.Figure, family: str) -> None:
    """The family's entry in the legend: a mark that is drawn nowhere."""
    name, colour, symbol = theme.FAMILIES.get(family, (theme.family_name(family), theme.GREY, "circle"))
    marker = {"size": 8, "symbol": symbol, "color": colour}
    figure.add_trace(
        go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, legendgroup=family), row=1, col=1
    )


def _add_scores(figure: go.Figure, panel: int, rows: pd.DataFrame, family: str, filled: bool) -> None:
    name, colour, symbol = theme.FAMILIES.get(family, (theme.family_name(family), theme.GREY, "circle"))
    who = zip(rows["layer"], rows["neuron"], rows["heuristic"], rows["q"], strict=True)
    figure.add_trace(
        go.Scatter(
            x=rows["base_rate"].to_numpy(dtype=np.float32),
            y=rows["score"].to_numpy(dtype=np.float32),
            mode="markers",
            marker={
                "size": 6 if filled else 5,
                "symbol": symbol if filled else f"{symbol}-open",
                "color": colour,
                "opacity": 0.75 if filled else 0.45,
            },
            text=[f"L{layer} N{n}, {h}, q {theme.p_value(q)}" for layer, n, h, q in who],
            hovertemplate="%{text}<br>score %{y:.3f}, base rate %{x:.4f}<extra></extra>",
            name=name,
            legendgroup=family,
            showlegend=False,
        ),
        row=1,
        col=panel,
    )


def _add_luck(figure: go.Figure, panel: int, threshold: float) -> None:
    x = np.geomspace(1e-5, 1, 40)
    figure.add_trace(
        go.Scatter(
            x=x.astype(np.float32),
            y=x.astype(np.float32),
            mode="lines",
            line={"color": theme.GREY, "width": 1.5, "dash": "dot"},
            name="score = base rate",
            legendgroup="luck",
            showlegend=panel == 1,
            hoverinfo="skip",
        ),
        row=1,
        col=panel,
    )
    level(figure, panel, threshold, f"threshold {threshold:g}")
