"""Placing numbers on tokens: what is composed equals what the tokenizer itself makes of the text."""

import numpy as np
import pytest
import tokenizers_made as made
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import ADD, OPERATORS, OperandRange, Prompts, legal_prompts
from arithcirc.arithmetic.tokens import prompt_encoder, single_token_limit
from arithcirc.components import Position
from arithcirc.errors import PromptError, TokenizerError
from arithcirc.training.tokenizer import build_tokenizer

FORMATS = (
    PromptFormat(),
    PromptFormat(template="{op1} {operator} {op2} ="),
    PromptFormat(template="Q: {op1}{operator}{op2}="),
    PromptFormat(prefix="1+1=2\n7*8=56\n"),
    PromptFormat(prefix="3-2=1; ", template="{op1}{operator}{op2} ="),
    PromptFormat(template="{op1} {operator} {op2} = "),
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
    whole = pythia(fmt.text(7, "+", 8) + fmt.gap + str(answer), add_special_tokens=False)["input_ids"]
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


def test_a_tokenizer_that_splits_numbers_into_digits_is_refused():
    assert single_token_limit(made.digits()) == 9
    assert prompt_encoder(made.digits(), limit=9).limit == 9
    for limit in (None, 10, 60):
        with pytest.raises(TokenizerError, match=r"splits numbers into digits \('10' becomes \['1', '0'\]\)"):
            prompt_encoder(made.digits(), limit=limit)


def test_a_limit_beyond_the_tokenizers_says_why():
    with pytest.raises(TokenizerError, match=r"up to 70 were asked.*only 0\.\.60 whole \(it has no token for '61'\)"):
        prompt_encoder(made.words(60, bos_token=made.BOS), limit=70)


def test_the_limit_is_of_numbers_in_their_places():
    """Alone, and as op1, `▁n` is one token up to 300; behind an operator and as answer n is one only up to 40."""
    tokenizer = made.unigram(300, dummy=True, unspaced=40)
    alone = tokenizer([str(n) for n in range(301)], add_special_tokens=False)["input_ids"]
    assert {len(ids) for ids in alone} == {1}
    assert single_token_limit(tokenizer) == prompt_encoder(tokenizer).limit == 40
    spaced = PromptFormat(template="{op1} {operator} {op2} = ")
    assert single_token_limit(tokenizer, format=spaced) == prompt_encoder(tokenizer, format=spaced).limit == 300


def test_a_tokenizer_without_digits_is_refused():
    for read in (single_token_limit, prompt_encoder):
        with pytest.raises(TokenizerError, match="this tokenizer has no token for '4', as in '4\\+2='"):
            read(made.words(3, bos_token=made.BOS))


def test_bos_falls_back_to_eos_and_is_refused_when_neither_exists():
    assert prompt_encoder(made.words(9, eos_token=made.BOS)).bos == 1
    with pytest.raises(TokenizerError, match="neither a BOS nor an EOS"):
        prompt_encoder(made.words(9))


def test_a_number_merged_with_its_neighbour_is_refused_by_name():
    with pytest.raises(TokenizerError, match=r"joins '1' with its neighbour \('1\+' becomes .*template with spaces"):
        prompt_encoder(made.words(60, splitting=r"\d+[+]|\d+|\D", bos_token=made.BOS))


def test_a_pair_that_merges_is_found_although_each_number_is_whole_beside_the_samples():
    splitting = r"7-|\d+|\D"
    with pytest.raises(TokenizerError, match=r"joins '7' with its neighbour \('7-' becomes"):
        prompt_encoder(made.words(60, splitting=splitting, bos_token=made.BOS))
    assert prompt_encoder(made.words(60, splitting=splitting, bos_token=made.BOS), operators=[ADD]).limit == 60


def test_an_operator_without_a_token_is_refused_by_name():
    tokenizer = made.words(60, bos_token=made.BOS)
    with pytest.raises(TokenizerError, match=r"has no token for '@', as in '1@2='"):
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


def test_the_last_space_of_a_template_is_written_before_the_answer():
    fmt = PromptFormat("1 + 1 = 2\n", "{op1} {operator} {op2} =  ")
    text = fmt.text(12, "-", 5)
    assert (text, fmt.body, fmt.gap) == ("1 + 1 = 2\n12 - 5 =", "{op1} {operator} {op2} =", "  ")
    assert {slot: text[slice(*span)] for slot, span in fmt.spans(12, "-", 5).items()} == {
        "op1": "12",
        "operator": "-",
        "op2": "5",
    }
    with pytest.raises(PromptError, match="must end after op2"):
        PromptFormat(template="{op1}{operator}{op2} ")


def test_the_last_space_goes_with_the_answer_where_one_token_holds_both(pythia):
    encoder = prompt_encoder(pythia, format=PromptFormat(template="{op1} {operator} {op2} = "))
    assert pythia.convert_ids_to_tokens(encoder.answers(np.array([158])).tolist()) == ["Ġ158"]
    assert encoder.notes == ()
    two = prompt_encoder(pythia, format=PromptFormat(template="{op1} {operator} {op2} =  "), limit=99)
    text = pythia("12 - 5 =  7", add_special_tokens=False)["input_ids"]
    composed = [*two.encode(one("-", 12, 5))[0, 1:].tolist(), *two.answers(np.array([7])).tolist()]
    assert composed == text
    assert two.notes == ("the template's last space is a token of its own: the answer is read there",)


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
