"""Documents in the order of a query's scores. Ties are nobody's gain: one random order for all queries breaks them.

BM25 gives 0 to most documents, so ties are the rule there. Ranks of single documents are averages over their ties, and
an area under the curve counts a tie as half.
"""

import numpy as np
from jaxtyping import Float, Float32, Int


def depths(documents: int) -> tuple[int, ...]:
    """The k of "top k" for a corpus of this size: .01%, .1%, 1%, 3% and 10% of it, 10 or more, half of it at most.

    500 of 5 million (.01%) is the paper's; of 1,000 documents that would be less than one.
    """
    shares = (0.0001, 0.001, 0.01, 0.03, 0.1)
    most = max(1, documents // 2)
    return tuple(sorted({min(most, max(10, round(documents * share))) for share in shares}))


def search_depth(documents: int) -> int:
    """k of the answer search: 1% of the corpus, from 10 to 500 documents (the paper's number), half of it at most."""
    return min(500, max(10, documents // 100), max(1, documents // 2))


def main_depth(documents: int) -> int:
    """The k that verdicts read: 3% of the corpus, 10 documents or more."""
    return min(max(1, documents // 2), max(10, round(documents * 0.03)))


def tie_order(documents: int, seed: int = 0) -> Int[np.ndarray, "document"]:
    """A random order of documents to break ties by."""
    return np.random.default_rng([seed, 7]).permutation(documents)


def top(
    scores: Float32[np.ndarray, "document"], k: int, ties: Int[np.ndarray, "document"], *, bottom: bool = False
) -> Int[np.ndarray, "k"]:
    """The k documents with the highest (or lowest) scores, best first; ties by `ties`."""
    signed = scores if bottom else -scores
    border = np.partition(signed, k - 1)[k - 1]
    better, equal = np.flatnonzero(signed < border), np.flatnonzero(signed == border)
    short = k - len(better)
    if len(equal) > short:
        equal = equal[np.argpartition(ties[equal], short - 1)[:short]] if short else equal[:0]
    picked = np.concatenate([better, equal])
    return picked[np.lexsort((ties[picked], signed[picked]))]


def ranks_of(
    ordered: Float32[np.ndarray, "document"], values: Float32[np.ndarray, "some"]
) -> Float[np.ndarray, "some"]:
    """0-based ranks (0 = highest) of documents with these scores; `ordered` are all scores, ascending."""
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return len(ordered) - upto + (upto - below - 1) / 2.0


def auc(ordered: Float32[np.ndarray, "document"], positives: Float32[np.ndarray, "positive"]) -> float:
    """Chance that a positive document scores above another one, ties half. NaN without both. `ordered`: all, ascending.

    Mann-Whitney's U: of all scores at or below each positive, those of positives themselves (n^2 / 2) are taken off.
    """
    n, rest = len(positives), len(ordered) - len(positives)
    if n == 0 or rest == 0:
        return float("nan")
    below, upto = np.searchsorted(ordered, positives, "left"), np.searchsorted(ordered, positives, "right")
    return float(((below + upto).sum() / 2.0 - n * n / 2.0) / (n * rest))
