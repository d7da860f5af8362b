"""The sets that the verdict of an opened model rests on, with every shortcut by name.

`misled` is a model's accuracy on the questions that end roles answers wrongly. All of them are No: who only looks at
the roles of both ends says Yes to each.
"""

from typing import Any

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.axioms import names


def against(general: pd.DataFrame) -> list[str]:
    """The shortcuts that a model's table `generalisation` has, by name."""
    columns = {name: f"{column}_hard" for name, column in names.SHORTCUT_COLUMNS.items()}
    return [name for name, column in columns.items() if column in general and general[column].notna().any()]


def set_rows(general: pd.DataFrame, sets: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each set of the verdict: plain and hard accuracy, each shortcut's, misled, and whether it is beaten.

    `general` are a model's rows of `generalisation`, `sets` those of `verdict` whose claim is about shortcuts.
    """
    known = general.set_index("questions").to_dict("index") if len(general) else {}
    return [_row(row, known.get(row["questions"], {}), against(general)) for row in sets.to_dict("records")]


def _row(row: dict[Any, Any], found: dict[Any, Any], shortcuts: list[str]) -> dict[str, Any]:
    none = "not asked" if pd.isna(row["value"]) else "cannot tell"
    word, tag = (none, "plain") if pd.isna(row["holds"]) else ("yes", "good") if row["holds"] else ("no", "miss")
    values = [found.get(f"{names.SHORTCUT_COLUMNS[name]}_hard") for name in shortcuts]
    best = max((v for v in values if v is not None and v == v), default=None)
    plain = [(name, theme.number(found.get(names.SHORTCUT_COLUMNS[name]), 2)) for name in shortcuts]
    number = found.get("n_misled")
    return {
        "questions": set_name(row["questions"]),
        "accuracy": span(found.get("accuracy"), found.get("low"), found.get("high")),
        "hard": span(row["value"], row["low"], row["high"]),
        "others": [(theme.number(v, 2), v is not None and v == best, f"{w} of all questions: {p}")
                   for v, (w, p) in zip(values, plain, strict=True)],
        "misled": span(found.get("misled"), found.get("misled_low"), found.get("misled_high")),
        "n_misled": theme.count(number) if number is not None and number == number else "",
        "word": word,
        "tag": tag,
    }  # fmt: skip


def span(value: Any, low: Any, high: Any) -> tuple[str, str]:
    """`("0.87", "0.81–0.92")`; dashes and nothing where there is no value."""
    if value is None or pd.isna(value):
        return "–", ""
    ends = (low, high)
    return theme.number(value, 2), "" if any(v is None or pd.isna(v) for v in ends) else (
        f"{theme.number(low, 2)}–{theme.number(high, 2)}"
    )


def set_name(text: Any) -> str:
    """`branching-1.4-08` -> `branching 1.4, 8 nodes`, `distance 0` -> `all distances`; `designed` as it is."""
    if text == "distance 0":
        return "all distances"
    name, _, nodes = str(text).rpartition("-")
    return f"{name.replace('-', ' ')}, {int(nodes)} nodes" if name and nodes.isdecimal() else str(text)
