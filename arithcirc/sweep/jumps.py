"""Jumps: does accuracy on a heuristic's own prompts rise when the heuristic is born, more than on prompts outside it?

For every heuristic that is born after the first labelled step (births.py), prompts inside it are compared with prompts
outside it of the same stratum. A stratum fixes the quantities that the heuristic does not speak about, in bins of
WIDTH: op2 and the result for a heuristic on op1, op1 and the result for one on op2, both operands for one on the
result, the result for one on both operands; and, where the recipe is known, whether the prompt was held out from
training. What the model answered before is no stratum. With rates r_g of right answers in the strata g, and n_g
prompts inside,

    difference(t) = sum over g of n_g / n [ (r_in(g, t) - r_in(g, t-1)) - (r_out(g, t) - r_out(g, t-1)) ]

over the strata with prompts on both sides: a difference in differences between a measured step and the one before it.
`support` is the share of the prompts inside that have such a stratum, `n_in` and `n_out` count them. Offset 0 is the
step of the birth; offsets -2, -1, 1, 2 are the same heuristics at other steps, the placebo.

low, high: 95% from the spread between strata (linearised, as if they were drawn at random), none with one stratum.
p: of one heuristic, the rank of its difference among all its steps that could be a birth; of a mean over the heuristics
(heuristic = (all), those with FEWEST prompts inside), births drawn anew among those steps, each heuristic by itself,
one-sided, DRAWS times; its low and high are from the spread between heuristics.

What it does not show: heuristics overlap and are born together, so their differences are not independent and the mean's
interval and p are too sure; and a wide range leaves only its edges to compare (see support). Cost: heuristics x prompts
inside x steps additions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from arithcirc.arithmetic.operators import Prompts
from arithcirc.config import LABELS
from arithcirc.errors import RequestError
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.sweep.births import heuristic_births
from arithcirc.sweep.history import History, read_answers
from arithcirc.sweep.steps import held_out, prompts_of
from arithcirc.training.recipe import Recipe

WIDTH = 10
OFFSETS = (-2, -1, 0, 1, 2)
FEWEST = 20
DRAWS = 2000
ALL = "(all)"
COLUMNS = (
    *("model", "operator", "heuristic", "family", "labels", "birth", "offset", "step", "n_in", "n_out", "support"),
    *("accuracy_in", "accuracy_out", "change_in", "change_out", "difference", "low", "high", "p", "heuristics"),
)
_FIXED = {"op1": ("op2", "answer"), "op2": ("op1", "answer"), "result": ("op1", "op2"), "operands": ("answer",)}
"""What a heuristic is on -> the columns that make its strata."""


def jumps(history: History, *, recipe: Recipe | None = None) -> pd.DataFrame:
    """Rows per heuristic and offset, and per offset over all of them, for both kinds of label; columns as COLUMNS."""
    answers = answers_over(history, recipe)
    known: dict[str, Contrast | None] = {}
    rows = [row for kind in LABELS for row in _rows(history, answers, known, kind)] if answers is not None else []
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"birth": "Int64", "step": "Int64"})


@dataclass(frozen=True)
class Answers:
    """Which legal prompts are answered correctly at which places; `right` is (prompt, place)."""

    places: Int[np.ndarray, "place"]
    prompts: Prompts
    right: Bool[np.ndarray, "prompt place"]
    unseen: Bool[np.ndarray, "prompt"] | None = None

    @cached_property
    def strata(self) -> dict[str, "Strata"]:
        """The strata of each kind of heuristic."""
        return {value: _strata(self, columns) for value, columns in _FIXED.items()}


@dataclass(frozen=True)
class Strata:
    """Prompts in the order of their stratum: `order` sorts them, `group` is ascending, sums are of right answers."""

    order: Int[np.ndarray, "prompt"]
    group: Int[np.ndarray, "prompt"]
    size: Int[np.ndarray, "stratum"]
    right: Bool[np.ndarray, "prompt place"]
    total: Int[np.ndarray, "stratum place"]


@dataclass(frozen=True)
class Contrast:
    """One heuristic against its matched outside: weighted rates at each place, and each stratum's gap."""

    n_in: int
    n_out: int
    support: float
    inside: Float[np.ndarray, "place"]
    outside: Float[np.ndarray, "place"]
    weight: Float[np.ndarray, "stratum"]
    gap: Float[np.ndarray, "stratum place"]

    @cached_property
    def difference(self) -> Float[np.ndarray, "step"]:
        """The difference in differences from each place to the next."""
        return np.diff(self.inside - self.outside)

    def error(self, step: int) -> float:
        """Standard error of one difference from the spread between strata; NaN with one stratum."""
        if len(self.weight) < 2:
            return float("nan")
        change = self.gap[:, step + 1] - self.gap[:, step]
        spread = float((self.weight**2 * (change - change @ self.weight) ** 2).sum())
        return float(np.sqrt(spread * len(change) / (len(change) - 1)))


def answers_over(history: History, recipe: Recipe | None = None) -> Answers | None:
    """The answers of all places that have them to the same prompts; None with fewer than two places."""
    places: list[int] = []
    columns: list[np.ndarray] = []
    asked: pd.DataFrame | None = None
    for place, moment in enumerate(history.moments):
        table = read_answers(moment.files.own, history.operator)
        if table is None:
            continue
        right = table.pop("correct").to_numpy(dtype=bool)
        asked = table if asked is None else asked
        if table[["op1", "op2"]].equals(asked[["op1", "op2"]]):
            places.append(place)
            columns.append(right)
    if asked is None or len(places) < 2:
        return None
    prompts = prompts_of(asked, history.operator)
    return Answers(np.array(places, dtype=np.int64), prompts, np.stack(columns, axis=1), held_out(recipe, prompts))


