"""The three questions of a sweep, judged by rules stated here, whatever comes out.

    early     is the reference's mechanism there early? The share of the reference's pairs (neuron, heuristic) that
              important neurons have at the half-way step: the first at which accuracy, on held-out prompts where
              these are known, has come half the way from the base rate to the reference's (from the base rate,
              because a constant answer to half of all divisions is no half of an ability). yes from EARLY; partly
              from PARTLY and above TIMES its chance; else no
    carried   do the kept neurons carry accuracy at every step? With PER_LAYER neurons per layer zeroed, those whose
              holding labels the reference shares (arm kept) against as many random ones: it holds where p < LEVEL and
              the accuracy is at least GAP lower. yes at all steps, no at none. A step with fewer than TESTABLE
              prompts cannot reach LEVEL and is named, not counted
    rival     does another mechanism come first? At steps with a circuit before the half-way step: the kept neurons
              restore less than HALF of what all labelled ones do, F(kept) / F(all) < HALF with F(all) >= HALF; or the
              new neurons (labels that the reference does not share) cost more than the kept ones, and at least GAP
              more than random ones; or one answer is given to CONSTANT of all prompts or more, and accuracy is above
              the base rate by MARGIN at most. yes at all such steps, no at none. Steps whose accuracy is below
              WORTH have nothing that a mechanism could explain and do not count

Shared prompts and significant labels; matched ones where the reference has fewer than PAIRS significant pairs.
Questions that the data cannot answer are `unknown`, with the reason. A rule is not a proof: a mechanism that is
neither labelled nor among important neurons is in none of the three.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arithcirc.catalogue import SweepFolder

EARLY, PARTLY, TIMES = 0.5, 0.25, 3.0
LEVEL, GAP, PER_LAYER, TESTABLE = 0.01, 0.1, 25, 8
HALF, CONSTANT, MARGIN, WORTH = 0.5, 0.5, 0.02, 0.05
PAIRS = 20
QUESTIONS = ("early", "carried", "rival")
COLUMNS = ("model", "operator", "question", "answer", "statistic", "chance", "step", "detail")
_NAN = float("nan")


@dataclass(frozen=True)
class Case:
    """One model and operator: the tables' rows of shared prompts and one kind of label, steps in order."""

    reference: str
    labels: str
    steps: pd.DataFrame
    overlap: pd.DataFrame
    kept: pd.DataFrame
    knockouts: pd.DataFrame

    def of(self, table: pd.DataFrame, revision: str) -> pd.DataFrame:
        """The rows of one revision."""
        return table[table["revision"] == revision]

    @property
    def curve(self) -> tuple[str, pd.Series]:
        """Which accuracy is used, and its values by revision."""
        known = self.steps["accuracy_held_out"].notna()
        name = "accuracy_held_out" if known[self.steps["revision"] == self.reference].any() else "accuracy"
        values = self.steps.set_index("revision")[name]
        return name, values.fillna(self.steps.set_index("revision")["accuracy"])

    def half_way(self) -> tuple[str, str] | str:
        """The half-way revision and what was reached there; as one string, why there is none."""
        if len(self.steps) < 2:
            return "only one revision was measured"
        name, values = self.curve
        final = values.get(self.reference, _NAN)
        base = self.steps["base_rate"].dropna()
        if pd.isna(final) or base.empty:
            return "the reference's accuracy is not known"
        bar = base.iloc[-1] + (final - base.iloc[-1]) / 2
        if final <= base.iloc[-1]:
            return f"the reference's accuracy, {final:.3f}, is not above the base rate, {base.iloc[-1]:.3f}"
        revision = str(values.index[(values >= bar).argmax()])
        kind = "held-out accuracy" if name == "accuracy_held_out" else "accuracy"
        return revision, f"{kind} first passes {bar:.3f}, half the way from the base rate to {final:.3f}"


