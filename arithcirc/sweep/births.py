"""Births: when each neuron's label first appears and stays, and what becomes of those that do not stay.

A pair (neuron, heuristic) is looked for at the steps where the neuron was tested: every important neuron of a step is,
and the reference's neurons are at all of them. A step without a circuit counts as tested and absent, for every neuron:
nothing is answered correctly, so nothing was labelled. A failed task is no step here. Of the tested steps,

    birth     the first from which the pair is present at every later one, up to the last step of the sweep
    first     the first at which it is present; `last` the last one; `gaps` how often it was away in between
    fate      stays     present at the last step
              dies      there once without a gap, and absent when its neuron was last tested
              flickers  gone and back at least once, and absent when its neuron was last tested
              left      present when its neuron was last tested, which was before the last step: it is no longer
                        important, and was not looked at
    becomes   of those that die or flicker: the neuron's best label where it was last tested (the highest score
              corrected for chance), null where it has none

Both kinds of label: `matched` (the score's threshold) and `significant` (also q). A heuristic's own birth is that of
the set of its carriers: the first labelled step from which at least one tested neuron carries it at every later one.
Cost: one bit per pair and step. A birth says when a label holds, not that accuracy depends on it: see jumps.
Source: beyond Nikankin et al. 2024 (arXiv 2410.21272), whose section on training counts the final pairs.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from arithcirc.config import LABELS
from arithcirc.sweep.history import History

FATES = ("stays", "dies", "flickers", "left")
COLUMNS = (
    *("model", "operator", "layer", "neuron", "heuristic", "family", "labels", "birth", "first", "last"),
    *("present", "tested", "gaps", "fate", "at_reference", "becomes", "birth_revision"),
)
BLOCK = 1 << 15
_NONE = -1


def births(history: History) -> pd.DataFrame:
    """One row per pair that was ever present, for both kinds of label; columns as COLUMNS."""
    parts = [_births(history, kind) for kind in LABELS]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def heuristic_births(history: History, labels: str) -> pd.DataFrame:
    """Heuristics that stay: `heuristic`, `family`, `birth` (a place of the history)."""
    rows = history.labels[history.labels[labels].to_numpy(dtype=bool)]
    places = np.flatnonzero(history.labelled)
    names = ["heuristic", "family", "birth"]
    if rows.empty:
        return pd.DataFrame(columns=names).astype({"birth": "int64"})
    kinds = rows.drop_duplicates("heuristic")
    number = pd.Series(np.arange(len(kinds)), index=kinds["heuristic"].astype(str))
    present = np.zeros((len(kinds), len(places)), dtype=bool)
    column = np.searchsorted(places, rows["place"])
    present[number[rows["heuristic"].astype(str)].to_numpy(), column] = True
    birth = _birth(present, np.ones_like(present))
    stays = birth != _NONE
    found = {"heuristic": kinds["heuristic"].astype(str).to_numpy(), "family": kinds["family"].astype(str).to_numpy()}
    table: pd.DataFrame = pd.DataFrame(found)[stays].reset_index(drop=True)
    table["birth"] = places[birth[stays]]
    return table


def _births(history: History, kind: str) -> pd.DataFrame:
    """The pairs of one kind of label."""
    labels = history.labels
    rows = labels[labels[kind].to_numpy(dtype=bool)]
    if rows.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    places = np.flatnonzero(history.labelled)
    neuron, tested = _tested(history, places)
    at = neuron[rows.index.to_numpy()]
    code = at * len(rows["heuristic"].cat.categories) + rows["heuristic"].cat.codes.to_numpy(dtype=np.int64)
    _, one, pair = np.unique(code, return_index=True, return_inverse=True)
    present = np.zeros((len(one), len(places)), dtype=bool)
    present[pair, np.searchsorted(places, rows["place"])] = True
    birth, runs, last_look, looks = _walk(present, tested, at[one])
    there = present[np.arange(len(one)), last_look]
    fate = np.select([birth != _NONE, there, runs == 1], ["stays", "left", "dies"], "flickers")
    table = rows.iloc[one][["layer", "neuron", "heuristic", "family"]].reset_index(drop=True)
    best = _best(rows, at, places)
    gone = np.isin(fate, ("dies", "flickers"))
    becomes = best.reindex(pd.MultiIndex.from_arrays([at[one], last_look])).astype(object).to_numpy()
    reference = history.reference
    column = np.flatnonzero(places == _NONE if reference is None else places == reference)
    steps = pd.array([m.step for m in history.moments], dtype="Int64")[places]
    revisions = np.array([m.revision for m in history.moments], dtype=object)[places]
    done: pd.DataFrame = table.astype({"heuristic": str, "family": str}).assign(
        model=history.model, operator=history.operator, labels=kind,
        birth=_at(steps, birth), first=steps[present.argmax(axis=1)], last=steps[_last(present)],
        present=present.sum(axis=1), tested=looks, gaps=runs - 1, fate=fate,
        at_reference=present[:, column].sum(axis=1) > 0,
        becomes=pd.Series(becomes, dtype=object).where(gone & pd.notna(becomes), None),
        birth_revision=pd.Series(revisions[birth], dtype=object).where(birth != _NONE, None),
    )  # fmt: skip
    return done[list(COLUMNS)]


def _tested(
    history: History, places: Int[np.ndarray, "place"]
) -> tuple[Int[np.ndarray, "row"], Bool[np.ndarray, "neuron place"]]:
    """The neuron of each row of the history's labels, numbered, and where each was tested."""
    labels = history.labels
    code = labels["layer"].to_numpy(dtype=np.int64) << 32 | labels["neuron"].to_numpy(dtype=np.int64)
    neurons, number = np.unique(code, return_inverse=True)
    tested = np.zeros((len(neurons), len(places)), dtype=bool)
    tested[number, np.searchsorted(places, labels["place"])] = True
    tested[:, ~history.with_circuit[places]] = True
    return number.astype(np.int64), tested


