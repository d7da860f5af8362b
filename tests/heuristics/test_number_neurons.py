"""Responses to single numbers against plain forwards of whole prompts, and their labels against planted ones."""

import numpy as np
import pytest
import torch

from arithcirc.arithmetic.operators import ADD, OperandRange, all_prompts
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.components import Position
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.heuristics.number_neurons import label_numbers, number_responses
from arithcirc.heuristics.presets import number_preset

NUMBERS = 300
PLANTED = ("op1 in 30..60", "op1 = 3 mod 7", "op1 matches .5.", "op1 = 8 mod 10", "op1 matches 1.4", "op1 in 200..300")


@pytest.fixture(scope="module")
def encoder(toy_model):
    return prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)


def as_responses(rows) -> torch.Tensor:
    return torch.from_numpy(np.stack(rows, axis=1).astype(np.float32))


def test_responses_are_the_first_mlp_at_op1_of_any_prompt(toy_model, encoder):
    found = number_responses(toy_model, encoder, batch_size=16)
    assert found.shape == (encoder.limit + 1, toy_model.info.d_mlp)
    prompts = all_prompts(ADD, OperandRange(0, encoder.limit))
    prompts = prompts[np.random.default_rng(0).permutation(len(prompts))[:50]]
    whole = toy_model.activations(torch.from_numpy(encoder.encode(prompts)), parts={"post"})
    at_op1 = whole.post[0][:, encoder.index(Position.OP1)]
    torch.testing.assert_close(found[prompts.op1], at_op1, rtol=1e-5, atol=1e-5)
    assert found.std(0).min() > 0


def test_responses_do_not_depend_on_the_batch_size_and_every_number_is_counted(toy_model, encoder):
    told = []
    one = number_responses(toy_model, encoder, batch_size=1, progress=told.append)
    assert sum(told) == len(one) == encoder.limit + 1
    torch.testing.assert_close(one, number_responses(toy_model, encoder, batch_size=1000), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_planted_labels_are_found(noise):
    rng = np.random.default_rng(1)
    numbers = np.arange(NUMBERS)
    rows = [parse_heuristic(n).holds(numbers) + noise * rng.standard_normal(NUMBERS) for n in PLANTED]
    table = label_numbers(as_responses(rows))
    assert table["heuristic"].tolist() == list(PLANTED)
    assert (table["score"] > 0.9).all()
    assert (table["q"] < 0.01).all()
    sizes = np.array([parse_heuristic(n).holds(numbers).sum() for n in PLANTED])
    np.testing.assert_allclose(table["base_rate"], sizes / NUMBERS)
    assert table["at"].tolist() == [int(np.argmax(row)) for row in np.float32(rows)]
    np.testing.assert_allclose(table["largest"], np.max(np.float32(rows), axis=1))


def test_noise_has_no_significant_label_and_p_errs_upwards():
    rng = np.random.default_rng(2)
    table = label_numbers(as_responses(rng.standard_normal((400, NUMBERS))), threshold=0.01)
    assert table["heuristic"].notna().all()
    assert (table["q"] > 0.01).all()
    groups = len({h.group for h in number_preset("paper", NUMBERS - 1)[0]})
    for level in (0.001, 0.01):  # the best of all groups is below the level at most `groups` times as often
        assert (table["p"] <= level).mean() <= level * groups + 0.02


def test_below_the_threshold_there_is_no_label_but_the_best_score_stays():
    rows = np.random.default_rng(3).standard_normal((20, NUMBERS))
    table = label_numbers(as_responses(rows), threshold=0.99)
    assert table["heuristic"].isna().all()
    assert table[["p", "q"]].isna().all(axis=None)
    assert table["score"].between(0, 0.99).all()


def test_a_label_at_the_threshold_goes_before_a_better_fit_below_it():
    response = np.random.default_rng(4).random(110)
    response[[0, 1, 2, 3, 4, 5, 6, 7, 108, 109]] += (
        1  # 8 of 0..9 are in the top 10, at least 90 of 0..99 in the top 100
    )
    for threshold, name, low in ((0.8, "op1 in 0..10", 0.8), (0.9, "op1 in 0..100", 0.9)):
        table = label_numbers(as_responses([response]), threshold=threshold)
        assert table.loc[0, "heuristic"] == name
        assert low <= table.loc[0, "score"] < 1


def test_the_columns_are_those_of_the_table():
    table = label_numbers(as_responses([np.arange(40.0)]))
    assert list(table) == ["operator", "neuron", "largest", "at", "heuristic", "score", "base_rate", "p", "q"]
    assert table.loc[0, ["operator", "neuron", "at", "largest"]].tolist() == ["all", 0, 39, 39.0]


def test_numbers_are_labelled_as_numbers():
    heuristics, prompts = number_preset("paper", 120)
    assert prompts.op1.tolist() == prompts.answer.tolist() == list(range(121))
    assert {h.value for h in heuristics} == {"op1"}
    assert {h.family for h in heuristics} == {"range", "modulo", "pattern"}
    assert len({h.mask(prompts).tobytes() for h in heuristics}) == len(heuristics)
    assert min(h.mask(prompts).sum() for h in heuristics) == 2
