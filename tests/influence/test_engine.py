"""The engine against autograd and against factors applied by hand; sign, nats, norms, masks, precision."""

import copy
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from arithcirc.influence.engine import Engine, Settings, completion_nll, linear_modules
from arithcirc.influence.rows import (
    Row,
    Rows,
    by_length,
    collate,
    collate_drawing,
    restored,
    sampled_labels,
    summed_nll,
)

VOCAB, DOCUMENTS, QUERIES = 24, 18, 5


def network(width: int = 16, seed: int = 0) -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=2 * width,
        max_position_embeddings=16, initializer_range=0.3, attention_dropout=0.0, hidden_dropout=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPTNeoXForCausalLM(config).eval()


def row_of(draw: np.random.Generator, *, start: int = 1) -> Row:
    return Row(tuple(draw.integers(VOCAB, size=draw.integers(start + 2, 11)).tolist()), start=start)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def tracked(model):
    return linear_modules(model)


@pytest.fixture(scope="module")
def documents():
    draw = np.random.default_rng(1)
    return Rows([row_of(draw) for _ in range(DOCUMENTS)])


@pytest.fixture(scope="module")
def queries():
    draw = np.random.default_rng(2)
    return Rows([row_of(draw, start=4) for _ in range(QUERIES)])


@pytest.fixture(scope="module")
def engine(model, tracked, documents, tmp_path_factory):
    """EK-FAC, fitted."""
    made = Engine(model, tracked, tmp_path_factory.mktemp("ekfac"), settings=Settings(batch_size=4))
    made.fit(documents)
    return made


@pytest.fixture(scope="module")
def plain(model, tracked, tmp_path_factory):
    return Engine(model, tracked, tmp_path_factory.mktemp("plain"), settings=Settings("identity", batch_size=4))


@pytest.fixture(scope="module")
def found(engine, queries, documents):
    return engine.scores(queries, documents)


def gradients(model, tracked, row: Row) -> dict[str, torch.Tensor]:
    """Of one row's weighted NLL, by autograd: a layer's weight gradient with its bias's, if any, as the last column."""
    batch = collate([row])
    parts = {name: list(model.get_submodule(name).parameters()) for name in tracked}
    wanted = [parameter for own in parts.values() for parameter in own]
    for parameter in wanted:
        parameter.requires_grad_(True)
    with torch.enable_grad():
        loss = summed_nll(model(input_ids=batch["input_ids"]).logits, batch["labels"], batch["weight"])
        flat = iter(torch.autograd.grad(loss, wanted))
    return {name: torch.cat([next(flat).view(len(p), -1) for p in own], 1) for name, own in parts.items()}


