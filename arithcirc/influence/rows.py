"""Token rows: documents and queries as what a model reads, with the positions whose loss counts.

A row is token ids and labels of the same length; a label is the token at that position where its loss counts, -100
elsewhere (as Hugging Face has it). Documents count every token after the first, queries their completion alone.
Batches are padded on the right to their longest row.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
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


class Numbered(Dataset[tuple[int, Row]]):
    """Rows in another order, each with its number in the list it comes from."""

    def __init__(self, rows: Rows, order: Sequence[int]) -> None:
        self.rows, self.order = rows, list(order)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[int, Row]:
        number = self.order[index]
        return number, self.rows[number]


def by_length(rows: Rows, *, parts: int = 1) -> list[int]:
    """Row numbers, the longest first, so that a batch holds rows of like length and too little memory shows at once.

    With `parts` the order is dealt out: each of so many equal stretches of it has rows of all lengths, sorted.
    """
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number].tokens))
    return [number for part in range(parts) for number in order[part::parts]]


def restored(values: Tensor, order: Sequence[int], *, dim: int) -> Tensor:
    """Undo an order along one axis."""
    found = torch.empty_like(values)
    index = torch.tensor(order, device=values.device)
    found.index_copy_(dim, index, values)
    return found


def fingerprint(rows: Rows) -> str:
    """sha256 of all tokens, starts and weights, in order."""
    digest = hashlib.sha256()
    for row in rows.rows:
        digest.update(np.asarray([len(row.tokens), row.start, *row.tokens], dtype=np.int64).tobytes())
        digest.update(np.float64(row.weight).tobytes())
    return digest.hexdigest()


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


def collate_drawing(items: Sequence[tuple[int, Row]], *, seed: Iterable[int], pad: int = 0) -> Batch:
    """As `collate`, with `uniform` (row, token): draws in [0, 1) that depend on seed, row number and position alone."""
    batch = collate([row for _, row in items], pad)
    uniform = torch.zeros(batch["labels"].shape)
    fixed = tuple(seed)
    for i, (number, row) in enumerate(items):
        draws = np.random.default_rng((*fixed, number)).random(len(row.tokens), dtype=np.float32)
        uniform[i, : len(row.tokens)] = torch.from_numpy(draws)
    return batch | {"uniform": uniform}


def sampled_labels(
    logits: Float[Tensor, "row token vocab"], labels: Int[Tensor, "row token"], uniform: Float[Tensor, "row token"]
) -> Int[Tensor, "row token"]:
    """Labels drawn from the model's own distribution wherever a label counts, by inverting its cumulative sum."""
    with torch.no_grad():
        sums = logits[:, :-1].float().softmax(-1).cumsum(-1)
        wanted = uniform[:, 1:, None] * sums[..., -1:]
        drawn = torch.searchsorted(sums, wanted, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)
        return torch.cat([labels[:, :1], torch.where(labels[:, 1:] == IGNORED, labels[:, 1:], drawn)], 1)


def row_nll(logits: Float[Tensor, "row token vocab"], labels: Int[Tensor, "row token"]) -> Float[Tensor, "row"]:
    """Negative log-likelihood in nats of the labels that count, summed within each row."""
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(len(labels), -1).sum(1)


def summed_nll(
    logits: Float[Tensor, "row token vocab"], labels: Int[Tensor, "row token"], weight: Float[Tensor, "row"]
) -> Float[Tensor, ""]:
    """Sum over rows of weight x negative log-likelihood in nats of the labels that count."""
    return (row_nll(logits, labels) * weight).sum()
