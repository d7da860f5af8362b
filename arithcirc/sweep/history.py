"""A history: what one model's tasks of one operator found at each of its revisions, in the order they were asked for.

Read off the run folders of the tasks that ended, for the tables over the steps. A *place* is an index into the
revisions that were measured: a failed task has none; one without a circuit (nothing answered correctly) has a place
at which nothing is important and nothing is labelled. The reference has no shared/ folder: its own prompts are the
shared ones. A label found at both ends of a map is one label, with the better score; `fit` is the score corrected for
chance, (score - base) / (1 - base).

Cost: one read of three tables per task, no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool

from arithcirc.catalogue import SweepFolder, TaskFiles
from arithcirc.errors import RunConflictError
from arithcirc.store import RunFolder

PROMPT_SETS = ("own", "shared")
LABEL_COLUMNS = ("layer", "neuron", "heuristic", "family", "score", "base_rate", "matched", "significant")


class Ended(NamedTuple):
    """One task that ended: as it was asked, what became of it, and its files."""

    task: dict[str, Any]
    outcome: dict[str, Any]
    files: TaskFiles

    @property
    def measured(self) -> bool:
        """Whether there are numbers: done, or nothing answered correctly."""
        return self.outcome.get("status") in ("done", "no circuit")


class Moment(NamedTuple):
    """One measured revision; `step` is None where a revision has none."""

    revision: str
    step: int | None
    status: str
    files: TaskFiles
    task: dict[str, Any]


class Facts(NamedTuple):
    """Heads and neurons of a layer, and the numbers that are one token."""

    n_heads: int
    d_mlp: int
    limit: int


@dataclass(frozen=True)
class History:
    """One model and operator over its measured revisions.

    `reference` is the place of the revision that the others are compared with, None where its task failed. Tables:
    `labels` (place, layer, neuron, heuristic, family, fit, matched, significant), one row per place, neuron and
    heuristic, with unmatched ones; `important` (place, prompts, layer, neuron); `heads` (place, prompts, layer,
    head), the circuit's; `listed` the number of heuristics tested at each place (0 without labels).
    """

    model: str
    operator: str
    moments: tuple[Moment, ...]
    reference: int | None
    facts: Facts
    labels: pd.DataFrame
    important: pd.DataFrame
    heads: pd.DataFrame
    listed: tuple[int, ...]

    @cached_property
    def with_circuit(self) -> Bool[np.ndarray, "place"]:
        """Whether anything was answered correctly."""
        return np.array([m.status == "done" for m in self.moments], dtype=bool)

    @cached_property
    def labelled(self) -> Bool[np.ndarray, "place"]:
        """Where labels were made or, without a circuit, there was nothing to label; elsewhere nobody looked."""
        places = set(self.labels["place"].unique().tolist())
        return np.array([p in places or m.status == "no circuit" for p, m in enumerate(self.moments)], dtype=bool)

    def keys(self, place: int) -> dict[str, Any]:
        """The first columns of a row about a place."""
        moment = self.moments[place]
        step = pd.NA if moment.step is None else moment.step
        return {"model": self.model, "revision": moment.revision, "step": step, "operator": self.operator}


def ended_tasks(folder: SweepFolder) -> list[Ended]:
    """Tasks that ended, by model as in the manifest, operator, then revision as in the manifest."""
    order = {
        (model["name"], revision["revision"]): (i, j)
        for i, model in enumerate(folder.manifest["models"])
        for j, revision in enumerate(model["revisions"])
    }
    operators = {symbol: i for i, symbol in enumerate(folder.manifest["operators"])}
    found = [Ended(*ended) for ended in folder.ended()]
    known = [e for e in found if (e.task["name"], e.task["revision"]) in order and e.task["operator"] in operators]

    def place(ended: Ended) -> tuple[int, int, int]:
        model, revision = order[ended.task["name"], ended.task["revision"]]
        return model, operators[ended.task["operator"]], revision

    return sorted(known, key=place)


def references(folder: SweepFolder) -> dict[str, str]:
    """Each model's revision that the others are compared with."""
    return {model["name"]: model["reference"] for model in folder.manifest["models"]}


def histories(folder: SweepFolder, ended: Sequence[Ended]) -> Iterator[History]:
    """One after another, so that only one is in memory; models and operators without a measured task are left out."""
    groups: dict[tuple[str, str], list[Ended]] = {}
    for task in ended:
        if task.measured:
            groups.setdefault((task.task["name"], task.task["operator"]), []).append(task)
    for (model, symbol), tasks in groups.items():
        yield read_history(model, symbol, tasks, references(folder)[model])


