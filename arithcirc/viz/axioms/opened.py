"""What opening a model says, in sentences and small tables."""

from typing import Any

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.conclusions import apart, hop_by_hop
from arithcirc.viz.axioms.guesses import said_too
from arithcirc.viz.axioms.judged import against, set_name, set_rows
from arithcirc.viz.axioms.layers import PANELS, distance_name
from arithcirc.viz.frames import RunData, flags, has

_CLAIM = "beats shortcuts"
_NEEDED = " are needed"
_SEEN = 0.35
"""Attention on a sentence that is worth a line."""
_MOST = 14
_NAMED = 4
"""Sets that are named where shortcuts are not beaten; more are only counted."""


def openings(data: RunData) -> list[str]:
    """Names of the models that were opened, those with a verdict first."""
    found: dict[str, None] = {}
    for table in ("verdict", *data.tables):
        if has(data.tables, table, "opening"):
            found |= dict.fromkeys(str(v) for v in data.tables[table]["opening"])
    return list(found)


def rows(data: RunData, table: str, opening: str, *columns: str) -> pd.DataFrame:
    """A model's rows of a table; empty where the table or a column is missing."""
    if not has(data.tables, table, "opening", *columns):
        return pd.DataFrame(columns=list(columns))
    held = data.tables[table]
    return held[held["opening"] == opening]


def verdict(data: RunData, opening: str) -> dict[str, Any] | None:
    """The verdict with what it rests on."""
    held = rows(data, "verdict", opening, "claim", "questions", "value", "low", "high", "other", "holds")
    if held.empty:
        return None
    word, tag = names.verdict(str(held["claim"].iloc[-1]))
    sets = held[held["claim"] == _CLAIM]
    needed = held[held["claim"].str.endswith(_NEEDED)]
    return {
        "name": opening,
        "word": word,
        "tag": tag,
        "said": _said(sets, against(rows(data, "generalisation", opening, "questions", "accuracy"))) + _neurons(needed),
        "rows": set_rows(rows(data, "generalisation", opening, "questions", "accuracy"), sets),
        "shortcuts": against(rows(data, "generalisation", opening, "questions", "accuracy")),
        "needed": [_claim(row, no="plain") for row in needed.to_dict("records")],
    }


def _said(sets: pd.DataFrame, shortcuts: list[str]) -> str:
    known = sets[sets["holds"].notna()]
    held = flags(known, "holds")
    text = f"Hard accuracy beats {_every(shortcuts)} on {int(held.sum())} of {len(known)} sets that can tell."
    if 0 < (~held).sum() <= _NAMED:
        lost = []
        for name, *values in known.loc[~held, ["questions", "value", "low", "high", "other"]].to_numpy():
            value, low, high, other = (theme.number(v, 2) for v in values)
            lost.append(f"{set_name(name)} ({value} [{low}, {high}] against {other})")
        text += f" Not on {'; '.join(lost)}."
    if left := int(sets["value"].isna().sum()):
        text += f" {left} could not be asked: the model has no positions for them."
    if silent := int((sets["holds"].isna() & sets["value"].notna()).sum()):
        text += f" {silent} cannot tell: a shortcut answers nearly all of them."
    return text


def _every(shortcuts: list[str]) -> str:
    """Whom a model was compared with, by name where that is not every shortcut."""
    return "every shortcut" if len(shortcuts) == len(names.SHORTCUTS) else " and ".join(shortcuts) or "the shortcuts"


def _neurons(needed: pd.DataFrame) -> str:
    """Which classes of neurons the answers need."""
    if needed.empty:
        return ""
    parts = []
    for claim, part in needed.groupby("claim", sort=False):
        name = str(claim).removeprefix("neurons of ").removesuffix(_NEEDED)
        where = [set_name(q) for q in part.loc[flags(part, "holds"), "questions"]]
        parts.append(f"those of “{name}” {'on ' + ', '.join(where) if where else 'on no set'}")
    return f" Neurons are needed more than random ones: {'; '.join(parts)}."


def _claim(row: dict[Any, Any], *, no: str = "miss") -> dict[str, str]:
    known = not pd.isna(row["holds"])
    none = "not asked" if pd.isna(row["value"]) else "cannot tell"
    word, tag = (("yes", "good") if row["holds"] else ("no", no)) if known else (none, "plain")
    digits = 2
    return {
        "claim": str(row["claim"]).removeprefix("neurons of ").removesuffix(_NEEDED),
        "questions": set_name(row["questions"]),
        "value": theme.number(row["value"], digits),
        "interval": f"{theme.number(row['low'], digits)} to {theme.number(row['high'], digits)}"
        if pd.notna(row["value"])
        else "–",
        "other": theme.number(row["other"], digits),
        "word": word,
        "tag": tag,
    }


def circuit(data: RunData, opening: str) -> dict[str, Any] | None:
    """The parts of the circuit, how many there are in all, and how faithful they are on each set."""
    held = rows(data, "circuit", opening, "part", "kind", "in_circuit")
    if held.empty:
        return None
    inside = held[flags(held, "in_circuit")].sort_values(["layer", "kind", "head"])
    counts = [f"{(inside['kind'] == k).sum()} of {(held['kind'] == k).sum()} {t}" for k, t in
              (("head", "heads"), ("mlp", "MLPs"))]  # fmt: skip
    judged = rows(data, "faithfulness", opening, "circuit", "questions", "faithfulness", "completeness", "accuracy")
    best = judged[judged["circuit"] == "random"].groupby("questions")["faithfulness"].max()
    full = judged[judged["circuit"] == "full"].set_index("questions")["accuracy"]
    return {
        "name": opening,
        "counts": " and ".join(counts),
        "parts": ", ".join(str(p) for p in inside["part"]),
        "rows": [
            {
                "questions": set_name(r["questions"]), "faithfulness": theme.number(r["faithfulness"], 2),
                "completeness": theme.number(r["completeness"], 2), "random": theme.number(best.get(r["questions"]), 2),
                "accuracy": theme.number(r["accuracy"], 2), "full": theme.number(full.get(r["questions"]), 2),
            }
            for r in judged[judged["circuit"] == "found"].to_dict("records")
        ],
    }  # fmt: skip


