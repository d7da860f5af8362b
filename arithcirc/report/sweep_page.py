"""The page of a sweep: how circuits, neurons and heuristics came about over training, and what that rests on.

Four choices hold for the whole page: the model, whose correct prompts (shared with the reference, or each checkpoint's
own), which labels, and how the steps are spread. Figures come from `viz.emergence.plates`, sentences from
`viz.emergence.words`; a table that is missing is named with the command that makes it. Small tables are written again
as CSV beside the Parquet files, so that the page's links work from disk.
"""

import shlex
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from arithcirc.catalogue import SweepFolder
from arithcirc.report.page import flat, render
from arithcirc.report.sweep_notes import cells, last_before, undrawn, used_settings, work
from arithcirc.store import write_text
from arithcirc.viz.embed import FigureGroup, plate_groups
from arithcirc.viz.emergence.data import FEWEST, LABELS, MADE_BY, PROMPTS, SweepData, read_sweep
from arithcirc.viz.emergence.plates import PLATES, SHARED, page_selectors
from arithcirc.viz.emergence.summary import (
    QUESTIONS,
    glance,
    headline,
    heuristic_lists,
    table_rows,
    troubles,
    unfinished,
)
from arithcirc.viz.emergence.words import findings
from arithcirc.viz.facts import size

BUDGET = 4_300_000
"""Bytes of figure JSON: with plotly.js, 4.8 MB, and the tables the page stays below 10 MB."""
ROWS = 300
"""Most rows of a table on the page; files have them all."""
HEURISTICS = 8
_TASK = ("status", "seconds", "load_seconds", "forwards", "attempts", "n_shared", "host")
_STEP = (
    "status", "accuracy", "accuracy_held_out", "base_rate", "heads", "faithfulness", "faithfulness_sem",
    "random_faithfulness", "important", "labelled_significant", "pairs_significant", "n_prompts", "note",
)  # fmt: skip
"""Columns the page shows; those a table does not have are shown as a dash."""
CSV_ROWS = 50_000
"""Tables up to this many rows are written as CSV too."""
MAY_BE_EMPTY = ("births", "jumps", "families")


def render_page(folder: SweepFolder) -> str:
    """The page as text; nothing is written."""
    data = read_sweep(folder)
    return render("sweep.html", content(folder, data), groups(data))


def groups(data: SweepData) -> dict[str, FigureGroup]:
    """The page's figures, as far as there are tables and room for them."""
    return plate_groups(data, plates=PLATES, budget=BUDGET)


def content(folder: SweepFolder, data: SweepData) -> dict[str, Any]:
    """Everything the page says but its figures."""
    manifest, tables = folder.manifest, dict(data.tables)
    labels = next(iter(data.label_order))
    steps, tasks = table_rows(data, "steps", prompts="own"), table_rows(data, "tasks")
    command = str(manifest.get("command") or "arithcirc sweep")
    return {
        "elsewhere": SHARED,
        "selectors": page_selectors(data),
        "name": ", ".join(m.name for m in data.models) or "no model",
        "models": data.models,
        "headline": headline(data),
        "verdicts": cells(data),
        "questions": list(QUESTIONS.values()),
        "glance": glance(data),
        "troubles": troubles(data),
        "unfinished": unfinished(data) if "tasks" in tables else 0,
        "findings": findings(data),
        "undrawn": undrawn(data),
        "last_before": last_before(data),
        "heuristics": heuristic_lists(data, labels, HEURISTICS),
        "steps": [dict.fromkeys(_STEP) | row for row in steps[:ROWS]],
        "steps_total": len(steps),
        "tasks": [_task(row) for row in tasks[:ROWS]],
        "tasks_total": len(tasks),
        "tables": tables,
        "missing": [name for name in MADE_BY if name not in tables],
        "empty": {name for name, table in tables.items() if table.empty},
        "may_be_empty": MAY_BE_EMPTY,
        "commands": {name: _with_stages(command, stages) for name, stages in MADE_BY.items()},
        "labels": LABELS[labels],
        "prompts": PROMPTS,
        "fewest": FEWEST,
        "target": data.setting("circuit", "target", 0.9),
        "files": table_files(folder),
        "command": command,
        "query": shlex.join(["arithcirc", "sweep", "--out", folder.path.resolve().name, "--sql", "select ..."]),
        "settings": {section: flat(values) for section, values in used_settings(manifest).items()},
        "loading": flat(manifest.get("loading") or {}),
        "how": _how(manifest) + work(folder, data),
        "notes": flat(manifest.get("notes") or {}),
        "packages": manifest.get("packages") or {},
        "git_sha": manifest.get("git_sha"),
        "created": manifest.get("updated") or manifest.get("created", ""),
    }


def _how(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Models, references and executor as `(name, text)` pairs."""
    rows = []
    for model in manifest.get("models", ()):
        note = model.get("reference_note")
        rows.append((f"reference of {model['name']}", f"{model['reference']}{f': {note}' if note else ''}"))
    if manifest.get("executor") is not None:
        rows.append(("executor", str(manifest["executor"])))
    rows += [(name, str(v)) for name, v in manifest.get("settings", {}).items() if not isinstance(v, dict)]
    return rows


def _with_stages(command: str, stages: str) -> str:
    """The sweep's command with these stages, into another folder: a sweep's own settings do not change."""
    words = iter(shlex.split(command))
    kept = []
    for word in words:
        name, given, _ = word.partition("=")
        if name in ("--stages", "--out"):
            if not given:
                next(words, None)
            continue
        kept.append(word)
    return shlex.join([*kept, f"--stages={stages}", "--out=OTHER"])


def _task(row: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(_TASK) | row | {"memory": size(row.get("peak_bytes") or None)}


def table_files(folder: SweepFolder) -> list[dict[str, Any]]:
    """The sweep's tables: name, rows, bytes, and whether there is a CSV."""
    found = []
    for name in folder.tables():
        file = folder.path / "tables" / f"{name}.parquet"
        rows = pq.ParquetFile(file).metadata.num_rows
        found.append({"name": name, "rows": rows, "size": size(file.stat().st_size), "csv": rows <= CSV_ROWS})
    return found


def write_csv(folder: SweepFolder) -> list[Path]:
    """Write the small tables as CSV beside the Parquet files, atomically; returns the paths."""
    written = []
    for entry in table_files(folder):
        path = folder.path / "tables" / f"{entry['name']}.csv"
        if entry["csv"]:
            write_text(path, str(folder.table(entry["name"]).to_csv(index=False)))
            written.append(path)
        else:
            path.unlink(missing_ok=True)
    return written
