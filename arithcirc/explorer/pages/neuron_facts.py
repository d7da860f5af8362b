"""What tables say about one neuron: its effect and rank, its labels, its neighbours in an order, its other lives.

Effects are exact and in nats of logit difference (table `neurons`); labels are rows of the table `heuristics`. A neuron
that no table names is still a neuron of the model: it has a map that a live model can compute.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.components import Neuron
from arithcirc.errors import RequestError
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.viz.frames import flags
from arithcirc.viz.label_order import best_first
from arithcirc.viz.neuron_maps import Marked

ORDERS = {"effect": "by effect", "layer": "by effect in its layer", "label": "with this label"}
"""In which order the arrow keys step through an operator's neurons."""
FAR = 60
"""Neurons on each side that a page knows of, so that keys pressed while the next one is drawn are not lost."""


@dataclass(frozen=True)
class Effect:
    """A row of the table `neurons`, and the rank over all layers."""

    effect: float
    std: float
    rank: int
    of_layer: int
    overall: int
    of_all: int
    important: bool


@dataclass(frozen=True)
class Facts:
    """One neuron under one operator, with its labels: best first, and by the key that addresses use."""

    operator: str
    neuron: Neuron
    effect: Effect | None
    labels: pd.DataFrame

    @property
    def keys(self) -> list[str]:
        """What each label is called: its name, with its end where both ends have it."""
        return self.labels["key"].tolist() if len(self.labels) else []

    @property
    def carried(self) -> int:
        """Labels at the threshold."""
        return int(flags(self.labels, "matched").sum()) if len(self.labels) else 0

    def label(self, key: str) -> Mapping[str, Any] | None:
        """The label a view names (by key, or by name alone), else the best one; None where there is none."""
        if not len(self.labels):
            return None
        named = self.labels[(self.labels["key"] == key) | (self.labels["heuristic"] == key)]
        rows = named if len(named) else self.labels
        return {str(k): v for k, v in rows.iloc[0].to_dict().items()}


def marked(label: Mapping[str, Any] | None) -> Marked | None:
    """The label as figures take it."""
    return None if label is None else Marked(str(label["heuristic"]), str(label["kind"]), str(label["end"]))


def effects(source: Source, operator: str) -> pd.DataFrame:
    """Exact effects of an operator's neurons, strongest first; empty where the run has none."""
    if not source.has("neurons"):
        return pd.DataFrame(columns=["layer", "neuron", "effect", "std", "rank", "important"])
    rows = source.table("neurons", operator)
    rows = rows[(rows["method"] == "exact") & (rows["metric"] == "logit_diff")]
    order = rows["effect"].abs().sort_values(ascending=False, kind="stable").index
    return rows.loc[order].reset_index(drop=True)


def chosen(view: View, source: Source, ranked: pd.DataFrame) -> Neuron:
    """The neuron an address names, else the operator's strongest. Raises RequestError for one that is not there."""
    layer, index = view.whole("layer"), view.whole("neuron")
    if layer is None or index is None:
        return _first(source, view.op, ranked if layer is None else ranked[ranked["layer"] == layer])
    n_layers, width = source.model.get("n_layers"), source.model.get("d_mlp")
    if layer < 0 or index < 0 or layer >= (n_layers or 10_000) or index >= (width or 10_000_000):
        raise RequestError(
            f"L{layer}N{index} is not in this model: layers are 0..{(n_layers or 1) - 1}, "
            f"neurons 0..{(width or 1) - 1}; choose one on page Neurons"
        )
    return Neuron(layer, index)


def _first(source: Source, operator: str, ranked: pd.DataFrame) -> Neuron:
    """The strongest neuron that has a label, else the strongest."""
    if not source.has("neurons"):
        source.table("neurons")  # raises what makes it
    if ranked.empty:
        raise RequestError(
            f"no neuron was measured here under {operator}: choose another operator or checkpoint above, or write "
            "layer and neuron into the address"
        )
    held = ranked
    if source.has("heuristics"):
        rows = source.table("heuristics", operator)
        labelled = rows[flags(rows, "matched")][["layer", "neuron"]].drop_duplicates()
        both = ranked.merge(labelled, on=["layer", "neuron"])
        held = both if len(both) else ranked
    return Neuron(int(held["layer"].iloc[0]), int(held["neuron"].iloc[0]))


def facts(source: Source, operator: str, neuron: Neuron, ranked: pd.DataFrame | None = None) -> Facts:
    """Everything the tables say about one neuron."""
    ranked = effects(source, operator) if ranked is None else ranked
    return Facts(operator, neuron, _effect(ranked, neuron), labels(source, operator, neuron))


