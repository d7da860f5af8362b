"""Several questions about one graph in one row, so that its sentences are read once.

A row is a premise and Q questions. Each question sees the premise and itself alone, causally, and its positions go on
after the premise, so a row computes what Q separate questions compute, on fewer tokens:

    tokens      A causes B .  Does A cause B ?  Does B cause A ?
    positions   0 1      2 3  4    5 6     7 8  4    5 6     7 8
    labels                                 Yes               No

The loss is read at the question marks alone. A row of one question needs no mask of its own: the causal one does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from arithcirc.axioms.graphs import Question
from arithcirc.axioms.tokenizer import answer_id, premise_ids, question_ids
from arithcirc.errors import RequestError
from arithcirc.training.course import Batch

IGNORED = -100
_PREMISE, _FILLED = 0, -1


@dataclass(frozen=True)
class Row:
    """Ids of a premise, of the questions about it, and of their answers."""

    premise: Sequence[int]
    questions: tuple[Sequence[int], ...]
    answers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.premise) + sum(len(asked) for asked in self.questions)


def encode_row(questions: Sequence[Question], known: Mapping[str, int]) -> Row:
    """Questions about one graph as ids; `known` is the vocabulary. Raises RequestError when they are about several."""
    graph = questions[0].graph
    if any(asked.graph is not graph and asked.graph != graph for asked in questions):
        raise RequestError("questions of one row are about several graphs: pack the questions of one graph together")
    return Row(
        premise_ids(graph, known),
        tuple(question_ids((asked.cause, asked.effect), known) for asked in questions),
        tuple(answer_id(asked.label, known) for asked in questions),
    )


def packed_batch(rows: Sequence[Row], *, fill: int) -> Batch:
    """Model inputs of some rows, and `labels`: the answer at each question mark, IGNORED elsewhere.

    Rows are filled up at their end with `fill`, which no question sees. Rows of one question come without a mask and
    positions of their own.
    """
    shape = len(rows), max(len(row) for row in rows)
    ids, labels = np.full(shape, fill, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
    positions, block = np.zeros(shape, dtype=np.int64), np.full(shape, _FILLED, dtype=np.int64)
    for number, row in enumerate(rows):
        end = len(row.premise)
        ids[number, :end], positions[number, :end], block[number, :end] = row.premise, np.arange(end), _PREMISE
        for which, (asked, label) in enumerate(zip(row.questions, row.answers, strict=True), start=1):
            start, end = end, end + len(asked)
            ids[number, start:end], block[number, start:end] = asked, which
            positions[number, start:end] = len(row.premise) + np.arange(len(asked))
            labels[number, end - 1] = label
    batch = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
    if any(len(row.questions) > 1 for row in rows):
        batch |= {"position_ids": torch.from_numpy(positions), "attention_mask": _sees(torch.from_numpy(block))}
    return batch


def _sees(block: Int[Tensor, "row token"]) -> Tensor:
    """Who sees whom, (row, 1, query, key): all see the premise before them, and their own question."""
    same = (block[:, None, :, None] == block[:, None, None, :]) | (block == _PREMISE)[:, None, None, :]
    return same & torch.ones(block.shape[1], block.shape[1], dtype=torch.bool).tril()


def label_loss(logits: Float[Tensor, "row token vocab"], labels: Int[Tensor, "row token"]) -> Float[Tensor, ""]:
    """Mean cross-entropy (nats) of the answers over the whole vocabulary, at the question marks alone."""
    asked = labels != IGNORED
    return functional.cross_entropy(logits[asked].float(), labels[asked])
