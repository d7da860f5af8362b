"""Encoded documents on disk: token ids in parts, and where each document's text stands, found by document number.

`tokens/part-00000.safetensors` ... hold of up to `PER_PART` documents `ids` (int32, the tokens of one after the other),
`ends` (int64, where each ends in `ids`) and `place` (int64, one row per document: line and byte in the corpus file,
first and last character, chunk). Written as the corpus streams by; memory is one part.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from arithcirc.errors import RunConflictError
from arithcirc.influence.documents import Line, documents_at
from arithcirc.influence.rows import Row
from arithcirc.influence.study.encode import Piece, Span
from arithcirc.store import write_atomic

PER_PART = 65_536
"""Documents in one part."""


class TokenWriter:
    """Collects encoded documents and writes a part whenever it is full; `close` writes the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self._ids = array("i")
        self._ends: list[int] = []
        self._places: list[tuple[int, ...]] = []

    def add(self, line: Line, span: Span, tokens: tuple[int, ...]) -> None:
        """One more document."""
        self._ids.extend(tokens)
        self._ends.append(len(self._ids))
        self._places.append((line.number, line.start, span.start, span.end, span.chunk))
        if len(self._ends) == PER_PART:
            self.close()

    def close(self) -> None:
        """Write what is not written."""
        if self._ends:
            arrays: dict[str, np.ndarray] = {
                "ids": np.array(self._ids, np.int32),
                "ends": np.array(self._ends, np.int64),
                "place": np.array(self._places, np.int64),
            }
            file = self.folder / f"part-{len(self.files):05d}.safetensors"
            write_atomic(file, lambda part: save_file(arrays, part))
            self.files.append(file)
        self._ids, self._ends, self._places = array("i"), [], []


@dataclass(frozen=True)
class TokenStore:
    """All parts of a folder: their files, where each document ends within its part, and where its text stands."""

    files: tuple[Path, ...]
    ends: tuple[Int[np.ndarray, "document"], ...]
    places: tuple[Int[np.ndarray, "document field"], ...]

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        """Open a folder of parts. Raises RunConflictError where there is none or one is damaged."""
        files = tuple(sorted(folder.glob("part-*.safetensors")))
        if not files:
            raise RunConflictError(f"{folder} holds no encoded documents: run 'arithcirc influence fit' again")
        return cls(files, tuple(_read(f, "ends") for f in files), tuple(_read(f, "place") for f in files))

    def __len__(self) -> int:
        return sum(len(ends) for ends in self.ends)

    def lengths(self) -> Int[np.ndarray, "document"]:
        """Tokens of every document."""
        return np.concatenate([np.diff(ends, prepend=0) for ends in self.ends])

    def rows(self, start: int, end: int) -> list[Row]:
        """Documents `start` to `end` - 1 as rows whose every predictable token counts."""
        return list(self._rows(range(start, min(end, len(self)))))

    def chosen(self, numbers: Int[np.ndarray, "document"]) -> list[Row]:
        """Some documents, by ascending number."""
        return list(self._rows(sorted(int(n) for n in numbers)))

    def pieces(self, corpus: Path, start: int, end: int) -> Iterator[Piece]:
        """Documents `start` to `end` - 1 with their texts, read from the corpus file."""
        rows = [self.places[n // PER_PART][n % PER_PART].tolist() for n in range(start, min(end, len(self)))]
        documents = documents_at(corpus, (Line(number, at) for number, at, *_ in rows))
        for document, (_, _, first, last, chunk) in zip(documents, rows, strict=True):
            yield Piece(document, Span(first, last, chunk))

    def _rows(self, numbers: "range | list[int]") -> Iterator[Row]:
        loaded, ids = -1, np.empty(0, np.int32)
        for number in numbers:
            part, inside = divmod(number, PER_PART)
            if part != loaded:
                loaded, ids = part, _read(self.files[part], "ids")
            first = int(self.ends[part][inside - 1]) if inside else 0
            yield Row(tuple(ids[first : int(self.ends[part][inside])].tolist()))


def _read(file: Path, name: str) -> np.ndarray:
    try:
        with safe_open(file, framework="numpy") as opened:
            found: np.ndarray = opened.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise RunConflictError(f"{file} is damaged ({error}): run 'arithcirc influence fit' again") from None
    return found
