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
from jaxtyping import Int

from arithcirc.influence.findings.chance import overlapping, resamples, share_interval

COLUMNS = ("count", "share", "corpus_share", "lift", "low", "high", "null_low", "null_high", "p")


class Lifts:
    """Gathers lists of top documents under names, and makes one table of them.

    `codes` say which of `labels` each document has; the table's column for the label is `what`.
    """

    def __init__(self, what: str, codes: Int[np.ndarray, "document"], labels: Sequence[str], *, seed: int = 0) -> None:
        self.what, self.codes, self.labels, self.seed = what, codes, list(labels), seed
        self.totals = np.bincount(codes, minlength=len(self.labels)).astype(float)
        self._names: list[dict[str, Any]] = []
        self._values: list[np.ndarray] = []

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
        order = np.argsort(self.labels)
        return found.iloc[(np.arange(lists)[:, None] * labels + order).ravel()].reset_index(drop=True)
