"""Questions of d-separation about chains and branching graphs, in the paper's text.

    A causes B. C causes B. Are A and C d-separated?                 -> Yes
    A causes B. C causes B. Are A and C d-separated given {B}?       -> No

A stream of questions is a pure function of (seed, index). Questions 2i and 2i + 1 are of the same family, of as many
nodes and given nodes, one answered Yes and one No, in an order drawn by chance: none of these tells the answer. For
each a graph is drawn, then two nodes and a set of others, again until the answer is the wanted one. Without given nodes
all pairs of an unflipped chain are connected, so such chains have one given node at least.

An edge between the two nodes decides for No: "Yes if and only if no edge is stated between them" is right on 89 of 100
training questions and on 70 to 90 of the evaluation sets. Report it beside every accuracy, with the mean of the recalls
on Yes and on No without an edge (`SeparationQuestion.adjacent`), which it does not help.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arithcirc.axioms.draws import check_seed, generator, whole
from arithcirc.axioms.dseparation import d_separated, parent_masks, separated
from arithcirc.axioms.evaluation import Cell
from arithcirc.axioms.graphs import Graph
from arithcirc.axioms.mixes import LENGTHS
from arithcirc.axioms.names import Names
from arithcirc.axioms.text import answer, parse, premise
from arithcirc.errors import PromptError, RequestError


def training_cells(lengths: Sequence[int]) -> tuple[Cell, ...]:
    """Training graphs of these numbers of nodes. What the paper trained on is not known in full; half of these chains
    are flipped. Raises RequestError for a chain of fewer than two nodes."""
    return tuple(Cell(family, nodes) for nodes in lengths for family in ("sequential", "flipped"))


TRAINING_CELLS = training_cells(LENGTHS)
"""Chains of 3 to 6 nodes."""
EVALUATION = (
    *((Cell("flipped", nodes), 4) for nodes in range(7, 16)),
    *((Cell("branching", nodes, 1.4), 3) for nodes in (5, 8, 10, 12)),
)
"""The released evaluation sets: what graphs, and how many nodes are given at most."""
MOST_GIVEN = 4
_PAIR, _QUESTION, _SET = 256, 257, 258  # purposes of a seed
_GRAPHS, _TRIPLES, _MISSES = 300, 30, 200
_CONNECTED = ("sequential", "reversal", "names")
_ASKED = re.compile(r"\s*are\s+(\S+)\s+and\s+(\S+)\s+d-separated(?:\s+given\s*\{([^{}]*)\})?\s*\?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class SeparationQuestion:
    """Are `first` and `second` d-separated given the nodes `given`? `label` is the answer.

    Raises RequestError for nodes that cannot be asked about (see `d_separated`), and for a wrong label.
    """

    graph: Graph
    first: str
    second: str
    given: tuple[str, ...]
    label: bool

    def __post_init__(self) -> None:
        if len(set(self.given)) < len(self.given):
            raise RequestError(f"given nodes {', '.join(self.given)} name one twice: give each once")
        if d_separated(self.graph, self.first, self.second, self.given) != self.label:
            raise RequestError(
                f"label {self.label} is wrong: {self.first!r} and {self.second!r} are {'not ' * self.label}d-separated"
            )

    @property
    def adjacent(self) -> bool:
        """True when an edge joins the two nodes."""
        edges = self.graph.edges
        return (self.first, self.second) in edges or (self.second, self.first) in edges


def separation_question(graph: Graph, first: str, second: str, given: tuple[str, ...] = ()) -> SeparationQuestion:
    """The question with its answer. Raises RequestError as `SeparationQuestion`."""
    return SeparationQuestion(graph, first, second, given, d_separated(graph, first, second, given))


def write_separation(asked: SeparationQuestion) -> str:
    """Premise and question, without the answer."""
    condition = f" given {{{', '.join(asked.given)}}}" if asked.given else ""
    return f"{premise(asked.graph)} Are {asked.first} and {asked.second} d-separated{condition}?"


def separation_row(asked: SeparationQuestion) -> dict[str, Any]:
    """The question as a line of a file (`lines.continue_lines`); its text says all but nodes without edges; `shortcut`
    is the answer by stated edges alone."""
    return {
        "text": write_separation(asked),
        "label": answer(asked.label),
        "first": asked.first,
        "second": asked.second,
        "given": list(asked.given),
        "nodes": len(asked.graph.nodes),
        "shortcut": answer(not asked.adjacent),
    }


def parse_separation(text: str) -> SeparationQuestion:
    """Read a text as `write_separation` makes it; words in any case. Raises PromptError, see `text.parse`."""
    *sentences, asked = text.split(".")
    found = _ASKED.fullmatch(asked)
    if not found:
        shown = " ".join(asked.split())[:60]
        raise PromptError(
            f"question {shown!r} is not understood: end the text with 'Are A and B d-separated given {{C}}?'"
        )
    first, second, given = found.groups()
    names = tuple(name.strip() for name in given.split(",")) if given and given.strip() else ()
    if first == second:
        raise PromptError(f"the question asks whether {first!r} and itself are d-separated: ask about two nodes")
    graph = parse(".".join((*sentences, f" Does {first} cause {second}?"))).graph
    try:
        return separation_question(graph, first, second, names)
    except RequestError as error:
        raise PromptError(str(error)) from None


@dataclass(frozen=True)
class SeparationStream:
    """Questions by their index.

    `cells`: kinds of graphs, each equally likely. `most_given`: given nodes are 0 (1 for unflipped chains) to this
    many, each number equally likely, two nodes always left to ask about. Raises RequestError for graphs of fewer than
    three nodes, where every pair has one answer only, and for more nodes than there are names.
    """

    cells: tuple[Cell, ...] = TRAINING_CELLS
    seed: int = 0
    most_given: int = MOST_GIVEN
    names: Names = field(default_factory=Names)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not self.cells:
            raise RequestError("no kind of graph is given: name one cell or more, such as Cell('flipped', 5)")
        for cell in self.cells:
            if cell.nodes < 3:
                raise RequestError(f"{cell.name}: pairs of {cell.nodes} nodes are never d-separated, use 3 or more")
            lowest = int(cell.family in _CONNECTED)
            whole(f"most given nodes of {cell.name}", self.most_given, lowest, 1000)
            if cell.family != "names":
                self.names.check(cell.nodes)

    def question(self, index: int) -> SeparationQuestion:
        """Question `index`. Raises RequestError when none was found in many graphs of its kind."""
        pair = generator(self.seed, _PAIR, index // 2)
        cell = self.cells[int(pair.integers(len(self.cells)))]
        size = int(pair.integers(int(cell.family in _CONNECTED), min(self.most_given, cell.nodes - 2) + 1))
        label = bool(pair.integers(2)) ^ bool(index % 2)
        return _draw(cell, size, label, self.names, generator(self.seed, _QUESTION, index))

    def questions(self, start: int, stop: int) -> Iterator[SeparationQuestion]:
        """Questions start to stop - 1."""
        return (self.question(index) for index in range(start, stop))


def separation_set(
    cell: Cell, *, most_given: int = MOST_GIVEN, number: int = 500, seed: int = 0, names: Names | None = None
) -> tuple[SeparationQuestion, ...]:
    """An evaluation set: `number` questions, exactly half Yes, each about a graph of its own.

    Raises RequestError for an odd number or one below 2, and as `SeparationStream`.
    """
    if number < 2 or number % 2:
        raise RequestError(f"{number} questions cannot be half Yes and half No: use an even number of 2 or more")
    check_seed(seed)
    held_out = int(generator(seed, _SET, zlib.crc32(cell.name.encode())).integers(2**32))
    stream = SeparationStream((cell,), held_out, most_given, names or Names())
    found: dict[Graph, SeparationQuestion] = {}
    missing = {True: number // 2, False: number // 2}
    misses = index = 0
    while len(found) < number:
        asked = stream.question(index)
        index, misses = index + 1, misses + 1
        if missing[asked.label] and asked.graph not in found:
            found[asked.graph] = asked
            missing[asked.label] -= 1
            misses = 0
        if misses == _MISSES:
            raise RequestError(
                f"{cell.name} has hardly more than {len(found)} different graphs with these names: ask for fewer than "
                "that, or allow longer names"
            )
    return tuple(found.values())


def _draw(cell: Cell, size: int, label: bool, names: Names, rng: np.random.Generator) -> SeparationQuestion:
    """A question with so many given nodes and this answer."""
    for _ in range(_GRAPHS):
        graph = cell.graph(names, rng)
        named = {node for edge in graph.edges for node in edge}
        places = np.array([i for i, node in enumerate(graph.nodes) if node in named])
        if len(places) < size + 2:
            continue
        parents = parent_masks(graph)
        for _ in range(_TRIPLES):
            first, second, *given = rng.permutation(places)[: size + 2].tolist()
            if separated(parents, first, second, sum(1 << node for node in given)) == label:
                at = graph.nodes
                return SeparationQuestion(graph, at[first], at[second], tuple(at[node] for node in given), label)
    raise RequestError(
        f"{cell.name}: no question given {size} nodes is answered {'Yes' if label else 'No'} in {_GRAPHS} graphs: use "
        "more nodes, fewer edges or another number of given nodes"
    )
