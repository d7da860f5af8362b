"""Tables beside the published numbers: what was measured here, the shortcuts, and what others are said to have.

A cell that does not lie above the best shortcut, as it scores on the questions asked here, is marked. The published
numbers are of other questions of the same kind.
"""

from dataclasses import dataclass

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.cells import over_seeds
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.influence.names import in_order

_SHOWN = {
    "sequential": tuple(range(6, 16)), "flipped": tuple(range(6, 16)), "reversal": (3, 4, 5, 6),
    "shuffled": tuple(range(3, 10)), "names": tuple(range(3, 10)), "branching 1.4": (5, 8, 10, 12),
    "branching 2": (5, 8, 10, 12),
}  # fmt: skip
"""Sizes that a table shows; the figures have all."""
_MISSING = "not recovered"
_MAIN, _BARE = "TS2", "none"
"""Of other mixes than this one only models without positions are shown, as the paper has them."""
TASK = "transitivity"


@dataclass(frozen=True)
class Number:
    """One cell: accuracy, hard accuracy below it, whether it is not above the best shortcut, and both intervals."""

    text: str
    hard: str = ""
    below: bool = False
    span: str = ""


@dataclass(frozen=True)
class Row:
    """One line: who, where the numbers are from, and the numbers; `note` instead of numbers."""

    name: str
    kind: str
    cells: tuple[Number, ...]
    source: str = ""
    note: str = ""


