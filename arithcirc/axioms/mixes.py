"""Training data without end: mixes of sequential and flipped chains, each example a pure function of (seed, index).

A mix gives shares of kinds of chains; the paper's are TS1 (101 : 73), TS2 (132 : 42) and OCC (only sequential).
Examples come in pairs (2k, 2k + 1) of one kind, one answered Yes and one No in an order drawn by chance; the kinds of
pairs are interleaved. So any even number of examples from the start is exactly balanced, as a whole and in each kind,
and has its shares to within a pair or two.
The graph, its names and the pair asked about are drawn from the index alone, so any worker can make any example, and
training goes on after a stop where it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from arithcirc.axioms import chains
from arithcirc.axioms.draws import check_seed, generator, whole
from arithcirc.axioms.graphs import Graph, Question
from arithcirc.axioms.names import Names
from arithcirc.axioms.pairs import Premise, draw_premise, draw_question
from arithcirc.errors import RequestError

KINDS = ("sequential", "flipped", "reversal")
"""Kinds of chains of a mix."""
LENGTHS = (3, 4, 5, 6)
"""Nodes of the paper's training chains."""
LONGEST_CHAIN = 1000
_EXAMPLE, _PREMISE, _ANSWERS = 1, 2, 3  # purposes of a seed


@dataclass(frozen=True)
class Mix:
    """Parts of sequential, flipped and completely reversed chains: whole numbers of 0 or more, one above 0.

    `complete`: flipped chains may have every edge turned, which reads like a reversal. Raises RequestError.
    """

    name: str
    sequential: int
    flipped: int
    reversal: int = 0
    complete: bool = False

    def __post_init__(self) -> None:
        parts = (self.sequential, self.flipped, self.reversal)
        if min(parts) < 0 or not sum(parts):
            raise RequestError(f"mix {self.name} has parts {parts}: give numbers of 0 or more, one above 0")

    def kind(self, number: int) -> str:
        """Kind of the pair of examples of this number, and of this premise: kinds in turn, by their shares."""
        total, rest = self.sequential + self.flipped + self.reversal, self.flipped + self.reversal
        sequential = number * self.sequential // total
        if (number + 1) * self.sequential // total > sequential:
            return "sequential"
        number -= sequential
        return "flipped" if (number + 1) * self.flipped // rest > number * self.flipped // rest else "reversal"

    def graph(self, kind: str, names: Sequence[str], rng: np.random.Generator) -> Graph:
        """A chain of a kind. Raises RequestError."""
        if kind == "sequential":
            return chains.chain(names)
        if kind == "flipped":
            return chains.flipped(names, rng, complete=self.complete)
        if kind == "reversal":
            return chains.reversal(names)
        raise RequestError(f"unknown kind of chain {kind!r}: use {', '.join(KINDS)}")


TS1, TS2, OCC = Mix("TS1", 101, 73), Mix("TS2", 132, 42), Mix("OCC", 1, 0)
MIXES = {mix.name: mix for mix in (TS1, TS2, OCC)}
"""The paper's training sets, by name."""


def find_mix(name: str) -> Mix:
    """A mix of the paper, in any case. Raises RequestError naming those there are."""
    found = MIXES.get(name.upper())
    if found is None:
        raise RequestError(f"unknown mix {name!r}: use {', '.join(MIXES)}")
    return found


@dataclass(frozen=True)
class Stream:
    """Examples of a mix by their index.

    `lengths`: nodes of the chains, each entry equally likely (give one twice for twice the share; a curriculum replaces
    them as it goes). `names`: what nodes are called. Raises RequestError for chains of fewer than two nodes or with
    more nodes than there are names.
    """

    mix: Mix
    seed: int = 0
    lengths: tuple[int, ...] = LENGTHS
    names: Names = field(default_factory=Names)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not self.lengths:
            raise RequestError(f"no length of chains is given: use {chains.FEWEST_NODES} to {LONGEST_CHAIN}")
        for length in self.lengths:
            whole("length of a chain", length, chains.FEWEST_NODES, LONGEST_CHAIN)
        self.names.check(max(self.lengths))

    def example(self, index: int) -> Question:
        """Example `index`: a graph of its own and one question."""
        rng = generator(self.seed, _EXAMPLE, index)
        label = bool(generator(self.seed, _ANSWERS, index // 2).integers(2)) ^ bool(index % 2)
        return draw_question(self._graph(self.mix.kind(index // 2), rng), label, rng)

    def examples(self, start: int, stop: int) -> Iterator[Question]:
        """Examples start to stop - 1."""
        return (self.example(index) for index in range(start, stop))

    def premise(self, index: int, *, questions: int) -> Premise:
        """Graph `index` with several questions, half Yes and half No; fewer where a chain is short.

        Raises RequestError for an odd number of questions.
        """
        rng = generator(self.seed, _PREMISE, index)
        return draw_premise(self._graph(self.mix.kind(index), rng), questions, rng)

    def _graph(self, kind: str, rng: np.random.Generator) -> Graph:
        nodes = self.lengths[int(rng.integers(len(self.lengths)))]
        return self.mix.graph(kind, self.names.draw(nodes, rng), rng)
