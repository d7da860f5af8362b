"""Does the model answer at all? Queries answered right by group and task, beside what chance gives.

Influence is asked about the model's own completions. Where it does not answer a group of queries, nothing is learnt of
how it answers them, whatever the scores look like; claims on such a group cannot be said (`unanswered`).

Chance: the completions are shuffled among the queries of one task (queries that are alone in their task: among each
other). `chance` is the share right on average over all orders, exactly; p = P(as many right or more) over ORDERS random
ones. A model that answers every query of a task alike gets no more than chance.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from arithcirc.influence.findings.matching import Matcher
from arithcirc.influence.study.completions import is_correct

ORDERS, ENOUGH, LEVEL = 2000, 5, 0.05
COLUMNS = ("group", "task", "queries", "right", "share", "chance", "p", "steps")


def accuracy(queries: pd.DataFrame, needs: Mapping[str, Sequence[str]], *, seed: int = 0) -> pd.DataFrame:
    """Table `accuracy` with COLUMNS, one row per group (task "") and one per task.

    `steps`: completions of reasoning queries that state every need, of those with needs (-1 where none has any).
    """
    rows, rng = [], np.random.default_rng([seed, 11])
    for group in queries["group"].unique():
        mine = queries[queries["group"] == group].reset_index(drop=True)
        asked = {name: some if group == "reasoning" else () for name, some in needs.items()}
        stated = [_states_all(row["completion"], asked[row["query"]]) for row in mine.to_dict("records")]
        sizes = mine.groupby("task")["task"].transform("size")
        parts = [cell.index.to_numpy() for _, cell in mine.groupby(mine["task"].where(sizes > 1, ""), sort=False)]
        found = [_shuffled(mine.loc[part], rng) for part in parts]
        rows.append(_row(str(group), "", mine, stated, found))
        for task, some in mine.groupby("task", sort=False):
            if task:
                kept = [stated[i] for i in some.index]
                rows.append(_row(str(group), str(task), some, kept, [_shuffled(some, rng)]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def unanswered(table: pd.DataFrame, group: str) -> str | None:
    """Why claims on a group cannot be said, in words; None where ENOUGH are answered, and more than chance gives."""
    rows = table[(table["group"] == group) & (table["task"] == "")]
    if rows.empty:
        return f"there are no {group} queries"
    row = rows.iloc[0]
    if row["right"] >= ENOUGH and row["p"] < LEVEL:
        return None
    only = "only " if row["right"] < ENOUGH else ""
    return (
        f"{only}{row['right']} of {row['queries']} {group} queries are answered right "
        f"(chance {row['chance']:.0%}, p = {row['p']:.2g})"
    )


def at_chance(table: pd.DataFrame, group: str) -> list[str]:
    """The tasks of a group that are answered no more than chance gives, in words; those of few queries cannot be told.

    `slope: 2 of 8 right, at chance (23%, p = 0.61)`.
    """
    rows = table[(table["group"] == group) & (table["task"] != "") & (table["queries"] >= ENOUGH)]
    return [
        f"{row['task']}: {row['right']} of {row['queries']} right, at chance ({row['chance']:.0%}, p = {row['p']:.2g})"
        for row in rows[rows["p"] >= LEVEL].to_dict("records")
    ]


def _shuffled(queries: pd.DataFrame, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Mean number right over all orders of these completions, and the number in each of ORDERS random ones."""
    right = _right(queries)
    n = len(queries)
    places = rng.permuted(np.tile(np.arange(n), (ORDERS, 1)), axis=1)
    return float(right.sum() / n), right[np.arange(n), places].sum(1)


def _right(queries: pd.DataFrame) -> Bool[np.ndarray, "query completion"]:
    """Whether each completion answers each query; its own as the study recorded it."""
    answers, said = (queries[name].fillna("").astype(str).tolist() for name in ("answer", "completion"))
    right = np.array([[is_correct(text, answer) for text in said] for answer in answers], dtype=bool)
    np.fill_diagonal(right, queries["correct"].astype(bool).to_numpy())
    return right


def _row(
    group: str, task: str, queries: pd.DataFrame, stated: Sequence[bool | None],
    found: Sequence[tuple[float, np.ndarray]],
) -> dict[str, object]:  # fmt: skip
    right, orders = int(queries["correct"].astype(bool).sum()), np.sum([counts for _, counts in found], axis=0)
    known = [one for one in stated if one is not None]
    return {
        "group": group, "task": task, "queries": len(queries), "right": right, "share": right / len(queries),
        "chance": sum(mean for mean, _ in found) / len(queries),
        "p": float((1 + (orders >= right).sum()) / (1 + ORDERS)), "steps": sum(known) if known else -1,
    }  # fmt: skip


def _states_all(completion: str | None, needs: Sequence[str]) -> bool | None:
    return set(needs) <= Matcher.of(needs).stated(completion or "") if needs else None
