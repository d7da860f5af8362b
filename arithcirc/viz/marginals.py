"""A neuron's map averaged over prompts with the same op1, op2 or result, and the periods in that line.

Upper panels: mean over legal prompts, with the values of which the chosen heuristic holds marked. Lower panels: share
of the line's variance at each period (`viz.neuron_hits.spectrum`), with the period of a residue or last-digit
heuristic marked, its harmonics as thin lines. A mean hides what depends on two numbers at once.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from arithcirc.neuron_maps import NeuronMap
from arithcirc.viz import masks, theme
from arithcirc.viz.gallery import MARK
from arithcirc.viz.neuron_hits import VARIABLES, Marginal, Variable, marginal, spectrum
from arithcirc.viz.neuron_maps import Marked

LINE = "#2f7ebc"
_TICKS = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 30, 50, 100, 200, 300, 600, 1000)
_ROWS = {1: (0.58, 1.0), 2: (0.0, 0.36)}
_GAP = 0.05


def marginals(neuron_map: NeuronMap, heuristic: Marked | None = None) -> go.Figure:
    """Means and spectra by op1, op2 and result: of the map the heuristic was scored on, K without one."""
    return theme.figure(plain_marginals(neuron_map, heuristic))


def plain_marginals(neuron_map: NeuronMap, heuristic: Marked | None = None) -> theme.Plain:
    """The same as plain values."""
    kind = heuristic.kind if heuristic is not None else "indirect"
    values, name = neuron_map.scored(kind), "K" if kind == "indirect" else "KV"
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "height": 380, "margin": {"l": 52, "r": 10, "t": 24, "b": 40}, "annotations": [], "showlegend": False,
    }  # fmt: skip
    lines = [marginal(neuron_map, values, v) for v in VARIABLES]
    spectra = [spectrum(line) for line in lines]
    highest = max((float(power.max(initial=0.0)) for _, power in spectra), default=0.0)
    for at, (line, (period, power)) in enumerate(zip(lines, spectra, strict=True)):
        upper, lower = _axes(layout, at, line.variable, name, float(period.max(initial=4.0)))
        traces += [t | upper for t in _mean_line(line, name, _holding(line, heuristic))]
        traces.append(_power(period, power, line.variable) | lower)
        _mark_period(layout, lower, heuristic, line.variable, highest)
    bottom, top = _span([line.mean for line in lines])
    for number in ("", "2", "3"):
        layout[f"yaxis{number}"]["range"] = [bottom, top]
    for number in ("4", "5", "6"):
        layout[f"yaxis{number}"]["range"] = [0, 1.12 * highest or 1.0]
    return {"data": traces, "layout": layout}


def _span(lines: list[np.ndarray]) -> tuple[float, float]:
    """One range for all lines, with a little room, zero in it."""
    held = np.concatenate([np.zeros(1), *lines])
    room = 0.06 * (float(held.max()) - float(held.min())) or 1.0
    return float(held.min()) - room, float(held.max()) + room


def _holding(line: Marginal, heuristic: Marked | None) -> np.ndarray:
    """At which values the heuristic holds; none where it is about something else."""
    nothing = np.zeros(len(line.values), dtype=bool)
    found = masks.condition(heuristic.name) if heuristic is not None else None
    if found is None:
        return nothing
    variable, holds = found
    mine = variable == line.variable or (variable == "both" and line.variable in ("op1", "op2"))
    return np.asarray(holds(line.values)) if mine else nothing


def _mean_line(line: Marginal, name: str, held: np.ndarray) -> list[dict[str, Any]]:
    mean = line.mean.astype(np.float32)
    hover = f"{line.variable} %{{x}}: mean {name} %{{y:.4~g}}<br>%{{customdata:,}} prompts<extra></extra>"
    base: dict[str, Any] = {"type": "scatter", "x": line.values.astype(np.int32), "y": mean, "hovertemplate": hover}
    base["customdata"] = line.n.astype(np.int32)
    found = [base | {"mode": "lines", "line": {"color": LINE, "width": 1.3}, "name": f"mean {name}"}]
    if held.any():
        marker = {"size": 4 if held.sum() <= 80 else 3, "color": MARK}
        chosen = {k: base[k][held] for k in ("x", "y", "customdata")}
        found.append(base | chosen | {"mode": "markers", "marker": marker, "name": "heuristic holds"})
    return found


def _power(period: np.ndarray, power: np.ndarray, variable: Variable) -> dict[str, Any]:
    """Stems: one from zero for every frequency."""
    x, y = np.repeat(period, 3), np.stack([np.zeros_like(power), power, np.full_like(power, np.nan)], axis=1).ravel()
    return {
        "type": "scatter", "x": np.log10(x).astype(np.float32) if len(x) else x, "y": y.astype(np.float32),
        "customdata": x.astype(np.float32), "mode": "lines", "line": {"color": LINE, "width": 1.5},
        "connectgaps": False, "name": "power",
        "hovertemplate": f"{variable}, period %{{customdata:.3~g}}: %{{y:.1%}} of variance<extra></extra>",
    }  # fmt: skip


def _mark_period(
    layout: dict[str, Any], lower: dict[str, str], heuristic: Marked | None, variable: Variable, highest: float
) -> None:
    """A line at the heuristic's period, thin ones at its harmonics."""
    found = masks.condition(heuristic.name) if heuristic is not None else None
    period = masks.modulus(heuristic.name) if heuristic is not None else None
    if (
        found is None
        or period is None
        or found[0] not in (variable, "both")
        or (found[0], variable) == ("both", "result")
    ):
        return
    for j in range(1, period // 2 + 1 if period <= 12 else 4):
        layout.setdefault("shapes", []).append({
            "type": "line", "xref": lower["xaxis"], "yref": lower["yaxis"], "layer": "below",
            "x0": np.log10(period / j), "x1": np.log10(period / j), "y0": 0, "y1": 1.12 * highest,
            "line": {"color": MARK, "width": 1.5 if j == 1 else 0.6, "dash": "solid" if j == 1 else "dot"},
        })  # fmt: skip
    layout["annotations"].append({
        "text": f"period {period}", "x": np.log10(period), "y": 1, "xref": lower["xaxis"],
        "yref": f"{lower['yaxis']} domain", "xanchor": "left", "yanchor": "top", "xshift": 4, "showarrow": False,
        "font": {"size": theme.SMALL},
    })  # fmt: skip


def _axes(
    layout: dict[str, Any], at: int, variable: Variable, name: str, longest: float
) -> tuple[dict[str, str], dict[str, str]]:
    """Two panels, one above the other; their traces' axes."""
    width = (1 - 2 * _GAP) / 3
    domain = [at * (width + _GAP), at * (width + _GAP) + width]
    places = []
    for row in (1, 2):
        n = at + 1 + 3 * (row - 1)
        number = "" if n == 1 else str(n)
        first = at == 0
        layout[f"xaxis{number}"] = {"anchor": f"y{number}", "domain": domain, "zeroline": False, "showgrid": False}
        layout[f"yaxis{number}"] = {
            "anchor": f"x{number}", "domain": list(_ROWS[row]), "nticks": 5, "showticklabels": first,
            "rangemode": "tozero", "zeroline": True, "fixedrange": row == 2,
            "title": {"text": ("mean " + name if row == 1 else "share of variance") if first else "", "standoff": 4},
        }  # fmt: skip
        places.append({"xaxis": f"x{number}", "yaxis": f"y{number}"})
        if row == 1:
            layout["annotations"].append({
                "text": f"by {variable}", "x": sum(domain) / 2, "y": 1, "xref": "paper", "yref": "paper",
                "yanchor": "bottom", "showarrow": False, "font": {"size": theme.FONT_SIZE},
            })  # fmt: skip
        else:
            layout[f"xaxis{number}"] |= {
                "tickvals": np.log10(_TICKS).tolist(), "ticktext": [f"{t:g}" if _shown(t) else "" for t in _TICKS],
                "title": {"text": f"period in {variable}", "standoff": 2}, "tickangle": 0,
                "range": [np.log10(1.9), np.log10(1.15 * longest)],
            }  # fmt: skip
            layout[f"yaxis{number}"]["tickformat"] = ".0%"
    return places[0], places[1]


def _shown(tick: int) -> bool:
    return tick in (2, 3, 5, 10, 20, 50, 100, 300)
