"""Figures of the `effects` table: where patching one component moves the answer.

`head_heatmap`   layer x head at one position, the operators side by side on one colour scale
`mlp_heatmap`    layer x position, the operators side by side on one colour scale
`head_carriers`  the strongest heads at `=` with three bars each: the effect when only op1, only the operator or only
                 op2 differs between the two prompts, that is, what the head brings to `=`

Signs and scales. `logit_diff` is in nats and positive when the patch takes away from the answer's lead over the
counterfactual answer. `E` is the paper's effect (Nikankin et al. 2024, arXiv 2410.21272). Since
1 + E = 1/2 [P*(r')/P(r') + P(r)/P*(r)], a mean of two ratios of probabilities, E >= -1 and it is drawn as
log10(1 + E): 0 is no effect, 1 a tenfold change. `kl` is in nats and never negative. Hover texts keep the raw numbers.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.panels import cell_texts

Statistic = Literal["mean", "median"]

_NUMBERS = ("mean", "median", "sem", "n")
_E_FLOOR = 1e-12
_HOVER = (
    "{name}{where}<br>mean %{{customdata[0]:.4~g}}{unit}<br>median %{{customdata[1]:.4~g}}{unit}<br>"
    "standard error %{{customdata[2]:.3~g}}<br>n = %{{customdata[3]:.0f}}<extra>{extra}</extra>"
)


def head_heatmap(
    effects: pd.DataFrame,
    *,
    position: str = "equals",
    metric: str = "logit_diff",
    change: str = "any",
    statistic: Statistic = "mean",
    operators: Sequence[str] | None = None,
) -> go.Figure:
    """Layer x head at one position, one panel per operator. Raises RequestError when the table has no such rows."""
    rows = _select(effects, kind="head", metric=metric, change=change, position=position, operators=operators)
    present = theme.ordered(rows["operator"])
    n_layers, n_heads = int(rows["layer"].max()) + 1, int(rows["head"].max()) + 1
    figure = theme.facets(present)
    for column, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        grid = _grid(part, part["layer"], part["head"], (n_layers, n_heads))
        where = f" at {theme.POSITION_LABELS[position]}"
        _add_panel(figure, column, grid, range(n_heads), metric, statistic, ("L%{y}H%{x}", where, operator))
    title = f"Heads at {theme.POSITION_LABELS[position]}: {_title_end(metric, change, statistic)}"
    _finish(figure, title, metric, n_layers, "head", len(present), sparse=n_heads > 12)
    return figure


def mlp_heatmap(
    effects: pd.DataFrame,
    *,
    metric: str = "logit_diff",
    change: str = "any",
    statistic: Statistic = "mean",
    operators: Sequence[str] | None = None,
) -> go.Figure:
    """Layer x position for whole MLPs, one panel per operator. Raises RequestError when there are no such rows."""
    rows = _select(effects, kind="mlp", metric=metric, change=change, position=None, operators=operators)
    present = theme.ordered(rows["operator"])
    n_layers = int(rows["layer"].max()) + 1
    index = {p: i for i, p in enumerate(theme.POSITIONS)}
    labels = [theme.POSITION_LABELS[p] for p in theme.POSITIONS]
    figure = theme.facets(present)
    for column, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        grid = _grid(part, part["layer"], part["position"].map(index), (n_layers, len(index)))
        _add_panel(figure, column, grid, labels, metric, statistic, ("L%{y}MLP", " at %{x}", operator))
    _finish(figure, f"MLPs: {_title_end(metric, change, statistic)}", metric, n_layers, "position", len(present))
    figure.update_xaxes(type="category")
    return figure


def head_carriers(
    effects: pd.DataFrame,
    *,
    top: int = 8,
    position: str = "equals",
    metric: str = "logit_diff",
    operators: Sequence[str] | None = None,
) -> go.Figure:
    """For the `top` heads at `position`: one bar per part of the prompt that differs. Error bars are standard errors.

    Raises RequestError when the table has no counterfactuals that differ in one part only.
    """
    parts = tuple(theme.CHANGE_COLOURS)
    single = effects[effects["change"].isin(parts)]
    rows = _select(single, kind="head", metric=metric, change=None, position=position, operators=operators)
    present = theme.ordered(rows["operator"])
    figure = theme.facets(present, shared_y=False, spacing=0.24 / max(len(present), 2))
    most = 0
    for column, operator in enumerate(present, start=1):
        part = rows[rows["operator"] == operator]
        names = strongest_heads(part, top)
        most = max(most, len(names))
        for change in parts[::-1]:  # Plotly stacks the bars of a group upwards
            _add_bars(figure, column, part[part["change"] == change], change, names, operator, metric)
        figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], row=1, col=column)
    where = theme.POSITION_LABELS[position]
    figure.update_layout(
        title=f"What the strongest heads carry at {where}: effect when only one part of the prompt differs",
        barmode="group",
        bargap=0.28,
        height=150 + 40 * most,
        legend={
            "y": -64 / max(1, 40 * most + 40),
            "yanchor": "top",
            "title": {"text": "differs: "},
            "traceorder": "reversed",
        },
        margin={"b": 90},
    )
    figure.update_yaxes(showgrid=False, type="category")
    figure.update_xaxes(title=_axis(metric), zeroline=True)
    return figure


def strongest_heads(rows: pd.DataFrame, top: int) -> list[str]:
    """Names (`L3H1`) of the `top` heads by the largest absolute mean over the rows given, strongest first."""
    named = rows.assign(name=head_names(rows), size=rows["mean"].abs())
    largest = named.groupby("name")["size"].max().sort_values(ascending=False, kind="stable")
    return [str(name) for name in largest.index[:top]]


def head_names(rows: pd.DataFrame) -> pd.Series:
    """`L<layer>H<head>` for each row."""
    return "L" + rows["layer"].astype(int).astype(str) + "H" + rows["head"].astype(int).astype(str)


def drawn(values: np.ndarray, metric: str) -> np.ndarray:
    """What is drawn for raw values: log10(1 + E) for `E`, else the values; never infinite."""
    out = np.asarray(values, dtype=np.float64)
    if metric == "E":
        out = np.log10(np.maximum(1.0 + out, _E_FLOOR))
    return np.where(np.isfinite(out), out, np.nan)


def _select(
    effects: pd.DataFrame,
    *,
    kind: str,
    metric: str,
    change: str | None,
    position: str | None,
    operators: Sequence[str] | None,
) -> pd.DataFrame:
    wanted = {"kind": kind, "metric": metric, "change": change, "position": position}
    mask = pd.Series(True, index=effects.index)
    for column, value in wanted.items():
        if value is not None:
            mask &= effects[column] == value
    if operators is not None:
        mask &= effects["operator"].isin(list(operators))
    if not mask.any():
        asked = ", ".join(f"{k} {v}" for k, v in wanted.items() if v is not None)
        held = "; ".join(f"{c}: {' '.join(sorted(map(str, effects[c].unique())))}" for c in wanted)
        raise RequestError(f"no effects with {asked}; the table has {held or 'no rows'}: choose from these")
    return effects[mask]


def _grid(rows: pd.DataFrame, y: pd.Series, x: pd.Series, shape: tuple[int, int]) -> np.ndarray:
    """Raw numbers, shape (layer, column, mean|median|sem|n); NaN where the table has no row."""
    grid = np.full((*shape, len(_NUMBERS)), np.nan, dtype=np.float64)
    numbers = rows[list(_NUMBERS)].to_numpy(dtype=np.float64, na_value=np.nan)
    grid[y.to_numpy(dtype=np.int64), x.to_numpy(dtype=np.int64)] = numbers
    return grid


def _add_panel(
    figure: go.Figure,
    column: int,
    grid: np.ndarray,
    x: Sequence[int] | Sequence[str],
    metric: str,
    statistic: Statistic,
    hover: tuple[str, str, str],
) -> None:
    name, where, operator = hover
    z = drawn(grid[..., _NUMBERS.index(statistic)], metric)
    roomy = z.shape[1] <= 6 and z.shape[0] <= 16
    unit = f" {theme.METRICS[metric].unit}".rstrip() if metric != "E" else ""
    figure.add_trace(
        go.Heatmap(
            z=z.astype(np.float32),
            x=list(x),
            y=list(range(z.shape[0])),
            customdata=grid.astype(np.float32),
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
            hoverongaps=False,
            text=cell_texts(z, 1).tolist() if roomy else None,
            texttemplate="%{text}" if roomy else None,
            textfont={"size": theme.SMALL - 1} if roomy else None,
            hovertemplate=_HOVER.format(name=name, where=where, unit=unit, extra=theme.operator_title(operator)),
        ),
        row=1,
        col=column,
    )


def _add_bars(
    figure: go.Figure, column: int, rows: pd.DataFrame, change: str, names: list[str], operator: str, metric: str
) -> None:
    shown = rows.assign(name=head_names(rows)).set_index("name").reindex(names)
    values = drawn(shown["mean"].to_numpy(dtype=np.float64, na_value=np.nan), metric)
    sem = shown["sem"].to_numpy(dtype=np.float64, na_value=np.nan)
    unit = f" {theme.METRICS[metric].unit}".rstrip() if metric != "E" else ""
    extra = theme.operator_title(operator)
    figure.add_trace(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            name=theme.POSITION_LABELS[change],
            legendgroup=change,
            showlegend=column == 1,
            marker={"color": theme.CHANGE_COLOURS[change]},
            error_x={"type": "data", "array": sem, "thickness": 1, "width": 2} if metric != "E" else None,
            customdata=shown[list(_NUMBERS)].to_numpy(dtype=np.float64, na_value=np.nan),
            hovertemplate=_HOVER.format(name="%{y}", where=f", only {change} differs", unit=unit, extra=extra),
        ),
        row=1,
        col=column,
    )


def _finish(
    figure: go.Figure, title: str, metric: str, n_layers: int, x_title: str, panels: int, *, sparse: bool = False
) -> None:
    """Titles, axes and the shared colour axis, centred at zero for signed metrics and from zero for the others."""
    values = np.concatenate([np.asarray(t.z, dtype=np.float64).ravel() for t in figure.data])
    limit = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    limit = limit or 1.0
    low = -limit if theme.METRICS[metric].signed else 0.0
    bar = {"title": {"text": _axis(metric), "side": "right", "font": {"size": theme.SMALL + 1}}}
    per_layer = 30 if n_layers <= 10 else 20 if n_layers <= 24 else 13
    figure.update_layout(
        title=title,
        height=max(240, 130 + per_layer * n_layers),
        coloraxis={"cmin": low, "cmax": limit, "autocolorscale": True, "colorbar": bar},
    )
    figure.update_xaxes(title=x_title, showgrid=False, zeroline=False, dtick=None if sparse else 1)
    figure.update_yaxes(showgrid=False, zeroline=False, dtick=1 if n_layers <= 16 else None)
    figure.update_yaxes(title="layer", row=1, col=1)
    if panels == 1:
        figure.update_xaxes(constrain="domain")


def _axis(metric: str) -> str:
    return theme.METRICS[metric].axis


def _title_end(metric: str, change: str, statistic: Statistic) -> str:
    against = "a random prompt" if change == "any" else f"a prompt with another {change}"
    return f"{statistic} {theme.METRICS[metric].label}, patched from {against}"
