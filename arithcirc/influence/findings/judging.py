"""Claims, and what every claim must pass beside its own rule: the model answers, and p survives all other claims.

    cannot be said    unless the groups of queries it is about are answered (see `accuracy`)
    does not hold     unless its p is below HOLM after Holm's correction over all claims of the study that have a p

Numbers are shown in either case. Claims that are judged by intervals alone have no p and are not corrected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from arithcirc.influence.findings.accuracy import at_chance, unanswered

LEVEL, HOLM, FEW = 0.01, 0.05, 5
HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be said"
RANKED, PLAIN = "ekfac_normed", "ekfac"
COLUMNS = ("finding", "claim", "verdict", "numbers", "base_rate", "note")
OPPOSITE, MEANS = "The opposite is the case here.", "Not holding means here"
"""How a remark begins that a verdict must not be read without; summaries show it."""


@dataclass(frozen=True)
class Verdict:
    """One claim of one finding: what was measured, what chance gives, and a remark for the reader.

    `groups`: the queries it is about. `opposite`: its own rule is met the other way round. `p`: NaN where it has none.
    """

    finding: int
    claim: str
    verdict: str
    numbers: str
    base_rate: str = ""
    note: str = ""
    p: float = float("nan")
    groups: tuple[str, ...] = ()
    opposite: bool = False


def table_of(found: Sequence[Verdict], accuracy: pd.DataFrame) -> pd.DataFrame:
    """Table `findings` with COLUMNS: the verdicts after both conditions, corrected p in the notes."""
    why = {group: unanswered(accuracy, group) for one in found for group in one.groups}
    gated = _chance_tasks([_answered(one, why) for one in found], accuracy)
    corrected = holm([one.p if one.verdict != UNKNOWN else float("nan") for one in gated])
    claims = int(np.isfinite(corrected).sum())
    kept = [_corrected(one, float(p), claims) for one, p in zip(gated, corrected, strict=True)]
    return pd.DataFrame([{name: getattr(one, name) for name in COLUMNS} for one in kept], columns=list(COLUMNS))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's corrected p over those that are known; NaN stays NaN."""
    values = np.asarray(p, dtype=float)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    out = np.full(len(values), np.nan)
    out[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    return out


def _answered(one: Verdict, why: Mapping[str, str | None]) -> Verdict:
    missing = "; ".join(text for group in one.groups if (text := why[group]))
    if one.verdict == UNKNOWN or not missing:
        return one
    return replace(one, verdict=UNKNOWN, note=f"{missing[0].upper()}{missing[1:]}. {one.note}".strip())


def _chance_tasks(found: Sequence[Verdict], accuracy: pd.DataFrame) -> list[Verdict]:
    """Tasks at chance are named in the first claim of each finding that is about their group."""
    kept, named = [], set[tuple[int, str]]()
    for one in found:
        if one.verdict != UNKNOWN:
            for group in one.groups:
                said = at_chance(accuracy, group) if (one.finding, group) not in named else []
                named.add((one.finding, group))
                if said:
                    which = "its queries answered right" if one.finding == 3 else "its queries"
                    rest = " ".join(f"{task}; {which} are in these numbers." for task in said)
                    one = replace(one, note=f"{one.note} {rest}".strip())
        kept.append(one)
    return kept


def _corrected(one: Verdict, p: float, claims: int) -> Verdict:
    """The verdict after correction, and a note of it."""
    if one.verdict == UNKNOWN:
        return one
    notes = [one.note] if one.note else []
    if np.isfinite(p):
        notes.append(f"Corrected for the {claims} claims with a p: {p_words(p)}.")
    if one.opposite and not p >= HOLM:
        notes.insert(0, OPPOSITE)
    return replace(one, verdict=FAILS if p >= HOLM else one.verdict, note=" ".join(notes))


def judge(holds: object) -> str:
    """The word for a rule that is met or not."""
    return HOLDS if holds else FAILS


def row_of(table: pd.DataFrame, **where: object) -> pd.Series | None:
    """The only row of a table with these values; None where there is none."""
    for name, value in where.items():
        table = table[table[name] == value]
    return table.iloc[0] if len(table) else None


def ends(row: pd.Series, low: str = "low", high: str = "high", *, digits: int = 2) -> str:
    """An interval as text, with as many digits as the number beside it: else rounding could leave that number out."""
    if not np.isfinite(row[low]):
        return "[no interval]"
    return f"[{row[low]:z.{digits}f}, {row[high]:z.{digits}f}]"


def differs(difference: float, low: float, high: float, *, digits: int = 3) -> str:
    """A difference and its interval as text: `higher by 0.046 [0.015, 0.080]`, or `lower by` where it is below 0."""
    word = "higher" if difference >= 0 else "lower"
    size, a, b = (difference, low, high) if difference >= 0 else (-difference, -high, -low)
    return f"{word} by {size:z.{digits}f} {ends(pd.Series({'low': a, 'high': b}), digits=digits)}"


def p_words(p: float, orders: int = 0) -> str:
    """p as text; of the smallest that so many random orders can show, only that it is no larger."""
    if not np.isfinite(p):
        return "p unknown"
    if orders and p <= 1 / (1 + orders) + 1e-12:
        return f"p ≤ {1 / (1 + orders):.2g}"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
