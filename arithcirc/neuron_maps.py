"""Activation maps of single neurons on disk: `maps_<operator>.safetensors` of a run folder.

For each stored neuron of an operator: its activation h_n at `=` on every legal prompt (K, float16), what one unit of it
writes into each number's logit (float32; K times that of the prompt's answer is KV), the exact effect of patching it on
every discover pair (nats), and what zeroing it does to the evaluate prompts. An answer's lead is its logit less the
largest other one; older files do not have it. One neuron is read without the others, so a file of any size
opens at once. Both arms use this module: the stage `maps` writes, the pages read.

    neurons          int32   (neuron, 2)       layer, index
    k                float16 (neuron, prompt)
    value            float32 (neuron, number)  numbers 0..limit
    prompts          int32   (prompt, 3)       op1, op2, answer
    effects          float32 (neuron, pair)    the numbers whose mean is `effect` of table neurons
    pairs            int32   (pair, 2)         op1, op2 of the clean prompt
    drops            float32 (neuron, case)    fall of the answer's log probability when the neuron is zeroed
    falls            float32 (neuron, case)    fall of the answer's lead when the neuron is zeroed
    after            int32   (neuron, case)    what is said then; -1: no number
    leads            float32 (case)            the answer's lead with nothing replaced
    cases            int32   (case, 3)         op1, op2, answer
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer
from safetensors import SafetensorError, safe_open

from arithcirc.catalogue import OPERATOR_FOLDERS
from arithcirc.components import Neuron
from arithcirc.errors import RunConflictError

ROWS = ("k", "value", "effects", "drops", "after")
"""Arrays with a row per neuron."""
SHARED = ("neurons", "prompts", "pairs", "cases")
LEADS = ("leads", "falls")
"""Arrays that older files lack."""
_TIE_SEED = 20_260_101


@dataclass(frozen=True)
class Cases:
    """What zeroing one neuron does to prompts answered correctly before it.

    `drop` is the fall of the answer's log probability, `fall` that of its lead (its logit less the largest other one),
    and `lead` is what it was; both None in older files. All in nats.
    """

    op1: Int[np.ndarray, "case"]
    op2: Int[np.ndarray, "case"]
    answer: Int[np.ndarray, "case"]
    after: Int[np.ndarray, "case"]
    drop: Float[np.ndarray, "case"]
    lead: Float[np.ndarray, "case"] | None = None
    fall: Float[np.ndarray, "case"] | None = None


@dataclass(frozen=True)
class NeuronMap:
    """One neuron under one operator. NaN and -1 mark illegal prompts; rows are op1, columns op2, from `first` on."""

    operator: str
    neuron: Neuron
    first: int
    k: Float[np.ndarray, "op1 op2"]
    answer: Int[np.ndarray, "op1 op2"]
    value: Float[np.ndarray, "number"]
    effects: Float[np.ndarray, "pair"] | None = None
    cases: Cases | None = None

    @property
    def kv(self) -> Float[np.ndarray, "op1 op2"]:
        """K times what the neuron writes into the logit of each prompt's answer; NaN where illegal."""
        out: np.ndarray = self.k * self.value[np.maximum(self.answer, 0)]
        return out

    def scored(self, kind: str) -> Float[np.ndarray, "op1 op2"]:
        """The map a label was scored on: K for indirect heuristics (operands), KV for direct ones (the result)."""
        return self.k if kind == "indirect" else self.kv


def maps_file(operator: str) -> str:
    """`"+"` -> `maps_add.safetensors`."""
    return f"maps_{OPERATOR_FOLDERS[operator]}.safetensors"


def on_plane(
    prompts: Int[np.ndarray, "prompt 3"], k: Float[np.ndarray, "prompt"], first: int, size: int
) -> tuple[Float[np.ndarray, "op1 op2"], Int[np.ndarray, "op1 op2"]]:
    """Values and answers of prompts (op1, op2, answer) on the op1 x op2 plane; NaN and -1 elsewhere."""
    plane = np.full((size, size), np.nan, dtype=np.float32)
    answer = np.full((size, size), -1, dtype=np.int32)
    at = prompts[:, 0] - first, prompts[:, 1] - first
    plane[at], answer[at] = k, prompts[:, 2]
    return plane, answer