def read_history(model: str, symbol: str, tasks: Sequence[Ended], reference: str) -> History:
    """Read the run folders of these measured tasks, which are in order."""
    moments = tuple(Moment(t.task["revision"], t.task["step"], t.outcome["status"], t.files, t.task) for t in tasks)
    at = next((i for i, moment in enumerate(moments) if moment.revision == reference), None)
    labels, important, heads, listed = [], [], [], []
    for place, moment in enumerate(moments):
        labels.append(_labels(moment.files.own).assign(place=place))
        summary = read(moment.files.own / "label_summary.parquet", ("heuristics",))
        listed.append(int(summary["heuristics"].max()) if summary is not None and len(summary) else 0)
        for prompts in PROMPT_SETS:
            run = moment.files.own if prompts == "own" or place == at else moment.files.shared
            important.append(_important(run).assign(place=place, prompts=prompts))
            heads.append(_heads(run).assign(place=place, prompts=prompts))
    table = pd.concat(labels, ignore_index=True)
    for name in ("heuristic", "family"):
        table[name] = table[name].astype("category")
    return History(
        model, symbol, moments, at, _facts(moments), table,
        pd.concat(important, ignore_index=True), pd.concat(heads, ignore_index=True), tuple(listed),
    )  # fmt: skip


def read(file: Path, columns: Sequence[str] | None = None) -> pd.DataFrame | None:
    """A table of a run folder; None where it is not there, damaged, or has other columns."""
    try:
        found = pq.ParquetFile(file).read(None if columns is None else list(columns), use_threads=False)
        table: pd.DataFrame = found.to_pandas(use_threads=False)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return table


def read_answers(run: Path, symbol: str) -> pd.DataFrame | None:
    """What is answered to every legal prompt of an operator: op1, op2, answer, given, correct; None where not known."""
    try:
        found = pq.ParquetFile(run / "answers.parquet").read(use_threads=False)
        found = found.filter(pc.equal(found["operator"], symbol)).drop_columns("operator")
        table: pd.DataFrame = found.to_pandas(use_threads=False)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return table if len(table) else None


def _labels(run: Path) -> pd.DataFrame:
    table = read(run / "heuristics.parquet", LABEL_COLUMNS)
    if table is None:
        kinds = {"layer": "int64", "neuron": "int64", "heuristic": "str", "family": "str", "fit": "float64"}
        return pd.DataFrame(columns=[*kinds, "matched", "significant"]).astype(
            kinds | {"matched": bool, "significant": bool}
        )
    room = (1 - table["base_rate"]).clip(lower=1e-12)
    table["fit"] = (table.pop("score") - table["base_rate"]) / room
    table = table.drop(columns="base_rate").sort_values(
        ["significant", "matched", "fit"], ascending=False, kind="stable"
    )
    return table.drop_duplicates(["layer", "neuron", "heuristic"]).sort_values(["layer", "neuron"], kind="stable")


def _important(run: Path) -> pd.DataFrame:
    table = read(run / "neurons.parquet", ("layer", "neuron", "important"))
    if table is None:
        return pd.DataFrame({"layer": [], "neuron": []}).astype("int64")
    chosen = table.loc[table["important"].astype(bool), ["layer", "neuron"]]
    return chosen.drop_duplicates().sort_values(["layer", "neuron"])


def _heads(run: Path) -> pd.DataFrame:
    table = read(run / "circuit.parquet", ("kind", "layer", "head", "in_circuit"))
    if table is None:
        return pd.DataFrame({"layer": [], "head": []}).astype("int64")
    chosen = table.loc[(table["kind"] == "head") & table["in_circuit"].astype(bool), ["layer", "head"]]
    return chosen.astype("int64").sort_values(["layer", "head"])


def _facts(moments: Sequence[Moment]) -> Facts:
    """From the last run that says them; zeros where none does."""
    for moment in reversed(moments):
        try:
            facts = RunFolder.open(moment.files.own).manifest["facts"]
            return Facts(facts["model"]["n_heads"], facts["model"]["d_mlp"], facts["single_token_limit"])
        except (RunConflictError, KeyError, TypeError):
            continue
    return Facts(0, 0, 0)
