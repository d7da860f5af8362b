"""What the page Compare shows of two sides: numbers, curves, head maps, neurons, families, labels."""

from typing import Any

import dash_mantine_components as dmc
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from dash import html

from arithcirc.errors import RequestError
from arithcirc.explorer import kit
from arithcirc.explorer.follow import leads_to
from arithcirc.explorer.pages.compare_sides import Side, same_shape
from arithcirc.explorer.view import View
from arithcirc.viz import comparison, theme
from arithcirc.viz.frames import flags
from arithcirc.viz.operator_facts import Facts
from arithcirc.viz.panels import bare
from arithcirc.viz.theme import number, percent

HEIGHT = 352
BY = {"effect": "effect", "rank": "rank in its layer"}


def numbers_panel(a: Side, b: Side) -> Any:
    """One row per measure: A, B and their difference."""
    rows = []
    for name, kind, measure in _MEASURES:
        first, second = (None if (held := measure(s.facts)) is None else float(held) for s in (a, b))
        rows.append(_row(name, first, second, kind))
    head = html.Tr([html.Th(""), html.Th(_badge("A")), html.Th(_badge("B")), html.Th("B − A")])
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="ov-operators ov-numbers")
    return kit.panel("In numbers", table, h="100%", help="Read off the tables of each side; a dash is not computed.")


def _badge(name: str) -> html.Span:
    return html.Span(name, className=f"ov-badge ov-{name.lower()}")


def _row(name: str, a: float | int | None, b: float | int | None, kind: str) -> html.Tr:
    def said(value: float | int | None) -> str:
        if value is None or not np.isfinite(value):
            return "–"
        return percent(value) if kind == "share" else f"{value:,.0f}" if kind == "count" else number(value)

    difference = None if a is None or b is None else b - a
    text = said(difference).replace("-", "−")
    if difference is not None and np.isfinite(difference) and difference > 0:
        text = f"+{text}"
    return html.Tr([html.Td(name), html.Td(said(a)), html.Td(said(b)), html.Td(text)])


def _best(facts: Facts) -> Any:
    return None if facts.summary is None else facts.summary.evaluate or facts.summary.discover


def _accuracy(facts: Facts, what: str) -> float | None:
    held = facts.summary.accuracy if facts.summary else None
    return None if held is None else getattr(held, what)


def _labelled(facts: Facts, what: str) -> float | None:
    return None if facts.labels is None else float(facts.labels[what])


_MEASURES: tuple[tuple[str, str, Any], ...] = (
    ("accuracy", "share", lambda f: _accuracy(f, "accuracy")),
    ("most frequent answer", "share", lambda f: _accuracy(f, "base_rate")),
    ("heads in the circuit", "count", lambda f: getattr(_best(f), "n_heads", None)),
    ("faithfulness F", "number", lambda f: getattr(_best(f), "faithfulness", None)),
    ("accuracy of the circuit alone", "share", lambda f: getattr(_best(f), "accuracy", None)),
    ("F, random heads", "number", lambda f: f.summary.random.mean if f.summary and f.summary.random else None),
    ("answer readable from layer", "count", lambda f: None if f.first_layer is None else float(f.first_layer["layer"])),
    ("neurons tested for labels", "count", lambda f: _labelled(f, "important")),
    ("… with a significant label", "share", lambda f: f.labelled),
    ("accuracy, own heuristics zeroed", "number", lambda f: f.by_prompt["targeted"] if f.by_prompt else None),
    ("accuracy, random neurons zeroed", "number", lambda f: f.by_prompt["random"] if f.by_prompt else None),
)


def curves_panel(a: Side, b: Side) -> Any:
    """Faithfulness of both circuits."""
    title = "Circuit size and faithfulness"
    tables = {s.name: s.source.table("faithfulness", s.op) for s in (a, b) if s.source.has("faithfulness")}
    tables = {name: table for name, table in tables.items() if not table.empty}
    target = float(a.source.data().setting("circuit", "target", 0.9))
    if not tables:
        text = "neither side has a circuit for its operator"
        return kit.panel(title, kit.empty("No circuit", text, a.source.command("faithfulness")), h="100%")
    figure = bare(comparison.curve_pair(tables, target=target), b=56)
    figure.update_layout(legend={"x": 0.98, "xanchor": "right", "y": 0.06, "yanchor": "bottom"})
    return kit.panel(
        title, kit.graph(figure, id="compare-curves", name="faithfulness_a_b", height=HEIGHT), h="100%",
        help="Heads enter by the size of their own side's effect. Dotted: the target. A curve that rises at once needs "
        "few heads; F may exceed 1 or fall below 0.",
    )  # fmt: skip


