"""The chosen heuristic on page Heuristics: what it says in words, what its ablation shows, and its neurons."""

from collections.abc import Mapping
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
import numpy as np
import pandas as pd
from dash import html

from arithcirc.components import Neuron
from arithcirc.errors import ArithcircError
from arithcirc.explorer import kit
from arithcirc.explorer.heuristic_table import carriers, example
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.influence.ranked import MECHANISM, TOPS
from arithcirc.viz.knockouts import ABLATIONS, FEWEST
from arithcirc.viz.meaning import meaning

CONVINCING = 0.01
"""p below which the neurons' own damage is called different from random ones'."""
SMALL = 0.02
"""A fall in accuracy up to this is not spoken of."""
_DONE = {
    "zero": "Zeroing {}",
    "mean": "Setting {} to the mean over prompts",
    "resample": "Setting {} to what another prompt gives",
}


def panel(view: View, source: Source, table: pd.DataFrame, heuristic: str, known: bool) -> Any:
    """Words on the left, neurons on the right."""
    found = table[table["heuristic"] == heuristic]
    if found.empty:
        return kit.empty(
            "No such heuristic here", f"no neuron carries {heuristic[:80]!r} under this operator: choose a row above"
        )
    row = found.iloc[0].to_dict()
    ablation = view.choice("ablation", list(ABLATIONS), "zero")
    neurons = carriers(source, view.op, heuristic)
    said = [matched(row), *([broken(row, ablation)] if known else [])]
    links = dmc.Group(
        [
            kit.link("its neurons on page Neurons", view.url("neurons", q=heuristic)),
            kit.link(
                "switch it off on page Prompt",
                view.url("prompt", off=f"h:{heuristic}", prompt=example(source, view.op, heuristic)),
            ),
        ],
        gap=16,
    )
    texts = [dmc.Text(text, size="sm") for text in said]
    words = dmc.Stack([*texts, links, *built(view, source, heuristic)], gap=8)
    body = dmc.Grid([dmc.GridCol(words, span=5), dmc.GridCol(_grid(source, view.op, neurons), span=7)], gutter=16, mt=6)
    csv = html.Button(
        "CSV", className="quiet", title="download its neurons",
        **{"data-csv": "heuristics-neurons", "data-name": "heuristic_neurons"},
    )  # fmt: skip
    return kit.panel(heuristic, body, actions=csv)


def built(view: View, source: Source, heuristic: str) -> list[Any]:
    """Links to the training documents with the largest influence on it: the heuristic's own first, then its neurons'.

    Empty where the run has no influence study, or the study did not ask about this heuristic.
    """
    if source.sweep:
        return []
    try:
        study = source.study
        if study is None or not study.has(MECHANISM) or not study.has(TOPS[MECHANISM]):
            return []
        table = study.table(MECHANISM)
    except ArithcircError as error:
        return [kit.small(str(error))]
    mine = table[(table["operator"] == view.op) & (table["heuristic"].astype(str) == heuristic)]
    of_neuron = mine["what"] == "neuron"
    whole = [kit.link("all its neurons", view.url("documents", query=str(q))) for q in mine.loc[~of_neuron, "query"]]
    single = [
        kit.link(str(Neuron(int(row["layer"]), int(row["neuron"]))), view.url("documents", query=str(row["query"])))
        for row in mine[of_neuron].to_dict("records")
    ]
    parts = [kit.small("training documents with the largest influence on it:"), *whole] if whole else []
    if single and whole:
        parts += [kit.small("on one of its neurons:"), *single]
    elif single:
        said = (
            "training documents with the largest influence on one of its neurons (the heuristic was not asked about):"
        )
        parts += [kit.small(said), *single]
    return [dmc.Group(parts, gap=10)] if parts else []


def matched(row: Mapping[Any, Any]) -> str:
    """What the heuristic is and how well neurons match it."""
    many, sure = int(row["matched"]), int(row["significant"])
    who = f"{many} important neuron{' carries' if many == 1 else 's carry'} it" + (
        f" ({sure} significant{'' if many == 1 else 'ly'})" if sure else ", none significantly"
    )
    end = "lowest" if row.get("end") == "bottom" else "strongest"
    return (
        f"It holds when {meaning(str(row['heuristic']))}. {who}; the best shares {theme.percent(row['best'])} of its "
        f"{end} prompts with it, where a random map would share {theme.percent(row['base_rate'])}."
    )


