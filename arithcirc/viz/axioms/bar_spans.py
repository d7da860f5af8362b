"""95% intervals of bars, from the intervals of the sets that a bar's name tells.

One set of one model has its own interval. Of a mean over sets, or a difference, the half widths are put together as
those of independent numbers, since the questions of different sets are. Seeds are not part of it.
"""

import re
from math import sqrt

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.axioms import names

_SETS = re.compile(r"(?P<set>[a-z]+(?: [\d.]+ of)?) (?P<sizes>\d+(?: to \d+|(?:, \d+)*))")
Span = tuple[float, float]


def bar_span(bar: str, table: pd.DataFrame) -> str:
    """`0.98 to 1.00` of `TS2 none - OCC none, reversal 6`; empty where a set was not asked. `table`: `over_seeds`."""
    who, _, where = bar.partition(", ")
    if (found := _SETS.fullmatch(where)) is None:
        return ""
    first, *rest = who.split(" - ")
    mix, _, kind = first.partition(" ")
    pairs = [("", first) if first in names.SHORTCUTS else (mix, kind)]
    pairs += [tuple(other.split(" ", 1)) if " " in other else (mix, other) for other in rest]  # type: ignore[misc]
    spans = [_mean(table, *pair, found["set"].removesuffix(" of"), _sizes(found["sizes"])) for pair in pairs]
    known = [s for s in spans if s is not None]
    if len(known) < len(spans):
        return ""
    low, high = known[0] if len(known) == 1 else _difference(*known)
    return f"{theme.number(low, 2)} to {theme.number(high, 2)}"


def _sizes(text: str) -> list[int]:
    if " to " in text:
        first, last = map(int, text.split(" to "))
        return list(range(first, last + 1))
    return [int(n) for n in text.split(", ")]


def _mean(table: pd.DataFrame, mix: str, who: str, name: str, sizes: list[int]) -> Span | None:
    """The interval of a mean over sets, around it where there are several."""
    rows = table[(table["mix"] == mix) & (table["who"] == who) & (table["set"] == name) & table["nodes"].isin(sizes)]
    if len(rows) != len(sizes) or rows[["low", "high"]].isna().to_numpy().any():
        return None
    if len(rows) == 1:
        return float(rows["low"].iloc[0]), float(rows["high"].iloc[0])
    value = float(rows["value"].mean())
    below, above = (sqrt(float((w**2).sum())) / len(rows) for w in (rows["value"] - rows["low"],
                    rows["high"] - rows["value"]))  # fmt: skip
    return value - below, min(1.0, value + above)


def _difference(first: Span, second: Span) -> Span:
    """Of two intervals that are taken to be independent."""
    middle = (sum(first) - sum(second)) / 2
    width = sqrt((first[1] - first[0]) ** 2 + (second[1] - second[0]) ** 2) / 2
    return middle - width, middle + width