# -- heads -------------------------------------------------------------------------------------------------------------


def heads_figure(a: Side, b: Side, position: str, change: str, metric: str) -> go.Figure:
    """Both maps and their difference. Raises RequestError or MissingTable where a side has none."""
    for s in (a, b):
        if s.source.table("effects", s.op).empty:
            raise RequestError(f"{s.name} ({s.title}) has no effects of heads")
    grids = [
        comparison.effect_grid(s.source.table("effects", s.op), position=position, change=change, metric=metric)
        for s in (a, b)
    ]
    figure = comparison.effect_pair(grids[0], grids[1], metric=metric)
    figure.update_layout(title=None, margin={"t": 28, "b": 44, "l": 48, "r": 8}, height=320)
    return leads_to(figure, "heads", {"layer": "y", "head": "x"})


# -- neurons -----------------------------------------------------------------------------------------------------------


def neurons_panels(view: View, a: Side, b: Side, controls: Any) -> list[Any]:
    """Scatter and overlap, or why there are none."""
    title = "The same neurons on both sides"
    both = matched(a, b)
    if isinstance(both, str):
        return [dmc.GridCol(kit.panel(title, kit.small(both, mt=6)), span=12)]
    by = view.choice("by", list(BY), "effect")
    shared = comparison.shared_by_layer(both)
    scatter = kit.graph(neuron_figure(both, by), id="compare-neurons", name="neurons_a_b", height=380)
    bars = _legend(bare(comparison.overlap_layers(shared), b=76))
    overlap = kit.graph(bars, id="compare-overlap", name="important_a_b", height=380)
    help_ = (
        "Each point is one neuron: the exact effect of patching it at =, in A and in B. On the dotted line it matters "
        "as much in both. Click a point to open the neuron in A."
    )
    return [
        dmc.GridCol(kit.panel(title, scatter, help=help_, actions=controls, h="100%"), span={"base": 12, "md": 6}),
        dmc.GridCol(
            kit.panel(
                "Important neurons in common", dmc.Text(overlap_words(shared), size="sm", mt=4), overlap, h="100%",
                help="Pink: how many two random sets of these sizes would share, layer by layer.",
            ),
            span={"base": 12, "md": 6},
        ),
    ]  # fmt: skip


def matched(a: Side, b: Side) -> pd.DataFrame | str:
    """Neurons of both sides by index, or why they are not matched."""
    if a.shape is not None and b.shape is not None and not same_shape(a, b):
        return "Not shown: the two models have different shapes, so a neuron of one is none of the other."
    lacking = [s for s in (a, b) if not s.source.has("neurons") or s.source.table("neurons", s.op).empty]
    if lacking:
        names = " and ".join(f"{s.name} ({s.title})" for s in lacking)
        return f"Not shown: {names} has no effects of single neurons."
    try:
        both = comparison.matched_neurons(*(s.source.table("neurons", s.op) for s in (a, b)))
    except RequestError as error:
        return f"Not shown: {error}"
    return both if len(both) else "Not shown: no layer was measured on both sides."


def neuron_figure(both: pd.DataFrame, by: str) -> go.Figure:
    """The scatter; its points lead to the neuron in A."""
    figure = _legend(bare(comparison.neuron_pair(both, by=by), b=90))
    return leads_to(figure, "neuron", {"layer": "customdata.0", "neuron": "customdata.1"})


def _legend(figure: go.Figure) -> go.Figure:
    return figure.update_layout(legend_y=-0.17)


def overlap_words(by_layer: pd.DataFrame) -> str:
    """Numbers over all layers, and chance."""
    a, b, shared, expected = (float(by_layer[c].sum()) for c in ("a", "b", "shared", "expected"))
    if not a or not b:
        return f"A has {a:,.0f} important neurons, B {b:,.0f}: nothing to share."
    union, by_chance = a + b - shared, a + b - expected
    return (
        f"Of {a:,.0f} important neurons in A and {b:,.0f} in B {shared:,.0f} are the same (intersection over union "
        f"{number(shared / union, 2)}); random sets of these sizes in each layer would share {expected:,.0f} "
        f"({number(expected / by_chance, 2)})."
    )


# -- heuristics --------------------------------------------------------------------------------------------------------


