"""Failure modes on a model whose failures are known."""

import numpy as np
import pandas as pd
import planted
import pytest
import torch

from arithcirc.arithmetic.operators import ADD, OperandRange, legal_prompts
from arithcirc.arithmetic.tokens import PromptEncoder, prompt_encoder
from arithcirc.heuristics.failures import compare, contributions, failures, planned_rows
from arithcirc.heuristics.labelled import Labelled
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.measure.answers import predictions
from arithcirc.models.bridge import BridgedModel
from arithcirc.training.tokenizer import NUMBER_ID

PROMPTS = legal_prompts(ADD, OperandRange.parse(planted.OPERANDS), planted.LIMIT)
BROKEN = "op2 = 8 mod 10"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BridgedModel:
    """The planted model with a neuron that writes the opposite of what it should."""
    network = planted.adder()
    with torch.no_grad():
        network.gpt_neox.layers[1].mlp.dense_4h_to_h.weight[:, planted.PLANTED[BROKEN].index] *= -1
    return planted.load_adder(tmp_path_factory.mktemp("failing"), network)


@pytest.fixture(scope="module")
def encoder(model: BridgedModel) -> PromptEncoder:
    return prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)


@pytest.fixture(scope="module")
def given(model: BridgedModel, encoder: PromptEncoder) -> np.ndarray:
    """The number the model answers to every prompt."""
    return predictions(model, encoder, PROMPTS, batch_size=1024) - NUMBER_ID


@pytest.fixture(scope="module")
def labels(given: np.ndarray) -> Labelled:
    return Labelled.of(planted.label_table(), planted.important_table(), PROMPTS, given == PROMPTS.answer)


def test_the_wrong_prompts_are_found_and_described(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled, given: np.ndarray
) -> None:
    found = failures(model, encoder, labels, given, np.random.default_rng(0), n=200)
    table, wrong = found.prompts, ~found.prompts["correct"]
    inside = parse_heuristic(BROKEN).mask(PROMPTS)
    assert (wrong.sum(), (~wrong).sum()) == (inside.sum(), 200)
    assert len(table) == planned_rows(labels, 200)
    assert set(table["prompt"][wrong]) == {t for t, i in zip(PROMPTS.texts(), inside, strict=True) if i}
    shortage = table["answer"] - table["given"].astype(int)
    assert (shortage[wrong] == 2 * planted.SHORT).all()
    assert (shortage[~wrong] == 0).all()
    few = failures(model, encoder, labels, given * 0 - 1, np.random.default_rng(0), n=3)
    assert few.prompts["correct"].tolist() == [True] * 3 + [False] * 3
    assert (few.prompts["given"] == "no number").all()


def test_contributions_are_what_leaves_the_residual_with_the_neurons(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled
) -> None:
    chosen = np.random.default_rng(1).permutation(len(PROMPTS))[:12]
    prompts = PROMPTS[chosen]
    tokens = torch.from_numpy(encoder.encode(prompts))
    answers = torch.from_numpy(encoder.answers(prompts.answer))
    found = contributions(model, encoder, labels, chosen)
    whole = model.record(tokens, parts=()).resid[-1][:, -1]
    for place in (3, 11, 37):
        layer, neuron = labels.neurons[place].tolist()

        def silence(part: str, at: int, x: torch.Tensor, layer: int = layer, neuron: int = neuron) -> torch.Tensor:
            return x * (torch.arange(x.shape[-1]) != neuron) if (part, at) == ("post", layer) else x

        with model.editing(silence):
            rest = model.record(tokens, parts=()).resid[-1][:, -1]
        lost = model.direct_logits(whole - rest).gather(1, answers[:, None])[:, 0]
        np.testing.assert_allclose(found[:, place], lost.numpy(), rtol=1e-2, atol=0.1)


def test_associated_neurons_are_counted_and_summed(
    model: BridgedModel, encoder: PromptEncoder, labels: Labelled, given: np.ndarray
) -> None:
    table = failures(model, encoder, labels, given, np.random.default_rng(2), n=10).prompts
    order = {text: i for i, text in enumerate(PROMPTS.texts())}
    for row in table.itertuples():
        at = np.array([order[row.prompt]])
        holds = [parse_heuristic(n).mask(PROMPTS[at])[0] for n in labels.names]
        associated = labels.carried[:, holds].any(axis=1)
        assert row.neurons == associated.sum()
        terms = contributions(model, encoder, labels, at)[0, associated]
        assert row.contribution == pytest.approx(terms.sum(), abs=1e-5 * np.abs(terms).sum())


def test_a_rank_test_counts_pairs() -> None:
    rng = np.random.default_rng(3)
    right, wrong = rng.normal(2, 1, 20), rng.normal(0, 1, 15)
    table = pd.DataFrame(
        {
            "correct": [True] * 20 + [False] * 15,
            "neurons": rng.integers(5, size=35),
            "contribution": [*right, *wrong],
        }
    )
    tests = compare(table).set_index("measure")
    assert tests.loc["contribution", "u"] == (right[:, None] > wrong).sum()
    assert 0 < tests.loc["contribution", "p"] < 0.05
    assert tests.loc["contribution", "median_correct"] == np.median(right)
    assert tests["note"].isna().all()
    assert tests[["n_correct", "n_incorrect"]].to_numpy().tolist() == [[20, 15]] * 2


@pytest.mark.parametrize(("right", "wrong", "says"), [(30, 4, "only 4 incorrect"), (2, 30, "only 2 correct")])
def test_too_few_prompts_are_said_and_not_tested(right: int, wrong: int, says: str) -> None:
    table = pd.DataFrame({"correct": [True] * right + [False] * wrong, "neurons": 3, "contribution": 1.0})
    tests = compare(table)
    assert tests["p"].isna().all()
    assert tests["note"].str.contains(says).all()


def test_a_model_that_errs_nowhere_is_no_error(model: BridgedModel, encoder: PromptEncoder) -> None:
    right = np.ones(len(PROMPTS), dtype=bool)
    sound = Labelled.of(planted.label_table(), planted.important_table(), PROMPTS, right)
    found = failures(model, encoder, sound, PROMPTS.answer, np.random.default_rng(0), n=5)
    assert found.prompts["correct"].tolist() == [True] * 5
    assert found.tests["median_incorrect"].isna().all()
