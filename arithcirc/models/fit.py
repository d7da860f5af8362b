"""Rows that fit in memory: what does not fit is run in halves, and the size that fits is remembered.

A batch is a box of rows: a range of prompts, or a range of patches times a range of prompts. Where it runs out of
memory its longer side is cut in the middle, and nothing larger is tried again under the same `Limit`. Whoever runs
stages hears of it through `hearing`, to say so once and to start with fewer rows from then on.
Logits are the widest thing a batch has (128,256 numbers per row for Llama 3), so they are made and reduced in pieces.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

from arithcirc.errors import EnvironmentFailure
from arithcirc.models.memory import weights_bytes
from arithcirc.models.protocol import ModelInfo

Result = TypeVar("Result")
LOGIT_BYTES = 2**28
"""Float32 logits made and reduced at once."""
_listener: ContextVar[Callable[[int], None] | None] = ContextVar("listener", default=None)


@dataclass
class Limit:
    """The most rows that may be tried at once; lowered where they did not fit."""

    rows: int


def logit_rows(d_vocab: int) -> int:
    """Rows whose float32 logits take LOGIT_BYTES; at least one."""
    return max(1, LOGIT_BYTES // (4 * d_vocab))


def number_bytes(info: ModelInfo) -> int:
    """Bytes of one number in the model's type."""
    return weights_bytes(1, info.dtype)


def record_bytes(info: ModelInfo, n_pos: int) -> int:
    """What a recorded run of one prompt holds: residuals, keys and values of every layer."""
    residuals = (info.n_layers + 1) * info.d_model
    cache = 2 * info.n_layers * info.n_kv_heads * info.d_head
    return n_pos * (residuals + cache) * number_bytes(info)


def is_out_of_memory(error: BaseException) -> bool:
    """True for an accelerator's or a CPU allocator's out-of-memory error."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def release_memory() -> None:
    """Give cached accelerator memory back before a smaller attempt."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def hearing(listener: Callable[[int], None]) -> Iterator[None]:
    """Tell `listener` the rows of the next attempt whenever a batch inside the context did not fit."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def attempt(run: Callable[[], Result], rows: int, limit: Limit) -> tuple[Result] | None:
    """What `run` returns, in a tuple; None where its rows do not fit: then the limit is half of them.

    Raises EnvironmentFailure when a single row does not fit.
    """
    try:
        return (run(),)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if rows == 1:
            raise EnvironmentFailure(
                "out of memory with a single prompt: use --dtype bfloat16, a smaller model or a bigger machine"
            ) from error
    limit.rows = rows // 2
    release_memory()
    if (listener := _listener.get()) is not None:
        listener(limit.rows)
    return None


def in_halves(run: Callable[..., Tensor], box: tuple[slice, ...], limit: Limit) -> Tensor:
    """`run(*box)`, whose leading axes are those of the box, put together from halves where the whole does not fit."""
    lengths = [side.stop - side.start for side in box]
    rows = prod(lengths)
    if rows <= limit.rows and (found := attempt(lambda: run(*box), rows, limit)) is not None:
        return found[0]
    axis = lengths.index(max(lengths))
    side = box[axis]
    middle = side.start + lengths[axis] // 2
    halves = (slice(side.start, middle), slice(middle, side.stop))
    return torch.cat([in_halves(run, (*box[:axis], half, *box[axis + 1 :]), limit) for half in halves], dim=axis)
