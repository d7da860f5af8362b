"""Tokenizers of every kind that models use: what is composed is what the tokenizer writes, or it is refused by name."""

import numpy as np
import pytest
import tokenizers_made as made
from hypothesis import given, settings
from hypothesis import strategies as st

from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import OPERATORS, Prompts
from arithcirc.arithmetic.seen import seen_line, seen_table
from arithcirc.arithmetic.tokens import prompt_encoder, single_token_limit
from arithcirc.components import Position
from arithcirc.errors import TokenizerError

TIGHT, SPACED = PromptFormat(), PromptFormat(template="{op1} {operator} {op2} =")
GAP = PromptFormat(template="{op1} {operator} {op2} = ")
FORMATS = (
    TIGHT,
    SPACED,
    GAP,
    PromptFormat(prefix="7*8=56\n"),
    PromptFormat("3 - 2 = 1; ", "Q: {op1}{operator}{op2} = "),
)
WHOLE = {
    "GPT-J": made.gpt2_like(520),
    "Llama 3": made.llama3_like(),
    "OLMo 2": made.olmo2_like(),
    "unigram": made.unigram(600, dummy=False),
    "unigram, dummy prefix": made.unigram(600, dummy=True),
    "unigram, bare spaces": made.unigram(600, dummy=True, spaced=-1),
    "SentencePiece BPE": made.sentencepiece_bpe(700, dummy=False),
    "SentencePiece BPE, dummy prefix": made.sentencepiece_bpe(700, dummy=True),
}
DIGITS = {
    "Qwen/Qwen3-8B": made.qwen_like(),
    "google/gemma-2-2b": made.sentencepiece_bpe(9, dummy=False, start="<bos>"),
    "meta-llama/Llama-2-7b-hf": made.sentencepiece_bpe(9, dummy=True),
}
OWN_BOS = {"Llama 3": "<|begin_of_text|>", "SentencePiece BPE": "<s>", "SentencePiece BPE, dummy prefix": "<s>"}


@pytest.fixture(scope="module")
def encoders():
    return {
        (name, fmt): prompt_encoder(tokenizer, format=fmt, limit=299)
        for name, tokenizer in WHOLE.items()
        for fmt in FORMATS
    }


def one(symbol: str, op1: int, op2: int) -> Prompts:
    return Prompts(np.array([symbol]), np.array([op1]), np.array([op2]), np.array([0]))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.sampled_from(FORMATS),
    st.sampled_from([o.symbol for o in OPERATORS]),
    st.integers(0, 299),
    st.integers(0, 299),
    st.integers(0, 299),
)
def test_prompt_and_answer_are_the_tokenizers_own(encoders, name, fmt, symbol, op1, op2, answer):
    tokenizer, encoder = WHOLE[name], encoders[name, fmt]
    plain = fmt.text(op1, symbol, op2) + fmt.gap + str(answer)
    composed = [*encoder.encode(one(symbol, op1, op2))[0].tolist(), *encoder.answers(np.array([answer])).tolist()]
    assert composed[1:] == tokenizer(plain, add_special_tokens=False)["input_ids"]
    if name in OWN_BOS:
        assert composed == tokenizer(plain)["input_ids"]
    shown = tokenizer.convert_ids_to_tokens(composed)
    at = {p: shown[encoder.index(p)].lstrip("Ġ▁") for p in Position}
    assert (at["op1"], at["operator"], at["op2"], shown[-1].lstrip("Ġ▁")) == (str(op1), symbol, str(op2), str(answer))
    assert encoder.index(Position.EQUALS) == len(composed) - 2
    assert composed.count(encoder.bos) == 1


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_first_token_is_the_tokenizers_own_bos_or_ours(encoders, name):
    bos = encoders[name, TIGHT].beginning
    ours = "<s>" if name.startswith("unigram") else made.BOS
    assert (bos.added_by, bos.token) == (("tokenizer", OWN_BOS[name]) if name in OWN_BOS else ("us", ours))
    assert bos.left_out == ()


