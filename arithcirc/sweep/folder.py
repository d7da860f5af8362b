"""The folder of a sweep as the driver writes it: what was asked is compared with what is there, and disk is watched.

A sweep may grow: more models, revisions or operators in the same folder are new tasks beside the old ones. Its
settings may not change, since tables of differently made tasks would stand side by side: a difference is refused with
the name of the field. The revision that a model's others are compared with stays what it was when the folder was made,
also when later checkpoints join, unless it could not be read. Until a task has begun nothing is held against another
request: a folder that was only asked for is made anew.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arithcirc.catalogue import SCHEMA, SWEEP, SweepFolder
from arithcirc.config import differing_fields
from arithcirc.errors import EnvironmentFailure, RunConflictError
from arithcirc.store import git_sha, versions
from arithcirc.sweep.revisions import Checkpoints, Revision
from arithcirc.sweep.task import Loading, Settings

SPARE_BYTES = 200_000_000
"""Bytes that stay free: below them no further task is started."""
_NEARLY = 0.8
"""Share of the free disk from which a plan says that it is nearly full."""
ORDER = "+-*/"


def open_sweep(
    path: Path,
    chosen: Sequence[Checkpoints],
    operators: str,
    settings: Settings,
    loading: Loading,
    *,
    reference: str | None = None,
    facts: dict[str, Any] | None = None,
    write: bool = True,
) -> SweepFolder:
    """Open a folder to sweep in it, making it when it is new; with `write` False nothing on disk is changed.

    `reference` names the revision that each model's others are compared with (default: the last). `facts` (command,
    executor, workers) are recorded, not compared. Raises RunConflictError when the folder holds another sweep.
    """
    if path.exists() and not path.is_dir():
        raise RunConflictError(f"{path} is a file, not a sweep's folder: choose another --out")
    asked = asdict(settings)
    begun = (path / "tasks").exists()
    held = SweepFolder.open(path) if (path / SWEEP).exists() else None
    if held is not None and begun:
        sweep = held
        _check_settings(sweep, asked, loading)
    else:
        if begun or (path / "manifest.json").exists():
            raise RunConflictError(f"{path} holds other runs and no {SWEEP}: choose another --out")
        sweep = SweepFolder(path, {"schema": SCHEMA, "created": _now(), "models": [], "operators": "", "notes": {}})
    manifest = sweep.manifest
    manifest["models"] = _merged(manifest["models"], chosen, reference, path)
    manifest["operators"] = "".join(o for o in ORDER if o in manifest["operators"] + operators)
    manifest |= {"updated": _now(), "git_sha": git_sha(), "packages": versions(), "settings": asked}
    manifest |= {"loading": asdict(loading), **(facts or {})}
    if write:
        sweep.save()
    return sweep


def _check_settings(sweep: SweepFolder, asked: dict[str, Any], loading: Loading) -> None:
    """Refuse other settings, naming the field."""
    held = sweep.manifest.get("settings", asked)
    different: list[str] = []
    for name, wanted in asked.items():
        there = held.get(name, {} if isinstance(wanted, dict) else wanted)
        if isinstance(wanted, dict):
            different += [f"{name}: {field}" for field in differing_fields(wanted, there)]
        elif there != wanted:
            different.append(f"{name}: {there!r} in the folder, {wanted!r} asked")
    dtype = sweep.manifest.get("loading", {}).get("dtype", loading.dtype)
    if dtype != loading.dtype:
        different.append(f"dtype: {dtype!r} in the folder, {loading.dtype!r} asked")
    if different:
        raise RunConflictError(
            f"sweep {sweep.path} was made with other settings ({'; '.join(different)}): choose another --out, or "
            "delete the folder"
        )


def _merged(
    held: list[dict[str, Any]], chosen: Sequence[Checkpoints], reference: str | None, path: Path
) -> list[dict[str, Any]]:
    """The models of the manifest with those asked for; references stay, or are the last revision asked for."""
    by_name = {entry["name"]: dict(entry) for entry in held}
    for one in chosen:
        entry = by_name.get(one.name)
        wanted = None if reference is None else one.revision(reference).revision
        if entry is None:
            first = wanted or one.revisions[-1].revision
            entry = {"model": one.model, "name": one.name, "revisions": [], "reference": first, "reference_note": None}
            entry["reference_asked"] = first
        if entry["model"] != one.model:
            raise RunConflictError(
                f"sweep {path} has another model called {one.name} ({entry['model']}, now {one.model}): choose another "
                "--out"
            )
        if wanted not in (None, entry["reference"], entry["reference_asked"]):
            raise RunConflictError(
                f"sweep {path} compares {one.name} with {entry['reference']}, not with {wanted}: choose another --out"
            )
        entry["revisions"] = _together(entry["revisions"], one.revisions)
        by_name[one.name] = entry
    return list(by_name.values())


def _together(held: list[dict[str, Any]], more: Sequence[Revision]) -> list[dict[str, Any]]:
    """Revisions in the order of training, each once."""
    found = {r["revision"]: r for r in [*held, *map(asdict, more)]}
    return sorted(found.values(), key=lambda r: (r["step"] is None, r["step"] or 0, r["revision"]))


def change_reference(sweep: SweepFolder, name: str, revision: str, note: str) -> None:
    """Record that a model's checkpoints are compared with another revision, and why."""
    for entry in sweep.manifest["models"]:
        if entry["name"] == name:
            entry |= {"reference": revision, "reference_note": note}
    sweep.save()


# -- disk -------------------------------------------------------------------------------------------------------------


def free_disk(path: Path) -> int:
    """Bytes free where a folder is, or will be."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def check_disk(path: Path, needed: float) -> str | None:
    """A warning when the plan nearly fills the disk. Raises EnvironmentFailure when it does not fit."""
    free = free_disk(path)
    text = f"the sweep will write about {needed / 1e6:,.0f} MB to {path}, where {free / 1e6:,.0f} MB are free"
    if needed > free - SPARE_BYTES:
        raise EnvironmentFailure(
            f"{text} and {SPARE_BYTES / 1e6:.0f} MB must stay free: make room, choose another --out, or sweep over "
            "fewer --revisions"
        )
    return f"{text}: nearly full" if needed > _NEARLY * (free - SPARE_BYTES) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
