"""What a sweep's page says beside its figures: answers with their unit, what was not drawn, how the work was done.

`cells`        the answers of the table `verdict` with their number and what it is a number of; steps are counted as in
               the table's own sentence, or given as a share where it does not count them
`undrawn`      lines that a figure has a place for and the tables do not hold (tables of an earlier version)
`last_before`  the share of the reference's pairs at the last checkpoint before it
`work`         when the sweep ran, on what, and how long its tasks took, from what they left on disk
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from arithcirc.catalogue import SweepFolder, TaskFiles
from arithcirc.store import MANIFEST
from arithcirc.viz.emergence.data import LABELS, SweepData
from arithcirc.viz.emergence.figure10 import ARMS, KEPT, OVERLAP
from arithcirc.viz.emergence.lines import Style
from arithcirc.viz.emergence.summary import QUESTIONS, Row, verdict_rows
from arithcirc.viz.emergence.words import title
from arithcirc.viz.frames import has

_LINES: dict[str, tuple[str, str, dict[str, Style]]] = {
    "overlap": ("overlap", "what", OVERLAP),
    "kept_faithfulness": ("kept_faithfulness", "neurons", KEPT),
    "knockouts": ("knockouts_by_prompt", "arm", ARMS),
}
"""Figure -> its table, the column that tells its lines apart, the lines it has a place for."""
_OF = {"carried": "steps", "rival": "early steps"}
_COUNTED = (
    re.compile(r"\bOf (?P<total>\d+) steps?\b.*?, (?P<held>\d+) shows?\b"),
    re.compile(r"\b(?P<held>\d+) of (?:the )?(?P<total>\d+)\b"),
    re.compile(r"\ball (?P<held>(?P<total>\d+)) steps\b"),
)
"""How the sentences of the table count steps."""
_UNUSED = {"circuit": ("probe", "neurons", "heuristics", "knockout"), "neurons": ("heuristics", "knockout")}
"""Sections of the settings that a smaller set of stages does not read."""
_KNOCKOUT = ("by_prompt",)
"""What a sweep reads of the section `knockout`."""


def cells(data: SweepData) -> list[Row]:
    """The rows of the summary, each answer with its number in words."""
    if not has(data.tables, "verdict", "model", "operator", "question", "statistic"):
        return verdict_rows(data)
    held = {
        (title(data, str(row["model"]), str(row["operator"])), QUESTIONS.get(str(row["question"]), "")): row
        for row in data.tables["verdict"].to_dict("records")
    }
    names = {text: name for name, text in QUESTIONS.items()}
    return [
        replace(
            row,
            answers=[
                replace(a, number=amount(names[a.question], held.get((row.title, a.question), {}))) for a in row.answers
            ],
        )
        for row in verdict_rows(data)
    ]


def amount(question: str, row: Mapping[Any, Any]) -> str:
    """`23% of pairs (chance 1.1%)` or `8 of 9 steps`; nothing where the question has no answer."""
    value, chance = (_float(row.get(name)) for name in ("statistic", "chance"))
    if math.isnan(value) or row.get("answer") == "unknown":
        return ""
    if question == "early":
        said = f"{_share(value)} of pairs"
    else:
        said = f"{_counted(str(row.get('detail')), value) or _share(value) + ' of'} {_OF[question]}"
    return said if math.isnan(chance) else f"{said} (chance {_share(chance)})"


def _counted(detail: str, value: float) -> str:
    """`8 of 9`, where a sentence counts so and the share is this one."""
    for pattern in _COUNTED:
        found = pattern.search(detail)
        held, total = (int(found["held"]), int(found["total"])) if found else (0, 0)
        if total and abs(held / total - value) < 0.005:
            return f"{held} of {total}"
    return ""


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _share(value: float) -> str:
    """As the sentences have it: whole per cent, with one decimal below ten."""
    return f"{100 * value:.0f}%" if value >= 0.1 or value == 0 else f"{100 * value:.1f}%"


def undrawn(data: SweepData) -> dict[str, str]:
    """By figure, a sentence that names the lines its table does not hold."""
    found = {}
    for key, (table, column, styles) in _LINES.items():
        if not has(data.tables, table, column):
            continue
        held = set(data.tables[table][column].astype(str))
        lost = [style.name for name, style in styles.items() if name not in held]
        if lost:
            found[key] = (
                f"Not in the table {table}, so not drawn: {'; '.join(lost)}. A sweep computed anew has it, unless "
                "no checkpoint has such neurons."
            )
    return found


def last_before(data: SweepData) -> str:
    """How much of the reference is there one checkpoint before it, by operator; empty where that is not known."""
    kind = next(iter(data.label_order))
    parts = []
    for model in data.models:
        at = model.axis.revisions.index(model.reference)
        for operator in data.operators:
            where = {"model": model.name, "operator": operator, "prompts": "shared", "labels": kind, "what": "pairs"}
            rows = data.rows("overlap", **where)
            if not has({"overlap": rows}, "overlap", "share"):
                continue
            rows = rows[(rows["place"] < at) & rows["share"].notna()]
            if len(rows):
                last = rows.iloc[-1]
                who = title(data, model.name, operator)
                parts.append(f"{who} {_share(last['share'])} at {model.axis.label(last['place'])}")
    if not parts:
        return ""
    return (
        f"Even the last checkpoint before the reference shares only so much of its pairs ({LABELS[kind]} labels, "
        f"shared prompts): {'; '.join(parts)}. The reference is one moment of training among others: measure a share "
        "early on against these, not against 100%."
    )


def used_settings(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings by section, without what the sweep's stages do not read."""
    settings = manifest.get("settings", {})
    unused = _UNUSED.get(str(settings.get("stages")), ())
    found = {name: dict(held) for name, held in settings.items() if isinstance(held, dict) and name not in unused}
    if "knockout" in found:
        found["knockout"] = {name: held for name, held in found["knockout"].items() if name in _KNOCKOUT}
    return found


def work(folder: SweepFolder, data: SweepData) -> list[tuple[str, str]]:
    """Start, end, time of the work, devices and threads, as `(name, text)` pairs, as far as they are known."""
    rows = [("start", _moment(folder.manifest.get("created")))]
    finished, devices, threads = set(), set(), set()
    for task, outcome, files in folder.ended():
        finished.add(str(outcome.get("finished") or ""))
        facts = _facts(files)
        devices.add(str(facts.get("model", {}).get("device") or ""))
        threads.add(str(facts.get("loading", task.get("loading", {})).get("threads") or ""))
    rows.append(("end of the last task", _moment(max(finished, default=""))))
    if has(data.tables, "tasks", "seconds"):
        tasks = data.tables["tasks"]
        total = float(tasks["seconds"].fillna(0).sum())
        rows.append(("work", f"{_duration(total)}, {len(tasks)} tasks added up; loading models not counted"))
    rows.append(("workers", str(folder.manifest.get("workers") or "")))
    rows.append(("devices", ", ".join(sorted(devices - {""}))))
    rows.append(("threads per worker", ", ".join(sorted(threads - {""}))))
    return [(name, text) for name, text in rows if text]


def _facts(files: TaskFiles) -> dict[str, Any]:
    """What the run on a task's own prompts says of its model; nothing where there is none."""
    try:
        return dict(json.loads((files.own / MANIFEST).read_text("utf-8")).get("facts", {}))
    except (OSError, ValueError):
        return {}


def _moment(text: Any) -> str:
    return str(text).replace("T", " ").replace("+00:00", " UTC") if text else ""


def _duration(seconds: float) -> str:
    """`1 h 12 min`, `3 min 20 s`, `45 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
