"""Run folders: what was asked, what was computed, and proof that the two belong together.

`<out>/<model>/<revision>/` holds `manifest.json`, one Parquet file per table, safetensors for arrays, `figures/` and
`report.html`. Each file is written as `.part` and renamed, so a kill at any moment leaves whole files only. The
manifest lists finished stages with the configuration sections they depend on and the sha256 of what they wrote: equal
sections reuse a stage, different ones raise and name the field, a missing or altered file makes the stage run again.
Nothing is pickled. This module imports neither torch nor plotly, so pages open without them.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import duckdb
import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save

from arithcirc.config import differing_fields
from arithcirc.errors import EnvironmentFailure, RequestError, RunConflictError

SCHEMA = 1
RESULTS_VERSION = 3
"""Raised whenever the code gives other numbers for the same configuration; older stages are computed again."""
MANIFEST = "manifest.json"
_PACKAGES = ("arithcirc", "torch", "transformers", "transformer-lens", "numpy", "pandas", "plotly")


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def environment_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one clear line; the `.part` file is removed, earlier files stay."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(path.name + ".part").unlink(missing_ok=True)
        reasons = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
        denied = {errno.EACCES, errno.EPERM, errno.EROFS}
        reason = "the folder is not writable" if error.errno in denied else reasons.get(error.errno or 0, str(error))
        raise EnvironmentFailure(
            f"cannot write {path}: {reason}; finished stages are kept, make room there or choose another --out, "
            "then run the same command again"
        ) from error


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on `path.part`, flush it to disk, then rename. Raises EnvironmentFailure."""
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def _damage(file: Path) -> Iterator[None]:
    """Name the file when it cannot be read as what it should be."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise RunConflictError(
            f"{file} is damaged ({error}): run the command that made it again, it is computed anew"
        ) from None


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON atomically; non-finite numbers are refused, since they are not JSON."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers and figures depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_sha() -> str | None:
    """Commit of the package's own checkout, with `+` when it has changes; None when installed from a wheel."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude", "*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@runtime_checkable
class Sections(Protocol):
    """A configuration in sections (`config.RunConfig`, `influence.config.InfluenceConfig`)."""

    def section(self, name: str) -> dict[str, Any]:
        """One section as plain values."""


