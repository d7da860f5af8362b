"""Means with shared prefixes against means over plain forwards, for any batch size."""

import numpy as np
import pytest
import torch

from arithcirc.arithmetic.operators import ADD, DIV, OperandRange, all_prompts, concatenate
from arithcirc.arithmetic.tokens import PromptFormat, prompt_encoder
from arithcirc.measure.means import mean_activations, sampled_mean_activations
from arithcirc.models.bridge import BridgedModel

OPERANDS = OperandRange(2, 12)
FORMATS = (PromptFormat(), PromptFormat(prefix="1+1=2 "))


@pytest.mark.parametrize("fmt", FORMATS, ids=["plain", "few-shot"])
@pytest.mark.parametrize("batch_size", [7, 30, 4096])
def test_shared_prefixes_change_nothing(toy_model: BridgedModel, fmt: PromptFormat, batch_size: int) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, format=fmt, vocab_size=toy_model.info.d_vocab)
    operators = (ADD, DIV)
    means = mean_activations(toy_model, encoder, operators, OPERANDS, batch_size=batch_size)
    prompts = concatenate([all_prompts(op, OPERANDS) for op in operators])
    tokens = torch.from_numpy(encoder.encode(prompts))
    plain = toy_model.activations(tokens, parts={"z", "post"})
    assert means.n == len(tokens) == 2 * 11**2
    for ours, theirs in zip((*means.z, *means.post), (*plain.z.values(), *plain.post.values()), strict=True):
        torch.testing.assert_close(ours, theirs.mean(0), rtol=1e-4, atol=1e-5)


def test_progress_counts_every_prompt(toy_model: BridgedModel) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    rows: list[int] = []
    mean_activations(toy_model, encoder, (ADD,), OPERANDS, batch_size=40, progress=rows.append)
    assert sum(rows) == 11**2


def test_a_sample_of_everything_is_everything(toy_model: BridgedModel) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    whole = mean_activations(toy_model, encoder, (ADD,), OPERANDS, batch_size=64)
    rng = np.random.default_rng(0)
    sample = sampled_mean_activations(toy_model, encoder, (ADD,), OPERANDS, per_operator=10**6, batch_size=64, rng=rng)
    assert sample.n == whole.n
    for a, b in zip(whole.z + whole.post, sample.z + sample.post, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
