"""Finding 1: do queries of one task draw on the same documents? Pearson r between influence vectors of query pairs.

r_ab is over all documents of the corpus; dividing a query's scores by its nats changes nothing. Pairs are grouped by
`relation`. Two base rates put documents in random order, each query's on its own:

    free          all documents; r has mean 0
    within kind   only documents of one kind among themselves; what is left is correlation by kind alone (both queries
                  drawing on procedures, say, on whichever ones)

Scores that grow with the document's gradient (ekfac, dot) have the same large documents in every query, and r varies
more than a free order says, though its mean is 0; there documents change places only with others of like gradient norm
(`strata`: groups of LIKE documents by norm, MOST groups at most), in both base rates. What differs inside a group
can leave p a little too small for these two.

Up to EXACT documents by PERMUTATIONS random orders. Beyond that by the first two moments of the same distribution,
which are exact, and a normal curve. With cells k (kinds, strata, or one cell of all documents):

    E r = sum_k S_k / (s_a s_b)      S_k = n_k (mean_ak - mean_a)(mean_bk - mean_b),  s^2 = total sum of squares
    Var r = sum_k W_ak W_bk / (n_k - 1) / (s_a s_b)^2                  W_ak = sum of squares of a within cell k

and pairs are uncorrelated. Intervals resample queries. p counts group means as far from the base rate's mean as the
observed one, on either side. A correlation says nothing of how large an influence is.

Pairs of reasoning queries are told apart by their completions too, since the same text draws on the same documents
whatever it answers: two have the same output if they share the last number, a stated equation or the whole text.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import norm

from arithcirc.influence.findings.chance import resamples
from arithcirc.influence.findings.matching import equations
from arithcirc.influence_scores import ScoreStore

METHODS = ("ekfac_normed", "ekfac", "dot")
EXACT, PERMUTATIONS = 5000, 200
LIKE, MOST = 10, 100
RANKED_PERMUTATIONS = 1000
"""Random orders for the scores that verdicts read, so that p is known finely enough to be corrected."""
SAME_OUTPUT, OTHER_OUTPUT = "same task, same output", "same task, other output"
BY_TASK = "other output: "
"""Before a task's name: pairs of that task alone with different outputs; there where several tasks have some."""
ACROSS_OTHER = "across reasoning, other output"
RELATIONS = (
    "same task", SAME_OUTPUT, OTHER_OUTPUT, "same task, right", "same task, wrong", "across reasoning", ACROSS_OTHER,
    "reasoning-factual", "factual", "factual, right", "factual, wrong", "control", "task-control", "unrelated control",
    "ungrouped",
)  # fmt: skip
PAIR_COLUMNS = ("query_a", "query_b", "r", "relation", "method")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_BASE = ("null_mean", "null_low", "null_high", "p")
Square = Float[np.ndarray, "query query"]


@dataclass(frozen=True)
class Moments:
    """Sums over documents: by cell their number, means and squares within it, and products of all queries."""

    sizes: Float[np.ndarray, "cell"]
    means: Float[np.ndarray, "query cell"]
    within: Float[np.ndarray, "query cell"]
    products: Square

    @property
    def between(self) -> Square:
        """Sum over cells of n_k (mean_ak - mean_a)(mean_bk - mean_b)."""
        centred = self.means - ((self.means @ self.sizes) / self.sizes.sum())[:, None]
        return np.asarray((centred * self.sizes) @ centred.T)

    @property
    def scale(self) -> Square:
        """s_a s_b; NaN where a query's scores are all equal."""
        spread = np.sqrt(np.diag(self.products))
        spread = np.where(spread > 0, spread, np.nan)
        return np.outer(spread, spread)

    @property
    def r(self) -> Square:
        """Pearson r of every pair."""
        return np.asarray(self.products / self.scale)

    @property
    def null(self) -> tuple[Square, Square]:
        """Mean and variance of r when documents are put in random order within their cell."""
        freedom = np.where(self.sizes > 1, self.sizes - 1, np.inf)
        return self.between / self.scale, (self.within / freedom) @ self.within.T / self.scale**2