def _walk(
    present: Bool[np.ndarray, "pair place"], tested: Bool[np.ndarray, "neuron place"], neuron: Int[np.ndarray, "pair"]
) -> list[Int[np.ndarray, "pair"]]:
    """Birth, runs, last tested place and number of tested places of every pair, BLOCK pairs at a time."""
    blocks = []
    for start in range(0, len(present), BLOCK):
        mine, looked = present[start : start + BLOCK], tested[neuron[start : start + BLOCK]]
        blocks.append([_birth(mine, looked), _runs(mine, looked), _last(looked), looked.sum(axis=1)])
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def _birth(present: Bool[np.ndarray, "pair place"], tested: Bool[np.ndarray, "pair place"]) -> Int[np.ndarray, "pair"]:
    """The first place after the last tested absence, where the pair is present at the last place; else _NONE."""
    absent = tested & ~present
    since = np.where(absent.any(axis=1), _last(absent) + 1, 0)
    later = present & (np.arange(present.shape[1], dtype=np.int32) >= since[:, None])
    birth: np.ndarray = np.where(present[:, -1], later.argmax(axis=1), _NONE).astype(np.int64)
    return birth


def _runs(present: Bool[np.ndarray, "pair place"], tested: Bool[np.ndarray, "pair place"]) -> Int[np.ndarray, "pair"]:
    """How often the pair comes, among the places where it was tested."""
    count = present.shape[1]
    latest = np.maximum.accumulate(np.where(tested, np.arange(count, dtype=np.int32), np.int32(_NONE)), axis=1)
    held = np.take_along_axis(present, latest.clip(min=0), axis=1) & (latest >= 0)
    before = np.concatenate([np.zeros((len(held), 1), dtype=bool), held[:, :-1]], axis=1)
    runs: np.ndarray = (held & ~before).sum(axis=1).astype(np.int64)
    return runs


def _last(flags: Bool[np.ndarray, "pair place"]) -> Int[np.ndarray, "pair"]:
    """The last place that is True."""
    last: np.ndarray = (flags.shape[1] - 1 - flags[:, ::-1].argmax(axis=1)).astype(np.int64)
    return last


def _best(rows: pd.DataFrame, at: Int[np.ndarray, "row"], places: Int[np.ndarray, "place"]) -> pd.Series:
    """Each neuron's best label at each place, by (neuron, place among the labelled)."""
    keyed = rows.assign(at=at, column=np.searchsorted(places, rows["place"])).sort_values(
        "fit", ascending=False, kind="stable"
    )
    first = keyed.drop_duplicates(["at", "column"])
    return first.set_index(["at", "column"])["heuristic"].astype(object)


def _at(steps: pd.api.extensions.ExtensionArray, places: Int[np.ndarray, "pair"]) -> pd.api.extensions.ExtensionArray:
    """Steps of places, null for _NONE."""
    found = steps[places].copy()
    found[places == _NONE] = pd.NA
    return found
