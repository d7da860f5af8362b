"""Failure modes: do the heuristics of a prompt push its answer less where the model is wrong?

For correct and incorrect prompts, the associated neurons are those that carry a heuristic which holds of the prompt (by
its operands and true result), and for them

    neurons        how many there are
    contribution   sum over them of h_n(p) x (what v_n writes into the logit of the true answer)

with h_n at `=`, the final norm's scale folded into W_U and W_U centred over the vocabulary. The final norm also divides
by the size of the prompt's residual; that division is NOT applied, so contributions are comparable between neurons of a
prompt and, as far as residuals have like sizes, between prompts. It is what these neurons write directly, not what
later layers make of it. The two groups are compared by a Mann-Whitney U test, two-sided.

Both groups are drawn from all legal prompts, so that the few that a good model gets wrong are found.
The paper finds as many associated neurons in both groups and a higher contribution where the model is right.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 4; spec section 7.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import mannwhitneyu

from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import Neuron
from arithcirc.heuristics.labelled import Labelled
from arithcirc.measure.maps import activation_maps, value_logits
from arithcirc.models.protocol import HookedModel

FEWEST = 5
"""Prompts a group needs for a test."""
MEASURES = ("neurons", "contribution")
NO_NUMBER = "no number"
"""What stands for an answer that is no number."""


@dataclass(frozen=True)
class Failures:
    """Rows of the tables `failures` and `failure_tests` for one operator."""

    prompts: pd.DataFrame
    tests: pd.DataFrame


def planned_rows(labels: Labelled, n: int) -> int:
    """Prompts that `failures` compares."""
    right = int(labels.correct.sum())
    return min(n, right) + min(n, len(labels.correct) - right)


def failures(
    model: HookedModel,
    encoder: PromptEncoder,
    labels: Labelled,
    given: Int[np.ndarray, "prompt"],
    rng: np.random.Generator,
    *,
    n: int,
    batch_size: int = 2048,
) -> Failures:
    """At most n correct and n incorrect prompts, drawn from all legal ones, with their associated neurons, compared.

    `given` is the number the model answers to each of the labels' prompts, -1 where it says something else.
    """
    order = rng.permutation(len(labels.prompts))
    right = labels.correct[order]
    chosen = np.concatenate([order[right][:n], order[~right][:n]])
    prompts = labels.prompts[chosen]
    associated = labels.best(chosen) > 0
    written = contributions(model, encoder, labels, chosen, batch_size=batch_size)
    table = pd.DataFrame(
        {
            "prompt": prompts.texts(),
            "answer": prompts.answer,
            "given": [str(number) if number >= 0 else NO_NUMBER for number in given[chosen].tolist()],
            "correct": labels.correct[chosen],
            "neurons": associated.sum(axis=1),
            "contribution": np.where(associated, written, 0).sum(axis=1),
        }
    )
    return Failures(table, compare(table))


def contributions(
    model: HookedModel,
    encoder: PromptEncoder,
    labels: Labelled,
    prompts: Int[np.ndarray, "prompt"],
    *,
    batch_size: int = 2048,
) -> Float[np.ndarray, "prompt neuron"]:
    """h_n(p) x the logit v_n writes to the answer of p, for the labels' neurons on some of their prompts."""
    neurons = [Neuron(layer, index) for layer, index in labels.neurons.tolist()]
    maps = activation_maps(model, encoder, labels.prompts[prompts], neurons, batch_size=batch_size)
    return maps.kv(value_logits(model, encoder, neurons)).T.astype(np.float64)


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """One test per measure, correct against incorrect prompts."""
    right: Bool[np.ndarray, prompt] = table["correct"].to_numpy(dtype=bool)
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    rows = []
    for measure in MEASURES:
        values = table[measure].to_numpy(dtype=float)
        u = p = float("nan")
        note = None
        if min(n_right, n_wrong) < FEWEST:
            fewer, word = (n_wrong, "incorrect") if n_wrong <= n_right else (n_right, "correct")
            note = f"not tested: only {fewer} {word} prompts among all legal ones, at least {FEWEST} are needed"
        else:
            test = mannwhitneyu(values[right], values[~right], alternative="two-sided")
            u, p = float(test.statistic), float(test.pvalue)
        rows.append(
            {
                "measure": measure,
                "n_correct": n_right,
                "n_incorrect": n_wrong,
                "median_correct": _median(values[right]),
                "median_incorrect": _median(values[~right]),
                "u": u,
                "p": p,
                "note": note,
            }
        )
    return pd.DataFrame(rows)


def _median(values: Float[np.ndarray, "_"]) -> float:
    return float(np.median(values)) if len(values) else float("nan")
