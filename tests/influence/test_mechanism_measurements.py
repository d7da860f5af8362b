"""A mechanism's row gives the gradient of the mechanism, in every architecture, and the reading is the logit's."""

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from arithcirc.components import Neuron
from arithcirc.errors import ArithcircError, ModelError, NumericsError, RequestError
from arithcirc.influence.engine import Engine, Settings, linear_modules
from arithcirc.influence.mechanisms.measurements import (
    mechanism_measurement,
    mechanism_rows,
    prepare,
    values,
)
from arithcirc.influence.mechanisms.reading import answer_directions, down_projections
from arithcirc.influence.mechanisms.scoring import Scorer
from arithcirc.influence.mechanisms.values import Mechanism, contrast
from arithcirc.influence.rows import Row, Rows, collate, summed_nll

VOCAB, WIDTH, HIDDEN = 40, 16, 32
SMALL = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0}
USUAL = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": HIDDEN}
HIGH, ABOVE = Neuron(0, HIDDEN), Neuron(7, 0)
GROUPED = {"num_key_value_heads": 2, "max_position_embeddings": 32}


def _neox():
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, **USUAL, max_position_embeddings=32))


def _llama():
    return LlamaForCausalLM(LlamaConfig(**SMALL, **USUAL, **GROUPED))


def _gemma():
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, **USUAL, **GROUPED, head_dim=8, pad_token_id=0))


def _gptj():
    return GPTJForCausalLM(
        GPTJConfig(**SMALL, n_embd=WIDTH, n_layer=2, n_head=2, n_inner=HIDDEN, n_positions=32, rotary_dim=4)
    )


