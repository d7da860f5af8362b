"""All heuristics of one operator in one table: which neurons carry each, and what ablating these neurons breaks.

Counts come from table `heuristics` (labels at the score threshold), accuracies from `knockouts_by_heuristic`, which a
sweep does not have. Both are correlation and intervention about the same names, so a row says at once how well a
heuristic is matched and whether it is needed. Two names that hold of the same legal prompts ("both = 1 mod 2" and
"result = 1 mod 2" of a product) are ablated as one, with the neurons of both: both rows show that ablation, and `same`
names the other.
"""

import numpy as np
import pandas as pd

from arithcirc.errors import RequestError
from arithcirc.explorer.source import MissingTable, Source
from arithcirc.viz.frames import flags, require
from arithcirc.viz.inside_outside import NUMBERS, in_out
from arithcirc.viz.masks import mask

COUNTS = ("matched", "significant", "best", "base_rate")
COLUMNS = ("heuristic", "family", *COUNTS, "end", *NUMBERS, "same")


def heuristic_table(source: Source, operator: str, ablation: str) -> tuple[pd.DataFrame, str | None]:
    """One row per heuristic, and why there are no accuracies (None: there are). Raises MissingTable for no labels.

    Columns heuristic, family, matched and significant (neurons), best (score) and its end, base_rate, those of
    `in_out`, and `same`: a heuristic that was ablated together with this one, else empty.
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
        table["same"] = ""
        return table.sort_values(["matched", "heuristic"], ascending=[False, True], ignore_index=True), problem
    table = counted.merge(broken.drop(columns="family"), on="heuristic", how="left")
    table = _together(source, operator, table)
    table = table.sort_values(["gap", "matched", "heuristic"], ascending=[False, False, True], ignore_index=True)
    return table[list(COLUMNS)], None


def _together(source: Source, operator: str, table: pd.DataFrame) -> pd.DataFrame:
    """Rows whose neurons were ablated with those of another name for the same prompts get its numbers and its name."""
    same = pd.Series("", index=table.index)
    other = table[table["neurons"] != table["matched"]]  # NaN too: ablated under the other name
    masks = {i: _held(source, operator, str(name)) for i, name in other["heuristic"].items()}
    for i in other.index[other["neurons"].isna()]:
        mine = masks[i]
        for j in other.index[other["neurons"].notna()]:
            theirs = masks[j]
            fewer = table.loc[j, "matched"] < table.loc[j, "neurons"] <= table.loc[[i, j], "matched"].sum()
            if fewer and mine is not None and theirs is not None and mine.any() and np.array_equal(mine, theirs):
                table.loc[i, list(NUMBERS)] = table.loc[j, list(NUMBERS)]
                same[i], same[j] = table.loc[j, "heuristic"], table.loc[i, "heuristic"]
                break
    return table.assign(same=same)


def _held(source: Source, operator: str, heuristic: str) -> np.ndarray | None:
    """Of which of the operator's prompts a heuristic holds; None where that cannot be told."""
    first, last = source.operands
    where = mask(heuristic, operator, first, (last - first + 1,) * 2)
    if where is None or not source.has("answers"):
        return None
    at = source.table("answers", operator)[["op1", "op2"]].to_numpy(dtype=np.int64) - first
    at = at[((at >= 0) & (at <= last - first)).all(axis=1)]
    return np.asarray(where[at[:, 0], at[:, 1]])


def _counted(source: Source, operator: str) -> pd.DataFrame:
    needed = ("operator", "layer", "neuron", "heuristic", "family", "score", "base_rate", "matched", "significant")
    rows = source.table("heuristics", operator)
    if not rows.empty:
        rows = require(rows, "heuristics", needed)
    rows = rows[flags(rows, "matched")]
    rows = rows.sort_values("score", ascending=False, kind="stable")
    who = rows["layer"].astype("int64") * 10_000_000 + rows["neuron"].astype("int64")
    grouped = rows.assign(who=who, who_sure=who.where(flags(rows, "significant"))).groupby("heuristic", sort=False)
    counted = pd.DataFrame(
        {
            "family": grouped["family"].first().astype(str),
            "matched": grouped["who"].nunique(),
            "significant": grouped["who_sure"].nunique(),
            "best": grouped["score"].max(),
            "base_rate": grouped["base_rate"].first(),
            "end": grouped["end"].first().astype(str) if "end" in rows.columns else "top",
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
