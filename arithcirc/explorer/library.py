"""The runs and sweeps an explorer shows: found once under the folders it was given, and looked up by key only.

An address can name a key, never a path: what is not in the list does not exist. The list is made again at most every
few seconds, so a run that appears or goes while the explorer is open is noticed. An address that names none shows the
newest that can be opened, of the first given folder that has one.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from arithcirc.catalogue import SWEEP
from arithcirc.errors import ArithcircError, RequestError
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
        self._given: dict[str, int] = {}
        self._wrong: dict[str, str] = {}
        self._when = -FRESH

    def paths(self) -> dict[str, Path]:
        """Key to folder, in the order found."""
        return self._looked()[0]

    def named(self) -> list[dict[str, str]]:
        """Keys for a control to choose from, with a word for those that cannot be shown."""
        found, _, wrong = self._looked()
        return [{"value": key, "label": f"{key} ({wrong[key]})" if key in wrong else key} for key in found]

    def _looked(self) -> tuple[dict[str, Path], dict[str, int], dict[str, str]]:
        """Folders by key, which given folder each was found in, and a word for those that cannot be opened."""
        with self._lock:
            if time.monotonic() - self._when >= FRESH:
                self._found, self._given = _scan(self.folders)
                self._wrong = {key: word for key, path in self._found.items() if (word := _wrong(key, path))}
                self._when = time.monotonic()
            return dict(self._found), self._given, self._wrong

    def _first(self) -> str:
        """The key shown when an address names none; there is at least one."""
        found, given, wrong = self._looked()
        return min(found, key=lambda key: (key in wrong, given[key], -_written(found[key])))

    def open(self, view: View) -> Source:
        """The source a view names, or the first one. Raises RequestError, RunConflictError."""
        held = self.paths()
        if not held:
            raise RequestError(
                "there is no run here: make one with 'arithcirc analyze', then reload; folders searched: "
                f"{', '.join(folder.name for folder in self.folders)}"
            )
        key = view.run or self._first()
        if key not in held:
            raise RequestError(f"no run is called {key[:80]!r}: choose one of the list above")
        return open_source(key, held[key], view.model, view.revision)


def _written(path: Path) -> float:
    """When a run's or a sweep's manifest was written; 0 where it is gone."""
    files = [path / name for name in (SWEEP, MANIFEST, f"{STUDY}/{MANIFEST}")]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def _wrong(key: str, path: Path) -> str:
    """A word for a run or a sweep that cannot be opened; empty for one that can."""
    try:
        open_source(key, path)
    except ArithcircError as error:
        return "damaged" if "damaged" in str(error) else "nothing to show"
    return ""


def _scan(folders: Sequence[Path]) -> tuple[dict[str, Path], dict[str, int]]:
    """Folders by key, and the place among the given ones of that where each was found first."""
    found: dict[str, Path] = {}
    given: dict[str, int] = {}
    for place, one in enumerate(folders):
        folder = one.parent if one.name == STUDY and (one / MANIFEST).is_file() else one
        for path in _below(folder, DEPTH):
            if path in found.values():
                continue
            key = "/".join(path.relative_to(folder).parts if path != folder else path.parts[-2:])
            while key in found:
                key += "′"
            found[key], given[key] = path, place
    return found, given


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
