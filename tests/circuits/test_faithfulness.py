"""Faithfulness on models whose truth is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from arithcirc.arithmetic.operators import OPERATORS, OperandRange
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.circuits.circuit import RankedHeads
from arithcirc.circuits.faithfulness import (
    Candidate,
    judge,
    random_candidates,
    ranked_candidates,
    smallest_faithful,
)
from arithcirc.components import Head, all_heads
from arithcirc.measure.means import Means, mean_activations
from arithcirc.measure.metrics import normalized_logit
from arithcirc.models.bridge import BridgedModel

HEADS = all_heads(3, 4)
LAYERS = (0, 1, 2)


@pytest.fixture(scope="module")
def means(toy_model: BridgedModel) -> Means:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    return mean_activations(toy_model, encoder, OPERATORS, OperandRange(0, 12), batch_size=512)


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    tokens = torch.randint(8, 60, (30, 5), generator=torch.Generator().manual_seed(3))
    tokens[:, 0], tokens[:, 2], tokens[:, 4] = 0, 3, 7
    return tokens


@pytest.fixture(scope="module")
def answers(toy_model: BridgedModel, tokens: Tensor) -> Tensor:
    """The model's own answers: it is right by definition."""
    return toy_model.logits(tokens).argmax(-1)


def test_anchors_are_one_and_zero(toy_model: BridgedModel, tokens: Tensor, answers: Tensor, means: Means) -> None:
    everything = Candidate("ranked", 0, HEADS, LAYERS)
    table = judge(toy_model, tokens, answers, [everything], means).table.set_index("circuit")
    assert table.loc["full", "faithfulness"] == pytest.approx(1)
    assert table.loc["full", "accuracy"] == 1
    assert table.loc["full", "kl"] == pytest.approx(0, abs=1e-5)
    assert table.loc["empty", "faithfulness"] == pytest.approx(0)
    assert table.loc["ranked", "faithfulness"] == pytest.approx(1)


def test_numbers_are_their_definitions(toy_model: BridgedModel, tokens: Tensor, answers: Tensor, means: Means) -> None:
    kept = (Head(0, 0), Head(2, 1))
    row = judge(toy_model, tokens, answers, [Candidate("ranked", 0, kept, (0, 2))], means).table.iloc[2]

    def ablate(heads: tuple[Head, ...], mlps: tuple[int, ...]) -> Tensor:
        def edit(part: str, layer: int, value: Tensor) -> Tensor:
            if part == "post":
                return value if layer in mlps else means.post[layer].expand_as(value)
            keep = torch.tensor([Head(layer, h) in heads for h in range(4)])[:, None]
            return torch.where(keep, value, means.z[layer])

        return toy_model.logits(tokens, edit=edit)

    nl = [normalized_logit(x, answers) for x in (ablate(kept, (0, 2)), ablate((), ()), toy_model.logits(tokens))]
    gap = nl[2] - nl[1]
    defined = gap.abs() >= 0.05
    expected = ((nl[0] - nl[1]) / gap)[defined]
    assert row["n"] == int(defined.sum())
    assert row["undefined"] == 30 - row["n"]
    assert row["faithfulness"] == pytest.approx(float(expected.mean()), abs=1e-4)
    assert row["faithfulness_ratio"] == pytest.approx(
        float((nl[0] - nl[1])[defined].mean() / gap[defined].mean()), abs=1e-4
    )
    probability = ablate(kept, (0, 2)).softmax(-1)[torch.arange(30), answers].mean()
    assert row["probability"] == pytest.approx(float(probability), abs=1e-5)


def test_batch_size_changes_nothing(toy_model: BridgedModel, tokens: Tensor, answers: Tensor, means: Means) -> None:
    ranked = RankedHeads(HEADS, (0.0,) * 12, ("equals",) * 12)
    candidates = ranked_candidates(ranked, [0, 3, 12], LAYERS)
    tables = [judge(toy_model, tokens, answers, candidates, means, batch_size=b).table for b in (7, 5000)]
    columns = ["faithfulness", "faithfulness_ratio", "probability", "accuracy", "kl"]
    np.testing.assert_allclose(tables[0][columns], tables[1][columns], rtol=1e-3, atol=1e-4)


def test_random_circuits_are_of_their_size_and_seeded() -> None:
    drawn = random_candidates(HEADS, [0, 1, 5, 12], LAYERS, 3, np.random.default_rng(0))
    assert [len(c.heads) for c in drawn] == [1, 1, 1, 5, 5, 5]
    assert all(len(set(c.heads)) == len(c.heads) for c in drawn)
    assert drawn == random_candidates(HEADS, [0, 1, 5, 12], LAYERS, 3, np.random.default_rng(0))


def test_smallest_faithful(toy_model: BridgedModel, tokens: Tensor, answers: Tensor, means: Means) -> None:
    ranked = RankedHeads(HEADS, (0.0,) * 12, ("equals",) * 12)
    table = judge(toy_model, tokens, answers, ranked_candidates(ranked, range(13), LAYERS), means).table
    found = smallest_faithful(table, 0.9)
    curve = table[table["circuit"] == "ranked"].set_index("n_heads")["faithfulness"]
    assert found == next(n for n in range(13) if curve[n] >= 0.9)
    assert smallest_faithful(table, float(curve.max()) + 1) is None
