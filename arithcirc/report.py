"""The report: one self-contained HTML page about one run, which opens from disk without a network.

The page holds plotly.js once, every figure as escaped JSON, and a small script that draws them for light or dark. Its
content-security policy names the two scripts by hash and allows no request at all, so nothing leaves the page even if
a model's name or a prompt carries markup; autoescape makes such text inert in the first place. Every number in the
words comes from the run's tables (`viz.summary`); a table that is missing is named together with the command that
makes it. Reads the run from disk only: neither torch nor transformers is imported.
"""

import base64
import hashlib
import shlex
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from arithcirc.config import CircuitConfig, PromptConfig
from arithcirc.store import RunFolder, write_text
from arithcirc.viz import theme
from arithcirc.viz.effects import head_names
from arithcirc.viz.embed import FigureGroup, effect_groups, faithfulness_group, templates_json
from arithcirc.viz.summary import CARRIER_SEMS, CARRIER_SHARE, CARRIERS_SHOWN, OperatorSummary, summarise
from arithcirc.viz.words import carrier_list, sentences

REPORT = "report.html"
MADE_BY = {
    "accuracy": "prompts",
    "prompts": "prompts",
    "effects": "localize",
    "circuit": "faithfulness",
    "faithfulness": "faithfulness",
    "undefined": "faithfulness",
}
"""Which command makes which table."""

_OPTIONS = {
    "operators": "operators", "operands": "operands", "n_discover": "prompts", "seed": "seed", "pairs": "pairs",
    "counterfactual_seeds": "counterfactual-seeds", "prefix": "prefix", "template": "template", "n_heads": "heads",
    "mlps": "mlps", "rank_by": "rank-by", "target": "target", "random_circuits": "random-circuits",
    "mean_prompts": "mean-prompts",
}  # fmt: skip

CIRCUIT_ROWS = 64
UNDEFINED_ROWS = 20


def render_report(run: RunFolder) -> str:
    """The page as text. Tables the run does not have are named on the page; nothing is written."""
    environment = Environment(
        loader=PackageLoader("arithcirc", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "num": theme.number,
        "optitle": theme.operator_title,
        "sentences": sentences,
        "carriers": carrier_list,
    }
    plotly, page = _script(get_plotlyjs()), _script(_asset("report.js"))
    tables = {name: run.table(name) for name in MADE_BY if name in run.tables()}
    text = environment.get_template("report.html").render(
        csp=_policy(plotly, page),
        style=Markup(_asset("report.css")),  # noqa: S704  our own file
        plotly=Markup(plotly),  # noqa: S704  the installed plotly.js
        page=Markup(page),  # noqa: S704  our own file
        templates=Markup(templates_json()),  # noqa: S704  escaped by embed.safe
        **_content(run, tables),
    )
    return str(text)


def write_report(run: RunFolder) -> Path:
    """Write `report.html` into the run folder, atomically; returns its path."""
    path = run.path / REPORT
    write_text(path, render_report(run))
    return path


def _content(run: RunFolder, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    config, facts = run.manifest["config"], run.manifest.get("facts", {})
    model = _model(facts, config)
    target = float(config.get("circuit", {}).get("target", 0.9))
    layers, heads = model.get("n_layers"), model.get("n_heads")
    total = int(layers) * int(heads) if layers and heads else None
    summaries = summarise(tables, total_heads=total, target=target)
    groups = _groups(tables, target)
    return {
        "name": str(model.get("name", "model")),
        "revision": str(model.get("revision", "")),
        "model": model,
        "summaries": summaries,
        "target": target,
        "tables": tables,
        "missing": _missing(tables, config, model),
        "commands": {name: _command(MADE_BY[name], config, model) for name in MADE_BY},
        "groups": {key: (group, Markup(group.safe_json())) for key, group in groups.items()},  # noqa: S704
        "circuit": _circuit(tables, summaries),
        "prompt_rows": _prompt_rows(tables.get("prompts")),
        "undefined": _undefined(tables.get("undefined")),
        "carriers_shown": CARRIERS_SHOWN,
        "carrier_share": CARRIER_SHARE,
        "carrier_sems": f"{CARRIER_SEMS:g}",
        "command": _made_with(run, config, model),
        "config": {section: _flat(values) for section, values in config.items()},
        "facts": _flat(
            {key: value for key, value in model.items() if key not in config.get("model", {}) | {"model": 0}}
        ),
        "packages": run.manifest.get("packages", {}),
        "stage_rows": [
            (stage, theme.number(record.get("seconds"), 1)) for stage, record in run.manifest["stages"].items()
        ],
        "notes": _flat(run.manifest.get("notes", {})),
        "git_sha": run.manifest.get("git_sha"),
        "created": run.manifest.get("created", ""),
    }


def _model(facts: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What is known about the model: the facts, those under `model` among them, and what was compared."""
    nested = facts.get("model")
    return {**facts, **(nested if isinstance(nested, dict) else {}), **config.get("model", {})}


def _groups(tables: dict[str, pd.DataFrame], target: float) -> dict[str, FigureGroup]:
    groups: dict[str, FigureGroup] = {}
    if "effects" in tables and not tables["effects"].empty:
        groups |= effect_groups(tables["effects"])
    curves = tables.get("faithfulness")
    if curves is not None and not curves.empty:
        groups["curves"] = faithfulness_group(curves, target=target)
    return groups


def _missing(tables: dict[str, pd.DataFrame], config: dict[str, Any], model: dict[str, Any]) -> list[tuple[str, str]]:
    """`(table, command)` for every table the run does not have."""
    return [(name, _command(stage, config, model)) for name, stage in MADE_BY.items() if name not in tables]


def _command(stage: str, config: dict[str, Any], model: dict[str, Any]) -> str:
    """The command line of a stage, quoted for a shell; options that are at their defaults are left out."""
    parts = ["arithcirc", stage, str(model.get("name", "MODEL"))]
    if model.get("revision"):
        parts.append(f"--revision={model['revision']}")
    if model.get("dtype", "float32") != "float32":
        parts.append(f"--dtype={model['dtype']}")
    sections: dict[str, Any] = {"prompts": PromptConfig(), "circuit": CircuitConfig()}
    for section in ("prompts", "circuit") if stage in {"faithfulness", "analyze"} else ("prompts",):
        held, usual = config.get(section, {}), asdict(sections[section])
        for key, value in held.items():
            if key in _OPTIONS and value != usual.get(key):
                parts.append(f"--{_OPTIONS[key]}={'FILE' if key == 'pairs' else value}")
    return shlex.join(parts)


def _made_with(run: RunFolder, config: dict[str, Any], model: dict[str, Any]) -> tuple[str, bool]:
    """The command line, and whether it was recorded (True) or put together from the configuration (False)."""
    for place in ("notes", "facts"):
        recorded = run.manifest.get(place, {}).get("command")
        if recorded:
            return (shlex.join(recorded) if isinstance(recorded, list) else str(recorded)), True
    return _command("analyze", config, model), False


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


def _flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as `(dotted key, text)` pairs."""
    if not isinstance(values, dict):
        return [(prefix, str(values))]
    pairs = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        pairs += _flat(value, name) if isinstance(value, dict) else [(name, "–" if value is None else str(value))]
    return pairs


def _asset(name: str) -> str:
    return resources.files("arithcirc").joinpath("templates", name).read_text(encoding="utf-8")


def _script(source: str) -> str:
    """A script as it stands between its tags: line ends as the browser hashes them, no end tag inside."""
    return source.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _policy(*scripts: str) -> str:
    """A content-security policy that runs these scripts only and requests nothing."""
    digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{d}'" for d in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
