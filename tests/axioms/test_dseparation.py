"""d-separation against every path between two nodes, and against networkx, on the same 2,000 random cases."""

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest

from arithcirc.axioms.dseparation import d_separated, parent_masks, separated
from arithcirc.axioms.graphs import Graph
from arithcirc.errors import RequestError

CASES = 2000


def drawn(number: int) -> tuple[Graph, str, str, tuple[str, ...]]:
    """A random graph of 2 to 7 nodes, sparse or dense, its nodes in any order, and a question about it."""
    rng = np.random.default_rng([5, number])
    size = int(rng.integers(2, 8))
    nodes = [f"n{i}" for i in rng.permutation(size)]
    share = rng.choice([0.25, 0.4, 0.6])
    edges = [(f"n{i}", f"n{j}") for i in range(size) for j in range(i + 1, size) if rng.random() < share]
    first, second, *others = (str(node) for node in rng.permutation(nodes))
    return Graph(tuple(nodes), tuple(edges)), first, second, tuple(others[: rng.integers(0, len(others) + 1)])


@pytest.fixture(scope="module")
def cases():
    return [drawn(number) for number in range(CASES)]


def open_path(graph: Graph, first: str, second: str, given: tuple[str, ...]) -> bool:
    """By the definition: some path whose colliders are given or lead to a given node, and no other node is given."""
    children = graph.children()

    def below(node: str) -> set[str]:
        return {node}.union(*(below(child) for child in children[node]))

    opens = {node for node in graph.nodes if below(node) & set(given)}
    edges = set(graph.edges)
    links = {node: {b for a, b in edges if a == node} | {a for a, b in edges if b == node} for node in graph.nodes}

    def paths(path: list[str]):
        if path[-1] == second:
            yield path
            return
        for node in links[path[-1]] - set(path):
            yield from paths([*path, node])

    def is_open(path: list[str]) -> bool:
        into = [(a, b) in edges for a, b in pairwise(path)]
        return all(
            node in opens if before and not after else node not in given
            for node, before, after in zip(path[1:-1], into, into[1:], strict=False)
        )

    return any(is_open(path) for path in paths([first]))


def test_every_answer_is_that_of_all_paths_and_of_networkx(cases):
    answers = []
    for graph, first, second, given in cases:
        theirs = nx.DiGraph(graph.edges)
        theirs.add_nodes_from(graph.nodes)
        found = d_separated(graph, first, second, given)
        assert found == (not open_path(graph, first, second, given))
        assert found == nx.is_d_separator(theirs, first, second, set(given))
        assert found == d_separated(graph, second, first, given[::-1])
        answers.append(found)
    assert 0.2 < np.mean(answers) < 0.8


def test_a_collider_opens_a_path_when_it_or_a_descendant_is_given():
    graph = Graph(tuple("ABCD"), (("A", "C"), ("B", "C"), ("C", "D")))
    assert d_separated(graph, "A", "B")
    assert not d_separated(graph, "A", "B", ["C"])
    assert not d_separated(graph, "A", "B", ["D"])
    assert d_separated(graph, "A", "D", ["C"])


def test_a_long_chain_is_cut_by_each_of_its_inner_nodes():
    nodes = tuple(f"n{i}" for i in range(80))
    masks = parent_masks(Graph(nodes, tuple(pairwise(nodes))))
    assert not separated(masks, 0, 79, 0)
    assert all(separated(masks, 0, 79, 1 << middle) for middle in range(1, 79))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("A", "X"), "'X' is no node of the graph"),
        (("A", "B", ["X"]), "'X' is no node of the graph"),
        (("A", "A"), "from itself has no meaning"),
        (("A", "B", ["A"]), "'A' is asked about and given"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(asked, message):
    with pytest.raises(RequestError, match=message) as error:
        d_separated(Graph(("A", "B"), (("A", "B"),)), *asked)
    assert "\n" not in str(error.value)
