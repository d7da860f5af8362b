"""The page of one run: what its tables say, in words, numbers and figures.

Every number in the words comes from the run's tables (`viz.summary`); a table that is missing is named together with
the command that makes it.
"""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from arithcirc.report.page import flat, render
from arithcirc.store import RunFolder
from arithcirc.viz import theme
from arithcirc.viz.commands import MADE_BY, recorded_line, stage_line
from arithcirc.viz.effects import head_names
from arithcirc.viz.embed import BUDGET, FigureGroup, effect_groups, faithfulness_group, plate_groups
from arithcirc.viz.export import read_data
from arithcirc.viz.facts import headline, model_facts, stage_rows, token_line
from arithcirc.viz.findings import head_findings, neuron_findings, number_findings, probe_findings
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.summary import CARRIER_SEMS, CARRIER_SHARE, CARRIERS_SHOWN, OperatorSummary, summarise
from arithcirc.viz.verdicts import (
    excluded_lists,
    failure_findings,
    family_rows,
    knockout_findings,
    label_findings,
    unlabelled_lists,
    verdicts,
)

MAY_BE_EMPTY = ("undefined", "unlabelled", "excluded_heuristics")
"""Tables without rows that say something: there were none."""

_SHOWN_ELSEWHERE = ("model", "command", "tokens")
"""Facts that the table of facts leaves out."""

CIRCUIT_ROWS = 64
UNDEFINED_ROWS = 20
MAP_CELLS = 60
"""Cells of an activation map along each side on the page; exported figures have more."""


def render_page(run: RunFolder) -> str:
    """The page as text. Tables the run does not have are named on the page; nothing is written."""
    data, target = page_data(run)
    return render("report.html", content(run, data, target), groups(data, target))


def page_data(run: RunFolder) -> tuple[RunData, float]:
    """What the page is drawn from, and the faithfulness the circuits had to reach."""
    target = float(run.manifest["config"].get("circuit", {}).get("target", 0.9))
    return read_data(run, tuple(MADE_BY), cells=MAP_CELLS), target


def content(run: RunFolder, data: RunData, target: float) -> dict[str, Any]:
    """Everything the page says but its figures."""
    tables = dict(data.tables)
    config, facts = run.manifest["config"], run.manifest.get("facts", {})
    model, recorded = model_facts(facts, config), recorded_line(run.manifest)
    layers, heads = model.get("n_layers"), model.get("n_heads")
    total = int(layers) * int(heads) if layers and heads else None
    given = config.get("prompts", {}).get("pairs") is not None
    summaries = summarise(tables, total_heads=total, target=target, given=given)
    return {
        "name": str(model.get("name", "model")),
        "revision": str(model.get("revision", "")),
        "headline": headline(model),
        "tokens": token_line(facts),
        "given": given,
        "summaries": summaries,
        "target": target,
        "tables": tables,
        "missing": _missing(tables),
        "empty": {name for name, table in tables.items() if table.empty},
        "may_be_empty": MAY_BE_EMPTY,
        "commands": {name: stage_line(MADE_BY[name], config, model, recorded) for name in MADE_BY},
        "circuit": _circuit(tables, summaries),
        "prompt_rows": _prompt_rows(tables.get("prompts")),
        "undefined": _undefined(tables.get("undefined")),
        "carriers_shown": CARRIERS_SHOWN,
        "carrier_share": CARRIER_SHARE,
        "carrier_sems": f"{CARRIER_SEMS:g}",
        "recorded": recorded,
        "whole_line": stage_line("analyze", config, model, recorded),
        "config": {section: flat(values) for section, values in config.items()},
        "facts": flat(
            {
                key: value
                for key, value in model.items()
                if key not in config.get("model", {}) | dict.fromkeys(_SHOWN_ELSEWHERE)
            }
        ),
        "packages": run.manifest.get("packages", {}),
        "stage_rows": stage_rows(run.manifest["stages"], list(dict.fromkeys(MADE_BY.values()))),
        **_neuron_content(data),
        "notes": flat(run.manifest.get("notes", {})),
        "git_sha": run.manifest.get("git_sha"),
        "created": run.manifest.get("created", ""),
    }


