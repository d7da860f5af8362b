"""Questions of d-separation: text and back, balance, purity, and answers checked by networkx."""

import json
from collections import Counter

import networkx as nx
import numpy as np
import pytest

from arithcirc.axioms.evaluation import Cell
from arithcirc.axioms.graphs import Graph
from arithcirc.axioms.lines import continue_lines, read_lines, row_line
from arithcirc.axioms.names import Names
from arithcirc.axioms.separation_questions import (
    EVALUATION,
    TRAINING_CELLS,
    SeparationQuestion,
    SeparationStream,
    parse_separation,
    separation_question,
    separation_row,
    separation_set,
    write_separation,
)
from arithcirc.axioms.tokenizer import build_core, encode
from arithcirc.errors import PromptError, RequestError, RunConflictError

COLLIDER = Graph(tuple("ABC"), (("A", "B"), ("C", "B")))


@pytest.fixture(scope="module")
def trained():
    return list(SeparationStream(seed=3).questions(0, 400))


def test_the_text_is_the_papers():
    asked = separation_question(COLLIDER, "A", "C")
    assert asked.label
    assert write_separation(asked) == "A causes B. C causes B. Are A and C d-separated?"
    asked = separation_question(Graph((*"ABC", "x1"), (("A", "B"), ("C", "B"), ("B", "x1"))), "A", "C", ("x1", "B"))
    assert not asked.label
    assert write_separation(asked) == ("A causes B. C causes B. B causes x1. Are A and C d-separated given {x1, B}?")


def test_any_even_number_of_questions_is_balanced_whatever_can_be_counted(trained):
    for stop in (2, 34, 400):
        counts = Counter((len(q.graph.nodes), len(q.given), q.label) for q in trained[:stop])
        assert all(counts[nodes, given, not label] == n for (nodes, given, label), n in counts.items())
    assert len({(len(q.graph.nodes), len(q.given)) for q in trained}) > 8
    first = np.array([q.label for q in trained[::2]])
    assert 0.35 < first.mean() < 0.65


def test_answers_and_texts_agree_with_networkx_and_the_tokenizer(trained):
    core = build_core(task="d-separation")
    for asked in trained[::5]:
        read = parse_separation(write_separation(asked))
        assert (read.graph.edges, read.given, read.label) == (asked.graph.edges, asked.given, asked.label)
        assert (
            nx.is_d_separator(nx.DiGraph(asked.graph.edges), asked.first, asked.second, set(asked.given)) == asked.label
        )
        assert asked.adjacent == nx.Graph(asked.graph.edges).has_edge(asked.first, asked.second)
        assert not (asked.adjacent and asked.label)
        ids = encode(core, write_separation(asked))
        assert core.id_to_token(ids[-1]) == "?"
        assert "[UNK]" not in [core.id_to_token(i) for i in ids]


def test_a_question_is_a_pure_function_of_seed_and_index(trained):
    stream = SeparationStream(seed=3)
    assert stream.question(317) == trained[317]
    assert stream.question(5) == trained[5]
    assert SeparationStream(seed=4).question(317) != trained[317]


@pytest.mark.parametrize(("cell", "most_given"), EVALUATION[::4], ids=lambda value: getattr(value, "name", value))
def test_an_evaluation_set_is_half_yes_with_a_graph_for_each_question(cell, most_given):
    found = separation_set(cell, most_given=most_given, number=60, seed=1)
    assert sum(q.label for q in found) == 30
    assert len({q.graph for q in found}) == 60
    assert {len(q.given) for q in found} == set(range(most_given + 1))
    assert {len(q.graph.nodes) for q in found} == {cell.nodes}
    assert found == separation_set(cell, most_given=most_given, number=60, seed=1)


def test_evaluation_sets_share_no_graph_and_no_order_of_answers():
    seven, eight = (separation_set(Cell("flipped", nodes), number=60) for nodes in (7, 8))
    assert [q.label for q in seven] != [q.label for q in eight]
    assert [len(q.given) for q in seven] != [len(q.given) for q in eight]
    assert not {q.graph.nodes[:3] for q in seven} & {q.graph.nodes[:3] for q in eight}