def layers_needed(data: RunData, opening: str) -> dict[str, Any] | None:
    """Layers needed by distance, a column for each curve that is drawn."""
    held = rows(data, "layers_needed", opening, "curve", "scope", "distance", "needed")
    if held.empty:
        return None
    found = held.set_index(["curve", "scope", "distance"])["needed"]
    kept = [(c, s, t) for c, s, t in PANELS if ((held["curve"] == c) & (held["scope"] == s)).any()]
    lines = [
        (distance_name(d), [theme.count(found.get((c, s, d))) for c, s, _ in kept])
        for d in sorted({int(v) for v in held["distance"]}, key=lambda d: (d == 0, d))
    ]
    told = hop_by_hop(held)
    return {"name": opening, "columns": [t for _, _, t in kept], "rows": lines, "said": told}


def walk(data: RunData, opening: str) -> dict[str, Any] | None:
    """The walked question: its tokens with their roles, the answer, and which sentence heads look at from where."""
    tokens = rows(data, "walk_tokens", opening, "index", "token", "role", "sentence").sort_values("index")
    if tokens.empty:
        return None
    margins = rows(data, "walk_margins", opening, "layers", "role", "margin", "label", "hops")
    last = margins[margins["role"] == "mark"].sort_values("layers")
    told: dict[str, Any] = {"label": "", "hops": "", "margin": "", "right": True, "too": ""}
    if len(last):
        label, margin = bool(last["label"].iloc[-1]), float(last["margin"].iloc[-1])
        told = {
            "label": "Yes" if label else "No", "hops": theme.count(last["hops"].iloc[-1]),
            "margin": f"{margin:+.1f}".replace("-", "−"), "right": (margin > 0) == label,
            "too": said_too(tokens, label),
        }  # fmt: skip
    said = [
        {"token": str(t), "role": str(r).replace(" ", "-"), "title": names.role(str(r))}
        for t, r in zip(tokens["token"], tokens["role"], strict=True)
    ]
    return told | {"name": opening, "tokens": said, "looks": _looks(data, opening, tokens)}


def _looks(data: RunData, opening: str, tokens: pd.DataFrame) -> list[dict[str, str]]:
    """Heads of the circuit that look at one sentence from the question, strongest first in each layer."""
    edges = rows(data, "walk_attention", opening, "layer", "head", "query", "key", "attention")
    if edges.empty:
        return []
    placed = tokens.set_index("index")
    sentence = placed["sentence"].astype("Float64")
    edges = edges.assign(sentence=edges["key"].map(sentence), role=edges["query"].map(placed["role"]))
    edges = edges[edges["role"].isin(["asked cause", "verb", "asked effect", "mark"]) & edges["sentence"].notna()]
    sums = edges.groupby(["layer", "head", "query", "role", "sentence"], as_index=False)["attention"].sum()
    sums = sums[sums["attention"] >= _SEEN].nlargest(_MOST, "attention").sort_values(["layer", "head", "query"])
    texts = {
        number: " ".join(map(str, placed.loc[(sentence == number).fillna(value=False), "token"])).replace(" .", ".")
        for number in sentence.dropna().unique()
    }
    return [
        {
            "head": f"L{int(r['layer'])}H{int(r['head'])}",
            "from": f"{placed['token'].get(r['query'])} ({names.role(str(r['role']))})",
            "to": texts.get(float(r["sentence"]), ""),
            "attention": theme.number(r["attention"], 2),
        }
        for r in sums.to_dict("records")
    ]


def comparison(data: RunData) -> list[tuple[str, list[dict[str, str]]]]:
    """The model without positions beside the one with learned ones: `(measure, rows)`."""
    if not has(data.tables, "comparison", "measure", "questions", "none", "learned", "difference"):
        return []
    found: dict[str, list[dict[str, str]]] = {}
    for row in data.tables["comparison"].to_dict("records"):
        text = row.get("text_none")
        words = isinstance(text, str) and bool(text)
        whole = str(row["measure"]).startswith(("layers needed", "neurons of", "circuit heads", "circuit mlps"))
        digits = 0 if whole else 2
        found.setdefault(str(row["measure"]), []).append(
            {
                "questions": set_name(row["questions"]) if row["questions"] else "",
                "none": str(text) if words else theme.number(row["none"], digits),
                "learned": str(row["text_learned"]) if words else theme.number(row["learned"], digits),
                "difference": "" if words else theme.number(row["difference"], digits),
            }
        )
    return list(found.items())


def differences(data: RunData) -> list[str]:
    """What tells the two models of the comparison apart, in sentences; none where they were not compared."""
    if not has(data.tables, "comparison", "measure", "questions", "none", "learned", "difference", "text_none"):
        return []
    table = data.tables["comparison"]
    said = []
    last = table[table["measure"] == "verdict"]
    if len(last):
        words = [names.verdict(str(last[f"text_{k}"].iloc[0]))[0] for k in ("none", "learned")]
        said.append(f"Without positions: {words[0]}. With learned positions: {words[1]}.")
    said += apart(table)
    unasked = table[(table["measure"] == "accuracy") & table["none"].notna() & table["learned"].isna()]
    if len(unasked):
        sets = ", ".join(set_name(q) for q in unasked["questions"])
        said.append(f"The table of learned positions is too short for {sets}.")
    return said
