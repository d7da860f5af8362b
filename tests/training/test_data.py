"""The split is exact, seeded and never trained on; packed rows compute what separate prompts compute."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training.tiny import TINY

from arithcirc.arithmetic.operators import ADD, OPERATORS, OperandRange, concatenate, legal_prompts, operator
from arithcirc.errors import RequestError
from arithcirc.training.data import PackedBatches, held_out, sample, split, unpack
from arithcirc.training.model import build_model
from arithcirc.training.recipe import PRESETS
from arithcirc.training.split import held_out_mask
from arithcirc.training.tokenizer import token_ids


def _rows(ids):
    return set(map(tuple, np.asarray(ids).tolist()))


@pytest.mark.parametrize("op", OPERATORS, ids=str)
def test_a_tenth_of_each_operator_is_held_out(op):
    recipe = PRESETS["neox-arith"]
    legal = legal_prompts(op, recipe.operands, recipe.limit)
    train, held = split(recipe, op)
    assert len(held) == round(0.1 * len(legal))
    assert len(train) + len(held) == len(legal)
    assert not _rows(token_ids(train)) & _rows(token_ids(held))


def test_the_split_has_no_preferred_operand():
    held = split(PRESETS["neox-arith"], ADD).held_out
    low = np.mean(held.op2 < 150)
    everything = legal_prompts(ADD, OperandRange(0, 299), 530)
    assert abs(low - np.mean(everything.op2 < 150)) < 0.02


def test_the_split_is_a_function_of_the_prompt_not_of_the_list():
    prompts = concatenate(legal_prompts(op, TINY.operands, TINY.limit) for op in OPERATORS)
    mask = held_out_mask(TINY, prompts)
    order = np.random.default_rng(0).permutation(len(prompts))
    assert np.array_equal(held_out_mask(TINY, prompts[order]), mask[order])
    assert np.array_equal(held_out_mask(replace(TINY, seed=9), prompts), mask)
    assert not np.array_equal(held_out_mask(replace(TINY, split_seed=9), prompts), mask)


def test_prompts_outside_the_recipe_are_in_no_part():
    outside = legal_prompts(ADD, OperandRange(20, 40), 100)
    assert not held_out_mask(TINY, outside).any()


def test_a_split_with_an_empty_part_is_refused():
    with pytest.raises(RequestError, match="one part empty"):
        split(replace(TINY, operands=OperandRange(0, 1), held_out_share=0.01), ADD)


@pytest.mark.parametrize("recipe", [TINY, PRESETS["neox-arith"]], ids=lambda r: r.name)
def test_no_held_out_prompt_is_in_a_batch_and_labels_are_right(recipe):
    held, batches, seen = _rows(token_ids(held_out(recipe))), PackedBatches(recipe), 0
    symbols = {3 + i: op for i, op in enumerate(OPERATORS)}
    for i in range(12):
        prompts = unpack(batches[i]["input_ids"]).numpy()
        assert not held & _rows(prompts)
        seen += len(prompts)
        for token, op in symbols.items():
            mine = prompts[:, 2] == token
            answers = batches[i]["labels"].flatten().numpy()[mine] - 8
            assert np.array_equal(op.result(prompts[mine, 1] - 8, prompts[mine, 3] - 8), answers)
    assert seen == 12 * recipe.prompts_per_step


def test_packed_logits_equal_separate_prompts():
    recipe = replace(TINY, rows=6, suffixes=7)
    model = build_model(recipe).train(False)
    batch = PackedBatches(recipe)[0]
    batch.pop("labels")
    with torch.no_grad():
        packed = model(**batch).logits.flatten(0, 1)
        separate = model(input_ids=unpack(batch["input_ids"])).logits[:, -1]
    torch.testing.assert_close(packed, separate, atol=1e-5, rtol=0)
    assert separate.std() > 0.01


def test_a_batch_is_a_function_of_seed_and_step():
    one, again, other = PackedBatches(TINY), PackedBatches(TINY), PackedBatches(replace(TINY, seed=1))
    assert torch.equal(one[7]["input_ids"], again[7]["input_ids"])
    assert not torch.equal(one[7]["input_ids"], one[8]["input_ids"])
    assert not torch.equal(one[7]["input_ids"], other[7]["input_ids"])
    assert len(one) == TINY.steps


def test_suffixes_of_a_row_do_not_repeat_while_there_are_enough():
    rows = PackedBatches(PRESETS["neox-arith"])[0]["input_ids"].numpy()
    plus = rows[rows[:, 2] == 3]
    assert all(len(set(row[3::2])) == 16 for row in plus)


def test_operators_come_in_their_shares():
    batches = PackedBatches(replace(PRESETS["neox-arith"], suffixes=1, rows=4000))
    shares = np.bincount(batches[0]["input_ids"][:, 2].numpy() - 3) / 4000
    assert np.allclose(shares, [0.35, 0.30, 0.15, 0.20], atol=0.03)


def test_sample_is_seeded_and_without_repeats():
    prompts = split(TINY, operator("+")).train
    chosen = sample(prompts, 30, seed=1)
    assert len(_rows(token_ids(chosen))) == 30
    assert chosen.texts() == sample(prompts, 30, seed=1).texts() != sample(prompts, 30, seed=2).texts()
    assert len(sample(prompts, 10**6, seed=1)) == len(prompts)
