"""Ablation by heuristic: knock out every neuron that carries H, on prompts in H and outside it.

For each heuristic with at least one neuron, n correct prompts in H and n outside it; every neuron labelled H is
replaced at `=`, and the accuracy that is left is counted (it is 1 before). If H is what these neurons do, prompts in H
suffer and the others do not. The control of the zero ablation replaces as many random important neurons of the same
layers that are not labelled H, on the same prompts: it shows what losing that many neurons costs anyway.

Rows, per heuristic: 2n prompts x (zero targeted, zero random, mean targeted, resample targeted). Neurons carry many
labels and heuristics overlap, so rows of different heuristics are not independent; and a fall inside H shows that the
neurons are needed there, not that H is how they work.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 4; spec section 7.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.heuristics.arms import Ablation, Outcomes, Progress, Replacements, outcomes
from arithcirc.heuristics.labelled import Labelled
from arithcirc.heuristics.paired import accuracy_columns, mcnemar
from arithcirc.measure.knockout import Knockouts
from arithcirc.models.protocol import HookedModel

ARMS: tuple[tuple[Ablation, str], ...] = (
    ("zero", "targeted"),
    ("zero", "random"),
    ("mean", "targeted"),
    ("resample", "targeted"),
)
COLUMNS = (
    *("heuristic", "family", "ablation", "arm", "where", "neurons"),
    *("n", "correct", "accuracy", "low", "high", "p"),
)


@dataclass(frozen=True)
class _Case:
    """One heuristic's prompts and sets: `sets` are the places of its targeted and its random set."""

    heuristic: int
    prompts: dict[str, Int[np.ndarray, "_"]]
    sets: dict[str, int]


def planned_rows(labels: Labelled, n: int) -> int:
    """Rows that `knock_out_by_heuristic` runs."""
    inside = (labels.masks & labels.correct).sum(axis=1)
    outside = labels.correct.sum() - inside
    return int(len(ARMS) * (np.minimum(inside, n) + np.minimum(outside, n)).sum())


def knock_out_by_heuristic(
    model: HookedModel,
    encoder: PromptEncoder,
    labels: Labelled,
    replaced: Replacements,
    rng: np.random.Generator,
    *,
    n: int,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per heuristic, arm, and prompts in or out."""
    order = rng.permutation(len(labels.prompts))
    sets: list[np.ndarray] = []
    cases: list[_Case] = []
    for h in range(len(labels.names)):
        carried = labels.carried[:, h]
        sets += [labels.neurons[carried], labels.neurons[as_many_others(labels.layers, carried, rng)]]
        places = {"targeted": len(sets) - 2, "random": len(sets) - 1}
        inside, outside = in_and_out(labels, h, order, n)
        cases.append(_Case(h, {"in": inside, "out": outside}, places))
    rows = _rows(cases, replaced, rng)
    done = outcomes(
        model, encoder, labels.prompts, sets, rows, replaced.values, batch_size=batch_size, progress=progress
    )
    return _table(labels, cases, [len(s) for s in sets], done)


def in_and_out(
    labels: Labelled, heuristic: int, order: Int[np.ndarray, "prompt"], n: int
) -> tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]]:
    """The first n correct prompts inside a heuristic and outside it, in this order, which all heuristics share.

    Heuristics then have most of their prompts in common, and each is recorded once.
    """
    right = order[labels.correct[order]]
    inside = labels.masks[heuristic][right]
    return right[np.flatnonzero(inside)[:n]], right[np.flatnonzero(~inside)[:n]]  # no views: they would keep it all


def as_many_others(
    layers: Int[np.ndarray, "neuron"], chosen: Bool[np.ndarray, "neuron"], rng: np.random.Generator
) -> Bool[np.ndarray, "neuron"]:
    """As many random neurons of each layer as were chosen there, none of them chosen; fewer where there are no more."""
    taken = np.zeros(len(layers), dtype=bool)
    for layer in np.unique(layers[chosen]):
        others = np.flatnonzero((layers == layer) & ~chosen)
        taken[rng.permutation(others)[: int((chosen & (layers == layer)).sum())]] = True
    return taken


def _rows(cases: list[_Case], replaced: Replacements, rng: np.random.Generator) -> Knockouts:
    """Heuristic-major, then arm, then prompts in and out: the order `_table` reads them in."""
    prompts, sets, values = [], [], []
    for case in cases:
        both = np.concatenate([case.prompts["in"], case.prompts["out"]])
        for ablation, arm in ARMS:
            prompts.append(both)
            sets.append(np.full(len(both), case.sets[arm], dtype=np.int64))
            values.append(replaced.rows(ablation, both, rng))
    empty = np.empty(0, dtype=np.int64)
    return Knockouts(*(np.concatenate([empty, *parts]) for parts in (prompts, sets, values)))


def _table(labels: Labelled, cases: list[_Case], sizes: list[int], done: Outcomes) -> pd.DataFrame:
    table, at = [], 0
    for case in cases:
        right: dict[tuple[Ablation, str, str], np.ndarray] = {}
        for ablation, arm in ARMS:
            for where, prompts in case.prompts.items():
                right[ablation, arm, where] = done.right[at : at + len(prompts)]
                at += len(prompts)
        for (method, arm, where), left in right.items():
            control = right.get((method, "random", where))
            p = mcnemar(left, control) if arm == "targeted" and control is not None else float("nan")
            table.append(
                {
                    "heuristic": labels.names[case.heuristic],
                    "family": labels.families[case.heuristic],
                    "ablation": method,
                    "arm": arm,
                    "where": where,
                    "neurons": sizes[case.sets[arm]],
                    **accuracy_columns(left),
                    "p": p,
                }
            )
    return pd.DataFrame(table, columns=list(COLUMNS))
