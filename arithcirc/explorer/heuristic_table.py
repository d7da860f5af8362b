"""All heuristics of one operator in one table: which neurons carry each, and what ablating these neurons breaks.

Counts come from table `heuristics` (labels at the score threshold), accuracies from `knockouts_by_heuristic`, which a
sweep does not have. Both are correlation and intervention about the same names, so a row says at once how well a
heuristic is matched and whether it is needed.
"""

import numpy as np
import pandas as pd

from arithcirc.errors import RequestError
from arithcirc.explorer.source import MissingTable, Source
from arithcirc.viz.frames import flags, require
from arithcirc.viz.inside_outside import NUMBERS, in_out
from arithcirc.viz.masks import mask

COUNTS = ("matched", "significant", "best", "base_rate")
COLUMNS = ("heuristic", "family", *COUNTS, *NUMBERS)


def heuristic_table(source: Source, operator: str, ablation: str) -> tuple[pd.DataFrame, str | None]:
    """One row per heuristic, and why there are no accuracies (None: there are). Raises MissingTable for no labels.

    Columns heuristic, family, matched and significant (neurons), best (score), base_rate, and those of `in_out`.
    """
    counted = _counted(source, operator)
    try:
        broken = in_out(source.table("knockouts_by_heuristic"), operator, ablation)
        problem = None
    except MissingTable as error:
        broken, problem = None, _lacking(source, error)
    except RequestError as error:
        broken, problem = None, str(error)
    if broken is None:
        table = counted.reindex(columns=list(COLUMNS))
        table[list(NUMBERS)] = np.nan
        return table.sort_values(["matched", "heuristic"], ascending=[False, True], ignore_index=True), problem
    table = counted.merge(broken.drop(columns="family"), on="heuristic", how="left")
    table = table.sort_values(["gap", "matched", "heuristic"], ascending=[False, False, True], ignore_index=True)
    return table[list(COLUMNS)], None


def _counted(source: Source, operator: str) -> pd.DataFrame:
    needed = ("operator", "layer", "neuron", "heuristic", "family", "score", "base_rate", "matched", "significant")
    rows = source.table("heuristics", operator)
    if not rows.empty:
        rows = require(rows, "heuristics", needed)
    rows = rows[flags(rows, "matched")]
    who = rows["layer"].astype("int64") * 10_000_000 + rows["neuron"].astype("int64")
    grouped = rows.assign(who=who, who_sure=who.where(flags(rows, "significant"))).groupby("heuristic", sort=False)
    counted = pd.DataFrame(
        {
            "family": grouped["family"].first().astype(str),
            "matched": grouped["who"].nunique(),
            "significant": grouped["who_sure"].nunique(),
            "best": grouped["score"].max(),
            "base_rate": grouped["base_rate"].first(),
        }
    )
    return counted.reset_index(names="heuristic")


def _lacking(source: Source, error: MissingTable) -> str:
    if source.sweep:
        return (
            "a sweep does not ablate heuristics one by one, so there is no accuracy inside and outside here: "
            "analyse this checkpoint with 'arithcirc analyze' to get it"
        )
    return str(error)


def example(source: Source, operator: str, heuristic: str | None = None) -> str | None:
    """A prompt that the model answers correctly and, if it can be told, the heuristic holds of; None for none known."""
    needed = {"op1", "op2", "correct"}
    if not source.has("answers"):
        return None
    rows = source.table("answers", operator)
    if rows.empty or not needed <= set(rows.columns):
        return None
    rows = rows[flags(rows, "correct")]
    first, last = source.operands
    where = mask(heuristic, operator, first, (last - first + 1,) * 2) if heuristic else None
    if where is not None:
        at = rows[["op1", "op2"]].to_numpy(dtype=np.int64) - first
        legal = ((at >= 0) & (at <= last - first)).all(axis=1)
        rows = rows[legal][where[at[legal, 0], at[legal, 1]]]
    if rows.empty:
        return None
    row = rows.iloc[len(rows) // 2]
    return f"{int(row['op1'])}{operator}{int(row['op2'])}="


def carriers(source: Source, operator: str, heuristic: str) -> pd.DataFrame:
    """The neurons with this label, by score: layer, neuron, end, score, base_rate, q, significant, effect, rank."""
    rows = source.table("heuristics", operator)
    rows = rows[(rows["heuristic"] == heuristic).to_numpy() & flags(rows, "matched")]
    rows = rows[["layer", "neuron", "end", "score", "base_rate", "q", "significant"]]
    if source.has("neurons"):
        all_ = source.table("neurons", operator)
        exact = all_[(all_["method"] == "exact") & (all_["metric"] == "logit_diff")]
        rows = rows.merge(exact[["layer", "neuron", "effect", "rank"]], on=["layer", "neuron"], how="left")
    ordered: pd.DataFrame = rows.sort_values(
        ["score", "layer", "neuron"], ascending=[False, True, True], ignore_index=True
    )
    return ordered
