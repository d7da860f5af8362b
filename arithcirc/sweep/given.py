"""What the reference of a model gives its other checkpoints, for one operator, read from the files of its task.

    first_layer, top   the rule that says which neurons are important: the first layer that is cut down to single
                       neurons and how many of each layer count; so all checkpoints are cut by one rule
    neurons            the reference's important neurons, which are labelled at every checkpoint
    labels             its rows of the table `heuristics`
    prompts            a fixed list of prompts that it answers correctly, with their counterfactuals

Nothing of a model is needed for it, so torch is not imported.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from arithcirc.catalogue import TaskFiles
from arithcirc.components import Neuron
from arithcirc.errors import ArithcircError
from arithcirc.store import RESULTS_VERSION, RunFolder
from arithcirc.sweep.task import Outcome, StageSet, Task

SHARED_PROMPTS = "shared_prompts"
_TAKEN = (f"{SHARED_PROMPTS}.parquet", "neurons.parquet", "heuristics.parquet")


@dataclass(frozen=True)
class Given:
    """What the reference gives; without neuron stages the rule is None and there are no neurons.

    `files` are the sha256 of what was read, by name.
    """

    prompts: pd.DataFrame
    first_layer: int | None
    top: int | None
    neurons: tuple[Neuron, ...]
    labels: pd.DataFrame | None
    files: dict[str, str]


def read_given(files: TaskFiles, symbol: str, stages: StageSet) -> Given | str:
    """What the reference's task gives; where it gives nothing, why not, as a sentence without a full stop."""
    outcome = read_outcome(files)
    if outcome is None:
        return "the reference has not been analysed"
    if outcome.status != "done":
        return f"the reference has no circuit for {symbol} ({outcome.reason})"
    try:
        run = RunFolder.open(files.own)
        known = {
            name: digest for record in run.manifest["stages"].values() for name, digest in record["outputs"].items()
        }
        taken = {name: known[name] for name in _TAKEN if name in known}
        prompts = run.table(SHARED_PROMPTS)
        if stages == "circuit":
            return Given(prompts, None, None, (), None, taken)
        neurons, curve = run.table("neurons"), run.table("neuron_faithfulness")
        labels = run.table("heuristics") if stages == "heuristics" else None
        return Given(prompts, _first_layer(run), _top(curve), important_of(neurons), labels, taken)
    except (ArithcircError, KeyError) as error:
        return f"the reference's tables cannot be read ({error})"


def _first_layer(run: RunFolder) -> int:
    """The first layer that was asked for, else the one its probe found."""
    asked = run.manifest["config"]["neurons"]["first_layer"]
    return int(run.table("first_layers")["layer"].iloc[0]) if asked is None else int(asked)


def _top(curve: pd.DataFrame) -> int:
    """Neurons per layer that were chosen."""
    return int(curve.loc[curve["chosen"].astype(bool), "top"].iloc[0])


def important_of(neurons: pd.DataFrame) -> tuple[Neuron, ...]:
    """The important neurons of a table `neurons` of one operator, in order."""
    pairs = neurons.loc[neurons["important"].astype(bool), ["layer", "neuron"]].drop_duplicates()
    return tuple(sorted(Neuron(int(layer), int(i)) for layer, i in pairs.itertuples(index=False)))


# -- what the tasks' files say -----------------------------------------------------------------------------------------


def read_outcome(files: TaskFiles) -> Outcome | None:
    """The outcome on disk; None where there is none, or it cannot be read."""
    values = read_values(files.outcome)
    try:
        return None if values is None else Outcome.of(values)
    except TypeError:
        return None


def read_values(file: Path) -> dict[str, Any] | None:
    """What a JSON file says; None where there is none, or it cannot be read."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def stamp(task: Task, given: Given | None) -> dict[str, Any]:
    """What a task's numbers depend on beside the task: the code's version and what the reference gave."""
    taken = None
    if given is not None:
        taken = {"first_layer": given.first_layer, "top": given.top, "files": given.files}
    return {"reference": task.reference, "results_version": RESULTS_VERSION, "given": taken}
