"""What a sweep's page is drawn from: its tables by name, its models in order, and the axis of each model's checkpoints.

Large tables are read in part: of the effects only the rows that maps show. A checkpoint is known by its revision; its
place on an axis is its ordinal in the manifest's order, so that a sweep of revisions without steps can be drawn too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.catalogue import SweepFolder
from arithcirc.viz import theme
from arithcirc.viz.emergence.axis import StepAxis
from arithcirc.viz.frames import RunData, has

MADE_BY: dict[str, str] = {
    "tasks": "circuit", "steps": "circuit", "accuracy": "circuit", "effects": "circuit", "overlap": "circuit",
    "families": "heuristics", "births": "heuristics", "jumps": "heuristics", "kept_faithfulness": "heuristics",
    "knockouts_by_prompt": "heuristics", "verdict": "heuristics",
}  # fmt: skip
"""The tables the page reads, with the smallest `--stages` of a sweep that makes them."""

PROMPTS = {"shared": "shared with the reference", "own": "each checkpoint’s own"}
WHOSE = {"shared": "prompts shared with the reference", "own": "each checkpoint’s own prompts"}
"""The same, as a figure's title has it."""
LABELS = {"significant": "significant", "matched": "matched"}
FEWEST = 10
"""Fewer prompts than this behind a point, and its mark is hollow."""
FEW_PAIRS = 20
"""Fewer significant pairs than this at the references, and matched labels are shown first."""

_EFFECTS = (
    "select model, revision, prompts, operator, position, layer, kind, head, mean from effects "
    "where metric = 'logit_diff' and change = 'any'"
)


@dataclass(frozen=True)
class SweptModel:
    """One model of a sweep: its name, its checkpoints in order, and the one the others are compared with."""

    name: str
    axis: StepAxis
    reference: str
    note: str | None = None


@dataclass(frozen=True)
class SweepData(RunData):
    """Tables, settings (as `config`) and models of a sweep."""

    models: tuple[SweptModel, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    _placed: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def model(self, name: str) -> SweptModel:
        """The model of that name."""
        return next(m for m in self.models if m.name == name)

    @cached_property
    def operators(self) -> list[str]:
        """The operators asked for, in the order + - * /."""
        return theme.ordered(self.manifest.get("operators") or ())

    @cached_property
    def label_order(self) -> dict[str, str]:
        """The label kinds, the one shown first in front."""
        few = False
        if has(self.tables, "steps", "pairs_significant", "revision", "model", "prompts"):
            steps = self.tables["steps"]
            ends = [(m.name, m.reference) for m in self.models]
            at = [pair in ends for pair in zip(steps["model"], steps["revision"], strict=True)]
            rows = steps[pd.Series(at, index=steps.index) & (steps["prompts"] == "own")]
            few = float(rows["pairs_significant"].fillna(0).sum()) < FEW_PAIRS
        return dict(sorted(LABELS.items())) if few else dict(LABELS)

    def rows(self, table: str, **where: Any) -> pd.DataFrame:
        """Rows of a table with these values and the checkpoint's `place`; without rows where the table is not there."""
        if table not in self.tables or not {"model", "revision", *where} <= set(self.tables[table].columns):
            return pd.DataFrame()
        found = self.placed(table)
        if where:
            held = np.ones(len(found), dtype=bool)
            for name, value in where.items():
                held &= (found[name] == value).to_numpy(dtype=bool, na_value=False)
            found = found[held]
        return found

    def placed(self, table: str) -> pd.DataFrame:
        """A table with the `place` of each row's checkpoint, in that order; rows of other checkpoints left out."""
        if table not in self._placed:
            found = self.tables[table]
            place = {(m.name, r): i for m in self.models for i, r in enumerate(m.axis.revisions)}
            keys = zip(found["model"], found["revision"], strict=True)
            found = found.assign(place=[place.get(key, -1) for key in keys])
            self._placed[table] = found[found["place"] >= 0].sort_values("place", kind="stable")
        return self._placed[table]


def read_sweep(folder: SweepFolder, names: Sequence[str] | None = None) -> SweepData:
    """The tables the page needs, as far as they exist, or those of `names` alone. Raises RequestError for damage."""
    held = set(folder.tables() if names is None else names)
    tables = {name: folder.table(name) for name in MADE_BY if name in held and name != "effects"}
    if "effects" in held:
        tables["effects"] = folder.sql(_EFFECTS)
    settings = dict(folder.manifest.get("settings", {}))
    models = tuple(_model(entry) for entry in folder.manifest.get("models", ()))
    return SweepData(tables=tables, config=settings, models=models, manifest=folder.manifest)


def _model(entry: Mapping[str, Any]) -> SweptModel:
    revisions = [str(r["revision"]) for r in entry["revisions"]]
    axis = StepAxis(tuple(revisions), tuple(r.get("step") for r in entry["revisions"]))
    return SweptModel(str(entry["name"]), axis, str(entry["reference"]), entry.get("reference_note"))
