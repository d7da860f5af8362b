"""Overlap with the reference: how much of the last checkpoint's mechanism is there already, and how much chance gives.

For every measured step, both sets of prompts and both kinds of label, the sets

    heads         heads of the circuit
    neurons       important neurons
    labelled      important neurons with a label
    pairs         (neuron, heuristic) of important neurons
    heuristics    distinct heuristics of the preset's list that important neurons carry (no sets found in the data)
    pairs_tested  pairs of the reference's important neurons that hold here, whether or not the neuron matters here
                  (the reference's neurons are labelled at every step)

against the same set A of the reference: share = |A and B| / |A|, jaccard = |A and B| / |A or B|. By chance:

    expected       neurons, labelled, heads: as many drawn in each layer, sum over layers of a_l b_l / w_l with w_l
                   the neurons (heads) of a layer; pairs: indices of neurons permuted within each layer, sum over
                   layers l and heuristics h of A(l, h) B(l, h) / w_l; heuristics: as many drawn of the whole
                   list, |A||B| / listed; all divided by |A|
    given_neurons  pairs: the neurons that are important here keep their places and exchange their sets of labels within
                   the layer, so what is beyond it is a neuron's own label, not the choice of neurons; pairs_tested: the
                   same among the reference's neurons, and its `expected` is this too

Each is the exact mean of the random overlap, not a quantile. A step without a circuit shares nothing. Where a task
has no run on shared prompts (too few are answered correctly) there is no row. Source: Nikankin et al. 2024 (arXiv
2410.21272), section on training; the baselines are ours.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from arithcirc.config import LABELS
from arithcirc.sweep.history import PROMPT_SETS, History

COLUMNS = (
    *("model", "revision", "step", "operator", "prompts", "what", "labels"),
    *("at_reference", "here", "shared", "share", "jaccard", "expected", "given_neurons"),
)
_SHIFT = 1 << 24
Codes = Int[np.ndarray, "_"]


def overlap(history: History) -> pd.DataFrame:
    """Rows for every measured place; none where the reference's own task failed."""
    rows = list(_rows(history)) if history.reference is not None else []
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"step": "Int64"})


def _rows(history: History) -> Iterator[dict[str, Any]]:
    reference = history.reference
    if reference is None:
        return
    sets = _Sets(history)
    for prompts in PROMPT_SETS:
        for place, has_circuit in enumerate(history.with_circuit):
            neurons, heads = sets.neurons(place, prompts), sets.heads(place, prompts)
            if has_circuit and not len(heads) and not len(neurons):
                continue
            keys = history.keys(place) | {"prompts": prompts}
            a = sets.heads(reference, prompts)
            yield keys | {"what": "heads", "labels": ""} | _row(a, heads, _drawn(a, heads, history.facts.n_heads))
            a = sets.neurons(reference, prompts)
            yield keys | {"what": "neurons", "labels": ""} | _row(a, neurons, _drawn(a, neurons, history.facts.d_mlp))
            if history.labelled[place] and history.labelled[reference]:
                for kind in LABELS:
                    for what, row in _of_labels(sets, kind, place, prompts):
                        yield keys | {"what": what, "labels": kind} | row


