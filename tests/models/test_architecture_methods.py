"""What the methods take from a model, on every supported architecture: attention, cuts, means, ablations, maps."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from architectures import BUILDERS, MOSTLY_SLOW, WINDOW
from torch import Tensor, nn

from arithcirc.arithmetic.operators import ADD, SUB, OperandRange, all_prompts, concatenate, fitting_prompts
from arithcirc.arithmetic.tokens import PromptEncoder, prompt_encoder
from arithcirc.components import Head, Mlp, Neuron
from arithcirc.live.model import LiveHooked
from arithcirc.measure.answers import predictions
from arithcirc.measure.exactness import TOLERANCE, check_exactness, random_tokens
from arithcirc.measure.interventions import CircuitMasks, ablate_to_means
from arithcirc.measure.knockout import Knockouts, NeuronSets, knock_out, zero_values
from arithcirc.measure.maps import activation_maps
from arithcirc.measure.means import mean_activations
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.models.suffix import Patch, SuffixEngine
from arithcirc.questions import Off
from arithcirc.training.tokenizer import build_tokenizer

LOCAL = {"mistral": (0, 1, 2), "gemma2": (0, 2), "gemma3": (0, 2)}
"""Layers with a sliding window."""
LAYERS, HEADS, LAST = toys.LAYERS, toys.HEADS, toys.LAYERS - 1
OPERANDS = OperandRange(2, 9)
AROUND = {"rtol": 1e-5, "atol": 2e-4}


@pytest.fixture(scope="module", params=BUILDERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save(BUILDERS[name](), tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def model(folder: Path) -> BridgedModel:
    return load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def wide(name: str, model: BridgedModel, folder: Path) -> Iterator[BridgedModel]:
    """The same weights, with windows that a prompt fits into."""
    if name not in LOCAL:
        yield model
        return
    said = (folder / "config.json").read_text()
    (folder / "config.json").write_text(json.dumps(json.loads(said) | {"sliding_window": 16}))
    yield load(str(folder), device="cpu")
    (folder / "config.json").write_text(said)


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    """Of the toys' own tokenizer: transformers gives every Qwen 2 the tokenizer of that name, which splits numbers."""
    return prompt_encoder(build_tokenizer(toys.LIMIT))


@pytest.fixture(scope="module")
def tokens(encoder: PromptEncoder) -> Tensor:
    return torch.from_numpy(encoder.encode(fitting_prompts(ADD, OPERANDS, toys.LIMIT)[::9]))


def seen(modules: list[nn.Module], run: Callable[[], object]) -> list[Tensor]:
    """What these modules write meanwhile."""
    written: list[Tensor] = []
    handles = [m.register_forward_hook(lambda _, __, out: written.append(out)) for m in modules]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return written


# -- the engine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOSTLY_SLOW, indirect=True)
@pytest.mark.parametrize("length", [2, 8])
def test_the_check_finds_the_engine_exact(model: BridgedModel, length: int) -> None:
    found = check_exactness(model, *random_tokens(model, 3, length=length, seed=length), per_kind=24)
    assert found["relative"].max() < TOLERANCE["float32"]
    assert (found.loc[found["token"] == length - 1, "moved"] > 0.8).all()


# -- attention --------------------------------------------------------------------------------------------------------


def test_patterns_weigh_the_values_of_each_querys_head(model: BridgedModel, name: str, tokens: Tensor) -> None:
    clean = model.record(tokens, parts={"pattern", "z"})
    groups = HEADS // model.info.n_kv_heads
    for layer in range(LAYERS):
        pattern = clean.activations.pattern[layer]
        assert pattern.shape == (len(tokens), HEADS, 5, 5)
        torch.testing.assert_close(pattern.sum(-1), torch.ones(len(tokens), HEADS, 5), rtol=1e-5, atol=1e-5)
        hidden = torch.ones(5, 5).triu(1).bool()
        if layer in LOCAL.get(name, ()):
            hidden |= torch.ones(5, 5).tril(-WINDOW).bool()
        assert (pattern[..., hidden] == 0).all()
        assert (pattern[..., ~hidden] > 0).all()
        values = clean.values[layer].repeat_interleave(groups, dim=1)
        z = torch.einsum("phqk,phkd->pqhd", pattern, values[:, :, -5:])
        torch.testing.assert_close(clean.activations.z[layer], z, **AROUND)


