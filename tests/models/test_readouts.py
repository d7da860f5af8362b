"""Gradients, cuts, patterns and direct logits of the adapter, against finite differences, masks by hand and algebra."""

from collections.abc import Callable

import pytest
import torch
import toys
from torch import Tensor

from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.models.protocol import Cut

TOKENS = torch.tensor([[0, 12, 3, 20, 7], [0, 30, 4, 11, 7], [0, 9, 5, 55, 7]])
MAKERS: dict[str, Callable[[], object]] = {
    "parallel": lambda: toys.gpt_neox(parallel=True),
    "sequential": lambda: toys.gpt_neox(parallel=False),
    "gpt2": toys.gpt2,
}


@pytest.fixture(scope="module", params=MAKERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BridgedModel:
    return load(str(toys.save(MAKERS[request.param](), tmp_path_factory.mktemp(request.param))), device="cpu")


def objective(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1)[:, 25]


def hooks(model: BridgedModel) -> int:
    modules = model.bridge.original_model.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)


# -- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "layer", "place"), [("z", 0, (1, 2, 3)), ("z", 2, (4, 0, 5)), ("post", 1, (4, 17))])
def test_gradients_are_finite_differences(model: BridgedModel, part: str, layer: int, place: tuple[int, ...]) -> None:
    """Central differences of one entry, (objective(x + h) - objective(x - h)) / 2h, in each prompt at once."""
    h = 0.02

    def moved(step: float) -> Tensor:
        def edit(p: str, i: int, value: Tensor) -> Tensor | None:
            if (p, i) != (part, layer):
                return None
            changed = value.clone()
            changed[(slice(None), *place)] += step
            return changed

        return objective(model.logits(TOKENS, edit=edit)).double()

    slope = (moved(h) - moved(-h)) / (2 * h)
    found = getattr(model.gradients(TOKENS, objective), part)[layer][(slice(None), *place)].double()
    torch.testing.assert_close(found, slope, rtol=2e-2, atol=2e-3)
    assert slope.abs().max() > 1e-3


def test_gradients_are_zero_where_nothing_reads(model: BridgedModel) -> None:
    """The last layer is read at the last position only; a prompt's objective does not see the other prompts."""
    found = model.gradients(TOKENS, objective)
    last = toys.LAYERS - 1
    for part in (found.z, found.post):
        assert list(part) == list(range(toys.LAYERS))
        assert (part[last][:, :-1] == 0).all()
        assert (part[last][:, -1] != 0).any()
        assert (part[0][:, 1] != 0).any()
    single = model.gradients(TOKENS[1:2], objective)
    torch.testing.assert_close(single.post[0][0], found.post[0][1], rtol=1e-3, atol=1e-5)
    first_only = model.gradients(TOKENS, lambda logits: objective(logits) * torch.tensor([1.0, 0.0, 0.0]))
    assert (first_only.z[1][1:] == 0).all()


def test_gradients_leave_the_model_as_found(model: BridgedModel) -> None:
    model.logits(TOKENS)
    parameters = list(model.bridge.original_model.parameters())
    before = hooks(model), [p.requires_grad for p in parameters], torch.is_grad_enabled()
    model.gradients(TOKENS, objective)
    assert (hooks(model), [p.requires_grad for p in parameters], torch.is_grad_enabled()) == before
    assert all(p.grad is None for p in parameters)


# -- attention --------------------------------------------------------------------------------------------------------


def masked_by_hand(model: BridgedModel, cut: Cut) -> Tensor:
    """Logits with -inf put on the attention scores of the edges, through hooks."""

    def hook(_: object, __: object, scores: Tensor) -> Tensor:
        for query, key in cut:
            scores = scores.clone()
            scores[:, :, query, key] = -torch.inf
        return scores

    handles = [b.attn.hook_attn_scores.register_forward_hook(hook) for b in model.bridge.blocks]
    try:
        return model.logits(TOKENS)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("edges", [{(4, 1)}, {(3, 1), (3, 2)}, {(4, 3), (2, 1), (1, 0)}])
