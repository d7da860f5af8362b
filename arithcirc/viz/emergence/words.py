"""What a sweep shows, in sentences per model and operator, made from its tables only.

All numbers are on the choices that the page shows first: prompts shared with the reference, and the label kind of
`SweepData.label_order`. What a table does not hold is left unsaid. Chance is named beside every share, and a comparison
that was not tested is not called one.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.emergence.births import fates
from arithcirc.viz.emergence.data import LABELS, SweepData
from arithcirc.viz.emergence.jumps import ALL
from arithcirc.viz.findings import Finding
from arithcirc.viz.frames import column, has, numbers
from arithcirc.viz.theme import count, number, p_value, percent

PAPER_KEPT = 0.79
ADDED = 0.1
"""What the paper's kept neurons recover of all, on average over Pythia-6.9B's checkpoints."""
LEVEL = 0.01
"""p-values below this count."""
PER_LAYER = 25
_SURE = "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}.01"

_Say = Callable[[SweepData, str, str], str]


def findings(data: SweepData) -> dict[str, list[Finding]]:
    """Sentences by section."""
    sections: dict[str, _Say] = {
        "accuracy": _accuracy, "overlap": _overlap, "kept": _kept, "knockouts": _knockouts, "circuits": _circuits,
        "births": _births, "jumps": _jumps,
    }  # fmt: skip
    return {name: list(_each(data, say)) for name, say in sections.items()}


def _each(data: SweepData, say: _Say) -> Iterator[Finding]:
    for model in data.models:
        for operator in data.operators:
            if text := say(data, model.name, operator):
                yield title(data, model.name, operator), text


def title(data: SweepData, model: str, operator: str) -> str:
    """The operator, with the model in front where there are several."""
    name = theme.operator_title(operator)
    return f"{model}, {name}" if len(data.models) > 1 else name


def labels(data: SweepData) -> str:
    """The label kind the words are about."""
    return next(iter(data.label_order))


def _accuracy(data: SweepData, model: str, operator: str) -> str:
    rows = data.rows("steps", model=model, operator=operator, prompts="own")
    if rows.empty or "accuracy" not in rows.columns or rows["accuracy"].isna().all():
        return ""
    axis = data.model(model).axis
    held = "accuracy_held_out" in rows.columns and rows["accuracy_held_out"].notna().any()
    value = "accuracy_held_out" if held else "accuracy"
    rows = rows[rows[value].notna()]
    last = rows.iloc[-1]
    what = "held-out prompts" if held else "prompts"
    text = f"{percent(last[value])} of {what} are answered correctly at {axis.label(last['place'])}"
    base = float(numbers(rows.tail(1), ["base_rate"])[0, 0])
    if np.isfinite(base):
        text += f" (the most frequent answer would score {percent(base)})"
    half = rows[rows[value] >= last[value] / 2]
    if len(half) and last[value] > 0:
        text += f"; half of that is first reached at {axis.label(half.iloc[0]['place'])}"
    if np.isfinite(base):
        poor = rows[(rows[value] <= column(rows, "base_rate")) & (rows[value] > 0)]
        if len(poor):
            text += f"; no better than that answer at {listed(axis.label(p) for p in poor['place'])}"
    return f"{text}."


def _circuits(data: SweepData, model: str, operator: str) -> str:
    tasks = data.rows("tasks", model=model, operator=operator)
    if tasks.empty or "status" not in tasks.columns:
        return ""
    axis = data.model(model).axis
    text = f"A circuit at {int((tasks['status'] == 'done').sum())} of {len(axis)} checkpoints"
    steps = data.rows("steps", model=model, operator=operator, prompts="own")
    if has({"steps": steps}, "steps", "faithfulness", "heads") and steps["faithfulness"].notna().any():
        done = steps[steps["faithfulness"].notna()]
        target = float(data.setting("circuit", "target", 0.9))
        reached = int((done["faithfulness"] >= target).sum())
        text += f"; on the checkpoints’ own prompts F reaches {target:g} at {reached} of {len(done)}, with "
        text += f"{int(done['heads'].min())} to {int(done['heads'].max())} heads"
    for status, word in (("no circuit", "none"), ("failed", "task failed")):
        part = tasks[tasks["status"] == status]
        if len(part):
            why = next((str(r) for r in column(part, "reason", None) if isinstance(r, str)), "")
            reason = f" ({why.rstrip('.')})" if why else ""
            text += f"; {word} at {listed(axis.label(p) for p in part['place'])}{reason}"
    missing = len(axis) - len(set(tasks["place"]))
    if missing:
        text += f"; {missing} not run yet"
    return f"{text}."


def _overlap(data: SweepData, model: str, operator: str) -> str:
    rows = data.rows("overlap", model=model, operator=operator, prompts="shared", what="pairs", labels=labels(data))
    rows = _before(data, model, rows)
    if rows.empty or rows["share"].isna().all():
        return ""
    axis = data.model(model).axis
    rows = rows[rows["share"].notna() & (column(rows, "here", 1) > 0)]
    if rows.empty:
        return "No checkpoint before the reference has a labelled pair to compare."
    chosen = [rows.iloc[i] for i in sorted({0, len(rows) // 2, len(rows) - 1})]
    parts = [f"{percent(r['share'])} at {axis.label(r['place'])} (chance {percent(r['expected'])})" for r in chosen]
    total = int(rows.iloc[-1]["at_reference"])
    top = rows["share"].max()
    most = f" At most {percent(top)} are there before the reference." if top > rows.iloc[-1]["share"] else ""
    return f"Of the reference’s {total:,} pairs with {LABELS[labels(data)]} labels: {'; '.join(parts)}.{most}"


def _kept(data: SweepData, model: str, operator: str) -> str:
    where = {"model": model, "operator": operator, "prompts": "shared", "labels": labels(data), "heads": "all"}
    rows = _before(data, model, data.rows("kept_faithfulness", **where))
    if rows.empty:
        return ""
    table = rows.pivot_table(values="faithfulness", index="place", columns="neurons", aggfunc="mean")
    if not {"all", "kept"} <= set(table.columns):
        return ""
    table = table[table["all"].notna() & table["kept"].notna()]
    usable = table[table["all"] > 0.1]
    if usable.empty:
        return "No checkpoint before the reference has labelled neurons whose F is above .1, so nothing compares."
    ratio = usable["kept"] / usable["all"]
    axis = data.model(model).axis
    low = int(ratio.to_numpy().argmin())
    text = (
        f"The kept neurons recover {percent(ratio.mean())} of what all labelled ones do (F), on average over "
        f"{len(ratio)} checkpoints; least at {axis.label(ratio.index[low])}, {percent(ratio.iloc[low])}"
    )
    others = {
        "random_kept": "as many random ones",
        "new": "the new ones",
        "random_new": "as many random ones as these",
        "none": "none at all",
    }
    for name, word in others.items():
        if name in usable and usable[name].notna().any():
            text += f"; {word} {percent((usable[name] / usable['all']).mean())}"
    text += f". In the paper: {percent(PAPER_KEPT)}, for the kept ones of Pythia-6.9B."
    return text + _beyond_none(usable)


def _beyond_none(table: pd.DataFrame) -> str:
    """What kept and new neurons add to F, as a share of what all labelled ones add: F of none is high already."""
    if not {"kept", "new", "none"} <= set(table.columns):
        return ""
    added = table["all"] - table["none"]
    clear = added >= ADDED
    if not clear.any():
        return f" Nowhere do all labelled ones add {ADDED:g} or more to what none do."
    kept, new = (((table[name] - table["none"]) / added)[clear].mean() for name in ("kept", "new"))
    where = f"the {int(clear.sum())} checkpoints where that is {ADDED:g} or more"
    return (
        f" Of what labelled neurons add to none at all, the kept ones give {percent(kept)} and the new ones "
        f"{percent(new)} ({where})."
    )


def _knockouts(data: SweepData, model: str, operator: str) -> str:
    where = {"model": model, "operator": operator, "prompts": "shared", "labels": labels(data), "ablation": "zero"}
    rows = data.rows("knockouts_by_prompt", **where, per_layer=PER_LAYER)
    if rows.empty:
        return ""
    parts = []
    for arm, word in (("targeted", "best labelled neurons"), ("kept", "kept ones"), ("new", "new ones")):
        own = rows[rows["arm"] == arm].set_index("place")
        control = rows[rows["arm"] == ("random" if arm == "targeted" else f"random_{arm}")].set_index("place")
        both = own.join(control[["accuracy", "p"]].add_suffix("_random"), how="inner")
        both = both[both["accuracy"].notna() & both["accuracy_random"].notna()]
        if both.empty:
            continue
        gap = both["accuracy_random"] - both["accuracy"]
        p = column(both, "p_random").fillna(column(both, "p"))
        holds = int(((gap > 0) & (p < LEVEL)).sum())
        more = "more" if gap.mean() >= 0 else "less"
        parts.append(f"{word} cost {number(abs(gap.mean()), 2)} {more} accuracy than random ones on average, "
                     f"with {_SURE} at {holds} of {len(both)} checkpoints")  # fmt: skip
    return f"Up to {PER_LAYER} per layer, zero ablation: {'; '.join(parts)}." if parts else ""


def _births(data: SweepData, model: str, operator: str) -> str:
    found = next((f for f in fates(data, model, labels(data)) if f.operator == operator), None)
    if found is None:
        return ""
    kind = LABELS[labels(data)]
    text = (
        f"{found.total:,} pairs with {kind} labels were seen at some checkpoint: {found.stays:,} stay to the last one, "
        f"{found.dies:,} die, {found.flickers:,} come and go, and {found.left:,} belong to neurons that were no longer "
        "important and so not looked at"
    )
    if found.dies + found.flickers:
        text += f"; of the lost ones, {found.changed:,} belong to neurons that then carry another label"
    return f"{text}."


def _jumps(data: SweepData, model: str, operator: str) -> str:
    table = data.tables.get("jumps", pd.DataFrame())
    if not {"model", "operator", "labels", "offset", "difference", "heuristic"} <= set(table.columns):
        return ""
    rows = table[(table["model"] == model) & (table["operator"] == operator) & (table["labels"] == labels(data))]
    means = rows[(rows["heuristic"] == ALL) & rows["difference"].notna()]
    birth = means[means["offset"] == 0]
    if birth.empty:
        return "No heuristic was born at a checkpoint where the jump could be measured." if len(rows) else ""
    row = birth.iloc[0]
    low, high = (number(row[name], 3) for name in ("low", "high"))
    rise = f"{number(abs(row['difference']), 3)} {'more' if row['difference'] >= 0 else 'less'} than"
    p = f", p = {p_value(row['p'])}" if pd.notna(row.get("p")) else ""
    text = (
        f"At the birth of {count(row.get('heuristics'))} heuristics, accuracy inside rose by {rise} on "
        f"matched prompts outside (95% from {low} to {high}{p})"
    )
    others = means[means["offset"] != 0]["difference"]
    if len(others):
        text += f"; at the checkpoints around it by {number(others.mean(), 3)} on average"
    return f"{text}."


def _before(data: SweepData, model: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of all checkpoints but the reference."""
    return rows if rows.empty else rows[rows["revision"] != data.model(model).reference]


def listed(names: Iterable[str]) -> str:
    """`steps 0, 64 and 128`, shortened in the middle where there are many."""
    held = [str(n) for n in names]
    if len(held) > 1:
        held = [held[0].replace("step ", "steps ", 1), *(n.removeprefix("step ") for n in held[1:])]
    if len(held) > 6:
        return f"{', '.join(held[:3])} ... {held[-1]} ({len(held)} checkpoints)"
    return held[0] if len(held) == 1 else f"{', '.join(held[:-1])} and {held[-1]}"
