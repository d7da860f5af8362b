"""Evaluation sets: which graphs a model is asked about, one graph per question, exactly half of the answers Yes.

    sequential   chains of 3 to 15, 20 and 50 nodes; 3 to 6 is what models are trained on
    flipped      the same with edges turned at random
    reversal     chains of 3 to 6 nodes, sentences last first
    shuffled     flipped chains of 3 to 9 nodes, sentences in any order
    names        chains of 3 to 9 nodes whose names have 8 to 10 characters
    branching    random graphs of 5, 8, 10 and 12 nodes with int(1.4 n) or int(2 n) edges

A set is a pure function of (cell, number, seed, names), and no graph comes twice in it: the released sets ask hundreds
of questions about a handful of graphs, and their accuracies vary accordingly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from arithcirc.axioms import chains
from arithcirc.axioms.branching import branching, edge_count
from arithcirc.axioms.draws import generator, whole
from arithcirc.axioms.graphs import Graph, Question
from arithcirc.axioms.names import Names
from arithcirc.axioms.pairs import draw_question
from arithcirc.errors import RequestError

FAMILIES = ("sequential", "flipped", "reversal", "shuffled", "names", "branching")
LONG_NAMES = (8, 10)
"""Lengths of names in the family of that name."""
_NODES = {
    "sequential": (*range(3, 16), 20, 50),
    "flipped": (*range(3, 16), 20, 50),
    "reversal": (3, 4, 5, 6),
    "shuffled": tuple(range(3, 10)),
    "names": tuple(range(3, 10)),
    "branching": (5, 8, 10, 12),
}
_FACTORS = (1.4, 2.0)
_PURPOSE = 1024
_MOST_NODES = 1000
_TRIES = 100


@dataclass(frozen=True)
class Cell:
    """One evaluation set: family of graphs, their nodes, and edges per node of branching ones.

    Raises RequestError for an unknown family, fewer than two nodes, a factor where there is none to give or none where
    one is needed, and one that asks more edges than an acyclic graph has.
    """

    family: str
    nodes: int
    factor: float | None = None

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise RequestError(f"unknown family of graphs {self.family!r}: use {', '.join(FAMILIES)}")
        if (self.factor is None) == (self.family == "branching"):
            raise RequestError(f"{self.family} with factor {self.factor}: branching graphs have one, others have none")
        if self.factor is not None:
            edge_count(self.nodes, self.factor)
        whole("number of nodes", self.nodes, 0, _MOST_NODES)
        if self.factor is None and self.nodes < chains.FEWEST_NODES:
            raise RequestError(f"a chain of {self.nodes} node(s) has no edge: use {chains.FEWEST_NODES} nodes or more")

    @property
    def name(self) -> str:
        """`sequential-07`, `branching-1.4-08`: the name of its file."""
        factor = "" if self.factor is None else f"-{self.factor:g}" + ".0" * float(self.factor).is_integer()
        return f"{self.family}{factor}-{self.nodes:02d}"

    def graph(self, names: Names, rng: np.random.Generator) -> Graph:
        """One graph of the cell; `names` are lengthened in the family of long names. Raises RequestError."""
        wanted = Names(*LONG_NAMES, names.alphabet) if self.family == "names" else names
        nodes = wanted.draw(self.nodes, rng)
        if self.factor is not None:
            return branching(nodes, factor=self.factor, rng=rng)
        if self.family == "flipped":
            return chains.flipped(nodes, rng)
        if self.family == "shuffled":
            return chains.shuffled(nodes, rng)
        return chains.reversal(nodes) if self.family == "reversal" else chains.chain(nodes)


def cells(families: tuple[str, ...] = FAMILIES, *, longest: int = 50) -> tuple[Cell, ...]:
    """The evaluation sets of some families, of up to `longest` nodes. Raises RequestError for an unknown family."""
    found = []
    for family in families:
        if family not in FAMILIES:
            raise RequestError(f"unknown family of graphs {family!r}: use {', '.join(FAMILIES)}")
        factors = _FACTORS if family == "branching" else (None,)
        found += [Cell(family, nodes, factor) for factor in factors for nodes in _NODES[family] if nodes <= longest]
    return tuple(found)


def evaluation_set(cell: Cell, *, number: int = 500, seed: int = 0, names: Names | None = None) -> tuple[Question, ...]:
    """Questions of a cell, `number / 2` with the answer Yes, in random order, each of a graph of its own.

    Raises RequestError for an odd number or one below 2, more nodes than names, and where there are not as many graphs.
    """
    return tuple(draw_evaluation(cell, number=number, seed=seed, names=names))


def draw_evaluation(cell: Cell, *, number: int, seed: int, names: Names | None = None) -> Iterator[Question]:
    """As `evaluation_set`, one at a time."""
    if number < 2 or number % 2:
        raise RequestError(f"{number} questions cannot be half Yes and half No: use an even number of 2 or more")
    names = names or Names()
    purpose = _purpose(cell)
    labels = generator(seed, purpose, 0).permutation(number) < number // 2
    seen: set[Graph] = set()
    for index, label in enumerate(labels.tolist(), start=1):
        for attempt in count():
            rng = generator(seed, purpose, index + attempt * (number + 1))
            graph = cell.graph(names, rng)
            if graph not in seen:
                break
            if attempt == _TRIES:
                raise RequestError(
                    f"{cell.name} has hardly more than {len(seen)} different graphs with these names: ask for fewer "
                    "than that, or allow longer names"
                )
        seen.add(graph)
        yield draw_question(graph, label, rng)


def _purpose(cell: Cell) -> int:
    """A number of its own for each cell: the sets share no draws."""
    hundredths = 0 if cell.factor is None else round(cell.factor * 100)
    return _PURPOSE + (FAMILIES.index(cell.family) * (_MOST_NODES + 1) + cell.nodes) * 100 * _MOST_NODES + hundredths
