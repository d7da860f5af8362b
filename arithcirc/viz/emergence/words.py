"""What a sweep shows, in sentences per model and operator, made from its tables only.

All numbers are on the choices that the page shows first: prompts shared with the reference, and the label kind of
`SweepData.label_order`. What a table does not hold is left unsaid. Chance is named beside every share, and a comparison
that was not tested is not called one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import StepAxis
from arithcirc.viz.emergence.births import fates, places
from arithcirc.viz.emergence.data import LABELS, SweepData
from arithcirc.viz.emergence.jumps import ALL
from arithcirc.viz.findings import Finding
from arithcirc.viz.frames import column, has, numbers
from arithcirc.viz.theme import count, number, p_value

PAPER_KEPT = 0.79
"""What the paper's kept neurons recover of all, on average over Pythia-6.9B's checkpoints."""
ADDED, TESTABLE = 0.1, 8
"""What labelled neurons must add to F, and the prompts behind it, for a checkpoint to count; the latter for ablations
too, as in the table `verdict`."""
LEVEL, GAP = 0.01, 0.1
"""p-values below this count, with a gap from this on, as in the table `verdict`."""
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
    rows = rows.assign(known=rows[value].fillna(rows["accuracy"]))
    rows = rows[rows["known"].notna()]
    at = rows[rows["revision"] == data.model(model).reference]
    last = (at if len(at) else rows).iloc[-1]
    what = "held-out prompts" if held else "prompts"
    text = f"{share(last['known'])} of {what} are answered correctly at {axis.label(last['place'])}"
    base = float(numbers(rows.tail(1), ["base_rate"])[0, 0])
    if np.isfinite(base):
        text += f" (the most frequent answer would score {share(base)})"
        half = rows[rows["known"] >= base + (last["known"] - base) / 2]
        if len(half) and last["known"] > base:
            text += f"; half of the way there from that answer is first reached at {axis.label(half.iloc[0]['place'])}"
    if np.isfinite(base):
        poor = rows[(rows["known"] <= column(rows, "base_rate")) & (rows["known"] > 0)]
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
    strict = "given_neurons" in rows.columns and rows["given_neurons"].notna().any()
    parts = []
    for row in chosen:
        chance = [share(row["expected"]), *([share(row["given_neurons"])] if strict else [])]
        parts.append(f"{share(row['share'])} at {axis.label(row['place'])} (chance {', '.join(chance)})")
    total = int(rows.iloc[-1]["at_reference"])
    top = rows["share"].max()
    most = f" At most {share(top)} are there before the reference." if top > rows.iloc[-1]["share"] else ""
    means = " Chance: of random pairs; of the same neurons with their labels exchanged." if strict else ""
    return (
        f"Of the reference’s {total:,} pairs with {LABELS[labels(data)]} labels, on shared prompts: {'; '.join(parts)}."
        f"{most}{means}"
    )


def _kept(data: SweepData, model: str, operator: str) -> str:
    where = {"model": model, "operator": operator, "prompts": "shared", "labels": labels(data), "heads": "all"}
    rows = _before(data, model, data.rows("kept_faithfulness", **where))
    if rows.empty or not {"all", "kept"} <= set(rows["neurons"]):
        return ""
    table = rows.pivot_table(values="faithfulness", index="place", columns="neurons", aggfunc="mean")
    both = rows[rows["neurons"].isin(["all", "kept"])].groupby("place")
    n = both["n"].min().reindex(table.index)
    table = table[table["all"].notna() & table["kept"].notna()]
    few = table.index[n[table.index] < TESTABLE]
    table = table.drop(few)
    axis = data.model(model).axis
    left = [f"fewer than {TESTABLE} shared prompts at {_at(axis, few)}"] if len(few) else []
    if table.empty:
        return f"No checkpoint before the reference has {TESTABLE} shared prompts or more: (b) tells nothing."
    added = table["all"] - table["none"] if "none" in table else table["all"]
    clear = table[added >= ADDED]
    if len(unclear := table.index[added < ADDED]):
        left.append(f"(b) tells nothing at {_at(axis, unclear)}, where all labelled neurons add less than {ADDED:g} to "
                    "F with none")  # fmt: skip
    if clear.empty:
        return f"On shared prompts, {'; '.join(left)}."
    span = f"{_span(axis, clear.index)}, n = {_range(n[clear.index])}"
    sems = rows[rows["neurons"] == "kept"].groupby("place")["faithfulness_sem"].mean().reindex(clear.index)
    if "random_kept" in clear and len(at := clear.index[clear["kept"] - clear["random_kept"] <= 2 * sems]):
        left.append(f"at {_at(axis, at)} the kept ones are no more than two standard errors above as many random "
                    "neurons, so (b) tells nothing of labels there")  # fmt: skip
    said = [_beyond_none(clear, span), _plain(clear, span), *(f"{t[0].upper()}{t[1:]}." for t in left)]
    return " ".join(text for text in said if text)


def _beyond_none(table: pd.DataFrame, span: str) -> str:
    """What kept and new neurons add to F, as a share of what all labelled ones add: F of none is high already."""
    if "none" not in table:
        return ""
    added = table["all"] - table["none"]
    parts = []
    for name in ("kept", "new"):
        if name in table and table[name].notna().any():
            given = ((table[name] - table["none"]) / added).dropna()
            ends = f" ({share(given.iloc[0])} at first, {share(given.iloc[-1])} at last)" if len(given) > 1 else ""
            parts.append(f"the {name} ones give {share(given.mean())}{ends}")
    said = " and ".join(parts)
    return f"On shared prompts, of the F that all labelled neurons add to that with none of them, {said}: {span}."


def _plain(table: pd.DataFrame, span: str) -> str:
    """F(kept) / F(all), as the paper has it, and the same of the others."""
    text = f"As a plain ratio, F(kept) / F(all) is {share((table['kept'] / table['all']).mean())}"
    if "none" not in table:
        text = f"On shared prompts, F(kept) / F(all) is {share((table['kept'] / table['all']).mean())} ({span})"
    others = {
        "new": "with the new ones",
        "none": "with none of them",
        "random_kept": "with as many random ones as kept",
        "random_new": "as new",
    }
    parts = [
        f"{word} {share((table[name] / table['all']).mean())}"
        for name, word in others.items()
        if name in table and table[name].notna().any()
    ]
    text += f"; {', '.join(parts)}" if parts else ""
    paper = f"The paper has {share(PAPER_KEPT)}, for kept ones of Pythia-6.9B; its floor, F with none, is not given"
    return f"{text}. {paper}."


def _at(axis: StepAxis, at: Iterable[int]) -> str:
    return listed(axis.label(p) for p in at)


def _span(axis: StepAxis, at: Sequence[int] | pd.Index) -> str:
    """`step 256 to 2,000`."""
    first, last = axis.label(at[0]), axis.label(at[-1])
    return first if len(at) == 1 else f"{first} to {last.removeprefix('step ')}"


def _range(values: "pd.Series[Any]") -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _knockouts(data: SweepData, model: str, operator: str) -> str:
    where = {"model": model, "operator": operator, "prompts": "shared", "labels": labels(data), "ablation": "zero"}
    rows = data.rows("knockouts_by_prompt", **where, per_layer=PER_LAYER)
    if rows.empty:
        return ""
    parts, behind = [], pd.Series(dtype="float64")
    for arm, word in (("targeted", "best labelled neurons"), ("kept", "kept ones"), ("new", "new ones")):
        own = rows[rows["arm"] == arm].set_index("place")
        control = rows[rows["arm"] == ("random" if arm == "targeted" else f"random_{arm}")].set_index("place")
        both = own.join(control[["accuracy", "p"]].add_suffix("_random"), how="inner")
        both = both[both["accuracy"].notna() & both["accuracy_random"].notna()]
        both = both[column(both, "n", np.inf) >= TESTABLE]
        if both.empty:
            continue
        gap = both["accuracy_random"] - both["accuracy"]
        p = column(both, "p_random").fillna(column(both, "p"))
        holds = int(((gap >= GAP) & (p < LEVEL)).sum())
        more = "more" if gap.mean() >= 0 else "less"
        parts.append(f"{word} cost {number(abs(gap.mean()), 2)} {more} accuracy than random ones on average, "
                     f"by {GAP:g} or more with {_SURE} at {holds} of {len(both)} checkpoints")  # fmt: skip
        behind = pd.concat([behind, both["n"]]) if "n" in both else behind
    prompts = f" (n = {_range(behind)}; checkpoints with fewer than {TESTABLE} left out)" if len(behind) else ""
    said = f"On shared prompts{prompts}, up to {PER_LAYER} neurons per layer, zero ablation"
    return f"{said}: {'; '.join(parts)}." if parts else ""


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
    return f"{text}.{_when_born(data, model, operator)}"


def _when_born(data: SweepData, model: str, operator: str) -> str:
    """The median birth of the pairs that stay, how many are of the last checkpoint only, and how many of those that
    die were seen once."""
    table = data.tables["births"]
    rows = table[(table["model"] == model) & (table["operator"] == operator) & (table["labels"] == labels(data))]
    axis = data.model(model).axis
    stays, dead = rows[rows["fate"] == "stays"], rows[rows["fate"] == "dies"]
    born = np.sort(places(stays["birth"], axis))
    text = ""
    if len(born) and born[0] >= 0:
        late = float((places(stays["first"], axis) == len(axis) - 1).mean())
        text = f" Of those that stay, the median birth is {axis.label(int(born[(len(born) - 1) // 2]))}"
        text += f", and {share(late)} were seen at the last checkpoint only."
    if len(dead) and "present" in dead:
        once = int((dead["present"] == 1).sum())
        text += f" Of those that die, {once:,} ({share(once / len(dead))}) were seen at one checkpoint only."
    return text


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
    others = []
    for around in means[means["offset"] != 0].sort_values("offset").to_dict("records"):
        low, high = (number(around[name], 3) for name in ("low", "high"))
        n = abs(int(around["offset"]))
        where = f"{n} checkpoint{'s' if n > 1 else ''} {'before' if around['offset'] < 0 else 'after'}"
        others.append(f"{where} {number(around['difference'], 3)} ({low} to {high})")
    return f"{text}{'; the same difference, with its 95%, ' if others else ''}{', '.join(others)}."


def _before(data: SweepData, model: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of all checkpoints but the reference."""
    return rows if rows.empty else rows[rows["revision"] != data.model(model).reference]


def share(value: Any) -> str:
    """Per cent: no decimals from 10% on, but nothing short of all is 100%."""
    if value is None or pd.isna(value):
        return "–"
    x = abs(float(value))
    digits = 1 if 0.0005 <= x < 0.0995 or 0.995 <= x < 1 else 0
    return f"{number(100 * float(value), digits)}\N{NO-BREAK SPACE}%"


def listed(names: Iterable[str]) -> str:
    """`steps 0, 64 and 128`, shortened in the middle where there are many."""
    held = [str(n) for n in names]
    if len(held) > 1:
        held = [held[0].replace("step ", "steps ", 1), *(n.removeprefix("step ") for n in held[1:])]
    if len(held) > 6:
        return f"{', '.join(held[:3])} ... {held[-1]} ({len(held)} checkpoints)"
    return held[0] if len(held) == 1 else f"{', '.join(held[:-1])} and {held[-1]}"
