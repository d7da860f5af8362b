"""The two tries of a trial, whole: half the documents many times, and the top documents of some queries.

Trainings are planned first and then done, so that their number can be told (`Trial.retraining.all` reports it) and
those on disk are not repeated. Of n documents, s subsets cost s / 2 trainings of the whole; a removal costs one per
target, method and seed, and two more per seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from arithcirc.errors import RequestError
from arithcirc.influence.truth.datamodels import datamodel_groups, datamodel_table, half_subsets
from arithcirc.influence.truth.removal import plan_removals, removal_groups, removal_table
from arithcirc.influence.truth.retraining import Left, Progress
from arithcirc.influence.truth.trial import Trial

Tables = tuple[pd.DataFrame, pd.DataFrame]


def judge_datamodels(
    trial: Trial, *, subsets: int = 50, against: str = "dot", seed: int = 0, workers: int = 1,
    progress: Progress | None = None,
) -> Tables:  # fmt: skip
    """LDS per query and method, and by group with intervals and gains (`datamodels`)."""
    kept = half_subsets(len(trial.documents), subsets, seed=seed)
    nll = trial.retraining.all([Left(row) for row in kept], workers=workers, progress=progress)
    groups = datamodel_groups(trial.scores, kept, nll, trial.queries, against=against, seed=seed)
    return datamodel_table(trial.scores, kept, nll, trial.queries), groups


def choose_targets(
    wanted: Bool[np.ndarray, "query"], seeds: Sequence[int], *, each: int = 1, seed: int = 0
) -> dict[int, list[int]]:
    """For every training seed `each` of the queries wanted, drawn without replacement as long as they last.

    Raises RequestError where none is wanted.
    """
    rows = np.flatnonzero(wanted)
    if not len(rows):
        raise RequestError("no query to try a removal with: none of this group, or none that was answered right")
    draw = np.random.default_rng([seed, 15])
    rounds = -(-each * len(seeds) // len(rows))
    order = np.concatenate([draw.permutation(rows) for _ in range(rounds)])
    found: dict[int, list[int]] = {}
    for place, training in enumerate(np.repeat(np.asarray(seeds), each)):
        mine = found.setdefault(int(order[place]), [])
        if int(training) not in mine:
            mine.append(int(training))
    return found


def judge_removals(
    trial: Trial, targets: Mapping[int, Sequence[int]], pool: Bool[np.ndarray, "document"], *, k: int, name: str = "",
    methods: Sequence[str] = ("ekfac", "dot", "bm25"), seed: int = 0, workers: int = 1,
    progress: Progress | None = None,
) -> Tables:  # fmt: skip
    """One row per target, arm and seed, and their means beside random removals (`removal`).

    Random documents are drawn from those of `pool`. Raises RequestError for methods without scores.
    """
    if unknown := [method for method in methods if method not in trial.scores]:
        raise RequestError(f"no scores by {unknown[0]!r}: there are {', '.join(trial.scores)}")
    scores = {method: trial.scores[method] for method in methods}
    plan = plan_removals(scores, targets, np.flatnonzero(pool), k=k, name=name, seed=seed)
    lefts = [removal.left(len(trial.documents)) for removal in plan]
    nll = trial.retraining.all(lefts, workers=workers, progress=progress)
    table = removal_table(plan, nll, targets, trial.queries)
    return table, removal_groups(table)
