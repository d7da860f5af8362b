"""Uncertainty of a share."""

from scipy.stats import binomtest


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval; unlike the normal one it does not collapse at 0 and 1. NaN without trials."""
    if n == 0:
        return float("nan"), float("nan")
    found = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(found.low), float(found.high)
