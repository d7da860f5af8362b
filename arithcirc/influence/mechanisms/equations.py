"""Equations that documents state, and whether a mechanism's score finds the documents that obey its heuristic.

An equation is `a o b = c` in plain digits, not part of a longer expression, and true. Only documents with equations of
the mechanism's operator are compared, those with one inside the heuristic (positives) against the rest, so that an AUC
says more than that documents with equations come first; where nearly all have one, the share of a document's
equations that is inside tells more (rho). Both are set against `others`: the mean for the scores of all other
mechanisms of the operator on the same documents, which is what length, kind and size of gradient give without this
mechanism.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from arithcirc.arithmetic.operators import Prompts, operator
from arithcirc.influence.mechanisms.choose import Inside
from arithcirc.influence.mechanisms.values import Mechanism
from arithcirc.influence_scores import ScoreStore

_EQUATION = re.compile(r"(?<![\w.])(\d{1,6})\s*([-+*/])\s*(\d{1,6})\s*=\s*(\d{1,12})(?![\w]|\s*[-+*/])")
_CONTINUES = frozenset("+-*/(.")
_LARGEST = 999_999


@dataclass(frozen=True)
class Equations:
    """Every true equation of some documents: the document it stands in, and the equation as a prompt."""

    document: Int[np.ndarray, "equation"]
    prompts: Prompts
    n_documents: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Equations":
        """Read them off the documents' texts, in order; the texts may stream by."""
        rows: list[tuple[int, int, str, int, int]] = []
        number = -1
        for number, text in enumerate(texts):
            rows += [(number, *found) for found in _stated(text)]
        columns = list(zip(*rows, strict=True)) if rows else [()] * 5
        symbols = np.array(columns[2], dtype=object if not rows else None)
        document, op1, op2, answer = (np.array(columns[i], dtype=np.int64) for i in (0, 1, 3, 4))
        return cls(document, Prompts(symbols, op1, op2, answer), number + 1)

    def share(self, mechanism: Mechanism, inside: Inside) -> Float[np.ndarray, "document"]:
        """Share of each document's equations of the mechanism's operator that belong to its heuristic; NaN: none."""
        ours = self.prompts.symbols == mechanism.operator
        hit = inside(mechanism.heuristic, self.prompts[ours]) if ours.any() else np.zeros(0)
        count = np.bincount(self.document[ours], minlength=self.n_documents)
        held = np.bincount(self.document[ours], weights=hit, minlength=self.n_documents)
        share: np.ndarray = np.divide(held, count, out=np.full(self.n_documents, np.nan), where=count > 0)
        return share

    def hits(self, document: int, mechanism: Mechanism, inside: Inside) -> list[str]:
        """The document's equations that belong to the mechanism's heuristic, as "3+8=11", without repeats."""
        first, last = np.searchsorted(self.document, [document, document + 1])
        mine = self.prompts[slice(int(first), int(last))]
        mine = mine[mine.symbols == mechanism.operator]
        if not len(mine):
            return []
        held = mine[inside(mechanism.heuristic, mine)]
        return list(dict.fromkeys(t + str(a) for t, a in zip(held.texts(), held.answer.tolist(), strict=True)))


def _stated(text: str) -> Iterator[tuple[int, str, int, int]]:
    for match in _EQUATION.finditer(text):
        before = text[: match.start()].rstrip()
        if before and before[-1] in _CONTINUES:
            continue
        a, symbol, b, c = int(match[1]), match[2], int(match[3]), int(match[4])
        true = operator(symbol).result(np.array([a]), np.array([b]))[0] == c
        if true and (symbol != "/" or a % b == 0) and max(a, b, c) <= _LARGEST:
            yield a, symbol, b, c


def auc(scores: Float[np.ndarray, "document"], positive: Bool[np.ndarray, "document"]) -> float:
    """Chance that a positive's score is above a negative's, ties counting half; NaN without one of the two."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def rank_correlation(scores: Float[np.ndarray, "document"], share: Float[np.ndarray, "document"]) -> float:
    """Spearman's rho; NaN where one of the two is constant."""
    if len(scores) < 3 or np.ptp(scores) == 0 or np.ptp(share) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(scores), rankdata(share))[0, 1])


@dataclass(frozen=True)
class Found:
    """How well one mechanism's scores find the documents that obey its heuristic; `*_others` is the base rate."""

    documents: int
    positives: int
    auc: float
    rho: float
    auc_others: float
    rho_others: float


def found_by(
    scores: Float[np.ndarray, "mechanism document"], mechanisms: Sequence[Mechanism],
    shares: Sequence[Float[np.ndarray, "document"]],
) -> list[Found]:  # fmt: skip
    """For each mechanism how well its scores find what `shares` (`Equations.share`) says obeys its heuristic."""
    rows = []
    for i, (mechanism, share) in enumerate(zip(mechanisms, shares, strict=True)):
        among = ~np.isnan(share)
        held = share[among]
        others = [
            _both(scores[j][among], held)
            for j, other in enumerate(mechanisms)
            if other.operator == mechanism.operator and other.heuristic != mechanism.heuristic
        ]
        base = np.mean(others, axis=0) if others else np.full(2, np.nan)
        positives = int((held > 0).sum())
        rows.append(Found(int(among.sum()), positives, *_both(scores[i][among], held), float(base[0]), float(base[1])))
    return rows


def retrieval(
    scores: ScoreStore, mechanisms: Sequence[Mechanism], equations: Equations, inside: Inside
) -> pd.DataFrame:
    """Table: query, method, documents, positives, auc, rho, auc_others, rho_others.

    `documents` are those with equations of the operator, `positives` those with one inside; rho compares the score with
    the share of a document's equations that is inside. Cost: mechanisms squared x documents per method.
    """
    shares = [equations.share(m, inside) for m in mechanisms]
    rows = []
    for method in scores.methods:
        every = np.concatenate([block for _, _, block in scores.blocks(method)], axis=1)
        for mechanism, found in zip(mechanisms, found_by(every, mechanisms, shares), strict=True):
            rows.append({"query": mechanism.id, "method": method, **asdict(found)})
    return pd.DataFrame(rows)


def _both(scores: Float[np.ndarray, "document"], share: Float[np.ndarray, "document"]) -> tuple[float, float]:
    return auc(scores, share > 0), rank_correlation(scores, share)
