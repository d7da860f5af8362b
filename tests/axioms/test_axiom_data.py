"""Chains, branching graphs, mixes and evaluation sets: exact shares and balance, pure in (seed, index), true labels."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from arithcirc.axioms import chains
from arithcirc.axioms.branching import branching, edge_count
from arithcirc.axioms.draws import generator
from arithcirc.axioms.evaluation import Cell, cells, evaluation_set
from arithcirc.axioms.graphs import Graph, distances
from arithcirc.axioms.mixes import KINDS, MIXES, OCC, TS1, TS2, Mix, Stream, find_mix
from arithcirc.axioms.names import RESERVED, Names
from arithcirc.axioms.pairs import candidates, draw_premise, draw_question
from arithcirc.errors import RequestError

SMALL = Names(1, 1)


def reaches(graph: Graph, cause: str, effect: str) -> bool:
    """Follow stated edges from the cause until nothing new comes: neither closure nor distances of the package."""
    found = {cause}
    while more := {b for a, b in graph.edges if a in found} - found:
        found |= more
    return effect in found


@pytest.fixture(scope="module")
def sets():
    """Every cell, 30 questions each (up to 20 nodes), names of 1 to 3 characters."""
    return {cell: evaluation_set(cell, number=30) for cell in cells(longest=20)}


def test_chains_stand_as_they_are_defined():
    assert chains.chain("ABC").edges == (("A", "B"), ("B", "C"))
    assert chains.chain("ABC", flips=(True, False)).edges == (("B", "A"), ("B", "C"))
    assert chains.reversal("ABC").edges == (("B", "C"), ("A", "B"))
    rng = np.random.default_rng(0)
    ways = Counter(chains.flipped("ABCD", rng).edges for _ in range(3000))
    assert len(ways) == 2**3 - 2  # neither none turned nor all
    assert max(abs(n / 500 - 1) for n in ways.values()) < 0.2
    assert len({chains.draw_flips(4, rng, complete=True) for _ in range(200)}) == 2**3 - 1
    assert chains.draw_flips(2, rng) == (True,)
    shuffled = Counter(chains.shuffled("ABC", rng).edges for _ in range(400))
    assert len(shuffled) == 4 * 2


@pytest.mark.parametrize(("nodes", "factor", "edges"), [(5, 1.4, 7), (12, 1.4, 16), (8, 2.0, 16), (5, 2.0, 10)])
def test_branching_graphs_have_their_edges_in_adjacency_order(nodes, factor, edges):
    names = [f"n{i:02d}" for i in range(nodes)]
    rng = np.random.default_rng(1)
    made = [branching(names, factor=factor, rng=rng) for _ in range(30)]
    assert {len(graph.edges) for graph in made} == {edges}
    assert all(list(graph.edges) == sorted(graph.edges) for graph in made)
    assert len({graph.order for graph in made}) > 10
    assert edge_count(nodes, factor) == edges


@pytest.mark.parametrize("mix", [*MIXES.values(), Mix("all", 3, 2, 1)])
def test_any_number_of_examples_has_its_shares_and_is_balanced(mix):
    stream = Stream(mix, names=SMALL)
    kinds, answers, parts = Counter(), [], sum((mix.sequential, mix.flipped, mix.reversal))
    for index, question in enumerate(stream.examples(0, 400)):
        kind = mix.kind(index // 2)
        kinds[kind] += 1
        answers.append(question.label)
        assert all(abs(kinds[k] - (index + 1) * getattr(mix, k) / parts) <= 3 for k in KINDS)
        assert question.label == reaches(question.graph, question.cause, question.effect)
        assert len(question.graph.nodes) in stream.lengths
        flips = sum(edge[0] > edge[1] for edge in _by_place(question.graph))
        edges = len(question.graph.edges)
        assert {"sequential": flips == 0, "flipped": 0 < flips < edges, "reversal": flips == 0}[kind]
        assert (_by_place(question.graph)[0] == (edges - 1, edges)) == (kind == "reversal")
    assert all(sum(answers[i : i + 2]) == 1 for i in range(0, 400, 2))
    assert 70 < sum(answers[::2]) < 130  # the order within a pair is drawn


def _by_place(graph):
    place = {node: i for i, node in enumerate(graph.nodes)}
    return [(place[cause], place[effect]) for cause, effect in graph.edges]


def test_the_papers_sets_are_met_at_its_size():
    for mix, flipped in ((TS1, 73), (TS2, 42), (OCC, 0)):
        kinds = Counter(mix.kind(number) for number in range(1740))
        assert kinds["flipped"] == 10 * flipped
    assert find_mix("ts2") is TS2


def test_examples_depend_on_seed_and_index_alone():
    stream = Stream(TS1, seed=3)
    kept = list(stream.examples(0, 40))
    assert [Stream(TS1, seed=3).example(i) for i in (39, 0, 7)] == [kept[39], kept[0], kept[7]]
    assert len({q.graph for q in kept}) == 40
    assert not set(kept) & set(Stream(TS1, seed=4).examples(0, 40))
    assert Stream(TS1, seed=3).premise(5, questions=4) == stream.premise(5, questions=4)
    assert stream.premise(5, questions=4).graph != kept[5].graph
    assert replace(stream, lengths=(2,)).example(0).graph.nodes != kept[0].graph.nodes


def test_the_bytes_are_those_of_every_machine():
    asked = Stream(TS2, seed=7).example(11)
    assert (asked.graph.edges, asked.cause, asked.effect, asked.hops) == DRAWN


DRAWN = ((("M5t", "g"), ("g", "kr")), "g", "kr", 1)


@pytest.mark.parametrize("length", [2, 3, 6])
def test_packed_questions_are_different_and_balanced(length):
    stream = Stream(TS1, lengths=(length,), names=SMALL)
    for index in range(60):
        packed = stream.premise(index, questions=8)
        connected, others = candidates(packed.graph)
        asked = [(q.cause, q.effect) for q in packed.questions]
        assert len(set(asked)) == len(asked) == 2 * min(4, len(connected), len(others))
        assert 2 * sum(q.label for q in packed.questions) == len(asked)
        assert all(q.hops == distances(packed.graph).get((q.cause, q.effect), 0) for q in packed.questions)


def test_questions_of_an_answer_are_equally_likely():
    graph, rng = chains.chain("ABCD"), np.random.default_rng(0)
    for label in (True, False):
        asked = Counter((q.cause, q.effect) for q in (draw_question(graph, label, rng) for _ in range(1200)))
        assert len(asked) == 6
        assert max(abs(n / 200 - 1) for n in asked.values()) < 0.25


def test_every_set_is_balanced_true_and_of_one_graph_per_question(sets):
    assert len(sets) == len({cell.name for cell in sets}) == 54
    for cell, questions in sets.items():
        assert sum(q.label for q in questions) == 15
        assert len({q.graph for q in questions}) == 30
        for q in questions:
            assert q.label == reaches(q.graph, q.cause, q.effect)
            assert len(set(q.graph.nodes)) == cell.nodes
            assert not {name.lower() for name in q.graph.nodes} & RESERVED
            assert {q.cause, q.effect} <= {node for edge in q.graph.edges for node in edge}
    assert {len(node) for q in sets[Cell("names", 5)] for node in q.graph.nodes} == {8, 9, 10}


def test_a_set_depends_on_its_cell_and_seed_alone(sets):
    cell = Cell("branching", 8, 1.4)
    assert evaluation_set(cell, number=30) == sets[cell]
    assert not set(evaluation_set(cell, number=60, seed=1)) & set(sets[cell])
    labels = [tuple(q.label for q in questions) for questions in sets.values()]
    assert len(set(labels)) == len(labels)


def test_no_graph_comes_twice_even_when_names_are_few():
    few = Names(1, 1, "ABCD")
    every = evaluation_set(Cell("sequential", 3), number=18, names=few)
    assert len({q.graph for q in every}) == 18  # of 4 * 3 * 2
    with pytest.raises(RequestError, match="sequential-03 has hardly more than 24 different graphs"):
        evaluation_set(Cell("sequential", 3), number=26, names=few)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: chains.chain("A", flips=(True,)), "a chain of 1 node\\(s\\) has no edge to flip: use 2 nodes or more"),
        (lambda: chains.draw_flips(1, np.random.default_rng(0)), "no edge to flip"),
        (lambda: chains.chain("A"), "has no edge"),
        (lambda: chains.shuffled("", np.random.default_rng(0)), "a chain of 0 node"),
        (lambda: chains.chain("ABC", flips=(True,)), "2 edge\\(s\\), but 1 flips"),
        (lambda: chains.chain("ABA"), "'A' is given twice"),
        (lambda: edge_count(5, 2.3), "factor 2.3 asks 11.5 edges of a graph of 5 nodes: use 0.2 to 2"),
        (lambda: edge_count(5, 0.1), "asks 0.5 edges"),
        (lambda: edge_count(1, 1.0), "use 2 nodes or more"),
        (lambda: Cell("branching", 5, 3.0), "factor 3 asks 15 edges"),
        (lambda: Cell("branching", 5), "branching graphs have one"),
        (lambda: Cell("flipped", 5, 1.4), "others have none"),
        (lambda: Cell("flipped", 1), "use 2 nodes or more"),
        (lambda: Cell("circle", 5), "unknown family of graphs 'circle'"),
        (lambda: cells(("circle",)), "unknown family"),
        (lambda: evaluation_set(Cell("flipped", 5), number=7), "7 questions cannot be half Yes"),
        (lambda: evaluation_set(Cell("flipped", 80), number=2, names=SMALL), "80 names are asked, .* there are 62"),
        (lambda: Mix("none", 0, 0), "give numbers of 0 or more, one above 0"),
        (lambda: Mix("odd", 2, -1), "parts \\(2, -1, 0\\)"),
        (lambda: find_mix("TS3"), "unknown mix 'TS3': use TS1, TS2, OCC"),
        (lambda: TS1.graph("circle", "AB", np.random.default_rng(0)), "unknown kind of chain"),
        (lambda: Stream(TS1, lengths=(1,)), "length of a chain is 1: use 2 to"),
        (lambda: Stream(TS1, lengths=()), "no length of chains"),
        (lambda: Stream(TS1, lengths=(70,), names=SMALL), "70 names are asked"),
        (lambda: Stream(TS1, seed=-1), "seed is -1"),
        (lambda: Stream(TS1).premise(0, questions=3), "3 questions of a graph cannot be half Yes"),
        (lambda: draw_question(Graph(("A",), ()), True, np.random.default_rng(0)), "without edges"),
        (lambda: draw_premise(Graph(("A",), ()), 2, np.random.default_rng(0)), "without edges"),
        (lambda: generator(0, 0, -1), "index -1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(RequestError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
