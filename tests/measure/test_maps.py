"""Activation maps against plain forwards, and KV against the residual it stands for."""

import numpy as np
import pytest
import torch
import toys

from arithcirc.arithmetic.operators import ADD, DIV, OperandRange, fitting_prompts
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.components import Neuron
from arithcirc.measure.maps import activation_maps, value_logits
from arithcirc.models.load import load

NEURONS = [Neuron(2, 5), Neuron(0, 1), Neuron(2, 0), Neuron(1, 95)]


@pytest.fixture(scope="module", params=["neox", "sequential", "gpt2"])
def model(request, tmp_path_factory):
    made = {"neox": toys.gpt_neox, "sequential": lambda: toys.gpt_neox(parallel=False), "gpt2": toys.gpt2}
    return load(str(toys.save(made[request.param](), tmp_path_factory.mktemp("maps"))), device="cpu")


def encoder(model):
    return prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)


@pytest.mark.parametrize("op", [ADD, DIV], ids=str)
def test_maps_are_the_activations_of_plain_forwards(model, op):
    enc = encoder(model)
    prompts = fitting_prompts(op, OperandRange(0, 12), enc.limit)
    done = []
    maps = activation_maps(model, enc, prompts, NEURONS, batch_size=50, progress=done.append)
    tokens = torch.from_numpy(enc.encode(prompts))
    post = model.activations(tokens, parts={"post"}).post
    for row, neuron in zip(maps.k, NEURONS, strict=True):
        np.testing.assert_allclose(row, post[neuron.layer][:, -1, neuron.index].numpy(), atol=1e-5)
    said = model.logits(tokens).argmax(-1).numpy()
    assert maps.given.tolist() == said.tolist()
    assert maps.correct.tolist() == (said == enc.answers(prompts.answer)).tolist()
    assert sum(done) == len(prompts)


def test_batch_size_and_order_change_nothing(model):
    enc = encoder(model)
    prompts = fitting_prompts(ADD, OperandRange(0, 12), enc.limit)
    whole = activation_maps(model, enc, prompts, NEURONS, batch_size=4096).k
    order = np.random.default_rng(0).permutation(len(prompts))
    parts = activation_maps(model, enc, prompts[order], NEURONS, batch_size=7).k
    np.testing.assert_allclose(parts, whole[:, order], rtol=1e-4, atol=1e-4)


def test_kv_is_what_a_neuron_adds_to_the_answers_logit(model):
    """In the last layer: the logit's change when h_n grows by a little, times the size the final norm divides by."""
    enc = encoder(model)
    prompts = fitting_prompts(ADD, OperandRange(0, 12), enc.limit)[:9]
    neuron = Neuron(model.info.n_layers - 1, 7)
    maps = activation_maps(model, enc, prompts, [neuron], batch_size=64)
    kv = maps.kv(value_logits(model, enc, [neuron]))[0]
    final = model.record(torch.from_numpy(enc.encode(prompts)), parts=set()).resid[-1][:, -1]
    vector = model.value_vectors(neuron.layer)[neuron.index]
    written = model.direct_logits(vector[None])[0][enc.answers(prompts.answer)].numpy()
    np.testing.assert_allclose(kv, maps.k[0] * written, rtol=1e-5, atol=1e-6)
    before, after = (
        model.direct_logits(final),
        model.direct_logits(final + torch.from_numpy(maps.k[0])[:, None] * vector),
    )
    change = (after - before)[np.arange(9), enc.answers(prompts.answer)]
    np.testing.assert_allclose(change.numpy(), kv, rtol=1e-3, atol=1e-4)
