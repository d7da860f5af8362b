"""The runs and sweeps an explorer shows: found once under the folders it was given, and looked up by key only.

An address can name a key, never a path: what is not in the list does not exist. The list is made again at most every
few seconds, so a run that appears or goes while the explorer is open is noticed.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from arithcirc.catalogue import SWEEP
from arithcirc.errors import RequestError
from arithcirc.explorer.source import Source, open_source
from arithcirc.explorer.view import View
from arithcirc.store import MANIFEST
from arithcirc.viz.influence.study import FOLDER as STUDY

DEPTH = 3
"""Folders below a given one that are searched."""
FRESH = 5.0
"""Seconds for which the list is believed."""


class Library:
    """Runs and sweeps by key; a key is the path below the given folder, or a folder's own last parts."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(Path(folder).resolve() for folder in folders)
        self._lock = threading.Lock()
        self._found: dict[str, Path] = {}
        self._when = -FRESH

    def paths(self) -> dict[str, Path]:
        """Key to folder, in the order found."""
        with self._lock:
            if time.monotonic() - self._when >= FRESH:
                self._found, self._when = _scan(self.folders), time.monotonic()
            return dict(self._found)

    def open(self, view: View) -> Source:
        """The source a view names; without a name, the one written last. Raises RequestError, RunConflictError."""
        held = self.paths()
        if not held:
            raise RequestError(
                "there is no run here: make one with 'arithcirc analyze', then reload; folders searched: "
                f"{', '.join(folder.name for folder in self.folders)}"
            )
        key = view.run or max(held, key=lambda name: _written(held[name]))
        if key not in held:
            raise RequestError(f"no run is called {key[:80]!r}: choose one of the list above")
        return open_source(key, held[key], view.model, view.revision)


def _written(path: Path) -> float:
    """When a run's or a sweep's manifest was written; 0 where it is gone."""
    files = [path / name for name in (SWEEP, MANIFEST, f"{STUDY}/{MANIFEST}")]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def _scan(folders: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for given in folders:
        folder = given.parent if given.name == STUDY and (given / MANIFEST).is_file() else given
        for path in _below(folder, DEPTH):
            key = "/".join(path.relative_to(folder).parts if path != folder else path.parts[-2:])
            while key in found and found[key] != path:
                key += "′"
            found[key] = path
    return found


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Folders that hold a run, a sweep, or the influence study of a model that was not analysed.

    A sweep's own runs, and a run's study, are not listed beside it.
    """
    if any((folder / name).is_file() for name in (SWEEP, MANIFEST, f"{STUDY}/{MANIFEST}")):
        yield folder
        return
    if depth == 0:
        return
    try:
        inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    except OSError:
        return
    for path in inside:
        yield from _below(path, depth - 1)
