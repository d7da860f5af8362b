"""Axiom data on disk: training mixes and evaluation sets as JSON lines, the tokenizer, and dataset.json.

    train/TS2.jsonl  validation/TS2.jsonl  evaluation/flipped-07.jsonl  tokenizer/  dataset.json

A line is `{"text": "A causes B. B causes C. Does A cause C?", "label": "Yes", "hops": 2}`; hops is the length of the
shortest path from cause to effect, 0 for none. dataset.json says what was asked, and of each finished file its hash,
how many questions it has, for evaluation sets what the shortcuts score there, and of validation how many questions
stand in train too. Other tasks have folders of their own in this one (`question_sets`). A stopped command goes on
where it was: finished files are kept, a file begun is continued behind its last whole line, and the bytes are those of
one go.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arithcirc.axioms.data_spec import DataSpec, told_difference
from arithcirc.axioms.evaluation import evaluation_set
from arithcirc.axioms.graphs import Question
from arithcirc.axioms.lines import continue_lines, in_train
from arithcirc.axioms.shortcuts import SHORTCUTS, score
from arithcirc.axioms.text import answer, parse, write
from arithcirc.axioms.tokenizer import TASKS, save_tokenizer
from arithcirc.errors import PromptError, RequestError, RunConflictError
from arithcirc.store import sha256_file, write_json, write_text

MANIFEST, SCHEMA = "dataset.json", 1
TOKENIZER = "tokenizer"
Progress = Callable[[str, int, int], None]
"""Called with what is written, how many of its questions are done, and how many there are."""


@dataclass(frozen=True)
class DataFolder:
    """A finished folder. `files` is what dataset.json says of each: hash, number of questions, shortcuts' scores."""

    path: Path
    spec: DataSpec
    files: dict[str, dict[str, Any]]

    @classmethod
    def open(cls, path: Path | str) -> "DataFolder":
        """Open a folder. Raises RunConflictError when it is none, unfinished or damaged."""
        path = Path(path)
        spec, files = _read_manifest(path)
        missing = [name for name in _names(spec) if name not in files or not (path / name).is_file()]
        if missing:
            raise RunConflictError(
                f"{path} is unfinished (no {missing[0]}): run the same 'arithcirc axioms data' again"
            )
        return cls(path, spec, files)

    @property
    def tokenizer_path(self) -> Path:
        """Folder of the tokenizer, for `AutoTokenizer.from_pretrained`."""
        return self.path / TOKENIZER

    def questions(self, name: str) -> Iterator[Question]:
        """Questions of a file, `train/TS2` or `evaluation/flipped-07`, one at a time.

        Raises RequestError for a file there is not, PromptError as `read_questions`.
        """
        if (file := f"{name}.jsonl") not in self.files:
            known = [other.removesuffix(".jsonl") for other in self.files if other.endswith(".jsonl")]
            raise RequestError(f"{self.path} has no questions {name!r}: it has {', '.join(known)}")
        return read_questions(self.path / file)


def make_data(spec: DataSpec, folder: Path | str, *, progress: Progress | None = None) -> DataFolder:
    """Make the data in a folder, or what is missing or altered of it. About 0.2 ms a question.

    Raises RunConflictError when the folder holds something else, EnvironmentFailure of the disk.
    """
    folder = Path(folder)
    files = _begun(spec, folder)
    for name in _names(spec):
        known = files.get(name)
        if known and (folder / name).is_file() and sha256_file(folder / name) == known["sha256"]:
            continue
        facts = _write(spec, folder, name, progress)
        files[name] = {"sha256": sha256_file(folder / name), **facts}
        _save(spec, folder, files)
    return DataFolder(folder, spec, files)