@dataclass(frozen=True)
class Beside:
    """One family of graphs."""

    title: str
    sizes: tuple[int, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def tables(data: RunData) -> list[Beside]:
    """A table for each family that was asked here or is published."""
    if not has(data.tables, "cells", "set"):
        return []
    ours, hard = (over_seeds(data.tables["cells"], measure=m) for m in ("accuracy", "hard"))
    known = _published(data)
    held = in_order(pd.concat([ours["set"], known["set"]]), names.SETS)
    return [made for name in held if (made := _table(name, ours, hard, known)) is not None]


def _published(data: RunData) -> pd.DataFrame:
    """The published numbers of this task, with the column `set`; empty where the study has none."""
    if not has(data.tables, "published", "task", "model", "family", "nodes", "factor", "value", "source"):
        return pd.DataFrame(columns=["model", "set", "nodes", "value", "source", "note"])
    table = data.tables["published"]
    rows = table[table["task"] == TASK].copy()
    factor = rows["factor"].astype("Float64").to_numpy(dtype=float, na_value=float("nan"))
    rows["set"] = [names.set_name(str(f), v) for f, v in zip(rows["family"], factor, strict=True)]
    return rows


def _table(name: str, ours: pd.DataFrame, hard: pd.DataFrame, known: pd.DataFrame) -> Beside | None:
    mine, published = ours[ours["set"] == name], known[known["set"].isin([name, name.split(" ")[0]])]
    sizes = tuple(n for n in _SHOWN.get(name, sorted(set(mine["nodes"]))) if n in set(mine["nodes"]))
    if not sizes:
        return None
    short = mine[mine["kind"] == "shortcut"].groupby("nodes")["value"].max()
    keys = ["mix", "who", "nodes"]
    found = [part[part["set"] == name].set_index(keys)[["value", "low", "high"]].T.to_dict("list")
             for part in (ours, hard)]  # fmt: skip
    rows = []
    models = mine[mine["kind"] == "model"]
    for mix in in_order(models["mix"], names.MIXES):
        part = models[models["mix"] == mix]
        kinds = in_order(part["who"], names.POSITIONS)
        for who in kinds if mix == _MAIN or _BARE not in kinds else [_BARE]:
            label = f"{names.MIXES.get(mix, mix)} · {names.position(who)}"
            cells = [_measured(found[0].get((mix, who, n)), found[1].get((mix, who, n)), short.get(n)) for n in sizes]
            rows.append(Row(label, "here", tuple(cells)))
    shortcuts = mine[mine["kind"] == "shortcut"]
    for who in in_order(shortcuts["who"], names.SHORTCUTS):
        cells = [_measured(found[0].get(("", who, n)), found[1].get(("", who, n)), None) for n in sizes]
        rows.append(Row(who, "shortcut", tuple(cells)))
    for printed, part in published.groupby("model", sort=False):
        rows.append(_printed(str(printed), part, sizes, short))
    return Beside(names.set_title(name), sizes, tuple(rows), _notes(published[published["value"].notna()]))


def _printed(printed: str, part: pd.DataFrame, sizes: tuple[int, ...], short: pd.Series) -> Row:
    """A published row, numbers as they are printed; or that there are none."""
    rows = part[part["value"].notna() & part["nodes"].notna()]
    note = next((str(n) for n in part["note"] if n), "")
    if rows.empty:
        return Row(printed, "published", (), _MISSING, f"{_MISSING}{': ' + note if note else ''}")
    values = dict(zip(rows["nodes"].astype(int), rows["value"], strict=True))
    cells = tuple(_number(values.get(n), short.get(n)) for n in sizes)
    return Row(printed, "published", cells, ", ".join(dict.fromkeys(map(str, rows["source"]))), note)


def _notes(published: pd.DataFrame) -> tuple[str, ...]:
    """Each note of the published numbers once, with the models that it is about and, if it is of few, the sizes."""
    found = []
    every = set(published["model"])
    parts = [(str(n), row) for row in published.to_dict("records") for n in str(row["note"] or "").split("; ") if n]
    for note in dict.fromkeys(n for n, _ in parts):
        rows = [row for n, row in parts if n == note]
        models = list(dict.fromkeys(str(row["model"]) for row in rows))
        sizes = sorted({int(row["nodes"]) for row in rows})
        said = "all" if set(models) == every else ", ".join(models)
        found.append(f"{said}{f', {sizes[0]} nodes' if len(sizes) == 1 else ''}: {note}")
    return tuple(found)


def _measured(plain: list[float] | None, hard: list[float] | None, short: float | None) -> Number:
    """A number of ours, from (value, low, high) of both measures."""
    if plain is None:
        return Number("–")
    said = _number(plain[0], short)
    spans = [f"{name}{theme.number(v[0], 2)}, 95% {theme.number(v[1], 2)} to {theme.number(v[2], 2)}"
             for name, v in (("", plain), ("hard ", hard)) if v is not None]  # fmt: skip
    return Number(said.text, "" if hard is None else theme.number(hard[0], 2), said.below, "; ".join(spans))


def _number(value: float | None, short: float | None) -> Number:
    if value is None or value != value:
        return Number("–")
    below = short is not None and short == short and round(float(value), 3) <= round(float(short), 3)
    return Number(theme.number(value, 2), "", below)


def elsewhere(data: RunData) -> list[tuple[str, tuple[str, ...], list[tuple[str, list[str]]]]]:
    """Published numbers of tasks that are not asked here: `(task, columns, [(model, numbers)])`."""
    if not has(data.tables, "published", "task", "model", "metric", "nodes", "value"):
        return []
    table = data.tables["published"]
    found = []
    for task in dict.fromkeys(str(t) for t in table["task"] if t != TASK):
        rows = table[(table["task"] == task) & table["value"].notna()]
        pairs = zip(rows["nodes"], rows["metric"], strict=True)
        rows = rows.assign(label=[f"{int(n)} nodes" if pd.notna(n) else str(m) for n, m in pairs])
        columns = tuple(dict.fromkeys(rows["label"]))
        lines = []
        for model, part in rows.groupby("model", sort=False):
            values = dict(zip(part["label"], part["value"], strict=True))
            lines.append((str(model), [theme.number(values.get(c), 3 if "d-sep" in task else 2) for c in columns]))
        found.append((task, columns, lines))
    return found
