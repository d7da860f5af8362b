"""One study: trainings of positions x mixes x seeds, all asked the same, and their tables beside published numbers.

    <out>/models/<mix>-<positions>-s<seed>/      a model each, trained and resumed by the one trainer
    <out>/study/                                 a run folder: tables and one stage per model

A model's stage holds its answers and the hash of its weights: other weights, questions or recipes are never mixed in.
Models can be added one by one; the tables are of all that the folder has. A training that does not learn its longest
chains (`LEARNED`) is repeated with another seed as often as allowed. Both stay in the tables, and only the last attempt
is `counted`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from arithcirc.axioms.exam import read_grades
from arithcirc.axioms.mixes import find_mix
from arithcirc.axioms.recipe import AXIOM_PRESETS, AxiomRecipe, load_axiom_recipe
from arithcirc.axioms.shortcuts import SHORTCUTS
from arithcirc.axioms.study.answers import CELLS, HOPS, MODEL, SHORTCUT, guess_sets, table, told
from arithcirc.axioms.study.jobs import TRAINING, Job, Result, Tell, learned_share, model_name, recipe_of, weights_of
from arithcirc.axioms.study.questions import Evaluation, question_sets
from arithcirc.axioms.study.tables import write_tables
from arithcirc.axioms.study.workers import Failure, run_jobs
from arithcirc.errors import RequestError, RunConflictError, SweepIncomplete
from arithcirc.store import MANIFEST, RunFolder
from arithcirc.training.fields import difference
from arithcirc.training.positions import POSITION_KINDS

FOLDER, MODELS, PARTS = "study", "models", "parts"
SECTIONS = ("recipe", "evaluation")
STAGE, GUESSED = "model/", "shortcuts"
LEARNED = 0.97
"""Accuracy in the last exam, on sequential chains of the longest trained length, below which a training has failed."""
RESEED = 1000
"""Added to a seed for each repetition; seeds that are asked for are below."""
_VARIED = ("mix", "position_kind", "seed")
Notice = Callable[[str], None]


def silent(what: str, done: int, total: int) -> None:
    """Tell nothing."""


def unsaid(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Request:
    """Which models, and what they are asked. `recipe` gives all but mix, positions and seed.

    `reseeds`: how often a training that failed may be repeated. Raises RequestError for unknown or repeated mixes,
    positions and seeds, and for names or a vocabulary that differ from those of training.
    """

    recipe: AxiomRecipe
    mixes: tuple[str, ...] = ("TS2", "TS1", "OCC")
    positions: tuple[str, ...] = POSITION_KINDS
    seeds: tuple[int, ...] = (0,)
    evaluation: Evaluation = field(default_factory=Evaluation)
    reseeds: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixes", tuple(find_mix(name).name for name in self.mixes))
        for option in ("mixes", "positions", "seeds"):
            given = getattr(self, option)
            if not given or len(set(given)) < len(given):
                raise RequestError(f"--{option} {','.join(map(str, given))!r}: give one or more, each once")
        if odd := [kind for kind in self.positions if kind not in POSITION_KINDS]:
            raise RequestError(f"--positions has {odd[0]!r}: use any of {', '.join(POSITION_KINDS)}")
        if odd_seeds := [seed for seed in self.seeds if not 0 <= seed < RESEED]:
            raise RequestError(f"--seeds has {odd_seeds[0]}: use 0 to {RESEED - 1}, higher ones are of repetitions")
        if self.reseeds < 0:
            raise RequestError(f"--reseeds {self.reseeds} is negative: give 0 to repeat no training")
        asked = (self.evaluation.name_lengths, self.evaluation.vocab)
        if asked != (self.recipe.name_lengths, self.recipe.vocab):
            raise RequestError("the questions have other names than the training: give both the same lengths and vocab")

    def section(self, name: str) -> dict[str, Any]:
        """The recipe without what varies, or the questions, as plain values."""
        if name == "evaluation":
            return self.evaluation.to_json()
        return shared_fields(self.recipe)

    @property
    def demanded(self) -> bool:
        """Whether the bars are about these models: those of the `small` recipe."""
        return shared_fields(self.recipe) == shared_fields(AXIOM_PRESETS["small"])


def shared_fields(recipe: AxiomRecipe) -> dict[str, Any]:
    """What all models of a study have in common, as it is read back from JSON."""
    values: dict[str, Any] = json.loads(json.dumps(recipe.to_json()))
    return {name: value for name, value in values.items() if name not in _VARIED}


@dataclass(frozen=True)
class Study:
    """A request and its folders."""

    request: Request
    out: Path
    run: RunFolder

    def job(self, mix: str, positions: str, seed: int, attempt: int = 0) -> Job:
        """One training; attempt 0 has the seed that was asked for."""
        recipe = recipe_of(self.request.recipe, mix, positions, seed + attempt * RESEED)
        folder = self.out / MODELS / model_name(recipe)
        return Job(recipe, folder, self.request.evaluation, seed, self.request.device)

    def jobs(self) -> tuple[Job, ...]:
        """The trainings that were asked for, mixes by seed by positions, without repetitions."""
        request = self.request
        return tuple(
            self.job(mix, positions, seed)
            for seed in request.seeds
            for mix in request.mixes
            for positions in request.positions
        )

    def settled(self, job: Job) -> bool:
        """Whether a model is trained and its answers are those of the weights on disk."""
        if not (job.folder / "card.json").is_file() or not (job.final / "model.safetensors").is_file():
            return False
        stage = STAGE + job.name
        return self.run.finished(stage) and self.facts(job)["weights"] == weights_of(job.final)

    def facts(self, job: Job) -> Mapping[str, Any]:
        """What the manifest says of a settled model."""
        facts: Mapping[str, Any] = self.run.manifest["stages"][STAGE + job.name]["model"]
        return facts

    def repeated(self, job: Job, learned: float) -> Job | None:
        """The next attempt, where a training has failed and one is left."""
        attempt = (job.recipe.seed - job.asked_seed) // RESEED + 1
        if not learned < LEARNED or attempt > self.request.reseeds:
            return None
        return self.job(job.recipe.mix, job.recipe.position_kind, job.asked_seed, attempt)

    def left(self) -> list[Job]:
        """What is to be done now; failures found on the way may add to it."""
        found = []
        for first in self.jobs():
            job: Job | None = first
            while job is not None and self.settled(job):
                job = self.repeated(job, learned_share(job.recipe, read_grades(job.folder)))
            if job is not None:
                found.append(job)
        return found


def open_study(request: Request, out: Path, *, facts: Mapping[str, Any] | None = None, write: bool = True) -> Study:
    """Check a request against what the folder has, and open it; with `write` False nothing on disk is made or changed.

    Raises RunConflictError naming the field where the folder's models or answers were made otherwise.
    """
    out = Path(out)
    asked = {"mixes": request.mixes, "positions": request.positions, "seeds": request.seeds, "learned": LEARNED}
    path = out / FOLDER
    if write or (path / MANIFEST).exists():
        run = RunFolder.create(path, request, sections=SECTIONS, facts=asked | dict(facts or {}), write=write)
    else:
        run = RunFolder(path, {"stages": {}, "config": {}})
    study = Study(request, out, run)
    for job in study.jobs():
        if (file := job.folder / "recipe.json").is_file():
            different = difference(job.recipe, load_axiom_recipe(file))
            if different is not None:
                raise RunConflictError(
                    f"{job.folder} was trained by another recipe ({different}): choose another --out or that recipe"
                )
    return study


def run_study(study: Study, *, workers: int = 1, tell: Tell = silent, notice: Notice = unsaid) -> RunFolder:
    """Train and ask what is left, then write the tables of all that is there.

    Raises SweepIncomplete when some models failed, after the tables of the others; RequestError as `run_jobs`.
    """
    _shortcuts(study)

    def finished(job: Job, result: Result) -> Job | None:
        _store(study, job, result)
        if result.answered.left_out:
            notice(f"{job.name}: no positions for {', '.join(result.answered.left_out)}, left out")
        again = study.repeated(job, result.learned)
        if again is not None:
            notice(
                f"{job.name} has learned {result.learned:.3f} of its longest chains, below {LEARNED}: repeated with "
                f"seed {again.recipe.seed}"
            )
        return again if again is None or not study.settled(again) else None

    failures: list[Failure] = []

    def failed(failure: Failure) -> None:
        failures.append(failure)
        notice(f"{failure.name} failed: {failure.reason}")

    run_jobs(study.left(), finished, failed, workers=workers, tell=tell)
    write_tables(study.run, demanded=study.request.demanded)
    if failures:
        raise SweepIncomplete(
            f"{len(failures)} model(s) of the study failed, first {failures[0].name}: {failures[0].reason}; the tables "
            "in its folder are of the others"
        )
    return study.run


def _shortcuts(study: Study) -> None:
    """What the shortcuts answer, once for all models; again where a folder was made when there were fewer of them."""
    if study.run.finished(GUESSED) and set(SHORTCUTS) <= set(study.run.table(f"{PARTS}/shortcuts.cells")["model"]):
        return
    who = {"mix": "", "positions": "", "seed": None, "asked_seed": None, "counted": True, "kind": SHORTCUT}
    cells, hops = [], []
    for name, answered in guess_sets(question_sets(study.request.evaluation)).items():
        cells += told(answered.cells, {"model": name} | who)
        hops += told(answered.hops, {"model": name} | who)
    files = [
        study.run.write_table(f"{PARTS}/shortcuts.cells", table(cells, CELLS)),
        study.run.write_table(f"{PARTS}/shortcuts.hops", table(hops, HOPS)),
    ]
    study.run.finish(GUESSED, files)


def _store(study: Study, job: Job, result: Result) -> None:
    """A model's answers as a stage of its own."""
    recipe, run = job.recipe, study.run
    who = {
        "model": job.name, "mix": recipe.mix, "positions": recipe.position_kind, "seed": recipe.seed,
        "asked_seed": job.asked_seed,
    }  # fmt: skip
    rows = who | {"counted": True, "kind": MODEL}
    files = [
        run.write_table(f"{PARTS}/{job.name}.cells", table(told(result.answered.cells, rows), CELLS)),
        run.write_table(f"{PARTS}/{job.name}.hops", table(told(result.answered.hops, rows), HOPS)),
        run.write_table(f"{PARTS}/{job.name}.training", pd.DataFrame(list(result.training), columns=list(TRAINING))),
    ]
    facts = who | {
        "learned": None if result.learned != result.learned else result.learned,
        "steps": recipe.steps,
        "seconds": result.seconds,
        "weights": result.weights,
        "folder": job.final.relative_to(study.out).as_posix(),
        "left_out": list(result.answered.left_out),
    }
    run.finish(STAGE + job.name, files, seconds=result.seconds, facts={"model": facts})