def _effect(ranked: pd.DataFrame, neuron: Neuron) -> Effect | None:
    mine = (ranked["layer"] == neuron.layer) & (ranked["neuron"] == neuron.index)
    if not mine.any():
        return None
    at = int(mine.to_numpy().argmax())
    row = ranked.iloc[at]
    of_layer = int((ranked["layer"] == neuron.layer).sum())
    rank = int(row["rank"]) if pd.notna(row["rank"]) else 0
    return Effect(
        float(row["effect"]),
        float(row["std"]),
        rank,
        of_layer,
        at + 1,
        len(ranked),
        bool(flags(ranked, "important")[at]),
    )


def rows_of(source: Source, table: str, operator: str, neuron: Neuron) -> pd.DataFrame:
    """A table's rows about one neuron under one operator, to write into."""
    rows = source.table(table, operator)
    mine = (rows["layer"].to_numpy() == neuron.layer) & (rows["neuron"].to_numpy() == neuron.index)
    return rows.iloc[np.flatnonzero(mine)].copy()


def labels(source: Source, operator: str, neuron: Neuron) -> pd.DataFrame:
    """The neuron's labels, best first (`viz.label_order`), with a column `key`."""
    if not source.has("heuristics"):
        return pd.DataFrame()
    rows = rows_of(source, "heuristics", operator, neuron)
    if rows.empty:
        return rows
    rows["significant"], rows["matched"] = flags(rows, "significant"), flags(rows, "matched")
    rows = best_first(rows)
    twice = rows["heuristic"].duplicated(keep=False)
    ends = zip(rows["heuristic"], rows["end"], twice, strict=True)
    rows["key"] = [f"{name} ({end})" if both else str(name) for name, end, both in ends]
    return rows


# -- neighbours --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neighbours:
    """The neurons before and after in an order, with this one's place in it; the strongest of the layers beside.

    `way` are those up to `FAR` steps away, in order, and `at` is this one's place among them (-1: not in the order).
    """

    before: Neuron | None
    after: Neuron | None
    place: int
    total: int
    below: Neuron | None
    above: Neuron | None
    way: tuple[tuple[int, int], ...] = ()
    at: int = -1


def neighbours(source: Source, of: Facts, order: str, label: str, ranked: pd.DataFrame) -> Neighbours:
    """Where the arrow keys lead. `label` is the heuristic whose neurons the order `label` steps through."""
    rows = ranked
    if order == "layer":
        rows = ranked[ranked["layer"] == of.neuron.layer]
    elif order == "label" and label and source.has("heuristics"):
        rows = source.table("heuristics", of.operator)
        rows = rows[(rows["heuristic"] == label).to_numpy() & flags(rows, "matched")]
        rows = rows.sort_values("score", ascending=False, kind="stable").drop_duplicates(["layer", "neuron"])
    held = list(zip(rows["layer"].tolist(), rows["neuron"].tolist(), strict=True))
    here = (of.neuron.layer, of.neuron.index)
    at = held.index(here) if here in held else None
    before = Neuron(*held[at - 1]) if at else None
    after = Neuron(*held[at + 1]) if at is not None and at + 1 < len(held) else None
    if at is None and held:
        after = Neuron(*held[0])
    below, above = (_strongest(ranked, of.neuron.layer + step) for step in (-1, 1))
    start = max(0, (0 if at is None else at) - FAR)
    way = tuple((int(layer), int(n)) for layer, n in held[start : start + 2 * FAR + 1])
    place = 0 if at is None else at + 1
    return Neighbours(before, after, place, len(held), below, above, way, -1 if at is None else at - start)


def _strongest(ranked: pd.DataFrame, layer: int) -> Neuron | None:
    rows = ranked[ranked["layer"] == layer]
    return Neuron(layer, int(rows["neuron"].iloc[0])) if len(rows) else None


# -- over checkpoints --------------------------------------------------------------------------------------------------


def over_steps(source: Source, operator: str, neuron: Neuron, table: str) -> pd.DataFrame:
    """The neuron's rows of a sweep's table at every checkpoint of its model, on each checkpoint's own prompts."""
    at = source.checkpoint
    if at is None or not source.has(table):
        return pd.DataFrame(columns=["revision"])
    rows = source.all_steps(table)
    held = (rows["model"] == at.model) & (rows["operator"] == operator)
    held &= (rows["layer"] == neuron.layer) & (rows["neuron"] == neuron.index)
    if "prompts" in rows.columns:
        held &= rows["prompts"] == "own"
    if "metric" in rows.columns:
        held &= (rows["metric"] == "logit_diff") & (rows["method"] == "exact")
    return rows[held].reset_index(drop=True)
