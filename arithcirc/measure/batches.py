"""Cutting rows into batches that fit in memory."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import Tensor

from arithcirc.models.fit import Limit, attempt

Result = TypeVar("Result")


def batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Views of at most `size` rows, in order."""
    for start in range(0, len(rows), max(1, size)):
        yield rows[start : start + max(1, size)]


def in_batches(
    n: int, size: int, run: Callable[[slice], Result], *, progress: Callable[[int], None] | None = None
) -> Iterator[Result]:
    """`run` on at most `size` of n rows after each other; a batch that does not fit is cut in half, as are all later.

    A batch may be tried again, so `run` must leave nothing half done. `progress` counts rows. Raises EnvironmentFailure
    when a single row does not fit.
    """
    limit, start = Limit(max(1, size)), 0
    while start < n:
        rows = slice(start, min(start + limit.rows, n))
        found = attempt(lambda rows=rows: run(rows), rows.stop - rows.start, limit)  # type: ignore[misc]
        if found is None:
            continue
        yield found[0]
        start = rows.stop
        if progress is not None:
            progress(rows.stop - rows.start)