@dataclass
class RunFolder:
    """One run on disk. Made by `RunFolder.create` (to compute) or `RunFolder.open` (to read)."""

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    # -- making and opening -------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        config: Sections,
        *,
        sections: Sequence[str],
        facts: Mapping[str, Any],
        write: bool = True,
    ) -> "RunFolder":
        """Open the folder to compute in it, making it when it is new.

        `sections` are the parts of the configuration this command uses: they must equal what the folder's finished
        stages were made with, else RunConflictError names the differing fields. `facts` (device, BOS choice) are
        recorded, not compared. With `write` False nothing on disk is made or changed: enough to plan.
        """
        asked = {name: config.section(name) for name in sections}
        if path.exists() and not path.is_dir():
            raise RunConflictError(f"{path} is a file, not a run folder: choose another --out")
        if (path / MANIFEST).exists():
            run = cls.open(path)
            if not run.manifest["stages"]:
                run.manifest["config"] = {}
            for name, section in asked.items():
                held = run.manifest["config"].get(name, section)
                if different := differing_fields(section, held):
                    raise RunConflictError(
                        f"run folder {path} was made with another configuration ({name}: {'; '.join(different)}): "
                        "choose another --out, or delete the folder"
                    )
            run.manifest["config"].update(asked)
        else:
            if path.exists() and any(p.suffix in {".parquet", ".safetensors"} for p in path.iterdir()):
                raise RunConflictError(
                    f"{path} holds tables but no {MANIFEST}, so nobody can say what they are: "
                    "choose another --out, or delete the folder"
                )
            run = cls(path, {"schema": SCHEMA, "created": _now(), "config": asked, "stages": {}})
        run.manifest |= {"updated": _now(), "git_sha": git_sha(), "packages": versions(), "facts": dict(facts)}
        if write:
            run._save()
        return run

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Open a folder to read it. Raises RunConflictError when it is no run, damaged, or of another schema."""
        path = Path(path)
        file = path / MANIFEST
        if not file.is_file():
            raise RunConflictError(f"{path} is not a run folder (no {MANIFEST}): make one with 'arithcirc analyze'")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            schema = manifest["schema"]
            whole = all(isinstance(part, dict) for k in ("stages", "config") for part in manifest[k].values())
        except OSError as error:
            raise EnvironmentFailure(f"cannot read {file}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise RunConflictError(
                f"{file} is damaged and cannot be read: move the folder away, or choose another --out"
            )
        if schema != SCHEMA:
            raise RunConflictError(f"{file} has schema {schema}, this version reads {SCHEMA}: analyse again")
        return cls(path, manifest)

    def _save(self) -> None:
        write_text(self.path / MANIFEST, json.dumps(self.manifest, indent=2, sort_keys=True, default=str) + "\n")

    # -- stages -------------------------------------------------------------------------------------------------

    def finished(self, stage: str) -> bool:
        """True when this version's code finished the stage and every file it wrote is still as it was."""
        record = self.manifest["stages"].get(stage)
        if record is None or record.get("results_version") != RESULTS_VERSION:
            return False
        files = {self.path / name: digest for name, digest in record["outputs"].items()}
        return all(file.is_file() and sha256_file(file) == digest for file, digest in files.items())

    def finish(
        self,
        stage: str,
        outputs: Sequence[str],
        *,
        inputs: Sequence[str] = (),
        seconds: float = 0.0,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a stage as done, with the hashes of the files it read and wrote (names inside the folder).

        `facts` say how it ran (batch size, memory); they are recorded, not compared.
        """
        self.manifest["stages"][stage] = {
            "finished": _now(),
            "results_version": RESULTS_VERSION,
            "git_sha": self.manifest.get("git_sha"),
            "seconds": round(seconds, 3),
            **(facts or {}),
            "inputs": {name: sha256_file(self.path / name) for name in inputs},
            "outputs": {name: sha256_file(self.path / name) for name in outputs},
        }
        self._save()

    def forget(self, stages: Sequence[str]) -> None:
        """Drop stages from the record, because something they were computed from is computed anew."""
        for stage in stages:
            self.manifest["stages"].pop(stage, None)
        self._save()

    def note(self, key: str, value: Any) -> None:
        """Record one more fact in the manifest (what was skipped and why, what was measured)."""
        self.manifest.setdefault("notes", {})[key] = value
        self._save()

    # -- tables and arrays ----------------------------------------------------------------------------------------

    def write_table(self, name: str, table: pd.DataFrame) -> str:
        """Write `<name>.parquet`; returns the file's name."""
        file = f"{name}.parquet"
        write_atomic(self.path / file, lambda part: table.to_parquet(part, index=False))
        return file

    def table(self, name: str) -> pd.DataFrame:
        """Read a table. Raises RunConflictError when the run has none of that name, or it is damaged."""
        file = self.path / f"{name}.parquet"
        if not file.is_file():
            raise RunConflictError(
                f"run {self.path} has no table {name!r}: it has {', '.join(self.tables()) or 'none'}"
            )
        with _damage(file):
            return pd.read_parquet(file)

    def tables(self) -> list[str]:
        """Names of the tables on disk."""
        return tables_in(self.path)

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> str:
        """Write `<name>.safetensors`; returns the file's name."""
        file = f"{name}.safetensors"
        rows = {key: np.ascontiguousarray(array) for key, array in arrays.items()}  # else as they lie
        write_atomic(self.path / file, lambda part: part.write_bytes(save(rows)))
        return file

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read `<name>.safetensors`. Raises RunConflictError when it is missing or damaged."""
        file = self.path / f"{name}.safetensors"
        if not file.is_file():
            raise RunConflictError(f"run {self.path} has no arrays {name!r}: run the stage that writes them")
        with _damage(file):
            loaded: dict[str, np.ndarray] = load(file.read_bytes())
        return loaded

    def sql(self, query: str) -> pd.DataFrame:
        """Query the tables by name with DuckDB, in memory: `run.sql("select * from effects where layer = 0")`.

        Raises RequestError for a query that DuckDB refuses.
        """
        return query_tables(self.path, query)


def tables_in(folder: Path) -> list[str]:
    """Names of the Parquet tables in a folder."""
    return sorted(p.stem for p in folder.glob("*.parquet"))


def query_tables(folder: Path, query: str) -> pd.DataFrame:
    """Query a folder's tables by name with DuckDB, in memory, those left out that cannot be read.

    Raises RequestError for a query that DuckDB refuses.
    """
    tables = []
    with duckdb.connect() as connection:
        for name in tables_in(folder):
            with contextlib.suppress(duckdb.Error):  # a damaged file must not stop a query of the others
                connection.read_parquet(str(folder / f"{name}.parquet")).create_view(name)
                tables.append(name)
        try:
            frame: pd.DataFrame = connection.execute(query).df()
        except duckdb.Error as error:
            raise RequestError(f"query {query!r} failed: {error}; tables are {', '.join(tables)}") from None
    return frame


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
