"""What is known about every head of one operator, as rows; and one head in a sentence.

What a head carries to `=` is read off patching: the parts of the prompt (op1, op2, the operator) whose exchange alone
moves the answer when this head's output is patched. A part counts when its effect is at least `CARRIED` of the head's
largest and of what matters at all (`LEAST` nats). A linear probe is a lower bound beside it: what it decodes need not
be used, and an operand has 300 values to tell apart, the operator four.
"""

from typing import Any

import pandas as pd

from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.effects import head_names
from arithcirc.viz.findings import DECODED, LOOKS
from arithcirc.viz.frames import flags, numbers
from arithcirc.viz.theme import number

PARTS = ("op1", "op2", "operator")
CARRIED = 0.5
"""Share of a head's largest one-part effect from which it counts as carrying a part as well."""
LEAST = 0.5
"""Nats below which a one-part effect carries nothing worth a word."""
SEMS = 3.0
"""Standard errors that a one-part effect must exceed."""


def head_rows(view: View, source: Source) -> pd.DataFrame:
    """One row per head, in the circuit's order: href, name, layer, head, rank, in_circuit, effect, looks, decodes ...

    Columns of tables that are missing are left out. Raises MissingTable without effects.
    """
    rows = _effects(source, view.op)
    if source.has("circuit"):
        circuit = source.table("circuit", view.op)
        circuit = circuit[circuit["kind"] == "head"]
        ranks = circuit.set_index(_names(circuit))
        rows["rank"] = rows["name"].map(ranks["rank"])
        rows["in_circuit"] = rows["name"].map(pd.Series(flags(ranks, "in_circuit"), index=ranks.index))
        rows["in_circuit"] = rows["in_circuit"].astype("boolean").fillna(False).astype(bool)
    rows = rows.merge(_carries(source.table("effects", view.op)), on="name", how="left")
    if source.has("heads"):
        rows = rows.merge(_looks(source.table("heads", view.op)), on="name", how="left")
    if source.has("head_copies"):
        rows = rows.merge(_decodes(source.table("head_copies"), view.op), on="name", how="left")
    rows = rows.sort_values(["rank"] if "rank" in rows else ["effect"], ascending="rank" in rows, kind="stable")
    rows["href"] = [
        view.url(layer=int(layer), head=int(head)) for layer, head in zip(rows["layer"], rows["head"], strict=True)
    ]
    return rows.reset_index(drop=True)


def _names(rows: pd.DataFrame) -> "pd.Index[Any]":
    found: pd.Index[Any] = pd.Index(head_names(rows))
    return found


def _effects(source: Source, op: str) -> pd.DataFrame:
    """Effect at `=` against a random prompt, per head."""
    rows = source.table("effects", op)
    wanted = (rows["kind"] == "head") & (rows["position"] == "equals")
    rows = rows[wanted & (rows["change"] == "any") & (rows["metric"] == "logit_diff")]
    found = rows[["layer", "head"]].astype(int).assign(name=head_names(rows))
    found["effect"], found["sem"] = numbers(rows, ["mean", "sem"]).T
    return found


def _carries(effects: pd.DataFrame) -> pd.DataFrame:
    """`carries`, and `by_op1`, `by_op2`, `by_operator`: effects (nats) of counterfactuals that differ in one part."""
    wanted = (effects["kind"] == "head") & (effects["position"] == "equals") & (effects["metric"] == "logit_diff")
    rows = effects[wanted & effects["change"].isin(PARTS)]
    rows = rows.assign(name=head_names(rows))
    if rows.empty:
        return pd.DataFrame({"name": []})
    means = rows.pivot_table(index="name", columns="change", values="mean").reindex(columns=list(PARTS)).astype(float)
    sems = rows.pivot_table(index="name", columns="change", values="sem").reindex_like(means).fillna(0.0).astype(float)
    strong = means.ge(CARRIED * means.max(axis=1), axis=0) & (means >= LEAST) & (means > SEMS * sems)
    means = means.rename(columns=lambda part: f"by_{part}")
    found = [", ".join(part for part in PARTS if row[part]) for _, row in strong.iterrows()]
    return means.assign(carries=pd.Series(found, index=means.index, dtype=object).replace("", None)).reset_index()


