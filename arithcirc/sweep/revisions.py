"""Which checkpoints of a model a sweep is over: from what people type to revisions in the order of training.

    step23000   23000   main   <commit>   step1000-tokens4B      one revision
    step0..step4000                                              all published (or local) steps from one to the other
    step23000..step143000/10000                                  every so many steps from the first, and the last
    all                                                          every published step, every step folder
    pythia   pythia/10                                           Pythia's 154 published steps, or every tenth of them,
                                                                 the first and the last included
    and any of these joined by commas.

A model may have revisions of its own, as MODEL@REVISIONS (EleutherAI/pythia-70m@pythia/10), instead of those given for
all. Without a choice a local folder stands for all its `step<N>` folders and a folder that is one checkpoint for
itself; a hub model with many published steps must be told which. Which steps a hub model has is known for the models of
the zoo (`models.published`); of others every name is taken as it is, and the hub refuses it when it is fetched. Nothing
is downloaded here, and nothing heavy imported.
"""

import difflib
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arithcirc.errors import ModelError, RequestError
from arithcirc.models.zoo import SHIPPED, find, locate, shipped_folder, step_folders

_RANGE = re.compile(r"(?:step)?(\d+)\.\.(?:step)?(\d+)(?:/(\d+))?")
_PYTHIA = re.compile(r"pythia(?:/(\d+))?")


@dataclass(frozen=True)
class Revision:
    """One checkpoint: what it is called, and its training step where the name says it."""

    revision: str
    step: int | None


@dataclass(frozen=True)
class Checkpoints:
    """A model and its checkpoints in the order of training: `model` is what `load` is given, `name` what it is called.

    `local` says whether it lies in a folder here.
    """

    model: str
    name: str
    revisions: tuple[Revision, ...]
    local: bool

    def revision(self, name: str) -> Revision:
        """The revision of this name, `512` for `step512` too. Raises RequestError with those there are."""
        wanted = f"step{name}" if name.isdigit() else name
        for found in self.revisions:
            if found.revision == wanted:
                return found
        raise RequestError(
            f"{self.name} has no revision {name!r} in this sweep: it has {_few([r.revision for r in self.revisions])}"
        )


def checkpoints(model: str | None, text: str | None = None) -> Checkpoints:
    """What MODEL (None: the shipped one) and `--revisions` stand for. Raises ModelError or RequestError."""
    given, name, local, known = _published(model)
    if text is None:
        names = _default(given, local, known)
    else:
        names = [n for item in text.split(",") if item.strip() for n in _item(item.strip(), given, local, known)]
    if not names:
        raise RequestError(f"--revisions {text!r} names no revision: give step512, step0..step4000 or all")
    found = [Revision(n, step_of(n)) for n in dict.fromkeys(names)]
    return Checkpoints(given, name, tuple(sorted(found, key=_in_training)), local)


def all_checkpoints(models: Iterable[str], text: str | None) -> list[Checkpoints]:
    """The checkpoints of several models (none: the shipped one), each `MODEL` or `MODEL@REVISIONS`.

    Raises RequestError for two of one name.
    """
    found = [checkpoints(*_own(model, text)) for model in models] or [checkpoints(None, text)]
    merged: dict[str, Checkpoints] = {}
    for one in found:
        held = merged.setdefault(one.name, one)
        if held.model != one.model:
            raise RequestError(
                f"two models are called {one.name} ({held.model} and {one.model}): sweep them into different --out"
            )
        together = sorted({*held.revisions, *one.revisions}, key=_in_training)
        merged[one.name] = Checkpoints(one.model, one.name, tuple(together), one.local)
    return list(merged.values())


def _own(model: str, text: str | None) -> tuple[str, str | None]:
    """A model and its revisions: those after an @ of its own before those of all; a folder with an @ is a folder."""
    if "@" not in model or Path(model).expanduser().exists():
        return model, text
    name, _, mine = model.rpartition("@")
    if not name or not mine:
        raise RequestError(f"{model!r} is no model with its revisions: write MODEL@REVISIONS, as gpt2@main")
    return name, mine


def step_of(revision: str) -> int | None:
    """The training step in a revision's name: 512 in `step512`, 1000 in `step1000-tokens4B`, None in `main`."""
    found = re.match(r"step(\d+)(?!\d)", revision)
    return int(found[1]) if found else None


def _in_training(revision: Revision) -> tuple[bool, int, str]:
    return revision.step is None, revision.step or 0, revision.revision


