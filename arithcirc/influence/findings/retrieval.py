"""Are the documents that state what a query needs ranked above the others? Area under the ROC curve, by method.

Positives are the documents that state any of the query's needs: of a factual query those that state the fact. 0.5 is
chance. Wrongly answered queries are apart, always: a model that does not know a fact was not taught it by them.
`retrieval_said` asks the other way round of wrongly answered facts: are the documents ranked first that state, of the
same entity, the answer the model gave? Queries with no such document, or with nothing else, have no row. Intervals
resample queries; `retrieval_pairs` compares two methods on the same queries (bootstrap of the paired difference, and
Wilcoxon's signed ranks).
"""

import numpy as np
import pandas as pd
from scipy.stats import norm, wilcoxon

from arithcirc.influence.findings.chance import mean_interval
from arithcirc.influence.findings.magnitude import sides

PAIRS = (
    ("ekfac", "dot"),
    ("ekfac_normed", "dot"),
    ("ekfac_normed", "cosine"),
    ("ekfac", "bm25"),
    ("ekfac_normed", "bm25"),
)
"""Method and what it is compared with."""


def retrieval_groups(retrieval: pd.DataFrame, documents: int, seed: int) -> pd.DataFrame:
    """Mean AUC by group, correct and method, its interval over queries, and p at random ranks."""
    rows = []
    for group, side, some in sides(retrieval):
        for method, values in some.groupby("method", sort=False):
            mean, low, high = mean_interval(values["auc"].to_numpy(), seed)
            rows.append({"group": group, "correct": side, "method": method, "n": len(values), "auc": mean, "low": low,
                         "high": high, "p": chance(values, documents)})  # fmt: skip
    return pd.DataFrame(rows, columns=["group", "correct", "method", "n", "auc", "low", "high", "p"])


def chance(areas: pd.DataFrame, documents: int) -> float:
    """Two-sided p of the mean of `auc` at random ranks, by a normal curve.

    Of n positives and m others the variance of one area is (n + m + 1) / (12 n m).
    """
    n = areas["positives"].to_numpy(float)
    variance = (documents + 1) / (12 * n * (documents - n))
    return float(2 * norm.sf(abs((areas["auc"] - 0.5).sum()) / np.sqrt(variance.sum())))


def retrieval_pairs(retrieval: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Paired difference in AUC of PAIRS by group and correct: positive where `method` ranks better than `against`."""
    rows = []
    for group, side, some in sides(retrieval):
        wide = some.pivot_table(index="query", columns="method", values="auc", sort=False)
        for method, against in PAIRS:
            if {method, against} <= set(wide):
                gap = (wide[method] - wide[against]).dropna()
                mean, low, high = mean_interval(gap.to_numpy(), seed)
                rows.append({"group": group, "correct": side, "method": method, "against": against, "n": len(gap),
                             "difference": mean, "low": low, "high": high, "p": _p(gap)})  # fmt: skip
    return pd.DataFrame(rows, columns=["group", "correct", "method", "against", "n", "difference", "low", "high", "p"])


def _p(gap: pd.Series) -> float:
    """Two-sided p of Wilcoxon's signed ranks; NaN with one query, 1 where nothing differs."""
    if len(gap) < 2:
        return float("nan")
    return float(wilcoxon(np.asarray(gap), method="approx").pvalue) if (gap != 0).any() else 1.0
