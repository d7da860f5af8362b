"""Does the bag-of-heuristics prediction hold? Stated before the ablations, judged after them, whatever comes out.

If neurons compute by the heuristics they are labelled with, then under zero ablation

    in_vs_out        accuracy falls more inside H than outside it, when the neurons of H are knocked out
                     (paired over heuristics, Wilcoxon signed rank, one-sided)
    beyond_random    and this gap is larger than the one random important neurons of the same layers leave
                     (the same test; it guards against prompts in H that are merely easier to break)
    targeted_vs_random          by prompt, the neurons of the heuristics that hold of it matter more than random ones
    targeted_vs_not_applying    and more than as many labelled neurons whose labels do not hold of it
                     (exact McNemar, two-sided, over prompts, at PER_LAYER neurons per layer, or at the largest size
                     below that at which the control replaces as many neurons, at least one on average)

A prediction holds when the difference has its sign and p < LEVEL. Only heuristics with at least FEWEST prompts on both
sides count, and for beyond_random only those with as many random neurons as their own. Heuristics share neurons and
prompts, so the p of the first two is too small; their mean differences are what to read. Failing to hold does not show
that the labels are wrong: neurons may be redundant at these sizes.
"""

import pandas as pd
from scipy.stats import wilcoxon

from arithcirc.heuristics.by_prompt import RIVALS, SAME_SIZE

LEVEL = 0.01
FEWEST = 10
FEWEST_NEURONS = 1
PER_LAYER = 25
COLUMNS = ("prediction", "statistic", "p", "holds", "detail")


def bag_of_heuristics(by_heuristic: pd.DataFrame, by_prompt: pd.DataFrame) -> pd.DataFrame:
    """One row per prediction for one operator; `statistic` is the difference in accuracy that the prediction is about.

    Positive is as predicted. Takes the tables of `by_heuristic` and `by_prompt`.
    """
    rows = [
        _in_vs_out(by_heuristic),
        _beyond_random(by_heuristic),
        _targeted_vs(by_prompt, "random"),
        _targeted_vs(by_prompt, "not_applying"),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(prediction: str, statistic: float, p: float, detail: str) -> dict[str, object]:
    return {
        "prediction": prediction,
        "statistic": statistic,
        "p": p,
        "holds": bool(statistic > 0 and p < LEVEL),
        "detail": detail,
    }


def _accuracies(by_heuristic: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Accuracy in and out of each heuristic under zero ablation, and neurons, where both sides have enough prompts."""
    mine = by_heuristic[(by_heuristic["ablation"] == "zero") & (by_heuristic["arm"] == arm)]
    sides = {where: mine[mine["where"] == where].set_index("heuristic") for where in ("in", "out")}
    enough = (sides["in"]["n"] >= FEWEST) & (sides["out"]["n"] >= FEWEST)
    accuracies = {where: side["accuracy"][enough] for where, side in sides.items()}
    return pd.DataFrame({**accuracies, "neurons": sides["in"]["neurons"][enough]})


def _paired(differences: pd.Series) -> float:
    """One-sided p that the differences are not above 0."""
    if not (differences != 0).any():
        return 1.0
    return float(wilcoxon(differences, alternative="greater", method="approx").pvalue)


def _in_vs_out(by_heuristic: pd.DataFrame) -> dict[str, object]:
    left = _accuracies(by_heuristic, "targeted")
    if left.empty:
        return _row("in_vs_out", float("nan"), float("nan"), _too_few(by_heuristic))
    gap = left["out"] - left["in"]
    p = _paired(gap)
    detail = (
        f"with the neurons of a heuristic zeroed, accuracy is {left['in'].mean():.3f} inside it and "
        f"{left['out'].mean():.3f} outside (means of {len(left)} heuristics; lower inside for {int((gap > 0).sum())}, "
        f"higher for {int((gap < 0).sum())}; Wilcoxon p = {p:.2g})"
    )
    return _row("in_vs_out", float(gap.mean()), p, detail)


def _beyond_random(by_heuristic: pd.DataFrame) -> dict[str, object]:
    targeted, random = (_accuracies(by_heuristic, arm) for arm in ("targeted", "random"))
    if targeted.empty:
        return _row("beyond_random", float("nan"), float("nan"), _too_few(by_heuristic))
    alike = random["neurons"] >= SAME_SIZE * targeted["neurons"]
    if not alike.any():
        why = f"not tested: no heuristic of {len(targeted)} leaves as many other important neurons in its layers"
        return _row("beyond_random", float("nan"), float("nan"), why)
    targeted, random = targeted[alike], random[alike]
    gaps = [side["out"] - side["in"] for side in (targeted, random)]
    more = gaps[0] - gaps[1]
    p = _paired(more)
    detail = (
        f"the gap between outside and inside is {gaps[0].mean():.3f} for the heuristic's neurons and "
        f"{gaps[1].mean():.3f} for as many random ones, which leave {random['in'].mean():.3f} inside and "
        f"{random['out'].mean():.3f} outside ({len(more)} heuristics; Wilcoxon p = {p:.2g})"
    )
    return _row("beyond_random", float(more.mean()), p, detail)


def _too_few(by_heuristic: pd.DataFrame) -> str:
    tried = by_heuristic["heuristic"].nunique()
    return f"not tested: none of {tried} heuristics has {FEWEST} correct prompts both inside and outside it"


def _targeted_vs(by_prompt: pd.DataFrame, arm: str) -> dict[str, object]:
    name, rival = f"targeted_vs_{arm}", RIVALS[arm]
    zero = by_prompt[(by_prompt["ablation"] == "zero") & (by_prompt["per_layer"] <= PER_LAYER)]
    usable = (zero["arm"] == arm) & zero["p"].notna() & (zero["neurons"] >= FEWEST_NEURONS)
    controls = zero[usable].sort_values("per_layer").to_dict("records")
    if not controls:
        why = f"not tested: no correct prompt, or less than {FEWEST_NEURONS} neuron on average to compare with"
        return _row(name, float("nan"), float("nan"), why)
    theirs = controls[-1]
    ours = zero[(zero["arm"] == rival) & (zero["per_layer"] == theirs["per_layer"])].to_dict("records")[0]
    words = {
        "random": "random important neurons of the same layers",
        "not_applying": "labelled neurons whose labels do not hold of the prompt",
    }
    detail = (
        f"with neurons of each prompt's own heuristics zeroed (at most {theirs['per_layer']} per layer, "
        f"{ours['neurons']:.0f} on average), accuracy is {ours['accuracy']:.3f}; with as many {words[arm]} "
        f"({theirs['neurons']:.0f}) {theirs['accuracy']:.3f} ({ours['n']} prompts; McNemar p = {theirs['p']:.2g})"
    )
    return _row(name, float(theirs["accuracy"] - ours["accuracy"]), float(theirs["p"]), detail)
