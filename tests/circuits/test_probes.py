"""Linear probes: what is planted is found, noise stays at the base rate, and sites do not disturb each other."""

from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from arithcirc.arithmetic.operators import ADD, OperandRange, legal_prompts
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.circuits import probes
from arithcirc.circuits.probes import (
    Probes,
    first_heuristics_layer,
    join_probes,
    layer_blocks,
    read_residuals,
    train_probes,
)
from arithcirc.components import PATCHED_POSITIONS
from arithcirc.errors import RequestError
from arithcirc.measure.answers import predictions
from arithcirc.models.bridge import BridgedModel

N, WIDTH, CLASSES = 600, 12, 7


def made(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels, and sites: each class at a corner of its own, the same scaled, weak, and pure noise."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (N,), generator=g)
    corners = 4 * torch.randn(CLASSES, WIDTH, generator=g)
    clear = corners[labels] + 0.3 * torch.randn(N, WIDTH, generator=g)
    weak = 0.1 * corners[labels] + torch.randn(N, WIDTH, generator=g)
    noise = torch.randn(N, WIDTH, generator=g)
    return torch.stack([clear, 1e4 * clear - 3e5, weak, noise]), labels


def train(features: Tensor, labels: Tensor, *, epochs: int = 30, seed: int = 3, **options: object) -> Probes:
    settings = {"n_classes": CLASSES, "learning_rate": 0.02, "batch": 64, "epochs": epochs} | options
    return train_probes(features, labels, generator=torch.Generator().manual_seed(seed), **settings)  # type: ignore[arg-type]


def test_planted_classes_are_read_and_noise_is_not() -> None:
    found = train(*made())
    assert found.n == 120
    clear, scaled, weak, noise = found.accuracy
    assert clear > 0.98
    assert scaled == pytest.approx(clear, abs=0.02), "features are standardised"
    assert found.base_rate < weak < clear
    assert noise < found.base_rate + 3 * (found.base_rate / found.n) ** 0.5


def test_shuffled_labels_are_read_at_the_base_rate() -> None:
    features, labels = made()
    shuffled = labels[torch.randperm(N, generator=torch.Generator().manual_seed(1))]
    found = train(features, shuffled)
    assert (found.accuracy < found.base_rate + 3 * (found.base_rate / found.n) ** 0.5).all()


def test_a_site_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = made()
    together = train(features, labels)
    monkeypatch.setattr(probes, "TRAINING_BYTES", 1)  # every site in a group of its own
    apart = train(features, labels)
    for name in ("correct", "epochs"):
        np.testing.assert_array_equal(getattr(together, name), getattr(apart, name))
    np.testing.assert_allclose(together.loss, apart.loss, rtol=1e-5)
    alone = train(features[2:3], labels)
    assert (alone.correct[0], alone.epochs[0]) == (together.correct[2], together.epochs[2])


def test_the_same_generator_gives_the_same_probes() -> None:
    first, again, other = (train(*made(), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.loss, again.loss)
    assert (first.loss != other.loss).all()


def test_stopping_keeps_the_weights_of_the_best_epoch() -> None:
    """Training no longer than to the kept epoch gives the same probe; going on would have been worse."""
    features, labels = made()
    stopped = train(features, labels, epochs=40)
    weak, noise = stopped.epochs[2:]
    assert noise < weak < 40
    short = train(features, labels, epochs=int(weak))
    assert (short.correct[2], short.epochs[2]) == (stopped.correct[2], weak)
    assert short.loss[2] == pytest.approx(stopped.loss[2], rel=1e-5)
    for epochs in range(1, int(weak)):
        assert train(features[2:3], labels, epochs=epochs).loss[0] > stopped.loss[2]


def test_agrees_with_autograd_and_torchs_adam() -> None:
    """The written-out gradient and step against a plain loop, on two epochs of full batches."""
    features, labels = made()
    ours = train(features[2:3], labels, epochs=2, batch=N)
    g = torch.Generator().manual_seed(3)
    order = torch.randperm(N, generator=g)
    test, stop, fit = order[:120], order[120:216], order[216:]
    x = features[2]
    x = (x - x[fit].mean(0)) / x[fit].std(0, correction=0)
    layer = torch.nn.Linear(WIDTH, CLASSES)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    adam = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(2):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(layer(x[fit]), labels[fit]).backward()
        adam.step()
    loss = torch.nn.functional.cross_entropy(layer(x[stop]), labels[stop]).item()
    assert ours.loss[0] == pytest.approx(loss, rel=1e-5)
    assert ours.correct[0] == (layer(x[test]).argmax(-1) == labels[test]).sum()


@pytest.mark.parametrize("epochs", [1, 9, 40])
def test_progress_counts_every_epoch_of_every_site(epochs: int) -> None:
    told: list[int] = []
    train(*made(), epochs=epochs, progress=told.append)
    assert sum(told) == 4 * epochs
    assert len(told) <= epochs


def test_too_few_examples_are_refused() -> None:
    features, labels = made()
    assert train(features[:, :10], labels[:10]).n == 2
    with pytest.raises(RequestError, match="9 examples are too few"):
        train(features[:, :9], labels[:9])


def test_constant_features_do_no_harm() -> None:
    features, labels = made()
    features[0, :, 3] = 5.0
    assert train(features, labels).accuracy[0] > 0.98


# -- residuals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [7, 100])
def test_residuals_are_those_after_each_layer(toy_model: BridgedModel, batch_size: int) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    prompts = legal_prompts(ADD, OperandRange(0, 5), encoder.limit)
    told: list[int] = []
    found, correct = read_residuals(toy_model, encoder, prompts, batch_size=batch_size, progress=told.append)
    assert sum(told) == len(prompts)
    run = toy_model.record(torch.from_numpy(encoder.encode(prompts)), parts=())
    whole = torch.stack([r[:, 1:] for r in run.resid[1:]]).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    assert len(found) == toy_model.info.n_layers * len(PATCHED_POSITIONS)
    torch.testing.assert_close(toy_model.unembed(found[-1]), run.logits, rtol=1e-4, atol=1e-4)
    right = predictions(toy_model, encoder, prompts, batch_size=50) == encoder.answers(prompts.answer)
    np.testing.assert_array_equal(correct.numpy(), right)


def test_layers_read_in_blocks_are_the_same_layers(toy_model: BridgedModel) -> None:
    """Also in batches cut down to one prompt by what a recorded run holds."""
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    prompts, info = legal_prompts(ADD, OperandRange(0, 3), encoder.limit), toy_model.info
    whole, _ = read_residuals(toy_model, encoder, prompts)
    assert layer_blocks(info, len(prompts), 4) == [range(info.n_layers)]
    blocks = layer_blocks(info, len(prompts), 4, held_bytes=2 * 4 * len(prompts) * info.d_model * 4)
    assert blocks == [range(i, i + 1) for i in range(info.n_layers)]
    with mock.patch.object(probes, "RECORD_BYTES", 1):
        parts = [read_residuals(toy_model, encoder, prompts, layers=layers)[0] for layers in blocks]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)


def test_probes_of_groups_of_sites_join() -> None:
    features, labels = made()
    one, two = (train(part, labels) for part in (features[:1], features[1:]))
    joined, together = join_probes([one, two]), train(features, labels)
    assert joined.correct.tolist() == together.correct.tolist()
    assert joined.epochs.tolist() == together.epochs.tolist()
    np.testing.assert_allclose(joined.loss, together.loss, rtol=1e-4)
    assert (joined.n, joined.base_rate) == (together.n, together.base_rate)


# -- the first layer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "base_rate", "parallel", "layer"),
    [
        ([10, 190, 560, 750, 956, 974], 0.01, False, 2),
        ([10, 190, 560, 750, 956, 974], 0.01, True, 2),
        ([620, 750, 850, 900, 910, 950], 0.19, False, 0),
        ([620, 750, 850, 900, 910, 950], 0.19, True, 1),
        ([900, 100, 500], 0.05, True, 2),
        ([900], 0.05, True, 0),
        ([500, 505, 510], 0.5, False, 0),
    ],
)
def test_the_first_layer_is_a_third_of_the_way_up(
    correct: list[int], base_rate: float, parallel: bool, layer: int
) -> None:
    found = first_heuristics_layer(np.array(correct), 1000, base_rate, parallel=parallel)
    assert (found.layer, found.accuracy) == (layer, correct[layer] / 1000)
    threshold = base_rate + (found.best - base_rate) / 3
    assert ("is taken" in found.rule) == (max(correct) < 530)
    assert found.accuracy >= threshold or "is taken" in found.rule
    assert f"{found.best:.3f}" in found.rule