def _looks(table: pd.DataFrame) -> pd.DataFrame:
    """`looks` and `share`: the position with most attention; attention that is missing is not looked at."""
    held = table.assign(name=head_names(table)).dropna(subset=["attention"])
    best = held.loc[held.groupby("name")["attention"].idxmax(), ["name", "position", "attention"]]
    labels = {p: theme.POSITION_LABELS.get(p, p) for p in theme.ALL_POSITIONS}
    return best.assign(looks=best["position"].map(labels)).rename(columns={"attention": "share"})[
        ["name", "looks", "share"]
    ]


def _decodes(table: pd.DataFrame, op: str) -> pd.DataFrame:
    """`decodes`, `accuracy`, `base_rate`: the part of the prompt decoded best above its base rate."""
    held = table[table["operator"].isin([op, "all"])].dropna(subset=["accuracy"])
    held = held.assign(name=head_names(held), gain=held["accuracy"] - held["base_rate"].fillna(0.0))
    if held.empty:
        return pd.DataFrame({"name": [], "decodes": [], "accuracy": [], "base_rate": []})
    best = held.loc[held.groupby("name")["gain"].idxmax()]
    return best.rename(columns={"what": "decodes"})[["name", "decodes", "accuracy", "base_rate"]]


def sentence(row: dict[str, Any], total: int, operator: str) -> str:
    """One head in words."""
    name, parts = row["name"], []
    if "rank" in row and not pd.isna(row["rank"]):
        where = "in the circuit" if row["in_circuit"] else "not in the circuit"
        said = theme.OPERATOR_NAMES.get(operator, operator)
        parts.append(f"{name} is {where} of {said}, number {row['rank']:.0f} of {total} heads by effect.")
    parts.append(
        f"With its output at = taken from a random other prompt, the answer’s lead falls by {number(row['effect'], 2)} "
        f"nats (standard error {number(row.get('sem'), 2)})."
    )
    looks = row.get("looks")
    if isinstance(looks, str):
        share = f"{number(row['share'], 2)} of its attention on average"
        spread = "it looks mostly at" if row["share"] >= LOOKS else "its attention is spread; most of it goes to"
        parts.append(f"From = {spread} {_said(looks)} ({share}).")
    parts += [text for text in (_carried(row), _decoded(row)) if text]
    return " ".join(parts)


def _carried(row: dict[str, Any]) -> str:
    """What the head brings to `=`, by the effects of exchanging one part of the prompt."""
    effects = {part: row.get(f"by_{part}") for part in PARTS}
    known = [f"{part} {number(value, 2)}" for part, value in effects.items() if value is not None and value == value]
    if not known:
        return ""
    carries = row.get("carries")
    by = f"(nats when only this part differs: {', '.join(known)})"
    if not isinstance(carries, str):
        return f"By patching it carries no single part to = {by}."
    return f"By patching it carries {' and '.join(_said(part) for part in carries.split(', '))} to = {by}."


def _decoded(row: dict[str, Any]) -> str:
    """What a probe reads off the output: a lower bound, and whether it agrees with patching."""
    what, carries = row.get("decodes"), row.get("carries")
    if not isinstance(what, str):
        return ""
    part = _said(what)
    gain = row["accuracy"] - (0.0 if pd.isna(row["base_rate"]) else row["base_rate"])
    scores = f"{number(row['accuracy'], 2)} of held-out prompts, base rate {number(row['base_rate'], 2)}"
    if gain < DECODED:
        text = (
            f"A linear probe (a lower bound) reads no part of the prompt off its output well; best is {part} ({scores})"
        )
        return f"{text}, less than patching shows." if isinstance(carries, str) else f"{text}."
    text = f"A linear probe (a lower bound) reads {part} best ({scores})"
    if what not in PARTS or f"by_{what}" not in row:
        return f"{text}."
    if isinstance(carries, str) and what in carries.split(", "):
        return f"{text}, which agrees."
    return f"{text}: patching and probe disagree, since what can be read there need not be used."


def _said(part: str) -> str:
    """`operator` -> `the operator`; op1, op2 and = are names."""
    return f"the {part}" if part in ("operator", "result") else part