def strata(store: ScoreStore, method: str) -> Int[np.ndarray, "document"]:
    """Groups of documents of like gradient norm, numbered; one group for scores that are divided by it."""
    if method == "ekfac_normed" or "norm" not in store.parts[0].arrays:
        return np.zeros(store.n_documents, dtype=np.int64)
    norms = store.documents("norm")
    groups = max(1, min(MOST, len(norms) // LIKE))
    order = np.argsort(norms, kind="stable")
    found = np.empty(len(norms), dtype=np.int64)
    found[order] = np.arange(len(norms)) * groups // len(norms)
    return found


def moments(store: ScoreStore, method: str, cell: Int[np.ndarray, "document"]) -> Moments:
    """Read all scores of a method twice, partition by partition: means first, then products of what is centred."""
    cells = int(cell.max(initial=0)) + 1
    sizes = np.bincount(cell, minlength=cells).astype(float)
    means = np.zeros((store.n_queries, cells))
    for start, end, block in store.blocks(method):
        means += block.astype(float) @ _one_hot(cell[start:end], cells)
    means /= np.where(sizes > 0, sizes, 1)
    overall = means @ sizes / sizes.sum()
    within, products = np.zeros_like(means), np.zeros((store.n_queries, store.n_queries))
    for start, end, block in store.blocks(method):
        codes = cell[start:end]
        centred = block - overall[:, None]
        products += centred @ centred.T
        within += (block - means[:, codes]) ** 2 @ _one_hot(codes, cells)
    return Moments(sizes, means, within, products)


def _one_hot(codes: np.ndarray, cells: int) -> np.ndarray:
    return np.asarray(codes[:, None] == np.arange(cells), dtype=float)


def relations(queries: pd.DataFrame) -> dict[str, Square]:
    """Which pairs a < b stand in each of RELATIONS, as 0 and 1 [query, query], in order; empty ones are left out.

    OTHER_OUTPUT is there for each task too (BY_TASK).
    """
    group, task, right = (queries[name].to_numpy() for name in ("group", "task", "correct"))
    said = [_output(text) for text in queries["completion"]] if "completion" in queries else None
    n = len(queries)
    found = {name: np.zeros((n, n)) for name in RELATIONS}
    for a in range(n):
        for b in range(a + 1, n):
            name = relation((group[a], task[a]), (group[b], task[b]))
            found[name][a, b] = 1
            if name in ("same task", "factual") and bool(right[a]) == bool(right[b]):
                found[f"{name}, {'right' if right[a] else 'wrong'}"][a, b] = 1
            if said is not None and name in ("same task", "across reasoning"):
                shared = bool(said[a] & said[b])
                kept = {("same task", True): SAME_OUTPUT, ("same task", False): OTHER_OUTPUT}.get((name, shared))
                if kept or not shared:
                    found[kept or ACROSS_OTHER][a, b] = 1
    same = found[OTHER_OUTPUT]
    tasks = list(dict.fromkeys(task[a] for a in np.flatnonzero(same.any(1))))
    if len(tasks) > 1:
        found |= {f"{BY_TASK}{name}": same * (task == name)[:, None] for name in tasks}
    return {name: mask for name, mask in found.items() if mask.any()}


def _output(completion: str | None) -> frozenset[str]:
    """What a completion comes to: its words, its last number and the equations it states."""
    text = " ".join((completion or "").split())
    number = _NUMBER.findall(text)[-1:]
    return frozenset([f"text {text}", *(f"number {n}" for n in number), *equations(text)])


def relation(a: tuple[str, str], b: tuple[str, str]) -> str:
    """How two queries are related, each given as group and task."""
    groups = {a[0], b[0]}
    controls = sum(g.startswith("control") for g in (a[0], b[0]))
    if not groups <= {"reasoning", "factual", "control_reasoning", "control_factual"}:
        return "ungrouped"
    if controls == 2:
        return "control"
    if controls == 1:
        own = groups == {"factual", "control_factual"} or (
            groups == {"reasoning", "control_reasoning"} and a[1] == b[1]
        )
        return "task-control" if own else "unrelated control"
    if groups == {"reasoning"}:
        return "same task" if a[1] == b[1] else "across reasoning"
    return "factual" if groups == {"factual"} else "reasoning-factual"


def pair_rows(r: Square, queries: pd.DataFrame, method: str) -> pd.DataFrame:
    """Table `correlation`: every pair once."""
    upper = np.triu_indices(len(queries), 1)
    names, group, task = (queries[name].to_numpy() for name in ("query", "group", "task"))
    related = [relation((group[a], task[a]), (group[b], task[b])) for a, b in zip(*upper, strict=True)]
    return pd.DataFrame(
        {"query_a": names[upper[0]], "query_b": names[upper[1]], "r": r[upper], "relation": related, "method": method}
    )


def group_rows(
    store: ScoreStore,
    found: Moments,
    masks: dict[str, Square],
    kind: Int[np.ndarray, "document"],
    method: str,
    *,
    seed: int,
    exact: int = EXACT,
    permutations: int = PERMUTATIONS,
) -> pd.DataFrame:
    """Table `correlation_groups`: mean r of every relation, its interval over queries, and both base rates.

    `orders`: how many random orders p is counted over, 0 for moments.
    `found` are the moments within `strata(store, method)`.
    """
    names = list(masks)
    usable = np.isfinite(found.r)
    stacked = np.stack([masks[name] * usable for name in names])
    r = np.where(usable, found.r, 0.0)
    n, mean = stacked.sum((1, 2)), _means(stacked, r)
    ends = _bootstrap(stacked, r, seed)
    table = pd.DataFrame({"method": method, "relation": names, "n": n.astype(int), "mean": mean, **ends})
    permuted = store.n_documents <= exact
    rows = np.concatenate([block for _, _, block in store.blocks(method)], axis=1) if permuted else None
    free = strata(store, method)
    within = np.unique(kind * (free.max(initial=0) + 1) + free, return_inverse=True)[1]
    for prefix, cell in (("", free), ("kind_", within)):
        if rows is None:
            held = found if not prefix else moments(store, method, cell)
            base = _by_moments(stacked, mean, *held.null)
        else:
            base = _by_permutations(mean, permuted_means(rows, stacked, cell, seed=seed, permutations=permutations))
        table = table.assign(**{f"{prefix}{name}": values for name, values in base.items()})
    return table.assign(null="permutations" if permuted else "moments", orders=permutations if permuted else 0)


def no_groups() -> pd.DataFrame:
    """Table `correlation_groups` of a study with one query."""
    bases = [f"{prefix}{name}" for prefix in ("", "kind_") for name in _BASE]
    return pd.DataFrame(columns=["method", "relation", "n", "mean", "low", "high", *bases, "null", "orders"])


def _means(stacked: np.ndarray, r: np.ndarray) -> np.ndarray:
    n = stacked.sum((1, 2))
    return np.asarray(np.divide((stacked * r).sum((1, 2)), n, out=np.full(len(n), np.nan), where=n > 0))


def _bootstrap(stacked: np.ndarray, r: np.ndarray, seed: int) -> dict[str, list[float]]:
    """95% interval of each mean over resampled queries; a query paired with its own copy is left out."""
    weights = resamples(r.shape[0], seed)
    low, high = [], []
    for mask in stacked:
        total = np.einsum("da,ab,db->d", weights, mask, weights, optimize=True)
        sums = np.einsum("da,ab,db->d", weights, mask * r, weights, optimize=True)
        drawn = sums[total > 0] / total[total > 0]
        ends = np.quantile(drawn, [0.025, 0.975]) if mask.sum() > 1 and len(drawn) else (np.nan, np.nan)
        low.append(float(ends[0]))
        high.append(float(ends[1]))
    return {"low": low, "high": high}


def permuted_means(
    rows: Float[np.ndarray, "query document"],
    masks: Float[np.ndarray, "relation query query"],
    cell: Int[np.ndarray, "document"],
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> Float[np.ndarray, "permutation relation"]:
    """Mean r of every relation with each query's documents in a random order within their cell."""
    rng = np.random.default_rng([seed, 1])
    scores = rows.astype(float) - rows.mean(1, dtype=float, keepdims=True)
    spread = np.sqrt((scores**2).sum(1, keepdims=True))
    scores = np.divide(scores, spread, out=np.zeros_like(scores), where=spread > 0)
    blocks: Iterable[np.ndarray] = [scores[:, cell == k] for k in np.unique(cell)]
    out = np.empty((permutations, len(masks)))
    for i in range(permutations):
        shuffled = np.concatenate([rng.permuted(block, axis=1) for block in blocks], axis=1)
        out[i] = _means(masks, shuffled @ shuffled.T)
    return out


def _by_permutations(mean: np.ndarray, orders: np.ndarray) -> dict[str, np.ndarray]:
    centre = orders.mean(0)
    low, high = np.quantile(orders, [0.025, 0.975], axis=0)
    as_far = (np.abs(orders - centre) >= np.abs(mean - centre) - 1e-12).sum(0)
    return {"null_mean": centre, "null_low": low, "null_high": high, "p": (1 + as_far) / (1 + len(orders))}


def _by_moments(stacked: np.ndarray, mean: np.ndarray, centre: Square, variance: Square) -> dict[str, np.ndarray]:
    n = stacked.sum((1, 2))
    middle = _means(stacked, np.nan_to_num(centre))
    spread = np.sqrt((stacked * np.nan_to_num(variance)).sum((1, 2))) / np.maximum(n, 1)
    z = np.divide(np.abs(mean - middle), spread, out=np.full(len(n), np.nan), where=spread > 0)
    half = 1.959964 * spread
    return {"null_mean": middle, "null_low": middle - half, "null_high": middle + half, "p": 2 * norm.sf(z)}
