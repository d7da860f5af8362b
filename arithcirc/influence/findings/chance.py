"""What chance alone gives: documents in random order, and resampled queries.

Two kinds of doubt are kept apart. A *base rate* puts documents in random order and leaves queries as they are; an
*interval* resamples queries and leaves documents as they are (percentile bootstrap).
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy.stats import hypergeom

DRAWS = 1000
_Z = 1.959964


@lru_cache(maxsize=64)
def resamples(queries: int, seed: int, *, draws: int = DRAWS) -> Float[np.ndarray, "draw query"]:
    """How often each query is drawn in each of `draws` bootstrap samples. Not to be written to."""
    generator = np.random.default_rng([seed, queries])
    drawn = generator.multinomial(queries, np.full(queries, 1 / queries), draws).astype(float)
    drawn.flags.writeable = False
    return drawn


def mean_interval(values: Sequence[float] | np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95% bootstrap interval; the ends are NaN with fewer than two values."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return (float(known[0]) if len(known) else float("nan")), float("nan"), float("nan")
    means = resamples(len(known), seed) @ known / len(known)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(known.mean()), float(low), float(high)


def share_interval(counts: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95% interval of counts / n, element by element."""
    z2, share = _Z**2, np.asarray(counts) / n
    centre, half = share + z2 / (2 * n), _Z * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return np.maximum(0.0, (centre - half) / (1 + z2 / n)), np.minimum(1.0, (centre + half) / (1 + z2 / n))


def in_top(documents: int, holders: int, k: int) -> float:
    """Chance that at least one of `holders` documents is among k drawn at random. Hypergeometric, exact.

    P(none) = prod over i < holders of (documents - k - i) / (documents - i), and the same with k for holders.
    """
    few, many = sorted((holders, k))
    if few <= 0:
        return 0.0
    if few + many > documents:
        return 1.0
    return float(-np.expm1(np.log1p(-many / (documents - np.arange(few, dtype=float))).sum()))


def all_in_top(documents: int, holders: Sequence[np.ndarray], k: int) -> float:
    """Chance that every need has a holder among k documents drawn at random; needs may share documents.

    Inclusion and exclusion over the needs, so exact: sum over sets S of needs of (-1)^|S| P(no document of S in k).
    """
    if not holders or any(len(h) == 0 for h in holders):
        return 0.0
    total = 0.0
    for size in range(len(holders) + 1):
        for some in combinations(holders, size):
            union = len(np.unique(np.concatenate(some))) if some else 0
            total += (-1) ** size * (1.0 - in_top(documents, union, k))
    return float(min(1.0, max(0.0, total)))


def at_least(found: int, chances: Sequence[float]) -> float:
    """P(as many successes or more) of independent trials with these chances (Poisson binomial, exact)."""
    spread = np.ones(1)
    for chance in chances:
        spread = np.convolve(spread, [1.0 - chance, chance])
    return float(min(1.0, spread[found:].sum()))


def overlapping(
    counts: Float[np.ndarray, "row"],
    totals: Float[np.ndarray, "row"],
    documents: int,
    places: Float[np.ndarray, "row"],
    squares: Float[np.ndarray, "row"],
) -> tuple[Float[np.ndarray, "row"], Float[np.ndarray, "row"], Float[np.ndarray, "row"]]:
    """Two-sided p and 95% range of label counts in top lists that share documents, labels in random order.

    Each row is one label in the lists of some queries: `counts` of their places are of the label, which `totals`
    documents of the corpus have; `places` = sum of t, `squares` = sum of t^2, where t says in how many of the lists a
    document is. Under exchange of labels a count has the mean and the variance of a hypergeometric draw of
    n_eff = places^2 / squares documents, each counted squares / places times (Kish's effective sample size). Both are
    exact; so is the whole distribution where lists share nothing or everything. Between whole numbers p is
    interpolated. The range is mean -+ 1.96 sd. Returns p, low and high (in places).
    """
    drawn = np.maximum(1, np.rint(places**2 / squares))
    scaled = counts * (drawn / places)
    whole = np.floor(scaled + 1e-9)
    part = np.clip(scaled - whole, 0, 1)
    tails = [np.asarray(hypergeom.sf(whole + step, documents, totals, drawn)) for step in (-1, 0, 1)]
    upper = (1 - part) * tails[0] + part * tails[1]
    lower = (1 - part) * (1 - tails[1]) + part * (1 - tails[2])
    p = np.clip(2 * np.minimum(upper, lower), 0.0, 1.0)
    share = totals / documents
    spread = np.sqrt(np.maximum(0.0, share * (1 - share) * (documents * squares - places**2) / max(documents - 1, 1)))
    return p, np.maximum(0.0, share * places - _Z * spread), share * places + _Z * spread
