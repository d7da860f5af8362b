"""Accuracies with their uncertainty, and tests of two ablations on the same prompts.

accuracy   with Wilson's 95% interval
mcnemar    exact McNemar test, two-sided: of the prompts that one ablation leaves right and the other does not,
           each is equally often the better one (a sign test; p = 1 when they never differ)
"""

import numpy as np
from jaxtyping import Bool
from scipy.stats import binomtest

from arithcirc.measure.intervals import wilson


def accuracy_columns(right: Bool[np.ndarray, "prompt"]) -> dict[str, float | int]:
    """n, correct, accuracy and its interval, as the tables write them."""
    n, correct = len(right), int(right.sum())
    low, high = wilson(correct, n)
    return {"n": n, "correct": correct, "accuracy": correct / n if n else float("nan"), "low": low, "high": high}


def mcnemar(ours: Bool[np.ndarray, "prompt"], theirs: Bool[np.ndarray, "prompt"]) -> float:
    """p that the two ablations leave the same share of these prompts right; NaN without prompts."""
    if not len(ours):
        return float("nan")
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if only_ours + only_theirs == 0:
        return 1.0
    return float(binomtest(only_ours, only_ours + only_theirs).pvalue)
