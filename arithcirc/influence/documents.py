"""Documents and queries, and the JSON lines they are kept in.

A document is a training text; of a corpus made here its kind, its source and what it states are known, of any other
they may be empty. A query is a prompt with its true answer; what counts as having found it in a document is listed in
`needs`: one statement for a fact, one per step for a reasoning question.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from arithcirc.errors import PromptError
from arithcirc.store import write_text

KINDS = ("equation", "procedure", "code", "fact", "distractor")
"""Kinds of documents of a corpus made here, in the order of tables and figures."""
GROUPS = ("reasoning", "factual", "control_reasoning", "control_factual")
"""Groups of queries, as in Ruis et al. (arXiv 2411.12580)."""


@dataclass(frozen=True)
class Document:
    """One training text. `holds` are the statements it contains, in the words of `Query.needs`.

    `task` names the procedure or relation ("two_step", "slope", "linear", "addition", "capital", ...), "" if none.
    """

    id: str
    text: str
    kind: str = ""
    source: str = ""
    task: str = ""
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """One question: the model completes `prompt`; `answer` is the true completion, its last word the result.

    `needs`: statements that together hold the answer; a document with all of a query's needs states it in full.
    """

    id: str
    prompt: str
    answer: str
    group: str = ""
    task: str = ""
    needs: tuple[str, ...] = ()


Item = TypeVar("Item", Document, Query)


def read_documents(path: Path) -> Iterator[Document]:
    """Documents of a JSON-lines file, one at a time, blank lines skipped.

    A line is an object with `text` and, if known, the other fields of `Document`; a missing `id` is the line's number.
    Raises PromptError naming file and line.
    """
    return _read(path, Document, "text")


def read_queries(path: Path) -> Iterator[Query]:
    """Queries of a JSON-lines file. A line has `prompt` and `answer`. Raises PromptError naming file and line."""
    return _read(path, Query, "prompt")


def write_items(path: Path, items: Iterable[Document | Query]) -> None:
    """Write documents or queries as JSON lines, whole or not at all. Raises EnvironmentFailure."""
    write_text(path, "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items))


@dataclass(frozen=True)
class Line:
    """Where a document stands in its file: the line's number from 1, and the byte it begins at."""

    number: int
    start: int


def read_lines(path: Path) -> Iterator[tuple[Line, Document]]:
    """As `read_documents`, each with its place, so that it can be found again by `documents_at`."""
    return _places(path, Document, "text")


def documents_at(path: Path, lines: Iterable[Line]) -> Iterator[Document]:
    """Documents at known places, without reading what lies between. Raises PromptError as `read_documents`."""
    with _explained(path), path.open("rb") as file:
        for line in lines:
            file.seek(line.start)
            yield _item(file.readline(), Document, "text", f"{path}, line {line.number}", line.number)


def _read(path: Path, make: Callable[..., Item], needed: str) -> Iterator[Item]:
    return (item for _, item in _places(path, make, needed))


def _places(path: Path, make: Callable[..., Item], needed: str) -> Iterator[tuple[Line, Item]]:
    start = 0
    with _explained(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield Line(number, start), _item(line, make, needed, f"{path}, line {number}", number)
            start += len(line)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} cannot be read as text ({error}): give a UTF-8 file of JSON lines") from None


def _item(line: bytes, make: Callable[..., Item], needed: str, where: str, number: int) -> Item:
    names = {f.name for f in fields(Document if make is Document else Query)}
    return make(**_fields(line.decode("utf-8"), names, needed, where, number))


def _fields(line: str, names: set[str], needed: str, where: str, number: int) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise PromptError(f'{where} is not JSON ({error}): write {{"{needed}": "..."}} on each line') from None
    if not isinstance(data, dict) or not isinstance(data.get(needed), str) or not data[needed].strip():
        raise PromptError(f'{where} has no text in "{needed}": write {{"{needed}": "..."}} on each line')
    kept = {name: value for name, value in data.items() if name in names}
    for name, value in kept.items():
        if name in ("holds", "needs"):
            if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise PromptError(f'{where}: "{name}" is {value!r}, not a list of texts')
            kept[name] = tuple(value)
        elif not isinstance(value, str):
            kept[name] = str(value)
    return {"id": str(number)} | ({"answer": ""} if needed == "prompt" else {}) | kept
