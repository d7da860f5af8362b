"""Causal graphs against independent algorithms: closure by matrix powers, distances by the first that connects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arithcirc.axioms.graphs import Graph, Question, closure, distances, question
from arithcirc.errors import RequestError


@st.composite
def dags(draw):
    """Nodes and edges of any DAG of 1 to 7 nodes, in any order."""
    nodes = [f"n{i}" for i in range(draw(st.integers(1, 7)))]
    pairs = [(a, b) for i, a in enumerate(nodes) for b in nodes[i + 1 :]]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return tuple(draw(st.permutations(nodes))), tuple(edges)


def powers(graph: Graph) -> list[np.ndarray]:
    """Boolean powers 1..n of the adjacency matrix."""
    place = {node: i for i, node in enumerate(graph.nodes)}
    adjacency = np.zeros((len(place), len(place)), dtype=bool)
    for cause, effect in graph.edges:
        adjacency[place[cause], place[effect]] = True
    found = [adjacency]
    for _ in graph.nodes:
        found.append((found[-1].astype(int) @ adjacency.astype(int)) > 0)
    return found


@given(dags())
def test_closure_and_distances_are_those_of_matrix_powers(dag):
    graph = Graph(*dag)
    steps = powers(graph)
    reached, lengths = closure(graph), distances(graph)
    for i, cause in enumerate(graph.nodes):
        for j, effect in enumerate(graph.nodes):
            first = next((length for length, step in enumerate(steps, start=1) if step[i, j]), 0)
            assert (effect in reached[cause]) == (first > 0)
            assert lengths.get((cause, effect), 0) == first
            if cause != effect:
                assert question(graph, cause, effect) == Question(graph, cause, effect, first > 0, first)


@given(dags())
def test_order_puts_causes_first_and_neighbours_are_the_edges(dag):
    graph = Graph(*dag)
    place = {node: i for i, node in enumerate(graph.order)}
    assert sorted(graph.order) == sorted(graph.nodes)
    assert all(place[cause] < place[effect] for cause, effect in graph.edges)
    assert {(a, b) for a, effects in graph.children().items() for b in effects} == set(graph.edges)
    assert {(a, b) for b, causes in graph.parents().items() for a in causes} == set(graph.edges)


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ("AA", [], "node 'A' is given twice"),
        ("AB", [("A", "C")], "names 'C', which is no node"),
        ("AB", [("A", "A")], "must lead to another node"),
        ("AB", [("A", "B"), ("A", "B")], "given twice"),
        ("AB", [("A", "B"), ("B", "A")], "has a cycle"),
        ("ABCD", [("C", "D"), ("A", "B"), ("B", "C"), ("C", "B")], "a cycle through '[BC]'"),
    ],
)
def test_a_graph_that_is_no_dag_is_refused_in_one_line(nodes, edges, message):
    with pytest.raises(RequestError, match=message) as error:
        Graph(tuple(nodes), tuple(edges))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("A", "C", True, 1), "no node of the graph"),
        (("A", "A", False, 0), "causes itself"),
        (("A", "B", False, 1), "label False with 1 hops"),
        (("A", "B", True, 0), "label True with 0 hops"),
    ],
)
def test_a_question_that_contradicts_itself_is_refused(asked, message):
    with pytest.raises(RequestError, match=message):
        Question(Graph(("A", "B"), (("A", "B"),)), *asked)
