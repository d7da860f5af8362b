"""Correct prompts of given kinds, tried only as far as needed.

Every kind of prompt (in a heuristic, outside it) lists its candidates in one common random order, and takes the first n
that the model answers correctly. Kinds that share prompts share their trial, so a few thousand prompts serve hundreds
of heuristics; a weak model is tried further, to the end of the candidates if need be.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.measure.shared_prefix import predictions
from arithcirc.models.protocol import HookedModel

_UNKNOWN = -1


class CorrectPrompts:
    """Remembers which of these prompts the model answers correctly, as far as it was asked."""

    def __init__(self, model: HookedModel, encoder: PromptEncoder, prompts: Prompts, *, batch_size: int = 2048) -> None:
        self.model, self.encoder, self.prompts, self.batch_size = model, encoder, prompts, batch_size
        self._known = np.full(len(prompts), _UNKNOWN, dtype=np.int8)

    def first(self, candidates: Sequence[Int[np.ndarray, "_"]], n: int) -> list[Int[np.ndarray, "_"]]:
        """The first n correct ones of each list of candidates (indices into the prompts), or all there are."""
        tried = [min(n, len(c)) for c in candidates]
        growing = list(range(len(candidates)))
        while growing:
            self._try([candidates[i][: tried[i]] for i in growing])
            growing = [i for i in growing if tried[i] < len(candidates[i]) and self._right(candidates[i], tried[i]) < n]
            for i in growing:
                right = self._right(candidates[i], tried[i])
                more = (n - right) * tried[i] // max(right, 1) + 1
                tried[i] = min(len(candidates[i]), tried[i] + min(more, max(tried[i], 64)))
        return [c[:t][self._known[c[:t]] == 1][:n] for c, t in zip(candidates, tried, strict=True)]

    def _right(self, candidates: Int[np.ndarray, "_"], tried: int) -> int:
        return int((self._known[candidates[:tried]] == 1).sum())

    def _try(self, wanted: list[np.ndarray]) -> None:
        """Ask the model what is not known yet."""
        asked = np.zeros(len(self._known), dtype=bool)
        for part in wanted:
            asked[part] = True
        new = np.flatnonzero(asked & (self._known == _UNKNOWN))
        if len(new):
            given = predictions(self.model, self.encoder, self.prompts[new], batch_size=self.batch_size)
            self._known[new] = given == self.encoder.answers(self.prompts.answer[new])
