"""Batches that do not fit are cut until they do, and give what the whole would have given."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arithcirc.errors import EnvironmentFailure
from arithcirc.measure.batches import in_batches
from arithcirc.models import fit
from arithcirc.models.fit import Limit, hearing, in_halves, is_out_of_memory

TOO_MUCH = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 81))
def test_a_box_is_put_together_from_what_fits(patches: int, prompts: int, room: int) -> None:
    whole = torch.arange(patches * prompts * 2).view(patches, prompts, 2)
    tried: list[int] = []

    def run(some: slice, others: slice) -> Tensor:
        rows = (some.stop - some.start) * (others.stop - others.start)
        tried.append(rows)
        if rows > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole[some, others]

    limit = Limit(10**6)
    assert torch.equal(in_halves(run, (slice(0, patches), slice(0, prompts)), limit), whole)
    failed = [rows for rows in tried if rows > room]
    assert failed == sorted(set(failed), reverse=True), "a size that failed is not tried again"
    assert limit.rows == 10**6 or limit.rows <= patches * prompts // 2


@given(st.integers(0, 40), st.integers(1, 50), st.integers(1, 50))
def test_batches_cover_every_row_once(n: int, size: int, room: int) -> None:
    told: list[int] = []
    rows_done: list[int] = []
    failures = 0

    def run(rows: slice) -> list[int]:
        nonlocal failures
        if rows.stop - rows.start > room:
            failures += 1
            raise TOO_MUCH
        return list(range(rows.start, rows.stop))

    with hearing(told.append):
        found = list(in_batches(n, size, run, progress=rows_done.append))
    assert [row for part in found for row in part] == list(range(n))
    assert max(map(len, found), default=0) <= min(size, room)
    assert sum(rows_done) == n
    assert len(told) == failures <= 6
    assert told == sorted(told, reverse=True)


@pytest.mark.parametrize("error", [TOO_MUCH, MemoryError(), torch.OutOfMemoryError("x")])
def test_a_single_row_that_does_not_fit_is_said(error: Exception) -> None:
    def run(_: slice) -> Tensor:
        raise error

    with pytest.raises(EnvironmentFailure, match="out of memory with a single prompt: use --dtype bfloat16"):
        list(in_batches(5, 4, run))
    with pytest.raises(EnvironmentFailure, match="single prompt"):
        in_halves(run, (slice(0, 4),), Limit(4))


def test_other_errors_are_not_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shape mismatch"))

    def run(_: slice) -> Tensor:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(in_batches(5, 4, run))


def test_logits_are_made_in_pieces_of_a_stated_size() -> None:
    assert fit.logit_rows(128_256) * 128_256 * 4 <= fit.LOGIT_BYTES < (fit.logit_rows(128_256) + 1) * 128_256 * 4
    assert fit.logit_rows(10**12) == 1
