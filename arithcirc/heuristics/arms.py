"""What an ablation sets neurons to, and what the model answers then.

zero      h_n = 0, the paper's
mean      h_n = its mean at `=` over all prompts of all operators
resample  h_n = its value on another legal prompt of the same operator, drawn per row from a few that are recorded
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.measure.knockout import (
    Knockouts,
    NeuronSets,
    Values,
    knock_out,
    mean_values,
    stack_values,
    values_of,
    zero_values,
)
from arithcirc.measure.means import Means
from arithcirc.models.protocol import HookedModel

Ablation = Literal["zero", "mean", "resample"]
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)
DONORS = 64
"""Other prompts whose activations resampling draws from."""
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Replacements:
    """Replacement activations: row 0 is zero, row 1 the mean, row 2 + i the prompt donors[i] (an index)."""

    values: Values
    donors: Int[np.ndarray, "donor"]

    def rows(
        self, ablation: Ablation, prompts: Int[np.ndarray, "row"], rng: np.random.Generator
    ) -> Int[np.ndarray, "row"]:
        """The replacement of each row; a resampled row never takes its own prompt where there is another."""
        if ablation != "resample":
            return np.full(len(prompts), ABLATIONS.index(ablation), dtype=np.int64)
        drawn = rng.integers(len(self.donors), size=len(prompts))
        own = self.donors[drawn] == prompts
        return 2 + np.where(own, (drawn + 1) % len(self.donors), drawn)


def replacements(
    model: HookedModel,
    encoder: PromptEncoder,
    prompts: Prompts,
    means: Means,
    rng: np.random.Generator,
) -> Replacements:
    """Zero, the mean, and the activations of some of these prompts."""
    donors = rng.permutation(len(prompts))[:DONORS]
    tokens = torch.from_numpy(encoder.encode(prompts[donors]))
    drawn = values_of(model, tokens)
    return Replacements(stack_values([zero_values(model), mean_values(model, means), drawn]), donors)


@dataclass(frozen=True)
class Outcomes:
    """Per row: whether the most likely token is the answer, and the answer's probability."""

    right: Bool[np.ndarray, "row"]
    probability: Float[np.ndarray, "row"]


def outcomes(
    model: HookedModel,
    encoder: PromptEncoder,
    prompts: Prompts,
    sets: Sequence[Int[np.ndarray, "_ 2"]],
    rows: Knockouts,
    values: Values,
    *,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> Outcomes:
    """Knock out each row's set; `rows.prompt` are indices into `prompts`, each of which is recorded once."""
    used, place = np.unique(rows.prompt, return_inverse=True)
    tokens = torch.from_numpy(encoder.encode(prompts[used])).to(model.device)
    answers = torch.from_numpy(encoder.answers(prompts.answer[used])[place])

    def read(logits: Float[Tensor, "row vocab"], at: Int[np.ndarray, "row"]) -> Float[Tensor, "row metric"]:
        answer = answers[torch.from_numpy(at)].to(logits.device)
        probability = logits.log_softmax(-1).gather(-1, answer[:, None])[:, 0].exp()
        return torch.stack([(logits.argmax(-1) == answer).float(), probability], dim=-1)

    found = knock_out(
        model,
        tokens,
        NeuronSets.of(sets),
        Knockouts(place, rows.neurons, rows.value),
        values,
        read,
        batch_size=batch_size,
        progress=progress,
    ).numpy()
    return Outcomes(found[:, 0] > 0, found[:, 1].astype(np.float64))
