"""From correlation to causation: the text says exactly what holds, questions are balanced, pure, rightly answered."""

import re
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from arithcirc.axioms.corr2cause.dags import labelled_dags
from arithcirc.axioms.corr2cause.equivalence import signatures
from arithcirc.axioms.corr2cause.questions import (
    CorrelationQuestion,
    CorrelationStream,
    adjacent,
    correlated,
    correlation_row,
    decidable,
    hypotheses,
    shortcut,
)
from arithcirc.axioms.corr2cause.relations import RELATIONS, holds
from arithcirc.axioms.corr2cause.text import WORDS, hypothesis, premise
from arithcirc.axioms.lines import continue_lines, read_lines, row_line
from arithcirc.axioms.tokenizer import build_core, encode
from arithcirc.errors import RequestError

FORK = (0b10, 0, 0b10)
"""A <- B -> C."""


@pytest.fixture(scope="module")
def asked():
    return list(CorrelationStream(seed=2).questions(0, 400))


def drawn_graph(question: CorrelationQuestion) -> nx.DiGraph:
    graph = nx.DiGraph(correlation_row(question)["edges"])
    graph.add_nodes_from(question.names)
    return graph


def test_the_text_of_a_fork():
    assert premise(FORK, "ABC") == (
        "A, B, C form one closed system. A correlates with B. A correlates with C. B correlates with C. "
        "A and C are independent given B."
    )
    assert hypothesis("is-parent", "B", "A") == "Is B among the parents of A?"


def test_a_premise_lists_exactly_the_independences_that_networkx_finds(asked):
    for question in asked[::16]:
        graph, text = drawn_graph(question), question.text
        names = re.match(r"([A-Z](?:, [A-Z])*) form one closed system\.", text)
        assert names
        assert tuple(names[1].split(", ")) == question.names
        stated = [frozenset(pair) for pair in re.findall(r"([A-Z]) correlates with ([A-Z])\.", text)]
        apart = {
            (frozenset(pair), frozenset[str]()) for pair in re.findall(r"([A-Z]) is independent of ([A-Z])\.", text)
        }
        given = re.findall(r"([A-Z]) and ([A-Z]) are independent given ([A-Z](?:, [A-Z])*)\.", text)
        apart |= {(frozenset((a, b)), frozenset(others.split(", "))) for a, b, others in given}
        true = set()
        for a, b in combinations(question.names, 2):
            others = [name for name in question.names if name not in (a, b)]
            for size in range(len(others) + 1):
                sets = (set(s) for s in combinations(others, size))
                true |= {(frozenset((a, b)), frozenset(s)) for s in sets if nx.is_d_separator(graph, a, b, s)}
        assert apart == true
        assert sorted(map(sorted, stated)) == sorted(
            sorted(pair) for pair in combinations(question.names, 2) if (frozenset(pair), frozenset()) not in true
        )
        assert text.count(".") == 1 + len(stated) + len(true)


def test_answers_are_those_of_all_graphs_of_the_class(asked):
    every = {nodes: labelled_dags(nodes) for nodes in (3, 4)}
    marks = {nodes: signatures(dags) for nodes, dags in every.items()}
    small = [question for question in asked if len(question.names) in every]
    assert len(small) > 100
    for question in small[:100]:
        nodes = len(question.names)
        mine = every[nodes][marks[nodes] == signatures(np.array([question.dag], dtype=np.uint8))]
        truth = holds(mine)[:, RELATIONS.index(question.relation)][:, *question.pair]
        assert truth.all() == question.label


def test_any_even_number_of_questions_is_balanced_by_relation_and_size(asked):
    for stop in (2, 50, 400):
        kinds = [(len(q.names), q.relation) for q in asked[:stop]]
        yes = [kind for kind, q in zip(kinds, asked, strict=False) if q.label]
        assert all(kinds.count(kind) == 2 * yes.count(kind) for kind in kinds)
    assert {len(q.names) for q in asked} == {3, 4, 5, 6}
    assert {q.relation for q in asked} == set(RELATIONS)
    assert 0.3 < np.mean([q.label for q in asked[::2]]) < 0.7


