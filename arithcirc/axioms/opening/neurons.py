"""What neurons go by: order of mention, a stated edge, or reachability, told apart by partial correlations.

A neuron's activation at the question's effect and at its mark, over the designed questions (designed.py), against the
FEATURES. The features go together (a stated edge is reachable), so each is correlated with what it alone explains: the
partial correlation r of activation and feature, both without their linear part in the other two features (Fisher 1924).
The base rate is the same with the questions' activations in random order: `threshold` is the largest |r| of any neuron
and feature in all PERMUTATIONS, at least FEWEST_R. A neuron's class is the feature of its largest |r| above it, "none"
below. A neuron of two features has the class of the stronger. One that goes by reachability may compute it or carry on
an answer that was computed before; the higher its layer, the more likely the latter.

Knock-outs put the STRONGEST neurons of a class to their means, at the question's effect and mark, where they are of the
class; others drawn at random, as many in each layer and role, say what that costs anyway.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from arithcirc.axioms.opening.ablation import Ablated
from arithcirc.axioms.opening.designed import FEATURES, features
from arithcirc.axioms.opening.replay import ratio
from arithcirc.measure.intervals import wilson
from arithcirc.models.protocol import Edit

ROLES = ("asked effect", "mark")
CLASSES = FEATURES
NONE = "none"
PERMUTATIONS = 20
FEWEST_R = 0.2
STRONGEST = 64
DRAWS = 8
COLUMNS = ("mention", "stated", "reachable")
"""Columns of partial correlations, in the order of FEATURES."""


def partial_correlations(
    values: Float[np.ndarray, "question neuron"], given: Float[np.ndarray, "question feature"]
) -> Float[np.ndarray, "neuron feature"]:
    """Partial correlation of each column with each feature, the other features held fixed; 0 if nothing is left."""
    found = np.zeros((values.shape[1], given.shape[1]))
    ones = np.ones((len(given), 1))
    for feature in range(given.shape[1]):
        basis = np.linalg.qr(np.concatenate([ones, np.delete(given, feature, axis=1)], axis=1))[0]
        rest = given[:, feature] - basis @ (basis.T @ given[:, feature])
        left = values - basis @ (basis.T @ values)
        size = np.linalg.norm(left, axis=0) * np.linalg.norm(rest)
        enough = size > 1e-9 * max(1.0, float(np.abs(values).max(initial=0.0)))
        found[:, feature] = np.where(enough, rest @ left / np.where(enough, size, 1.0), 0.0)
    return found


def base_rate(
    values: Float[np.ndarray, "question neuron"],
    given: Float[np.ndarray, "question feature"],
    rng: np.random.Generator,
    *,
    permutations: int = PERMUTATIONS,
) -> Float[np.ndarray, "permutation"]:
    """Largest |partial correlation| of any neuron and feature when the questions are in random order."""
    draws = (partial_correlations(values[rng.permutation(len(values))], given) for _ in range(permutations))
    return np.array([np.abs(found).max(initial=0.0) for found in draws])


def neuron_table(
    made: Ablated, *, seed: int, progress: Callable[[int], None] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of neurons, and what permutations find.

    Neurons: role, layer, neuron, mean, spread, mention, stated, reachable (partial correlations), class. Base rate:
    role, layer, neurons, permutations, mean_highest, threshold. `progress` counts layers.
    """
    given, rng = features(made.questions), np.random.default_rng(seed)
    model, rows, rates = made.opened.hooked, [], []
    for layer in range(model.info.n_layers):
        post = model.activations(made.tokens, parts=("post",), layers=range(layer, layer + 1)).post[layer]
        for role in ROLES:
            values = post[:, made.layout.question(role)[-1]].double().cpu().numpy()
            found, highest = partial_correlations(values, given), base_rate(values, given, rng)
            rates.append((role, layer, values.shape[1], len(highest), highest.mean(), highest.max()))
            facts = (values.mean(0), values.std(0), *found.T)
            rows.append(pd.DataFrame([*facts]).T.assign(role=role, layer=layer, neuron=np.arange(values.shape[1])))
        if progress is not None:
            progress(1)
    rate = pd.DataFrame(rates, columns=["role", "layer", "neurons", "permutations", "mean_highest", "threshold"])
    rate["threshold"] = max(FEWEST_R, float(rate["threshold"].max()))
    table = pd.concat(rows, ignore_index=True)
    table.columns = pd.Index(["mean", "spread", *COLUMNS, "role", "layer", "neuron"])
    strength = table[list(COLUMNS)].abs().to_numpy()
    named = np.array(CLASSES)[strength.argmax(1)]
    table["class"] = np.where(strength.max(1) > rate["threshold"].iloc[0], named, NONE)
    order = ["role", "layer", "neuron", "mean", "spread", *COLUMNS, "class"]
    return table[order], rate


