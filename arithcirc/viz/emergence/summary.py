"""A sweep in numbers: what was asked of each operator, how its tasks ended, and rows for the page's tables.

`verdict_rows` reads the table `verdict`, one row per model and operator with the answer to each question. `glance` are
the numbers at the references. Nothing is computed anew but counts.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.emergence.data import SweepData
from arithcirc.viz.emergence.words import listed, title
from arithcirc.viz.frames import column, has
from arithcirc.viz.theme import number

QUESTIONS = {
    "early": "Did the final heuristics appear early?",
    "carried": "Did they carry accuracy at every step?",
    "rival": "Is there a rival mechanism early on?",
}
_WORDS = {3: "three", 4: "four"}
_CLAIMS = {
    "early": "the final heuristics appeared early",
    "carried": "they carry accuracy at every checkpoint that can show it",
    "rival": "another mechanism shows early on",
}
_GOOD = {("early", "yes"): "good", ("carried", "yes"): "good", ("rival", "no"): "good", ("early", "no"): "miss",
         ("carried", "no"): "miss", ("rival", "yes"): "miss"}  # fmt: skip
_GLANCE = (
    "accuracy", "base_rate", "accuracy_held_out", "heads", "faithfulness", "random_faithfulness", "important",
    "labelled_significant", "pairs_significant", "pairs_matched", "first_layer", "top", "n_prompts",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """The answer to one question: a word, how it is coloured, the number behind it beside chance, a sentence."""

    question: str
    word: str
    tag: str
    number: str
    detail: str


@dataclass(frozen=True)
class Row:
    """The answers for one operator of one model."""

    title: str
    answers: list[Answer]


def verdict_rows(data: SweepData) -> list[Row]:
    """One per model and operator that the table `verdict` names."""
    if not has(data.tables, "verdict", "model", "operator", "question", "answer"):
        return []
    table = data.tables["verdict"]
    rows = []
    for model in data.models:
        for operator in data.operators:
            part = table[(table["model"] == model.name) & (table["operator"] == operator)]
            held = {str(r["question"]): r for r in part.to_dict("records")}
            if held:
                answers = [_answer(q, held.get(q, {})) for q in QUESTIONS]
                rows.append(Row(title(data, model.name, operator), answers))
    return rows


def _answer(question: str, row: dict[Hashable, Any]) -> Answer:
    word = str(row.get("answer", "unknown"))
    value, chance = row.get("statistic"), row.get("chance")
    text = "" if value is None or pd.isna(value) or word == "unknown" else number(value, 2)
    if text and chance is not None and pd.notna(chance):
        text += f" (chance {number(chance, 2)})"
    detail = row.get("detail")
    said = "" if detail is None or pd.isna(detail) else theme.prose(str(detail))
    return Answer(QUESTIONS[question], word, _GOOD.get((question, word), "plain"), text, said)


def glance(data: SweepData) -> list[dict[str, Any]]:
    """Per model and operator: the numbers at the reference and how many checkpoints have a circuit."""
    found = []
    for model in data.models:
        for operator in data.operators:
            steps = data.rows("steps", model=model.name, operator=operator, prompts="own")
            tasks = data.rows("tasks", model=model.name, operator=operator)
            at = steps[steps["revision"] == model.reference] if "revision" in steps.columns else steps
            row = dict.fromkeys(_GLANCE) | (at.iloc[0].to_dict() if len(at) else {})
            done = int((tasks["status"] == "done").sum()) if "status" in tasks.columns else 0
            found.append(
                {"title": title(data, model.name, operator), "done": done, "checkpoints": len(model.axis)}
                | {name: row.get(name) for name in _GLANCE}
            )
    return found


def headline(data: SweepData) -> str:
    """Checkpoints, references and how the tasks ended, in one line."""
    parts = []
    for model in data.models:
        who = f"{model.name}: " if len(data.models) > 1 else ""
        first, last = model.axis.label(0), model.axis.label(len(model.axis) - 1)
        at = model.axis.label(model.axis.revisions.index(model.reference))
        span = f", {first} to {last.removeprefix('step ')}" if len(model.axis) > 1 else f", {first}"
        parts.append(f"{who}{len(model.axis)} checkpoints{span}, compared with {at}")
    operators = " ".join(theme.OPERATOR_SIGNS.get(o, o) for o in data.operators)
    lead = f"{'; '.join(parts)}. Operators {operators}. {_ends(data)}"
    return " ".join([lead, *overview(data)])


def overview(data: SweepData) -> list[str]:
    """The three questions over all operators, one sentence per model; empty without the table `verdict`."""
    if not has(data.tables, "verdict", "model", "operator", "question", "answer"):
        return []
    table = data.tables["verdict"]
    found = []
    for model in data.models:
        rows = table[table["model"] == model.name]
        said = [f"{claim} {_for_which(data, rows[rows['question'] == q])}" for q, claim in _CLAIMS.items()]
        who = f"{model.name}: " if len(data.models) > 1 else ""
        text = f"{', '.join(said[:-1])}, and {said[-1]}."
        found.append(who + (text if who else text[0].upper() + text[1:]))
    return found


def _for_which(data: SweepData, rows: pd.DataFrame) -> str:
    """`for + (partly for −; not known for ×, ÷)`."""
    held: dict[str, list[str]] = {}
    for operator in data.operators:
        for word in rows.loc[rows["operator"] == operator, "answer"].astype(str):
            held.setdefault(word, []).append(theme.OPERATOR_SIGNS.get(operator, operator))
    total, yes = sum(len(signs) for signs in held.values()), held.get("yes", [])
    every = {1: ", ".join(yes), 2: "both operators"}.get(total, f"all {_WORDS.get(total, total)} operators")
    none = {1: "no operator", 2: "neither operator"}.get(total, f"none of the {_WORDS.get(total, total)} operators")
    said = "for " + (every if yes and len(yes) == total else ", ".join(yes) or none)
    rest = {"partly": "partly for", "unknown": "not known for"}
    more = [f"{text} {', '.join(held[word])}" for word, text in rest.items() if word in held]
    return said + (f" ({'; '.join(more)})" if more else "")


def unfinished(data: SweepData) -> int:
    """How many tasks did not end yet."""
    total = sum(len(m.axis) for m in data.models) * len(data.operators)
    return total - sum(len(data.rows("tasks", model=m.name)) for m in data.models)


def _ends(data: SweepData) -> str:
    total = sum(len(m.axis) for m in data.models) * len(data.operators)
    if not has(data.tables, "tasks", "status"):
        return f"{total} tasks."
    status = data.tables["tasks"]["status"].value_counts()
    done, none, failed = (int(status.get(s, 0)) for s in ("done", "no circuit", "failed"))
    parts = [f"{done} of {total} tasks done"]
    parts += [f"{none} without a circuit"] if none else []
    parts += [f"{failed} failed"] if failed else []
    left = unfinished(data)
    return f"{', '.join([*parts, *([f'{left} not run yet'] if left else [])])}."


def troubles(data: SweepData) -> list[dict[str, str]]:
    """The checkpoints whose tasks failed or found no circuit, those with one reason together."""
    rows = []
    for model in data.models:
        tasks = data.rows("tasks", model=model.name)
        if "status" not in tasks.columns:
            continue
        tasks = tasks[tasks["status"] != "done"]
        tasks = tasks.assign(reason=column(tasks, "reason", "").fillna("").astype(str))
        for (operator, status, reason), part in tasks.groupby(
            ["operator", "status", "reason"], observed=True, sort=False
        ):
            who = title(data, model.name, str(operator))
            checkpoints = listed(model.axis.label(p) for p in part["place"])
            rows.append({"title": who, "checkpoint": checkpoints, "status": str(status), "reason": str(reason)})
    return rows


def table_rows(data: SweepData, table: str, **where: Any) -> list[dict[str, Any]]:
    """A table's rows in the order of models, operators and checkpoints, with `title` and `checkpoint` for people."""
    found = []
    for model in data.models:
        rows = data.rows(table, model=model.name, **where)
        if rows.empty:
            continue
        for operator in data.operators:
            for row in rows[rows["operator"] == operator].to_dict("records"):
                named = {"title": title(data, model.name, operator), "checkpoint": model.axis.label(row["place"])}
                found.append({str(k): v for k, v in row.items()} | named)
    return found


def heuristic_lists(data: SweepData, labels: str, most: int) -> list[dict[str, Any]]:
    """Per model and operator the heuristics that stay, most neurons first; births of the first and the median."""
    if not has(data.tables, "births", "model", "operator", "heuristic", "labels", "birth", "fate"):
        return []
    table = data.tables["births"]
    table = table[(table["labels"] == labels) & table["birth"].notna()]
    lists = []
    for model in data.models:
        for operator in data.operators:
            part = table[(table["model"] == model.name) & (table["operator"] == operator)]
            if part.empty:
                continue
            born = part.assign(birth=part["birth"].astype("float64")).groupby("heuristic", observed=True)
            rows = born.agg(neurons=("birth", "size"), first=("birth", "min"),
                            median=("birth", "median")).reset_index()  # fmt: skip
            rows = rows.sort_values(["neurons", "first", "heuristic"], ascending=[False, True, True])
            shown = rows.head(most).to_dict("records")
            lists.append({"title": title(data, model.name, operator), "rows": shown, "total": len(rows)})
    return lists
