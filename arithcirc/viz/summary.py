"""What a run found, as numbers read off its tables: one `OperatorSummary` per operator.

Nothing is judged here beyond comparing numbers: `reached` is F >= target on the evaluate prompts, `beats_random` is F
above every random circuit of the same size, and a head *carries* a part of the prompt to `=` when its effect there,
with only that part differing, is positive, more than twice its standard error, and at least a quarter of the strongest
head's. Whatever the tables do not hold stays None.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.effects import head_names

CARRIER_SHARE = 0.25
CARRIER_SEMS = 2.0
CARRIERS_SHOWN = 4


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on the prompts tried, beside what always giving the most frequent answer would get (None: unknown)."""

    n: int
    correct: int
    accuracy: float
    base_rate: float | None

    @property
    def beats_base_rate(self) -> bool | None:
        """The model does better than the most frequent answer; None when the base rate is unknown."""
        return None if self.base_rate is None else self.accuracy > self.base_rate

    @property
    def knows(self) -> bool:
        """The model does better than the base rate or, where that is unknown, answers half of the prompts correctly."""
        return self.accuracy >= 0.5 if self.base_rate is None else self.accuracy > self.base_rate


@dataclass(frozen=True)
class Faithfulness:
    """One row of the faithfulness table."""

    n_heads: int
    n: int
    undefined: int
    faithfulness: float
    sem: float
    ratio: float
    probability: float
    accuracy: float
    kl: float


@dataclass(frozen=True)
class RandomCircuits:
    """F of random circuits with as many heads as the chosen one."""

    draws: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Carrier:
    """A head and its effect at `=` when one part of the prompt differs, in nats of logit difference."""

    head: str
    mean: float
    sem: float


