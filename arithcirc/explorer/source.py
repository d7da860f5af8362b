"""Where a page's numbers come from: one run, or one checkpoint of a sweep, read afresh and held by the file's time.

A source reads tables by name, from a run's folder or, for a sweep, from the sweep's tables cut to a model and a
revision (own prompts, where a table has both kinds). A table is read again when its file changes; a file that cannot
be read counts as missing (`files`), a folder that was moved, deleted or half written becomes one clear line. Sources
are values: nothing in them belongs to a user.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from arithcirc.catalogue import OPERATOR_FOLDERS, SWEEP, SweepFolder
from arithcirc.components import Neuron
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.explorer import files
from arithcirc.neuron_maps import NeuronMap, StoredMaps, maps_file
from arithcirc.store import MANIFEST, RunFolder
from arithcirc.viz import theme
from arithcirc.viz.commands import MADE_BY, recorded_line, stage_line
from arithcirc.viz.facts import model_facts
from arithcirc.viz.frames import RunData
from arithcirc.viz.influence.study import Study
from arithcirc.viz.story import NOT_IN_SWEEPS

SWEEP_COLUMNS = ("model", "revision", "step", "prompts")
OVER_STEPS = ("steps", "overlap", "kept_faithfulness", "births", "families", "jumps", "verdict", "tasks")
"""Tables of a sweep that are about all its checkpoints at once."""
LISTED = ("accuracy", "faithfulness", "circuit", "label_summary", "prompts")
"""Tables that say which checkpoints a sweep has results of: the first that can be read."""


class MissingTable(RequestError):
    """A table that this run does not have; `command` makes it."""

    def __init__(self, name: str, command: str) -> None:
        super().__init__(f"this run has no table {name!r}: make it with '{command}', then reload")
        self.command = command


class DamagedTable(MissingTable):
    """A table whose file cannot be read; `command` makes it again."""

    def __init__(self, name: str, command: str) -> None:
        RequestError.__init__(self, f"{name}.parquet is damaged: make it again with '{command}', then reload")
        self.command = command


@dataclass(frozen=True, order=True)
class Checkpoint:
    """One model at one revision of a sweep; `step` is missing where a revision has none."""

    model: str
    step: float
    revision: str


@dataclass(frozen=True)
class Source:
    """A run, or a sweep at one of its checkpoints. `key` names it in addresses."""

    key: str
    path: Path
    sweep: bool
    manifest: Mapping[str, Any] = field(hash=False)
    checkpoint: Checkpoint | None = None

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where its tables lie."""
        return self.path / "tables" if self.sweep else self.path

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as plain values; of a sweep, that of its checkpoint's own run."""
        own = self._own
        held = self.manifest.get("config", {}) if not self.sweep else own.config if own is not None else {}
        return dict(held) if isinstance(held, Mapping) else {}

    @cached_property
    def model(self) -> dict[str, Any]:
        """Facts about the model; of a sweep, those its checkpoint's run recorded."""
        if not self.sweep:
            return model_facts(self.manifest.get("facts", {}), self.config)
        return self._own.model if self._own is not None else {}

    @property
    def title(self) -> str:
        """For people: model and revision."""
        if self.checkpoint is not None:
            return f"{self.checkpoint.model} {self.checkpoint.revision}"
        return f"{self.model.get('name', self.key)} {self.model.get('revision', '')}".strip()

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints of a sweep, by model and step; none for a run."""
        rows = next((found for name in LISTED if (found := self._listed(name)) is not None), None)
        if rows is None:
            return []
        steps = pd.to_numeric(rows["step"]).fillna(float("inf"))
        return sorted(
            Checkpoint(str(m), float(s), str(r)) for m, r, s in zip(rows["model"], rows["revision"], steps, strict=True)
        )

    @cached_property
    def operators(self) -> list[str]:
        """Operators with any result here, in the usual order."""
        for name in ("accuracy", "effects", "neurons", "heuristics"):
            if name in self.names:
                try:
                    found = theme.ordered(self.table(name)["operator"])
                except (RequestError, KeyError):
                    continue
                return [o for o in found if o in theme.OPERATOR_NAMES]
        return []

    @property
    def operands(self) -> tuple[int, int]:
        """The smallest and the largest operand."""
        return self.data().operands

    @property
    def study(self) -> Study | None:
        """The run's influence study, as it is now; None where there is none. Raises RunConflictError."""
        return None if self.sweep else Study.find(self.path)

    @property
    def names(self) -> list[str]:
        """Names of the tables on disk that can be read."""
        return sorted(p.stem for p in self.folder.glob("*.parquet") if files.readable(p))

    @property
    def damaged_files(self) -> dict[str, list[str]]:
        """Files that cannot be read, by the command that makes them again."""
        found: dict[str, list[str]] = {}
        for pattern in ("*.parquet", "maps_*.safetensors"):
            for file in sorted(self.folder.glob(pattern)):
                if files.damaged(file):
                    table = file.stem if file.suffix == ".parquet" else "maps"
                    found.setdefault(self.command(table), []).append(file.name)
        return found

    # -- tables ------------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """The table is on disk and can be read."""
        return files.readable(self.folder / f"{name}.parquet")

    def damaged(self, name: str) -> bool:
        """The table is on disk and cannot be read."""
        return files.damaged(self.folder / f"{name}.parquet")

    def table(self, name: str, operator: str | None = None) -> pd.DataFrame:
        """A table, of one operator if given. Raises MissingTable, for a damaged file DamagedTable."""
        checkpoint = None if name in OVER_STEPS else self.checkpoint
        return self._read(name, checkpoint, operator)

    def all_steps(self, name: str) -> pd.DataFrame:
        """A sweep's table of every checkpoint, with its columns model, revision, step (and prompts)."""
        return self._read(name, None)

    def command(self, table: str) -> str:
        """The command line that makes a table; of what sweeps do not make, that of this checkpoint alone."""
        if self.sweep and any(table in tables for tables in NOT_IN_SWEEPS.values()):
            at = self.checkpoint
            name = self.model.get("name", at.model if at is not None else "")
            return f"arithcirc analyze {name}" + (f" --revision={at.revision}" if at is not None else "")
        if self.sweep:
            return recorded_line({"notes": self.manifest}) or "arithcirc sweep"
        stage = MADE_BY.get(table, "analyze")
        return stage_line(stage, self.config, self.model, recorded_line(dict(self.manifest)))

    def views(self, connection: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> None:
        """Make the named tables (of this checkpoint) known to a connection. Raises MissingTable, DamagedTable."""
        for name in tables:
            file = self._file(name)
            try:
                relation = connection.read_parquet(str(file))
                if name not in OVER_STEPS:
                    relation = _at(relation, self.checkpoint)
                relation.create_view(name)
            except files.UNREADABLE:
                raise self._broken(name) from None

    def data(self, *tables: str) -> RunData:
        """What figures are drawn from: these tables, as far as they exist, and the configuration."""
        return RunData({t: self.table(t) for t in tables if self.has(t)}, {}, self.config)

    def maps(self, operator: str) -> StoredMaps | None:
        """The operator's stored activation maps; None where there are none that can be read (never for a sweep)."""
        if self.sweep or operator not in OPERATOR_FOLDERS:
            return None
        found = StoredMaps.find(self.path, operator, self.operands)
        return found if found is not None and files.readable(found.path) else None

    def neuron_map(self, operator: str, neuron: Neuron) -> NeuronMap | None:
        """One neuron's stored map; None where it was not stored."""
        maps = self.maps(operator)
        try:
            return maps.read(neuron) if maps is not None else None
        except RunConflictError:  # damaged inside
            files.failed(self.path / maps_file(operator))
            return None

    def task_run(self, operator: str) -> "Source | None":
        """Of a sweep: the run of this checkpoint's own prompts for one operator; None where it is not there."""
        if not self.sweep or self.checkpoint is None:
            return None
        own = SweepFolder(self.path).files(self.checkpoint.model, self.checkpoint.revision, operator).own
        return open_source(self.key, own) if (own / MANIFEST).is_file() else None

    # -- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _own(self) -> "Source | None":
        """Of a sweep: the checkpoint's run of the first operator that has one."""
        found = (self.task_run(operator) for operator in theme.OPERATOR_NAMES)
        return next((run for run in found if run is not None), None)

    def _file(self, name: str) -> Path:
        """A table's file. Raises MissingTable, DamagedTable, RunConflictError when the folder is gone."""
        file = self.folder / f"{name}.parquet"
        if files.damaged(file):
            raise DamagedTable(name, self.command(name))
        if not file.is_file():
            if not self.path.is_dir():
                raise RunConflictError(f"the folder of {self.key!r} is no longer there: choose another run")
            raise MissingTable(name, self.command(name))
        return file

    def _read(self, name: str, checkpoint: Checkpoint | None, operator: str | None = None) -> pd.DataFrame:
        file = self._file(name)
        try:
            state = file.stat()
            found = (file, state.st_mtime_ns, state.st_size, checkpoint)
            return _parquet(*found) if operator is None else _of_operator(*found, operator)
        except files.UNREADABLE:
            raise self._broken(name) from None

    def _broken(self, name: str) -> DamagedTable:
        """A table that opened and could not be read: from now on it counts as missing."""
        files.failed(self.folder / f"{name}.parquet")
        return DamagedTable(name, self.command(name))

    def _listed(self, name: str) -> pd.DataFrame | None:
        """Of a sweep: model, revision and step of the checkpoints that a table has; None where it cannot say."""
        if not self.sweep or not self.has(name):
            return None
        try:
            return self._read(name, None)[["model", "revision", "step"]].drop_duplicates()
        except (RequestError, KeyError):
            return None


def open_source(key: str, path: Path, model: str = "", revision: str = "") -> Source:
    """A run, or a sweep at a checkpoint (by default its last). RunConflictError for neither, or a damaged one."""
    if not path.is_dir():
        raise RunConflictError(f"the folder of {key!r} is no longer there: choose another run")
    try:
        if not (path / SWEEP).is_file():
            if not (path / MANIFEST).is_file() and (study := Study.find(path)) is not None:
                return Source(key, path, False, dict(study.manifest) | {"stages": {}})
            return Source(key, path, False, RunFolder.open(path).manifest)
        sweep = Source(key, path, True, SweepFolder.open(path).manifest)
    except RunConflictError as error:  # readers may be elsewhere: they are told the key, not where it lies
        raise RunConflictError(str(error).replace(str(path), key)) from None
    held = sweep.checkpoints
    if not held:
        raise RunConflictError(f"sweep {key!r} has no tables yet: let 'arithcirc sweep' finish a task, then reload")
    mine = [c for c in held if c.model == model] or [c for c in held if c.model == held[-1].model]
    chosen = next((c for c in mine if c.revision in (revision, f"step{revision}")), mine[-1])
    return Source(key, path, True, sweep.manifest, chosen)


def _at(relation: duckdb.DuckDBPyRelation, checkpoint: Checkpoint | None) -> duckdb.DuckDBPyRelation:
    """Rows of a checkpoint (on its own prompts), without the columns that say so; everything without one."""
    columns = set(relation.columns)
    if checkpoint is None or "revision" not in columns:
        return relation
    wanted = {"model": checkpoint.model, "revision": checkpoint.revision, "prompts": "own"}
    for name, value in wanted.items():
        if name in columns:
            relation = relation.filter(duckdb.ColumnExpression(name) == duckdb.ConstantExpression(value))
    return relation.select(duckdb.StarExpression(exclude=[c for c in SWEEP_COLUMNS if c in columns]))


@lru_cache(maxsize=48)
def _parquet(file: Path, _changed: int, _size: int, checkpoint: Checkpoint | None) -> pd.DataFrame:
    """A table as it was at that time; callers must not write into it."""
    if checkpoint is None:
        return pd.read_parquet(file)
    with duckdb.connect() as connection:
        frame: pd.DataFrame = _at(connection.read_parquet(str(file)), checkpoint).df()
    return frame


@lru_cache(maxsize=64)
def _of_operator(
    file: Path, changed: int, size: int, checkpoint: Checkpoint | None, operator: str
) -> pd.DataFrame:  # fmt: skip
    """The rows of one operator; callers must not write into them."""
    table = _parquet(file, changed, size, checkpoint)
    if "operator" not in table.columns:
        return table
    return table[table["operator"] == operator].reset_index(drop=True)
