"""Circuits with few neurons: how many per layer are needed, and whether operators share them.

From the first heuristics layer on, every MLP keeps only its k strongest neurons; the others are set to their means at
every position, as everything outside a circuit is (measure.interventions). Two settings of the rest:

    circuit   only the circuit's heads and MLPs: the faithfulness of the whole circuit
    all       every head and every earlier MLP kept: the effect of dropping neurons and nothing else

k = 0 drops these MLPs, k = width keeps them whole ("all" is then the full model, F = 1). Random rankings of the same k
say how much the choice of neurons matters. A ranking of single effects is greedy: neurons that back each other up rank
low, so needing few neurons is evidence, needing many is none.

Overlap of operators' sets: IoU = |A n B| / |A u B|; by chance, with a_l and b_l of a layer's w neurons drawn at random,
|A n B| is a sum of hypergeometric variables and E[IoU] is computed from its exact distribution.
Source: Nikankin et al. 2024 (arXiv 2410.21272), sections 3 and 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int

from arithcirc.circuits.circuit import masks_of
from arithcirc.circuits.neurons import important
from arithcirc.components import Head, all_heads
from arithcirc.measure.agreement import expected_jaccard
from arithcirc.measure.interventions import CircuitMasks

Ranking = Literal["exact", "estimate", "random"]
Ranks = Int[np.ndarray, "layer neuron"]
_STEPS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Rest:
    """What is kept beside the ranked neurons: `name` is circuit or all."""

    name: Literal["circuit", "all"]
    heads: tuple[Head, ...]
    mlps: tuple[int, ...]


@dataclass(frozen=True)
class NeuronCircuit:
    """The `top` neurons of each MLP from the first layer on by a ranking, and the rest; `draw` numbers random ones."""

    ranking: Ranking
    draw: int
    top: int
    rest: Rest


def everything(n_layers: int, n_heads: int) -> Rest:
    """Every head and MLP."""
    return Rest("all", all_heads(n_layers, n_heads), tuple(range(n_layers)))


def neuron_grid(width: int, top: int | None = None) -> list[int]:
    """Neurons kept per layer: 0, 1, 2, 5, 10, 20, 50, 100, doubling from there, the width, and `top` if given."""
    steps = list(_STEPS)
    while steps[-1] < width:
        steps.append(2 * steps[-1])
    asked = [] if top is None else [min(top, width)]
    return sorted({0, *(k for k in steps if k < width), width, *asked})


def ranked_circuits(grid: Sequence[int], rests: Sequence[Rest]) -> list[NeuronCircuit]:
    """By exact and by estimated effect, at every size of the grid."""
    rankings: tuple[Ranking, Ranking] = ("exact", "estimate")
    return [NeuronCircuit(ranking, 0, k, rest) for rest in rests for ranking in rankings for k in grid]


def random_circuits(grid: Sequence[int], rests: Sequence[Rest], draws: int) -> list[NeuronCircuit]:
    """`draws` random rankings at the sizes that are neither none nor all."""
    inner = sorted(grid)[1:-1]
    return [NeuronCircuit("random", d, k, rest) for rest in rests for d in range(draws) for k in inner]


def random_ranks(n_layers: int, width: int, draws: int, rng: np.random.Generator) -> list[Ranks]:
    """Independent random orders of each layer's neurons."""
    return [np.stack([rng.permutation(width) + 1 for _ in range(n_layers)]) for _ in range(draws)]


def neuron_masks(
    circuits: Sequence[NeuronCircuit],
    ranks: Mapping[tuple[Ranking, int], Ranks],
    *,
    first_layer: int,
    n_heads: int,
) -> CircuitMasks:
    """Masks of these circuits; `ranks` by (ranking, draw). MLPs below the first layer are whole or absent."""
    n_layers, width = next(iter(ranks.values())).shape
    below = [(c.rest.heads, tuple(m for m in c.rest.mlps if m < first_layer)) for c in circuits]
    coarse = masks_of(below, n_layers, n_heads)
    neurons = torch.zeros(len(circuits), n_layers, width, dtype=torch.bool)
    for row, circuit in enumerate(circuits):
        kept = important(ranks[circuit.ranking, circuit.draw], top=circuit.top, first_layer=first_layer)
        kept[[layer for layer in range(n_layers) if layer not in circuit.rest.mlps]] = False
        neurons[row] = torch.from_numpy(kept)
    return CircuitMasks(coarse.heads, coarse.mlps, neurons)


def label_rows(numbers: pd.DataFrame, circuits: Sequence[NeuronCircuit]) -> pd.DataFrame:
    """Rows of the table `neuron_faithfulness` from judged numbers, the two anchors before the circuits left out."""
    labels = pd.DataFrame(
        {
            "ranking": [c.ranking for c in circuits],
            "heads": [c.rest.name for c in circuits],
            "top": [c.top for c in circuits],
            "draw": [c.draw for c in circuits],
        }
    )
    return pd.concat([labels, numbers.iloc[2:].reset_index(drop=True)], axis=1)


def fewest_faithful(table: pd.DataFrame, target: float) -> int:
    """Fewest exactly ranked neurons per layer, at least 1, that recover `target` of what the neurons add to F.

    F(k) >= F(0) + target (1 - F(0)), every head kept: for an operator whose F is high without any neuron (half of all
    divisions answer 0), a bar on F alone would call no neuron important. All neurons of a layer where none reaches it.
    """
    curve = table[(table["ranking"] == "exact") & (table["heads"] == "all")]
    empty = curve.loc[curve["top"] == 0, "faithfulness"].clip(lower=0, upper=1).fillna(0)
    base = float(empty.iloc[0]) if len(empty) else 0.0
    curve = curve[curve["top"] > 0]
    reached = curve[curve["faithfulness"] >= base + target * (1 - base)]
    return int(reached["top"].min() if len(reached) else curve["top"].max())


# -- overlap ------------------------------------------------------------------------------------------------------


def overlap_rows(ranks: Mapping[str, Ranks], first_layers: Mapping[str, int], *, top: int) -> pd.DataFrame:
    """Rows of the table `neuron_overlap`: every pair of operators, each with its `top` neurons per layer.

    One `top` for all operators: sets of different sizes could not have an IoU of 1.
    """
    sets = {name: important(r, top=top, first_layer=first_layers[name]) for name, r in ranks.items()}
    rows = []
    for one, other in combinations(sets, 2):
        a, b = sets[one], sets[other]
        shared, union = int((a & b).sum()), int((a | b).sum())
        labels = {"operator": one, "other": other, "top": top, "shared": shared, "union": union}
        rows.append(labels | {"iou": shared / union, "expected": expected_iou(a, b)})
    columns = ["operator", "other", "top", "shared", "union", "iou", "expected"]
    return pd.DataFrame(rows, columns=columns)


def expected_iou(a: Bool[np.ndarray, "layer neuron"], b: Bool[np.ndarray, "layer neuron"]) -> float:
    """E[IoU] of random sets with as many neurons of each layer as these."""
    return expected_jaccard((a.shape[1], x, y) for x, y in zip(a.sum(1).tolist(), b.sum(1).tolist(), strict=True))
