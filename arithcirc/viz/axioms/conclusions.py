"""Sentences that draw a conclusion from an opening's tables: layers by path length, and how two models differ."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.axioms.judged import set_name
from arithcirc.viz.axioms.layers import PANELS

_STEP = 1
"""Layers that a curve may move by in all and still be called flat."""
MEASURES = (
    ("against mention", "accuracy where mention order is wrong"),
    ("misled", "accuracy where end roles is wrong"),
    ("hard accuracy", "hard accuracy"),
    ("circuit faithfulness", "faithfulness of the circuit"),
    ("circuit completeness", "completeness of the circuit"),
    ("attention along edges: asked cause", "attention along edges from the asked cause"),
    ("attention along edges: asked effect", "attention along edges from the asked effect"),
    ("strongest cut: asked cause", "margin lost without the edges of one head from the asked cause"),
    ("strongest cut: asked effect", "margin lost without the edges of one head from the asked effect"),
)
"""Measures of the table `comparison` that are shares, so that their differences can be ranked; and what they are."""
_MOST = 3
_SAME = 0.1
"""Largest difference that is called none."""


def hop_by_hop(needed: pd.DataFrame) -> str:
    """Whether layers needed grow with the path: one sentence of a model's rows of `layers_needed`; else empty."""
    grown: list[tuple[str, int]] = []
    flat: list[tuple[str, int]] = []
    for curve, scope, title in PANELS:
        part = needed[(needed["curve"] == curve) & (needed["scope"] == scope) & (needed["distance"] > 0)]
        part = part[part["needed"].notna()].sort_values("distance")
        if len(part) < 2:
            continue
        layers = [int(v) for v in part["needed"]]
        ends = int(part["distance"].iloc[0]), int(part["distance"].iloc[-1])
        said = f"{title}: {layers[0]} for {ends[0]} edge{'s' if ends[0] != 1 else ''}, {layers[-1]} for {ends[1]}"
        rises = layers[-1] - layers[0] > _STEP and all(b >= a for a, b in pairwise(layers))
        (grown if rises else flat).append((said, max(layers) - min(layers)))
    if not grown and not flat:
        return ""
    if not grown:
        moved = max(m for _, m in flat)
        if moved > _STEP:
            return (
                f"Layers needed change with the path, but do not grow with it ({'; '.join(s for s, _ in flat)}): this "
                "speaks neither for nor against working hop by hop."
            )
        text = f"differ by {moved} at most" if moved else "are the same for every length"
        return (
            f"Layers needed do not grow with the path ({'; '.join(s for s, _ in flat)}; they {text}): this speaks "
            "against working hop by hop, a layer for each edge."
        )
    text = f"Layers needed grow with the path ({'; '.join(s for s, _ in grown)}): this speaks for working hop by hop."
    return text + (f" They do not for {'; '.join(s for s, _ in flat)}." if flat else "")


def apart(comparison: pd.DataFrame) -> list[str]:
    """What differs most between the two models with its numbers, and what does not differ: at most two sentences."""
    rows = comparison[comparison["difference"].notna()]
    found = []
    for measure, said in MEASURES:
        part = rows[rows["measure"] == measure]
        if len(part):
            row = part.iloc[int(part["difference"].abs().to_numpy().argmax())]
            found.append((abs(float(row["difference"])), said, row))
    found.sort(key=lambda one: -one[0])
    text = []
    if most := [one for one in found if one[0] > _SAME][:_MOST]:
        text.append(f"They differ most in {'; '.join(_numbers(said, row) for _, said, row in most)}.")
    same = [
        *_counts(rows),
        *(f"{said} (by {theme.number(size, 2)} at most)" for size, said, _ in found if size <= _SAME),
    ]
    if same:
        text.append(f"They do not differ much in {'; '.join(same)}.")
    return text


def _numbers(said: str, row: Any) -> str:
    first, second = (theme.number(row[k], 2) for k in ("none", "learned"))
    where = f" on {set_name(row['questions'])}" if row["questions"] else ""
    return f"{said}{where} ({first} without positions, {second} with learned)"


def _counts(rows: pd.DataFrame) -> Sequence[str]:
    """Sizes of the circuits, where both have nearly as many heads and MLPs."""
    sizes = rows[rows["measure"].isin(["circuit heads", "circuit mlps"])]
    if sizes.empty or bool((sizes["difference"].abs() > 1).any()):
        return []
    said = [
        f"{int(r['none'])} and {int(r['learned'])} {'heads' if r['measure'] == 'circuit heads' else 'MLPs'}"
        for r in sizes.to_dict("records")
    ]
    return [f"size of the circuit ({', '.join(said)})"]