def _drawn(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build().eval()
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return network


@pytest.fixture(scope="module", params=[_neox, _llama, _gemma, _gptj], ids=lambda build: build.__name__[1:])
def network(request):
    return _drawn(request.param)


@pytest.fixture(scope="module")
def neox():
    return _drawn(_neox)


def mechanism(name, measure, neurons, inside, outside, *, seed=0, **more):
    rng = np.random.default_rng([seed, len(name)])
    count = inside + outside
    return Mechanism(
        name, "neuron" if measure == "activation" else "heuristic", measure, "+", "op1 = 0 mod 2", "modulo", neurons,
        rng.integers(0, VOCAB, (count, 5)), rng.integers(0, VOCAB, count), contrast(inside, outside), **more,
    )  # fmt: skip


MECHANISMS = (
    mechanism("low", "activation", (Neuron(0, 3),), 4, 6),
    mechanism("upper", "activation", (Neuron(1, 7),), 3, 3, sign=-1.0),
    mechanism("several", "contribution", (Neuron(0, 2), Neuron(0, 5), Neuron(1, 1)), 5, 4),
)


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(5)
    return [Row(tuple(rng.integers(0, VOCAB, n).tolist())) for n in (6, 9, 11, 7, 8)]


def slow_value(network, mechanism):
    """One prompt after the other, without regrouping; differentiable."""
    down = down_projections(network, linear_modules(network))
    total = torch.zeros(())
    for tokens, answer, weight in zip(mechanism.tokens, mechanism.answers, mechanism.weight, strict=True):
        prompt, seen = torch.tensor(tokens)[None], {}

        def keep(layer, value, seen=seen):
            seen[layer] = value

        directions = answer_directions(network, prompt, torch.tensor([answer]), down)
        hooks = [
            network.get_submodule(name).register_forward_pre_hook(
                lambda _, args, layer=layer, keep=keep: keep(layer, args[0])
            )
            for layer, name in down.items()
        ]
        network(input_ids=prompt)
        for hook in hooks:
            hook.remove()
        for neuron in mechanism.neurons:
            part = seen[neuron.layer][0, -1, neuron.index]
            if mechanism.measure == "contribution":
                written = network.get_submodule(down[neuron.layer]).weight[:, neuron.index]
                part = part * (written @ directions[neuron.layer][0])
            total = total + float(weight) * part
    return total


def gradient(network, value):
    weights = [p for name in linear_modules(network) for p in network.get_submodule(name).parameters()]
    grads = torch.autograd.grad(value, weights, allow_unused=True)
    return torch.cat(
        [torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(weights, grads, strict=True)]
    )


def document_gradient(network, row):
    batch = collate([row])
    return gradient(network, summed_nll(network(input_ids=batch["input_ids"]).logits, batch["labels"], batch["weight"]))


def dots(network, mechanisms, documents, folder, *, batch=2):
    prepared = prepare(network, linear_modules(network), mechanisms)
    settings = Settings(strategy="identity", query_batch_size=batch)
    engine = Engine(
        network, linear_modules(network), folder / "none", settings=settings,
        measurement=mechanism_measurement(prepared),
    )  # fmt: skip
    return engine.scores(mechanism_rows(prepared), Rows(documents)).numpy()


def test_values_and_gradients_are_those_of_one_prompt_at_a_time(network, documents, tmp_path):
    prepared = prepare(network, linear_modules(network), MECHANISMS)
    found = dots(network, MECHANISMS, documents, tmp_path)
    of_documents = torch.stack([document_gradient(network, row) for row in documents])
    for i, mechanism in enumerate(MECHANISMS):
        slow = slow_value(network, mechanism)
        assert values(network, prepared)[i] == pytest.approx(slow.item(), rel=1e-4, abs=1e-7)
        expected = -mechanism.sign * (of_documents @ gradient(network, slow)).detach().numpy()
        assert np.abs(found[i] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_row_of_many_prompts_equals_rows_of_one_summed(neox, documents, tmp_path):
    split = [
        Mechanism(
            f"{m.id} {i}", m.what, m.measure, m.operator, m.heuristic, m.family, m.neurons,
            m.tokens[i : i + 1], m.answers[i : i + 1], m.weight[i : i + 1], m.sign,
        )
        for m in MECHANISMS
        for i in range(len(m.tokens))
    ]  # fmt: skip
    together, apart = dots(neox, MECHANISMS, documents, tmp_path), dots(neox, split, documents, tmp_path, batch=7)
    start = 0
    for i, m in enumerate(MECHANISMS):
        summed = apart[start : start + len(m.tokens)].sum(0)
        start += len(m.tokens)
        assert np.abs(together[i] - summed).max() <= 1e-5 * np.abs(summed).max()


def test_batches_of_mechanisms_do_not_matter(neox, documents, tmp_path):
    one, three = (dots(neox, MECHANISMS, documents, tmp_path, batch=n) for n in (1, 3))
    np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-8)


NORMS = {
    "GPTNeoX": "gpt_neox.final_layer_norm",
    "Llama": "model.norm",
    "Gemma2": "model.norm",
    "GPTJ": "transformer.ln_f",
}


def seen_by(network, tokens, names):
    """Inputs of modules at the last position, and the logits there, centred, before a soft-cap."""
    kept = {}
    hooks = [
        network.get_submodule(n).register_forward_pre_hook(lambda _, args, n=n: kept.__setitem__(n, args[0][:, -1]))
        for n in names
    ]
    with torch.no_grad():
        logits = network(input_ids=tokens).logits[:, -1]
    for hook in hooks:
        hook.remove()
    if cap := getattr(network.config, "final_logit_softcapping", None):
        logits = cap * torch.atanh(logits / cap)
    return kept, logits - logits.mean(-1, keepdim=True)


def test_directions_read_the_answers_logit(network):
    tokens, answers = torch.tensor(MECHANISMS[2].tokens), torch.tensor(MECHANISMS[2].answers)
    norm = NORMS[type(network).__name__.removesuffix("ForCausalLM")]
    kept, logits = seen_by(network, tokens, [norm])
    with torch.no_grad():
        head = network.get_output_embeddings()
        constant = head(network.get_submodule(norm)(torch.zeros(1, WIDTH)))[0]
    wanted = logits.gather(1, answers[:, None])[:, 0] - (constant - constant.mean())[answers]
    # a layer whose output no norm reads, whatever else it is: its direction is that of the final residual
    found = answer_directions(network, tokens, answers, {0: linear_modules(network)[0]})[0]
    if head.bias is not None:
        assert head.bias.abs().max() > 0  # GPT-J: the bias is part of the constant
    torch.testing.assert_close((kept[norm] * found).sum(-1), wanted, rtol=1e-3, atol=1e-4)


def test_a_norm_behind_the_mlp_is_held_fixed():
    network = _drawn(_gemma)
    tokens, answers = torch.tensor(MECHANISMS[2].tokens), torch.tensor(MECHANISMS[2].answers)
    down = down_projections(network, linear_modules(network))
    behind = [f"model.layers.{layer}.post_feedforward_layernorm" for layer in down]
    kept, _ = seen_by(network, tokens, behind)
    final = answer_directions(network, tokens, answers, {0: linear_modules(network)[0]})[0]
    directions = answer_directions(network, tokens, answers, down)
    for layer, name in enumerate(behind):
        with torch.no_grad():
            written = network.get_submodule(name)(kept[name])
        torch.testing.assert_close((kept[name] * directions[layer]).sum(-1), (written * final).sum(-1))


def test_norms_are_those_of_gradients(neox, documents, tmp_path):
    prepared = prepare(neox, linear_modules(neox), MECHANISMS)
    scorer = Scorer(neox, linear_modules(neox), prepared, tmp_path, settings=Settings(batch_size=2))
    for norm, m in zip(scorer.norms(), MECHANISMS, strict=True):
        assert norm == pytest.approx(gradient(neox, slow_value(neox, m)).norm().item(), rel=1e-4)
    expected = [document_gradient(neox, row).norm().item() for row in documents]
    np.testing.assert_allclose(scorer.document_norms(documents), expected, rtol=1e-4)


def test_the_network_is_left_as_found(neox, documents, tmp_path):
    before = {name: p.clone() for name, p in neox.state_dict().items()}
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in neox.modules())
    dots(neox, MECHANISMS, documents, tmp_path)
    assert all(torch.equal(before[name], p) for name, p in neox.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in neox.parameters())
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in neox.modules()) == hooks


