"""Findings 4 and 5: which kinds and sources of documents stand at the top, as lift over their share of the corpus.

    lift = (share among the top k of a group's queries) / (share of the corpus)

for several k, at the top and at the bottom (the most harmful documents). `low`, `high` resample queries (of a single
query: Wilson's interval of its share); p and `null_low`, `null_high` exchange the labels of documents at random and
keep the lists as they are, so that queries which share documents do not count as independent (`chance.overlapping`).
A kind's lift may come from its length or its loss; the other methods and the random arm are there to compare.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import norm

from arithcirc.influence.findings.chance import overlapping, resamples, share_interval

Z95 = 1.959964
COLUMNS = ("count", "share", "corpus_share", "lift", "low", "high", "null_low", "null_high", "p")


def exchanged(
    tops: Int[np.ndarray, "query k"],
    codes: Int[np.ndarray, "document"],
    within: Int[np.ndarray, "document"],
    labels: int,
) -> Float[np.ndarray, "two label"]:
    """Mean and sd of each label's count in these lists when labels change places within `within` only.

    Of a stratum with n documents, m of them with the label, whose documents are t times in the lists: the mean is
    m / n sum t, the variance m (n - m) / (n^2 (n - 1)) (n sum t^2 - (sum t)^2). Exact; strata are independent.
    """
    times = np.bincount(tops.ravel(), minlength=len(codes)).astype(float)
    strata = int(within.max(initial=0)) + 1
    held = np.bincount(within * labels + codes, minlength=strata * labels).reshape(strata, labels).astype(float)
    n, first = held.sum(1), np.bincount(within, times, minlength=strata)
    second = np.bincount(within, times**2, minlength=strata)
    share = held / np.maximum(n, 1)[:, None]
    each = share * (1 - share) * ((n * second - first**2) / np.maximum(n - 1, 1))[:, None]
    return np.stack([share.T @ first, np.sqrt(np.maximum(0.0, each.sum(0)))])


class Lifts:
    """Gathers lists of top documents under names, and makes one table of them.

    `codes` say which of `labels` each document has; the table's column for the label is `what`. With `within` the table
    has a second base rate, kind_null_mean, kind_null_low, kind_null_high and kind_p: labels exchanged only among
    documents with the same code of `within` (a normal curve; NaN where nothing can be exchanged).
    """

    def __init__(
        self, what: str, codes: Int[np.ndarray, "document"], labels: Sequence[str], *, seed: int = 0,
        within: Int[np.ndarray, "document"] | None = None,
    ) -> None:  # fmt: skip
        self.what, self.codes, self.labels, self.seed, self.within = what, codes, list(labels), seed, within
        self.totals = np.bincount(codes, minlength=len(self.labels)).astype(float)
        self._names: list[dict[str, Any]] = []
        self._values: list[np.ndarray] = []
        self._stratified: list[np.ndarray] = []

    def add(self, tops: Int[np.ndarray, "query k"], **names: object) -> None:
        """The top documents of some queries, `names` being their group, method, end, k, ..."""
        queries, k = tops.shape
        places = float(queries * k)
        counts = np.stack([np.bincount(self.codes[row], minlength=len(self.labels)) for row in tops]).astype(float)
        if queries > 1:
            low, high = np.quantile(resamples(queries, self.seed) @ counts / places, [0.025, 0.975], axis=0)
        else:
            low, high = share_interval(counts[0], k)
        times = np.unique(tops, return_counts=True)[1].astype(float)
        alike = [np.full(len(self.labels), value) for value in (places, (times**2).sum())]
        self._values.append(np.stack([counts.sum(0), *alike, low, high]))
        if self.within is not None:
            self._stratified.append(exchanged(tops, self.codes, self.within, len(self.labels)))
        self._names.append(names)

    def table(self) -> pd.DataFrame:
        """One row per list and label, labels in alphabetical order: the names, `what`, and COLUMNS."""
        count, places, squares, low, high = np.concatenate(self._values, axis=1)
        lists, labels = len(self._values), len(self.labels)
        totals = np.tile(self.totals, lists)
        corpus = totals / self.totals.sum()
        p, null_low, null_high = overlapping(count, totals, len(self.codes), places, squares)
        names = pd.DataFrame(self._names).loc[np.repeat(np.arange(lists), labels)].reset_index(drop=True)
        found = names.assign(**{self.what: self.labels * lists, "count": count.astype(int)}).assign(
            share=count / places, corpus_share=corpus, lift=count / places / corpus, low=low / corpus,
            high=high / corpus, null_low=null_low / places / corpus, null_high=null_high / places / corpus, p=p,
        )  # fmt: skip
        if self._stratified:
            mean, spread = np.concatenate(self._stratified, axis=1)
            free = spread > 0
            z = np.divide(np.abs(count - mean), spread, out=np.full(len(count), np.nan), where=free)
            scale = np.where(free, places * corpus, np.nan)
            found = found.assign(
                kind_null_mean=mean / places / corpus, kind_null_low=np.maximum(0.0, mean - Z95 * spread) / scale,
                kind_null_high=(mean + Z95 * spread) / scale, kind_p=2 * norm.sf(z),
            )  # fmt: skip
        order = np.argsort(self.labels)
        return found.iloc[(np.arange(lists)[:, None] * labels + order).ravel()].reset_index(drop=True)
