"""Cutting the rows of a tensor into batches."""

from collections.abc import Iterator

from torch import Tensor


def batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Views of at most `size` rows, in order."""
    for start in range(0, len(rows), max(1, size)):
        yield rows[start : start + max(1, size)]
