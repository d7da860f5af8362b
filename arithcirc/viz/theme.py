"""How every figure looks: one template in a light and a dark version, colours, names and number formats.

Colour carries meaning in two ways only. Signed numbers use a diverging scale (blue below zero, red above, the page's
own colour at zero) that is always centred at zero; numbers that cannot be negative use a sequential scale that starts
at zero. The four operators have fixed colours that stay apart under the common colour-vision deficiencies, and every
line also differs by dash or marker. Backgrounds are transparent, so a figure takes the colour of the page it is on.

Nothing is registered globally: `template("light")` and `template("dark")` return plain Plotly templates.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

Scheme = Literal["light", "dark"]

Plain = dict[str, Any]
"""A figure as plain values: `data` and `layout` as plotly.js takes them, with numpy arrays, not validated."""

PLOTLY_CONFIG: dict[str, Any] = {
    "showSendToCloud": False,
    "displaylogo": False,
    "responsive": True,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "png", "scale": 2},
}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
FONT_SIZE = 13
SMALL = 11

OPERATOR_NAMES = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}
OPERATOR_SIGNS = {"+": "+", "-": "−", "*": "×", "/": "÷"}
OPERATOR_COLOURS = {"+": "#2f7ebc", "-": "#d9731a", "*": "#1b9e77", "/": "#b267a8"}
POSITIONS = ("op1", "operator", "op2", "equals")
POSITION_LABELS = {"op1": "op1", "operator": "operator", "op2": "op2", "equals": "="}
CHANGES = ("any", "op1", "op2", "operator")
CHANGE_LABELS = {"any": "random prompt", "op1": "op1 only", "op2": "op2 only", "operator": "operator only"}
CHANGE_COLOURS = {"op1": "#2f7ebc", "operator": "#8a8f98", "op2": "#d9731a"}
ALL_POSITIONS = ("bos", *POSITIONS)
GREY = "#8a8f98"
CHOSEN = "#c2255c"
FAMILIES = {
    "range": ("range", "#2f7ebc", "circle"),
    "modulo": ("modulo", "#d9731a", "square"),
    "pattern": ("digit pattern", "#1b9e77", "triangle-up"),
    "value": ("single value", "#b267a8", "diamond"),
    "both_range": ("both in a range", "#79b4e3", "circle-cross"),
    "both_modulo": ("both modulo", "#c9a227", "square-cross"),
    "identical": ("identical", "#a0522d", "x"),
    "multi_value": ("several values", "#7c8794", "star"),
}
"""Word in the tables: name, colour, marker."""

_INK = {
    "light": {"text": "#1c2430", "muted": "#5b6675", "grid": "#e3e7ec", "hover": "#ffffff", "line": "#c3cad3"},
    "dark": {"text": "#e4e9ef", "muted": "#9aa6b4", "grid": "#2b323b", "hover": "#1d232b", "line": "#47515d"},
}
SCALES: dict[Scheme, dict[str, tuple[str, ...]]] = {
    "light": {
        "diverging": ("#174a84", "#4a90c2", "#b5d3e6", "#f5f6f8", "#f4bfa5", "#d6604d", "#8c1325"),
        "sequential": ("#f5f6f8", "#c6dcec", "#7fb3d3", "#2f7fb8", "#0b4c85", "#062f5c"),
    },
    "dark": {
        "diverging": ("#a5d4ff", "#4a97d9", "#24517c", "#1a2028", "#7d3a2b", "#df7350", "#ffc7a6"),
        "sequential": ("#1a2028", "#1f405f", "#2b6d9e", "#56a8cf", "#bfe7f4", "#eefaff"),
    },
}


def _scale(colours: Sequence[str]) -> list[list[float | str]]:
    return [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]


@cache
def template(scheme: Scheme = "light") -> go.layout.Template:
    """The Plotly template for light or dark pages."""
    ink, scales = _INK[scheme], SCALES[scheme]
    axis = {
        "gridcolor": ink["grid"], "linecolor": ink["line"], "zerolinecolor": ink["line"], "zerolinewidth": 1,
        "tickcolor": ink["line"], "tickfont": {"size": SMALL, "color": ink["muted"]}, "automargin": True,
        "title": {"font": {"size": SMALL + 1, "color": ink["muted"]}, "standoff": 8},
    }  # fmt: skip
    bar = {"outlinewidth": 0, "thickness": 12, "ticklen": 3, "tickfont": {"size": SMALL, "color": ink["muted"]}}
    diverging, sequential = _scale(scales["diverging"]), _scale(scales["sequential"])
    layout = go.Layout(
        font={"family": FONT, "size": FONT_SIZE, "color": ink["text"]},
        title={"font": {"size": FONT_SIZE + 2}, "x": 0, "xanchor": "left", "xref": "paper", "pad": {"b": 10}},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis=axis,
        yaxis=axis,
        colorscale={"diverging": diverging, "sequential": sequential, "sequentialminus": sequential[::-1]},
        coloraxis={"colorbar": bar},
        hoverlabel={
            "bgcolor": ink["hover"], "bordercolor": ink["line"], "align": "left",
            "font": {"family": FONT, "size": FONT_SIZE, "color": ink["text"]},
        },
        legend={"orientation": "h", "x": 0, "xanchor": "left", "font": {"size": SMALL + 1}},
        annotationdefaults={"font": {"size": FONT_SIZE, "color": ink["text"]}},
        shapedefaults={"line": {"color": ink["muted"], "width": 1}},
        margin={"l": 56, "r": 16, "t": 64, "b": 52},
        hovermode="closest",
    )  # fmt: skip
    bars = go.Bar(error_x={"color": ink["text"]}, error_y={"color": ink["text"]})
    return go.layout.Template(layout=layout, data={"bar": [bars]})


@dataclass(frozen=True)
class Metric:
    """What a number of the effects table is called, its unit, and whether it has a sign."""

    label: str
    unit: str
    signed: bool

    @property
    def axis(self) -> str:
        """Axis title: name and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


