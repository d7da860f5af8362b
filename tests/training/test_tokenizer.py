"""The tokenizer file: ids, no BOS of its own, offline loading through AutoTokenizer."""

import numpy as np
import pytest
from training.tiny import TINY
from transformers import AutoTokenizer

from arithcirc.arithmetic.operators import ADD, OPERATORS, OperandRange, concatenate, legal_prompts
from arithcirc.training.model import build_config
from arithcirc.training.tokenizer import BOS, answer_ids, build_tokenizer, save_tokenizer, token_ids, vocabulary


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    build_config(TINY).save_pretrained(folder)
    save_tokenizer(530, folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_ids_are_the_promised_ones(loaded):
    words = vocabulary(530)
    assert len(words) == len(loaded) == 539
    assert [words[w] for w in ("+", "-", "*", "/", "=", "0", "530")] == [3, 4, 5, 6, 7, 8, 538]
    assert (loaded.bos_token_id, loaded.pad_token_id, loaded.unk_token_id) == (0, 1, 2)


def test_a_prompt_is_four_tokens_and_bos_only_when_written(loaded):
    expected = [234, 4, 76, 7]
    assert loaded.encode("226-68=", add_special_tokens=False) == expected
    assert loaded.encode("226-68=") == expected
    assert loaded.encode(BOS + "226-68=") == [0, *expected]


def test_unknown_words_and_spaces(loaded):
    assert loaded.encode("531=") == [2, 7]
    assert loaded.encode(" 1 +  2 =") == [9, 3, 10, 7]
    assert loaded.decode([234, 4, 76, 7]) == "226-68="


def test_every_number_is_one_token(loaded):
    assert [loaded.encode(str(n)) for n in range(531)] == [[8 + n] for n in range(531)]


def test_token_ids_agree_with_the_file():
    tokenizer = build_tokenizer(40)
    prompts = concatenate(legal_prompts(op, OperandRange(0, 12), 40) for op in OPERATORS)
    expected = [[0, *ids] for ids in tokenizer(prompts.texts())["input_ids"]]
    assert token_ids(prompts).tolist() == expected
    answers = [ids[0] for ids in tokenizer([str(n) for n in prompts.answer])["input_ids"]]
    assert answer_ids(prompts).tolist() == answers


def test_padding_makes_a_rectangle(loaded):
    batch = loaded(["1+2=", "3"], padding=True, return_tensors="np")
    assert batch["input_ids"].tolist() == [[9, 3, 10, 7], [11, 1, 1, 1]]
    assert np.array_equal(batch["attention_mask"], [[1, 1, 1, 1], [1, 0, 0, 0]])
    assert ADD.symbol in loaded.get_vocab()
