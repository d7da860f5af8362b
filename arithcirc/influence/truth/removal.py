"""Counterfactual removal: does a completion become unlikelier without the documents said to have taught it?

For every target query its k highest-scoring documents by some method are left out and the model is trained again, with
several seeds of weights and order. Two arms say what any removal does: `nothing` leaves nothing out, `random` leaves
out k documents drawn from a pool, such as all documents that state some fact. Per query, arm and seed

    fall = NLL without the documents - NLL with nothing left out, same seed        (nats of log-probability lost)

is above 0 where the removal hurts. A completion is the whole model's own, so a wrong answer is followed as well.
`removal_groups` compares a method with the random arm seed by seed: `below` counts the seeds in which the mean
log-probability of the targets is below that of the random removal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import binom

from arithcirc.errors import RequestError
from arithcirc.influence.truth.retraining import Left

NOTHING, RANDOM = "nothing", "random"


@dataclass(frozen=True, eq=False)
class Removal:
    """Documents left out for a target query (its row; None: for all targets of the arm's name) in one training."""

    name: str
    arm: str
    query: int | None
    seed: int
    documents: Int[np.ndarray, "removed"]

    def left(self, documents: int) -> Left:
        """The training without them, of a corpus of so many documents."""
        kept = np.ones(documents, dtype=bool)
        kept[self.documents] = False
        return Left(kept, self.seed)


def plan_removals(
    scores: Mapping[str, Float[np.ndarray, "query document"]],
    targets: Mapping[int, Sequence[int]],
    pool: Int[np.ndarray, "pool"],
    *,
    k: int,
    name: str = "",
    seed: int = 0,
) -> list[Removal]:
    """All trainings: per target query (row) and its seeds one per method; per seed one with nothing, one with random.

    `targets` maps a query's row to the training seeds it is tried with. Random documents come from `pool`, the same
    number k. Raises RequestError where the pool or the corpus has too few.
    """
    documents = next(iter(scores.values())).shape[1]
    if not 0 < k < documents or len(pool) < k:
        raise RequestError(
            f"{k} documents are to be left out of {documents}, at random of {len(pool)}: give k from 1 to "
            f"{min(documents - 1, len(pool))}"
        )
    draw = np.random.default_rng([seed, 14])
    found = []
    for training in sorted({s for seeds in targets.values() for s in seeds}):
        found.append(Removal(name, NOTHING, None, training, np.empty(0, dtype=np.int64)))
        chosen = np.sort(draw.choice(pool, k, replace=False)).astype(np.int64)
        found.append(Removal(name, RANDOM, None, training, chosen))
    for query, seeds in targets.items():
        for method, each in scores.items():
            top = np.argsort(-each[query], kind="stable")[:k].astype(np.int64)
            found += [Removal(name, method, query, training, np.sort(top)) for training in seeds]
    return found


def removal_table(
    removals: Sequence[Removal],
    nll: Float[np.ndarray, "removal query"],
    targets: Mapping[int, Sequence[int]],
    queries: pd.DataFrame,
) -> pd.DataFrame:
    """One row per target, arm and seed: name, query, group, correct, arm, seed, removed, nll, fall (nats)."""
    measured = {
        (query, removal.arm, removal.seed): (removal, float(row[query]))
        for removal, row in zip(removals, nll, strict=True)
        for query, seeds in targets.items()
        if removal.seed in seeds and removal.query in (None, query)
    }
    rows = [
        {
            "name": removal.name,
            **{column: queries[column].iloc[query] for column in ("query", "group", "correct")},
            "arm": arm,
            "seed": training,
            "removed": len(removal.documents),
            "nll": value,
            "fall": value - measured[query, NOTHING, training][1],
        }
        for (query, arm, training), (removal, value) in measured.items()
    ]
    return pd.DataFrame(rows)


def removal_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Per name and arm: targets x seeds, mean NLL and fall, sd of the fall over seeds, seeds below random, their p.

    `below` of `seeds` seeds have a higher mean NLL than under random removal; `p` is the one-sided sign test.
    """
    rows = []
    for name, some in table.groupby("name", sort=False):
        by_seed = some.pivot_table(index="seed", columns="arm", values=["nll", "fall"], aggfunc="mean", sort=False)
        for arm in some["arm"].unique():
            ahead = by_seed["nll"][arm] - by_seed["nll"][RANDOM]
            below, n = int((ahead > 0).sum()), len(ahead)
            falls = by_seed["fall"][arm]
            rows.append(
                {
                    "name": name, "arm": arm, "trainings": int((some["arm"] == arm).sum()), "seeds": n,
                    "nll": float(by_seed["nll"][arm].mean()), "fall": float(falls.mean()),
                    "sd": float(falls.std(ddof=1)) if n > 1 else float("nan"),
                    "more_than_random": float(ahead.mean()), "below": below, "p": _sign(below, n),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _sign(successes: int, n: int) -> float:
    """P(as many or more heads of n fair coins)."""
    return float(binom.sf(successes - 1, n, 0.5))