def test_a_cut_is_minus_infinity_on_the_scores(model: BridgedModel, edges: set[tuple[int, int]]) -> None:
    clean = model.logits(TOKENS)
    before = hooks(model)
    cut = model.logits(TOKENS, cut=frozenset(edges))
    assert hooks(model) == before
    torch.testing.assert_close(cut, masked_by_hand(model, frozenset(edges)), rtol=1e-4, atol=1e-4)
    assert (cut - clean).abs().max() > 1e-3
    torch.testing.assert_close(model.logits(TOKENS), clean, rtol=0, atol=0)


def test_cutting_what_is_not_there_changes_nothing(model: BridgedModel) -> None:
    clean = model.logits(TOKENS)
    torch.testing.assert_close(model.logits(TOKENS, cut=frozenset()), clean, rtol=0, atol=0)
    future = frozenset({(1, 3), (0, 4)})  # hidden already
    torch.testing.assert_close(model.logits(TOKENS, cut=future), clean, rtol=1e-5, atol=1e-5)


def test_a_position_cut_off_does_not_see_the_other_operand(model: BridgedModel) -> None:
    """With every path from op1 cut, op1 no longer matters."""
    alone = frozenset({(2, 1), (3, 1), (4, 1)})
    other = TOKENS.clone()
    other[:, 1] = torch.tensor([40, 41, 42])
    torch.testing.assert_close(model.logits(TOKENS, cut=alone), model.logits(other, cut=alone), rtol=1e-4, atol=1e-4)
    assert (model.logits(TOKENS) - model.logits(other)).abs().max() > 1e-2


def test_a_cut_and_an_edit_go_together(model: BridgedModel) -> None:
    cut = frozenset({(4, 1)})
    kept = model.logits(TOKENS, cut=cut, edit=lambda part, layer, value: value.clone())
    torch.testing.assert_close(kept, model.logits(TOKENS, cut=cut), rtol=1e-5, atol=1e-5)


def test_patterns_are_causal_and_add_up(model: BridgedModel) -> None:
    patterns = model.activations(TOKENS, parts={"pattern"}).pattern.values()
    assert [p.shape for p in patterns] == [(3, toys.HEADS, 5, 5)] * toys.LAYERS
    for pattern in patterns:
        torch.testing.assert_close(pattern.sum(-1), torch.ones(3, toys.HEADS, 5), rtol=1e-5, atol=1e-5)
        assert (pattern.triu(1) == 0).all()
        assert (pattern >= 0).all()


# -- direct logits ----------------------------------------------------------------------------------------------------


def test_direct_logits_are_the_unembedding_times_the_norms_scale(model: BridgedModel) -> None:
    """unembed(x) = direct(x) / size(x) + unembed(0's share), once centred: the norm divides by x's size and adds a
    bias that does not depend on x."""
    resid = model.record(TOKENS, parts=()).resid[-1][:, -1]
    norm = model.bridge.ln_final.original_component
    size = (resid.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    whole = model.unembed(resid)
    constant = model.unembed(torch.zeros_like(resid))  # 0 is normed to 0: only the biases remain
    expected = (whole - constant - (whole - constant).mean(-1, keepdim=True)) * size
    found = model.direct_logits(resid)
    scale = expected.abs().max().item()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.mean(-1), torch.zeros(3), rtol=0, atol=1e-5 * scale)


def test_direct_logits_are_linear(model: BridgedModel) -> None:
    a, b = torch.randn(2, 4, toys.WIDTH, generator=torch.Generator().manual_seed(0))
    whole = model.direct_logits(2 * a - b)
    torch.testing.assert_close(whole, 2 * model.direct_logits(a) - model.direct_logits(b), rtol=1e-4, atol=1e-4)
    shifted = model.direct_logits(a + 3.0)  # LayerNorm takes the mean away
    torch.testing.assert_close(shifted, model.direct_logits(a), rtol=1e-4, atol=1e-4)
