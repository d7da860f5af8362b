"""Shortcuts and scores: what each shortcut is worth where, the hard accuracy by hand, intervals that know of graphs."""

from math import comb

import numpy as np
import pytest

from arithcirc.axioms.chains import chain, reversal
from arithcirc.axioms.evaluation import Cell, evaluation_set
from arithcirc.axioms.graphs import Graph, question
from arithcirc.axioms.shortcuts import SHORTCUTS, end_roles, literal_edge, mention_order, score, wilson
from arithcirc.errors import RequestError


def shortcut(name, cell, number=240):
    questions = evaluation_set(cell, number=number)
    return score(questions, [SHORTCUTS[name](q) for q in questions])


def every(graph):
    return [question(graph, a, b) for a in graph.nodes for b in graph.nodes if a != b]


@pytest.mark.parametrize("nodes", [3, 6, 15, 20])
def test_mention_order_needs_no_transitivity_on_sequential_chains(nodes):
    found = shortcut("mention order", Cell("sequential", nodes), number=100)
    assert found.accuracy.value == 1.0
    assert found.hard.value == 1.0


@pytest.mark.parametrize("nodes", [3, 4, 5, 6, 9])
def test_mention_order_fails_on_reversals(nodes):
    right = [mention_order(q) == q.label for q in every(reversal("ABCDEFGHI"[:nodes]))]
    assert sum(right) == 2  # only the two of the edge that is written first, of n(n - 1)
    if nodes <= 6:
        expected = 1 / comb(nodes, 2)
        found = shortcut("mention order", Cell("reversal", nodes)).accuracy
        assert found.low < expected < found.high
        assert found.value < 0.15 or nodes < 6


@pytest.mark.parametrize(
    ("cell", "released", "mention"),
    [
        (Cell("branching", 5, 1.4), 0.91, True), (Cell("branching", 8, 1.4), 0.85, True),
        (Cell("branching", 12, 1.4), 0.80, True), (Cell("branching", 5, 2.0), 1.00, True),
        (Cell("branching", 8, 2.0), 0.87, True), (Cell("branching", 12, 2.0), 0.79, True),
        (Cell("flipped", 7), 0.81, False), (Cell("flipped", 15), 0.74, False),
    ],
)  # fmt: skip
def test_the_literal_edge_is_worth_what_it_is_on_the_released_sets(cell, released, mention):
    found = shortcut("literal edge", cell)
    assert abs(found.accuracy.value - released) < 0.06
    assert found.hard is None if released == 1.0 else found.hard.value == 0.5
    if mention:
        assert 0.3 < shortcut("mention order", cell).accuracy.value < 0.55


def test_a_stated_edge_is_read_in_its_direction():
    graph = Graph(("A", "B", "C"), (("B", "A"), ("B", "C")))
    assert [literal_edge(question(graph, *pair)) for pair in ("BA", "AB", "AC", "BC")] == [True, False, False, True]
    assert [mention_order(question(graph, *pair)) for pair in ("BA", "AB", "AC", "CA")] == [True, False, True, False]
    assert not mention_order(question(Graph(("A", "B"), ()), "A", "B"))


def slow_end_roles(asked):
    cause_acts = effect_follows = False
    for cause, effect in asked.graph.edges:
        cause_acts = cause_acts or cause == asked.cause
        effect_follows = effect_follows or effect == asked.effect
    return cause_acts and effect_follows


def test_end_roles_by_hand():
    graph = Graph(("A", "B", "C", "D"), (("A", "B"), ("C", "B"), ("C", "D")))  # A -> B <- C -> D
    yes = {pair for pair in ("AB", "AD", "BA", "BD", "CB", "CD", "DA", "CA", "AC") if end_roles(question(graph, *pair))}
    assert yes == {"AB", "AD", "CB", "CD"}  # AD has no path
    loose = Graph(("A", "B", "C"), (("A", "B"),))
    assert [end_roles(question(loose, *pair)) for pair in ("AB", "AC", "CB")] == [True, False, False]