def test_cut_edges_get_no_weight_and_the_others_share_it(wide: BridgedModel, tokens: Tensor) -> None:
    cut = frozenset({(4, 1), (4, 2), (3, 0)})
    clean = wide.activations(tokens, parts={"pattern"}).pattern[0]
    patterns = seen(wide._patterns, lambda: wide.logits(tokens, cut=cut))
    for query, key in cut:
        assert all((p[0] if isinstance(p, tuple) else p)[:, :, query, key].abs().max() == 0 for p in patterns)
        clean[:, :, query, key] = 0  # layer 0 reads the embeddings, which no cut changes
    torch.testing.assert_close(patterns[0], clean / clean.sum(-1, keepdim=True), **AROUND)
    assert (wide.logits(tokens, cut=cut) - wide.logits(tokens)).abs().max() > 1e-2


@pytest.mark.parametrize("name", MOSTLY_SLOW, indirect=True)
@pytest.mark.parametrize("key", [1, 2, 3])
def test_a_token_with_every_edge_cut_does_not_matter(wide: BridgedModel, tokens: Tensor, key: int) -> None:
    alone = frozenset((query, key) for query in range(key + 1, 5))
    other = tokens.clone()
    other[:, key] = tokens[:, 1].roll(1) + 3
    torch.testing.assert_close(wide.logits(tokens, cut=alone), wide.logits(other, cut=alone), **AROUND)
    assert (wide.logits(tokens) - wide.logits(other)).abs().max() > 1e-2
    future = frozenset({(1, 3), (0, 4)})  # hidden already
    torch.testing.assert_close(wide.logits(tokens, cut=future), wide.logits(tokens), **AROUND)


def test_cuts_leave_each_layer_its_own_window(model: BridgedModel, name: str, tokens: Tensor) -> None:
    assert model.info.sliding_window == (WINDOW if name in LOCAL else None)
    plain = model.logits(tokens)
    future = frozenset({(1, 3), (0, 4)})  # hidden already
    torch.testing.assert_close(model.logits(tokens, cut=future), plain, **AROUND)
    assert (model.logits(tokens, cut=frozenset({(2, 1)})) - plain).abs().max() > 1e-3
    behind = (model.logits(tokens, cut=frozenset({(4, 4 - WINDOW)})) - plain).abs().max()
    if len(LOCAL.get(name, ())) == LAYERS:  # out of every layer's sight
        assert behind < 1e-4
    else:
        assert behind > 1e-3


# -- methods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOSTLY_SLOW, indirect=True)
@pytest.mark.parametrize("batch_size", [20, 4096])
def test_shared_prefixes_change_no_mean(model: BridgedModel, encoder: PromptEncoder, batch_size: int) -> None:
    means = mean_activations(model, encoder, (ADD, SUB), OPERANDS, batch_size=batch_size)
    prompts = concatenate([all_prompts(op, OPERANDS) for op in (ADD, SUB)])
    plain = model.activations(torch.from_numpy(encoder.encode(prompts)), parts={"z", "post"})
    assert means.n == len(prompts) == 2 * 8**2
    for layer in range(LAYERS):
        torch.testing.assert_close(means.z[layer], plain.z[layer].mean(0), **AROUND)
        torch.testing.assert_close(means.post[layer], plain.post[layer].mean(0), **AROUND)


def test_ablated_circuits_equal_edits_by_hand(model: BridgedModel, encoder: PromptEncoder, tokens: Tensor) -> None:
    means = mean_activations(model, encoder, (ADD,), OPERANDS, batch_size=4096)
    chance = torch.Generator().manual_seed(0)
    heads, mlps, neurons = (
        torch.rand(3, LAYERS, *n, generator=chance) < p for n, p in (((HEADS,), 0.5), ((), 0.3), ((toys.HIDDEN,), 0.5))
    )
    ours = ablate_to_means(
        model, tokens, CircuitMasks(heads, mlps, neurons), means, lambda x, _: x, batch_size=2 * len(tokens)
    )
    for row in range(3):

        def keep(part: str, layer: int, value: Tensor, row: int = row) -> Tensor:
            if part == "z":
                return torch.where(heads[row, layer, :, None], value, means.z[layer])
            return torch.where(mlps[row, layer] | neurons[row, layer], value, means.post[layer])

        torch.testing.assert_close(ours[row], model.logits(tokens, edit=keep), **AROUND)
    assert (ours - model.logits(tokens)).abs().amax((1, 2)).min() > 1e-2