def close(a, b, tolerance: float) -> bool:
    return (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.fixture(scope="module")
def by_autograd(model, tracked, queries, documents):
    return [[gradients(model, tracked, row) for row in rows] for rows in (queries, documents)]


def test_identity_scores_equal_autograd(plain, queries, documents, by_autograd):
    of_queries, of_documents = by_autograd
    expected = torch.tensor([[sum((q[n] * d[n]).sum() for n in q) for d in of_documents] for q in of_queries])
    assert close(plain.scores(queries, documents), expected, 1e-5)


def test_norms_and_nats_equal_autograd(model, plain, engine, queries, documents, by_autograd):
    norms = [torch.tensor([math.sqrt(sum((g**2).sum() for g in one.values())) for one in side]) for side in by_autograd]
    nll = torch.tensor([
        -sum(model(input_ids=torch.tensor([row.tokens])).logits[0].log_softmax(-1)[t - 1, row.tokens[t]].item()
             for t in range(1, len(row.tokens)))
        for row in documents
    ])  # fmt: skip
    for one in (plain, engine):
        measures = one.measures(documents)
        assert close(measures.norm, norms[1], 1e-5)
        assert close(measures.nll, nll, 1e-5)
        assert close(one.query_norms(queries), norms[0], 1e-5)
    assert close(plain.self_scores(documents), norms[1] ** 2, 1e-5)


def at_work(model, tracked, documents, phase: int):
    """Each document alone: inputs (with the bias's one) and output gradients of every layer, labels sampled."""
    for number, row in enumerate(documents):
        batch, kept = collate_drawing([(number, row)], seed=(0, phase)), {}
        handles = []
        for name in tracked:

            def keep(module, inputs, output, name=name, kept=kept):
                output.retain_grad()
                kept[name] = (inputs[0].detach()[0], output)

            handles.append(model.get_submodule(name).register_forward_hook(keep))
        logits = model(input_ids=batch["input_ids"]).logits
        labels = sampled_labels(logits, batch["labels"], batch["uniform"])
        summed_nll(logits, labels, batch["weight"]).backward()
        for handle in handles:
            handle.remove()
        model.zero_grad()
        yield {n: (torch.cat([a, torch.ones(len(a), 1)], 1).double(), o.grad[0].double()) for n, (a, o) in kept.items()}


def files(engine: Engine, name: str) -> dict[str, torch.Tensor]:
    return load_file(engine.factors.path / f"{name}.safetensors")


def test_ekfac_equals_factors_applied_by_hand(model, tracked, engine, documents, by_autograd, found):
    inputs, outputs = files(engine, "activation_eigenvectors"), files(engine, "gradient_eigenvectors")
    expected = torch.zeros(QUERIES, DOCUMENTS, dtype=torch.double)
    selves = torch.zeros(DOCUMENTS, dtype=torch.double)
    passes = [list(at_work(model, tracked, documents, phase)) for phase in (0, 1)]
    tokens = sum(len(row.tokens) for row in documents)
    for name in tracked:
        qa, qs = inputs[name].double(), outputs[name].double()
        for basis, which, values in ((qa, 0, "activation_eigenvalues"), (qs, 1, "gradient_eigenvalues")):
            covariance = sum(one[name][which].T @ one[name][which] for one in passes[0]) / tokens
            assert close(basis.T @ covariance @ basis, torch.diag(files(engine, values)[name].double()), 1e-4)
            assert close(basis.T @ basis, torch.eye(len(basis), dtype=torch.double), 1e-5)
        corrected = sum((qs.T @ (g.T @ a) @ qa) ** 2 for a, g in (one[name] for one in passes[1])) / DOCUMENTS
        assert close(files(engine, "lambda_matrix")[name] / DOCUMENTS, corrected, 1e-4)
        damped = corrected + 0.1 * corrected.mean()  # what damping None stands for
        turned = [[qs.T @ one[name].double() @ qa for one in side] for side in by_autograd]
        expected += torch.tensor([[(q / damped * d).sum() for d in turned[1]] for q in turned[0]])
        selves += torch.tensor([(d / damped * d).sum() for d in turned[1]])
    assert close(found, expected, 1e-4)
    assert close(engine.self_scores(documents), selves, 1e-4)


@pytest.mark.parametrize("strategy", ["kfac", "diagonal"])
def test_the_other_strategies_equal_their_formulas(
    model, tracked, engine, queries, documents, by_autograd, tmp_path, strategy
):
    other = Engine(model, tracked, tmp_path, settings=Settings(strategy, batch_size=5))
    other.fit(documents)
    expected = torch.zeros(QUERIES, DOCUMENTS, dtype=torch.double)
    lambda_pass = list(at_work(model, tracked, documents, 1))
    for name in tracked:
        if strategy == "kfac":
            qa, qs = (files(engine, f"{side}_eigenvectors")[name].double() for side in ("activation", "gradient"))
            values = torch.outer(
                *(files(engine, f"{side}_eigenvalues")[name].double() for side in ("gradient", "activation"))
            )
        else:
            values = sum((g.T @ a) ** 2 for a, g in (one[name] for one in lambda_pass)) / DOCUMENTS
            qa, qs = (torch.eye(n, dtype=torch.double) for n in reversed(values.shape))
        damped = values + 0.1 * values.mean()
        turned = [[qs.T @ one[name].double() @ qa for one in side] for side in by_autograd]
        expected += torch.tensor([[(q / damped * d).sum() for d in turned[1]] for q in turned[0]])
    assert close(other.scores(queries, documents), expected, 1e-4)


def test_a_positive_document_raises_the_completion(model, plain, tracked, queries, documents):
    scores = plain.scores(queries, documents)
    query = int(scores.abs().max(1).values.argmax())
    for document in (int(scores[query].argmax()), int(scores[query].argmin())):
        step = gradients(model, tracked, documents[document])
        before = completion_nll(model, collate([queries[query]])).item()
        moved = network()
        with torch.no_grad():
            for name, gradient in step.items():
                moved.get_submodule(name).weight -= 1e-4 * gradient[:, :-1]
                moved.get_submodule(name).bias -= 1e-4 * gradient[:, -1]
        raised = before - completion_nll(moved, collate([queries[query]])).item()
        assert raised * scores[query, document] > 0
        assert raised == pytest.approx(1e-4 * scores[query, document].item(), rel=0.05)


def test_batches_and_padding_change_nothing(model, tracked, engine, queries, documents, found, tmp_path):
    alone = Engine(model, tracked, tmp_path, settings=Settings(batch_size=1, query_batch_size=2))
    alone.fit(documents)  # no row is ever padded
    for name in ("activation_covariance", "gradient_covariance"):
        for layer, value in files(alone, name).items():
            assert close(value, files(engine, name)[layer], 1e-5)
    assert close(alone.scores(queries, documents), found, 1e-4)
    assert close(engine.scores(Rows(queries.rows[2:3]), Rows(documents.rows[::-1])), found[2:3].flip(1), 1e-5)
    assert engine.scores(Rows([]), documents).shape == (0, DOCUMENTS)


def test_scores_are_linear_in_the_weight(engine, queries, documents, found):
    weighted = Rows([Row(row.tokens, row.start, weight=-2.5) for row in queries])
    assert close(engine.scores(weighted, documents), -2.5 * found, 1e-5)


def test_a_measurement_of_ones_own(model, tracked, queries, documents, tmp_path, by_autograd):
    """A logit instead of a loss: the same gradients as by autograd."""

    def first_logit(network, batch):
        logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return (logits[:, 0, 3] * batch["weight"]).sum()

    asked = Engine(model, tracked, tmp_path, settings=Settings("identity"), measurement=first_logit)
    scores = asked.scores(queries, documents)
    layer = model.get_submodule(tracked[0])
    wanted = [p for name in tracked for p in (model.get_submodule(name).weight, model.get_submodule(name).bias)]
    with torch.enable_grad():
        flat = torch.autograd.grad(model(input_ids=torch.tensor([queries[0].tokens])).logits[0, 0, 3], wanted)
    own = {n: torch.cat([w, b[:, None]], 1) for n, w, b in zip(tracked, flat[::2], flat[1::2], strict=True)}
    expected = torch.tensor([sum((own[n] * d[n]).sum() for n in own) for d in by_autograd[1]])
    assert layer.weight.shape[1] + 1 == own[tracked[0]].shape[1]
    assert close(scores[0], expected, 1e-5)


@pytest.mark.parametrize("kind", ["neox with attention", "llama"])
def test_other_layers_equal_autograd(model, documents, tmp_path, kind):
    """Fused query-key-value layers, and gated MLPs without biases."""
    small = {"vocab_size": VOCAB, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    llama = LlamaForCausalLM(LlamaConfig(**small, num_attention_heads=2)).eval()
    network = llama if kind == "llama" else model
    layers = linear_modules(network, kinds=("mlp", "attention"))
    engine = Engine(network, layers, tmp_path, settings=Settings("identity", batch_size=7))
    expected = [gradients(network, layers, row) for row in documents.rows[:3]]
    dots = torch.tensor([[sum((a[n] * b[n]).sum() for n in a) for b in expected] for a in expected])
    few = Rows(documents.rows[:3])
    assert close(engine.scores(few, few), dots, 1e-5)
    assert close(engine.self_scores(few), dots.diagonal(), 1e-5)


def test_the_damping_left_out_is_a_tenth_of_the_mean(model, tracked, engine, queries, documents, found):
    large = Engine(model, tracked, engine.folder, settings=Settings(damping=1e6, batch_size=4))
    plain = Engine(model, tracked, engine.folder / "none", settings=Settings("identity", batch_size=4))
    assert close(large.scores(queries, documents) * 1e6, plain.scores(queries, documents), 1e-3)
    assert not close(
        found / found.std(), plain.scores(queries, documents) / plain.scores(queries, documents).std(), 0.05
    )


def test_the_ranks_of_queries_can_be_cut(model, tracked, engine, queries, documents, found):
    whole = Engine(model, tracked, engine.folder, settings=Settings(low_rank=15, batch_size=4))
    torch.manual_seed(5)
    scores = whole.scores(queries, documents)
    torch.manual_seed(6)
    assert torch.equal(scores, whole.scores(queries, documents))  # the factorisation's own draws are seeded
    assert torch.corrcoef(torch.stack([scores.flatten(), found.flatten()]))[0, 1] > 0.99
    thin = Engine(model, tracked, engine.folder, settings=Settings(low_rank=1, batch_size=4)).scores(queries, documents)
    assert not close(thin, found, 1e-2)


def test_half_precision_passes_come_close(model, tracked, queries, documents, found, tmp_path):
    half = Engine(model, tracked, tmp_path, settings=Settings(amp="bfloat16"))
    half.fit(documents)
    scores = half.scores(queries, documents)
    assert torch.corrcoef(torch.stack([scores.flatten(), found.flatten()]))[0, 1] > 0.9
    assert not torch.equal(scores, found)
    whole = Engine(copy.deepcopy(model).to(torch.bfloat16), tracked, tmp_path / "weights")
    whole.fit(documents)
    scores = whole.scores(queries, documents)
    assert torch.corrcoef(torch.stack([scores.flatten(), found.flatten()]))[0, 1] > 0.9


def test_labels_are_drawn_from_the_model():
    logits = torch.tensor([0.1, 0.2, 0.7]).log().expand(4, 5000, 3)
    labels = torch.zeros(4, 5000, dtype=torch.long)
    labels[:, 2500:] = -100
    uniform = torch.stack([collate_drawing([(n, Row((0,) * 5000))], seed=(0, 0))["uniform"][0] for n in range(4)])
    drawn = sampled_labels(logits, labels, uniform)
    assert (drawn[:, 2500:] == -100).all()
    shares = torch.bincount(drawn[:, 1:2500].flatten(), minlength=3) / drawn[:, 1:2500].numel()
    assert torch.allclose(shares, torch.tensor([0.1, 0.2, 0.7]), atol=0.015)


def test_orders_are_undone():
    rows = Rows([Row((0,) * n) for n in (3, 1, 4, 1, 5)])
    assert [len(rows[i].tokens) for i in by_length(rows)] == [5, 4, 3, 1, 1]
    assert [len(rows[i].tokens) for i in by_length(rows, parts=2)] == [5, 3, 1, 4, 1]
    order = by_length(rows, parts=2)
    assert torch.equal(restored(torch.tensor(order), order, dim=0), torch.arange(5))
