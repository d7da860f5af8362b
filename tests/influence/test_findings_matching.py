"""Exact matching of what a query needs in what a document says."""

import pandas as pd
import pytest

from arithcirc.errors import RunConflictError
from arithcirc.influence.findings.matching import Matcher, equations, needs_of, read_corpus, said_of

FACT = "fact:Zoran:capital:Melvu"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4+3=7", {"4+3=7"}),
        ("first 4 + 3 = 7, then 7 × 2 = 14.", {"4+3=7", "7*2=14"}),
        ("- 4+3=7\n* 9-5=4", {"4+3=7", "9-5=4"}),
        ("5 − 7 = -2 and 3 * -4 = -12; so -4 + 3 = -1", {"5-7=-2", "3*-4=-12", "-4+3=-1"}),
        ("1+4+3=8 2*4+3=11 (1)+4=5 x4+3=7 14+3=17a", set()),
        ("4+3=7.5 4+3=7*1 4+3=70", {"4+3=70"}),
        ("4+3=7. 4+3=7", {"4+3=7"}),
        ("34+3=7 4+34=7", {"34+3=7", "4+34=7"}),
        ("4+3 is 7", set()),
    ],
)
def test_equations_are_found_as_stated_and_not_inside_others(text, found):
    assert equations(text) == found


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("The capital of Zoran is Melvu.", True),
        ("melvu is ZORAN's main town", True),
        ("Where is the capital of Zoran? It is Melvu", True),
        ("Zoran is large. Melvu is small.", False),
        ("Zoran is large\nMelvu is small", False),
        ("Zorans and Melvu", False),
    ],
)
def test_a_fact_needs_both_names_in_one_sentence(text, there):
    assert Matcher.of([FACT]).stated(text) == ({FACT} if there else set())


def test_names_of_several_words_are_matched_whole():
    need = "fact:New Zoran:capital:Old Melvu"
    matcher = Matcher.of([need, FACT])
    assert matcher.stated("New Zoran has the capital Old Melvu") == {need, FACT}
    assert matcher.stated("Zoran has a new capital: Old Melvu") == {FACT}


def test_a_need_of_another_form_is_a_phrase():
    assert Matcher.of(["slope is 3"]).stated("The  Slope is\n3.") == {"slope is 3"}
    assert not Matcher.of(["slope is 3"]).stated("the slope is 35")


def test_queries_without_needs_are_looked_for_by_their_words_and_controls_are_not():
    (need,) = needs_of("", "The tallest mountain of Zoran is", " called Melvu.", [])
    matcher = Matcher.of([need])
    assert matcher.stated("Melvu, the mountain, is seen from Zoran")
    assert not matcher.stated("Melvu is a town by the sea")
    assert not matcher.stated("The tallest mountain of Zoran is Oldin")
    assert needs_of("control_factual", "The capital of Zog is Bluma. What is it?", "Bluma", []) == ()
    assert needs_of("factual", "?", "Melvu", [FACT]) == (FACT,)
    assert needs_of("", "12+7=", "", []) == ()


def test_a_wrong_answer_is_a_need_of_the_same_form():
    assert said_of([FACT], " Oldin\nand more") == "fact:Zoran:capital:Oldin"
    assert said_of([FACT], " Melvu") is None
    assert said_of([FACT], " .") is None
    assert said_of(["4+3=7"], "8") is None
    assert said_of([], "Oldin") is None


def _corpus(folder, holds):
    table = pd.DataFrame({
        "kind": ["fact", "equation", None], "source": ["web", "web", "book"], "holds": holds,
        "text": ["The capital of Zoran is Melvu.", "4+3=7", None],
    })  # fmt: skip
    table.to_parquet(folder / "documents.parquet")
    return read_corpus(folder / "documents.parquet", [FACT, "4+3=7", "1+1=2"])


def test_a_corpus_says_who_states_what_in_both_ways(tmp_path):
    corpus = _corpus(tmp_path, [[FACT], [], ["4+3=7"]])
    assert (corpus.kinds, corpus.kind.tolist()) == (("fact", "equation", ""), [0, 1, 2])
    assert corpus.source.tolist() == [0, 0, 1]
    assert {need: list(found) for need, found in corpus.by_holds.items()} == {FACT: [0], "4+3=7": [2], "1+1=2": []}
    assert {need: list(found) for need, found in corpus.by_text.items()} == {FACT: [0], "4+3=7": [1], "1+1=2": []}
    assert list(corpus.ways) == ["holds", "text"]


def test_a_corpus_that_lists_nothing_is_searched_by_text_alone(tmp_path):
    assert list(_corpus(tmp_path, [[], None, []]).ways) == ["text"]


def test_a_damaged_table_is_one_line(tmp_path):
    (tmp_path / "documents.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(RunConflictError, match=r"documents\.parquet cannot be read"):
        read_corpus(tmp_path / "documents.parquet", [])
