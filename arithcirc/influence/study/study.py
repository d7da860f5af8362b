"""One study: a loaded model, a corpus, and the folder `<out>/<model>/<revision>/influence/` its stages write to.

What was asked is kept in the folder's manifest with the hashes of weights, corpus and queries. A command that leaves an
option out takes what the folder was made with, else the default; one that asks for something else is refused with the
field named. So factors of other weights or of another corpus are never used.
"""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from arithcirc.config import ModelConfig, differing_fields
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.influence.config import CorpusConfig, FactorConfig, InfluenceConfig, QueryConfig, ScoreConfig
from arithcirc.influence.engine import linear_modules
from arithcirc.influence.study.encode import Encoder, make_encoder
from arithcirc.influence.study.source import Source, find_source
from arithcirc.influence.tracked import check_weights
from arithcirc.models.plain import PlainModel
from arithcirc.store import MANIFEST, RESULTS_VERSION, RunFolder, sha256_file

Report = Callable[[str, int, int], None]
"""Stage, done, total."""
Notice = Callable[[str, str], None]
"""Stage, one line."""
FOLDER, FACTORS, TOKENS, SCORES = "influence", "factors", "tokens", "scores"
FIT, SCORE = ("model", "corpus", "factors"), ("model", "corpus", "factors", "queries", "scores")
"""Sections that fitting and scoring depend on."""
MOST_FITTED = 100_000
"""Documents that curvature comes from where nothing else is asked: as many as the paper drew."""
_DIGITS = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_LAYERS = {"mlp": ("mlp",), "attention": ("attention",), "all": ("mlp", "attention")}
Section = TypeVar("Section", CorpusConfig, FactorConfig, QueryConfig, ScoreConfig)


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def unsaid(stage: str, text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Asked:
    """Options of a study; None: as the folder has it, else the default of `InfluenceConfig`."""

    max_tokens: int | None = None
    long: str | None = None
    layers: str | None = None
    fit_documents: int | None = None
    seed: int | None = None
    max_new_tokens: int | None = None
    stop: str | None = None
    damping: float | None = None
    low_rank: int | None = None

    def __post_init__(self) -> None:
        for option in ("fit_documents", "max_new_tokens", "low_rank"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise RequestError(f"--{option.replace('_', '-')} {value} is too few: give 1 or more, or leave it out")
        if self.stop == "":
            raise RequestError("--stop is empty: give the text that completions end before, or leave it out")
        if self.damping is not None and not self.damping > 0:
            raise RequestError(f"--damping {self.damping} is not positive: leave it out for 0.1 x mean eigenvalue")
        if self.layers is not None and self.layers not in _LAYERS:
            raise RequestError(f"--layers {self.layers!r} is not known: use {', '.join(_LAYERS)}")
        if self.seed is not None and self.seed < 0:
            raise RequestError(f"--seed {self.seed} is negative: give 0 or more")


@dataclass(frozen=True)
class How:
    """How fast and in what portions, which changes no number beyond rounding.

    `partition`: documents whose scores are computed and written together. `processes`: that share the fit. `memory`:
    bytes that scoring may take; None: nine tenths of what is free.
    """

    batch_size: int = 32
    query_batch_size: int = 32
    partition: int = 4096
    processes: int = 1
    memory: int | None = None

    def __post_init__(self) -> None:
        for option in ("batch_size", "query_batch_size", "partition", "processes"):
            if getattr(self, option) < 1:
                raise RequestError(f"--{option.replace('_', '-')} {getattr(self, option)} is too small: give 1 or more")


@dataclass
class Study:
    """What every stage of a study is given."""

    model: PlainModel
    source: Source
    encoder: Encoder
    config: InfluenceConfig
    run: RunFolder
    how: How = field(default_factory=How)
    report: Report = silent
    notice: Notice = unsaid

    @property
    def tracked(self) -> tuple[str, ...]:
        """Names of the layers whose curvature and gradients count."""
        return self.config.factors.tracked

    def hash_of(self, sections: Sequence[str]) -> str:
        """Hash of some sections and of the version of the code: what a partition's file belongs to."""
        values = {name: self.config.section(name) for name in sections} | {"version": RESULTS_VERSION}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def files_in(self, folder: str) -> list[str]:
        """Names of all files below a subfolder, as a stage's outputs are named."""
        below = sorted(p for p in (self.run.path / folder).rglob("*") if p.is_file() and p.suffix != ".part")
        return [p.relative_to(self.run.path).as_posix() for p in below]


def study_folder(model: PlainModel, out: Path) -> Path:
    """Where the study of a model lies."""
    return Path(out, model.info.name.replace("/", "--"), model.info.revision, FOLDER)


def open_study(
    model: PlainModel,
    corpus: Path,
    out: Path,
    *,
    queries: Path | None = None,
    asked: Asked | None = None,
    how: How | None = None,
    sections: Sequence[str] = FIT,
    facts: Mapping[str, Any] | None = None,
    replace_scores: bool = False,
    write: bool = True,
) -> Study:
    """Check a request against the model and open its folder for the sections a command uses.

    With `replace_scores` what was scored for other queries or options is dropped first; with `write` False nothing on
    disk is made or changed. Raises RunConflictError naming the field where the folder was made with another model,
    corpus or option, ModelError where layers cannot be tracked, PromptError for a corpus that is none.
    """
    asked, source = asked or Asked(), find_source(corpus, queries)
    path = study_folder(model, out)
    sections = _standing(path, sections, replace_scores=replace_scores, write=write)
    held = RunFolder.open(path).manifest if (path / MANIFEST).exists() else {"config": {}, "stages": {}}
    config = _config(model, source, asked, held["config"] if held["stages"] else {})
    _check_same(path, config, sections, held)
    check_weights(model.network)
    encoder = make_encoder(model.tokenizer, model.network, config.corpus, name=model.info.name)
    seen = {
        "documents": str(source.documents),
        "bos_id": encoder.bos,
        "end_id": encoder.end,
        "max_tokens": encoder.max_tokens,
        "device": model.info.device,
    }
    run = RunFolder.create(path, config, sections=sections, facts=seen | dict(facts or {}), write=write)
    return Study(model, source, encoder, config, run, how or How())


def _config(model: PlainModel, source: Source, asked: Asked, held: Mapping[str, Any]) -> InfluenceConfig:
    """All sections: what was asked, else what the folder has, else the defaults; hashes are always of what is here."""
    info = model.info
    named = ModelConfig(info.name, info.revision, info.weights_sha256, info.tokenizer_sha256, info.dtype)
    corpus = _settled(CorpusConfig(), asked, held.get("corpus", {}))
    factors = _settled(FactorConfig(), asked, held.get("factors", {}))
    queries = _settled(QueryConfig(), asked, held.get("queries", {}))
    scores = _settled(ScoreConfig(), asked, held.get("scores", {}))
    if factors.fit_documents is None and source.n_documents > MOST_FITTED:
        factors = replace(factors, fit_documents=MOST_FITTED)
    tracked = linear_modules(model.network, kinds=_LAYERS[factors.layers])
    file = source.queries
    return InfluenceConfig(
        named,
        replace(corpus, sha256=source.sha256, documents=source.n_documents),
        replace(factors, tracked=tracked),
        replace(queries, sha256="" if file is None else sha256_file(file)),
        scores,
    )


def _settled(section: Section, asked: Asked, held: Mapping[str, Any]) -> Section:
    """A section with what the folder has of it, and over that what was asked for."""
    changed: dict[str, Any] = {}
    for option in fields(section):
        given = getattr(asked, option.name, None)
        value = given if given is not None else held.get(option.name)
        if value is not None:
            changed[option.name] = tuple(value) if isinstance(value, list) else value
    return replace(section, **changed)


def _standing(path: Path, sections: Sequence[str], *, replace_scores: bool, write: bool) -> list[str]:
    """The sections to compare. What the folder has of queries and scores goes where nothing finished stands for it.

    With `replace_scores` it goes anyway, with all that was made of it; documents and factors stay.
    """
    if not (path / MANIFEST).exists():
        return list(sections)
    run = RunFolder.open(path)
    stages = run.manifest["stages"]
    loose = [name for name in ("queries", "scores") if replace_scores or name not in stages]
    if not write:
        return [name for name in sections if name not in loose]
    for name in loose:
        run.manifest["config"].pop(name, None)
    gone = [stage for stage in stages if stage not in ("documents", FACTORS)] if replace_scores else []
    if loose:
        run.forget(gone)
    return list(sections)


def _check_same(path: Path, config: InfluenceConfig, sections: Sequence[str], held: Mapping[str, Any]) -> None:
    """Raise RunConflictError where finished stages are of something else, saying what must go and what may stay."""
    if not held["stages"]:
        return
    asked = {name: config.section(name) for name in sections}
    found = {n: differing_fields(section, held["config"].get(n, section)) for n, section in asked.items()}
    found = {name: different for name, different in found.items() if different}
    if not found:
        return
    said = _DIGITS.sub(r"\1", "; ".join(f"{name}: {', '.join(different)}" for name, different in found.items()))
    if any("weights_sha256" in field for field in found.get("model", ())):
        raise RunConflictError(f"{path}: these factors belong to other weights ({said}): choose another --out, or "
                               "delete the folder")  # fmt: skip
    if found.keys() <= {"queries", "scores"}:
        raise RunConflictError(
            f"{path} was scored with other options ({said}): 'arithcirc influence score --replace' scores anew with "
            "these and keeps the factors, another --out keeps both"
        )
    raise RunConflictError(
        f"{path} was made with another configuration ({said}): choose another --out, or delete the folder; "
        "its factors cannot be used"
    )


def abandon(study: Study) -> None:
    """Remove the folder of a study that cannot be made, where neither factors nor anything after them is there."""
    if study.run.manifest["stages"].keys() <= {"documents"}:
        shutil.rmtree(study.run.path, ignore_errors=True)
        for parent in study.run.path.parents[:2]:  # of the revision and of the model
            with contextlib.suppress(OSError):
                parent.rmdir()


def needs_stage(study: Study, stage: str, command: str) -> None:
    """Raise RunConflictError where a stage is not finished, naming the command that does it.

    A folder that holds nothing else is removed.
    """
    if not study.run.finished(stage):
        if {file.name for file in study.run.path.glob("*")} == {MANIFEST}:
            abandon(study)
        raise RunConflictError(f"{study.run.path} has no finished {stage}: run 'arithcirc influence {command}' first")
