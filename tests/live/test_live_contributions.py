"""Contributions to the logits of toys: their parts, read again one by one through the unembedding."""

import numpy as np
import pytest
import torch
import toys

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.components import Head, Neuron
from arithcirc.live.contributions import final_norm, readout, tokens_of
from arithcirc.live.model import LiveHooked
from arithcirc.measure.maps import value_logits
from arithcirc.models.bridge import BridgedModel
from arithcirc.questions import Explanation, Off

NUMBERS = (0, 7, 31, 60)
PROMPT = "12+18="


@pytest.fixture(scope="module")
def live(toy_model: BridgedModel) -> LiveHooked:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    return LiveHooked(toy_model, encoder, OperandRange(0, 30))


def total(e: Explanation) -> np.ndarray:
    """The sum of all parts, by number."""
    by_layer = e.heads.sum(axis=1) + e.neurons.sum(axis=1) + e.attention_bias + e.mlp_bias
    summed: np.ndarray = by_layer.sum(axis=0) + e.embedding + e.constant
    return summed


def centred(live: LiveHooked, e: Explanation) -> np.ndarray:
    """The model's own logits of the numbers explained, with nothing switched off."""
    prompt = live.encoder.frame[None].copy()
    prompt[0, 1], prompt[0, 3] = live.encoder.op1_ids[e.reply.op1], live.encoder.op2_ids[e.reply.op2]
    prompt[0, 2] = live.encoder.operator_ids[e.reply.operator]
    logits = live.model.logits(torch.from_numpy(prompt))[0].double().numpy()
    shown: np.ndarray = (logits - logits.mean())[live.encoder.answers(np.array(e.numbers))]
    return shown


@pytest.mark.parametrize("prompt", [PROMPT, "7*8=", "60-0", "29/3"])
def test_parts_sum_to_the_models_centred_logits(live: LiveHooked, prompt: str) -> None:
    e = live.explain(prompt, numbers=NUMBERS)
    np.testing.assert_allclose(e.logits, centred(live, e), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(total(e), e.logits, rtol=1e-5, atol=1e-4)
    assert e.reply.answer_guess.logit == pytest.approx(float(e.logits[0]), rel=1e-5)


def test_parts_sum_whatever_is_switched_off(live: LiveHooked) -> None:
    off = Off((Neuron(0, 3), Neuron(2, 9)), (Head(1, 2),))
    e = live.explain(PROMPT, off, numbers=NUMBERS)
    np.testing.assert_allclose(total(e), e.logits, rtol=1e-5, atol=1e-4)
    for part in (e.neurons[0, 3], e.neurons[2, 9], e.heads[1, 2]):
        assert np.abs(part).max() == 0
    assert np.abs(e.logits - live.explain(PROMPT, numbers=NUMBERS).logits[: len(e.logits)]).max() > 0


def test_a_neuron_writes_its_activation_times_its_value_logits(live: LiveHooked) -> None:
    e = live.explain(PROMPT, numbers=NUMBERS)
    neurons = [Neuron(layer, i) for layer in range(toys.LAYERS) for i in (0, 40, 95)]
    value = value_logits(live.model, live.encoder, neurons)[:, list(e.numbers)]
    run = live.model.record(torch.from_numpy(live.encoder.encode(live._run(PROMPT, Off(), parts=()).prompt)), parts=())
    scale = final_norm(live.model, run.resid[-1][0, -1]).scale
    for neuron, row in zip(neurons, value, strict=True):
        written = scale * e.activations[neuron.layer, neuron.index] * row
        np.testing.assert_allclose(e.neurons[neuron.layer, neuron.index], written, rtol=1e-4, atol=1e-5)


def test_the_last_layers_neurons_do_just_what_they_write_up_to_the_norm(live: LiveHooked) -> None:
    """Zeroing a neuron of the last layer changes the residual by what it wrote and nothing else."""
    last = toys.LAYERS - 1
    before, after = (live.explain(PROMPT, off, numbers=NUMBERS) for off in (Off(), Off((Neuron(last, 40),))))
    numbers = [before.numbers.index(n) for n in NUMBERS]
    same = [after.numbers.index(n) for n in NUMBERS]
    ratio = (before.embedding[numbers] / after.embedding[same]).mean()  # the norm divides by another size
    kept = (before.logits - before.constant - before.neurons[last, 40])[numbers]
    np.testing.assert_allclose((after.logits - after.constant)[same] * ratio, kept, rtol=1e-3, atol=1e-3)


def test_biases_are_the_same_for_every_prompt_up_to_the_norm(live: LiveHooked) -> None:
    one, other = (live.explain(p, numbers=range(toys.LIMIT + 1)) for p in (PROMPT, "7*8="))
    order = [list(e.numbers).index(n) for e in (one, other) for n in range(toys.LIMIT + 1)]
    mine, theirs = order[: toys.LIMIT + 1], order[toys.LIMIT + 1 :]
    np.testing.assert_allclose(one.constant[mine], other.constant[theirs], rtol=1e-5, atol=1e-5)
    for name in ("attention_bias", "mlp_bias"):
        a, b = getattr(one, name)[:, mine], getattr(other, name)[:, theirs]
        ratio = (a * b).sum() / max((b * b).sum(), 1e-30)
        np.testing.assert_allclose(a, ratio * b, atol=1e-4, err_msg=name)


def test_attention_sums_to_one_over_the_tokens_shown(live: LiveHooked) -> None:
    e = live.explain(PROMPT)
    assert e.attention.shape == (toys.LAYERS, toys.HEADS, len(e.reply.tokens))
    np.testing.assert_allclose(e.attention.sum(axis=-1), 1, rtol=1e-5)


def test_the_readout_is_direct_logits_as_a_matrix(live: LiveHooked) -> None:
    tokens = tokens_of(live.encoder.answers(np.array(NUMBERS)).tolist(), live.model)
    vectors = torch.randn(5, toys.WIDTH, generator=torch.Generator().manual_seed(0))
    expected = live.model.direct_logits(vectors)[:, tokens]
    torch.testing.assert_close(vectors @ readout(live.model, tokens), expected, rtol=1e-4, atol=1e-4)
