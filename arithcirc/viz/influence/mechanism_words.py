"""What influence says of mechanisms, in sentences: what was measured, what a score above 0 means, and whether the
documents that obey a heuristic come first at all.

The contrast of a mechanism is its mean over prompts inside the heuristic minus that over others. A positive score makes
the contrast larger; of a neuron whose lowest values follow its heuristic (`sign` -1) it makes it smaller.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.frames import RunData, has, numbers
from arithcirc.viz.influence import names

CHANCE = "Not told from chance here."
RESAMPLES = 2000


def measured(row: Mapping[Any, Any]) -> str:
    """What was measured of a mechanism (a row of `mechanisms`) and what positive means, in two or three sentences."""
    activation = str(row.get("measure") or ("activation" if row.get("what") == "neuron" else "")) == "activation"
    who = "Its" if row.get("what") == "neuron" else "All its neurons’"
    what = f"{who} activation at =" if activation else f"{who} contribution to the answer’s logit, written at ="
    text = f"Contrast: {what[0].lower()}{what[1:]}, mean over {row.get('inside')} prompts of the heuristic minus that "
    text += f"over {row.get('outside')} others: {theme.number(row.get('value'))}"
    text += "." if activation else " (through the final norm with its scale held fixed)."
    if _turned(row):
        text += " Its lowest values follow the heuristic."
    elif _value(row) < 0:
        who = "it is" if row.get("what") == "neuron" else "together they are"
        text += f" Below 0: on these prompts {who} lower than elsewhere."
    return f"{text} A positive score {_change(row, up=True)}."


def end_hint(row: Mapping[Any, Any], end: str) -> str:
    """What the documents at an end ("top", "bottom") of a mechanism's ranking do."""
    return f"documents that would {_change(row, up=end == 'top').replace('makes', 'make', 1)}"


def ends(row: Mapping[Any, Any]) -> tuple[str, str]:
    """Headings of the top and of the bottom documents."""
    top, bottom = (_change(row, up=up).replace("makes the", "make its", 1) for up in (True, False))
    return top, bottom


def _change(row: Mapping[Any, Any], *, up: bool) -> str:
    larger = up != _turned(row)
    text = f"makes the contrast {'larger' if larger else 'smaller'}"
    return f"{text} ({'less' if larger else 'more'} negative)" if _value(row) < 0 else text


def _turned(row: Mapping[Any, Any]) -> bool:
    sign = row.get("sign")
    return sign is not None and bool(pd.notna(sign)) and float(sign) < 0


def _value(row: Mapping[Any, Any]) -> float:
    value = row.get("value")
    return 0.0 if value is None or pd.isna(value) else float(value)


def auc_interval(auc: float, positives: int, negatives: int) -> tuple[float, float]:
    """95% of an AUC from its size and counts (Hanley and McNeil 1982, cases taken as independent); NaN without both."""
    if not np.isfinite(auc) or positives < 1 or negatives < 1:
        return float("nan"), float("nan")
    one, two = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (one - auc * auc) + (negatives - 1) * (two - auc * auc)
    half = 1.96 * float(np.sqrt(max(0.0, spread) / (positives * negatives)))
    return max(0.0, auc - half), min(1.0, auc + half)


def interval(row: Mapping[Any, Any]) -> tuple[float, float]:
    """95% of a row of `mechanism_retrieval`."""
    if pd.isna(row.get("auc")):
        return float("nan"), float("nan")
    positives = int(row["positives"])
    return auc_interval(float(row["auc"]), positives, int(row["documents"]) - positives)


def judged(row: Mapping[Any, Any]) -> str:
    """Whether a row of `mechanism_retrieval` is above chance and above other mechanisms, in a few words."""
    low, high = interval(row)
    if not np.isfinite([low, high]).all() or low <= 0.5 <= high:
        return CHANCE
    if high < 0.5:
        return "They rank below the rest: documents that obey the rule are not those that drive it."
    others = row.get("auc_others")
    if others is not None and pd.notna(others) and float(others) >= low:
        return "No better than by the scores of other mechanisms."
    return "Above chance, by an estimate that takes documents as independent."


def obeying(row: Mapping[Any, Any]) -> str:
    """Whether documents that obey the heuristic come first (a row of `mechanism_retrieval`), beside the base rate."""
    if pd.isna(row.get("auc")):
        return ""
    low, high = (theme.number(end, 2) for end in interval(row))
    text = f"{theme.count(row['positives'])} of {theme.count(row['documents'])} documents with equations of its "
    text += "operator state one that the heuristic holds of; against the rest their AUC is "
    text += f"{theme.number(row['auc'], 2)} [{low}, {high}] (by the scores of other mechanisms "
    return f"{text}{theme.number(row.get('auc_others'), 2)}; chance 0.50). {judged(row)}"


def first_row(rows: pd.DataFrame) -> dict[str, Any]:
    """Of a mechanism's rows of `mechanism_retrieval`, that of the first method; empty where there is none."""
    order = names.in_order(rows["method"], names.METHODS) if len(rows) else []
    return {str(k): v for k, v in rows[rows["method"] == order[0]].iloc[0].items()} if order else {}


def together(data: RunData) -> str:
    """Over all mechanisms: do documents that obey the heuristic come first, more than by others' scores? One sentence.

    The interval resamples mechanisms (seed 0), which share documents and often heuristics: it is rather too narrow.
    """
    if not has(data.tables, "mechanism_retrieval", "query", "method", "auc", "auc_others"):
        return ""
    table = data.tables["mechanism_retrieval"]
    order = names.in_order(table["method"], names.METHODS)
    rows = table[table["method"] == order[0]] if order else table
    auc, others = numbers(rows, ["auc", "auc_others"]).T
    kept = np.isfinite(auc) & np.isfinite(others)
    difference = (auc - others)[kept]
    if len(difference) < 3:
        return ""
    draws = np.random.default_rng(0).choice(difference, (RESAMPLES, len(difference))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    text = f"Over {len(difference)} mechanisms, documents that obey the heuristic rank above others with equations "
    text += f"with a mean AUC of {theme.number(auc[kept].mean(), 2)}, by the scores of other mechanisms "
    text += f"{theme.number(others[kept].mean(), 2)} (difference {theme.number(difference.mean(), 3)} "
    text += f"[{theme.number(low, 3)}, {theme.number(high, 3)}]; chance 0): "
    if low > 0:
        return f"{text}more than by chance."
    return f"{text}{'less than by chance.' if high < 0 else 'not told from chance here.'}"
