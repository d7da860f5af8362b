"""Training in memory: weights of documents mean what they say, and a document of weight 0 is not read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training.tiny import TINY_TEXT, tiny_texts

from arithcirc.errors import NumericsError, RequestError
from arithcirc.training.retrain import retrain, text_model
from arithcirc.training.text_data import Texts


@pytest.fixture(scope="module")
def texts():
    return tiny_texts()


@pytest.fixture(scope="module")
def whole(texts):
    return retrain(texts, TINY_TEXT)


def _equal(one, two):
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_weights_of_one_change_nothing_and_the_global_generator_is_left_alone(texts, whole):
    before = torch.random.get_rng_state()
    again = retrain(texts, TINY_TEXT, weights=np.ones(len(texts)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert _equal(again, whole)
    assert not again.training
    assert not _equal(whole, text_model(texts, TINY_TEXT))


def test_a_document_left_out_is_not_read(texts, whole):
    kept = np.arange(len(texts)) % 2 == 0
    pieces = [texts.document(i).tolist() for i in range(len(texts))]
    pieces = [piece if kept[i] else [3] * len(piece) for i, piece in enumerate(pieces)]
    other = Texts.of(pieces, vocabulary=texts.vocabulary, bos=texts.bos, pad=texts.pad)
    half = retrain(texts, TINY_TEXT, weights=kept)
    assert _equal(half, retrain(other, TINY_TEXT, weights=kept))
    assert not _equal(half, whole)
    assert not _equal(half, retrain(other, TINY_TEXT))


def test_training_lowers_the_loss_of_what_is_read_and_not_of_what_is_left_out(texts):
    kept = np.arange(len(texts)) < 30
    model = retrain(texts, replace(TINY_TEXT, learning_rate=1e-2), weights=kept, steps=80)
    losses = []
    for number in range(len(texts)):
        ids = torch.from_numpy(texts.document(number).astype(np.int64))[None]
        with torch.no_grad():
            losses.append(float(model(ids, labels=ids).loss))
    assert np.mean(losses[:30]) < 0.7 * np.mean(losses[30:])


def test_seed_and_steps_replace_the_recipes(texts, whole):
    seen = []
    short = retrain(texts, TINY_TEXT, seed=5, steps=2, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]
    assert not _equal(short, retrain(texts, TINY_TEXT, steps=2))


@pytest.mark.parametrize("weights", [np.ones(3), -np.ones(40), np.full(40, np.nan)])
def test_weights_that_do_not_fit(texts, weights):
    with pytest.raises(RequestError, match="for each of 40 documents"):
        retrain(texts, TINY_TEXT, weights=weights)


def test_a_training_that_diverges_stops_with_a_reason(texts):
    with pytest.raises(NumericsError, match="lower"):
        retrain(texts, replace(TINY_TEXT, learning_rate=1e30, warmup_steps=0))