def labels_panels(a: Side, b: Side, kind: str, controls: Any) -> list[Any]:
    """Families side by side, and the heuristics of either side with their neurons."""
    held = {s.name: _labels(s) for s in (a, b)}
    if all(table is None for table in held.values()):
        return [dmc.GridCol(kit.panel("Heuristics", kit.small("Neither side has labels.", mt=6)), span=12)]
    shares = {}
    for s in (a, b):
        table = held[s.name]
        tested = int(s.facts.labels["important"]) if s.facts.labels is not None else 0
        if table is not None and tested:
            shares[s.name] = comparison.family_counts(table, tested, kind=kind)
    cells = []
    if shares:
        figure = bare(comparison.family_pair(shares), b=56, l=96)
        figure.update_layout(legend={"x": 0.98, "xanchor": "right", "y": 0.06, "yanchor": "bottom"})
        graph = kit.graph(figure, id="compare-families", name="families_a_b", height=400)
        cells.append(dmc.GridCol(kit.panel("Families of heuristics", graph, h="100%"), span={"base": 12, "md": 5}))
    rows = label_rows(held["A"], held["B"], kind)
    if same_shape(a, b):
        said = "; the same neuron has it on both sides in the column “same”"
    else:
        rows, said = rows.drop(columns="same"), ""
    table = _label_grid(a, rows)
    help_ = f"How many neurons have each heuristic as a label{said}. Click a row for the heuristic in A."
    words = dmc.Text(label_words(rows), size="sm", mt=4, mb=6)
    panel = kit.panel("Labels that both or only one have", words, table, help=help_, actions=controls, h="100%")
    return [*cells, dmc.GridCol(panel, span={"base": 12, "md": 7 if cells else 12})]


def _labels(side: Side) -> pd.DataFrame | None:
    if not side.source.has("heuristics"):
        return None
    table = side.source.table("heuristics", side.op)
    return None if table.empty else table


def label_rows(a: pd.DataFrame | None, b: pd.DataFrame | None, kind: str) -> pd.DataFrame:
    """One row per heuristic of either side: heuristic, family, a, b, same, difference; most different first."""
    pairs = {name: _pairs(table, kind) for name, table in (("a", a), ("b", b))}
    counts = {name: rows.groupby(["heuristic", "family"]).size() for name, rows in pairs.items()}
    found = pd.DataFrame(counts).fillna(0).astype(int)
    same = pairs["a"].merge(pairs["b"], on=["heuristic", "family", "layer", "neuron"])
    found["same"] = same.groupby(["heuristic", "family"]).size().reindex(found.index).fillna(0).astype(int)
    found["difference"] = found["b"] - found["a"]
    found = found.reset_index()
    order = found["difference"].abs().sort_values(ascending=False, kind="stable").index
    return found.loc[order].reset_index(drop=True)


def _pairs(table: pd.DataFrame | None, kind: str) -> pd.DataFrame:
    columns = ["heuristic", "family", "layer", "neuron"]
    if table is None:
        return pd.DataFrame({c: pd.Series(dtype=object if i < 2 else "int64") for i, c in enumerate(columns)})
    return table[flags(table, kind)][columns].drop_duplicates()


def label_words(rows: pd.DataFrame) -> str:
    """How many heuristics both have, and how many only one."""
    a, b = rows["a"] > 0, rows["b"] > 0
    return (
        f"{int((a & b).sum()):,} heuristics label neurons on both sides, {int((a & ~b).sum()):,} in A only, "
        f"{int((b & ~a).sum()):,} in B only."
    )


def _label_grid(a: Side, rows: pd.DataFrame) -> Any:
    view = a.view
    shown = rows.assign(
        family=[theme.family_name(f) for f in rows["family"]],
        href=[view.url("heuristics", label=heuristic) for heuristic in rows["heuristic"]],
    )
    right = {"type": "rightAligned", "width": 62, "filter": False}
    columns: list[dict[str, Any]] = [
        {"field": "heuristic", "headerName": "heuristic", "width": 190, "cellClass": "ov-cell-link"},
        {"field": "family", "headerName": "family", "width": 120},
        {"field": "a", "headerName": "A", "headerTooltip": "neurons with it in A"} | right,
        {"field": "b", "headerName": "B", "headerTooltip": "neurons with it in B"} | right,
        *([{"field": "same", "headerName": "same", "headerTooltip": "the same neurons"} | right]
          if "same" in rows else []),
        {"field": "difference", "headerName": "B − A"} | right,
    ]  # fmt: skip
    grid = kit.grid(
        shown, columns, id="compare-labels-grid", name="labels_a_b", height=370, getRowId="params.data.href"
    )
    return html.Div(grid, className="ov-heads")
