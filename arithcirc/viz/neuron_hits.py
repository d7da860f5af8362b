"""How one neuron's map agrees with one heuristic, prompt by prompt, and what the map says averaged over prompts.

`hits`      with H the legal prompts of which the heuristic holds and k = |H|: which of the neuron's top (or bottom) k
            prompts are in H. hit: in both; miss: in H only; false alarm: in the top k only. hits / k is the score of
            the labels' table, up to ties that float16 makes on disk
`marginal`  mean of a map over the legal prompts with each value of op1, op2 or the result
`spectrum`  share of a marginal's variance at each period: with values m(v) at N points, mean removed,
            2 |sum_v m(v) exp(-2 pi i v f)|^2 / (N sum_v m(v)^2) at f = j / N; the shares sum to 1 where no value is
            missing. A condition mod 10 has its power at the periods 10, 5, 10/3, 5/2 and 2

Arrays are rows op1 x columns op2, NaN where a prompt is illegal. Correlation only: knockouts say whether the model uses
what a map shows.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from arithcirc.neuron_maps import NeuronMap, tie_order
from arithcirc.viz import masks

Variable = Literal["op1", "op2", "result"]
VARIABLES: tuple[Variable, ...] = ("op1", "op2", "result")
ILLEGAL, NEITHER, HIT, MISS, FALSE_ALARM = range(5)


@dataclass(frozen=True)
class Hits:
    """One code per cell (`ILLEGAL` ... `FALSE_ALARM`), and the counts."""

    codes: Int[np.ndarray, "op1 op2"]
    hit: int
    miss: int
    false_alarm: int
    legal: int

    @property
    def k(self) -> int:
        """Legal prompts of which the heuristic holds."""
        return self.hit + self.miss

    @property
    def score(self) -> float:
        """Share of the strongest k prompts of which the heuristic holds; NaN where it holds of none."""
        return self.hit / self.k if self.k else float("nan")

    @property
    def base_rate(self) -> float:
        """What a map that ignores the heuristic scores on average."""
        return self.k / self.legal if self.legal else float("nan")


@dataclass(frozen=True)
class Marginal:
    """Means by value of a variable; values that no legal prompt has are left out."""

    variable: Variable
    values: Int[np.ndarray, "value"]
    mean: Float[np.ndarray, "value"]
    n: Int[np.ndarray, "value"]


def where(neuron_map: NeuronMap, heuristic: str) -> Bool[np.ndarray, "op1 op2"] | None:
    """The legal prompts of which a heuristic holds; None for a name of unknown form."""
    shape = (neuron_map.k.shape[0], neuron_map.k.shape[1])
    found = masks.mask(heuristic, neuron_map.operator, neuron_map.first, shape)
    return None if found is None else np.asarray(found & (neuron_map.answer >= 0))


def hits(neuron_map: NeuronMap, heuristic: str, kind: str, end: str) -> Hits | None:
    """The strongest |H| prompts at one end of the scored map against H; None for a name of unknown form."""
    inside = where(neuron_map, heuristic)
    if inside is None:
        return None
    legal = neuron_map.answer >= 0
    strong = np.zeros_like(inside)
    strong[legal] = strongest(neuron_map.scored(kind)[legal], int(inside.sum()), end)
    codes = np.full(inside.shape, NEITHER, dtype=np.int8)
    codes[~legal] = ILLEGAL
    codes[inside & strong], codes[inside & ~strong], codes[strong & ~inside] = HIT, MISS, FALSE_ALARM
    count = np.bincount(codes.ravel(), minlength=5)
    return Hits(codes, int(count[HIT]), int(count[MISS]), int(count[FALSE_ALARM]), int(legal.sum()))


def strongest(values: Float[np.ndarray, "prompt"], k: int, end: str) -> Bool[np.ndarray, "prompt"]:
    """Which are the k largest (`top`) or the k smallest (`bottom`), equal values in the order labels were scored in."""
    value = np.where(np.isnan(values), -np.inf, values).astype(np.float32)
    if not 0 < k < len(value):
        return np.full(len(value), k > 0)
    if end == "bottom":  # the k smallest are what the others leave
        return ~strongest(values, len(value) - k, "top")
    edge = np.partition(value, len(value) - k)[len(value) - k]
    chosen, ties = value > edge, np.flatnonzero(value == edge)
    first = np.argsort(tie_order(len(value))[ties])[: k - int(chosen.sum())]
    chosen[ties[first]] = True
    return np.asarray(chosen)


def variable_of(neuron_map: NeuronMap, variable: Variable) -> Int[np.ndarray, "op1 op2"]:
    """The value of op1, op2 or the result in every cell (-1: illegal, for the result)."""
    rows, columns = np.indices(neuron_map.k.shape)
    held = {"op1": rows + neuron_map.first, "op2": columns + neuron_map.first, "result": neuron_map.answer}
    return np.asarray(held[variable])


def marginal(neuron_map: NeuronMap, values: Float[np.ndarray, "op1 op2"], variable: Variable) -> Marginal:
    """Mean of `values` by one variable, over legal prompts."""
    legal = (neuron_map.answer >= 0) & np.isfinite(values)
    at = variable_of(neuron_map, variable)[legal]
    count = np.bincount(at)
    total = np.bincount(at, weights=values[legal].astype(np.float64))
    present = np.flatnonzero(count)
    return Marginal(variable, present, total[present] / count[present], count[present])


def spectrum(of: Marginal) -> tuple[Float[np.ndarray, "frequency"], Float[np.ndarray, "frequency"]]:
    """Periods, longest first, and the share of variance at each; both empty where the marginal is constant."""
    n = int(of.values[-1] - of.values[0]) + 1 if len(of.values) else 0
    line = np.zeros(n)
    centred = of.mean - of.mean.mean() if n else of.mean
    total = float((centred**2).sum())
    if n < 4 or total <= 1e-12 * float((of.mean**2).sum()):
        return np.empty(0), np.empty(0)
    line[of.values - of.values[0]] = centred
    power = np.abs(np.fft.rfft(line)) ** 2 * 2.0 / (len(of.values) * total)
    if n % 2 == 0:
        power[-1] /= 2.0  # the highest frequency has no twin
    at = np.arange(1, len(power))
    return n / at, power[1:]
