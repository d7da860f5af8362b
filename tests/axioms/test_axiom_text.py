"""Text and tokens of questions: what is written is read again, the paper's split, bad texts refused in one line."""

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arithcirc.axioms import text, tokenizer
from arithcirc.axioms.chains import chain
from arithcirc.axioms.graphs import Graph, question
from arithcirc.axioms.names import ALPHANUMERIC, RESERVED, Names
from arithcirc.axioms.tokenizer import build_core, encode, save_tokenizer, vocabulary
from arithcirc.errors import PromptError, RequestError, TokenizerError
from arithcirc.training.tokenizer import load_tokenizer

CORE = build_core()
KNOWN = vocabulary()
names = st.text(ALPHANUMERIC, min_size=1, max_size=4).filter(lambda name: name.lower() not in RESERVED)


@st.composite
def asked(draw):
    """Nodes, edges among them and a pair of mentioned nodes."""
    nodes = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    pairs = [(a, b) for i, a in enumerate(nodes) for b in nodes[i + 1 :]]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1))
    mentioned = sorted({node for edge in edges for node in edge})
    return edges, draw(st.permutations(mentioned))[:2]


@given(asked())
def test_what_is_written_is_read_again_and_token_by_token_the_same(given_):
    edges, (cause, effect) = given_
    nodes = tuple(dict.fromkeys(node for edge in edges for node in edge))
    made = question(Graph(nodes, tuple(edges)), cause, effect)
    written = text.write(made)
    assert text.parse(written) == made
    ids = encode(CORE, written)
    assert CORE.decode(ids) == written
    assert ids == tokenizer.premise_ids(made.graph, KNOWN) + tokenizer.question_ids((cause, effect), KNOWN)
    assert encode(CORE, text.answer(made.label)) == [tokenizer.answer_id(made.label, KNOWN)]


def test_the_vocabulary_is_the_papers():
    words = ["[PAD]", ".", "?", "causes", "Does", "cause", "Yes", "No"]
    assert list(KNOWN) == words + list(string.ascii_uppercase + string.ascii_lowercase + string.digits)
    assert list(KNOWN.values()) == list(range(70))
    assert set(KNOWN) - set(vocabulary(vocab=69)) == {"y"}
    assert len(vocabulary(vocab=69)) == 69
    assert len(vocabulary(task="d-separation")) == 77
    assert len(vocabulary(task="correlation")) == 100
    assert CORE.get_vocab() == KNOWN


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        (
            "EX causes T. T causes 9. 9 causes W. Does EX cause 9?",
            "E X causes T . T causes 9 . 9 causes W . Does E X cause 9 ?",
        ),
        (
            "LQw causes e2. p causes LQw. u causes p. Does e2 cause u? No",
            "L Q w causes e 2 . p causes L Q w . u causes p . Does e 2 cause u ? No",
        ),
        ("NO CAUSES nO1. does causesx cause yes?", "No causes n O 1 . Does c a u s e s x cause Yes ?"),
    ],
)
def test_the_split_is_the_papers(written, tokens):
    assert CORE.encode(written).tokens == tokens.split()


def test_d_separation_has_tokens_of_its_own():
    core = build_core(task="d-separation")
    written = "1 causes V. are EaT and jbj d-separated given {1, Tm2, rBz}? Yes"
    split = "1 causes V . are E a T and j b j d-separated g i v e n { 1 , T m 2 , r B z } ? Yes"
    assert core.encode(written.replace("are", "Are")).tokens == split.split()
    assert core.decode(core.encode(written).ids) == written


def test_saved_files_load_as_a_hugging_face_tokenizer(tmp_path):
    save_tokenizer(tmp_path)
    loaded = load_tokenizer(tmp_path)
    written = "EX causes T. T causes 9. Does EX cause 9?"
    padded = loaded([written, "Does A cause b?"], padding=True)["input_ids"]
    assert padded[0] == encode(CORE, written)
    assert padded[1] == encode(CORE, "Does A cause b?") + [0] * (len(padded[0]) - 5)
    assert loaded.decode(padded[0]) == written
    assert (len(loaded), loaded.pad_token_id, loaded.padding_side) == (70, 0, "right")


@pytest.mark.parametrize(
    ("core", "written", "message"),
    [
        (CORE, "A causes ß.", "has 'ß', which is no token of a vocabulary of 70"),
        (CORE, "A causes B!", "has '!'"),
        (build_core(vocab=69), "y causes Yes.", "has 'y', which is no token of a vocabulary of 69"),
    ],
)
def test_a_character_without_a_token_is_refused(core, written, message):
    with pytest.raises(TokenizerError, match=message):
        encode(core, written)
    with pytest.raises(TokenizerError, match="name 'ay' has 'y'"):
        tokenizer.premise_ids(chain(("ay", "b")), vocabulary(vocab=69))
    with pytest.raises(TokenizerError, match="no vocabulary of the task 'chess': use transitivity, d-separation"):
        vocabulary(task="chess")
    with pytest.raises(TokenizerError, match="no vocabulary of 71 tokens: use 70 or 69"):
        vocabulary(vocab=71)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("A causes B. Does A cause B", "end the text with 'Does A cause B\\?'"),
        ("Does A cause B?", "states no cause"),
        ("A leads B. Does A cause B?", "unknown word 'leads'"),
        ("A causes. Does A cause B?", "'A causes' is not understood"),
        ("A causes B. Does A cause C?", "names 'C', which no sentence names: nodes are A, B"),
        ("A causes no. Does A cause no?", "'no' is a word of the text"),
        ("A causes B-1. Does A cause B-1?", "name 'B-1' has '-'"),
        ("A causes B. B causes A. Does A cause B?", "has a cycle"),
        ("A causes B. A causes B. Does A cause B?", "given twice"),
        ("A causes A. Does A cause A?", "lead to another node"),
        ("A causes B. Does A cause A?", "causes itself"),
    ],
)
def test_a_text_that_is_no_question_is_refused_in_one_line(written, message):
    with pytest.raises(PromptError, match=message) as error:
        text.parse(written)
    assert "\n" not in str(error.value)


def test_names_are_distinct_and_never_words():
    rng = np.random.default_rng(0)
    short = Names(1, 3, "NOnoYyEeSs")  # of these, 4 + 8 are words
    every = short.draw(sum(short.available), rng)
    assert sum(short.available) == 10 + 100 + 1000 - 4 - 8 == len(set(every))
    assert not {name.lower() for name in every} & RESERVED
    assert {len(name) for name in Names(8, 10).draw(300, rng)} == {8, 9, 10}
    assert Names(3, 3, "ARE").available == (26,)


@pytest.mark.parametrize(
    ("arguments", "number", "message"),
    [
        ((1, 1), 63, "63 names are asked, .* there are 62"),
        ((2, 2, "no"), 4, "4 names are asked, .* there are 3"),
        ((0, 1), 1, "shortest length of names is 0: use 1 to 64"),
        ((3, 2), 1, "longest length of names is 2: use 3 to 64"),
        ((1, 1, "A-"), 1, "give letters A-Z"),
        ((1, 1, "AA"), 1, "each once"),
        ((1, 1, ""), 1, "give letters"),
    ],
)
def test_names_that_cannot_be_are_refused(arguments, number, message):
    with pytest.raises(RequestError, match=message):
        Names(*arguments).draw(number, np.random.default_rng(0))
