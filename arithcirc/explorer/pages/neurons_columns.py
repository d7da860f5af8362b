"""Columns of the grid of neurons: what each shows, how it is formatted, and the words that explain it on hover."""

from typing import Any

from arithcirc.explorer.neuron_table import NeuronTable
from arithcirc.viz import theme

MARGIN = 286
"""Pixels of the window that the grid leaves to what is above and below it."""
_DASH = "params.value == null ? '–' : "
_NUMBER: dict[str, Any] = {"type": "rightAligned", "filter": "agNumberColumnFilter", "sortingOrder": ["desc", "asc"]}
_TEXT: dict[str, Any] = {"filter": "agTextColumnFilter"}


def columns(table: NeuronTable, *, sweep: bool) -> list[dict[str, Any]]:
    """The columns, from left to right. `sweep` adds the step from which the label stays."""
    unit = " (nats)" if table.metric == "logit_diff" else f" ({table.metric})"
    exact = "exact patch" if table.method == "exact" else "estimated by attribution patching"
    colours = {name: colour for name, (_, colour, _) in theme.FAMILIES.items()}
    names = {name: said for name, (said, _, _) in theme.FAMILIES.items()}
    labelled = {"colours": colours, "first": dict(table.first)}
    bars = {"largest": table.largest, "signed": True}
    return [
        _column("name", "neuron", 82, "layer and index of the neuron", cellRenderer="NeuronLink", **_TEXT),
        _column("operator", "op", 46, "operator of the prompts", cellRenderer="NeuronOperator", **_TEXT),
        _column("layer", "layer", 60, "layer, counted from 0", **_NUMBER),
        _column(
            "effect", f"effect{unit}", 142, f"mean drop in logit difference when the neuron is patched, {exact}",
            cellRenderer="NeuronBar", cellRendererParams=bars, **_NUMBER,
        ),
        _column("std", "std", 60, "standard deviation of the effect over pairs", format="d3.format('.3f')", **_NUMBER),
        _column("rank", "rank", 64, "rank by effect within its layer, 1 is the largest", **_NUMBER),
        _column("important", "important", 96, "among its layer's important neurons", cellRenderer="NeuronTick",
                filter=False, sortingOrder=["desc", "asc"]),
        _column("labels", "labels", 66, "heuristics matched at the score threshold, of those tested", **_NUMBER),
        _column("heuristic", "label", 168, "the best label, or the best one searched for; filled dot: significant",
                cellRenderer="NeuronLabel", cellRendererParams=labelled, **_TEXT),
        _column("family", "family", 110, "family of the label", cellRenderer="NeuronFamily",
                cellRendererParams={"names": names}, **_TEXT),
        _column("end", "end", 74, "whether the strongest or the weakest activations match", **_TEXT),
        _column("score", "score", 94, "share of the neuron's k strongest prompts that the heuristic is about",
                cellRenderer="NeuronBar", cellRendererParams={"largest": 1.0, "signed": False}, **_NUMBER),
        _column("base_rate", "base rate", 94, "score of a random map: k / n", cellRenderer="NeuronSmall", **_NUMBER),
        _column("q", "q", 72, "false discovery rate of the label", cellRenderer="NeuronSmall", **_NUMBER),
        *([_column("birth", "since", 66, "step from which the label stays", format="d3.format(',')", **_NUMBER)]
          if sweep else []),
        _column("pinned", "", 30, "pinned", minWidth=30, cellRenderer="NeuronPin", sortable=False, filter=False),
    ]  # fmt: skip


def _column(field: str, header: str, width: int, explained: str, *, format: str = "", **options: Any) -> dict[str, Any]:
    held = {"field": field, "headerName": header, "width": width, "headerTooltip": explained} | options
    if format:
        held["valueFormatter"] = {"function": f"{_DASH}{format}(params.value)"}
    return held
