"""Placing numbers on tokens: what is composed equals what the tokenizer itself makes of the text."""

import numpy as np
import pytest
import tokenizers_made as made
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from arithcirc.arithmetic.operators import OPERATORS, OperandRange, Prompts, legal_prompts
from arithcirc.arithmetic.tokens import PromptFormat, bos_id, prompt_encoder, single_token_limit
from arithcirc.components import Position
from arithcirc.errors import PromptError, TokenizerError
from arithcirc.training.tokenizer import build_tokenizer

FORMATS = (
    PromptFormat(),
    PromptFormat(template="{op1} {operator} {op2} ="),
    PromptFormat(template="Q: {op1}{operator}{op2}="),
    PromptFormat(prefix="1+1=2\n7*8=56\n"),
    PromptFormat(prefix="3-2=1; ", template="{op1}{operator}{op2} ="),
)


@pytest.fixture(scope="module")
def pythia(shared):
    return PreTrainedTokenizerFast(tokenizer_file=str(shared / "tokenizers" / "pythia.json"), bos_token=made.BOS)


@pytest.fixture(scope="module")
def encoders(pythia):
    """For Pythia's real tokenizer, each format it can place; the rest must be refused, never misplaced."""
    return {fmt: prompt_encoder(pythia, format=fmt, limit=299) for fmt in FORMATS}


def one(symbol: str, op1: int, op2: int) -> Prompts:
    return Prompts(np.array([symbol]), np.array([op1]), np.array([op2]), np.array([0]))


def test_pythia_keeps_numbers_to_530_whole(pythia):
    assert single_token_limit(pythia) == 530
    assert prompt_encoder(pythia).limit == 530


def test_pythia_writes_a_prompt_as_bos_and_four_tokens(pythia):
    encoder = prompt_encoder(pythia)
    ids = encoder.encode(one("-", 226, 68))[0]
    assert pythia.convert_ids_to_tokens(ids.tolist()) == [made.BOS, "226", "-", "68", "="]
    assert ids[1:].tolist() == pythia("226-68=", add_special_tokens=False)["input_ids"]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FORMATS), st.sampled_from([o.symbol for o in OPERATORS]), st.integers(0, 299), st.integers(0, 299)
)
def test_encoding_equals_tokenizing_the_text(pythia, encoders, fmt, symbol, op1, op2):
    expected = pythia(fmt.text(op1, symbol, op2), add_special_tokens=False)["input_ids"]
    assert encoders[fmt].encode(one(symbol, op1, op2))[0].tolist() == [pythia.bos_token_id, *expected]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.integers(0, 299))
def test_the_answer_is_the_token_that_follows_the_prompt(pythia, encoders, fmt, answer):
    encoder = encoders[fmt]
    whole = pythia(fmt.text(7, "+", 8) + str(answer), add_special_tokens=False)["input_ids"]
    assert len(whole) == encoder.length
    assert encoder.answers(np.array([answer])).tolist() == whole[-1:]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.prefix + f.template)
def test_named_positions_hold_what_they_are_named_for(pythia, encoders, fmt):
    encoder = encoders[fmt]
    tokens = pythia.convert_ids_to_tokens(encoder.encode(one("*", 12, 7))[0].tolist())
    shown = {p: tokens[encoder.index(p)].lstrip("Ġ") for p in Position}
    assert shown == {"bos": made.BOS, "op1": "12", "operator": "*", "op2": "7", "equals": "="}
    assert encoder.index(Position.EQUALS) == encoder.length - 1
    assert tokens.count(made.BOS) == 1


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
@pytest.mark.parametrize(
    "tokenizer",
    [made.words(60, bos_token=made.BOS), made.byte_level_bpe(120), build_tokenizer(60)],
    ids=["words", "bpe", "trained"],
)
def test_every_legal_prompt_is_encoded_as_its_text(tokenizer, op):
    prompts = legal_prompts(op, OperandRange(0, 30), 60)
    encoder = prompt_encoder(tokenizer, limit=60)
    expected = tokenizer(prompts.texts(), add_special_tokens=False)["input_ids"]
    assert encoder.encode(prompts)[:, 1:].tolist() == expected
    assert encoder.length == 5