@pytest.mark.parametrize("name", MOSTLY_SLOW, indirect=True)
def test_maps_are_the_activations_of_plain_forwards_in_any_batches(model: BridgedModel, encoder: PromptEncoder) -> None:
    prompts = fitting_prompts(ADD, OPERANDS, encoder.limit)
    neurons = [Neuron(layer, n) for layer in (2, 0, 1) for n in (5, 0, 95)]
    plain = torch.from_numpy(encoder.encode(prompts))
    post, said = model.activations(plain, parts={"post"}).post, model.logits(plain).argmax(-1).numpy()
    for batch_size in (7, 4096):
        maps = activation_maps(model, encoder, prompts, neurons, batch_size=batch_size)
        for row, neuron in zip(maps.k, neurons, strict=True):
            np.testing.assert_allclose(row, post[neuron.layer][:, -1, neuron.index].numpy(), atol=2e-4)
        assert maps.given.tolist() == said.tolist()
        assert predictions(model, encoder, prompts, batch_size=batch_size).tolist() == said.tolist()


# -- nothing is left behind -------------------------------------------------------------------------------------------


def state(model: BridgedModel) -> dict[str, object]:
    """Weights, their versions, gradients and flags; hooks and modes of every module."""
    network = model.bridge.original_model
    return {
        "weights": {n: (p.double().sum().item(), p._version) for n, p in network.state_dict(keep_vars=True).items()},
        "flags": {n: (p.requires_grad, p.grad) for n, p in network.named_parameters()},
        "modules": {
            n: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training)
            for n, m in model.bridge.named_modules()
        },
        "cache": (network.config.use_cache, torch.is_grad_enabled()),
    }


def test_the_model_is_left_as_found(wide: BridgedModel, tokens: Tensor) -> None:
    parts, one = {"z", "post", "mlp_out"}, np.zeros(1, dtype=np.int64)
    wide.logits(tokens)  # transformers puts hooks of its own in place at the first forward
    before = state(wide)
    engine, source = SuffixEngine(wide, tokens, parts=parts), wide.activations(tokens.roll(1, 0), parts=parts)
    patches = [Patch(c, 2) for c in (Head(0, 1), Mlp(1), Neuron(LAST - 1, 3))]
    engine.run(patches, source, lambda x, _: x, batch_size=5)
    wide.logits(tokens, edit=lambda part, layer, x: x * 0)
    wide.logits(tokens, cut=frozenset({(4, 1)}))
    wide.gradients(tokens, lambda logits: logits[:, 3])
    wide.embed(tokens, 2)
    wide.value_vectors(1)
    knock_out(
        wide, tokens, NeuronSets.of([np.array([(0, 1), (1, 2)])]), Knockouts(one, one, one), zero_values(wide),
        lambda logits, _: logits,
    )  # fmt: skip
    assert state(wide) == before


BIASED = ("neox-parallel", "neox-sequential", "gpt2", "gptj")
"""Architectures whose attention or MLP adds a bias to what heads and neurons write."""


def test_contributions_sum_to_the_logits(name: str, model: BridgedModel, encoder: PromptEncoder) -> None:
    live = LiveHooked(model, encoder, OPERANDS)
    for off in (Off(), Off((Neuron(0, 3), Neuron(LAST, 5)), (Head(1, 1),))):
        e = live.explain("7+8=", off, numbers=range(0, toys.LIMIT, 7))
        parts = [e.heads.sum((0, 1)), e.neurons.sum((0, 1)), e.attention_bias.sum(0), e.mlp_bias.sum(0), e.embedding]
        np.testing.assert_allclose(sum(parts) + e.constant, e.logits, rtol=1e-5, atol=1e-4)
        capped = e.reply.guesses[0].probability / np.array([g.probability for g in e.reply.guesses])
        said = np.array([g.logit for g in e.reply.guesses])
        bent = said if model.info.softcap is None else uncentred(live, off, said)
        np.testing.assert_allclose(bent[0] - bent, np.log(capped), rtol=1e-3, atol=1e-3)
        if name not in BIASED:
            assert np.abs(e.attention_bias).max() + np.abs(e.mlp_bias).max() < 1e-4


def uncentred(live: LiveHooked, off: Off, centred: np.ndarray) -> np.ndarray:
    """Logits behind a soft-cap, from centred ones before it: their common shift is the only unknown."""
    run = live._run("7+8=", off, parts=())
    raw = live.model.bridge.unembed(live.model.bridge.ln_final(run.run.resid[-1][:, -1]))[0]
    cap = live.model.info.softcap
    bent: np.ndarray = cap * np.tanh((centred + float(raw.mean())) / cap)
    return bent
