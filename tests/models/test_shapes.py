"""Shapes: parameters counted in closed form are those of the real classes, and random models load as any model does."""

import pytest
import torch
import toys
from safetensors.torch import load_file

from arithcirc.errors import ModelError
from arithcirc.models.load import load
from arithcirc.models.shapes import (
    Shape,
    configuration,
    meta_network,
    n_params,
    random_network,
    resized,
    save_random,
)
from arithcirc.models.zoo import ZOO, named
from arithcirc.training.tokenizer import build_tokenizer, vocabulary

SMALL = {"n_layers": 2, "n_heads": 4, "d_model": 48, "d_mlp": 96, "d_vocab": len(vocabulary(toys.LIMIT))}
EXAMPLES = {entry.shape.architecture: entry.shape for entry in ZOO}
"""A published shape of every architecture."""


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_parameters_in_closed_form_are_those_of_the_network(entry):
    network = meta_network(configuration(entry.shape))
    assert sum(p.numel() for p in network.parameters()) == n_params(entry.shape)
    assert all(p.device.type == "meta" for p in network.parameters())


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_parameters_are_those_published(entry):
    assert entry.n_params == pytest.approx(entry.n_published, rel=0.01)


@pytest.mark.parametrize("architecture", EXAMPLES)
def test_a_small_random_model_of_every_architecture_loads_as_any_model_does(architecture, tmp_path):
    shape = resized(EXAMPLES[architecture], **SMALL)
    folder = save_random(configuration(shape), tmp_path / "random", build_tokenizer(toys.LIMIT), seed=3)
    model = load(str(folder), device="cpu")
    info = model.info
    assert (info.architecture, info.n_layers, info.n_heads, info.d_model) == (architecture, 2, 4, 48)
    assert (info.n_kv_heads, info.d_head, info.d_mlp) == (shape.n_kv_heads, shape.d_head, shape.d_mlp)
    assert (info.sliding_window, info.softcap) == (shape.sliding_window, shape.softcap)
    assert info.n_params == n_params(shape)
    weights = load_file(folder / "model.safetensors")
    for name, value in random_network(configuration(shape), seed=3).state_dict().items():
        assert name not in weights or torch.equal(weights[name], value)
    assert (model.bridge.original_model.get_input_embeddings().weight != 0).any(1).all(), "no token is drawn as zeros"


def test_random_weights_follow_the_seed_and_leave_random_numbers_alone():
    config, before = configuration(resized(named("pythia-70m").shape, **SMALL)), torch.random.get_rng_state()
    one, same, other = (random_network(config, seed=seed, dtype="bfloat16") for seed in (0, 0, 1))
    weight = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    assert torch.equal(one.get_parameter(weight), same.get_parameter(weight))
    assert not torch.equal(one.get_parameter(weight), other.get_parameter(weight))
    assert one.get_parameter(weight).dtype == torch.bfloat16
    assert one.gpt_neox.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(torch.random.get_rng_state(), before)


def test_resizing_keeps_what_the_architecture_shares():
    llama = named("Meta-Llama-3-8B").shape
    assert resized(llama, n_layers=2).n_kv_heads == 8
    assert (resized(llama, n_heads=8, d_model=64).n_kv_heads, resized(llama, n_heads=8, d_model=64).d_head) == (2, 8)
    assert resized(named("gemma-2-2b").shape, d_model=64).d_head == 256


def test_what_sets_an_architecture_apart_reaches_its_configuration():
    neox = configuration(named("pythia-6.9b").shape)
    assert (neox.use_parallel_residual, neox.rope_parameters["partial_rotary_factor"]) == (True, 0.25)
    assert not configuration(Shape("GPTNeoXForCausalLM", 2, 2, 8, 32, 9, parallel=False)).use_parallel_residual
    assert configuration(named("gpt-j-6b").shape).rotary_dim == 64
    rope = configuration(named("Llama-3.1-8B").shape).rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("llama3", 8.0, 500_000.0)
    gemma = configuration(named("gemma-2-2b").shape)
    assert (gemma.final_logit_softcapping, gemma.attn_logit_softcapping, gemma.sliding_window) == (30.0, 50.0, 4096)
    assert configuration(named("Mistral-7B-v0.3").shape).sliding_window is None
    assert configuration(named("gpt2").shape, n_positions=64).n_positions == 64


def test_an_architecture_without_a_shape_is_refused():
    with pytest.raises(ModelError, match="no shape of a BertForMaskedLM is known: use one of GPTNeoXForCausalLM"):
        Shape("BertForMaskedLM", 1, 1, 8, 8, 8)
