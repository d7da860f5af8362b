"""Causal graphs, what follows from them by transitivity, and questions about one pair of nodes.

A graph is a directed acyclic graph over named nodes; its edges stand in the order in which their sentences are written.
X causes Y, by the axiom of transitivity for stable causal models (Galles & Pearl 1997), if and only if a directed path
leads from X to Y; a stated edge is such a path.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from arithcirc.errors import RequestError

Edge = tuple[str, str]
"""Cause, effect."""


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph.

    `nodes` in the order in which they were made, `edges` as (cause, effect) in the order in which their sentences are
    written. Raises RequestError for a node given twice, an edge of an unknown node, from a node to itself or given
    twice, and for a cycle.
    """

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        known = set(self.nodes)
        if len(known) < len(self.nodes):
            twice = next(node for i, node in enumerate(self.nodes) if node in self.nodes[:i])
            raise RequestError(f"node {twice!r} is given twice: names of a graph must differ")
        seen: set[Edge] = set()
        for edge in self.edges:
            for node in edge:
                if node not in known:
                    raise RequestError(f"edge {_written(edge)} names {node!r}, which is no node of the graph")
            if edge[0] == edge[1]:
                raise RequestError(f"{_written(edge)}: an edge must lead to another node")
            if edge in seen:
                raise RequestError(f"edge {_written(edge)} is given twice: state each edge once")
            seen.add(edge)
        if len(self.order) < len(self.nodes):
            raise RequestError(
                f"the graph has a cycle through {_on_cycle(self)!r}: causes must not lead back to themselves, "
                "remove an edge"
            )

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The nodes in a topological order: causes before their effects, ties as in `nodes`."""
        children, waiting = self.children(), dict.fromkeys(self.nodes, 0)
        for _, effect in self.edges:
            waiting[effect] += 1
        ready = deque(node for node in self.nodes if not waiting[node])
        found = []
        while ready:
            node = ready.popleft()
            found.append(node)
            for child in children[node]:
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)
        return tuple(found)

    def children(self) -> dict[str, tuple[str, ...]]:
        """Every node with its direct effects, in the order of the edges."""
        return _grouped(self.nodes, self.edges)

    def parents(self) -> dict[str, tuple[str, ...]]:
        """Every node with its direct causes, in the order of the edges."""
        return _grouped(self.nodes, ((effect, cause) for cause, effect in self.edges))


@dataclass(frozen=True)
class Question:
    """Does `cause` cause `effect` in the graph? `label` is the answer, `hops` the shortest path's length, 0 for none.

    Raises RequestError when cause or effect is no node of the graph, when they are one node, and when label and hops
    contradict each other.
    """

    graph: Graph
    cause: str
    effect: str
    label: bool
    hops: int

    def __post_init__(self) -> None:
        for node in (self.cause, self.effect):
            if node not in self.graph.nodes:
                raise RequestError(f"the question names {node!r}, which is no node of the graph")
        if self.cause == self.effect:
            raise RequestError(f"the question asks whether {self.cause!r} causes itself: ask about two nodes")
        if self.hops < 0 or self.label != (self.hops > 0):
            raise RequestError(f"label {self.label} with {self.hops} hops: the label is true for 1 hop or more")


def closure(graph: Graph) -> dict[str, frozenset[str]]:
    """Every node with all nodes that a directed path of one edge or more leads to."""
    children = graph.children()
    found: dict[str, frozenset[str]] = {}
    for node in reversed(graph.order):
        found[node] = frozenset(children[node]).union(*(found[child] for child in children[node]))
    return {node: found[node] for node in graph.nodes}


def distances(graph: Graph) -> dict[Edge, int]:
    """Length of the shortest directed path of every ordered pair that has one; by breadth-first search."""
    children = graph.children()
    found: dict[Edge, int] = {}
    for start in graph.nodes:
        reached = {start: 0}
        queue = deque((start,))
        while queue:
            node = queue.popleft()
            for child in children[node]:
                if child not in reached:
                    reached[child] = reached[node] + 1
                    queue.append(child)
        found |= {(start, node): length for node, length in reached.items() if length}
    return found


def question(graph: Graph, cause: str, effect: str, *, known: Mapping[Edge, int] | None = None) -> Question:
    """The question about one ordered pair, with its label.

    `known`: the graph's `distances`, when many questions are asked about it. Raises RequestError as `Question`.
    """
    hops = (distances(graph) if known is None else known).get((cause, effect), 0)
    return Question(graph, cause, effect, hops > 0, hops)


def _grouped(nodes: tuple[str, ...], pairs: Iterable[Edge]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {node: [] for node in nodes}
    for first, second in pairs:
        found[first].append(second)
    return {node: tuple(others) for node, others in found.items()}


def _on_cycle(graph: Graph) -> str:
    """A node of a cycle: walk back over causes that are left until one comes again."""
    left = set(graph.nodes) - set(graph.order)
    parents, node, seen = graph.parents(), next(n for n in graph.nodes if n in left), set[str]()
    while node not in seen:
        seen.add(node)
        node = next(parent for parent in parents[node] if parent in left)
    return node


def _written(edge: Edge) -> str:
    return f"{edge[0]!r} causes {edge[1]!r}"
