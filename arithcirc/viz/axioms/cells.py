"""The table `cells` put together for figures and words: a row for each set and whoever answered it, over seeds.

`low` and `high` are the ends of the 95 % interval clustered by graph; of several seeds, the lowest and the highest end
of any. Only trainings that count are taken. `who` is the kind of positions, or the shortcut's name.
"""

import numpy as np
import pandas as pd

from arithcirc.viz.axioms import names
from arithcirc.viz.frames import RunData, column, has, numbers, require
from arithcirc.viz.influence.names import in_order

NEEDED = ("kind", "model", "mix", "positions", "set", "family", "nodes", "accuracy", "low", "high")
TRAINED = (3, 6)
"""Nodes of the training chains where the study does not say."""


def trained(data: RunData) -> tuple[int, int]:
    """Smallest and largest chain of training."""
    ends = data.setting("recipe", "chain_lengths", TRAINED)
    return int(ends[0]), int(ends[-1])


def counted(cells: pd.DataFrame) -> pd.DataFrame:
    """Rows of trainings that count and of shortcuts. Raises RequestError for a table without the columns."""
    rows = require(cells, "cells", NEEDED)
    kept: pd.DataFrame = rows[column(rows, "counted", True).astype("boolean").fillna(True).to_numpy(dtype=bool)]
    return kept


def who_and_what(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Columns kind, mix, who (positions, or the shortcut's name), set, nodes; shortcuts have an empty mix."""
    shortcut = (rows["kind"] == "shortcut").to_numpy()
    return {
        "kind": rows["kind"].astype(str).to_numpy(),
        "mix": np.where(shortcut, "", rows["mix"].astype(str)),
        "who": np.where(shortcut, rows["model"].astype(str), rows["positions"].astype(str)),
        "set": rows["set"].astype(str).to_numpy(),
        "nodes": rows["nodes"].astype(int).to_numpy(),
    }


def over_seeds(cells: pd.DataFrame, *, measure: str) -> pd.DataFrame:
    """Columns: kind, mix, who, set, nodes, value, low, high, seeds, values, questions; without rows that have no value.

    Shortcuts have an empty mix.
    """
    rows = counted(cells)
    value, low, high = numbers(rows, names.COLUMNS[measure]).T
    questions = numbers(rows, ["questions" if measure == "accuracy" else "hard_questions"])[:, 0]
    made = pd.DataFrame(who_and_what(rows) | {"value": value, "low": low, "high": high, "questions": questions})
    made = made[np.isfinite(made["value"])]
    keys = ["kind", "mix", "who", "set", "nodes"]
    found: pd.DataFrame = made.groupby(keys, sort=False, as_index=False).agg(
        seeds=("value", "size"), values=("value", list), value=("value", "mean"), low=("low", "min"),
        high=("high", "max"), questions=("questions", "sum"),
    )  # fmt: skip
    return found


def of_mix(table: pd.DataFrame, mix: str) -> dict[str, pd.DataFrame]:
    """Of a table of `over_seeds`, whoever is drawn for a mix: its models by kind of positions, then the shortcuts."""
    models = table[(table["kind"] == "model") & (table["mix"] == mix)]
    shortcuts = table[table["kind"] == "shortcut"]
    found = {who: part for who in in_order(models["who"], names.POSITIONS) if len(part := models[models["who"] == who])}
    return found | {who: shortcuts[shortcuts["who"] == who] for who in in_order(shortcuts["who"], names.SHORTCUTS)}


def mixes(data: RunData) -> dict[str, str]:
    """The mixes that were asked, as choices."""
    if not has(data.tables, "cells", "kind", "mix"):
        return {}
    cells = data.tables["cells"]
    return {m: names.MIXES.get(m, m) for m in in_order(cells.loc[cells["kind"] == "model", "mix"], names.MIXES)}


def measures(data: RunData) -> dict[str, str]:
    """The measures that have numbers, as choices."""
    held = data.tables.get("cells", pd.DataFrame())
    return {m: label for m, label in names.MEASURES.items() if column(held, names.COLUMNS[m][0]).notna().any()}