@pytest.mark.parametrize("limit", [9, 10, 60, 1999, 2000, 2001])
def test_the_limit_is_read_off_the_tokenizer(limit):
    assert single_token_limit(made.words(limit)) == limit


def test_the_limit_ends_at_the_first_gap():
    tokenizer = made.byte_level_bpe(120)
    limit = single_token_limit(tokenizer)
    lengths = [len(tokenizer(str(n), add_special_tokens=False)["input_ids"]) for n in range(limit + 2)]
    assert set(lengths[:-1]) == {1}
    assert lengths[-1] > 1


def test_tokens_that_the_model_has_no_row_for_do_not_count():
    tokenizer = made.words(60)
    first = tokenizer("0", add_special_tokens=False)["input_ids"][0]
    assert single_token_limit(tokenizer, vocab_size=first + 41) == 40


def test_a_tokenizer_that_splits_numbers_says_its_limit():
    assert single_token_limit(made.digits()) == 9
    with pytest.raises(TokenizerError, match=r"up to 60 were asked.*only 0\.\.9 whole"):
        prompt_encoder(made.digits(), limit=60)


def test_a_tokenizer_without_digits_is_refused():
    with pytest.raises(TokenizerError, match="does not write the digit 4 as one token"):
        single_token_limit(made.words(3))


def test_bos_falls_back_to_eos_and_is_refused_when_neither_exists():
    assert bos_id(made.words(9, eos_token=made.BOS)) == 1
    with pytest.raises(TokenizerError, match="neither a BOS nor an EOS"):
        prompt_encoder(made.words(9))


def test_a_number_merged_with_its_neighbour_is_refused_by_name():
    with pytest.raises(TokenizerError, match="op1 '1' is not one token of its own"):
        prompt_encoder(made.words(60, splitting=r"\d+[+]|\d+|\D", bos_token=made.BOS))


def test_an_operator_without_a_token_is_refused_by_name():
    tokenizer = made.words(60, bos_token=made.BOS)
    with pytest.raises(TokenizerError, match=r"'1@2=' becomes .*'@' is not one token"):
        prompt_encoder(tokenizer, operators=[type(OPERATORS[0])("@", "at")])


@pytest.mark.parametrize(
    "template",
    [
        "{op1}{op2}=",
        "{op1}+{op2}=",
        "{op2}{operator}{op1}=",
        "{op1}{operator}{op2}",
        "{op1}{operator}{op2}{op2}=",
        "{op1}{operator}{op2}{x}=",
        "{op1}{operator}{op2}={",
        "{op1!r}{op1}{operator}{op2}=",
        "{{op1}}{operator}{op2}=",
    ],
)
def test_templates_that_cannot_work_are_refused(template):
    with pytest.raises(PromptError, match="template"):
        PromptFormat(template=template)


def test_a_prefix_with_unknown_words_is_refused():
    with pytest.raises(TokenizerError, match="no tokens for a part of 'one and 1\\+2='"):
        prompt_encoder(build_tokenizer(60), format=PromptFormat(prefix="one and "))


def test_a_bos_written_by_hand_is_refused():
    with pytest.raises(PromptError, match="already has the BOS token"):
        prompt_encoder(build_tokenizer(60), format=PromptFormat(prefix=made.BOS))


def test_numbers_beyond_the_limit_are_refused():
    encoder = prompt_encoder(build_tokenizer(60))
    with pytest.raises(PromptError, match="operand 61 is beyond 60"):
        encoder.encode(one("+", 61, 0))
    for value in (-1, 61):
        with pytest.raises(PromptError, match=rf"answer {value} is not a single token: allowed are 0\.\.60"):
            encoder.answers(np.array([5, value]))