def test_lines_come_back_and_damage_is_named(tmp_path, trained):
    path = tmp_path / "questions.jsonl"
    told = []
    lines = [row_line(separation_row(asked)) for asked in trained[:50]]
    continue_lines(path, lambda start: lines[start:], 50, progress=told.append)
    assert told == [50]
    rows = list(read_lines(path))
    assert [row["label"] for row in rows] == ["Yes" if q.label else "No" for q in trained[:50]]
    assert [parse_separation(row["text"]).label for row in rows] == [q.label for q in trained[:50]]
    assert json.loads(path.read_text().splitlines()[0]) == separation_row(trained[0])
    path.write_text(path.read_text() + '{"text": "A causes B."}\n')
    with pytest.raises(RunConflictError, match="line 51, is no question"):
        list(read_lines(path))


def test_a_file_that_cannot_be_finished_leaves_only_its_part(tmp_path):
    stream = SeparationStream((Cell("branching", 4, 1.5),))
    with pytest.raises(RequestError, match="in 300 graphs"):
        continue_lines(
            tmp_path / "q.jsonl", lambda start: map(row_line, map(separation_row, stream.questions(start, 9))), 9
        )
    assert [path.name for path in tmp_path.iterdir()] == ["q.jsonl.part"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SeparationStream((Cell("flipped", 2),)), "pairs of 2 nodes are never d-separated"),
        (lambda: SeparationStream(()), "no kind of graph is given"),
        (lambda: SeparationStream(most_given=0), "most given nodes of sequential-03 is 0: use 1"),
        (lambda: SeparationStream(seed=-1), "seed is -1"),
        (lambda: SeparationStream((Cell("flipped", 4),), names=Names(1, 1, "ABC")), "4 names are asked"),
        (lambda: separation_set(Cell("flipped", 7), number=7), "7 questions cannot be half"),
        (lambda: separation_set(Cell("flipped", 3), number=40, names=Names(1, 1, "ABC")), "hardly more than"),
        (lambda: separation_question(COLLIDER, "A", "D"), "'D' is no node"),
        (lambda: separation_question(COLLIDER, "A", "C", ("A",)), "asked about and given"),
        (lambda: separation_question(COLLIDER, "A", "C", ("B", "B")), "name one twice"),
        (lambda: SeparationQuestion(COLLIDER, "A", "C", (), False), "label False is wrong: 'A' and 'C' are d-sep"),
        (lambda: SeparationQuestion(COLLIDER, "A", "C", ("B",), True), "label True is wrong: 'A' and 'C' are not d-s"),
    ],
)
def test_impossible_requests_get_one_clear_line(make, message):
    with pytest.raises(RequestError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A causes B. Is A near B?", "'Is A near B[?]' is not understood"),
        ("A causes B. B causes A. Are A and B d-separated?", "has a cycle"),
        ("A helps B. Are A and B d-separated?", "unknown word 'helps'"),
        ("A causes B. Are A and C d-separated?", "names 'C', which no sentence names"),
        ("A causes B. Are A and B d-separated given {C}?", "'C' is no node"),
        ("A causes B. Are A and B d-separated given {B}?", "'B' is asked about and given"),
        ("A causes B. Are A and A d-separated?", "'A' and itself"),
        ("Are A and B d-separated?", "states no cause"),
    ],
)
def test_texts_that_say_nothing_are_refused_in_one_line(text, message):
    with pytest.raises(PromptError, match=message) as error:
        parse_separation(text)
    assert "\n" not in str(error.value)


def test_training_cells_are_the_chains_of_training_and_any_family_can_be_asked():
    assert {cell.nodes for cell in TRAINING_CELLS} == {3, 4, 5, 6}
    for cell in (Cell("shuffled", 6), Cell("reversal", 5), Cell("names", 5), Cell("branching", 8, 2.0)):
        labels = [q.label for q in SeparationStream((cell,), most_given=2).questions(0, 6)]
        assert sum(labels) == 3
