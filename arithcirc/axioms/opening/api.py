"""Open one model, or two side by side: all tables, each stage on disk as soon as it is done."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from arithcirc.axioms.opening.comparison import comparison
from arithcirc.axioms.opening.opened import check_folder
from arithcirc.axioms.opening.stages import STAGES, Bench, OpeningConfig
from arithcirc.errors import ModelError
from arithcirc.store import RunFolder, sha256_file

Progress = Callable[[str, int, int], None]
"""Called with the stage that begins, how many are done, and how many there are; at the end with an empty name."""
QUESTIONS = 160
"""With which a model of the `small` recipe takes about two minutes of one core."""


def open_up(
    folder: Path,
    out: Path,
    *,
    questions: int = QUESTIONS,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> RunFolder:
    """Make all tables of `STAGES` of the model in a step folder in the run folder `out`.

    A stage that is finished there is not done again, unless an older version of it was. `questions` scales everything:
    the number in a set that accuracy is measured on; others take a fixed multiple of it. Time goes with it.
    Raises RequestError for an odd number of questions or too few, ModelError for a folder of no such model,
    RunConflictError when `out` holds something else.
    """
    run = RunFolder.create(
        out, _config(folder, questions, seed), sections=("opening",), facts={"model": str(folder), "device": device}
    )
    bench = Bench(folder, questions, seed, device)
    for done, stage in enumerate(STAGES):
        if run.finished(stage.name) and run.manifest["stages"][stage.name].get("version", 1) == stage.version:
            continue
        if progress is not None:
            progress(stage.name, done, len(STAGES))
        run.forget([later.name for later in STAGES if set(later.needs) & set(stage.makes)])
        began = time.monotonic()
        made = stage.run(bench, {name: run.table(name) for name in stage.needs})
        outputs = [run.write_table(name, made[name]) for name in stage.makes]
        inputs = [f"{name}.parquet" for name in stage.needs]
        facts = {"version": stage.version}
        run.finish(stage.name, outputs, inputs=inputs, seconds=time.monotonic() - began, facts=facts)
    if progress is not None:
        progress("", len(STAGES), len(STAGES))
    return run


def compare(
    none_folder: Path,
    learned_folder: Path,
    out: Path,
    *,
    questions: int = QUESTIONS,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> RunFolder:
    """Open a model without positions and one with learned ones, and put their numbers side by side.

    Run folders `out/none` and `out/learned` as `open_up` makes them, and the table `comparison` in the run folder
    `out`. Both folders are checked before any work. Raises as `open_up`.
    """
    configs = [_config(folder, questions, seed) for folder in (none_folder, learned_folder)]
    for folder in (none_folder, learned_folder):
        check_folder(folder)
    runs = {}
    for name, folder in (("none", none_folder), ("learned", learned_folder)):
        tell = (
            (lambda stage, done, total, name=name: progress(f"{name} {stage}".strip(), done, total))
            if progress
            else None
        )
        runs[name] = open_up(folder, out / name, questions=questions, seed=seed, device=device, progress=tell)
    both = "+".join(config.weights for config in configs)
    held = OpeningConfig(both, "", "", questions, seed)
    run = RunFolder.create(
        out, held, sections=("opening",), facts={"none": str(none_folder), "learned": str(learned_folder)}
    )
    began = time.monotonic()
    file = run.write_table("comparison", comparison(runs["none"], runs["learned"]))
    run.finish("comparison", [file], seconds=time.monotonic() - began)
    return run


def _config(folder: Path, questions: int, seed: int) -> OpeningConfig:
    """What is asked of a folder. Raises ModelError where a file of a model is missing."""
    weights = sorted(folder.glob("*.safetensors"))
    files = [folder / name for name in ("tokenizer.json", "config.json")]
    if not weights or not all(file.is_file() for file in files):
        raise ModelError(f"{folder} holds no model with a tokenizer: give the step folder of a trained axiom model")
    joined = hashlib.sha256("".join(map(sha256_file, weights)).encode()).hexdigest()
    tokenizer, shape = map(sha256_file, files)
    return OpeningConfig(joined, tokenizer, shape, questions, seed)
