"""Who puts what before a prompt is read off the tokenizer."""

import pytest
import tokenizers_made as made
from tokenizers_made import END, START
from transformers import PreTrainedTokenizerFast

from arithcirc.arithmetic.bos import Bos, find_bos
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.errors import TokenizerError


def adding(before: list[str], after: list[str], **names: str) -> PreTrainedTokenizerFast:
    """Whole words, with special tokens put around every text."""
    core = made.words(60).backend_tokenizer
    core.add_special_tokens([*before, *after])
    made.adding(core, before=before, after=after)
    return made.wrapped(core, unk_token=made.UNKNOWN, **names)


def test_a_bos_of_the_tokenizers_own_is_used_once():
    tokenizer = adding([START], [], bos_token=START)
    encoder = prompt_encoder(tokenizer)
    assert encoder.beginning == Bos(tokenizer.convert_tokens_to_ids(START), START, "tokenizer")
    assert encoder.frame.tolist() == tokenizer("1+2=")["input_ids"]
    assert encoder.length == 5


def test_what_the_tokenizer_adds_counts_and_not_what_it_names():
    bos = find_bos(adding(["[CLS]"], [], bos_token=made.BOS), "1+2=")
    assert (bos.token, bos.added_by) == ("[CLS]", "tokenizer")


def test_an_end_token_is_left_out_and_named():
    tokenizer = adding([START], [END], bos_token=START, eos_token=END)
    encoder = prompt_encoder(tokenizer)
    assert tokenizer.convert_ids_to_tokens(encoder.frame.tolist()) == [START, "1", "+", "2", "="]
    assert encoder.beginning.left_out == (END,)
    assert f"left out: {END}" in encoder.notes[0]


def test_only_an_end_token_leaves_the_beginning_to_us():
    bos = find_bos(adding([], [END], eos_token=END), "1+2=")
    assert (bos.token, bos.added_by, bos.left_out) == (END, "us", (END,))


@pytest.mark.parametrize(("names", "kept"), [({"bos_token": "<sop>"}, "<sop>"), ({"eos_token": END}, "[gMASK]")])
def test_of_two_tokens_before_a_text_one_is_kept(names, kept):
    bos = find_bos(adding(["[gMASK]", "<sop>"], [], **names), "1+2=")
    assert (bos.token, bos.added_by) == (kept, "tokenizer")
    assert {bos.token, *bos.left_out} == {"[gMASK]", "<sop>"}


def test_no_token_at_all_is_refused_by_name():
    with pytest.raises(TokenizerError, match=r"^toy: its tokenizer names neither a BOS nor an EOS"):
        find_bos(made.words(9), "1+2=", whose="toy: its tokenizer")
