"""On which families of graphs a model beats the shortcuts, up to which size, and where a shortcut is better: in words.

Sets that cannot tell (beaten.py) are not counted. Of several seeds a set is beaten when every seed beats it.
"""

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from arithcirc.viz import theme
from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.beaten import Beaten
from arithcirc.viz.axioms.cells import over_seeds
from arithcirc.viz.frames import RunData
from arithcirc.viz.influence.names import in_order

BRANCHING = "branching 1.4"
"""The family whose plain accuracy stands beside the verdict: stated edges answer most of it."""
_SAID = {
    "flipped": "chains with edges turned",
    "reversal": "chains written last first",
    "shuffled": "shuffled chains",
    "branching 1.4": "branching graphs of 1.4 edges a node",
    "branching 2": "branching graphs of 2 edges a node",
}


@dataclass(frozen=True)
class Family:
    """One family of a model: how many of its sets are beaten, up to which size all are, and who is better elsewhere.

    `upto` is 0 where the smallest is not beaten; `better` has the best shortcut of each set on which it is better.
    """

    name: str
    held: int
    sets: int
    upto: int
    better: tuple[str, ...]

    @property
    def said(self) -> str:
        """The family for people, with the sizes that are beaten."""
        text = _SAID.get(self.name, names.set_title(self.name))
        if self.held in (0, self.sets):
            return text
        return f"{text} up to {self.upto} nodes" if self.upto else f"{self.held} of {self.sets} sizes of {text}"


def families(model: Beaten) -> list[Family]:
    """The families that can tell, in the page's order."""
    found = []
    for name in in_order([s for s, *_ in model.tried], names.SETS):
        held: dict[int, bool] = {}
        better: dict[int, str] = {}
        for kind, nodes, holds, who in model.tried:
            if kind == name:
                held[nodes] = held.get(nodes, True) and holds
                better[nodes] = better.get(nodes, "") or who
        sizes = sorted(held)
        first = next((i for i, n in enumerate(sizes) if not held[n]), len(sizes))
        lost = tuple(better[n] for n in sizes if better[n] and not held[n])
        found.append(Family(name, sum(held.values()), len(sizes), sizes[first - 1] if first else 0, lost))
    return found


def where(model: Beaten) -> str:
    """`does better than every shortcut on chains with edges turned up to 12 nodes; not on shuffled chains, ...`."""
    known = families(model)
    won, lost = [f for f in known if f.held], [f for f in known if not f.held]
    if not won:
        text, better = "does better than every shortcut on no kind of graph", _better(lost)
        return f"{text}; {better}" if better else text
    text = f"does better than every shortcut on {_and([f.said for f in won])}"
    return (
        f"{text}; not on {_and(_joined(lost), 'or')}{', where ' + better if (better := _better(lost)) else ''}"
        if lost
        else text
    )


def _joined(lost: list[Family]) -> list[str]:
    """Families for people, branching graphs as one where both are there."""
    branching = [f for f in lost if f.name.startswith("branching")]
    rest = [f.said for f in lost if f not in branching]
    return [*rest, "branching graphs"] if len(branching) > 1 else [*rest, *(f.said for f in branching)]


def _better(lost: list[Family]) -> str:
    """`end roles does better`, of the shortcut that is most often the best one."""
    (who, number), *_ = Counter(w for f in lost for w in f.better).most_common(1) or [("", 0)]
    sets = sum(f.sets for f in lost)
    if not who:
        return ""
    return f"{who} does better" + ("" if number == sets else f" on {number} of {sets} sizes")


def lead(model: Beaten) -> str:
    """One sentence about the model that the study is about."""
    return f"{model.title} {where(model)}." if model.tried else ""


def branching(data: RunData, model: Beaten) -> str:
    """Plain accuracy on branching graphs beside the shortcuts; empty where they were not asked."""
    table = over_seeds(data.tables["cells"], measure="accuracy")
    rows = table[table["set"] == BRANCHING]
    mine = rows[(rows["mix"] == model.mix) & (rows["who"] == model.positions)]
    shortcuts = rows[(rows["kind"] == "shortcut") & rows["nodes"].isin(mine["nodes"])]
    if mine.empty or shortcuts.empty:
        return ""
    others = {
        who: float(shortcuts.loc[shortcuts["who"] == who, "value"].mean()) for who in ("literal edge", "end roles")
    }
    said = _and([f"{who} alone in {theme.number(v, 2)}" for who, v in others.items() if v == v])
    if not said:
        return ""
    return (
        f" On branching graphs of 1.4 edges a node it is right in {theme.number(mine['value'].mean(), 2)} of all "
        f"questions, {said}."
    )


def hardest(data: RunData, model: Beaten) -> list[tuple[str, str]]:
    """Two lines of a card: hard accuracy on branching graphs, mean over sizes, and the best shortcut's there."""
    table = over_seeds(data.tables["cells"], measure="hard")
    rows = table[table["set"] == BRANCHING]
    mine = rows[(rows["mix"] == model.mix) & (rows["who"] == model.positions)]
    others = rows[(rows["kind"] == "shortcut") & rows["nodes"].isin(mine["nodes"])]
    means: pd.Series = others.groupby("who")["value"].mean()
    if mine.empty or means.empty:
        return []
    best = str(means.idxmax())
    return [
        ("branching 1.4, hard", theme.number(mine["value"].mean(), 2)),
        (f"{best} there", theme.number(means[best], 2)),
    ]


def _and(parts: list[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}" if parts else ""
