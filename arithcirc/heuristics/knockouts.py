"""One knockout, to look at: a heuristic's neurons, or those of one prompt's heuristics, and what is answered then.

The same ablations as in `by_heuristic` and `by_prompt`, for a single case, with the model's most likely answers before
and after. One prompt is an example, not evidence; the sweeps are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.errors import PromptError, RequestError
from arithcirc.heuristics.arms import outcomes
from arithcirc.heuristics.by_heuristic import as_many_others, in_and_out
from arithcirc.heuristics.labelled import Labelled
from arithcirc.heuristics.paired import accuracy_columns
from arithcirc.measure.knockout import Knockouts, NeuronSets, Values, knock_out, zero_values
from arithcirc.models.protocol import HookedModel

Members = Int[np.ndarray, "_ 2"]


@dataclass(frozen=True)
class Guess:
    """A token the model may say, and how likely it is to."""

    token: str
    probability: float


@dataclass(frozen=True)
class PromptCase:
    """One prompt with neurons knocked out: `neurons` by layer, the likeliest tokens before and after, best first."""

    prompt: str
    answer: int
    heuristics: tuple[str, ...]
    neurons: dict[int, tuple[int, ...]]
    before: tuple[Guess, ...]
    after: tuple[Guess, ...]


@dataclass(frozen=True)
class Side:
    """Accuracy on n correct prompts with the heuristic's neurons knocked out (95% interval), and with random ones."""

    n: int
    accuracy: float
    low: float
    high: float
    random: float


@dataclass(frozen=True)
class HeuristicCase:
    """One heuristic with its neurons, by layer, knocked out: accuracy inside and outside it, and examples in it."""

    operator: str
    heuristic: str
    neurons: dict[int, tuple[int, ...]]
    inside: Side
    outside: Side
    examples: tuple[PromptCase, ...]


def knock_out_prompt(
    model: HookedModel,
    encoder: PromptEncoder,
    labels: Labelled,
    prompt: Prompts,
    *,
    per_layer: int | None = None,
    heuristic: str | None = None,
    values: Values | None = None,
    top: int = 5,
) -> PromptCase:
    """Knock out the neurons of every heuristic that holds of the prompt, at most `per_layer` of each layer.

    With `heuristic`, the neurons of that one, whether it holds of the prompt or not. `values` holds one replacement
    (default: zero). Raises RequestError for a heuristic nobody carries.
    """
    same = (labels.prompts.op1 == prompt.op1[0]) & (labels.prompts.op2 == prompt.op2[0])
    if len(prompt) != 1 or labels.prompts.symbols[0] != prompt.symbols[0] or not same.any():
        raise PromptError(f"{', '.join(prompt.texts()[:2])} is not one legal prompt of these labels: choose another")
    place = int(np.flatnonzero(same)[0])
    if heuristic is not None:
        chosen = labels.carried[:, labels.index(heuristic)]
    else:
        chosen = _strongest(labels, labels.best(np.array([place]))[0], per_layer)
    return _show(model, encoder, labels, [place], labels.neurons[chosen], values, top)[0]


def _strongest(labels: Labelled, best: Float[np.ndarray, "neuron"], per_layer: int | None) -> np.ndarray:
    """Neurons with a heuristic that holds, the best-scored of each layer."""
    chosen = best > 0
    for layer in np.unique(labels.layers):
        at = np.flatnonzero(chosen & (labels.layers == layer))
        chosen[at[np.argsort(-best[at], kind="stable")][per_layer if per_layer is not None else len(at) :]] = False
    return chosen


def knock_out_heuristic(
    model: HookedModel,
    encoder: PromptEncoder,
    labels: Labelled,
    name: str,
    rng: np.random.Generator,
    *,
    n: int = 100,
    examples: int = 5,
    values: Values | None = None,
    top: int = 5,
    batch_size: int = 2048,
) -> HeuristicCase:
    """Knock out every neuron of one heuristic on n correct prompts inside it and n outside, and show some examples.

    Raises RequestError when the name is not understood, holds of no legal prompt, or no neuron carries it.
    """
    h = labels.index(name)
    order = rng.permutation(len(labels.prompts))
    sides = in_and_out(labels, h, order, n)
    if not len(sides[0]):
        raise RequestError(f"{model.info.name} answers no prompt of {name!r} correctly: choose another heuristic")
    carried = labels.carried[:, h]
    sets = [labels.neurons[carried], labels.neurons[as_many_others(labels.layers, carried, rng)]]
    both = np.concatenate(sides)
    rows = Knockouts(np.tile(both, 2), np.repeat([0, 1], len(both)), np.zeros(2 * len(both), dtype=np.int64))
    replaced = zero_values(model) if values is None else values
    right = outcomes(model, encoder, labels.prompts, sets, rows, replaced, batch_size=batch_size).right
    targeted, random = right[: len(both)], right[len(both) :]
    cut = len(sides[0])
    shown = _show(model, encoder, labels, sides[0][:examples].tolist(), sets[0], values, top)
    return HeuristicCase(
        operator=str(labels.prompts.symbols[0]),
        heuristic=labels.names[h],
        neurons=_by_layer(sets[0]),
        inside=_side(targeted[:cut], random[:cut]),
        outside=_side(targeted[cut:], random[cut:]),
        examples=tuple(shown),
    )


def _side(targeted: np.ndarray, random: np.ndarray) -> Side:
    found = accuracy_columns(targeted)
    control = accuracy_columns(random)["accuracy"]
    return Side(len(targeted), found["accuracy"], found["low"], found["high"], control)


def _by_layer(members: Members) -> dict[int, tuple[int, ...]]:
    return {int(layer): tuple(members[members[:, 0] == layer, 1].tolist()) for layer in np.unique(members[:, 0])}


def _show(
    model: HookedModel,
    encoder: PromptEncoder,
    labels: Labelled,
    places: Sequence[int],
    members: Members,
    values: Values | None,
    top: int,
) -> list[PromptCase]:
    """These prompts with these neurons knocked out, with the likeliest tokens before and after."""
    prompts = labels.prompts[np.array(places, dtype=np.int64)]
    tokens = torch.from_numpy(encoder.encode(prompts)).to(model.device)
    none = np.empty((0, 2), dtype=np.int64)
    n, order = len(places), np.arange(len(places))
    rows = Knockouts(np.tile(order, 2), np.repeat([0, 1], n), np.zeros(2 * n, dtype=np.int64))
    replaced = zero_values(model) if values is None else values
    k = min(top, model.info.d_vocab)

    def likeliest(logits: Float[Tensor, "row vocab"], _: Int[np.ndarray, "row"]) -> Float[Tensor, "row metric"]:
        found = logits.double().softmax(-1).topk(k, dim=-1)
        return torch.cat([found.values, found.indices.double()], dim=-1)

    found = knock_out(model, tokens, NeuronSets.of([none, members]), rows, replaced, likeliest).numpy()
    guesses = [
        tuple(Guess(str(model.tokenizer.decode([int(t)])), float(p)) for p, t in zip(row[:k], row[k:], strict=True))
        for row in found
    ]
    texts = prompts.texts()
    return [
        PromptCase(
            prompt=texts[i],
            answer=int(prompts.answer[i]),
            heuristics=tuple(np.array(labels.names, dtype=object)[labels.masks[:, place]].tolist()),
            neurons=_by_layer(members),
            before=guesses[i],
            after=guesses[n + i],
        )
        for i, place in enumerate(places)
    ]
