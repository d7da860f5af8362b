"""How much of a checkpoint's answer its kept neurons carry: faithfulness with nothing else in the later MLPs.

From the first heuristics layer on, every MLP keeps only the neurons of a set; the others are set to their means at
every position. Earlier MLPs are whole. Two settings of the heads, all of them or the circuit's (as in the table
`neuron_faithfulness`). The sets:

    all      labelled important neurons
    kept     those with a (neuron, heuristic) pair that the reference has too
    new      the rest of all
    random_kept, random_new  as many neurons of the same layers as kept, or as new, drawn from all neurons of these
             layers; five draws
    none     no neuron of these layers: what heads and earlier MLPs do alone

F as in circuits.faithfulness, on the evaluate prompts. kept near all: what the reference will use carries this
checkpoint already. Cost: one forward per set and prompt.
Source: Nikankin et al. 2024 (arXiv 2410.21272), the section on training dynamics; spec section 8 (b).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from arithcirc.arithmetic.operators import Prompts
from arithcirc.circuits.circuit import masks_of
from arithcirc.circuits.faithfulness import judge_masks
from arithcirc.circuits.neuron_circuits import Rest
from arithcirc.measure.interventions import CircuitMasks
from arithcirc.measure.means import Means
from arithcirc.models.protocol import ModelInfo
from arithcirc.pipeline.job import Job
from arithcirc.sweep.kept import LabelRows, Members, random_like

RANDOM_DRAWS = 5
ANCHORS = 2
"""Circuits judged beside them: the full model and the empty circuit."""
_NONE = np.empty((0, 2), dtype=np.int64)


class NeuronSet(NamedTuple):
    """A set of neurons to keep: `draw` numbers the random ones."""

    name: str
    draw: int
    members: Members


def neuron_sets(rows: LabelRows, *, compared: bool, width: int, rng: np.random.Generator) -> list[NeuronSet]:
    """The sets in the order of the table; without a reference to compare with, all and none."""
    kept, new = rows.kept_neurons, rows.new_neurons
    sets = [NeuronSet("all", 0, rows.all_neurons)]
    if compared:
        for name, chosen in (("kept", kept), ("new", new)):
            sets.append(NeuronSet(name, 0, chosen))
            draws = range(RANDOM_DRAWS)
            sets += [NeuronSet(f"random_{name}", draw, random_like(chosen, width, rng)) for draw in draws]
    return [*sets, NeuronSet("none", 0, _NONE)]


def n_sets(*, compared: bool) -> int:
    """How many sets there are."""
    return 4 + 2 * RANDOM_DRAWS if compared else 2


def set_masks(sets: Sequence[NeuronSet], rest: Rest, first_layer: int, info: ModelInfo) -> CircuitMasks:
    """Masks that keep the rest, and of the MLPs from the first layer on only each set's neurons."""
    below = tuple(m for m in rest.mlps if m < first_layer)
    coarse = masks_of([(rest.heads, below)] * len(sets), info.n_layers, info.n_heads)
    neurons = torch.zeros(len(sets), info.n_layers, info.d_mlp, dtype=torch.bool)
    for row, chosen in enumerate(sets):
        at = torch.from_numpy(chosen.members)
        neurons[row, at[:, 0], at[:, 1]] = True
    neurons[:, [layer for layer in range(info.n_layers) if layer not in rest.mlps]] = False
    return CircuitMasks(coarse.heads, coarse.mlps, neurons)


def kept_faithfulness(
    job: Job,
    evaluate: Prompts,
    rows: dict[str, LabelRows],
    rests: Sequence[Rest],
    means: Means,
    rng: np.random.Generator,
    *,
    compared: bool,
    first_layer: int,
    progress: Callable[[int], None],
) -> pd.DataFrame:
    """One row per sort of labels, setting of the heads and set; `rows` by sort of labels."""
    info = job.model.info
    labels, masks = [], []
    for kind, labelled in rows.items():
        sets = neuron_sets(labelled, compared=compared, width=info.d_mlp, rng=rng)
        for rest in rests:
            masks.append(set_masks(sets, rest, first_layer, info))
            labels += [(kind, rest.name, s.name, s.draw, len(s.members)) for s in sets]
    tokens = torch.from_numpy(job.encoder.encode(evaluate)).to(job.model.device)
    answers = torch.from_numpy(job.encoder.answers(evaluate.answer)).to(job.model.device)
    judged = judge_masks(
        job.model, tokens, answers, _joined(masks), means, batch_size=job.batch_size, progress=progress
    )
    named = pd.DataFrame(labels, columns=["labels", "heads", "neurons", "draw", "n_neurons"])
    return pd.concat([named, judged.table.iloc[ANCHORS:].reset_index(drop=True)], axis=1)


def _joined(masks: Sequence[CircuitMasks]) -> CircuitMasks:
    joined = masks[0]
    for more in masks[1:]:
        joined = joined.before(more)
    return joined
