"""Finding 2: how much single documents matter. Cumulative influence per nat, and the slope of influence over rank.

Scores are divided by the query's nats (the NLL of its completion), so that surprising and expected completions
compare. `cumulative` is the sum over the top `share` of the query's positive documents (of its negative ones with end
"negative", as a negative number), `part` that sum over the sum of all of them. With method ekfac the unit is nats of
log-likelihood per nat of query; ekfac_normed has it per unit of document gradient too.

The power law is the least-squares line of log score over log rank (1 = highest) on the top k positive documents;
k = a tenth of the corpus, between FEWEST and 500 (the paper's number). A steeper (more negative) slope says that fewer
documents matter. A straight line in log-log is a summary, no proof of a power law.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import ttest_ind

from arithcirc.influence.findings.chance import resamples

METHODS = ("ekfac_normed", "ekfac")
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
FEWEST = 10
_SIDES = ("all", "right", "wrong")


def fit_depth(documents: int) -> int:
    """How many top documents the slope is fitted on."""
    return min(500, max(FEWEST, documents // 10))


def cumulative(ordered: Float[np.ndarray, "document"], nats: float) -> list[dict[str, Any]]:
    """Rows of one query: end, share, cumulative, part. `ordered` are its scores, ascending.

    Of n documents of that sign the top share is the first ceil(share n). No rows without any, or without nats.
    """
    rows: list[dict[str, Any]] = []
    if not nats > 0:
        return rows
    for end, found in (("positive", ordered[ordered > 0][::-1]), ("negative", ordered[ordered < 0])):
        if len(found):
            sums = np.cumsum(found.astype(float)) / nats
            taken = [sums[math.ceil(share * len(found) - 1e-9) - 1] for share in SHARES]
            rows += [
                {"end": end, "share": share, "cumulative": float(value), "part": float(value / sums[-1])}
                for share, value in zip(SHARES, taken, strict=True)
            ]
    return rows


def power_law(ordered: Float[np.ndarray, "document"], k: int) -> dict[str, Any] | None:
    """Slope `alpha` and `r2` of log score over log rank on the top k positive documents; None with too few of them."""
    best = ordered[::-1][:k].astype(float)
    best = best[best > 0]
    if len(best) < FEWEST:
        return None
    x, y = np.log(np.arange(1, len(best) + 1)), np.log(best)
    x, y = x - x.mean(), y - y.mean()
    alpha = float((x * y).sum() / (x * x).sum())
    spread = float((y * y).sum())
    return {"k": len(best), "alpha": alpha, "r2": alpha**2 * float((x * x).sum()) / spread if spread > 0 else 1.0}


def magnitude_groups(magnitude: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Mean, sd and interval over queries of `cumulative` and `part`, by group, correct, method, end and share."""
    found = []
    for group, side, some in sides(magnitude):
        for (method, end), rows in some.groupby(["method", "end"], sort=False):
            names: dict[str, Any] = {"group": group, "correct": side, "method": method, "end": end, "share": SHARES}
            values = {
                name: rows[name].to_numpy().reshape(-1, len(SHARES)) for name in ("cumulative", "part")
            }  # rows of a query lie together, in the order of SHARES
            names["n"] = n = len(values["cumulative"])
            for name, prefix in (("cumulative", ""), ("part", "part_")):
                low, high = np.full((2, len(SHARES)), np.nan)
                if n > 1:
                    low, high = np.quantile(resamples(n, seed) @ values[name] / n, [0.025, 0.975], axis=0)
                names |= {
                    prefix.rstrip("_") or "mean": values[name].mean(0),
                    f"{prefix}low": low,
                    f"{prefix}high": high,
                }
            spread = values["cumulative"].std(0, ddof=1) if n > 1 else np.full(len(SHARES), np.nan)
            found.append(pd.DataFrame(names | {"sd": spread}))
    return pd.concat(found, ignore_index=True)[list(_GROUPS)] if found else pd.DataFrame(columns=list(_GROUPS))


def power_law_groups(slopes: pd.DataFrame) -> pd.DataFrame:
    """Mean and sd of slopes by group; p is Welch's t-test of reasoning against factual, in the rows of both."""
    rows = []
    for group, side, some in sides(slopes):
        for method, values in some.groupby("method", sort=False):
            other = {"reasoning": "factual", "factual": "reasoning"}.get(group)
            rivals = of_side(slopes[(slopes["group"] == other) & (slopes["method"] == method)], side)["alpha"]
            rows.append({
                "method": method, "group": group, "correct": side, "mean": values["alpha"].mean(),
                "sd": values["alpha"].std(ddof=1), "n": len(values), "p": welch(values["alpha"], rivals),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=["method", "group", "correct", "mean", "sd", "n", "p"])


def welch(a: pd.Series, b: pd.Series) -> float:
    """Two-sided p of Welch's t-test; NaN with fewer than two values, or none that differ, on a side."""
    if min(len(a), len(b)) < 2 or not (a.std() > 0 and b.std() > 0):
        return float("nan")
    return float(ttest_ind(a, b, equal_var=False).pvalue)


def of_side(table: pd.DataFrame, side: str) -> pd.DataFrame:
    """Rows of queries answered right or wrong, or all of them."""
    return table if side == "all" else table[table["correct"] == (side == "right")]


def sides(table: pd.DataFrame) -> Sequence[tuple[str, str, pd.DataFrame]]:
    """`(group, "all" | "right" | "wrong", rows)` of every group that has such rows, in the order of the table."""
    parts: Mapping[str, pd.DataFrame] = {group: table[table["group"] == group] for group in table["group"].unique()}
    found = [(group, side, of_side(rows, side)) for group, rows in parts.items() for side in _SIDES]
    return [one for one in found if len(one[2])]


_GROUPS = (
    "group", "correct", "method", "end", "share", "n", "mean", "sd", "low", "high", "part", "part_low", "part_high",
)  # fmt: skip