@pytest.mark.parametrize(
    ("name", "limit"),
    [("GPT-J", 520), ("Llama 3", 999), ("OLMo 2", 999), ("unigram", 600), ("SentencePiece BPE, dummy prefix", 700)],
)
def test_the_limit_is_that_of_the_vocabulary_in_every_format(name, limit):
    assert {single_token_limit(WHOLE[name], format=fmt) for fmt in FORMATS} == {limit}


@pytest.mark.parametrize(
    ("name", "fmt", "said"),
    [
        ("GPT-J", TIGHT, "<|endoftext|> (BOS, added by us) | 226 op1 | + operator | 68 op2 | = equals | answer 294"),
        (
            "GPT-J", GAP,
            "<|endoftext|> (BOS, added by us) | 226 op1 | Ġ+ operator | Ġ68 op2 | Ġ= equals | answer Ġ294; "
            "Ġ is a space",
        ),
        (
            "Llama 3", GAP,
            "<|begin_of_text|> (BOS, added by the tokenizer) | 226 op1 | Ġ+ operator | Ġ | 68 op2 | Ġ= | Ġ equals | "
            "answer 294; Ġ is a space; the template's last space is a token of its own: the answer is read there",
        ),
        (
            "SentencePiece BPE, dummy prefix", GAP,
            "<s> (BOS, added by the tokenizer) | ▁226 op1 | ▁+ operator | ▁68 op2 | ▁= equals | answer ▁294; "
            "▁ is a space",
        ),
        (
            "unigram", FORMATS[3],
            "<s> (BOS, added by us) | (6 tokens of text) | 226 op1 | + operator | 68 op2 | = equals | answer 294",
        ),
    ],
)  # fmt: skip
def test_the_tokens_seen_are_told_in_one_line(encoders, name, fmt, said):
    encoder = encoders[name, fmt]
    assert seen_line(encoder.seen, encoder.beginning, encoder.notes) == said


def test_the_tokens_seen_are_told_position_by_position(encoders):
    assert seen_table(encoders["Llama 3", SPACED].seen) == {
        "0 bos": "<|begin_of_text|>",
        "1 op1": "226, one of 0 ... 299",
        "2 operator": "Ġ+, one of Ġ+ Ġ- Ġ* Ġ/",
        "3 text": "Ġ",
        "4 op2": "68, one of 0 ... 299",
        "5 equals": "Ġ=",
        "6 answer": "294, one of 0 ... 299",
    }


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.prefix + f.template)
@pytest.mark.parametrize("name", sorted(DIGITS))
def test_digits_are_refused_by_name_with_the_reason_and_what_to_do(name, fmt):
    said = (
        rf"^{name}: its tokenizer splits numbers into digits \('10' becomes \['1', '0'\]\).*no position of its own.*use"
    )
    with pytest.raises(TokenizerError, match=said):
        prompt_encoder(DIGITS[name], format=fmt, name=name)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_prefix_that_touches_the_first_number_is_refused_with_advice(name):
    with pytest.raises(TokenizerError, match=rf"^{name}: .*joins '1' .*end a prefix with a space or a new line"):
        prompt_encoder(WHOLE[name], format=PromptFormat(prefix="7"), name=name)


def test_a_space_token_before_some_numbers_only_is_refused():
    """`▁1` to `▁9` are tokens and `▁10` is not: op1 would stand at 1 in some prompts and at 2 in others."""
    with pytest.raises(TokenizerError, match=r"puts a bare '▁' before '10' and not before every number"):
        prompt_encoder(made.unigram(600, dummy=True, spaced=9))


def test_numbers_spelled_in_bytes_are_refused():
    tokenizer = made.unigram(600, dummy=False, unspaced=-1, spaced=-1)
    with pytest.raises(TokenizerError, match=r"spells '10' in bytes \['<0x31>', '<0x30>'\]"):
        prompt_encoder(tokenizer)


def test_an_operator_that_the_model_has_no_row_for_is_refused():
    tokenizer = made.gpt2_like(60)
    rows = tokenizer.convert_tokens_to_ids("Ġ/")
    with pytest.raises(TokenizerError, match=rf"writes / as token {rows}, and the model knows tokens 0\.\.{rows - 1}"):
        prompt_encoder(tokenizer, format=SPACED, vocab_size=rows)
