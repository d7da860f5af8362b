"""Finding 3: is the answer among the documents that drive it? The best rank of a document that states each need.

A factual query needs one statement, a reasoning query one per step, which may stand in separate documents; the answer
is found in full when every need is stated within the top k. Who states a need is known in two ways (`by`): the
document's own list, and exact matching in its text. Base rate: the same documents at random ranks, exactly
(hypergeometric; all needs at once by inclusion and exclusion). A need that no document states cannot be found.

Ranks count from 0 and average over ties, so that BM25's many zeros are no early rank. That an answer is found does not
say that the model uses it; that it is not found does not say that the model reasons.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from arithcirc.influence.findings.chance import all_in_top, at_least, in_top, share_interval
from arithcirc.influence.findings.magnitude import sides
from arithcirc.influence.findings.ranking import ranks_of

NONE = -1.0
"""`best_rank` of a need that no document states."""


def search(
    scores: Float32[np.ndarray, "document"],
    ordered: Float32[np.ndarray, "document"],
    needs: Sequence[str],
    holders: Mapping[str, np.ndarray],
    k: int,
) -> list[dict[str, Any]]:
    """Rows of one query: need, documents that state it, best_rank, k, found, and its base_rate and p at random ranks.

    `ordered` are the same scores, ascending; p = P(a random order has a best rank as good).
    """
    rows = []
    for need in needs:
        stating = holders.get(need, np.zeros(0, np.int64))
        best = float(ranks_of(ordered, scores[stating]).min()) if len(stating) else NONE
        rows.append({
            "need": need, "documents": len(stating), "best_rank": best, "k": k, "found": bool(0 <= best < k),
            "base_rate": in_top(len(scores), len(stating), k),
            "p": in_top(len(scores), len(stating), math.floor(best) + 1) if len(stating) else 1.0,
        })  # fmt: skip
    return rows


def answer_groups(
    answers: pd.DataFrame,
    needs: Mapping[str, Sequence[str]],
    ways: Mapping[str, Mapping[str, np.ndarray]],
    documents: int,
) -> pd.DataFrame:
    """Share of queries whose answer is found in full, by group, correct, method and `by`.

    `possible`: queries whose needs are all stated somewhere. `base_rate`: mean chance over queries; p = P(as many found
    or more) at those chances; `low`, `high`: Wilson's interval of the rate. `steps`, `steps_found`: single needs.
    """
    chances: dict[tuple[str, str, int], float] = {}
    rows = []
    for group, side, some in sides(answers):
        for (method, by), part in some.groupby(["method", "by"], sort=False):
            found, chance, possible = [], [], 0
            for query, steps in part.groupby("query", sort=False):
                k = int(steps["k"].iloc[0])
                key = (str(query), str(by), k)
                if key not in chances:
                    stating = [ways[str(by)].get(need, np.zeros(0, np.int64)) for need in needs[str(query)]]
                    chances[key] = all_in_top(documents, stating, k)
                found.append(bool(steps["found"].all()))
                chance.append(chances[key])
                possible += bool((steps["documents"] > 0).all())
            low, high = share_interval(np.array([sum(found)]), len(found))
            rows.append({
                "group": group, "correct": side, "method": method, "by": by, "k": k, "queries": len(found),
                "possible": possible, "found_all": sum(found), "rate": sum(found) / len(found),
                "base_rate": float(np.mean(chance)), "low": float(low[0]), "high": float(high[0]),
                "p": at_least(sum(found), chance),
                "steps": len(part), "steps_found": int(part["found"].sum()),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(_GROUPS))


_GROUPS = (
    "group", "correct", "method", "by", "k", "queries", "possible", "found_all", "rate", "base_rate", "low", "high",
    "p", "steps", "steps_found",
)  # fmt: skip
