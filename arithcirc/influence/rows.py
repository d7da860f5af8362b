"""Token rows: documents and queries as what a model reads, with the positions whose loss counts.

A row is token ids and labels of the same length; a label is the token at that position where its loss counts, -100
elsewhere (as Hugging Face has it). Documents count every token after the first, queries their completion alone.
Batches are padded on the right to their longest row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

IGNORED = -100
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """One sequence: its tokens, and from which position on the loss counts (1: everything that can be predicted)."""

    tokens: tuple[int, ...]
    start: int = 1
    weight: float = 1.0


class Rows(Dataset[Row]):
    """A list of rows, as torch's loaders want it."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


def collate(rows: Sequence[Row], pad: int = 0) -> Batch:
    """`input_ids`, `attention_mask`, `labels`, each (row, token), and `weight` (row,), padded on the right."""
    length = max(len(row.tokens) for row in rows)
    ids = torch.full((len(rows), length), pad, dtype=torch.long)
    labels = torch.full((len(rows), length), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    for i, row in enumerate(rows):
        n, first = len(row.tokens), max(row.start, 1)
        ids[i, :n] = torch.tensor(row.tokens)
        mask[i, :n] = 1
        labels[i, first:n] = ids[i, first:n]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "weight": torch.tensor([row.weight for row in rows]),
    }


def summed_nll(
    logits: Float[Tensor, "row token vocab"], labels: Int[Tensor, "row token"], weight: Float[Tensor, "row"]
) -> Float[Tensor, ""]:
    """Sum over rows of weight x negative log-likelihood in nats of the labels that count."""
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="none"
    )
    return (losses.view(len(labels), -1).sum(1) * weight).sum()
