"""One row per step: what every task measured, and how the important neurons' labels divide into families.

`steps` has a row per task that ended and set of prompts. Accuracy is that of the checkpoint, the same in both rows:
over all legal prompts where the answers to all are known, else over those tried (`note` says so). Where the model's
folder or the one above it holds the recipe it was trained by, it is also given for the prompts of its training and
for those held out. `given_most` is what the checkpoint answers most often and `given_share` how often: a share near 1
is a constant answer. The rest is of one set of prompts:

    heads, faithfulness, circuit_accuracy   of the circuit that was chosen, on the prompts to evaluate
    random_faithfulness    mean of the random circuits whose size is nearest to it
    top, first_layer       the most important neurons of a layer, and the first layer with any
    labelled_*, pairs_*    important neurons with a label, and their (neuron, heuristic) pairs, for both kinds of label
    n_prompts              prompts to evaluate that count

A step without a circuit has its accuracy and nothing else; a failed task has its reason. `families` counts the
important neurons with a label of a family, and their pairs; a neuron with labels of two families counts in both.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from arithcirc.arithmetic.operators import Prompts
from arithcirc.catalogue import SweepFolder
from arithcirc.config import LABELS
from arithcirc.errors import ArithcircError
from arithcirc.models.zoo import locate
from arithcirc.sweep.history import PROMPT_SETS, Ended, History, read_answers, references
from arithcirc.training.recipe import Recipe, load_recipe
from arithcirc.training.split import held_out_mask

KEYS = ("model", "revision", "step", "operator")
TASKS = (
    *KEYS, "status", "reason", "seconds", "load_seconds", "forwards", "peak_bytes", "attempts", "n_shared", "host",
    "reference",
)  # fmt: skip
_WHOLE = (
    *("n", "correct", "n_held_out", "given_most", "heads", "top", "first_layer", "important", "n_prompts"),
    *(f"{what}_{kind}" for what in ("labelled", "pairs") for kind in LABELS),
)
STEPS = (
    *KEYS, "prompts", "status", "accuracy", "n", "correct", "base_rate", "accuracy_train", "accuracy_held_out",
    "n_held_out", "given_most", "given_share", "heads", "faithfulness", "faithfulness_sem", "circuit_accuracy",
    "random_faithfulness", "top", "first_layer", "important", "labelled_matched", "labelled_significant",
    "pairs_matched", "pairs_significant", "n_prompts", "note",
)  # fmt: skip
_SHARES = (
    *("accuracy", "base_rate", "accuracy_train", "accuracy_held_out", "given_share", "faithfulness"),
    *("faithfulness_sem", "circuit_accuracy", "random_faithfulness"),
)


def tasks(folder: SweepFolder, ended: Sequence[Ended], unread: Mapping[Path, str]) -> pd.DataFrame:
    """What became of every task that ended; files of it that could not be read are added to its reason."""
    reference = references(folder)
    rows = []
    for end in ended:
        damaged = [str(f.relative_to(end.files.folder)) for f in unread if f.is_relative_to(end.files.folder)]
        said = [end.outcome.get("reason"), f"cannot be read: {', '.join(damaged)}" if damaged else None]
        row = _keys(end) | {name: end.outcome.get(name) for name in TASKS if name in end.outcome}
        row["reason"] = "; ".join(text for text in said if text) or None
        rows.append(row | {"reference": reference[end.task["name"]] == end.task["revision"]})
    return pd.DataFrame(rows, columns=list(TASKS)).astype({"step": "Int64", "reason": "str", "host": "str"})


def steps(
    ended: Sequence[Ended],
    tables: Mapping[str, pd.DataFrame],
    counts: pd.DataFrame,
    recipes: Mapping[str, Recipe | None],
) -> pd.DataFrame:
    """One row per task and set of prompts.

    `tables` are the gathered `accuracy` and `faithfulness` where they exist, `counts` come from `count_neurons`,
    `recipes` are by model.
    """
    used = {name: tables[name] for name in ("accuracy", "faithfulness") if name in tables}
    groups = {name: dict(tuple(table.groupby(["model", "revision", "operator"]))) for name, table in used.items()}
    splits = {model: _Split(recipe) for model, recipe in recipes.items()}
    rows: list[dict[str, Any]] = []
    for end in ended:
        key = end.task["name"], end.task["revision"], end.task["operator"]
        mine = {name: found[key] for name, found in groups.items() if key in found}
        answered, note = _accuracy(end, mine, splits[end.task["name"]])
        for prompts in PROMPT_SETS:
            of_set = {name: table[table["prompts"] == prompts] for name, table in mine.items()}
            row = _keys(end) | {"prompts": prompts, "status": end.outcome["status"]} | answered
            row |= _circuit(of_set) | {"note": note}
            if end.outcome["status"] == "done" and "heads" not in row:
                row["note"] = "; ".join(text for text in (note, "no run on these prompts: too few are shared") if text)
            rows.append(row)
    on = ["model", "revision", "operator", "prompts"]
    counted = [name for name in STEPS if name in counts.columns and name not in on]
    table = pd.DataFrame(rows, columns=[name for name in STEPS if name not in counted])
    table = table.merge(counts, on=on, how="left") if counted else table
    table = table.reindex(columns=list(STEPS))
    whole = dict.fromkeys(("step", *_WHOLE), "Int64")
    return table.astype(whole | dict.fromkeys(_SHARES, "float64") | {"note": "str"})


def count_neurons(history: History) -> pd.DataFrame:
    """Important neurons of every measured place with any, and those with labels where labels were made."""
    keys = ["place", "prompts"]
    neurons = history.important.groupby(keys)
    table = pd.DataFrame({"important": neurons.size(), "first_layer": neurons["layer"].min()})
    table["top"] = history.important.groupby([*keys, "layer"]).size().groupby(keys).max()
    carried = history.labels.merge(history.important, on=["place", "layer", "neuron"])
    made = np.isin(table.index.get_level_values("place"), history.labels["place"])
    for kind in LABELS:
        held = carried[carried[kind].astype(bool)]
        counts = {
            f"labelled_{kind}": held.drop_duplicates([*keys, "layer", "neuron"]).groupby(keys).size(),
            f"pairs_{kind}": held.groupby(keys).size(),
        }
        for name, count in counts.items():
            table[name] = count.reindex(table.index, fill_value=0).astype("Int64").where(made)
    table = table.reset_index()
    place = table.pop("place")
    about = pd.DataFrame([history.keys(i) for i in place], columns=list(KEYS)).drop(columns="step")
    return pd.concat([about, table], axis=1)


def families(history: History) -> pd.DataFrame:
    """Neurons and pairs of every family at every labelled place, zeros included; both sets and both kinds of label."""
    names = sorted(history.labels["family"].astype(str).unique())
    places = np.flatnonzero(history.labelled)
    keys = ["place", "prompts", "labels", "family"]
    parts = []
    carried = history.labels.merge(history.important, on=["place", "layer", "neuron"])
    for kind in LABELS:
        held = carried[carried[kind].astype(bool)].astype({"family": str}).assign(labels=kind)
        pairs = held.groupby(keys, observed=True).size()
        neurons = held.drop_duplicates([*keys, "layer", "neuron"]).groupby(keys, observed=True).size()
        index = pd.MultiIndex.from_product([places, PROMPT_SETS, [kind], names], names=keys)
        parts.append(pd.DataFrame({"neurons": neurons.reindex(index), "pairs": pairs.reindex(index)}).fillna(0))
    table = pd.concat(parts).astype("int64").reset_index()
    about = pd.DataFrame([history.keys(place) for place in range(len(history.moments))], columns=list(KEYS))
    return about.iloc[table.pop("place")].reset_index(drop=True).astype({"step": "Int64"}).join(table)


def recipe_of(model: str) -> Recipe | None:
    """The recipe beside a local or the shipped model, or above its step folder; None where none can be read."""
    folder = Path(model)
    with contextlib.suppress(ArithcircError):
        found = locate(model)
        folder = Path(found.source) if found.local else folder
    above = [folder.parent] if re.fullmatch(r"step\d+", folder.name) else []
    for place in (folder, *above):
        if (place / "recipe.json").is_file():
            with contextlib.suppress(ArithcircError):
                return load_recipe(place)
    return None


def held_out(recipe: Recipe | None, prompts: Prompts) -> Bool[np.ndarray, "prompt"] | None:
    """Which of these prompts were kept out of the training; None where the recipe is not known or keeps none out."""
    if recipe is None:
        return None
    try:
        mask = held_out_mask(recipe, prompts)
    except ArithcircError:
        return None
    return mask if mask.any() else None


def prompts_of(answers: pd.DataFrame, symbol: str) -> Prompts:
    """The prompts of a table of answers."""
    columns = (answers[name].to_numpy(dtype=np.int64) for name in ("op1", "op2", "answer"))
    return Prompts(np.full(len(answers), symbol), *columns)


class _Split:
    """Which prompts of an operator were held out, asked for once while the checkpoints answer the same prompts."""

    def __init__(self, recipe: Recipe | None) -> None:
        self.recipe = recipe
        self._known: dict[str, tuple[pd.DataFrame, Bool[np.ndarray, prompt] | None]] = {}

    def of(self, answers: pd.DataFrame, symbol: str) -> Bool[np.ndarray, "prompt"] | None:
        """As `held_out`."""
        asked = answers[["op1", "op2"]]
        if symbol not in self._known or not self._known[symbol][0].equals(asked):
            self._known[symbol] = asked, held_out(self.recipe, prompts_of(answers, symbol))
        return self._known[symbol][1]


def _keys(end: Ended) -> dict[str, Any]:
    task = end.task
    return {"model": task["name"], "revision": task["revision"], "step": task["step"], "operator": task["operator"]}


def _accuracy(end: Ended, tables: Mapping[str, pd.DataFrame], split: _Split) -> tuple[dict[str, Any], str | None]:
    """Accuracy of the checkpoint, over all legal prompts where the answers are known."""
    if not end.measured:
        return {}, end.outcome.get("reason")
    note = end.outcome.get("reason") if end.outcome["status"] == "no circuit" else None
    row: dict[str, Any] = {}
    tried = tables.get("accuracy")
    if tried is not None and (tried["prompts"] == "own").any():
        first = tried[tried["prompts"] == "own"].iloc[0]
        row = {name: first[name] for name in ("accuracy", "n", "correct", "base_rate")}
    answers = read_answers(end.files.own, end.task["operator"])
    if answers is None:
        sampled = "accuracy over the prompts tried, not over all legal ones"
        return row, "; ".join(text for text in (note, sampled if row else None) if text) or None
    right = answers["correct"].to_numpy(dtype=bool)
    said = answers["given"].value_counts()
    row |= {"accuracy": right.mean(), "n": len(right), "correct": right.sum()}
    row |= {"base_rate": answers["answer"].value_counts(normalize=True).max()}
    row |= {"given_most": said.index[0], "given_share": said.iloc[0] / len(right)}
    unseen = split.of(answers, end.task["operator"])
    if unseen is not None:
        row |= {"accuracy_train": right[~unseen].mean(), "accuracy_held_out": right[unseen].mean()}
        row["n_held_out"] = int(unseen.sum())
    return row, note


def _circuit(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The circuit that was chosen, and random ones of about its size; nothing where there is none."""
    found = tables.get("faithfulness")
    if found is None or found.empty:
        return {}
    evaluated = found[found["set"] == "evaluate"]
    chosen = evaluated[evaluated["chosen"].astype(bool)]
    if chosen.empty:
        return {}
    row = chosen.iloc[0]
    drawn = evaluated[evaluated["circuit"] == "random"]
    away = (drawn["n_heads"] - row["n_heads"]).abs()
    values = {"heads": row["n_heads"], "circuit_accuracy": row["accuracy"], "n_prompts": row["n"]}
    values |= {name: row[name] for name in ("faithfulness", "faithfulness_sem")}
    if len(drawn):
        values["random_faithfulness"] = drawn.loc[away == away.min(), "faithfulness"].mean()
    return values
