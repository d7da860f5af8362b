"""What a study is expected to show, set before it was run, and whether it does.

A bar is about the mean over seeds of an accuracy, or of the difference of two models' accuracies; the values of single
seeds stand beside it. Of a training that was repeated with another seed the repetition counts. The bars are for models
of the `small` recipe with names of one character (`demanded`); for others the same numbers are reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from arithcirc.axioms.study.answers import MODEL, SHORTCUT

BARS = ("bar", "sign", "wanted", "measured", "seeds", "values", "asked_seeds", "seeds_holding", "holds", "demanded")
"""Columns of the table `bars`."""
Place = tuple[str, int, float | None]
"""Family, nodes, factor."""


@dataclass(frozen=True)
class Quantity:
    """Mean accuracy over some evaluation sets, of a model by mix and positions or of a shortcut by name."""

    places: tuple[Place, ...]
    mix: str = ""
    positions: str = ""
    shortcut: str = ""


@dataclass(frozen=True)
class Bar:
    """`of`, or `of` minus `less`, is at least (or at most) `wanted`."""

    name: str
    wanted: float
    of: Quantity
    less: Quantity | None = None
    least: bool = True

    def holds(self, value: float) -> bool:
        """Whether a value is beyond the bar."""
        return value >= self.wanted if self.least else value <= self.wanted


def _one(family: str, nodes: int, factor: float | None = None) -> tuple[Place, ...]:
    return ((family, nodes, factor),)


_LONG = tuple(("sequential", nodes, None) for nodes in (11, 13, 15))
_REVERSAL = _one("reversal", 6)
_BARE = {"mix": "TS2", "positions": "none"}
_LONGER = Quantity(_LONG, **_BARE)
_REVERSED = Quantity(_REVERSAL, **_BARE)
_ONLY_CHAINS = Quantity(_REVERSAL, mix="OCC", positions="none")
_EVERY_LENGTH = tuple(("sequential", nodes, None) for nodes in range(3, 16))

ALL_BARS: tuple[Bar, ...] = (
    Bar("TS2 none, sequential 6", 0.97, Quantity(_one("sequential", 6), **_BARE)),
    Bar("TS2 none, sequential 11, 13, 15", 0.75, _LONGER),
    Bar("TS2 none, flipped 6", 0.85, Quantity(_one("flipped", 6), **_BARE)),
    Bar("TS2 none, reversal 6", 0.80, _REVERSED),
    Bar("TS2 none, branching 1.4 of 8", 0.65, Quantity(_one("branching", 8, 1.4), **_BARE)),
    Bar("TS2 none, branching 1.4 of 12", 0.60, Quantity(_one("branching", 12, 1.4), **_BARE)),
    Bar("TS2 none - sinusoidal, sequential 11, 13, 15", 0.10, _LONGER, Quantity(_LONG, "TS2", "sinusoidal")),
    Bar("TS2 none - learned, sequential 11, 13, 15", 0.15, _LONGER, Quantity(_LONG, "TS2", "learned")),
    Bar("OCC none, reversal 6", 0.35, _ONLY_CHAINS, least=False),
    Bar("TS2 none - OCC none, reversal 6", 0.50, _REVERSED, _ONLY_CHAINS),
    Bar("mention order, sequential 3 to 15", 1.00, Quantity(_EVERY_LENGTH, shortcut="mention order")),
    Bar("mention order, reversal 6", 0.15, Quantity(_REVERSAL, shortcut="mention order"), least=False),
)


def judge(cells: pd.DataFrame, *, demanded: bool, bars: Sequence[Bar] = ALL_BARS) -> pd.DataFrame:
    """The table of bars, from the table `cells`. What was not measured has NaN and neither holds nor fails."""
    return pd.DataFrame([_judged(bar, cells, demanded) for bar in bars], columns=list(BARS)).astype(
        {"holds": "boolean", "seeds": "int64", "seeds_holding": "int64"}
    )


def _judged(bar: Bar, cells: pd.DataFrame, demanded: bool) -> dict[str, Any]:
    first = _by_seed(cells, bar.of)
    second = {} if bar.less is None else _by_seed(cells, bar.less)
    if bar.less is None:
        values = first
        measured = fmean(first.values()) if first else float("nan")
    else:
        values = {seed: first[seed] - second[seed] for seed in first if seed in second}
        measured = fmean(first.values()) - fmean(second.values()) if first and second else float("nan")
    known = measured == measured
    return {
        "bar": bar.name,
        "sign": ">=" if bar.least else "<=",
        "wanted": bar.wanted,
        "measured": measured,
        "seeds": len(values),
        "values": list(values.values()),
        "asked_seeds": [int(seed) for seed in values],
        "seeds_holding": sum(bar.holds(value) for value in values.values()),
        "holds": bar.holds(measured) if known else None,
        "demanded": demanded,
    }


def _by_seed(cells: pd.DataFrame, of: Quantity) -> Mapping[int, float]:
    """The mean over the sets for each asked seed that was asked all of them; a shortcut has the seed -1."""
    if of.shortcut:
        rows = cells[(cells["kind"] == SHORTCUT) & (cells["model"] == of.shortcut)]
    else:
        rows = cells[(cells["kind"] == MODEL) & (cells["mix"] == of.mix) & (cells["positions"] == of.positions)]
        rows = rows[rows["counted"]]
    found: dict[int, dict[Place, float]] = {}
    for seed, family, nodes, factor, accuracy in rows[
        ["asked_seed", "family", "nodes", "factor", "accuracy"]
    ].itertuples(index=False):
        place = (family, int(nodes), None if pd.isna(factor) else float(factor))
        found.setdefault(-1 if pd.isna(seed) else int(seed), {})[place] = float(accuracy)
    return {
        seed: fmean(held[place] for place in of.places)
        for seed, held in sorted(found.items())
        if all(place in held for place in of.places)
    }
