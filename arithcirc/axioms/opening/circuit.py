"""Which heads and MLPs are enough: greedy backward elimination by exact effects, judged on questions not used for it.

m(c) is the mean margin towards the right answer with everything outside c at its mean. In every round the parts that
remain are taken out one at a time, and the share DROP of them whose loss costs least is removed: one at least, and only
one where all of them would bring F below the target. So the order knows what else is gone already. With full = nothing
and empty = everything ablated,

    faithfulness F(c) = (m(c) - m(empty)) / (m(full) - m(empty)),    completeness = 1 - F(everything but c)

The circuit is the smallest set on the way with F >= target on the questions that it is chosen on. A circuit that is
faithful but not complete leaves out parts that do the same once more. Random circuits have as many heads and MLPs.
Margins of confident models can be many nats, so accuracy stands beside F.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from arithcirc.axioms.opening.ablation import Ablated
from arithcirc.components import Head, Mlp, all_heads, all_mlps
from arithcirc.measure.intervals import wilson
from arithcirc.measure.interventions import CircuitMasks

DROP = 0.15
TARGET = 0.9
RANDOM = 10
Part = Head | Mlp


@dataclass(frozen=True)
class Elimination:
    """Parts in the order in which they were removed, what each cost alone, and F with those that remained after it.

    `circuit` is the smallest set with F >= target; `alone` is the loss of F when a part of the full model is ablated.
    """

    order: tuple[Part, ...]
    after: tuple[float, ...]
    alone: dict[Part, float]
    circuit: tuple[Part, ...]


def masks_of(sets: Sequence[Sequence[Part]], n_layers: int, n_heads: int) -> CircuitMasks:
    """Masks that keep these parts."""
    heads = torch.zeros(len(sets), n_layers, n_heads, dtype=torch.bool)
    mlps = torch.zeros(len(sets), n_layers, dtype=torch.bool)
    for row, parts in enumerate(sets):
        for part in parts:
            if isinstance(part, Head):
                heads[row, part.layer, part.index] = True
            else:
                mlps[row, part.layer] = True
    return CircuitMasks(heads, mlps)


def all_parts(made: Ablated) -> tuple[Part, ...]:
    """Every head and MLP."""
    info = made.opened.hooked.info
    return (*all_heads(info.n_layers, info.n_heads), *all_mlps(info.n_layers))


def margins_of(made: Ablated, sets: Sequence[Sequence[Part]]) -> Float[Tensor, "circuit prompt"]:
    """Margin towards the right answer with only these parts left."""
    info = made.opened.hooked.info
    return made.circuits(masks_of(sets, info.n_layers, info.n_heads))


def eliminate(made: Ablated, *, target: float = TARGET, progress: Callable[[int], None] | None = None) -> Elimination:
    """Remove parts until none is left. `progress` counts parts removed."""
    left = list(all_parts(made))
    full, empty = margins_of(made, [left, []]).mean(1).tolist()
    gap = full - empty or float("nan")
    order: list[Part] = []
    after: list[float] = []
    alone: dict[Part, float] = {}
    last = 1.0
    while left:
        trials = [[p for p in left if p is not part] for part in left]
        kept = ((margins_of(made, trials).mean(1) - empty) / gap).tolist()
        if not alone:
            alone = {part: 1 - value for part, value in zip(left, kept, strict=True)}
        cheapest = sorted(range(len(left)), key=lambda i: -kept[i])[: max(1, int(DROP * len(left)))]
        gone = [left[i] for i in cheapest]
        left = [part for part in left if part not in gone]
        value = kept[cheapest[0]] if len(gone) == 1 else float((margins_of(made, [left]).mean() - empty) / gap)
        if len(gone) > 1 and value < target <= last:
            left, gone, value = [*left, *gone[1:]], gone[:1], kept[cheapest[0]]
        last = value
        order += gone
        after += [float("nan")] * (len(gone) - 1) + [value]
        if progress is not None:
            progress(len(gone))
    enough = [i for i, value in enumerate(after) if value >= target]
    kept_from = enough[-1] + 1 if enough else 0
    return Elimination(tuple(order), tuple(after), alone, tuple(sorted(order[kept_from:], key=_place)))


def _place(part: Part) -> tuple[int, int]:
    return (part.layer, part.index) if isinstance(part, Head) else (part.layer, 10**6)


def circuit_table(found: Elimination) -> pd.DataFrame:
    """Columns: part, kind, layer, head, alone, removed, faithfulness_after, in_circuit.

    `removed` counts from 1; `faithfulness_after` is missing within a round.
    """
    rows = [
        (str(part), *_kind(part), found.alone[part], place, value, part in found.circuit)
        for place, (part, value) in enumerate(zip(found.order, found.after, strict=True), start=1)
    ]
    columns = ["part", "kind", "layer", "head", "alone", "removed", "faithfulness_after", "in_circuit"]
    return pd.DataFrame(rows, columns=columns).astype({"head": "Int64"})


def _kind(part: Part) -> tuple[str, int, int | None]:
    return ("head", part.layer, part.index) if isinstance(part, Head) else ("mlp", part.layer, None)


def faithfulness(sets: dict[str, Ablated], circuit: Sequence[Part], *, seed: int) -> pd.DataFrame:
    """Columns: questions, circuit, draw, heads, mlps, n, margin, faithfulness, completeness, accuracy, low, high.

    `sets`: name -> questions. Circuits are full, empty, found, without (everything but the found one) and random.
    """
    return pd.concat([_judged(name, made, circuit, seed) for name, made in sets.items()], ignore_index=True)


def _judged(name: str, made: Ablated, circuit: Sequence[Part], seed: int) -> pd.DataFrame:
    parts = all_parts(made)
    heads, mlps = ([p for p in parts if isinstance(p, kind)] for kind in (Head, Mlp))
    n_heads = sum(isinstance(p, Head) for p in circuit)
    rng = np.random.default_rng(seed)
    candidates: list[tuple[str, int, list[Part]]] = [
        ("full", 0, list(parts)),
        ("empty", 0, []),
        ("found", 0, list(circuit)),
        ("without", 0, [p for p in parts if p not in circuit]),
    ]
    for draw in range(RANDOM if 0 < len(circuit) < len(parts) else 0):
        some = [heads[i] for i in rng.permutation(len(heads))[:n_heads]]
        candidates.append(
            ("random", draw, [*some, *(mlps[i] for i in rng.permutation(len(mlps))[: len(circuit) - n_heads])])
        )
    margins = margins_of(made, [kept for _, _, kept in candidates])
    means = margins.mean(1).tolist()
    gap = means[0] - means[1] or float("nan")
    faithful = [(mean - means[1]) / gap for mean in means]
    rows = []
    for (label, draw, kept), margin, mean, value in zip(candidates, margins, means, faithful, strict=True):
        right, n = int((margin > 0).sum()), margins.shape[1]
        count = sum(isinstance(p, Head) for p in kept)
        complete = 1 - faithful[3] if label == "found" else float("nan")
        facts = (label, draw, count, len(kept) - count, n, mean, value, complete, right / n, *wilson(right, n))
        rows.append((name, *facts))
    columns = ["questions", "circuit", "draw", "heads", "mlps", "n", "margin", "faithfulness", "completeness"]
    return pd.DataFrame(rows, columns=[*columns, "accuracy", "low", "high"])
