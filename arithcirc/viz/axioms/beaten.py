"""Rule or shortcut, from the table `cells`: on which sets a model beats what needs no transitivity.

A model beats the shortcuts on a set where the lower end of its hard accuracy's interval lies above one half, which
guessing has, and above the hard accuracy of every shortcut that was asked there. Sets that a shortcut answers nearly
wholly (`TELLING`) cannot tell, and neither can sets without hard questions: chains in order, with long names too.

    nothing learned    chains in order, of the longest trained length, are not answered above chance
    rule               the shortcuts are beaten on every set that can tell
    rule in part       on every set of the trained kind, and on half of the others or more
    trained kind only  on those, but on fewer others
    shortcut in part   on some set, but not on all of the trained kind
    shortcut           on none

The trained kind are turned edges up to the longest trained length. OCC trains chains in order alone: where a mix has no
trained kind that can tell, half of all sets make a rule in part, and fewer a shortcut in part.
Of several seeds every one counts as a set of its own.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.cells import counted, trained
from arithcirc.viz.frames import RunData, has, numbers
from arithcirc.viz.influence.names import in_order

TELLING = 0.95
CHANCE = 0.5
LEARNED = "sequential"


@dataclass(frozen=True)
class Beaten:
    """One mix and kind of positions: the word, and (beaten, sets) in all, of trained kinds, and by set.

    `tried` has `(set, nodes, whether it is beaten, the best shortcut if that is better than the model else "")`.
    """

    mix: str
    positions: str
    seeds: int
    word: str
    total: tuple[int, int]
    inside: tuple[int, int]
    by_set: dict[str, tuple[int, int]]
    tried: tuple[tuple[str, int, bool, str], ...]

    @property
    def title(self) -> str:
        """`TS2 · no positions`."""
        return f"{names.MIXES.get(self.mix, self.mix)} · {names.position(self.positions)}"


def beaten(data: RunData) -> list[Beaten]:
    """Every model of the study, TS2 without positions first; none where `cells` has no hard accuracies."""
    if not has(data.tables, "cells", "hard", "hard_low", "kind", "set"):
        return []
    rows = counted(data.tables["cells"])
    shortcuts, models = rows[rows["kind"] == "shortcut"], rows[rows["kind"] == "model"]
    best = shortcuts.pivot_table(index=["set", "nodes"], columns="model", values="hard", aggfunc="max")
    found = []
    for mix in in_order(models["mix"], names.MIXES):
        for who in in_order(models.loc[models["mix"] == mix, "positions"], names.POSITIONS):
            mine = models[(models["mix"] == mix) & (models["positions"] == who)]
            found.append(_judge(mix, who, mine, best, trained(data)[1]))
    return found


def _judge(mix: str, who: str, rows: pd.DataFrame, best: pd.DataFrame, longest: int) -> Beaten:
    at = pd.MultiIndex.from_frame(rows[["set", "nodes"]])
    shortcuts = best.reindex(at) if len(best) else pd.DataFrame({"": np.nan}, index=at)
    other = shortcuts.max(axis=1).to_numpy(dtype=float)
    low = numbers(rows, ["hard_low"])[:, 0]
    telling = np.isfinite(low) & np.isfinite(other) & (other < TELLING)
    holds = telling & (low > np.fmax(other, CHANCE))
    kind = names.TRAINED_KIND.get(mix, names.TRAINED_KIND[names.OTHER])
    inside = telling & (rows["set"] == kind).to_numpy() & (rows["nodes"] <= longest).to_numpy()
    first = rows[(rows["set"] == LEARNED) & (rows["nodes"] <= longest)]
    first = first[first["nodes"] == first["nodes"].max()] if len(first) else first
    learned = bool(len(first)) and bool((numbers(first, ["low"]) > CHANCE).all())
    by_set = {
        name: (int(holds[mine].sum()), int(telling[mine].sum()))
        for name in in_order(rows["set"], names.SETS)
        if telling[mine := (rows["set"] == name).to_numpy()].any()
    }
    counts = (int(holds.sum()), int(telling.sum())), (int((holds & inside).sum()), int(inside.sum()))
    better = shortcuts.fillna(-1.0).idxmax(axis=1).where(other > numbers(rows, ["hard"])[:, 0], "")
    facts = zip(rows["set"], rows["nodes"].astype(int), holds.tolist(), better.astype(str), telling, strict=True)
    tried = tuple((s, n, held, who) for s, n, held, who, tells in facts if tells)
    word = _word(learned, *counts) if telling.any() else ""
    seeds = int(rows["model"].nunique())
    return Beaten(mix, who, seeds, word, *counts, by_set, tried)


def _word(learned: bool, total: tuple[int, int], inside: tuple[int, int]) -> str:
    if not learned:
        return "nothing learned"
    if total[0] == total[1]:
        return "rule"
    if not total[0]:
        return "shortcut"
    others = total[0] - inside[0], total[1] - inside[1]
    half = 2 * others[0] >= others[1]
    if not inside[1]:
        return "rule in part" if half else "shortcut in part"
    if inside[0] < inside[1]:
        return "shortcut in part"
    return "rule in part" if half else "trained kind only"
