"""The first page of a static export: per operator what was found in words, numbers and maps, as the explorer says it.

The words are `viz.story`, the numbers `viz.operator_facts`; the figures of every operator travel packed and the page's
script draws those of the chosen one. Heads are patched at `=` with random counterfactuals; the report has the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from arithcirc.components import Neuron
from arithcirc.report import site_neurons, site_pack
from arithcirc.report.site_neurons import Chosen
from arithcirc.report.site_tables import RunTables, SitePages
from arithcirc.viz import theme
from arithcirc.viz.effects import head_heatmap, mlp_heatmap
from arithcirc.viz.facts import headline, token_line
from arithcirc.viz.faithfulness import faithfulness_curves
from arithcirc.viz.frames import RunData
from arithcirc.viz.heuristics import family_shares
from arithcirc.viz.operator_facts import Facts, absent, gather
from arithcirc.viz.panels import bare
from arithcirc.viz.probes import probe_heatmap
from arithcirc.viz.story import limits, story

MAP_HEIGHT, CURVE_HEIGHT = 300, 330
TOP = 10
"""Neurons listed per operator."""
NEEDS = {
    "heads": "effects", "mlps": "effects", "probes": "probes", "curves": "faithfulness", "families": "heuristics",
}  # fmt: skip
"""Figures, with the table each is drawn from."""


def content(
    tables: RunTables, strongest: Sequence[Chosen], labels: Mapping[str, Mapping[Neuron, list[dict[str, Any]]]]
) -> dict[str, Any]:
    """What the template is given; neurons without a map are listed without a link."""
    facts = gather(tables)
    pages = {(c.operator, c.neuron): c for c in strongest if c.mapped}
    figures = {f"{key}-{o}": drawn for o in facts for key, drawn in _figures(tables, o).items()}
    packed, arrays = site_pack.pack_figures(figures)
    lines = list(site_neurons.rows(list(strongest), labels))
    return {
        "operators": [_operator(tables, facts[o], SitePages(o, pages), lines) for o in facts],
        "lacking": {
            o: {key: absent(tables, table, o) for key, table in NEEDS.items() if f"{key}-{o}" not in figures}
            for o in facts
        },
        "model_rows": _model(tables),
        "tokens": token_line(tables.model),
        "packed": packed,
        "arrays": arrays,
    }


def _operator(tables: RunTables, facts: Facts, pages: SitePages, lines: list[dict[str, Any]]) -> dict[str, Any]:
    summary, broken = facts.summary, facts.by_prompt
    found = (summary.evaluate or summary.discover) if summary else None
    heads = "–" if found is None else str(found.n_heads)
    if found is not None and summary is not None and summary.total_heads:
        heads = f"{found.n_heads} of {summary.total_heads}"
    steps = story(pages, tables, facts)
    return {
        "sign": facts.operator,
        "name": theme.OPERATOR_NAMES.get(facts.operator, facts.operator),
        "colour": theme.operator_colour(facts.operator),
        "story": [replace(s, more="Its prompts") if s.href == "prompts.html" else s for s in steps],
        "accuracy": summary.accuracy if summary else None,
        "skipped": summary is not None and summary.skipped is not None,
        "heads": heads,
        "faithfulness": None if found is None else found.faithfulness,
        "labelled": facts.labelled,
        "ablated": broken,
        "limits": limits(tables, facts),
        "neurons": [line for line in lines if line["chosen"].operator == facts.operator][:TOP],
    }


def _figures(tables: RunTables, operator: str) -> dict[str, go.Figure]:
    """The operator's figures, as far as there are tables."""
    held = {t: tables.table(t, operator) for t in dict.fromkeys(NEEDS.values()) if tables.has(t)}
    held = {name: table for name, table in held.items() if not table.empty}
    found: dict[str, go.Figure] = {}
    if "effects" in held:
        found["heads"] = _flat(head_heatmap(held["effects"]))
        found["mlps"] = _flat(mlp_heatmap(held["effects"]))
    if "probes" in held:
        first = tables.table("first_layers") if tables.has("first_layers") else None
        found["probes"] = _flat(probe_heatmap(held["probes"], first))
    if "faithfulness" in held:
        target = float(tables.held.setting("circuit", "target", 0.9))
        curves = bare(faithfulness_curves(held["faithfulness"], target=target), b=92)
        found["curves"] = curves.update_layout(legend_y=-0.22, height=CURVE_HEIGHT)
    if "heuristics" in held:
        mine = {t: tables.table(t, operator) for t in ("heuristics", "neurons", "unlabelled") if tables.has(t)}
        shares = bare(family_shares(RunData(mine, {}, tables.held.config)))
        found["families"] = shares.update_layout(height=CURVE_HEIGHT, coloraxis_colorbar=_BAR)
    return found


_BAR = {"title": {"text": ""}, "thickness": 10}


def _flat(figure: go.Figure) -> go.Figure:
    return bare(figure).update_layout(height=MAP_HEIGHT, coloraxis_colorbar=_BAR | {"len": 1.0})


def _model(tables: RunTables) -> list[tuple[str, str]]:
    model = tables.model
    prompts = tables.held.config.get("prompts", {})
    rows = [("model", f"{model.get('name', 'model')} {model.get('revision', '')}".strip())]
    rows.append(("architecture", headline(model)))
    known = {"operands": "operands {}", "n_discover": "{} to discover", "n_evaluate": "{} to evaluate, per operator"}
    asked = [text.format(prompts[key]) for key, text in known.items() if prompts.get(key) is not None]
    return [*rows, ("prompts", ", ".join(asked))] if asked else rows
