"""Questions on disk: JSON lines, one question a line, as UTF-8.

Every line has `text`, which ends in a question mark, and `label`, Yes or No; what else it has belongs to its task.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from arithcirc.errors import EnvironmentFailure, RunConflictError
from arithcirc.store import write_atomic

_EVERY = 1000


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]], *, progress: Callable[[int], None] | None = None) -> int:
    """Write rows as they come, whole or not at all; returns how many. `progress` is told how many are written.

    Raises EnvironmentFailure, and what making the rows raises.
    """
    written = 0

    def write(part: Path) -> None:
        nonlocal written
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
                written += 1
                if progress is not None and written % _EVERY == 0:
                    progress(written)

    try:
        write_atomic(path, write)
    finally:
        path.with_name(path.name + ".part").unlink(missing_ok=True)
    return written


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file. Raises EnvironmentFailure and, for a line that is no question, RunConflictError."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield _row(line, path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFailure(f"cannot read {path}: {error}: make the questions again") from None


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
