"""Labelled as they are used: which neurons carry which heuristic, and which heuristics hold of which prompt.

Built from the matched rows of the table `heuristics` for one operator. Two names that select the same legal prompts
("result in {0, 1}" and "result in 0..2" of a division) are one heuristic here, with the neurons of both; it keeps the
name that comes first. The neurons are the important ones together with every labelled one, so that a control can be
drawn from neurons that matter as much but carry other labels.
Whether a heuristic holds of a prompt is decided by its operands and its true result, whatever the model answers.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from arithcirc.arithmetic.operators import Prompts
from arithcirc.errors import RequestError
from arithcirc.heuristics.names import parse_heuristic


@dataclass(frozen=True)
class Labelled:
    """One operator's labels on its legal prompts; `score` is 0 where a neuron does not carry the heuristic.

    `correct` says which of `prompts` the model answers correctly; `neurons` are (layer, neuron), ascending; `masks` say
    which prompts belong to each heuristic.
    """

    prompts: Prompts
    correct: Bool[np.ndarray, "prompt"]
    names: tuple[str, ...]
    families: tuple[str, ...]
    masks: Bool[np.ndarray, "heuristic prompt"]
    neurons: Int[np.ndarray, "neuron 2"]
    score: Float[np.ndarray, "neuron heuristic"]

    @classmethod
    def of(
        cls, matched: pd.DataFrame, important: pd.DataFrame, prompts: Prompts, correct: Bool[np.ndarray, "prompt"]
    ) -> "Labelled":
        """From rows (layer, neuron, heuristic, score) that count as labels, and the important (layer, neuron)."""
        names, families, masks, number = _distinct(matched, prompts)
        pairs = pd.concat([frame[["layer", "neuron"]] for frame in (important, matched)]).to_numpy(dtype=np.int64)
        neurons = np.unique(pairs.reshape(-1, 2), axis=0)
        place = {(int(layer), int(n)): i for i, (layer, n) in enumerate(neurons)}
        rows = [place[pair] for pair in zip(matched["layer"].tolist(), matched["neuron"].tolist(), strict=True)]
        columns = np.array([number[name] for name in matched["heuristic"]], dtype=np.int64)
        kept = columns >= 0
        score = np.zeros((len(neurons), len(names)))
        at = (np.array(rows, dtype=np.int64)[kept], columns[kept])
        np.maximum.at(score, at, matched["score"].to_numpy(dtype=float)[kept])
        return cls(prompts, correct, names, families, masks, neurons, score)

    @property
    def layers(self) -> Int[np.ndarray, "neuron"]:
        """Each neuron's layer."""
        return self.neurons[:, 0]

    @property
    def carried(self) -> Bool[np.ndarray, "neuron heuristic"]:
        """Which neuron carries which heuristic."""
        return self.score > 0

    def best(self, prompts: Int[np.ndarray, "row"]) -> Float[np.ndarray, "row neuron"]:
        """Each neuron's best score over its heuristics that hold of the prompt; 0 where none does."""
        rows = [self.score[:, self.masks[:, p]].max(axis=1, initial=0.0) for p in prompts]
        return np.array(rows).reshape(len(prompts), len(self.neurons))

    def index(self, name: str) -> int:
        """The heuristic that selects the same prompts as this name. Raises RequestError when no neuron carries it."""
        mask = parse_heuristic(name).mask(self.prompts)
        same = np.flatnonzero((self.masks == mask).all(axis=1))
        if not mask.any():
            raise RequestError(f"no legal prompt belongs to {name!r}: choose another heuristic or wider --operands")
        if not len(same):
            strong = np.argsort(-self.carried.sum(0), kind="stable")[:8]
            some = ", ".join(repr(self.names[i]) for i in strong) or "none"
            raise RequestError(
                f"no neuron is labelled with {name!r}: {len(self.names)} heuristics are, the most frequent are {some}"
            )
        return int(same[0])


def _distinct(
    matched: pd.DataFrame, prompts: Prompts
) -> tuple[tuple[str, ...], tuple[str, ...], Bool[np.ndarray, "heuristic prompt"], dict[str, int]]:
    """Names, families and masks of the distinct heuristics, and each name's place among them (-1: holds of nothing)."""
    names: list[str] = []
    families: list[str] = []
    masks: list[np.ndarray] = []
    seen: dict[bytes, int] = {}
    number: dict[str, int] = {}
    for name in dict.fromkeys(matched["heuristic"]):
        heuristic = parse_heuristic(name)
        mask = heuristic.mask(prompts)
        if not mask.any():
            number[name] = -1
            continue
        key = np.packbits(mask).tobytes()
        if key not in seen:
            seen[key] = len(names)
            names.append(name)
            families.append(heuristic.family)
            masks.append(mask)
        number[name] = seen[key]
    stacked = np.stack(masks) if masks else np.zeros((0, len(prompts)), dtype=bool)
    return tuple(names), tuple(families), stacked, number
