"""The three questions of a sweep, judged by rules stated here, whatever comes out.

    early     is the reference's mechanism there early? The share of the reference's pairs (neuron, heuristic) that
              important neurons have at the half-way step: the first at which accuracy, on held-out prompts where
              these are known, has come half the way from the base rate to the reference's (from the base rate,
              because a constant answer to half of all divisions is no half of an ability). yes from EARLY; partly
              from PARTLY and above TIMES its chance; else no. Chance is the strict one: the same important neurons,
              with their sets of labels exchanged within the layer (`given_neurons`). The share at the last checkpoint
              before the reference is named as a ceiling
    carried   do the kept neurons carry accuracy at every step? With PER_LAYER neurons per layer zeroed, those whose
              holding labels the reference shares (arm kept) against as many random ones: it holds where p < LEVEL and
              the accuracy is at least GAP lower. Only steps with TESTABLE prompts or more can reach LEVEL; the others
              are named, not counted. yes at all, partly at some; at none no, or unknown where n is so small that a
              gap of GAP cannot reach LEVEL at any of them
    rival     does another mechanism come first? Looked at are the steps before the half-way step with a circuit, an
              accuracy of WORTH or more, TESTABLE shared prompts, kept and new neurons to ablate, and F(all) >= HALF:
              where all labelled neurons recover less, what answers is not labelled, and nothing is known of it. A sign
              is F(kept) / F(all) < HALF; or that the new neurons (labels that the reference does not share) cost at
              least GAP more than as many random ones, with p < LEVEL, and more than the kept ones do beyond theirs.
              yes at all steps, of two or more; partly at some; no at none; unknown where none can be looked at.
              One answer to CONSTANT of all prompts or more, with an accuracy above the base rate by MARGIN at most,
              is no mechanism: it is named, not counted

Shared prompts and significant labels; matched ones where the reference has fewer than PAIRS significant pairs.
Questions that the data cannot answer are `unknown`, with the reason. A rule is not a proof: a mechanism that is
neither labelled nor among important neurons is in none of the three, and a step that shows nothing shows no absence.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arithcirc.catalogue import SweepFolder

EARLY, PARTLY, TIMES = 0.5, 0.25, 3.0
LEVEL, GAP, PER_LAYER, TESTABLE = 0.01, 0.1, 25, 8
HALF, CONSTANT, MARGIN, WORTH = 0.5, 0.5, 0.02, 0.05
PAIRS, SETTLED = 20, 0.9
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
        reached = f"{kind} first passes {bar:.2f}, half the way from the base rate to {final:.2f}"
        first = revision == str(values.index[0])
        return revision, reached + (" (the first step measured: it may have been earlier)" if first else "")

    def before(self, revision: str) -> pd.DataFrame:
        """The steps before a revision."""
        return self.steps.iloc[: self.steps["revision"].tolist().index(revision)]


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
            columns = ["revision", "prompts", "labels", "what", "ablation", "per_layer", "arm", "heads", "neurons", "n"]
            return pd.DataFrame(columns=columns)
        return table[(table["model"] == model) & (table["operator"] == symbol) & (table["prompts"] == "shared")]

    steps = mine("steps")
    steps = steps[steps["status"] != "failed"] if len(steps) else steps
    if steps.empty:
        return "no task of it ended with numbers"
    if reference not in set(steps["revision"]):
        return f"the task of the reference, {checkpoint(reference)}, failed"
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


def checkpoint(revision: str) -> str:
    """`step 1,000` for the revision step1000; other names as they are."""
    found = re.fullmatch(r"step(\d+)", revision)
    return f"step {int(found[1]):,}" if found else revision


def share_of(value: float) -> str:
    """Per cent: no decimals from 10% on, but nothing short of all is 100%."""
    fine = value < 0.0995 or 0.995 <= value < 1
    text = f"{value:.1%}" if fine and value else f"{value:.0%}"
    return "0%" if text == "0.0%" else text


def _listed(revisions: Iterable[str]) -> str:
    names = [checkpoint(str(r)) for r in revisions]
    if len(names) > 1 and all(name.startswith("step ") for name in names):
        names = [names[0].replace("step", "steps", 1), *(name.removeprefix("step ") for name in names[1:])]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(n: "pd.Series[Any]") -> str:
    """`n = 50`, or `n = 14 to 50`."""
    low, high = int(n.min()), int(n.max())
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _unknown(reason: str, *more: str) -> dict[str, Any]:
    detail = "; ".join([f"Not known: {reason}", *more])
    return {"answer": "unknown", "statistic": _NAN, "chance": _NAN, "step": None, "detail": f"{detail}."}


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
    share, chance = _number(shares, revision, "share"), _number(shares, revision, "given_neurons")
    if math.isnan(share):
        return _unknown(f"there are no labels on shared prompts at {checkpoint(revision)}, where {reached}")
    tested = case.overlap[case.overlap["what"] == "pairs_tested"].set_index("revision")
    answer = "yes" if share >= EARLY else "partly" if share >= PARTLY and share > TIMES * chance else "no"
    prompts = _number(case.steps.set_index("revision"), revision, "n_prompts")
    n = "" if math.isnan(prompts) else f", n = {prompts:.0f}"
    detail = (
        f"At {checkpoint(revision)}, where {reached}, {share_of(share)} of the reference's "
        f"{_number(shares, revision, 'at_reference'):,.0f} pairs are there{n} ({share_of(chance)} where the same "
        f"neurons exchange their labels, {share_of(_number(shares, revision, 'expected'))} of random ones; "
        f"{share_of(_number(tested, revision, 'share'))} when neurons count that do not matter there yet); "
        f"{_half_of_them(case, shares['share'])}{_ceiling(case, shares['share'])}"
    )
    return _answer(case, answer, share, detail, chance=chance, revision=revision)


def _half_of_them(case: Case, shares: "pd.Series[Any]") -> str:
    """From which step before the reference on half of the pairs are there, at it and at every later one."""
    since = None
    for revision in reversed(case.before(case.reference)["revision"].tolist()):
        value = shares.get(revision, _NAN)
        if not pd.isna(value) and value < HALF:
            break
        since = since if pd.isna(value) else revision
    return f"half of them are from {checkpoint(since)} on" if since else "half of them never before the reference"


def _ceiling(case: Case, shares: "pd.Series[Any]") -> str:
    """The share at the last checkpoint before the reference: more is hardly to be expected of an earlier one."""
    known = [r for r in case.before(case.reference)["revision"] if not pd.isna(shares.get(r, _NAN))]
    if not known:
        return ""
    _, accuracy = case.curve
    at, final = float(accuracy[known[-1]]), float(accuracy[case.reference])
    text = f"; at {checkpoint(known[-1])}, the last before it, accuracy {at:.2f}, {share_of(float(shares[known[-1]]))}"
    still = at >= final - MARGIN and shares[known[-1]] < SETTLED
    return text + (": so labels still change when accuracy no longer does" if still else "")


def _gaps(case: Case, arm: str) -> pd.DataFrame:
    """By revision: prompts n, neurons zeroed, accuracy lost beyond the arm's random control, and p (on whichever row
    it stands)."""
    table = case.knockouts
    table = table[(table["ablation"] == "zero") & (table["per_layer"] == PER_LAYER)]
    ours = table[table["arm"] == arm].set_index("revision")
    control = table[table["arm"] == f"random_{arm}"].set_index("revision")
    if ours.empty or control.empty:
        return pd.DataFrame(columns=["n", "neurons", "gap", "p"])
    found = pd.DataFrame({"n": ours["n"], "neurons": ours["neurons"], "gap": control["accuracy"] - ours["accuracy"]})
    found["p"] = control["p"].combine_first(ours["p"])
    found = found[found["gap"].notna()]
    return found.loc[[r for r in case.steps["revision"] if r in found.index]]


def _carried(case: Case) -> dict[str, Any]:
    gaps = _gaps(case, "kept")
    tested, few = gaps[gaps["n"] >= TESTABLE], gaps.index[gaps["n"] < TESTABLE]
    if tested.empty:
        return _unknown("no step has an ablation of the kept neurons on enough shared prompts")
    holds = (tested["p"] < LEVEL) & (tested["gap"] >= GAP)
    failing = tested[~holds]
    blind = bool((TESTABLE / failing["n"] > GAP).all())
    answer = "yes" if holds.all() else "partly" if holds.any() else "unknown" if blind else "no"
    span = _span(tested.index)
    detail = (
        f"zeroing {PER_LAYER} kept neurons per layer costs significantly more than random ones at "
        f"{int(holds.sum())} of {len(tested)} steps that can show it ({span}, {_count(tested['n'])}, "
        f"mean gap {tested['gap'].mean():.2f})"
    )
    if case.reference in failing.index:
        at = failing.loc[case.reference]
        detail = f"not shown at the reference itself (gap {at['gap']:.2f}, n = {at['n']:.0f}); {detail}"
    others = [r for r in failing.index if r != case.reference]
    if others:
        named = (f"{checkpoint(r)} (gap {failing.loc[r, 'gap']:.2f}, n = {failing.loc[r, 'n']:.0f})" for r in others)
        detail += f"; not shown at {', '.join(named)}"
    if len(failing):
        n = failing["n"].astype("float64")
        detail += f"; with {_count(n)}, no gap below {_range(TESTABLE / n)} can reach p < {LEVEL:g}"
    detail += f"; fewer than {TESTABLE} prompts at {_listed(few)}" if len(few) else ""
    last = str(failing.index[-1]) if len(failing) else None
    return _answer(case, answer, float(holds.mean()), detail[0].upper() + detail[1:], revision=last)


def _span(revisions: "pd.Index[Any]") -> str:
    first, last = checkpoint(str(revisions[0])), checkpoint(str(revisions[-1]))
    return first if len(revisions) == 1 else f"{first} to {last.removeprefix('step ')}"


def _range(values: "pd.Series[Any]") -> str:
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"


def _rival(case: Case) -> dict[str, Any]:
    half = case.half_way()
    if isinstance(half, str):
        return _unknown(half)
    before = case.before(half[0])
    worth = before[before["accuracy"] >= WORTH]
    constant = _constant(worth)
    early = worth.loc[worth["status"] == "done", "revision"].astype(str).tolist()
    place = f"{checkpoint(half[0])}, where {half[1]}"
    if not early:
        return _unknown(f"no step with a circuit and an accuracy of {WORTH:g} or more lies before {place}", *constant)
    seen = _seen(case).reindex(early)
    few = seen["n"] < TESTABLE
    bare = ~few & seen[["all", "kept", "gap_kept", "gap_new"]].isna().any(axis=1)
    low = ~few & ~bare & (seen["all"] < HALF)
    looked = seen[~few & ~bare & ~low]
    notes = [
        f"at {checkpoint(r)} all labelled neurons recover only {seen.loc[r, 'all']:.2f} of F (n = "
        f"{seen.loc[r, 'n']:.0f}): most of what answers there is not labelled"
        for r in seen.index[low].astype(str)
    ]
    notes += [f"fewer than {TESTABLE} shared prompts at {_listed(seen.index[few])}"] if few.any() else []
    notes += [f"kept and new neurons were not both ablated at {_listed(seen.index[bare])}"] if bare.any() else []
    notes += constant
    if looked.empty:
        return _unknown(f"no step before {place}, can be looked at", *notes)
    signs = {str(r): said for r in looked.index if (said := _signs(looked.loc[r]))}
    answer = "yes" if len(signs) == len(looked) > 1 else "partly" if signs else "no"
    listed = [
        f"at {checkpoint(r)} (n = {_number(looked, r, 'n'):.0f}) {' and '.join(said)}" for r, said in signs.items()
    ]
    steps = "steps" if len(looked) > 1 else "step"
    detail = (
        f"{len(signs)} of {len(looked)} {steps} before {checkpoint(half[0])} that can show it ({_span(looked.index)}, "
        f"{_count(looked['n'])}) show{'s' if len(signs) == 1 else ''} a sign of "
        "another mechanism"
    )
    detail = "; ".join([detail + (f": {'; '.join(listed)}" if listed else ""), *notes])
    return _answer(case, answer, len(signs) / len(looked), detail, revision=list(signs)[-1] if signs else None)


def _constant(steps: pd.DataFrame) -> list[str]:
    """The steps at which one answer is given to most prompts, and is most of what is right."""
    rows = steps[(steps["given_share"] >= CONSTANT) & (steps["accuracy"] <= steps["base_rate"] + MARGIN)]
    return [
        f"at {checkpoint(str(r['revision']))} a constant answer ({r['given_most']:.0f} to "
        f"{share_of(r['given_share'])} of prompts), not a mechanism"
        for r in rows.to_dict("records")
    ]


def _seen(case: Case) -> pd.DataFrame:
    """By revision: F with all labelled neurons and the kept ones alone, every head in; the arms' gaps, p and numbers of
    neurons; `n`, the fewest prompts behind any of these."""
    table = case.kept[case.kept["heads"] == "all"]
    columns = ["all", "kept", "n"]
    f = pd.DataFrame(columns=columns)
    if len(table):
        f = table.pivot_table(index="revision", columns="neurons", values="faithfulness", aggfunc="mean", sort=False)
        mine = table[table["neurons"].isin(["all", "kept"])]
        f = f.assign(n=mine.groupby("revision")["n"].min()).reindex(columns=columns)
    arms = [_gaps(case, arm).add_suffix(f"_{arm}") for arm in ("kept", "new")]
    found = pd.concat([f, *arms], axis=1).astype("float64")
    return found.assign(n=found[["n", "n_kept", "n_new"]].min(axis=1))


def _signs(row: "pd.Series[Any]") -> list[str]:
    """What speaks for another mechanism at one step, in words."""
    said: list[str] = []
    if row["kept"] / row["all"] < HALF:
        said.append(f"the kept neurons recover {row['kept']:.2f} of the {row['all']:.2f} that all labelled ones do")
    if row["gap_new"] >= GAP and row["p_new"] < LEVEL and row["gap_new"] > row["gap_kept"]:
        said.append(
            f"the new neurons ({row['neurons_new']:.0f} zeroed) cost {row['gap_new']:.2f} more than random ones, the "
            f"kept ones ({row['neurons_kept']:.0f} zeroed) {row['gap_kept']:.2f}"
        )
    return said
