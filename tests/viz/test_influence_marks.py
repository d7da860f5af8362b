"""Where a document states what is needed: however it is spaced, never inside another number, never as markup."""

import pytest

from arithcirc.viz.influence.highlight import Piece, excerpt, last_word, pieces, rule_pieces, short_lines, shows

HOSTILE = '<img src=x onerror="window.owned=1"> 4 + 3 = 7 </script>'
FACT = "fact:Zoran:capital:Melvu"


def marked(found, mark):
    return [piece.text for piece in found if piece.mark == mark]


@pytest.mark.parametrize("text", ["4+3=7", "4 + 3 = 7", "so 4 +3= 7.", "(4\n+ 3 = 7)"])
def test_a_step_is_found_however_it_is_spaced(text):
    found = pieces(text, ["4+3=7"])
    assert "".join(p.text for p in found) == text
    assert ["".join(t.split()) for t in marked(found, "need")] == ["4+3=7"]


@pytest.mark.parametrize("text", ["14+3=7", "4+3=70", "4+33=7", "4.4+3=7", "4+3=7.5", "4-3=7", "4+3"])
def test_another_number_is_not_the_step(text):
    assert marked(pieces(text, ["4+3=7"]), "need") == []


def test_signs_of_times_and_minus_may_be_written_otherwise():
    assert marked(pieces("6 × 7 = 42, 9 − 4 = 5", ["6*7=42", "9-4=5"]), "need") == ["6 × 7 = 42", "9 − 4 = 5"]


def test_a_value_counts_as_the_fact_only_beside_its_entity():
    whole = pieces("The capital of Zoran is Melvu.", [FACT], " Melvu")
    assert marked(whole, "need") == ["Melvu"]
    assert marked(whole, "name") == ["Zoran"]
    alone = pieces("Melvu sells apples; Melvus do not.", [FACT], " Melvu")
    assert (marked(alone, "need"), marked(alone, "answer")) == ([], ["Melvu"])
    assert shows(FACT) == "capital of Zoran: Melvu"


def test_the_answer_by_itself_is_marked_weakly_and_a_need_wins():
    found = pieces("7 apples; 4+3=7", ["4+3=7"], "4+3=7")
    assert marked(found, "answer") == ["7"]
    assert marked(found, "need") == ["4+3=7"]
    assert [last_word(a) for a in (" x is 12.", "a=5", "", "so 3 = 14")] == ["12", "5", "", "14"]


def test_what_the_model_says_wrongly_is_marked_where_documents_say_it():
    text = "The capital of Zoran is Melvu. Some say Kular."
    found = pieces(text, [FACT], " Melvu", said=" Kular")
    assert (marked(found, "need"), marked(found, "said")) == (["Melvu"], ["Kular"])
    assert marked(pieces(text, [FACT], " Melvu", said="it is Melvu."), "said") == []


def test_pieces_are_text_and_nothing_is_lost_or_added():
    for needs in ([], ["4+3=7"], ["<img", "window"], [""], ["fact:"], ["fact:a:b:"], [".*", "("]):
        found = pieces(HOSTILE, needs, "onerror")
        assert "".join(p.text for p in found) == HOSTILE
        assert all(p.text for p in found)
    assert pieces("", ["4+3=7"]) == []


def test_equations_are_marked_of_which_the_heuristic_holds():
    found = rule_pieces("11-8=3, 12 - 7 = 5, 28 − 18 = 10, 8+8=16", "op2 = 8 mod 10", "-")
    assert marked(found, "rule") == ["11-8", "28 − 18"]
    assert marked(rule_pieces("11-8", "no such heuristic", "-"), "rule") == []
    assert marked(rule_pieces("11-8", "op2 = 8 mod 10", "?"), "rule") == []


def test_a_long_text_keeps_its_beginning_and_what_is_needed():
    text = "begins " + "x " * 900 + "4 + 3 = 7" + " y" * 900
    found = excerpt(pieces(text, ["4+3=7"]), longest=300)
    shown = "".join(p.text for p in found)
    assert len(shown) < 400
    assert shown.startswith("begins ")
    assert marked(found, "need") == ["4 + 3 = 7"]
    assert " … " in shown
    assert shown.endswith(" …")
    assert excerpt([Piece("short")], longest=300) == [Piece("short")]


def test_a_list_of_short_lines_is_told_from_prose():
    equations = "Table of sums and differences\n" + "\n".join(f"{i}+{i}={2 * i}" for i in range(8))
    assert short_lines(rule_pieces(equations, "op1 = 0 mod 2", "+"))
    assert not short_lines(rule_pieces("4+3=7\n5+3=8", "op1 = 0 mod 2", "+"))
    assert not short_lines([Piece(equations + "\nand so the sum of all of these is large")])
    assert not short_lines([])
