"""Rule or shortcut, from the table `cells`: on which sets a model beats what needs no transitivity.

A model beats the shortcuts on a set where the lower end of its hard accuracy's interval lies above the hard accuracy of
both shortcuts there, and above one half, which guessing has. Sets that a shortcut answers nearly wholly (`TELLING`)
cannot tell, and neither can sets without hard questions: chains in order, with long names too.

    nothing learned    chains in order, of the longest trained length, are not answered above chance
    rule               the shortcuts are beaten on every set that can tell
    rule in part       on every set of turned edges up to the longest trained length, and on half of the others or more
    trained kind only  on those, but on fewer others
    shortcut in part   on some set
    shortcut           on none

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
LEARNED, TRAINED = "sequential", "flipped"


@dataclass(frozen=True)
class Beaten:
    """One mix and kind of positions: the word, and (beaten, sets) in all, of trained kinds, and by set."""

    mix: str
    positions: str
    seeds: int
    word: str
    total: tuple[int, int]
    inside: tuple[int, int]
    by_set: dict[str, tuple[int, int]]
    failed: tuple[str, ...]

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
    best = shortcuts.groupby(["set", "nodes"])["hard"].max() if len(shortcuts) else pd.Series(dtype=float)
    found = []
    for mix in in_order(models["mix"], names.MIXES):
        for who in in_order(models.loc[models["mix"] == mix, "positions"], names.POSITIONS):
            mine = models[(models["mix"] == mix) & (models["positions"] == who)]
            found.append(_judge(mix, who, mine, best, trained(data)[1]))
    return found


def _judge(mix: str, who: str, rows: pd.DataFrame, best: pd.Series, longest: int) -> Beaten:
    at = pd.MultiIndex.from_frame(rows[["set", "nodes"]])
    other = best.reindex(at).to_numpy(dtype=float) if len(best) else np.full(len(rows), np.nan)
    low = numbers(rows, ["hard_low"])[:, 0]
    telling = np.isfinite(low) & np.isfinite(other) & (other < TELLING)
    holds = telling & (low > np.fmax(other, CHANCE))
    inside = telling & (rows["set"] == TRAINED).to_numpy() & (rows["nodes"] <= longest).to_numpy()
    first = rows[(rows["set"] == LEARNED) & (rows["nodes"] <= longest)]
    first = first[first["nodes"] == first["nodes"].max()] if len(first) else first
    learned = bool(len(first)) and bool((numbers(first, ["low"]) > CHANCE).all())
    by_set = {
        name: (int(holds[mine].sum()), int(telling[mine].sum()))
        for name in in_order(rows["set"], names.SETS)
        if telling[mine := (rows["set"] == name).to_numpy()].any()
    }
    failed = [f"{names.set_title(s)}, {n} nodes" for s, n in rows.loc[telling & ~holds, ["set", "nodes"]].to_numpy()]
    counts = (int(holds.sum()), int(telling.sum())), (int((holds & inside).sum()), int(inside.sum()))
    word = _word(learned, *counts) if telling.any() else ""
    seeds = int(rows["model"].nunique())
    return Beaten(mix, who, seeds, word, *counts, by_set, tuple(dict.fromkeys(failed)))


def _word(learned: bool, total: tuple[int, int], inside: tuple[int, int]) -> str:
    if not learned:
        return "nothing learned"
    if total[0] == total[1]:
        return "rule"
    if inside[0] == inside[1] and inside[1]:
        others = total[0] - inside[0], total[1] - inside[1]
        return "rule in part" if 2 * others[0] >= others[1] else "trained kind only"
    return "shortcut in part" if total[0] else "shortcut"
