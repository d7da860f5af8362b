"""Sets of questions on disk: d-separation and from correlation to causation, as JSON lines with questions.json.

    separation    train.jsonl  validation.jsonl  evaluation/flipped-07.jsonl ..  evaluation/branching-1.4-12.jsonl
    correlation   train.jsonl  validation.jsonl  test.jsonl (classes of graphs that the others do not have)

questions.json says what was asked for, and of each finished file its hash, the number of its questions and how many of
them the task's shortcut answers rightly. The same call again makes only what is missing or altered. Equal calls give
equal bytes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from arithcirc.axioms.corr2cause.questions import SIZES, CorrelationStream, correlation_row, decidable
from arithcirc.axioms.draws import whole
from arithcirc.axioms.lines import write_lines
from arithcirc.axioms.names import Names
from arithcirc.axioms.separation_questions import (
    EVALUATION,
    TRAINING_CELLS,
    SeparationStream,
    separation_row,
    separation_set,
)
from arithcirc.config import differing_fields
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.store import sha256_file, write_json

MANIFEST = "questions.json"
MOST = 10_000_000
Sets = dict[str, tuple[int, Callable[[], Iterable[Any]]]]
"""File name -> number of its questions, and what makes them."""
Progress = Callable[[str, int, int], None]
"""Called with the file that is written, how many of its questions are done, and how many there are."""
Files = dict[str, dict[str, Any]]
"""File name -> `sha256`, `questions`, `shortcut` (share of questions that the shortcut answers rightly)."""


def make_separation(
    folder: Path,
    *,
    train: int = 175_000,
    validation: int = 25_000,
    evaluation: int = 500,
    seed: int = 0,
    names: Names | None = None,
    progress: Progress | None = None,
) -> Files:
    """Questions of d-separation: training chains of 3 to 6 nodes, and the sets of `EVALUATION`. 0.2 ms a question.

    Raises RequestError for odd or impossible numbers, RunConflictError when the folder holds something else.
    """
    names = names or Names()
    _checked(train=train, validation=validation, evaluation=evaluation)
    stream = SeparationStream(TRAINING_CELLS, seed, names=names)
    sets: Sets = {
        "train.jsonl": (train, partial(stream.questions, 0, train)),
        "validation.jsonl": (validation, partial(stream.questions, train, train + validation)),
    }
    options: dict[str, Any] = {"number": evaluation, "seed": seed, "names": names}
    for cell, most in EVALUATION:
        sets[f"evaluation/{cell.name}.jsonl"] = evaluation, partial(separation_set, cell, most_given=most, **options)
    spec = {"task": "separation", "train": train, "validation": validation, "evaluation": evaluation, "seed": seed}
    named = {"shortest_name": names.shortest, "longest_name": names.longest, "alphabet": names.alphabet}
    return _make(folder, spec | named, sets, separation_row, progress)


def make_correlation(
    folder: Path,
    *,
    train: int = 100_000,
    validation: int = 10_000,
    test: int = 10_000,
    sizes: tuple[int, ...] = SIZES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Files:
    """Questions from correlation to causation about `sizes` variables. About 0.8 ms a question.

    train and validation share classes of graphs, test has others, of those sizes that allow it (4 to 6). Raises
    RequestError for odd or impossible numbers, RunConflictError when the folder holds something else.
    """
    _checked(train=train, validation=validation, test=test)
    stream = CorrelationStream(sizes, seed, "train")
    kept = tuple(size for size in sizes if decidable(size, "test"))
    if test and not kept:
        raise RequestError(f"sizes {', '.join(map(str, sizes))} leave no class for tests: add 4, 5 or 6, or use test 0")
    sets: Sets = {
        "train.jsonl": (train, partial(stream.questions, 0, train)),
        "validation.jsonl": (validation, partial(stream.questions, train, train + validation)),
    }
    if test:
        sets["test.jsonl"] = test, partial(CorrelationStream(kept, seed, "test").questions, 0, test)
    spec = {"task": "correlation", "train": train, "validation": validation, "test": test, "seed": seed}
    return _make(folder, spec | {"sizes": list(sizes)}, sets, correlation_row, progress)


def _checked(**numbers: int) -> None:
    for name, number in numbers.items():
        whole(f"number of {name} questions", number, 0, MOST)
        if number % 2:
            raise RequestError(f"{number} {name} questions cannot be half Yes and half No: use an even number")


def _make(
    folder: Path,
    spec: dict[str, Any],
    sets: Sets,
    row: Callable[[Any], dict[str, Any]],
    progress: Progress | None,
) -> Files:
    """Write the sets that are not yet there as they should be."""
    files = _finished(folder, spec)
    for name, (number, questions) in sets.items():
        path, known = folder / name, files.get(name)
        if not number or (known and path.is_file() and sha256_file(path) == known["sha256"]):
            continue
        right: list[bool] = []
        tell = (lambda done, name=name, number=number: progress(name, done, number)) if progress else None
        write_lines(path, _watched(map(row, questions()), right), progress=tell)
        files[name] = {"sha256": sha256_file(path), "questions": number, "shortcut": sum(right) / number}
        write_json(folder / MANIFEST, {"spec": spec, "files": files})
    return files


def _watched(rows: Iterable[Mapping[str, Any]], right: list[bool]) -> Iterator[Mapping[str, Any]]:
    """The rows as they come, noting where the shortcut is right."""
    for row in rows:
        right.append(row["shortcut"] == row["label"])
        yield row


def _finished(folder: Path, spec: dict[str, Any]) -> Files:
    """What questions.json says is there; the folder must be of this spec, or new."""
    file = folder / MANIFEST
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunConflictError(f"{folder} holds something that is no set of questions: choose another folder")
        write_json(file, {"spec": spec, "files": {}})
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        held, files = dict(data["spec"]), {str(name): dict(facts) for name, facts in data["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunConflictError(f"{file} is damaged ({error}): delete {folder} and make the questions again") from None
    if different := differing_fields(spec, held):
        raise RunConflictError(f"{folder} holds other questions ({'; '.join(different)}): choose another folder")
    return files
