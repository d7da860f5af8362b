"""Reading tables defensively: what a figure or a sentence needs is asked for by name before it is used.

A run may have been made by one stage only, so a table can be missing, empty or without a column that a later stage
adds. `require` turns that into a RequestError that says what is lacking, which callers show or pass over; `has` asks
the same question; `column` reads an optional column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.errors import RequestError

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class RunData:
    """What the page is drawn from: tables and arrays by name, the configuration, most cells of a map."""

    tables: Tables
    arrays: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    cells: int = 300

    def setting(self, section: str, name: str, default: Any) -> Any:
        """A value of the run's configuration, or the default where the run does not record it."""
        return self.config.get(section, {}).get(name, default)

    @property
    def threshold(self) -> float:
        """The score from which a label counts as matched."""
        return float(self.setting("heuristics", "threshold", 0.6))

    @property
    def level(self) -> float:
        """The q-value below which a label counts as significant."""
        return float(self.setting("heuristics", "q", 0.01))

    @property
    def operands(self) -> tuple[int, int]:
        """The smallest and the largest operand: the rows and columns of an activation map."""
        text = str(self.setting("prompts", "operands", "0..299"))
        ends = [int(part) if part.isdigit() else 0 for part in text.split("..")]
        return ends[0], max(ends[0], ends[-1])


def require(
    table: pd.DataFrame, name: str, columns: Sequence[str], where: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """The rows of a table with the values of `where`; RequestError when there are none or a column is lacking."""
    where = where or {}
    if lacking := [c for c in (*columns, *where) if c not in table.columns]:
        raise RequestError(f"table {name!r} has no column {lacking[0]!r}: compute it again with this version")
    for key, value in where.items():
        table = table[table[key] == value]
    if table.empty:
        asked = " with " + ", ".join(f"{k} {v}" for k, v in where.items()) if where else ""
        raise RequestError(f"table {name!r} has no rows{asked} to draw: compute it, or leave this figure out")
    return table


def has(tables: Tables, name: str, *columns: str) -> bool:
    """The table is there, has rows, and has these columns."""
    return name in tables and not tables[name].empty and set(columns) <= set(tables[name].columns)


def column(table: pd.DataFrame, name: str, default: Any = np.nan) -> pd.Series:
    """A column, or the default in every row when the table has no such column."""
    return table[name] if name in table.columns else pd.Series(default, index=table.index)


def numbers(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Columns as float64, shape (row, column); NaN where a value or the whole column is missing."""
    held = {c: pd.to_numeric(column(table, c)).to_numpy(dtype=np.float64, na_value=np.nan) for c in columns}
    return np.stack(list(held.values()), axis=1) if held else np.empty((len(table), 0))


def flags(table: pd.DataFrame, name: str) -> np.ndarray:
    """A yes-or-no column as booleans; False where it is null or missing."""
    return column(table, name, default=False).astype("boolean").fillna(False).to_numpy(dtype=bool)


def neuron_count(table: pd.DataFrame) -> int:
    """How many different neurons the rows name."""
    return len(table[["layer", "neuron"]].drop_duplicates())