def _published(model: str | None) -> tuple[str, str, bool, list[str] | None]:
    """What to load, its name, whether it is a folder, and the revisions known to exist (None: any may)."""
    if model is None or model == SHIPPED:
        return SHIPPED, SHIPPED, True, list(step_folders(shipped_folder()))
    here = locate(model)
    if not here.local:
        entry = find(model)
        steps = entry.steps if entry is not None and _is(entry.name, model) else ()
        return model, here.name, False, [f"step{s}" for s in steps] or None
    folder = Path(model).expanduser().resolve()
    if here.name == SHIPPED and folder == shipped_folder().resolve():
        return _published(SHIPPED)
    if here.revision != "main" and folder == Path(here.source).resolve():  # a step folder itself
        return str(folder.parent), here.name, True, [here.revision]
    return str(folder), here.name, True, list(step_folders(folder)) or ["main"]


def _is(name: str, model: str) -> bool:
    return name.lower() == model.lower().removesuffix("-deduped")


def _default(model: str, local: bool, known: list[str] | None) -> list[str]:
    """All folders of a local model, `main` of a hub model without published steps."""
    if known is None:
        return ["main"]
    if not local:
        raise RequestError(
            f"{model} has {len(known)} published checkpoints: say which with --revisions, as pythia/10 (every tenth), "
            f"step1000..step143000/20000, step512,step143000, or pythia (all of them)"
        )
    return known


def _item(text: str, model: str, local: bool, known: list[str] | None) -> list[str]:
    """The revisions that one part between commas stands for."""
    if (pythia := _PYTHIA.fullmatch(text)) is not None:
        return _thinned(text, model, known, int(pythia[1] or 1), local=local)
    if text == "all":
        if known is None:
            raise RequestError(
                f"which revisions {model} has is not known here: name them, as --revisions main,step1000"
            )
        return known
    if (span := _RANGE.fullmatch(text)) is not None:
        return _span(text, model, local, known, (int(span[1]), int(span[2]), span[3]))
    if ".." in text:
        raise RequestError(f"--revisions {text!r} is not a range: write step23000..step143000/10000")
    return [_one(text, model, local, known)]


def _thinned(text: str, model: str, known: list[str] | None, every: int, *, local: bool) -> list[str]:
    """Every so many of Pythia's steps, the first and the last included."""
    if known is None or local:
        raise RequestError(f"--revisions {text} is for the Pythia models, and {model} is none: use all, or name steps")
    if every < 1:
        raise RequestError(f"--revisions {text!r}: take every first or later one, as pythia/10")
    return [*known[::every], known[-1]]


def _span(text: str, model: str, local: bool, known: list[str] | None, ends: tuple[int, int, str | None]) -> list[str]:
    low, high, by = ends
    if low > high:
        raise RequestError(f"--revisions {text!r} runs backwards: write step{high}..step{low}")
    if by is not None:
        if int(by) < 1:
            raise RequestError(f"--revisions {text!r}: the distance after / must be 1 or more")
        return [_one(f"step{step}", model, local, known) for step in (*range(low, high, int(by)), high)]
    if known is None:
        raise RequestError(
            f"which steps {model} has between {low} and {high} is not known here: give their distance, as "
            f"--revisions step{low}..step{high}/1000"
        )
    between = [n for n in known if (step := step_of(n)) is not None and low <= step <= high]
    if not between:
        raise RequestError(f"{model} has no revision in {text}: {_nearest(f'step{low}', known)}")
    return between


def _one(text: str, model: str, local: bool, known: list[str] | None) -> str:
    """A single revision, checked against the known ones."""
    name = f"step{text}" if text.isdigit() else text
    if local:
        if name not in (known or []):
            raise ModelError(f"{model} has no revision {text!r}: {_nearest(name, known or [])}")
        return name
    found = locate(model, name).revision
    return known[-1] if known and found == "main" else found  # Pythia's main is its last step


def _nearest(name: str, known: list[str]) -> str:
    """`the nearest are step512 and step768 (it has 12: step0, step64, ..)`."""
    steps = sorted(step for n in known if (step := step_of(n)) is not None)
    wanted = step_of(name)
    if wanted is not None and steps:
        place = bisect_left(steps, wanted)
        near = [f"step{s}" for s in steps[max(0, place - 1) : place + 1]]
    else:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    has = f"it has {_few(known)}"
    return f"the nearest {'is' if len(near) == 1 else 'are'} {' and '.join(near)} ({has})" if near else has


def _few(names: list[str], most: int = 12) -> str:
    """All of a short list, the ends of a long one."""
    return ", ".join(names) if len(names) <= most else f"{len(names)}: {', '.join(names[:3])}, .. {names[-1]}"
