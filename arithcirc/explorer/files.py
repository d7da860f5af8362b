"""Which files of a run can be read: a damaged one counts as missing, and the pages say which it is.

A truncated file is found by its footer or header alone, which costs less than a millisecond and is asked once per
version of the file; one damaged inside is found when it is read (`failed`). Nothing here belongs to a user.
"""

from functools import lru_cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

UNREADABLE = (OSError, ValueError, duckdb.Error, pa.ArrowException, SafetensorError)
"""What reading a damaged file raises."""
MOST = 4096
"""Versions of files that are remembered."""
_FAILED: dict[tuple[Path, int, int], None] = {}


def readable(file: Path) -> bool:
    """The file is there and, as far as is known, whole."""
    version = _version(file)
    return version is not None and version not in _FAILED and _opens(*version)


def damaged(file: Path) -> bool:
    """The file is there and cannot be read."""
    return file.is_file() and not readable(file)


def failed(file: Path) -> None:
    """Remember that this version of a file could not be read, though it opened."""
    version = _version(file)
    if version is not None:
        while len(_FAILED) >= MOST:
            del _FAILED[next(iter(_FAILED))]
        _FAILED[version] = None


def _version(file: Path) -> tuple[Path, int, int] | None:
    try:
        state = file.stat()
    except OSError:
        return None
    return file, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=MOST)
def _opens(file: Path, _changed: int, _size: int) -> bool:
    """Its footer (Parquet) or its header (safetensors) can be read and fits its size."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy"):
                return True
        pq.read_metadata(file)
    except UNREADABLE:
        return False
    return True