@pytest.mark.parametrize("number", range(len(MECHANISMS)))
def test_a_small_step_on_a_document_changes_the_value_as_predicted(documents, tmp_path, number):
    """Identity curvature is the first order of one step of gradient descent: value' = value + rate x score."""
    network, chosen = _drawn(_neox).double(), MECHANISMS[number]
    tracked = linear_modules(network)
    prepared = prepare(network, tracked, [chosen])
    score = mechanism_scores_of(network, tracked, prepared, documents, tmp_path)
    weights = [p for name in tracked for p in network.get_submodule(name).parameters()]
    for j, row in enumerate(documents[:3]):
        step = document_gradient(network, row).split([p.numel() for p in weights])
        # the answer's direction is held fixed: that of the unmoved network
        rate, moved = 1e-4, []
        for sign in (1, -1):
            with torch.no_grad():
                for p, g in zip(weights, step, strict=True):
                    p.sub_(sign * rate * g.view_as(p))
            moved.append(values(network, prepared)[0])
            with torch.no_grad():
                for p, g in zip(weights, step, strict=True):
                    p.add_(sign * rate * g.view_as(p))
        change = chosen.sign * (moved[0] - moved[1]) / (2 * rate)
        assert change == pytest.approx(score[j], rel=1e-3, abs=1e-3 * float(np.abs(score).max()))


def mechanism_scores_of(network, tracked, prepared, documents, folder):
    engine = Engine(
        network, tracked, folder / "none", settings=Settings(strategy="identity"),
        measurement=mechanism_measurement(prepared),
    )  # fmt: skip
    return engine.scores(mechanism_rows(prepared), Rows(documents)).numpy()[0]


def test_scores_by_fitted_factors_and_without(neox, documents, tmp_path):
    tracked = linear_modules(neox)
    prepared = prepare(neox, tracked, MECHANISMS)
    settings = Settings(batch_size=2)
    Engine(neox, tracked, tmp_path / "factors", settings=settings).fit(Rows(documents))
    found = Scorer(neox, tracked, prepared, tmp_path / "factors", settings=settings).scores(documents)
    np.testing.assert_allclose(found["dot"], dots(neox, MECHANISMS, documents, tmp_path), rtol=1e-4, atol=1e-8)
    assert found["ekfac"].shape == (3, 5)
    assert np.corrcoef(found["ekfac"].ravel(), found["dot"].ravel())[0, 1] > 0


def test_what_cannot_be_measured_is_refused_in_one_line(neox):
    tracked = linear_modules(neox)
    for build, kind, says in (
        (lambda: mechanism("x", "activation", (Neuron(0, 1), Neuron(0, 2)), 1, 1), RequestError, "no common unit"),
        (lambda: mechanism("x", "loss", (Neuron(0, 1),), 1, 1), RequestError, "not known"),
        (lambda: mechanism("x", "activation", (), 1, 1), RequestError, "no neurons"),
        (lambda: prepare(neox, tracked, []), RequestError, "no mechanism"),
        (
            lambda: prepare(neox, tracked, [mechanism("x", "activation", (Neuron(0, HIDDEN),), 1, 1)]),
            ModelError,
            "L0N32",
        ),
        (lambda: prepare(neox, tracked, [mechanism("x", "activation", (Neuron(7, 0),), 1, 1)]), ModelError, "L7N0"),
        (lambda: down_projections(neox, tracked[:1]), ModelError, "does not write"),
    ):
        with pytest.raises(kind, match=says) as caught:
            build()
        assert isinstance(caught.value, ArithcircError)
        assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused():
    network = _drawn(_neox)
    prepared = prepare(network, linear_modules(network), MECHANISMS[:1])
    with torch.no_grad():
        network.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.fill_(torch.nan)
    with pytest.raises(NumericsError, match="not finite"):
        values(network, prepared)
