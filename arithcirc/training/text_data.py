"""Texts as training reads them: every document once per epoch, whole documents packed into rows, nothing padded much.

Documents stand in an endless sequence of epochs, each a permutation by (seed, epoch); step i reads the next
`documents_per_step` of it, across the end of an epoch if need be. Its documents are packed into rows of nearly
equal length, each at positions of its own from 0 and seeing itself alone, so a row computes what its documents
compute one by one. Batch i is a pure function of (recipe, texts, i).

The loss of a step is the sum of next-token NLL over its documents, divided by the mean of that number of tokens over
all steps: a constant, so that every token of every document weighs the same, as influence functions assume.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from arithcirc.errors import PromptError
from arithcirc.training.course import Batch
from arithcirc.training.text_recipe import TextRecipe

IGNORED = -100


@dataclass(frozen=True)
class Texts:
    """Documents as token ids, one after the other: document i is `ids[ends[i - 1] : ends[i]]`, its BOS first.

    `vocabulary` is the number of tokens there are, `bos` also ends a text, `pad` fills rows.
    """

    ids: Int[np.ndarray, "token"]
    ends: Int[np.ndarray, "document"]
    vocabulary: int
    bos: int
    pad: int

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], *, vocabulary: int, bos: int, pad: int) -> "Texts":
        """Collect documents, 4 bytes a token. Raises PromptError when there is none."""
        ids, ends = array("i"), array("q")
        for row in rows:
            ids.extend(row)
            ends.append(len(ids))
        if not ends:
            raise PromptError("there is no document to train on: give a corpus with at least one text")
        return cls(np.array(ids, dtype=np.int32), np.array(ends, dtype=np.int64), vocabulary, bos, pad)

    def __len__(self) -> int:
        return len(self.ends)

    def document(self, number: int) -> Int[np.ndarray, "token"]:
        """The tokens of one document."""
        return self.ids[self.ends[number - 1] if number else 0 : self.ends[number]]

    @property
    def predicted(self) -> int:
        """Tokens that are predicted in one epoch: all but each document's first."""
        return len(self.ids) - len(self.ends)


@lru_cache(maxsize=4)
def _epoch(documents: int, seed: int, epoch: int) -> Int[np.ndarray, "document"]:
    order = np.random.default_rng([seed, epoch]).permutation(documents)
    order.flags.writeable = False
    return order


def documents_of(step: int, documents: int, recipe: TextRecipe) -> Int[np.ndarray, "place"]:
    """Numbers of the documents that a step reads, in order."""
    places = np.arange(step * recipe.documents_per_step, (step + 1) * recipe.documents_per_step)
    return np.array([_epoch(documents, recipe.seed, int(p) // documents)[p % documents] for p in places])


def pack(lengths: Sequence[int]) -> list[list[int]]:
    """Which pieces share a row: rows of about 1.6 longest pieces, each piece in the emptiest row, the longest first.

    That leaves fewer than a tenth of the places empty, where a row for each piece leaves a third, and keeps rows short
    enough for attention to stay cheap.
    """
    count = max(1, round(sum(lengths) / (1.6 * max(lengths))))
    rows: list[list[int]] = [[] for _ in range(count)]
    filled = [0] * count
    for piece in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = filled.index(min(filled))
        rows[row].append(piece)
        filled[row] += lengths[piece]
    return rows


def packed_batch(
    pieces: Sequence[Int[np.ndarray, "_"]], weights: Sequence[float], *, pad: int
) -> tuple[Batch, Float[Tensor, "row token"]]:
    """Model inputs with `labels` (the next token of the same document, else IGNORED), and each label's weight."""
    rows = pack([len(p) for p in pieces])
    shape = len(rows), max(sum(len(pieces[i]) for i in members) for members in rows)
    ids, labels = np.full(shape, pad, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
    positions, block = np.zeros(shape, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
    weight = np.zeros(shape, dtype=np.float32)
    for row, members in enumerate(rows):
        start = 0
        for piece in members:
            end = start + len(pieces[piece])
            ids[row, start:end], positions[row, start:end] = pieces[piece], np.arange(end - start)
            labels[row, start : end - 1] = pieces[piece][1:]
            block[row, start:end], weight[row, start:end] = piece, weights[piece]
            start = end
    owner = torch.from_numpy(block)
    same = owner[:, None, :, None] == owner[:, None, None, :]
    batch = {
        "input_ids": torch.from_numpy(ids),
        "position_ids": torch.from_numpy(positions),
        "attention_mask": same & torch.ones(shape[1], shape[1], dtype=torch.bool).tril(),
        "labels": torch.from_numpy(labels),
    }
    return batch, torch.from_numpy(weight)


class TextBatches(Dataset[Batch]):
    """Item i is the whole batch of step i."""

    def __init__(self, texts: Texts, recipe: TextRecipe) -> None:
        self.texts, self.recipe = texts, recipe

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, index: int) -> Batch:
        pieces = [self.texts.document(int(i)) for i in documents_of(index, len(self.texts), self.recipe)]
        return packed_batch(pieces, [1.0] * len(pieces), pad=self.texts.pad)[0]


def tokens_per_step(texts: Texts, recipe: TextRecipe) -> float:
    """Mean number of predicted tokens of a step."""
    return texts.predicted / len(texts) * recipe.documents_per_step


def text_loss(
    logits: Float[Tensor, "row token vocab"],
    labels: Int[Tensor, "row token"],
    per: float,
    weight: Float[Tensor, "row token"] | None = None,
) -> Float[Tensor, ""]:
    """Weighted sum of the NLL (nats) of the labels that count, divided by `per`."""
    counts = labels.flatten() != IGNORED
    losses = functional.cross_entropy(logits.flatten(0, 1)[counts].float(), labels.flatten()[counts], reduction="none")
    return (losses if weight is None else losses * weight.flatten()[counts]).sum() / per
