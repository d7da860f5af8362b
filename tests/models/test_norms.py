"""Norms give transformers' own numbers, and their statistics to whoever hooks them."""

from pathlib import Path

import pytest
import torch
import toys
from architectures import BUILDERS
from torch import Tensor

from arithcirc.measure.cost import counting
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.models.norms import skip_unread_statistics

TOKENS = torch.tensor([[0, 11, 4, 17, 8], [0, 12, 4, 30, 8]])
NATIVE = "_hf_autograd_forward_with_hooks"


@pytest.fixture(params=["neox-parallel", "llama", "gemma2"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> BridgedModel:
    return load(str(toys.save(BUILDERS[request.param](), tmp_path)), device="cpu")


def as_transformer_lens_has_them(model: BridgedModel) -> int:
    """Put the bridge's own norms back; how many were changed."""
    return sum(module.__dict__.pop(NATIVE, None) is not None for module in model.bridge.modules())


def test_no_number_changes_and_fewer_kernels_run(model: BridgedModel) -> None:
    with counting() as few:
        light = model.logits(TOKENS)
    assert as_transformer_lens_has_them(model) > model.info.n_layers
    with counting() as many:
        full = model.logits(TOKENS)
    assert torch.equal(light, full)
    assert few.cost.flops == many.cost.flops
    assert few.cost.launches < many.cost.launches - 5 * model.info.n_layers
    assert few.cost.bytes < many.cost.bytes


def test_hooks_on_the_statistics_see_them(model: BridgedModel) -> None:
    seen: list[Tensor] = []
    norm = model.bridge.ln_final
    with torch.no_grad():
        model.bridge.run_with_hooks(TOKENS, fwd_hooks=[("ln_final.hook_scale", lambda x, hook: seen.append(x))])
    assert [x.shape for x in seen] == [(2, 5, 1)]
    assert not norm.hook_scale._forward_hooks
    skip_unread_statistics(model.bridge)  # twice is once
    assert torch.equal(model.logits(TOKENS), model.logits(TOKENS))
    assert len(seen) == 1


def test_hooks_on_the_statistics_still_edit(model: BridgedModel) -> None:
    clean = model.logits(TOKENS)

    def double(scale: Tensor, hook: object) -> Tensor:
        return scale * 2

    with torch.no_grad(), pytest.warns(UserWarning, match="edited hook_scale"):
        edited = model.bridge.run_with_hooks(TOKENS, fwd_hooks=[("ln_final.hook_scale", double)])[:, -1]
    assert not torch.allclose(edited, clean, rtol=1e-3)