def broken(row: Mapping[Any, Any], ablation: str) -> str:
    """What ablating its neurons shows, and whether that is about this heuristic in particular."""
    if pd.isna(row["inside"]):
        return "Its neurons were not ablated: the model answers too few of its prompts correctly."
    k, control = int(row["neurons"]), row["control"]
    its = f"its {k} neurons" if k > 1 else "its one neuron"
    if row.get("same"):
        its = f"the {k} neurons that carry it or “{row['same']}”, which holds of the same prompts,"
    said = (
        f"{_DONE[ablation].format(its)} leaves accuracy {_two(row['inside'])} inside "
        f"(n = {int(row['n_in'])}) and {_two(row['outside'])} outside (n = {int(row['n_out'])})"
    )
    few = " These are fewer than ten prompts, too few to say more." if row["n_in"] < FEWEST else ""
    if pd.isna(row["random_inside"]):
        return f"{said}; this ablation has no random control.{few}"
    size = "as many" if control == k else f"{int(control)} (there are no more)"
    said += (
        f"; {size} random important neurons of the same layers leave {_two(row['random_inside'])} and "
        f"{_two(row['random_outside'])}."
    )
    return f"{said} {few.strip() or _verdict(row)}"


def _verdict(row: Mapping[Any, Any]) -> str:
    p = row["p"]
    shown = f"p {theme.p_value(p)}" if theme.p_value(p).startswith("<") else f"p = {theme.p_value(p)}"
    harm, control = 1 - row["inside"], 1 - row["random_inside"]
    outside = 1 - row["outside"]
    if harm <= SMALL < outside:
        return (
            f"So its own prompts survive and {theme.percent(outside)} of the others break: what these neurons do "
            "here, they do for prompts outside it."
        )
    if harm <= SMALL:
        return (
            "So the model does without them: other neurons carry these prompts as well, or the label is not what the "
            "neurons are for."
        )
    if not np.isfinite(p) or p >= CONVINCING or harm <= control:
        return f"So inside it they matter no more than random ones ({shown})."
    if row["gap"] <= harm / 3:
        return f"So they matter ({shown} against random ones), but for prompts outside the heuristic nearly as much."
    return f"So these neurons matter for these prompts in particular ({shown} against random ones)."


def _two(value: Any) -> str:
    return theme.number(value, 2)


def _grid(source: Source, operator: str, neurons: pd.DataFrame) -> dag.AgGrid:
    rows = [
        {str(k): None if pd.isna(v) else v for k, v in row.items()}
        | {"name": str(Neuron(int(row["layer"]), int(row["neuron"]))), "operator": operator}
        for row in neurons.astype(object).to_dict("records")
    ]
    for row in rows:
        row["id"] = f"{operator} {row['layer']} {row['neuron']} {row['end']}"
    number = {"type": "rightAligned", "filter": "agNumberColumnFilter", "sortingOrder": ["desc", "asc"]}
    three = {"function": "params.value == null ? '–' : d3.format('.3f')(params.value)"}
    columns = [
        {"field": "name", "headerName": "neuron", "cellRenderer": "NeuronLink", "width": 90},
        {"field": "effect", "headerName": "effect (nats)", "valueFormatter": three, "width": 100, **number},
        {"field": "rank", "headerName": "rank", "headerTooltip": "by effect, within its layer", "width": 70, **number},
        {
            "headerName": "score", "field": "score", "width": 92, "cellRenderer": "NeuronBar",
            "cellRendererParams": {"largest": 1.0, "signed": False}, **number,
        },
        {"field": "base_rate", "headerName": "base rate", "cellRenderer": "NeuronSmall", "width": 86, **number},
        {"field": "q", "headerName": "q", "cellRenderer": "NeuronSmall", "width": 70, **number},
        {"field": "end", "headerName": "end", "width": 74, "headerTooltip": "top: its strongest activations fall "
         "into the heuristic; bottom: its lowest"},
        {"field": "significant", "headerName": "significant", "cellRenderer": "NeuronTick", "width": 86,
         "headerTooltip": "q, the false discovery rate, is below the run's level"},
    ]  # fmt: skip
    return dag.AgGrid(
        id="heuristics-neurons",
        rowData=rows,
        columnDefs=[c for c in columns if c["field"] in ("name", *neurons.columns)],
        defaultColDef={"sortable": True, "filter": True, "resizable": True, "minWidth": 44, "suppressMovable": True},
        getRowId="params.data.id",
        dashGridOptions={"animateRows": False, "headerHeight": 32, "rowHeight": 28, "theme": kit.GRID_THEME},
        columnSize="responsiveSizeToFit",
        className="ag-theme neurons-grid",
        style={"height": min(34 + 28 * max(len(rows), 2), 260)},
    )
