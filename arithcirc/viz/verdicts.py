"""What the labels, ablations and failures show, in sentences and rows per operator, made from their tables only.

`verdicts` reads the table `bag_of_heuristics`: one line per operator that says whether the predictions hold, with the
numbers. A prediction that does not hold is said not to hold; one without a statistic was not tested, which is neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.failures import MEASURES, rank_row
from arithcirc.viz.findings import Finding
from arithcirc.viz.frames import RunData, column, flags, has, neuron_count, numbers
from arithcirc.viz.knockouts import ARMS, comparable, pairs
from arithcirc.viz.theme import number, p_value, percent

PREDICTIONS = {
    "in_vs_out": "breaks inside more than outside",
    "beyond_random": "more so than random neurons",
    "targeted_vs_random": "by prompt: more than random neurons",
    "targeted_vs_not_applying": "by prompt: more than neurons that do not apply",
}
QUOTED = 25
"""The largest number of neurons per layer that the sentences quote."""


@dataclass(frozen=True)
class Prediction:
    """One prediction for one operator; `holds` None when it was not tested."""

    name: str
    statistic: str
    holds: bool | None
    detail: str

    @property
    def word(self) -> str:
        """Holds, does not hold, or not tested."""
        return "not tested" if self.holds is None else "holds" if self.holds else "does not hold"


@dataclass(frozen=True)
class Verdict:
    """All predictions for one operator."""

    operator: str
    predictions: list[Prediction]

    @property
    def title(self) -> str:
        """`+ addition`."""
        return theme.operator_title(self.operator)

    @property
    def holds(self) -> bool | None:
        """Every tested prediction holds; None when none was tested."""
        tested = [p.holds for p in self.predictions if p.holds is not None]
        return all(tested) if tested else None

    @property
    def word(self) -> str:
        """`holds`, `does not hold`, `holds in part (2 of 4)` or `not tested`."""
        tested = [p.holds for p in self.predictions if p.holds is not None]
        if not tested:
            return "not tested"
        count = f"{sum(tested)} of {len(tested)}"
        return f"holds ({count})" if all(tested) else f"holds in part ({count})" if any(tested) else "does not hold"


def by_kind(predictions: Sequence[Prediction]) -> str:
    """`holds`, `does not hold`, or in which of the two experiments it does: `holds in part: by prompt, not by ...`.

    `by prompt` zeroes neurons of the heuristics that each prompt satisfies, `by heuristic` those of one heuristic, in
    and out of it. Empty when nothing was tested.
    """
    tested: dict[str, list[bool]] = {"by prompt": [], "by heuristic": []}
    for prediction in predictions:
        if prediction.holds is not None:
            kind = "by prompt" if prediction.name.startswith("by prompt") else "by heuristic"
            tested[kind].append(prediction.holds)
    held = [holds for kind in tested.values() for holds in kind]
    if not held:
        return ""
    if all(held) or not any(held):
        return "holds" if all(held) else "does not hold"
    said = {
        kind: kind if all(each) else f"in part {kind}" if any(each) else f"not {kind}"
        for kind, each in tested.items() if each
    }  # fmt: skip
    return f"holds in part: {', '.join(sorted(said.values(), key=lambda text: text.startswith('not')))}"


def verdicts(data: RunData) -> list[Verdict]:
    """One per operator, in the order + - * /."""
    if not has(data.tables, "bag_of_heuristics", "operator", "prediction", "holds"):
        return []
    table = data.tables["bag_of_heuristics"]
    return [Verdict(o, _predictions(table[table["operator"] == o])) for o in theme.ordered(table["operator"])]


def _predictions(rows: pd.DataFrame) -> list[Prediction]:
    found = []
    for row in rows.to_dict("records"):
        name, detail, held = str(row["prediction"]), row.get("detail"), row["holds"]
        statistic = row.get("statistic")
        tested = pd.notna(held) and ("statistic" not in row or pd.notna(statistic))
        text = "" if detail is None or pd.isna(detail) else theme.prose(str(detail).removeprefix("not tested: "))
        label = PREDICTIONS.get(name, name.replace("_", " "))
        found.append(Prediction(label, number(statistic, 2), bool(held) if tested else None, text))
    return found


def label_findings(data: RunData) -> list[Finding]:
    """How many important neurons have a label, per operator."""
    if not has(data.tables, "label_summary", "operator", "important", "matched", "significant"):
        return []
    found = []
    table = data.tables["label_summary"]
    for operator in theme.ordered(table["operator"]):
        row = table[table["operator"] == operator].iloc[0]
        total = max(int(row["important"]), 1)
        text = (
            f"{row['matched']:,} of {row['important']:,} important neurons ({percent(row['matched'] / total)}) have a "
            f"label with score ≥ {data.threshold:g}, {row['significant']:,} ({percent(row['significant'] / total)}) "
            f"one that also has q < {data.level:g}"
        )
        if "structured" in row and pd.notna(row["structured"]):
            left = f"{row['structured']:,} ({percent(row['structured'] / total)})"
            text += f"; {left} without single values and sets, whose null is weak"
        if "heuristics" in row and pd.notna(row["heuristics"]):
            text += f"; {int(row['heuristics']):,} heuristics were tried on each"
        found.append((theme.operator_title(operator), f"{text}."))
    return found


def family_rows(data: RunData) -> list[dict[str, Any]]:
    """Per family, over all operators: pairs in the table, matched, significant, neurons, largest base rate matched."""
    if not has(data.tables, "heuristics", "operator", "layer", "neuron", "family", "matched", "significant"):
        return []
    table = data.tables["heuristics"]
    rows = []
    for family in theme.family_order(table["family"].unique()):
        part = table[table["family"] == family]
        matched, significant = part[flags(part, "matched")], part[flags(part, "significant")]
        who = [neuron_count(significant[significant["operator"] == o]) for o in significant["operator"].unique()]
        base = numbers(matched, ["base_rate"])[:, 0]
        rows.append(
            {
                "family": theme.family_name(family),
                "pairs": len(part),
                "matched": len(matched),
                "significant": len(significant),
                "neurons": sum(who),
                "base": float(np.nanmedian(base)) if np.isfinite(base).any() else None,
            }
        )
    return rows


def knockout_findings(data: RunData) -> list[Finding]:
    """Mean accuracy in and out of the heuristics, and accuracy by prompt, under zero ablation."""
    found: dict[str, list[str]] = {}
    if has(data.tables, "knockouts_by_heuristic", "operator", "heuristic", "ablation", "arm", "where", "accuracy"):
        table = data.tables["knockouts_by_heuristic"]
        if (table["ablation"] == "zero").any():
            both = pairs(table, "zero")
            for operator in both["operator"].unique():
                found.setdefault(str(operator), []).append(_by_heuristic(both[both["operator"] == operator]))
    if has(data.tables, "knockouts_by_prompt", "operator", "ablation", "arm", "per_layer", "accuracy"):
        table = data.tables["knockouts_by_prompt"]
        zero = table[table["ablation"] == "zero"]
        for operator in zero["operator"].unique():
            found.setdefault(str(operator), []).append(_by_prompt(zero[zero["operator"] == operator]))
    return [(theme.operator_title(o), " ".join(t for t in found[o] if t)) for o in theme.ordered(found)]


def _by_heuristic(both: pd.DataFrame) -> str:
    ours, theirs = both[both["arm"] == "targeted"], both[both["arm"] == "random"]
    if ours.empty:
        return ""
    text = (
        f"Zeroing a heuristic’s neurons leaves an accuracy of {number(ours['accuracy_in'].mean())} inside it and "
        f"{number(ours['accuracy_out'].mean())} outside (means over {len(ours)} heuristics, "
        f"{ours['n_in'].sum():,.0f} and {ours['n_out'].sum():,.0f} prompts)"
    )
    if not theirs.empty:
        text += f"; as many random important neurons leave {number(theirs['accuracy_in'].mean())} and "
        text += number(theirs["accuracy_out"].mean())
    p = ours["p_in"].dropna()
    if len(p):
        merged = ours.merge(theirs, on=["operator", "heuristic"], suffixes=("", "_random"))
        worse = merged[(merged["p_in"] < 0.01) & (merged["accuracy_in"] < merged["accuracy_in_random"])]
        text += f". Inside, {len(worse)} of {len(p)} heuristics fall below random with p < .01 (McNemar, not corrected)"
    return f"{text}."


def _by_prompt(rows: pd.DataFrame) -> str:
    """Every arm at the largest size up to `QUOTED` at which random neurons are as many as the targeted ones."""
    rows = comparable(rows)
    sizes = {arm: set(rows.loc[rows["arm"] == arm, "per_layer"]) for arm in ARMS}
    if not sizes["targeted"]:
        return ""
    both = sizes["targeted"] & sizes["random"]
    size = max([k for k in both or sizes["targeted"] if k <= QUOTED] or [min(both or sizes["targeted"])])
    at = rows[rows["per_layer"] == size]
    said = []
    for arm in ARMS:
        part = at[at["arm"] == arm]
        if not part.empty:
            accuracy, low, high, neurons = numbers(part, ["accuracy", "low", "high", "neurons"])[0]
            many = f", {neurons:.0f} neurons" if np.isfinite(neurons) else ""
            said.append(f"{ARMS[arm][0]} {number(accuracy, 2)} (95% {number(low, 2)} to {number(high, 2)}{many})")
    n = numbers(at, ["n"])[:, 0]
    count = f", n = {np.nanmin(n):.0f}" if np.isfinite(n).any() else ""
    return f"By prompt, at most {size} neurons per layer zeroed{count}: {'; '.join(said)}."


def failure_findings(data: RunData) -> list[Finding]:
    """Medians of correct and incorrect prompts with their rank test."""
    tests = data.tables.get("failure_tests")
    if tests is None or not has(data.tables, "failure_tests", "operator", "measure", "n_correct", "n_incorrect"):
        return []
    found = []
    for operator in theme.ordered(tests["operator"]):
        said, counts = [], ""
        for measure in MEASURES:
            row = rank_row(tests, operator, measure)
            if row is None:
                continue
            counts = f"{row['n_correct']:.0f} correct and {row['n_incorrect']:.0f} incorrect prompts"
            name = "associated neurons" if measure == "neurons" else "their contribution"
            if pd.isna(row.get("p")):
                reason = row.get("note")
                said.append(f"{name}: {reason if isinstance(reason, str) and reason else 'not tested'}")
                continue
            medians = f"{number(row.get('median_correct'), 1)} against {number(row.get('median_incorrect'), 1)}"
            said.append(f"{name}: median {medians}, rank test p = {p_value(row['p'])}")
        if said:
            same = " ".join(said[:1]) if len({s.split(": ", 1)[1] for s in said}) == 1 else "; ".join(said)
            found.append((theme.operator_title(operator), f"{counts}. {same[0].upper()}{same[1:]}."))
    return found


def unlabelled_lists(data: RunData, shown: int = 30) -> list[dict[str, Any]]:
    """Per operator: the first `shown` neurons without a significant label, and how many more there are."""
    if not has(data.tables, "unlabelled", "operator", "layer", "neuron"):
        return []
    table = data.tables["unlabelled"]
    lists = []
    for operator in theme.ordered(table["operator"]):
        part = table[table["operator"] == operator]
        best, score, base, q = (column(part, c, default=None) for c in ("best", "score", "base_rate", "q"))
        rows = [
            {"neuron": f"L{layer} N{n}", "best": b, "score": s, "base_rate": p_value(r), "q": p_value(v)}
            for layer, n, b, s, r, v in zip(part["layer"], part["neuron"], best, score, base, q, strict=True)
        ]
        lists.append(
            {"operator": operator, "rows": rows[:shown], "total": len(rows), "more": max(0, len(rows) - shown)}
        )
    return lists


def excluded_lists(data: RunData, shown: int = 60) -> list[dict[str, Any]]:
    """Per operator: heuristics left out because they only restate that the answer is 0."""
    if not has(data.tables, "excluded_heuristics", "operator", "heuristic"):
        return []
    table = data.tables["excluded_heuristics"]
    lists = []
    for operator in theme.ordered(table["operator"]):
        part = table[table["operator"] == operator]
        size, share, why = (column(part, c, default=None) for c in ("size", "zero_share", "reason"))
        rows = [
            {"heuristic": h, "size": s, "share": z, "reason": "" if w is None or pd.isna(w) else w}
            for h, s, z, w in zip(part["heuristic"], size, share, why, strict=True)
        ][:shown]
        lists.append({"operator": operator, "rows": rows, "total": len(part), "more": max(0, len(part) - shown)})
    return lists
