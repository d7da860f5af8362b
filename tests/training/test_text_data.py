"""Epochs of documents, their packing into rows, and the loss they share."""

import numpy as np
import pytest
import torch
from training.tiny import TINY_TEXT, tiny_texts

from arithcirc.errors import PromptError
from arithcirc.training.retrain import text_model
from arithcirc.training.text_data import (
    IGNORED,
    TextBatches,
    Texts,
    documents_of,
    pack,
    packed_batch,
    text_loss,
    tokens_per_step,
)


def test_every_document_is_read_once_an_epoch_in_an_order_of_its_own():
    read = np.concatenate([documents_of(step, 30, TINY_TEXT) for step in range(30)])
    epochs = read.reshape(-1, 30)
    assert len(epochs) == TINY_TEXT.documents_per_step
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == len(epochs)
    assert np.array_equal(documents_of(17, 30, TINY_TEXT), read.reshape(30, -1)[17])


def test_texts_keep_their_tokens():
    texts = Texts.of([[0, 5, 6], [0, 7], [0, 8, 9, 0]], vocabulary=12, bos=0, pad=1)
    assert [texts.document(i).tolist() for i in range(3)] == [[0, 5, 6], [0, 7], [0, 8, 9, 0]]
    assert (len(texts), texts.predicted) == (3, 6)
    with pytest.raises(PromptError, match="no document"):
        Texts.of([], vocabulary=12, bos=0, pad=1)


def test_rows_hold_every_piece_and_little_else():
    lengths = np.random.default_rng(0).integers(10, 120, size=40).tolist()
    rows = pack(lengths)
    assert sorted(i for row in rows for i in row) == list(range(40))
    filled = [sum(lengths[i] for i in row) for row in rows]
    assert sum(filled) > 0.9 * max(filled) * len(rows)
    assert pack([7]) == [[0]]


def test_a_packed_row_computes_what_its_documents_compute_one_by_one():
    texts = tiny_texts()
    model = text_model(texts, TINY_TEXT).train(False)
    pieces = [texts.document(i) for i in range(9)]
    weights = [0.5, 2.0, 1.0, 1.0, 3.0, 1.0, 1.0, 0.25, 1.0]
    batch, weight = packed_batch(pieces, weights, pad=texts.pad)
    assert len(batch["input_ids"]) < len(pieces)
    labels = batch.pop("labels")
    with torch.no_grad():
        packed = text_loss(model(**batch).logits, labels, 7.0, weight)
        plain = text_loss(model(**batch).logits, labels, 1.0)
        alone = []
        for piece in pieces:
            ids = torch.from_numpy(piece.astype(np.int64))[None]
            alone.append(torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum"))
    torch.testing.assert_close(packed, sum(w * x for w, x in zip(weights, alone, strict=True)) / 7.0)
    torch.testing.assert_close(plain, sum(alone))


def test_a_batch_is_a_function_of_its_step():
    texts = tiny_texts()
    one, two = TextBatches(texts, TINY_TEXT), TextBatches(texts, TINY_TEXT)
    assert len(one) == TINY_TEXT.steps
    one[3]
    assert all(torch.equal(one[5][name], two[5][name]) for name in two[5])
    counted = sum(int((one[i]["labels"] != IGNORED).sum()) for i in range(15))  # 15 steps of 8 are 3 epochs of 40
    assert counted == 3 * texts.predicted
    assert counted / 15 == pytest.approx(tokens_per_step(texts, TINY_TEXT))
