"""Questions on disk: JSON lines, one question a line, as UTF-8.

Every line has `text`, which ends in a question mark, and `label`, Yes or No; what else it has belongs to its task.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt64

from arithcirc.errors import EnvironmentFailure, RunConflictError
from arithcirc.store import write_atomic

_EVERY = 1000


def row_line(row: Mapping[str, Any]) -> str:
    """One line of a file, its line break included."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def continue_lines(
    path: Path,
    lines: Callable[[int], Iterable[str]],
    number: int,
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the `number` lines of a file, behind those that a stopped call left in its `.part`.

    `lines(i)`: the lines from the i-th on, which must be a function of i alone. Lines left by a stop are kept when the
    last whole one is as it should be; else the file is begun anew. `progress` is told how many are written, at every
    thousand and at the end. Raises EnvironmentFailure, and what making the lines raises; the part then stays.
    """
    write_atomic(path, lambda part: _continue(part, lines, number, progress))


def _continue(
    part: Path, lines: Callable[[int], Iterable[str]], number: int, progress: Callable[[int], None] | None
) -> None:
    with part.open("a+b") as file:
        done, end, last = _whole_lines(file)
        coming = iter(lines(max(done - 1, 0)))
        if done > number or (done and last != next(coming, "").encode()):
            done = end = 0
            coming = iter(lines(0))
        file.truncate(end)
        for index in range(done, number):
            file.write(next(coming).encode())
            if progress is not None and ((index + 1) % _EVERY == 0 or index + 1 == number):
                progress(index + 1)


def _whole_lines(file: Any) -> tuple[int, int, bytes]:
    """How many whole lines a file has, where they end, and the last of them."""
    file.seek(0)
    done, end, last = 0, 0, b""
    for line in file:
        if line.endswith(b"\n"):
            done, end, last = done + 1, end + len(line), line
    return done, end, last


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file. Raises EnvironmentFailure and, for a line that is no question, RunConflictError."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield _row(line, path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFailure(f"cannot read {path}: {error}: make the questions again") from None


def in_train(validation: Path, train: Path) -> dict[str, int | float]:
    """How many questions of validation, premise and question, stand word for word in train, and their share.

    Texts are compared by 8-byte hashes: 175,000 take a second and 1.4 MB. Raises as `read_lines`.
    """
    found = np.isin(_hashes(validation), _hashes(train))
    return {"questions": int(found.sum()), "share": float(found.mean())}


def _hashes(path: Path) -> UInt64[np.ndarray, " question"]:
    digests = (hashlib.blake2b(row["text"].encode(), digest_size=8).digest() for row in read_lines(path))
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), dtype=np.uint64)


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
        whole = isinstance(row["text"], str) and row["label"] in ("Yes", "No")
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise RunConflictError(
            f"{path}, line {number}, is no question with text and label Yes or No: make the questions again"
        )
    return dict(row)
