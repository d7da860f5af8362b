"""Ablation by prompt: knock out the neurons of the heuristics that hold of each prompt.

For a correct prompt, the neurons that carry a heuristic which holds of it (by its operands and true result), best score
first; the top n of each layer are replaced at `=`. The arms, on the same prompts:

    targeted         neurons of heuristics that hold of the prompt
    random           as many random important neurons of the same layers that were not chosen
    not_applying     as many labelled neurons of the same layers, best score first, none of whose labels hold of the
                     prompt; most neurons carry several labels, so there are often few of them
    targeted_as_few  the best of targeted, in each layer as many as not_applying has

so targeted against random asks whether labels point at what a prompt needs, and targeted_as_few against not_applying
whether it matters which label. Where a layer has fewer neurons than n, or fewer others than were chosen, the sets are
smaller: `neurons` is the mean number really replaced. Arms of unlike sizes do not compare, so p is missing where a
control replaces less than SAME_SIZE of its rival's neurons.

Rows: prompts x sizes x arms x ablations; other arms, sizes and ablations are swept in the same way (`Sweep`).
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 4; spec section 7.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.heuristics.arms import ABLATIONS, Ablation, Outcomes, Progress, Replacements, outcomes
from arithcirc.heuristics.labelled import Labelled
from arithcirc.heuristics.paired import accuracy_columns, mcnemar
from arithcirc.measure.knockout import Knockouts
from arithcirc.models.protocol import HookedModel

PER_LAYER = (5, 10, 25, 50, 75, 100, 150, 200)
RIVALS: dict[str, str | None] = {
    "targeted": None,
    "random": "targeted",
    "not_applying": "targeted_as_few",
    "targeted_as_few": None,
}
"""Arms, each control with the arm it is tested against."""
ARMS = tuple(RIVALS)
SAME_SIZE = 0.9
COLUMNS = (
    *("ablation", "arm", "per_layer", "neurons", "n", "correct"),
    *("accuracy", "low", "high", "probability", "p"),
)


Sets = list[Int[np.ndarray, "_ 2"]]
"""Sets of neurons, (layer, neuron) each: those of one prompt, size-major then arm."""


@dataclass(frozen=True)
class Sweep:
    """What is swept: sizes per layer, arms with the arm each is tested against (None: with none), and ablations."""

    per_layer: tuple[int, ...]
    rivals: Mapping[str, str | None]
    ablations: tuple[Ablation, ...]

    def planned_rows(self, n: int) -> int:
        """Rows of n prompts."""
        return n * len(self.per_layer) * len(self.rivals) * len(self.ablations)


FULL = Sweep(PER_LAYER, RIVALS, ABLATIONS)


def planned_rows(n: int) -> int:
    """Rows of n prompts in the full sweep."""
    return FULL.planned_rows(n)


def knock_out_by_prompt(
    model: HookedModel,
    encoder: PromptEncoder,
    labels: Labelled,
    replaced: Replacements,
    prompts: Int[np.ndarray, "prompt"],
    rng: np.random.Generator,
    *,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per ablation, arm and size, on these correct prompts (indices into the labels' prompts)."""
    bests = labels.best(prompts)

    def choose(row: int) -> Sets:
        return prompt_sets(labels, bests[row], rng)

    return knock_out_sets(
        model, encoder, labels, replaced, prompts, choose, rng, sweep=FULL, batch_size=batch_size, progress=progress
    )