def contrast(answers: Answers, heuristic: str) -> Contrast | None:
    """A heuristic against prompts outside it of the same strata; None where no prompt has a match, or none knows it."""
    try:
        parsed = parse_heuristic(heuristic)
    except RequestError:  # a name of another version
        return None
    strata = answers.strata[parsed.value]
    inside = np.flatnonzero(parsed.mask(answers.prompts)[strata.order])
    if not len(inside):
        return None
    group = strata.group[inside]
    start = np.flatnonzero(np.diff(group, prepend=-1))
    which, n_in = group[start], np.diff(start, append=len(group))
    right_in = np.add.reduceat(strata.right[inside], start, axis=0, dtype=np.int64)
    n_out = strata.size[which] - n_in
    kept = n_out > 0
    if not kept.any():
        return None
    which, n_in, n_out, right_in = which[kept], n_in[kept], n_out[kept], right_in[kept]
    rate_in, rate_out = right_in / n_in[:, None], (strata.total[which] - right_in) / n_out[:, None]
    weight = n_in / n_in.sum()
    return Contrast(
        int(n_in.sum()), int(n_out.sum()), float(n_in.sum() / len(inside)),
        weight @ rate_in, weight @ rate_out, weight, rate_in - rate_out,
    )  # fmt: skip


def _strata(answers: Answers, columns: tuple[str, ...]) -> Strata:
    code = np.zeros(len(answers.prompts), dtype=np.int64) if answers.unseen is None else answers.unseen.astype(np.int64)
    for name in columns:
        code = code * (1 << 20) + getattr(answers.prompts, name) // WIDTH
    _, group, size = np.unique(code, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    right = answers.right[order]
    total = np.add.reduceat(right, np.cumsum(size) - size, axis=0, dtype=np.int64)
    return Strata(order, group[order], size, right, total)


def _rows(history: History, answers: Answers, known: dict[str, Contrast | None], kind: str) -> Iterator[dict[str, Any]]:
    """All rows of one kind of label; `known` keeps the contrasts, since most heuristics carry both kinds."""
    labelled = np.flatnonzero(history.labelled & history.with_circuit)
    if not len(labelled):
        return
    first = labelled[0]
    could = np.flatnonzero(answers.places[1:] > first)  # steps (from one place to the next) that may hold a birth
    found = heuristic_births(history, kind)
    keys = {"model": history.model, "operator": history.operator, "labels": kind}
    differences, births = [], []
    for name, family, place in found.itertuples(index=False):
        at = np.flatnonzero(answers.places[1:] == place)
        if place <= first or not len(at):
            continue
        if name not in known:
            known[name] = contrast(answers, name)
        against = known[name]
        if against is None:
            continue
        born = int(at[0])
        about = {"heuristic": name, "family": family, "birth": history.moments[place].step, "heuristics": 1}
        yield from (keys | about | row for row in _of_one(history, answers, against, born, could))
        if against.n_in >= FEWEST:
            differences.append(against)
            births.append(born)
    rng = np.random.default_rng([len(history.moments), LABELS.index(kind)])
    if differences:
        yield from (keys | row for row in _of_all(differences, np.array(births, dtype=np.int64), could, rng))


def _of_one(
    history: History, answers: Answers, against: Contrast, born: int, could: Int[np.ndarray, "step"]
) -> Iterator[dict[str, Any]]:
    """The steps around one heuristic's birth."""
    difference, others = against.difference, against.difference[could]
    change_in, change_out = np.diff(against.inside), np.diff(against.outside)
    for offset in OFFSETS:
        step = born + offset
        if not 0 <= step < len(difference):
            continue
        value, error = float(difference[step]), against.error(step)
        yield {
            "offset": offset, "step": history.moments[answers.places[step + 1]].step, "n_in": against.n_in,
            "n_out": against.n_out, "support": against.support, "accuracy_in": against.inside[step + 1],
            "accuracy_out": against.outside[step + 1], "change_in": change_in[step],
            "change_out": change_out[step], "difference": value, "low": value - 1.96 * error,
            "high": value + 1.96 * error,
            "p": float((others >= value - 1e-12).mean()) if step in could else float("nan"),
        }  # fmt: skip


def _of_all(
    found: list[Contrast], births: Int[np.ndarray, "heuristic"], could: Int[np.ndarray, "step"],
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Means over the heuristics at each offset, with p from births drawn anew."""
    matrix = np.stack([c.difference for c in found])
    inside, outside = np.stack([c.inside for c in found]), np.stack([c.outside for c in found])
    drawn = matrix[np.arange(len(found)), could[rng.integers(len(could), size=(DRAWS, len(found)))]]
    for offset in OFFSETS:
        step = births + offset
        there = np.flatnonzero((step >= 0) & (step < matrix.shape[1]))
        if not len(there):
            continue
        at = step[there]
        values = matrix[there, at]
        mean = float(values.mean())
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
        null = drawn[:, there].mean(axis=1)
        p = (1 + int((null >= mean - 1e-12).sum())) / (1 + DRAWS) if len(could) > 1 else float("nan")
        yield {
            "heuristic": ALL, "family": "", "birth": None, "offset": offset, "step": None,
            "n_in": sum(found[i].n_in for i in there), "n_out": sum(found[i].n_out for i in there),
            "support": float(np.mean([found[i].support for i in there])),
            "accuracy_in": inside[there, at + 1].mean(), "accuracy_out": outside[there, at + 1].mean(),
            "change_in": (inside[there, at + 1] - inside[there, at]).mean(),
            "change_out": (outside[there, at + 1] - outside[there, at]).mean(),
            "difference": mean, "low": mean - 1.96 * error, "high": mean + 1.96 * error, "p": p,
            "heuristics": len(there),
        }  # fmt: skip