def verdict(folder: SweepFolder, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Three rows per model and operator; `tables` are `steps`, `overlap` and, where made, those of the two
    ablations."""
    rows: list[dict[str, Any]] = []
    for model in folder.manifest["models"]:
        for symbol in folder.manifest["operators"]:
            case = _case(model["name"], symbol, model["reference"], tables)
            answers = (
                (_early(case), _carried(case), _rival(case)) if not isinstance(case, str) else (_unknown(case),) * 3
            )
            keys = {"model": model["name"], "operator": symbol}
            rows += [keys | {"question": q} | a for q, a in zip(QUESTIONS, answers, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"statistic": "float64", "chance": "float64", "step": "Int64", "detail": "str"}
    )


def _case(model: str, symbol: str, reference: str, tables: Mapping[str, pd.DataFrame]) -> Case | str:
    """The rows about one model and operator; as a string, why there are none."""

    def mine(name: str) -> pd.DataFrame:
        table = tables.get(name)
        if table is None or table.empty:
            columns = ["revision", "prompts", "labels", "what", "ablation", "per_layer", "arm", "heads", "neurons"]
            return pd.DataFrame(columns=columns)
        return table[(table["model"] == model) & (table["operator"] == symbol) & (table["prompts"] == "shared")]

    steps = mine("steps")
    steps = steps[steps["status"] != "failed"] if len(steps) else steps
    if steps.empty:
        return "no task of it ended with numbers"
    if reference not in set(steps["revision"]):
        return f"the task of the reference, {reference}, failed"
    overlap = mine("overlap")
    final = overlap[(overlap["revision"] == reference) & (overlap["what"] == "pairs")]
    significant = final[final["labels"] == "significant"]
    labels = "significant" if len(significant) and significant["at_reference"].iloc[0] >= PAIRS else "matched"
    kept, knockouts = mine("kept_faithfulness"), mine("knockouts_by_prompt")
    return Case(
        reference, labels, steps, overlap[overlap["labels"] == labels], kept[kept["labels"] == labels],
        knockouts[knockouts["labels"] == labels],
    )  # fmt: skip


def _number(table: pd.DataFrame, row: str, column: str) -> float:
    """One number of a table with one row per revision; NaN where it is not there."""
    return float(table[column].get(row, _NAN)) if column in table else _NAN


def _unknown(reason: str) -> dict[str, Any]:
    return {"answer": "unknown", "statistic": _NAN, "chance": _NAN, "step": None, "detail": f"Not known: {reason}."}


def _answer(
    case: Case, answer: str, statistic: float, detail: str, *, chance: float = _NAN, revision: str | None = None
) -> dict[str, Any]:
    """One judgement; where matched labels had to do, the sentence ends with it."""
    if case.labels == "matched":
        detail += f" (matched labels: the reference has fewer than {PAIRS} significant pairs)"
    step = None if revision is None else case.of(case.steps, revision)["step"].iloc[0]
    return {"answer": answer, "statistic": statistic, "chance": chance, "step": step, "detail": detail + "."}


def _early(case: Case) -> dict[str, Any]:
    half = case.half_way()
    if isinstance(half, str):
        return _unknown(half)
    revision, reached = half
    shares = case.overlap[case.overlap["what"] == "pairs"].set_index("revision")
    share, chance = _number(shares, revision, "share"), _number(shares, revision, "expected")
    if math.isnan(share):
        return _unknown(f"there are no labels on shared prompts at {revision}, where {reached}")
    tested = case.overlap[case.overlap["what"] == "pairs_tested"].set_index("revision")
    answer = "yes" if share >= EARLY else "partly" if share >= PARTLY and share > TIMES * chance else "no"
    there = shares.index[shares["share"] >= 0.5]
    detail = (
        f"At {revision}, where {reached}, {share:.0%} of the reference's "
        f"{_number(shares, revision, 'at_reference'):.0f} pairs are there ({chance:.1%} by chance; "
        f"{_number(tested, revision, 'share'):.0%} when neurons count that do not matter there yet); "
        f"half of them are from {there[0] if len(there) else 'no step'} on"
    )
    return _answer(case, answer, share, detail, chance=chance, revision=revision)


def _gaps(case: Case, arm: str) -> pd.DataFrame:
    """By revision: prompts n, accuracy lost beyond the arm's random control, and p (on whichever row it stands)."""
    table = case.knockouts
    table = table[(table["ablation"] == "zero") & (table["per_layer"] == PER_LAYER)]
    ours = table[table["arm"] == arm].set_index("revision")
    control = table[table["arm"] == f"random_{arm}"].set_index("revision")
    if ours.empty or control.empty:
        return pd.DataFrame(columns=["n", "gap", "p"])
    found = pd.DataFrame({"n": ours["n"], "gap": control["accuracy"] - ours["accuracy"]})
    found["p"] = control["p"].combine_first(ours["p"])
    order = [r for r in case.steps["revision"] if r in found.index]
    return found.loc[order]


def _carried(case: Case) -> dict[str, Any]:
    gaps = _gaps(case, "kept")
    tested = gaps[gaps["n"] >= TESTABLE]
    if tested.empty:
        return _unknown("no step has an ablation of the kept neurons on enough shared prompts")
    holds = (tested["p"] < LEVEL) & (tested["gap"] >= GAP)
    failing = tested.index[~holds]
    answer = "yes" if holds.all() else "partly" if holds.any() else "no"
    few = gaps.index[gaps["n"] < TESTABLE]
    detail = (
        f"Zeroing {PER_LAYER} kept neurons per layer costs significantly more than random ones at "
        f"{int(holds.sum())} of {len(tested)} steps (mean gap {tested['gap'].mean():.2f})"
    )
    if len(failing):
        n = int(tested.loc[failing, "n"].max())
        detail += f"; not at {', '.join(failing)} (with {n} prompts, gaps below {TESTABLE / n:.2f} cannot)"
    detail += f"; fewer than {TESTABLE} prompts at {', '.join(few)}" if len(few) else ""
    return _answer(case, answer, float(holds.mean()), detail, revision=failing[-1] if len(failing) else None)


def _rival(case: Case) -> dict[str, Any]:
    half = case.half_way()
    if isinstance(half, str):
        return _unknown(half)
    revisions = case.steps["revision"].tolist()
    before = case.steps.iloc[: revisions.index(half[0])]
    early = before[(before["status"] == "done") & (before["accuracy"] >= WORTH)]
    if early.empty:
        return _unknown(f"no step with an accuracy of {WORTH:g} or more lies before {half[0]}, where {half[1]}")
    kept, new, f = _gaps(case, "kept"), _gaps(case, "new"), _recovered(case)
    signs: dict[str, list[str]] = {}
    looked = 0
    for row in early.to_dict("records"):
        revision = str(row["revision"])
        looked += revision in kept.index or revision in f.index or not pd.isna(row["given_share"])
        said = _signs(row, kept, new, f)
        if said:
            signs[revision] = said
    if not looked:
        return _unknown("no ablation was made at the steps before")
    answer = "yes" if len(signs) == looked else "partly" if signs else "no"
    listed = "; ".join(f"at {revision} {' and '.join(said)}" for revision, said in signs.items())
    detail = (
        f"Steps with an accuracy of {WORTH:g} or more before {half[0]} that show a sign of another mechanism: "
        f"{len(signs)} of {looked}"
    )
    detail += f" ({listed})" if listed else ""
    return _answer(case, answer, len(signs) / looked, detail, revision=list(signs)[-1] if signs else None)


def _recovered(case: Case) -> pd.DataFrame:
    """By revision: faithfulness with all labelled neurons and with the kept ones alone, every head in."""
    table = case.kept[case.kept["heads"] == "all"]
    if table.empty:
        return pd.DataFrame(columns=["all", "kept"])
    wide = table.pivot_table(index="revision", columns="neurons", values="faithfulness", aggfunc="mean", sort=False)
    return wide.reindex(columns=["all", "kept"])


def _signs(row: Mapping[Any, Any], kept: pd.DataFrame, new: pd.DataFrame, f: pd.DataFrame) -> list[str]:
    """What speaks for another mechanism at one step, in words."""
    revision = str(row["revision"])
    said: list[str] = []
    if revision in f.index:
        everything, ours = _number(f, revision, "all"), _number(f, revision, "kept")
        if everything >= HALF and ours / everything < HALF:
            said.append(f"the kept neurons recover {ours:.2f} of the {everything:.2f} that all labelled ones do")
    if revision in kept.index and revision in new.index:
        ours, theirs = _number(kept, revision, "gap"), _number(new, revision, "gap")
        if theirs > ours and theirs >= GAP:
            said.append(f"the new neurons cost {theirs:.2f} and the kept ones {ours:.2f}")
    if row["given_share"] >= CONSTANT and row["accuracy"] <= row["base_rate"] + MARGIN:
        said.append(f"the answer is {row['given_most']} to {row['given_share']:.0%} of all prompts")
    return said
