"""The tables of a study, put together from the stages of its models.

cells       answers to each evaluation set, models and shortcuts       (answers.py)
hops        the same by length of the shortest path
training    losses and exams on the way                                (jobs.py)
models      one row a training: seeds, whether it counts, whether it learned, weights, time
bars        what was expected, and whether it holds                    (bars.py)
published   the paper's numbers and those of other models              (published.py)
"""

from typing import Any

import pandas as pd

from arithcirc.axioms.published import published_table
from arithcirc.axioms.study.bars import judge
from arithcirc.store import RunFolder

TABLES = ("cells", "hops", "training", "models", "bars", "published")
MODELS = (
    "model", "mix", "positions", "seed", "asked_seed", "counted", "learned", "steps", "seconds", "weights", "folder",
    "left_out",
)  # fmt: skip
"""Columns of the table `models`; `learned` is the accuracy that decides whether a training is repeated."""
_STAGE = "model/"


def write_tables(run: RunFolder, *, demanded: bool) -> None:
    """Write every table from the stages that are whole. `demanded`: the bars are about these models."""
    stages = [stage for stage in run.manifest["stages"] if stage.startswith(_STAGE) and run.finished(stage)]
    models = _models([run.manifest["stages"][stage]["model"] for stage in stages])
    counted = set(models.loc[models["counted"], "model"])
    names = list(models["model"])
    made: dict[str, pd.DataFrame] = {"models": models, "published": published_table()}
    for name in ("cells", "hops"):
        parts = [run.table(f"parts/{model}.{name}") for model in (*names, "shortcuts")]
        every = pd.concat(parts, ignore_index=True)
        every["counted"] = every["model"].isin(counted) | (every["kind"] == "shortcut")
        made[name] = every
    trainings = [run.table(f"parts/{model}.training") for model in names]
    made["training"] = pd.concat(trainings, ignore_index=True) if trainings else pd.DataFrame()
    made["bars"] = judge(made["cells"], demanded=demanded)
    files = [run.write_table(name, made[name]) for name in TABLES if len(made[name].columns)]
    run.finish("tables", files)


def _models(facts: list[dict[str, Any]]) -> pd.DataFrame:
    """A row a model, ordered by what was asked; of several attempts the last one counts."""
    last: dict[tuple[str, str, int], int] = {}
    for row in facts:
        key = row["mix"], row["positions"], row["asked_seed"]
        last[key] = max(last.get(key, -1), row["seed"])
    rows = [row | {"counted": last[row["mix"], row["positions"], row["asked_seed"]] == row["seed"]} for row in facts]
    made = pd.DataFrame(rows, columns=list(MODELS)).astype({"seed": "int64", "asked_seed": "int64", "counted": "bool"})
    return made.sort_values(["asked_seed", "mix", "positions", "seed"], ignore_index=True)
