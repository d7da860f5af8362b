"""The adapter leaves the model as found, and its edits are the edits asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import toys
from torch import Tensor, nn

from arithcirc.components import Head, Mlp, Neuron
from arithcirc.errors import NumericsError
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.models.suffix import Patch, SuffixEngine

TOKENS = torch.tensor([[0, 12, 3, 20, 7], [0, 30, 4, 11, 7]])


def state(model: BridgedModel) -> dict[str, object]:
    """Everything that must be as it was: weights, hooks, modes, gradient flags, global grad mode."""
    network: nn.Module = model.bridge.original_model
    hooks = {
        name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for name, m in network.named_modules()
    }
    return {
        "weights": {n: p.detach().double().sum().item() for n, p in network.named_parameters()},
        "versions": {n: p._version for n, p in network.named_parameters()},
        "requires_grad": {n: p.requires_grad for n, p in network.named_parameters()},
        "training": {n: m.training for n, m in network.named_modules()},
        "hooks": hooks,
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
    }


def fail(*_: object) -> Tensor:
    raise KeyboardInterrupt


USES: dict[str, Callable[[BridgedModel], object]] = {
    "logits": lambda m: m.logits(TOKENS),
    "edited": lambda m: m.logits(TOKENS, edit=lambda part, layer, x: x * 0),
    "activations": lambda m: m.activations(TOKENS, parts={"z", "post", "mlp_out"}),
    "record": lambda m: m.record(TOKENS, parts={"z"}),
    "window": lambda m: m.window(TOKENS, 2, 3),
    "embed": lambda m: m.embed(TOKENS, 2),
    "patch": lambda m: SuffixEngine(m, TOKENS, parts={"z", "mlp_out", "post"}).run(
        [Patch(c, 2) for c in (Head(0, 1), Mlp(1), Neuron(2, 3))],
        m.activations(TOKENS.flip(0), parts={"z", "mlp_out", "post"}),
        lambda logits, prompts: logits,
        batch_size=3,
    ),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("sequential", [False, True])
def test_model_is_left_as_found(use: str, sequential: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("left")
    model = load(str(toys.save(toys.gpt_neox(parallel=not sequential), folder)), device="cpu")
    model.bridge.original_model(TOKENS)  # transformers installs hooks of its own at the first forward
    before = state(model)
    USES[use](model)
    assert state(model) == before


def test_interrupt_leaves_no_hooks(toy_model: BridgedModel) -> None:
    toy_model.logits(TOKENS)
    before = state(toy_model)
    with pytest.raises(KeyboardInterrupt):
        toy_model.logits(TOKENS, edit=fail)
    assert state(toy_model) == before


def test_edit_sees_and_replaces_activations(toy_model: BridgedModel) -> None:
    seen: dict[tuple[str, int], torch.Size] = {}

    def look(part: str, layer: int, value: Tensor) -> None:
        seen[part, layer] = value.shape

    clean = toy_model.logits(TOKENS)
    torch.testing.assert_close(toy_model.logits(TOKENS, edit=look), clean)
    assert seen["z", 0] == (2, 5, toys.HEADS, toys.WIDTH // toys.HEADS)
    assert seen["post", toys.LAYERS - 1] == (2, 5, toys.HIDDEN)
    assert not torch.allclose(toy_model.logits(TOKENS, edit=lambda part, layer, x: x * 0), clean)


def test_agrees_with_the_bare_network(toy_model: BridgedModel) -> None:
    network = toys.gpt_neox()
    with torch.no_grad():
        torch.testing.assert_close(toy_model.logits(TOKENS), network(TOKENS).logits[:, -1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start", [1, 2, 3, 4])
def test_replaying_all_blocks_gives_the_clean_residual(toy_model: BridgedModel, start: int) -> None:
    run = toy_model.record(TOKENS, parts=())
    window = toy_model.window(TOKENS, start, 5 - start)
    resid = toy_model.embed(TOKENS, start)
    for layer in range(toys.LAYERS):
        torch.testing.assert_close(resid, run.resid[layer][:, start:], rtol=1e-5, atol=1e-5)
        keys, values = run.keys[layer][:, :, :start], run.values[layer][:, :, :start]
        resid = toy_model.block(layer, resid, window, keys, values)
    torch.testing.assert_close(toy_model.unembed(resid[:, -1]), run.logits, rtol=1e-5, atol=1e-5)


def test_some_layers_alone_are_the_same_and_no_higher_one_is_run(toy_model: BridgedModel) -> None:
    whole = toy_model.activations(TOKENS, parts={"z", "post", "mlp_out"})
    ran: list[int] = []
    handles = [b.register_forward_pre_hook(lambda *_, i=i: ran.append(i)) for i, b in enumerate(toy_model._blocks)]
    try:
        some = toy_model.activations(TOKENS, parts={"post", "mlp_out"}, layers=range(1, 2))
    finally:
        for handle in handles:
            handle.remove()
    assert (some.z, list(some.post), list(some.mlp_out)) == ({}, [1], [1])
    assert torch.equal(some.post[1], whole.post[1])
    assert torch.equal(some.mlp_out[1], whole.mlp_out[1])
    assert toys.LAYERS - 1 not in ran[:-1], "the block after the last one wanted is only reached, not run"


def test_output_weights_reproduce_the_outputs(toy_model: BridgedModel) -> None:
    acts = toy_model.activations(TOKENS, parts={"post", "mlp_out"})
    bias = toys.gpt_neox().gpt_neox.layers[1].mlp.dense_4h_to_h.bias
    torch.testing.assert_close(acts.post[1] @ toy_model.value_vectors(1) + bias, acts.mlp_out[1], rtol=1e-4, atol=1e-5)


def test_overflow_names_the_first_component_that_saw_it(tmp_path: Path) -> None:
    network = toys.gpt_neox()
    with torch.no_grad():
        network.gpt_neox.layers[1].mlp.dense_4h_to_h.weight *= 1e5
    model = load(str(toys.save(network, tmp_path / "over")), device="cpu", dtype="float16")
    wanted = r"use --dtype bfloat16 or float32 \(first seen in the MLP's output of layer 1\)"
    for forward in (model.logits, lambda t: model.record(t, parts=()), lambda t: model.activations(t, parts={"z"})):
        with pytest.raises(NumericsError, match=wanted):
            forward(TOKENS)


def test_nan_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = load(str(toys.save(toys.broken(), tmp_path_factory.mktemp("broken"))), device="cpu")
    with pytest.raises(NumericsError, match="NaN or infinite logits on 2 of 2 prompts"):
        model.logits(TOKENS)