def tie_order(n_prompts: int) -> Integer[np.ndarray, "prompt"]:
    """The place of each legal prompt among prompts of equal value, when a map's strongest prompts are taken.

    Pseudo-random and the same everywhere: in prompt order, a map of zeros would "prefer" small operands.
    """
    return np.random.default_rng(_TIE_SEED).permutation(n_prompts).astype(np.uint32)


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one operator in a run folder, read one neuron at a time."""

    path: Path
    operator: str
    first: int
    size: int

    @classmethod
    def find(cls, folder: Path, operator: str, operands: tuple[int, int]) -> "StoredMaps | None":
        """The operator's maps, or None where the run has none. `operands` are the smallest and the largest."""
        path = folder / maps_file(operator)
        return cls(path, operator, operands[0], operands[1] - operands[0] + 1) if path.is_file() else None

    def neurons(self) -> list[Neuron]:
        """Neurons stored here, by layer and index."""
        return [Neuron(int(layer), int(index)) for layer, index in self._shared("neurons")]

    def read(self, neuron: Neuron) -> NeuronMap | None:
        """One neuron's map, or None where it is not stored. Raises RunConflictError when the file is damaged."""
        found = np.flatnonzero((self._shared("neurons") == (neuron.layer, neuron.index)).all(axis=1))
        if not len(found):
            return None
        rows = self._row(int(found[0]))
        prompts, cases = self._shared("prompts"), self._shared("cases")
        k, answer = on_plane(prompts, rows["k"].astype(np.float32), self.first, self.size)
        leads = rows.get("leads"), rows.get("falls")
        broken = Cases(cases[:, 0], cases[:, 1], cases[:, 2], rows["after"], rows["drops"], *leads)
        return NeuronMap(self.operator, neuron, self.first, k, answer, rows["value"], rows["effects"], broken)

    def on_prompt(
        self, op1: int, op2: int, numbers: Sequence[int]
    ) -> tuple[Float[np.ndarray, "neuron"], Float[np.ndarray, "neuron number"]] | None:
        """Every stored neuron's activation on one prompt, and what it writes per unit into the logits of numbers.

        None where the prompt is not stored. Neurons are in the order of `neurons`.
        """
        prompts = self._shared("prompts")
        found = np.flatnonzero((prompts[:, :2] == (op1, op2)).all(axis=1))
        if not len(found):
            return None
        at = int(found[0])
        try:
            with safe_open(self.path, framework="numpy") as file:
                k = np.asarray(file.get_slice("k")[:, at : at + 1])[:, 0].astype(np.float32)
                value = file.get_slice("value")
                size = value.get_shape()[1]
                parts = [
                    np.asarray(value[:, n : n + 1])[:, 0] if 0 <= n < size else np.full(len(k), np.nan) for n in numbers
                ]
        except (OSError, SafetensorError) as error:
            raise self._damaged(error) from None
        return k, np.stack(parts, axis=1).astype(np.float32) if parts else np.zeros((len(k), 0), dtype=np.float32)

    def pairs(self) -> Int[np.ndarray, "pair 2"]:
        """op1 and op2 of the clean prompts behind `effects`."""
        return self._shared("pairs")

    def _row(self, i: int) -> Mapping[str, np.ndarray]:
        try:
            with safe_open(self.path, framework="numpy") as file:
                found = {name: np.asarray(file.get_slice(name)[i]) for name in ROWS}
                if set(LEADS) <= set(file.keys()):
                    found["falls"] = np.asarray(file.get_slice("falls")[i])
                    found["leads"] = np.asarray(file.get_tensor("leads"))
                return found
        except (OSError, SafetensorError) as error:
            raise self._damaged(error) from None

    def _shared(self, name: str) -> np.ndarray:
        try:
            with safe_open(self.path, framework="numpy") as file:
                return np.asarray(file.get_tensor(name))
        except (OSError, SafetensorError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> RunConflictError:
        return RunConflictError(f"{self.path.name} cannot be read ({error}): run 'arithcirc maps' again")