@pytest.mark.parametrize(
    ("cell", "hard"),
    [
        (Cell("shuffled", 6), 0.86), (Cell("branching", 12, 1.4), 0.81), (Cell("flipped", 15), 0.77),
        (Cell("reversal", 6), 0.8), (Cell("sequential", 6), 0.8),
    ],
)  # fmt: skip
def test_end_roles_are_never_wrong_on_a_yes_and_often_right_on_a_no(cell, hard):
    questions = evaluation_set(cell, number=500)
    guesses = [end_roles(q) for q in questions]
    assert guesses == [slow_end_roles(q) for q in questions]
    assert all(guess for guess, q in zip(guesses, questions, strict=True) if q.label)
    found = score(questions, guesses)
    assert abs(found.hard.value - hard) < 0.03  # of 15 pairs backwards in a chain of 6, 6 lie inside
    if cell.family == "flipped":
        assert found.hard.value > score(questions, [literal_edge(q) for q in questions]).hard.value


def test_the_hard_accuracy_is_the_mean_of_two_recalls():
    questions = every(chain("ABCD"))  # Yes: 3 of one hop, 3 of more; No: 6
    answers = [q.hops == 1 or q.hops == 3 or (q.cause, q.effect) in {("B", "A"), ("C", "A")} for q in questions]
    found = score(questions, answers)
    assert found.accuracy.value == pytest.approx((3 + 1 + 4) / 12)
    assert found.hard.value == pytest.approx((1 / 3 + 4 / 6) / 2)
    assert (found.hard.questions, found.hard.graphs, found.accuracy.questions) == (9, 1, 12)
    for constant in (True, False):
        assert score(questions, [constant] * 12).hard.value == 0.5


def test_repeated_questions_about_a_graph_add_nothing():
    rng = np.random.default_rng(0)
    questions = list(evaluation_set(Cell("flipped", 6), number=80))
    answers = [bool(q.label ^ (rng.random() < 0.3)) for q in questions]
    once, often = score(questions, answers), score(questions * 5, answers * 5)
    a, b = once.accuracy, often.accuracy
    assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high), abs=1e-9)
    assert (b.questions, b.graphs) == (5 * a.questions, a.graphs)
    assert often.hard.value == pytest.approx(once.hard.value)
    assert often.hard.high - often.hard.low > 0.9 * (once.hard.high - once.hard.low)
    plain = wilson(once.accuracy.value, 79.0)
    assert (once.accuracy.low, once.accuracy.high) == pytest.approx(plain)


def test_intervals_cover_the_truth_when_answers_of_a_graph_hang_together():
    rng, covered, naive = np.random.default_rng(1), 0, 0
    graphs = [chain((f"a{i}", f"b{i}", f"c{i}")) for i in range(40)]
    questions = [q for graph in graphs for q in every(graph)]
    for _ in range(100):
        known = rng.random(40) < 0.7  # a graph is answered right as a whole, or not at all
        answers = [q.label == bool(known[i // 6]) for i, q in enumerate(questions)]
        found = score(questions, answers).accuracy
        covered += found.low <= 0.7 <= found.high
        low, high = wilson(found.value, float(len(questions)))
        naive += low <= 0.7 <= high
    assert covered >= 90
    assert naive < 70


def test_intervals_stay_sensible_at_the_ends():
    questions = evaluation_set(Cell("sequential", 4), number=50)
    perfect = score(questions, [q.label for q in questions])
    assert (perfect.accuracy.value, perfect.accuracy.high) == (1.0, 1.0)
    assert perfect.accuracy.low == pytest.approx(50 / (50 + 1.959964**2), abs=1e-6)  # Wilson's of 50 of 50
    wrong = score(questions, [not q.label for q in questions])
    assert (wrong.accuracy.low, wrong.hard.value) == (0.0, 0.0)
    assert score(questions[:1], [questions[0].label]).accuracy.low < 0.25


def test_answers_that_do_not_fit_are_refused():
    questions = evaluation_set(Cell("sequential", 4), number=2)
    with pytest.raises(RequestError, match="1 answers to 2 questions"):
        score(questions, [True])
    with pytest.raises(RequestError, match="0 answers"):
        score([], [])
    with pytest.raises(RequestError, match="level 1"):
        score(questions, [True, True], level=1.0)