@dataclass(frozen=True)
class OperatorSummary:
    """What was found for one operator; None where a table is missing.

    `given`: the prompts come from a file and are used whether answered correctly or not. `reused` of the `n_evaluate`
    prompts to evaluate also served to choose the circuit.
    """

    operator: str
    skipped: str | None = None
    note: str | None = None
    given: bool = False
    n_evaluate: int = 0
    reused: int = 0
    accuracy: Accuracy | None = None
    n_heads: int | None = None
    total_heads: int | None = None
    n_mlps: int | None = None
    total_mlps: int | None = None
    evaluate: Faithfulness | None = None
    discover: Faithfulness | None = None
    whole: Faithfulness | None = None
    random: RandomCircuits | None = None
    target: float = 0.9
    carriers: dict[str, list[Carrier]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`+ addition`."""
        return theme.operator_title(self.operator)

    @property
    def reached(self) -> bool | None:
        """F on the evaluate prompts is at least the target; None when F is not known."""
        f = self.evaluate.faithfulness if self.evaluate else None
        return None if f is None or not np.isfinite(f) else f >= self.target

    @property
    def whole_model(self) -> bool:
        """The chosen circuit is all there is, so its F of 1 holds by construction and shows nothing."""
        every_head = self.total_heads is not None and self.n_heads == self.total_heads
        return every_head and self.n_mlps is not None and self.n_mlps == self.total_mlps

    @property
    def beats_random(self) -> bool | None:
        """F is above every random circuit of the same size; None when there is nothing to compare."""
        if self.evaluate is None or self.random is None or not np.isfinite(self.evaluate.faithfulness):
            return None
        return self.evaluate.faithfulness > self.random.high


def summarise(
    tables: dict[str, pd.DataFrame], *, total_heads: int | None, target: float, given: bool = False
) -> list[OperatorSummary]:
    """One summary per operator that any table names, in the order + - * /; `given`: its prompts come from a file."""
    named = (t["operator"] for t in tables.values() if "operator" in t.columns)
    operators = theme.ordered(o for column in named for o in column.unique() if o != "all")
    found = []
    for operator in operators:
        parts = {name: t[t["operator"] == operator] for name, t in tables.items() if "operator" in t.columns}
        found.append(_summary(operator, parts, total_heads, target, given))
    return found


def _summary(
    operator: str, parts: dict[str, pd.DataFrame], total_heads: int | None, target: float, given: bool
) -> OperatorSummary:
    accuracy, skipped, note = _accuracy(parts.get("accuracy"))
    n_evaluate, reused = _reused(parts.get("prompts"))
    chosen = {s: _chosen(parts.get("faithfulness"), s) for s in ("discover", "evaluate")}
    members = {kind: _members(parts.get("circuit"), kind) for kind in ("head", "mlp")}
    best = chosen["evaluate"] or chosen["discover"]
    n_heads = best.n_heads if best else members["head"][0]
    return OperatorSummary(
        operator=operator,
        skipped=skipped,
        note=note,
        given=given,
        n_evaluate=n_evaluate,
        reused=reused,
        accuracy=accuracy,
        n_heads=n_heads,
        total_heads=total_heads if total_heads is not None else members["head"][1],
        n_mlps=members["mlp"][0],
        total_mlps=members["mlp"][1],
        evaluate=chosen["evaluate"],
        discover=chosen["discover"],
        whole=_kind(parts.get("faithfulness"), "full"),
        random=_random(parts.get("faithfulness"), n_heads),
        target=target,
        carriers=carriers(parts["effects"]) if "effects" in parts else {},
    )


def carriers(effects: pd.DataFrame) -> dict[str, list[Carrier]]:
    """`{"op1": [heads], "operator": [...], "op2": [...]}` at `=`, strongest first, for one operator's effects."""
    found: dict[str, list[Carrier]] = {}
    wanted = (effects["kind"] == "head") & (effects["position"] == "equals") & (effects["metric"] == "logit_diff")
    for change in theme.CHANGE_COLOURS:
        rows = effects[wanted & (effects["change"] == change)]
        if rows.empty:
            continue
        rows = rows.assign(name=head_names(rows)).sort_values("mean", ascending=False, kind="stable")
        strongest = float(rows["mean"].iloc[0])
        sem = rows["sem"].astype(float).fillna(0.0)
        carried = rows[
            (rows["mean"] > 0) & (rows["mean"] >= CARRIER_SHARE * strongest) & (rows["mean"] > CARRIER_SEMS * sem)
        ]
        found[change] = [Carrier(str(r["name"]), float(r["mean"]), float(r["sem"])) for r in carried.to_dict("records")]
    return found


def reason(value: Any) -> str | None:
    """The text of a nullable string cell, None for null and empty."""
    return None if value is None or pd.isna(value) or not str(value).strip() else str(value)


def _accuracy(table: pd.DataFrame | None) -> tuple[Accuracy | None, str | None, str | None]:
    """The numbers, why the operator was skipped, and what else the stage had to say."""
    if table is None or table.empty:
        return None, None, None
    row = table.iloc[0]
    skipped, note = reason(row.get("skipped")), reason(row.get("note"))
    if pd.isna(row["n"]) or pd.isna(row["accuracy"]):
        return None, skipped, note
    base = None if pd.isna(row["base_rate"]) else float(row["base_rate"])
    return Accuracy(int(row["n"]), int(row["correct"]), float(row["accuracy"]), base), skipped, note


def _reused(table: pd.DataFrame | None) -> tuple[int, int]:
    """How many prompts there are to evaluate, and how many of them are among those to discover as well."""
    if table is None:
        return 0, 0
    discover, evaluate = (set(table.loc[table["set"] == s, "prompt"]) for s in ("discover", "evaluate"))
    return len(evaluate), len(evaluate & discover)


def _members(table: pd.DataFrame | None, kind: str) -> tuple[int | None, int | None]:
    """How many components of a kind are in the circuit, and how many there are."""
    if table is None or table.empty:
        return None, None
    rows = table[table["kind"] == kind]
    return int(rows["in_circuit"].astype(bool).sum()), len(rows)


def _chosen(table: pd.DataFrame | None, prompt_set: str) -> Faithfulness | None:
    if table is None:
        return None
    on_set = table[(table["set"] == prompt_set) & (table["circuit"] == "ranked") & table["chosen"].astype(bool)]
    return None if on_set.empty else _row(on_set.iloc[0])


def _kind(table: pd.DataFrame | None, circuit: str) -> Faithfulness | None:
    if table is None:
        return None
    rows = table[(table["circuit"] == circuit) & (table["set"] == "evaluate")]
    return None if rows.empty else _row(rows.iloc[0])


def _row(row: pd.Series) -> Faithfulness:
    names = ("faithfulness", "faithfulness_sem", "faithfulness_ratio", "probability", "accuracy", "kl")
    values = [float("nan") if pd.isna(row[name]) else float(row[name]) for name in names]
    return Faithfulness(int(row["n_heads"]), int(row["n"]), int(row["undefined"]), *values)


def _random(table: pd.DataFrame | None, n_heads: int | None) -> RandomCircuits | None:
    if table is None or n_heads is None:
        return None
    rows = table[(table["circuit"] == "random") & (table["n_heads"] == n_heads)]
    if (rows["set"] == "evaluate").any():
        rows = rows[rows["set"] == "evaluate"]
    values = rows["faithfulness"].dropna().astype(float)
    if values.empty:
        return None
    return RandomCircuits(len(values), float(values.mean()), float(values.min()), float(values.max()))