class _Sets:
    """The sets of a history as sorted codes: a neuron or head is layer * 2^24 + index; a pair is (neuron,
    heuristic)."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._neurons = _by_place(history, history.important, "neuron")
        self._heads = _by_place(history, history.heads, "head")
        self._pairs: dict[tuple[int, str], tuple[Codes, Codes]] = {}
        labels = history.labels
        self.found = labels.loc[labels["family"] == "multi_value", "heuristic"].cat.codes.unique().astype(np.int64)
        """Heuristics that are in no list: sets of results, read off the data."""
        for kind in LABELS:
            rows = history.labels[history.labels[kind].to_numpy(dtype=bool)]
            neurons, names = _code(rows, "neuron"), rows["heuristic"].cat.codes.to_numpy(dtype=np.int64)
            for place, mine in enumerate(_split(rows["place"].to_numpy(dtype=np.int64), len(history.moments))):
                self._pairs[place, kind] = neurons[mine], names[mine]

    def neurons(self, place: int, prompts: str) -> Codes:
        """Important neurons."""
        return self._neurons[place, prompts]

    def heads(self, place: int, prompts: str) -> Codes:
        """Heads of the circuit."""
        return self._heads[place, prompts]

    def pairs(self, place: int, kind: str, among: Codes) -> tuple[Codes, Codes]:
        """Neuron and heuristic of every pair whose neuron is among these."""
        neurons, heuristics = self._pairs[place, kind]
        kept = np.isin(neurons, among)
        return neurons[kept], heuristics[kept]


def _of_labels(sets: _Sets, kind: str, place: int, prompts: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the four sets that labels make."""
    history = sets.history
    reference, width = history.reference or 0, history.facts.d_mlp
    here, there = sets.neurons(place, prompts), sets.neurons(reference, prompts)
    a_neurons, a_names = sets.pairs(reference, kind, there)
    b_neurons, b_names = sets.pairs(place, kind, here)
    a, b = _pair(a_neurons, a_names), _pair(b_neurons, b_names)
    expected = _same(a_neurons, a_names, b_neurons, b_names) / max(width, 1)
    also = np.isin(a_neurons, here)
    given = _same(a_neurons[also], a_names[also], b_neurons, b_names, among=here)
    yield "pairs", _row(a, b, expected, given)
    tested = sets.pairs(place, kind, there)
    given = _same(a_neurons, a_names, *tested, among=there)
    yield "pairs_tested", _row(a, _pair(*tested), given, given)
    a, b = np.unique(a_neurons), np.unique(b_neurons)
    yield "labelled", _row(a, b, _drawn(a, b, width))
    a, b = (np.setdiff1d(names, sets.found) for names in (a_names, b_names))
    listed = max(history.listed[reference], history.listed[place])
    yield "heuristics", _row(a, b, min(len(a) * len(b) / listed, len(a)) if listed else float("nan"))


def _row(a: Codes, b: Codes, expected: float, given: float = float("nan")) -> dict[str, Any]:
    """Sizes and shares of two sets without repeats; shares are NaN where the reference has nothing."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - shared
    n = len(a) or float("nan")
    return {
        "at_reference": len(a), "here": len(b), "shared": shared, "share": shared / n,
        "jaccard": shared / union if union else float("nan"), "expected": expected / n, "given_neurons": given / n,
    }  # fmt: skip


def _drawn(a: Codes, b: Codes, width: int) -> float:
    """Mean overlap when as many as in b are drawn in each layer: sum over layers of a_l b_l / width."""
    return _dot(a // _SHIFT, b // _SHIFT) / width if width else float("nan")


def _same(a_neurons: Codes, a_names: Codes, b_neurons: Codes, b_names: Codes, *, among: Codes | None = None) -> float:
    """Sum over layers and heuristics of A(l, h) B(l, h), each divided by its layer's number of `among` where given."""
    a, b = _pair(a_neurons // _SHIFT, a_names), _pair(b_neurons // _SHIFT, b_names)
    if among is None:
        return _dot(a, b)
    sizes = np.bincount(
        among // _SHIFT, minlength=1 + int(max(a_neurons.max(initial=0), b_neurons.max(initial=0))) // _SHIFT
    )
    return _dot(a, b, sizes=sizes)


def _dot(a: Codes, b: Codes, *, sizes: Codes | None = None) -> float:
    """Sum over values of how often it is in a times how often in b; with `sizes`, divided by that of its layer."""
    (x, n), (y, m) = np.unique(a, return_counts=True), np.unique(b, return_counts=True)
    both, i, j = np.intersect1d(x, y, assume_unique=True, return_indices=True)
    return float((n[i] * m[j] / (1 if sizes is None else np.maximum(sizes[both // _SHIFT], 1))).sum())


def _pair(neurons: Codes, names: Codes) -> Codes:
    """One code for both; neurons are below 2^39, heuristics below 2^24."""
    codes: Codes = neurons * _SHIFT + names
    return codes


def _code(table: pd.DataFrame, index: str) -> Codes:
    codes: Codes = table["layer"].to_numpy(dtype=np.int64) * _SHIFT + table[index].to_numpy(dtype=np.int64)
    return codes


def _by_place(history: History, table: pd.DataFrame, index: str) -> dict[tuple[int, str], Codes]:
    """The codes of every place and set of prompts, empty ones too."""
    count, codes = len(history.moments), _code(table, index)
    number = table["place"].to_numpy(dtype=np.int64) * 2 + (table["prompts"] == PROMPT_SETS[1]).to_numpy(dtype=np.int64)
    return {(i // 2, PROMPT_SETS[i % 2]): codes[rows] for i, rows in enumerate(_split(number, 2 * count))}


def _split(number: Codes, count: int) -> list[Codes]:
    """The rows with each of the numbers 0..count-1."""
    order = np.argsort(number, kind="stable")
    return np.split(order, np.searchsorted(number[order], np.arange(1, count)))