def knockouts(
    sets: dict[str, Ablated], table: pd.DataFrame, *, seed: int, progress: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """Columns: questions, class, of_class, neurons, n, accuracy, low, high, clean, random, lost, se, random_lost,
    random_lost_high.

    `sets`: name -> questions. `of_class` neurons have the class, `neurons` of them, the strongest, are knocked out.
    `clean` is the accuracy without knock-outs, `random` the mean of DRAWS random sets. `lost` is the share of the mean
    margin towards the answer that is gone, below 0 where the class hurts; `random_lost` the mean of the random sets and
    `random_lost_high` the most of them. `progress` counts sets of questions.
    """
    rows = []
    for name, made in sets.items():
        clean = made.margins()
        rng = np.random.default_rng(seed)
        for label in CLASSES:
            masks = strongest(table, label, made.opened.hooked.info.n_layers, made.opened.hooked.info.d_mlp)
            margins = made.margins(edit=_knocked(made, masks))
            random = [made.margins(edit=_knocked(made, _others(masks, rng))) for _ in range(DRAWS)]
            right, gone = int((margins > 0).sum()), [ratio(clean - other, clean)[0] for other in random]
            facts = (
                *(int((table["class"] == label).sum()), int(sum(mask.sum() for mask in masks.values())), len(clean)),
                *(right / len(clean), *wilson(right, len(clean)), float((clean > 0).double().mean())),
                *(float(np.mean([float((other > 0).double().mean()) for other in random])),),
                *(*ratio(clean - margins, clean), float(np.mean(gone)), max(gone)),
            )
            rows.append((name, label, *facts))
        if progress is not None:
            progress(1)
    columns = ["questions", "class", "of_class", "neurons", "n", "accuracy", "low", "high", "clean", "random"]
    return pd.DataFrame(rows, columns=[*columns, "lost", "se", "random_lost", "random_lost_high"])


Masks = dict[str, Bool[np.ndarray, "layer neuron"]]
"""Role -> which neurons."""


def strongest(table: pd.DataFrame, label: str, n_layers: int, d_mlp: int) -> Masks:
    """The STRONGEST neurons of a class at most, by |partial correlation| with its feature."""
    found = {role: np.zeros((n_layers, d_mlp), dtype=bool) for role in ROLES}
    column = dict(zip(CLASSES, COLUMNS, strict=True))[label]
    mine = table[table["class"] == label].sort_values(column, key=abs, ascending=False, kind="stable")
    some = mine.head(STRONGEST)
    for role, layer, neuron in zip(some["role"], some["layer"], some["neuron"], strict=True):
        found[role][layer, neuron] = True
    return found


def _others(masks: Masks, rng: np.random.Generator) -> Masks:
    """As many neurons in each role and layer, drawn from those that are not among these as far as there are any."""
    found = {}
    for role, mask in masks.items():
        found[role] = np.zeros_like(mask)
        for layer, chosen in enumerate(mask):
            order = np.argsort(chosen + rng.random(len(chosen)) / 2)
            found[role][layer, order[: int(chosen.sum())]] = True
    return found


def _knocked(made: Ablated, masks: Masks) -> Edit:
    """These neurons at their means at the last token of their role."""

    def edit(part: str, layer: int, value: Tensor) -> Tensor | None:
        if part != "post" or not any(mask[layer].any() for mask in masks.values()):
            return None
        changed = torch.clone(value)
        for role, mask in masks.items():
            index, some = made.layout.question(role)[-1], torch.from_numpy(np.flatnonzero(mask[layer]))
            changed[:, index, some] = made.means.post[layer][index, some].to(value.device, value.dtype)
        return changed

    return edit
