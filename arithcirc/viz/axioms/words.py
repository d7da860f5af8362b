"""What the study says, in sentences that are put together from its tables: rule or shortcut, lengths, bars."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.axioms import families, names
from arithcirc.viz.axioms.bar_spans import bar_span
from arithcirc.viz.axioms.beaten import Beaten, beaten
from arithcirc.viz.axioms.cells import over_seeds, trained
from arithcirc.viz.frames import RunData, has

_LONG = (11, 13, 15)


def cards(data: RunData) -> list[dict[str, Any]]:
    """One card for each mix and kind of positions: the verdict and a few accuracies."""
    found = []
    if not (judged := beaten(data)):
        return []
    table = over_seeds(data.tables["cells"], measure="accuracy")
    longest = trained(data)[1]
    for model in judged:
        word, tag = names.verdict(model.word) if model.word else ("cannot be said", "plain")
        rows = [
            (f"in order, {longest}", _mean(table, model.mix, model.positions, "sequential", (longest,))),
            (f"in order, {_LONG[0]} to {_LONG[-1]}", _mean(table, model.mix, model.positions, "sequential", _LONG)),
            (f"edges turned, {longest}", _mean(table, model.mix, model.positions, "flipped", (longest,))),
            (f"last first, {longest}", _mean(table, model.mix, model.positions, "reversal", (longest,))),
        ]
        found.append(
            {
                "title": model.title,
                "word": word,
                "tag": tag,
                "rows": [(label, theme.number(value, 2)) for label, value in rows if value is not None]
                + families.hardest(data, model),
                "beaten": f"{model.total[0]} of {model.total[1]}",
            }
        )
    return found


def answer(data: RunData) -> list[tuple[str, str, str, str]]:
    """Rule or shortcut? `(who, verdict, its tag, why)` for the model that the study is about, and those beside it."""
    judged = beaten(data)
    if not judged:
        return []
    bare = [m for m in judged if m.positions == "none"]
    shown = bare or judged[:1]
    shown += [m for m in judged if m not in shown and m.mix == shown[0].mix]
    return [(m.title, *names.verdict(m.word or "cannot be said"), _why(data, m)) for m in shown]


def in_short(data: RunData) -> str:
    """What the first model does better, then every verdict: `... A shortcut: OCC · no positions.`"""
    found: dict[str, list[str]] = {}
    judged = beaten(data)
    first = next((m for m in judged if m.positions == "none"), judged[0] if judged else None)
    for model in judged:
        found.setdefault(names.verdict(model.word or "cannot be said")[0], []).append(model.title)
    order = [said for said, _ in names.VERDICTS.values()]
    words = sorted(found, key=lambda w: order.index(w) if w in order else len(order))
    every = [f"{w[0].upper()}{w[1:]}: {', '.join(found[w])}." for w in words]
    told = first is not None and first.word != "nothing learned" and families.lead(first)
    return " ".join([told, *every] if told else every)


def _why(data: RunData, model: Beaten) -> str:
    """The reasons of one model's verdict."""
    if not model.word:
        return "No set that can tell was asked."
    if model.word == "nothing learned":
        return f"Chains in order of {trained(data)[1]} nodes are not answered above chance."
    text = f"It {families.where(model)}. That is {model.total[0]} of {model.total[1]} sets that can tell"
    text += f" (of {model.seeds} seeds)" if model.seeds > 1 else ""
    if model.inside[1] and model.total[1] > model.inside[1]:
        rest = model.total[0] - model.inside[0], model.total[1] - model.inside[1]
        text += f", {model.inside[0]} of {model.inside[1]} of chains with turned edges of trained length and "
        text += f"{rest[0]} of {rest[1]} others"
    return f"{text}.{families.branching(data, model)}{_reversal(data, model)}"


