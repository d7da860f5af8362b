"""Linear datamodelling score: does the sum of influences foretell a training on half the documents?

Documents are halved at random many times, the model is trained on each half S, and of each query q

    LDS(q) = Spearman over S of    sum over d in S of I(q, d)    with    -NLL_q(S) = log p_S(completion)

(Park et al. 2023, arXiv 2303.14186). Positive influence says that a document makes the completion likelier, so a true
method has LDS above 0. A training is noisy, so even the truth would not reach 1.

Intervals resample queries (percentile bootstrap). `gain` is the paired difference to another method on the same queries
and subsets; its interval is given twice, with queries resampled, and with queries and subsets both, which is wider.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from arithcirc.errors import RequestError
from arithcirc.influence.findings.chance import mean_interval

_FEWEST, _DRAWS = 3, 500


def half_subsets(documents: int, count: int, *, seed: int, share: float = 0.5) -> Bool[np.ndarray, "subset document"]:
    """`count` random subsets of a share of the documents, all of one size. Raises RequestError."""
    size = round(share * documents)
    if count < _FEWEST or not 0 < size < documents:
        raise RequestError(
            f"{count} subsets of {share:g} of {documents} documents: give {_FEWEST} subsets or more, "
            "and a share that leaves some documents in and some out"
        )
    draw = np.random.default_rng([seed, 11])
    kept = np.zeros((count, documents), dtype=bool)
    for row in kept:
        row[draw.choice(documents, size, replace=False)] = True
    return kept


def datamodel_scores(
    scores: Float[np.ndarray, "query document"],
    kept: Bool[np.ndarray, "subset document"],
    nll: Float[np.ndarray, "subset query"],
) -> Float[np.ndarray, "query"]:
    """LDS of every query; NaN where a sum of scores or a measurement is the same for all subsets."""
    return _spearman(_sums(scores, kept), -nll)


def datamodel_table(
    scores: Mapping[str, Float[np.ndarray, "query document"]],
    kept: Bool[np.ndarray, "subset document"],
    nll: Float[np.ndarray, "subset query"],
    queries: pd.DataFrame,
) -> pd.DataFrame:
    """LDS per query and method, beside the columns query, group and correct of `queries`."""
    about = queries[["query", "group", "correct"]].reset_index(drop=True)
    found = [about.assign(method=name, lds=datamodel_scores(each, kept, nll)) for name, each in scores.items()]
    return pd.concat(found, ignore_index=True)


def datamodel_groups(
    scores: Mapping[str, Float[np.ndarray, "query document"]],
    kept: Bool[np.ndarray, "subset document"],
    nll: Float[np.ndarray, "subset query"],
    queries: pd.DataFrame,
    *,
    against: str = "dot",
    seed: int = 0,
) -> pd.DataFrame:
    """Mean LDS by group ("all" first) and method, with interval, and the paired gain over the method `against`.

    Columns: group, method, n, lds, low, high, gain, gain_low, gain_high (queries resampled), both_low, both_high
    (queries and subsets resampled).
    """
    if against not in scores:
        raise RequestError(f"no scores by {against!r} to compare with: there are {', '.join(scores)}")
    sums = {name: _sums(each, kept) for name, each in scores.items()}
    found = {name: _spearman(each, -nll) for name, each in sums.items()}
    gains = {name: found[name] - found[against] for name in scores}
    resampled = _resampled(np.concatenate(list(sums.values()), axis=1), -nll, seed)
    base = resampled[:, list(scores).index(against)]
    draws = {name: resampled[:, i] - base for i, name in enumerate(scores)}
    rows = []
    for group in ("all", *dict.fromkeys(queries["group"])):
        mine = np.flatnonzero((queries["group"] == group).to_numpy() | (group == "all"))
        for name in scores:
            mean, low, high = mean_interval(found[name][mine], seed)
            gain, gain_low, gain_high = mean_interval(gains[name][mine], seed)
            both_low, both_high = _both(draws[name][:, mine], seed)
            rows.append(
                {
                    "group": group, "method": name, "n": int(np.isfinite(found[name][mine]).sum()),
                    "lds": mean, "low": low, "high": high, "gain": gain, "gain_low": gain_low, "gain_high": gain_high,
                    "both_low": both_low, "both_high": both_high,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _sums(
    scores: Float[np.ndarray, "query document"], kept: Bool[np.ndarray, "subset document"]
) -> Float[np.ndarray, "subset query"]:
    """Sum of each query's scores over the documents of each subset."""
    summed: np.ndarray = kept.astype(np.float64) @ scores.T.astype(np.float64)
    return summed


def _spearman(
    one: Float[np.ndarray, "subset query"], other: Float[np.ndarray, "subset query"]
) -> Float[np.ndarray, "query"]:
    """Spearman over subsets, column by column, ties by mean rank; NaN where a column is constant."""
    ranks = [rankdata(each, axis=0) for each in (one, other)]
    centred = [each - each.mean(0) for each in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(0) * (centred[1] ** 2).sum(0))
    product = (centred[0] * centred[1]).sum(0)
    found: np.ndarray = np.divide(product, scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return found


def _resampled(
    sums: Float[np.ndarray, "subset column"], truth: Float[np.ndarray, "subset query"], seed: int
) -> Float[np.ndarray, "draw method query"]:
    """LDS of every method and query with subsets resampled, the same ones for all; columns are methods x queries."""
    draw = np.random.default_rng([seed, 12])
    n, queries = truth.shape
    picks = draw.integers(n, size=(_DRAWS, n))
    methods = sums.shape[1] // queries
    return np.stack([_spearman(sums[p], np.tile(truth[p], methods)).reshape(methods, queries) for p in picks])


def _both(gains: Float[np.ndarray, "draw query"], seed: int) -> tuple[float, float]:
    """95% interval of the mean gain, queries resampled within each draw of subsets; NaN with fewer than two queries."""
    if gains.shape[1] < 2:
        return float("nan"), float("nan")
    draw = np.random.default_rng([seed, 13])
    picks = draw.integers(gains.shape[1], size=gains.shape)
    drawn = np.take_along_axis(gains, picks, 1)
    known = np.isfinite(drawn)
    counts = known.sum(1)
    means = np.where(known, drawn, 0.0).sum(1)[counts > 0] / counts[counts > 0]
    if not len(means):
        return float("nan"), float("nan")
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
