"""What a checkpoint's labels share with the reference's, as rows and as sets of neurons.

A pair is (neuron, heuristic), by the heuristic's name. Of a checkpoint's labelled important neurons

    kept   those with at least one pair that the reference has too
    new    the others: labelled here, with nothing that the reference says of the same neuron

so kept and new together are all of them. Random sets have as many neurons of each layer as kept, drawn from all neurons
of the layer, labelled or not.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from arithcirc.components import Neuron

Members = Int[np.ndarray, "_ 2"]
"""Neurons, (layer, neuron) each, ascending."""
_PAIR = ["layer", "neuron", "heuristic"]


@dataclass(frozen=True)
class LabelRows:
    """A checkpoint's labels that count, of its important neurons; `kept` those that the reference has too."""

    every: pd.DataFrame
    kept: pd.DataFrame

    @property
    def all_neurons(self) -> Members:
        """Neurons with a label."""
        return members(self.every)

    @property
    def kept_neurons(self) -> Members:
        """Neurons with a label that the reference gives them too."""
        return members(self.kept)

    @property
    def new_neurons(self) -> Members:
        """The rest of them."""
        kept = set(map(tuple, self.kept_neurons.tolist()))
        rest = [pair for pair in self.all_neurons.tolist() if tuple(pair) not in kept]
        return np.array(rest, dtype=np.int64).reshape(-1, 2)


def label_rows(
    here: pd.DataFrame, important: Iterable[Neuron], reference: pd.DataFrame | None, labels: str
) -> LabelRows:
    """Rows of the table `heuristics` that are `labels` (matched or significant), of these neurons.

    `reference` are the reference's rows, of which those with the same flag count; None: this is the reference, all of
    whose labels are kept.
    """
    wanted = {(n.layer, n.index) for n in important}
    inside = [pair in wanted for pair in zip(here["layer"].tolist(), here["neuron"].tolist(), strict=True)]
    every = here[np.array(inside, dtype=bool) & here[labels].to_numpy(dtype=bool)].reset_index(drop=True)
    if reference is None:
        return LabelRows(every, every)
    theirs = set(reference.loc[reference[labels].astype(bool), _PAIR].itertuples(index=False, name=None))
    both = [pair in theirs for pair in every[_PAIR].itertuples(index=False, name=None)]
    return LabelRows(every, every[np.array(both, dtype=bool)])


def members(rows: pd.DataFrame) -> Members:
    """The distinct neurons of some rows."""
    pairs = rows[["layer", "neuron"]].to_numpy(dtype=np.int64).reshape(-1, 2)
    found: np.ndarray = np.unique(pairs, axis=0)
    return found


def random_like(chosen: Members, width: int, rng: np.random.Generator) -> Members:
    """As many neurons of each layer, drawn from all `width` of it."""
    drawn = []
    for layer, n in zip(*np.unique(chosen[:, 0], return_counts=True), strict=True):
        ids = np.sort(rng.choice(width, size=int(n), replace=False))
        drawn.append(np.stack([np.full(len(ids), layer), ids], axis=1))
    return np.concatenate([np.empty((0, 2), dtype=np.int64), *drawn])