def test_a_question_is_a_pure_function_of_seed_and_index(asked):
    assert CorrelationStream(seed=2).question(333) == asked[333]
    assert CorrelationStream(seed=1).question(333) != asked[333]
    assert len({(q.dag, q.names, q.relation, q.first, q.second) for q in asked}) == 400


def test_tests_have_classes_of_their_own():
    for size in (4, 5, 6):
        for relation in decidable(size, "test"):
            parts = [{int(row[0]) for row in hypotheses(size, relation, False, part)} for part in ("train", "test")]
            assert not parts[0] & parts[1]
            assert 0.1 < len(parts[1]) / len(parts[0] | parts[1]) < 0.3
    held = list(CorrelationStream((5, 6), part="test").questions(0, 20))
    assert sum(q.label for q in held) == 10


def test_the_shortcut_is_what_the_pair_alone_shows(asked):
    for question in asked[:50]:
        graph = drawn_graph(question)
        assert adjacent(question) == nx.Graph(graph).has_edge(question.first, question.second)
        assert correlated(question) != nx.is_d_separator(graph, question.first, question.second, set())
    right = np.mean([shortcut(question) == question.label for question in asked])
    assert 0.65 < right < 0.85


def test_words_are_all_that_a_text_has_besides_single_capitals(asked):
    core = build_core(task="correlation")
    found = {word for q in asked[:80] for word in re.findall(r"[A-Za-z]+", q.text)}
    assert {word for word in found if len(word) > 1} == set(WORDS)
    assert all(word.isupper() for word in found - set(WORDS))
    for question in asked[:80]:
        ids = encode(core, question.text)
        assert len(ids) == len(re.findall(r"[A-Za-z]+|[.,?]", question.text))
        assert core.decode(ids) == question.text


def test_lines_hold_the_graph_and_the_answer(tmp_path, asked):
    path = tmp_path / "correlation.jsonl"
    lines = [row_line(correlation_row(question)) for question in asked[:25]]
    continue_lines(path, lambda start: lines[start:], 25)
    assert len(list(read_lines(path))) == 25
    for row, question in zip(read_lines(path), asked, strict=False):
        place = {name: i for i, name in enumerate(row["variables"])}
        masks = [0] * len(place)
        for cause, effect in row["edges"]:
            masks[place[effect]] |= 1 << place[cause]
        label = row["label"] == "Yes"
        names = tuple(row["variables"])
        assert CorrelationQuestion(tuple(masks), names, row["relation"], row["first"], row["second"], label) == question
        assert row["text"] == question.text
        assert row["shortcut"] == ("Yes" if shortcut(question) else "No")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CorrelationStream((2,)), "number of variables is 2: use 3 to 6"),
        (lambda: CorrelationStream((7,)), "number of variables is 7: use 3 to 6"),
        (lambda: CorrelationStream(()), "no number of variables is given"),
        (lambda: CorrelationStream(part="dev"), "unknown part 'dev'"),
        (lambda: CorrelationStream((3,), part="test"), "no relation of 3 variables is both valid and not"),
        (lambda: CorrelationStream(seed=-1), "seed is -1"),
        (lambda: hypothesis("is-friend", "A", "B"), "relation 'is-friend' is unknown"),
        (lambda: premise(FORK, "AAB"), "give each a name of its own"),
        (lambda: CorrelationQuestion(FORK, tuple("ABC"), "is-friend", "A", "B", True), "'is-friend' is unknown"),
        (lambda: CorrelationQuestion(FORK, tuple("AB"), "is-parent", "A", "B", True), "give each its own"),
        (lambda: CorrelationQuestion(FORK, tuple("ABC"), "is-parent", "A", "A", True), "ask about two of A, B, C"),
        (lambda: CorrelationQuestion(FORK, tuple("ABC"), "is-parent", "B", "A", True), "label True is wrong"),
    ],
)
def test_impossible_requests_get_one_clear_line(make, message):
    with pytest.raises(RequestError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
