"""What a run or checkpoint found, per operator, as one value: read by the overviews and by the comparison.

`Tables` is what a run looks like from here: the explorer's source and the static export's each are one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.frames import RunData, has, numbers
from arithcirc.viz.knockouts import comparable
from arithcirc.viz.summary import OperatorSummary, summarise
from arithcirc.viz.verdicts import QUOTED, Prediction, verdicts

TABLES = (
    "accuracy", "circuit", "faithfulness", "first_layers", "label_summary", "knockouts_by_prompt", "bag_of_heuristics",
)  # fmt: skip


@runtime_checkable
class Tables(Protocol):
    """A run, or a sweep at one of its checkpoints: its tables by name, and how to get those it lacks."""

    @property
    def sweep(self) -> bool:
        """It is a checkpoint of a sweep."""

    @property
    def checkpoint(self) -> Any:
        """Of a sweep: `model` and `revision`; else None."""

    @property
    def model(self) -> dict[str, Any]:
        """Facts about the model."""

    @property
    def operators(self) -> list[str]:
        """Operators with any result, in the usual order."""

    def has(self, name: str) -> bool:
        """The table is there and can be read."""

    def damaged(self, name: str, /) -> bool:
        """The table is there and cannot be read."""

    def table(self, name: str, operator: str | None = None) -> pd.DataFrame:
        """A table, of one operator if given; not to be written into."""

    def data(self, *tables: str) -> RunData:
        """Some tables, as far as they exist, with the configuration."""

    def command(self, table: str) -> str:
        """The command line that makes a table."""

    def maps(self, operator: str) -> Any:
        """The operator's stored activation maps; None where there are none."""


@dataclass(frozen=True)
class Facts:
    """One operator; None where a table is missing.

    `by_prompt` has the accuracies `targeted` and `random` after zeroing neurons by prompt, with their `per_layer`,
    `neurons`, `n` and `p` (McNemar), and `mean`, that of the targeted ones when they are replaced by their means.
    `verdict` is the word for all predictions of the bag of heuristics.
    """

    operator: str
    summary: OperatorSummary | None = None
    first_layer: pd.Series | None = None
    labels: pd.Series | None = None
    by_prompt: Mapping[str, float] | None = None
    verdict: str | None = None
    predictions: tuple[Prediction, ...] = field(default=())
    threshold: float = 0.6
    level: float = 0.01

    @property
    def labelled(self) -> float | None:
        """Share of the important neurons with a significant label."""
        if self.labels is None or not self.labels["important"]:
            return None
        return float(self.labels["significant"] / self.labels["important"])


def gather(source: Tables, only: str | None = None) -> dict[str, Facts]:
    """Facts per operator, in the usual order, or of one operator."""
    data = source.data(*TABLES)
    if only is not None:
        data = replace(data, tables={name: table[table["operator"] == only] for name, table in data.tables.items()})
    target = float(data.setting("circuit", "target", 0.9))
    layers, heads = source.model.get("n_layers"), source.model.get("n_heads")
    total = int(layers) * int(heads) if layers and heads else None
    given = data.setting("prompts", "pairs", None) is not None
    summaries = {
        s.operator: s for s in summarise(dict(data.tables), total_heads=total, target=target, given=given)
    }  # fmt: skip
    judged = {v.operator: v for v in verdicts(data)}
    found = {}
    for operator in source.operators if only is None else [only]:
        verdict = judged.get(operator)
        found[operator] = Facts(
            operator,
            summary=summaries.get(operator),
            first_layer=_row(data, "first_layers", operator, ("layer", "accuracy", "best", "base_rate")),
            labels=_row(data, "label_summary", operator, ("important", "matched", "significant", "unlabelled")),
            by_prompt=_by_prompt(data, operator),
            verdict=verdict.word if verdict else None,
            predictions=tuple(verdict.predictions) if verdict else (),
            threshold=data.threshold,
            level=data.level,
        )
    return found


def absent(source: Tables, table: str, operator: str) -> tuple[str, str | None]:
    """Why a table has nothing for the operator, and the command that makes it, where one does."""
    name = theme.OPERATOR_NAMES.get(operator, operator)
    if source.damaged(table):
        return f"{table}.parquet is damaged: make it again, then reload", source.command(table)
    if not source.sweep:
        command = source.command(table)
        return f"the stage that makes table {table!r} has not run, or found nothing for {name}", command
    at = source.checkpoint
    if source.has("tasks") and at is not None:
        tasks = source.table("tasks")
        mine = tasks[
            (tasks["model"] == at.model) & (tasks["revision"] == at.revision) & (tasks["operator"] == operator)
        ]
        reasons = [str(r) for r in mine["reason"].dropna() if str(r)] if "reason" in mine.columns else []
        if reasons:
            return f"{at.revision} has none for {name}: {theme.prose(reasons[0])}", None
    return f"this sweep has no {table.replace('_', ' ')} for {name} at {at.revision if at else 'this checkpoint'}", None


def _row(data: RunData, name: str, operator: str, columns: tuple[str, ...]) -> pd.Series | None:
    """The operator's one row; None where the table, a column or a number is missing."""
    if not has(data.tables, name, "operator", *columns):
        return None
    rows = data.tables[name]
    rows = rows[rows["operator"] == operator].dropna(subset=list(columns))
    return None if rows.empty else rows.iloc[0]


def _by_prompt(data: RunData, operator: str) -> dict[str, float] | None:
    """Zero ablation at the largest size, up to `QUOTED` per layer, at which random neurons are as many."""
    if not has(data.tables, "knockouts_by_prompt", "operator", "ablation", "arm", "per_layer", "accuracy"):
        return None
    rows = data.tables["knockouts_by_prompt"]
    rows = rows[rows["operator"] == operator]
    if "labels" in rows.columns:
        rows = rows[rows["labels"] == data.setting("knockout", "labels", "matched")]
    by_mean = rows[(rows["ablation"] == "mean") & (rows["arm"] == "targeted")]
    rows = rows[rows["ablation"] == "zero"]
    if rows.empty:
        return None
    rows = comparable(rows)
    arms = {arm: rows[rows["arm"] == arm].drop_duplicates("per_layer").set_index("per_layer") for arm in _ARMS}
    sizes = sorted(set(arms["targeted"].index) & set(arms["random"].index))
    small = [size for size in sizes if size <= QUOTED] or sizes[:1]
    if not small:
        return None
    ours, theirs = (numbers(arms[arm].loc[[small[-1]]], ["accuracy", "neurons", "n", "p"])[0] for arm in _ARMS)
    if not (np.isfinite(ours[0]) and np.isfinite(theirs[0])):
        return None
    mean = numbers(by_mean[by_mean["per_layer"] == small[-1]], ["accuracy"])[:, 0]
    return {
        "targeted": float(ours[0]), "random": float(theirs[0]), "per_layer": float(small[-1]),
        "neurons": float(ours[1]), "n": float(ours[2]), "p": float(theirs[3]),
        "mean": float(mean[0]) if len(mean) else float("nan"),
    }  # fmt: skip


_ARMS = ("targeted", "random")