def knock_out_sets(
    model: HookedModel,
    encoder: PromptEncoder,
    labels: Labelled,
    replaced: Replacements,
    prompts: Int[np.ndarray, "prompt"],
    choose: Callable[[int], Sets],
    rng: np.random.Generator,
    *,
    sweep: Sweep,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per ablation, arm and size of the sweep; `choose(i)` gives the sets of prompts[i], size-major."""
    sets = [s for row in range(len(prompts)) for s in choose(row)]
    shape = (len(prompts), len(sweep.per_layer), len(sweep.rivals))
    place = np.arange(len(sets)).reshape(shape)
    of_prompt = np.broadcast_to(prompts[:, None, None], shape).ravel()
    values = [replaced.rows(ablation, of_prompt, rng) for ablation in sweep.ablations]
    n = len(sweep.ablations)
    rows = Knockouts(np.tile(of_prompt, n), np.tile(place.ravel(), n), np.concatenate(values))
    done = outcomes(
        model, encoder, labels.prompts, sets, rows, replaced.values, batch_size=batch_size, progress=progress
    )
    sizes = np.array([len(s) for s in sets], dtype=np.int64).reshape(shape)
    return _table(done, sizes, sweep)


def prompt_sets(labels: Labelled, best: Float[np.ndarray, "neuron"], rng: np.random.Generator) -> Sets:
    """One prompt's sets, size-major then arm, from each neuron's best score among heuristics that hold of it."""
    everything = labels.score.max(axis=1, initial=0.0)
    holding = ranked(labels.layers, best, best > 0)
    foreign = ranked(labels.layers, everything, (everything > 0) & (best == 0))
    shuffle = rng.random(len(best))
    sets = []
    for n in PER_LAYER:
        chosen = holding < n
        unrelated = foreign < in_layer(labels.layers, chosen)
        few = in_layer(labels.layers, unrelated)
        arms = (chosen, nested_others(labels.layers, chosen, shuffle), unrelated, holding < few)
        sets += [labels.neurons[at] for at in arms]
    return sets


def in_layer(layers: Int[np.ndarray, "neuron"], chosen: Bool[np.ndarray, "neuron"]) -> Int[np.ndarray, "neuron"]:
    """For each neuron, how many of its layer are chosen."""
    counts: np.ndarray = np.bincount(layers[chosen], minlength=int(layers.max(initial=0)) + 1)[layers]
    return counts


def nested_others(
    layers: Int[np.ndarray, "neuron"], chosen: Bool[np.ndarray, "neuron"], shuffle: Float[np.ndarray, "neuron"]
) -> Bool[np.ndarray, "neuron"]:
    """Others, in each layer as many as are chosen where there are so many: those with the largest random number."""
    others: np.ndarray = ranked(layers, shuffle, ~chosen) < in_layer(layers, chosen)
    return others


def ranked(
    layers: Int[np.ndarray, "neuron"], score: Float[np.ndarray, "neuron"], candidate: Bool[np.ndarray, "neuron"]
) -> Float[np.ndarray, "neuron"]:
    """Place of each candidate in its layer, 0 for the highest score (ties: the lower index); infinite for the rest."""
    rank = np.full(len(layers), np.inf)
    for layer in np.unique(layers[candidate]):
        at = np.flatnonzero(candidate & (layers == layer))
        rank[at[np.argsort(-score[at], kind="stable")]] = np.arange(len(at))
    return rank


def _table(done: Outcomes, sizes: Int[np.ndarray, "prompt size arm"], sweep: Sweep) -> pd.DataFrame:
    arms: Sequence[str] = list(sweep.rivals)
    shape = (len(sweep.ablations), *sizes.shape)
    right, probability = done.right.reshape(shape), done.probability.reshape(shape)
    table = []
    for a, ablation in enumerate(sweep.ablations):
        for s, per_layer in enumerate(sweep.per_layer):
            mean_size = sizes[:, s].mean(axis=0) if len(sizes) else np.full(len(arms), np.nan)
            for i, (arm, rival) in enumerate(sweep.rivals.items()):
                left = right[a, :, s, i]
                p = float("nan")
                if rival is not None and mean_size[i] >= SAME_SIZE * mean_size[arms.index(rival)] > 0:
                    p = mcnemar(right[a, :, s, arms.index(rival)], left)
                table.append(
                    {
                        "ablation": ablation,
                        "arm": arm,
                        "per_layer": per_layer,
                        "neurons": float(mean_size[i]),
                        **accuracy_columns(left),
                        "probability": float(probability[a, :, s, i].mean()) if len(left) else float("nan"),
                        "p": p,
                    }
                )
    return pd.DataFrame(table, columns=list(COLUMNS))