def _neuron_content(data: RunData) -> dict[str, Any]:
    """What the sections about probes, neurons, heads, labels, ablations and failures say."""
    return {
        "verdicts": verdicts(data),
        "findings": {
            "probe": probe_findings(data),
            "neurons": neuron_findings(data),
            "heads": head_findings(data),
            "numbers": number_findings(data),
            "labels": label_findings(data),
            "knockouts": knockout_findings(data),
            "failures": failure_findings(data),
        },
        "first_layers": _records(data, "first_layers", ("layer", "accuracy", "best", "base_rate", "rule")),
        "label_rows": _records(data, "label_summary", ("important", "matched", "significant")),
        "family_rows": family_rows(data),
        "unlabelled": unlabelled_lists(data),
        "excluded": excluded_lists(data),
        "threshold": f"{data.threshold:g}",
        "level": f"{data.level:g}",
    }


def _records(data: RunData, name: str, columns: tuple[str, ...]) -> list[dict[Hashable, Any]]:
    """A table's rows by operator, when it has these columns."""
    if not has(data.tables, name, "operator", *columns):
        return []
    table = data.tables[name]
    order = {operator: i for i, operator in enumerate(theme.ordered(table["operator"]))}
    return table.sort_values("operator", key=lambda c: c.map(order)).to_dict("records")


def groups(data: RunData, target: float) -> dict[str, FigureGroup]:
    """The page's figures, as far as there are tables and room for them."""
    tables = data.tables
    groups = plate_groups(data)
    if "effects" in tables and not tables["effects"].empty:
        groups |= effect_groups(tables["effects"], budget=BUDGET - sum(g.size for g in groups.values()))
    curves = tables.get("faithfulness")
    if curves is not None and not curves.empty:
        groups["curves"] = faithfulness_group(curves, target=target)
    return groups


def _missing(tables: dict[str, pd.DataFrame]) -> list[tuple[str, list[str]]]:
    """`(stage, its tables that the run does not have)`."""
    found: dict[str, list[str]] = {}
    for name, stage in MADE_BY.items():
        if name not in tables and name != "maps":  # files for the explorer; the page draws nothing from them
            found.setdefault(stage, []).append(name)
    return list(found.items())


def _circuit(tables: dict[str, pd.DataFrame], summaries: list[OperatorSummary]) -> list[dict[str, Any]]:
    """Per operator, the circuit's heads by rank with their effects at `=` when one part of the prompt differs."""
    if "circuit" not in tables:
        return []
    parts = _parts_at_equals(tables.get("effects"))
    found = []
    for summary in summaries:
        table = tables["circuit"]
        heads = table[(table["operator"] == summary.operator) & (table["kind"] == "head")]
        heads = heads[heads["in_circuit"].astype(bool)].sort_values("rank")
        if heads.empty:
            continue
        rows = [
            {"rank": int(r["rank"]), "head": name, "effect": r["effect"]}
            | {change: parts.get((summary.operator, name, change)) for change in theme.CHANGE_COLOURS}
            for r, name in zip(heads.to_dict("records"), head_names(heads), strict=True)
        ]
        found.append({"operator": summary.operator, "rows": rows[:CIRCUIT_ROWS], "total": len(rows)})
    return found


def _parts_at_equals(effects: pd.DataFrame | None) -> dict[tuple[str, str, str], float]:
    if effects is None:
        return {}
    rows = effects[
        (effects["kind"] == "head") & (effects["position"] == "equals") & (effects["metric"] == "logit_diff")
    ]
    keys = zip(rows["operator"], head_names(rows), rows["change"], strict=True)
    return {(str(o), str(h), str(c)): float(m) for (o, h, c), m in zip(keys, rows["mean"], strict=True)}


def _prompt_rows(prompts: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Per operator: prompts in each set, distinct answers, one example pair."""
    if prompts is None or prompts.empty:
        return []
    rows = []
    for operator in theme.ordered(prompts["operator"]):
        part = prompts[prompts["operator"] == operator]
        sets = part.groupby("set")["prompt"].nunique()
        first = part.iloc[0]
        rows.append(
            {
                "operator": operator,
                "discover": int(sets.get("discover", 0)),
                "evaluate": int(sets.get("evaluate", 0)),
                "answers": int(part["answer"].nunique()),
                "example": f"{first['prompt']}{first['answer']}",
                "counterfactual": f"{first['counterfactual']}{first['counterfactual_answer']}",
            }
        )
    return rows


def _undefined(table: pd.DataFrame | None) -> dict[str, Any] | None:
    if table is None:
        return None
    rows = table.sort_values("gap").head(UNDEFINED_ROWS).to_dict("records")
    return {"rows": rows, "total": len(table), "hidden": max(0, len(table) - UNDEFINED_ROWS)}
