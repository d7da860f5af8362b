"""Sharing prefixes changes no answer."""

import numpy as np
import pytest

from arithcirc.arithmetic.operators import ADD, SUB, OperandRange, concatenate, legal_prompts
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.measure.answers import predictions
from arithcirc.measure.shared_prefix import predictions as sharing
from arithcirc.models.bridge import BridgedModel


@pytest.mark.parametrize("batch_size", [7, 2048])
def test_gives_the_answers_of_whole_forwards(toy_model: BridgedModel, batch_size: int) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    both = concatenate([legal_prompts(op, OperandRange(3, 12), 60) for op in (ADD, SUB)])
    prompts = both[np.random.default_rng(0).permutation(len(both))]
    told: list[int] = []
    ours = sharing(toy_model, encoder, prompts, batch_size=batch_size, progress=told.append)
    np.testing.assert_array_equal(ours, predictions(toy_model, encoder, prompts, batch_size=512))
    assert sum(told) == len(prompts)


def test_no_prompts_have_no_answers(toy_model: BridgedModel) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    assert not len(sharing(toy_model, encoder, legal_prompts(ADD, OperandRange(3, 4), 60)[:0]))