def _reversal(data: RunData, model: Beaten) -> str:
    """How often sentences in reverse order are answered rightly, where mention order is nearly always wrong."""
    table = over_seeds(data.tables["cells"], measure="accuracy")
    nodes = trained(data)[1]
    mine = _mean(table, model.mix, model.positions, "reversal", (nodes,))
    short = _mean(table, "", "mention order", "reversal", (nodes,))
    if mine is None or short is None:
        return ""
    return (
        f" With the sentences of {nodes} nodes last first it is right in {theme.number(mine, 2)}; who goes by mention "
        f"order is in {theme.number(short, 2)}."
    )


def lengths(data: RunData) -> str:
    """How positions compare on long chains; empty where fewer than two kinds were asked."""
    if not has(data.tables, "cells", "set"):
        return ""
    table = over_seeds(data.tables["cells"], measure="accuracy")
    models = table[table["kind"] == "model"]
    for mix in names.MIXES:
        values = {w: _mean(table, mix, w, "sequential", _LONG) for w in dict.fromkeys(models["who"])}
        known = sorted(((v, w) for w, v in values.items() if v is not None), reverse=True)
        if len(known) > 1:
            said = ", ".join(f"{names.position(w)} {theme.number(v, 2)}" for v, w in known)
            return (
                f"On chains in order of {_list(_LONG)} nodes, models of {names.MIXES[mix]} that never saw more than "
                f"{trained(data)[1]} are right in: {said}. Mention order answers all of these, so this alone shows no "
                "rule."
            )
    return ""


def bars(data: RunData) -> tuple[str, list[dict[str, Any]]]:
    """How many bars hold, and a row for each."""
    if not has(data.tables, "bars", "bar", "sign", "wanted", "measured", "holds"):
        return "", []
    rows = []
    asked = over_seeds(data.tables["cells"], measure="accuracy") if has(data.tables, "cells", "set") else None
    for row in data.tables["bars"].to_dict("records"):
        known = not pd.isna(row["holds"])
        word, tag = (("holds", "good") if row["holds"] else ("does not hold", "miss")) if known else ("–", "plain")
        values = [theme.number(v, 2) for v in row.get("values", [])]
        rows.append(
            {
                "bar": theme.prose(str(row["bar"]).replace(" - ", " − ")),
                "wanted": f"{'≥' if row['sign'] == '>=' else '≤'} {theme.number(row['wanted'], 2)}",
                "measured": theme.number(row["measured"], 3) if known else "not measured",
                "span": bar_span(str(row["bar"]), asked) if asked is not None and known else "",
                "values": ", ".join(values) if len(values) > 1 else "",
                "word": word,
                "tag": tag,
            }
        )
    held, known_ = (sum(r["word"] == w for r in rows) for w in ("holds", "does not hold"))
    text = f"{held} of {held + known_} bars hold" if held + known_ else "No bar was measured"
    left = len(rows) - held - known_
    text += f"; {left} could not be measured with the models that are here." if left and held + known_ else "."
    demanded = data.tables["bars"].get("demanded", pd.Series([True]))
    if not bool(demanded.astype(bool).all()):
        text += " They were set for the recipe small with names of one character; of this one they only describe."
    return text, rows


def models(data: RunData) -> list[dict[str, Any]]:
    """The trainings, one row each."""
    if not has(data.tables, "models", "model", "mix", "positions", "seed", "counted", "learned", "steps", "seconds"):
        return []
    return [
        {
            "name": row["model"],
            "mix": row["mix"],
            "positions": names.position(str(row["positions"])),
            "seed": row["seed"],
            "learned": theme.number(row["learned"], 3),
            "steps": theme.count(row["steps"]),
            "minutes": theme.number(float(row["seconds"]) / 60, 1),
            "left_out": ", ".join(map(str, row["left_out"])) if len(row.get("left_out", ())) else "",
            "counted": bool(row["counted"]),
        }
        for row in data.tables["models"].to_dict("records")
    ]


def _mean(table: pd.DataFrame, mix: str, who: str, name: str, nodes: Sequence[int]) -> float | None:
    """Mean over sets, None unless all of them were asked."""
    rows = table[(table["mix"] == mix) & (table["who"] == who) & (table["set"] == name) & table["nodes"].isin(nodes)]
    return float(rows["value"].mean()) if len(rows) == len(nodes) else None


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
