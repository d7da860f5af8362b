"""Head roles: attention adds up, a cut of nothing changes nothing, and a planted part is decoded."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from arithcirc.arithmetic.operators import SUB, OperandRange, Prompts, legal_prompts
from arithcirc.arithmetic.tokens import PromptEncoder, prompt_encoder
from arithcirc.circuits.head_roles import (
    CUTS,
    Training,
    attention_from_equals,
    attention_rows,
    copy_rows,
    cut_edges,
    decode,
    judge_cuts,
    read_heads,
)
from arithcirc.components import Position
from arithcirc.models.bridge import BridgedModel

TRAINING = Training(learning_rate=0.02, batch=32, epochs=20)


@pytest.fixture(scope="module")
def encoder(toy_model: BridgedModel) -> PromptEncoder:
    return prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)


@pytest.fixture(scope="module")
def prompts(encoder: PromptEncoder) -> Prompts:
    return legal_prompts(SUB, OperandRange(0, 8), encoder.limit)


def test_attention_adds_up_over_the_positions(toy_model, encoder, prompts) -> None:
    tokens = torch.from_numpy(encoder.encode(prompts))
    whole, cut = (attention_from_equals(toy_model, tokens, batch_size=size) for size in (100, 7))
    torch.testing.assert_close(whole, cut, rtol=1e-4, atol=1e-5)
    rows = attention_rows(whole, encoder, n_heads=toy_model.info.n_heads)
    assert len(rows) == 12 * len(Position)
    sums = rows.groupby(["layer", "head"])["attention"].sum()
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    one = rows[(rows["layer"] == 2) & (rows["head"] == 1) & (rows["position"] == "op2")].iloc[0]
    values = toy_model.activations(tokens, parts={"pattern"}).pattern[2][:, 1, 4, 3]
    assert one["attention"] == pytest.approx(values.mean().item(), rel=1e-4)
    assert one["attention_std"] == pytest.approx(values.std(correction=0).item(), rel=1e-4)


# -- copies -----------------------------------------------------------------------------------------------------------


def test_z_is_read_at_equals_and_a_planted_operand_is_decoded(toy_model, encoder, prompts) -> None:
    z, correct = read_heads(toy_model, encoder, prompts, batch_size=10)
    run = toy_model.record(torch.from_numpy(encoder.encode(prompts)), parts={"z"})
    torch.testing.assert_close(z[1 * 4 + 3], run.activations.z[1][:, -1, 3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(correct, run.logits.argmax(-1) == torch.from_numpy(encoder.answers(prompts.answer)))
    g = torch.Generator().manual_seed(0)
    op1 = torch.randint(5, (400,), generator=g)
    planted = torch.randn(2, 400, 8, generator=g)
    planted[1] += 6 * torch.nn.functional.one_hot(op1, 8)
    other = torch.randint(5, (400,), generator=g)
    values = {"op1": op1.numpy() * 7, "op2": other.numpy()}
    found = decode(planted, values, training=TRAINING, generator=torch.Generator().manual_seed(1))
    rows = copy_rows(found, n_heads=2).set_index(["what", "head"])
    assert rows.loc[("op1", 1), "accuracy"] > 0.95
    for noise in (("op1", 0), ("op2", 0), ("op2", 1)):
        assert rows.loc[noise, "accuracy"] < rows.loc[noise, "base_rate"] + 0.15
    assert (rows["n"] == 80).all()


# -- cuts -------------------------------------------------------------------------------------------------------------


def test_cutting_nothing_changes_nothing(toy_model, encoder, prompts) -> None:
    told: list[int] = []
    table = judge_cuts(toy_model, encoder, prompts, cuts={"nothing": ()}, batch_size=11, progress=told.append)
    assert table["cut"].tolist() == ["none", "nothing"]
    np.testing.assert_allclose(table[["logit_diff", "kl"]], 0, atol=1e-6)
    assert table["accuracy"].nunique() == 1
    assert sum(told) == 2 * len(prompts)


def masked_by_hand(model: BridgedModel, tokens: Tensor, edges: list[tuple[int, int]]) -> Tensor:
    """Logits with attention along the edges taken out of every pattern, through hooks after the softmax."""
    alive = torch.ones(tokens.shape[1], tokens.shape[1])
    for query, key in edges:
        alive[query, key] = 0

    def hook(_: object, __: object, pattern: Tensor) -> Tensor:
        return pattern * alive / (pattern * alive).sum(-1, keepdim=True)

    handles = [b.attn.hook_pattern.register_forward_hook(hook) for b in model.bridge.blocks]
    try:
        return model.logits(tokens)
    finally:
        for handle in handles:
            handle.remove()


def test_cuts_equal_a_forward_masked_by_hand(toy_model, encoder, prompts) -> None:
    """Taking an edge out before the softmax is taking it out after and dividing by what is left."""
    tokens = torch.from_numpy(encoder.encode(prompts))
    answers = torch.from_numpy(encoder.answers(prompts.answer))
    rows = torch.arange(len(answers))
    table = judge_cuts(toy_model, encoder, prompts).set_index("cut")
    assert list(table.index) == ["none", *CUTS]
    clean = toy_model.logits(tokens).log_softmax(-1)
    expected: dict[str, Callable[[], list[tuple[int, int]]]] = {
        "op2 <- op1, operator": lambda: [(3, 1), (3, 2)],
        "operator <- op1": lambda: [(2, 1)],
        "= <- op2": lambda: [(4, 3)],
    }
    for name, edges in expected.items():
        assert cut_edges(encoder, CUTS[name]) == frozenset(edges())
        cut = masked_by_hand(toy_model, tokens, edges()).log_softmax(-1)
        drop = (clean[rows, answers] - cut[rows, answers]).mean().item()
        kl = (clean.exp() * (clean - cut)).sum(-1).mean().item()
        assert abs(drop) > 1e-3
        assert table.loc[name, "logit_diff"] == pytest.approx(drop, rel=1e-3, abs=1e-4)
        assert table.loc[name, "kl"] == pytest.approx(kl, rel=1e-3, abs=1e-4)
        assert table.loc[name, "accuracy"] == pytest.approx((cut.argmax(-1) == answers).double().mean().item())
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()
