"""Which prompts a model answers correctly: argmax over the whole vocabulary at the last position is the answer's token.

Prompts are tried in a seeded random order until enough correct ones are found, and at least `at_least` are tried so
that the accuracy means something; a weak model is searched to the end of its legal prompts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from arithcirc.arithmetic.operators import Operator, Prompts, base_rate
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.measure.batches import in_batches
from arithcirc.models.fit import logit_rows
from arithcirc.models.protocol import HookedModel

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Answers:
    """Prompts tried for one operator and which were answered correctly; `legal` is how many there were to try."""

    operator: Operator
    tried: Prompts
    correct: np.ndarray
    legal: int
    base_rate: float

    @property
    def accuracy(self) -> float:
        """Share of tried prompts answered correctly."""
        return float(self.correct.mean())


def predictions(
    model: HookedModel, encoder: PromptEncoder, prompts: Prompts, *, batch_size: int, progress: Progress | None = None
) -> np.ndarray:
    """Most likely token id for each prompt, shape (prompt,)."""
    tokens = torch.from_numpy(encoder.encode(prompts))

    def run(rows: slice) -> np.ndarray:
        said: np.ndarray = model.logits(tokens[rows]).argmax(-1).cpu().numpy()
        return said

    found = in_batches(len(tokens), min(batch_size, logit_rows(model.info.d_vocab)), run, progress=progress)
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


def find_correct(
    model: HookedModel,
    encoder: PromptEncoder,
    operator: Operator,
    legal: Prompts,
    *,
    wanted: int,
    at_least: int,
    batch_size: int,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> Answers:
    """Try legal prompts in random order until `wanted` correct ones and `at_least` tries are reached."""
    order = rng.permutation(len(legal))
    correct: list[np.ndarray] = []
    tried = found = 0
    while tried < len(legal) and (tried < at_least or found < wanted):
        batch = legal[order[tried : tried + max(at_least, 1)]]
        right = predictions(model, encoder, batch, batch_size=batch_size) == encoder.answers(batch.answer)
        correct.append(right)
        tried += len(batch)
        found += int(right.sum())
        if progress is not None:
            progress(len(batch))
    return Answers(operator, legal[order[:tried]], np.concatenate(correct), len(legal), base_rate(legal))
