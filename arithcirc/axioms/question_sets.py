"""Folders of questions of d-separation and from correlation to causation: JSON lines, tokenizer, dataset.json.

dataset.json says what was asked for, and of each finished file its hash and what was counted in it: questions, those
answered Yes, kinds of questions, how many the task's shortcut answers rightly, and of validation how many stand in
train too. A stopped call goes on where it was: finished files are kept, a file begun is continued behind its last whole
line. Equal calls give equal bytes.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arithcirc.axioms.data_spec import told_difference
from arithcirc.axioms.lines import continue_lines, in_train, read_lines, row_line
from arithcirc.axioms.question_specs import QuestionSpec
from arithcirc.axioms.tokenizer import TASKS, save_tokenizer, vocabulary
from arithcirc.errors import RunConflictError
from arithcirc.store import sha256_file, write_json

MANIFEST, SCHEMA = "dataset.json", 1
TOKENIZER = ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json")
Progress = Callable[[str, int, int], None]
"""Called with what is written, how much of it is done, and how much there is."""
Files = dict[str, dict[str, Any]]
"""File name -> what dataset.json says of it: `sha256`, `questions`, `yes`, `shortcuts` and counts of kinds."""


def make_questions(spec: QuestionSpec, folder: Path, *, progress: Progress | None = None) -> Files:
    """Make the questions in a folder, or what is missing or altered of them.

    0.2 ms a question of d-separation, 0.8 ms one of correlation. Raises RequestError where there are not enough
    graphs, RunConflictError when the folder holds something else, EnvironmentFailure of the disk.
    """
    files, order = _begun(spec, folder), [*TOKENIZER, *(f"{name}.jsonl" for name in spec.sizes())]
    for name in order:
        known = files.get(name)
        if known and (folder / name).is_file() and sha256_file(folder / name) == known["sha256"]:
            continue
        facts = _write(spec, folder, name, progress)
        files[name] = {"sha256": sha256_file(folder / name), **facts}
        files = {each: files[each] for each in order if each in files}
        _save(spec, folder, files)
    return files


def _write(spec: QuestionSpec, folder: Path, name: str, progress: Progress | None) -> dict[str, Any]:
    """Write one file; what dataset.json says of it beside its hash."""
    if name in TOKENIZER:
        save_tokenizer(folder / "tokenizer", vocab=spec.vocab, task=spec.task)
        return {"tokens": len(vocabulary(vocab=spec.vocab, task=spec.task))}
    title = name.removesuffix(".jsonl")
    number = spec.sizes()[title]
    tell = (lambda done: progress(f"{spec.task}/{title}", done, number)) if progress else None
    continue_lines(folder / name, lambda start: map(row_line, spec.rows(title, start)), number, progress=tell)
    facts = _counted(spec, folder / name)
    if title == "validation" and spec.sizes().get("train"):
        facts["in_train"] = in_train(folder / name, folder / "train.jsonl")
    return facts


def _counted(spec: QuestionSpec, path: Path) -> dict[str, Any]:
    """What there is in a file, counted in the file itself."""
    counts: dict[str, Counter[Any]] = {field: Counter() for field in ("label", *spec.counted)}
    questions = right = 0
    for row in read_lines(path):
        questions, right = questions + 1, right + (row["shortcut"] == row["label"])
        for field, counter in counts.items():
            counter[len(row[field]) if isinstance(row[field], list) else row[field]] += 1
    kinds = {field: {str(kind): n for kind, n in sorted(counts[field].items())} for field in spec.counted}
    scores = {spec.shortcut: {"accuracy": right / questions}}
    return {"questions": questions, "yes": counts["label"]["Yes"], **kinds, "shortcuts": scores}


def _save(spec: QuestionSpec, folder: Path, files: Files) -> None:
    write_json(folder / MANIFEST, {"schema": SCHEMA, "spec": spec.to_json(), "files": files})


def _begun(spec: QuestionSpec, folder: Path) -> Files:
    """What dataset.json says is there; the folder must be of this spec, or new."""
    file = folder / MANIFEST
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(p.name != f"{MANIFEST}.part" for p in folder.iterdir())):
            raise RunConflictError(f"{folder} holds something that is no axiom data: choose another --out")
        _save(spec, folder, {})
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        schema, held = data["schema"], {"task": TASKS[0], **data["spec"]}
        files = {str(name): {"sha256": str(facts["sha256"]), **facts} for name, facts in data["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunConflictError(f"{file} is damaged ({error}): delete {folder} and make the data again") from None
    if schema != SCHEMA:
        raise RunConflictError(f"{file} has schema {schema}, this version reads {SCHEMA}: make the data again")
    if different := told_difference(spec.to_json(), held):
        raise RunConflictError(f"{folder} holds other data ({different}): choose another --out, or delete the folder")
    return files