def read_questions(path: Path) -> Iterator[Question]:
    """Questions of a file of JSON lines, one at a time, blank lines skipped.

    A line has `text`, and `label` (Yes or No), which must be what follows from the text. Raises PromptError naming
    file and line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _question(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} cannot be read as text ({error}): give a UTF-8 file of JSON lines") from None


def to_line(question: Question) -> str:
    """One line of a file, its line break included."""
    return json.dumps({"text": write(question), "label": answer(question.label), "hops": question.hops}) + "\n"


def _question(line: str, where: str) -> Question:
    form = '{"text": "A causes B. Does A cause B?", "label": "Yes"}'
    try:
        data = json.loads(line)
    except ValueError as error:
        raise PromptError(f"{where} is not JSON ({error}): write {form}") from None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        raise PromptError(f"{where} has no text: write {form}")
    try:
        found = parse(data["text"])
    except PromptError as error:
        raise PromptError(f"{where}: {error}") from None
    if data.get("label") != answer(found.label):
        raise PromptError(
            f"{where} has the label {data.get('label')!r}, but {answer(found.label)!r} follows from its text: "
            "correct or remove the line"
        )
    return found


def _names(spec: DataSpec) -> list[str]:
    """Files of a folder in the order of writing."""
    parts = [part for part in ("train", "validation") if getattr(spec, part)]
    return [
        *(f"{TOKENIZER}/{file}" for file in ("tokenizer.json", "tokenizer_config.json")),
        *(f"evaluation/{cell.name}.jsonl" for cell in spec.cells()),
        *(f"{part}/{mix}.jsonl" for mix in spec.mixes for part in parts),
    ]


def _begun(spec: DataSpec, folder: Path) -> dict[str, dict[str, Any]]:
    """What is finished of this spec in the folder, which is made when it is new."""
    if (folder / MANIFEST).is_file():
        held, files = _read_manifest(folder)
        if different := told_difference(spec.to_json(), held.to_json()):
            raise RunConflictError(
                f"{folder} holds other data ({different}): choose another --out, or delete the folder"
            )
        return files
    own = {f"{MANIFEST}.part", *TASKS}
    if folder.exists() and (not folder.is_dir() or any(p.name not in own for p in folder.iterdir())):
        raise RunConflictError(f"{folder} holds something that is no axiom data: choose another --out")
    _save(spec, folder, {})
    return {}


def _save(spec: DataSpec, folder: Path, files: dict[str, dict[str, Any]]) -> None:
    ordered = {name: files[name] for name in _names(spec) if name in files}
    write_json(folder / MANIFEST, {"schema": SCHEMA, "spec": spec.to_json(), "files": ordered})


def _read_manifest(folder: Path) -> tuple[DataSpec, dict[str, dict[str, Any]]]:
    file = folder / MANIFEST
    if not file.is_file():
        raise RunConflictError(f"{folder} is no axiom data (no {MANIFEST}): make some with 'arithcirc axioms data'")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if (task := data["spec"].get("task", TASKS[0])) != TASKS[0]:
            raise RunConflictError(f"{folder} holds questions of {task}, not of {TASKS[0]}: choose another folder")
        schema, spec = data["schema"], DataSpec.from_json(data["spec"])
        files = {str(name): {"sha256": str(facts["sha256"]), **facts} for name, facts in data["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RequestError) as error:
        raise RunConflictError(f"{file} is damaged ({error}): delete {folder} and make the data again") from None
    if schema != SCHEMA:
        raise RunConflictError(f"{file} has schema {schema}, this version reads {SCHEMA}: make the data again")
    return spec, files


def _write(spec: DataSpec, folder: Path, name: str, progress: Progress | None) -> dict[str, Any]:
    """Write one file; what dataset.json says of it beside its hash."""
    part, _, file = name.partition("/")
    if part == TOKENIZER:
        save_tokenizer(folder / part, vocab=spec.vocab)
        return {"tokens": spec.vocab}
    title = name.removesuffix(".jsonl")
    if part == "evaluation":
        cell = next(cell for cell in spec.cells() if name == f"evaluation/{cell.name}.jsonl")
        questions = evaluation_set(cell, number=spec.evaluation, seed=spec.seed, names=spec.names())
        write_text(folder / name, "".join(map(to_line, questions)))
        _tell(progress, "evaluation", spec.cells().index(cell) + 1, len(spec.cells()))
        return {"questions": len(questions), "shortcuts": shortcut_scores(questions)}
    start, number = (0, spec.train) if part == "train" else (spec.train, spec.validation)
    stream = spec.stream(file.removesuffix(".jsonl"))
    continue_lines(
        folder / name,
        lambda done: map(to_line, stream.examples(start + done, start + number)),
        number,
        progress=lambda done: _tell(progress, title, done, number),
    )
    kinds = [stream.mix.kind(index // 2) for index in range(start, start + number)]
    facts = {"questions": number, "kinds": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}}
    if part == "validation" and spec.train:
        facts["in_train"] = in_train(folder / name, folder / "train" / file)
    return facts


def shortcut_scores(questions: tuple[Question, ...]) -> dict[str, dict[str, float | None]]:
    """Accuracy and hard accuracy of each shortcut on some questions."""
    found = {name: score(questions, [guess(question) for question in questions]) for name, guess in SHORTCUTS.items()}
    return {
        name: {"accuracy": each.accuracy.value, "hard": each.hard.value if each.hard else None}
        for name, each in found.items()
    }


def _tell(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress:
        progress(what, done, total)