METRICS = {
    "logit_diff": Metric("drop in logit difference", "nats", signed=True),
    "E": Metric("log₁₀(1 + E)", "", signed=True),
    "kl": Metric("KL divergence", "nats", signed=False),
}


def figure(plain: Plain) -> go.Figure:
    """The figure of plain values, validated, in the light template."""
    return go.Figure(data=plain["data"], layout={"template": template("light")} | plain["layout"])


def ordered(operators: Iterable[Any]) -> list[str]:
    """Operators that occur, in the order + - * /; others after them."""
    found = {str(o) for o in operators}
    return [o for o in OPERATOR_NAMES if o in found] + sorted(found - set(OPERATOR_NAMES))


def operator_title(operator: str) -> str:
    """`"-"` -> `"− subtraction"`."""
    return f"{OPERATOR_SIGNS.get(operator, operator)} {OPERATOR_NAMES.get(operator, '')}".strip()


def operator_colour(operator: str) -> str:
    """The operator's fixed colour; grey for one we have no colour for."""
    return OPERATOR_COLOURS.get(operator, GREY)


def number(value: Any, digits: int = 3) -> str:
    """A number for people: fixed decimals, a real minus sign, powers of ten when it is huge, a dash when missing."""
    if value is None or pd.isna(value):
        return "–"
    x = float(value)
    if not np.isfinite(x):
        return "∞" if x > 0 else "−∞"
    text = f"{x:.2e}" if abs(x) >= 1e5 else f"{x:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def percent(value: Any) -> str:
    """A share as per cent with one decimal."""
    return "–" if value is None or pd.isna(value) else f"{number(100 * float(value), 1)}\N{NO-BREAK SPACE}%"


def prose(text: str) -> str:
    """A sentence of a table as the pages write theirs: real minus signs, and a space that holds before per cent."""
    return re.sub(r"(?<=\d)%", "\N{NO-BREAK SPACE}%", re.sub(r"(?<![\w.-])-(?=\d)", "−", text))


def count(value: Any) -> str:
    """A whole number with thousands separated; a dash when missing."""
    return "–" if value is None or pd.isna(value) else f"{int(value):,}"


def family_name(family: str) -> str:
    """The family's name for people; the table's own word for one we do not know."""
    return FAMILIES[family][0] if family in FAMILIES else family.replace("_", " ")


def family_order(families: Iterable[Any]) -> list[str]:
    """Families that occur, in the order of `FAMILIES`; others after them."""
    found = {str(f) for f in families}
    return [f for f in FAMILIES if f in found] + sorted(found - set(FAMILIES))


def p_value(value: Any) -> str:
    """A probability for people: three decimals, or a power of ten when it is small; 0 is what floats cannot hold."""
    if value is None or pd.isna(value):
        return "–"
    x = float(value)
    if x == 0:
        return "< 1e−300"
    return f"{x:.0e}".replace("e-0", "e−").replace("e-", "e−") if x < 0.001 else f"{x:.3f}"


def facets(operators: Sequence[str], *, shared_y: bool = True, spacing: float | None = None) -> go.Figure:
    """An empty figure with one panel per operator, side by side, titled and in the light template."""
    return copy.deepcopy(_facets(tuple(operators), shared_y, spacing))


@cache
def _facets(operators: tuple[str, ...], shared_y: bool, spacing: float | None) -> go.Figure:
    """The empty figure, laid out once: that takes five times as long as a copy, and a report draws a hundred."""
    gap = spacing if spacing is not None else 0.12 / max(len(operators), 2)
    figure = make_subplots(
        rows=1,
        cols=max(len(operators), 1),
        shared_yaxes=shared_y,
        horizontal_spacing=gap,
        subplot_titles=[operator_title(o) for o in operators],
    )
    figure.update_layout(template=template("light"), annotations=[{"font": {"size": FONT_SIZE}} for _ in operators])
    return figure
