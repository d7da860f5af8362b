"""The folder of a sweep: where its tasks' files lie, and its tables, read and queried without torch.

    sweep.json                                     what was asked, and how: models, revisions, references, settings
    tasks/<model>/<revision>/<operator>/           task.json, own/ and shared/ (run folders), outcome.json
    tables/<name>.parquet                          every table of all tasks, and those computed over the steps
    report.html

Every table of `tables/` begins with `model`, `revision`, `step` (null where a revision has none) and those gathered
from run folders with `prompts`, own or shared: whose correct prompts the row is about.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from arithcirc.errors import RunConflictError
from arithcirc.store import query_tables, tables_in, write_json

SWEEP = "sweep.json"
SCHEMA = 1
OPERATOR_FOLDERS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


class TaskFiles(NamedTuple):
    """Where one task's files lie."""

    folder: Path

    @property
    def task(self) -> Path:
        """The task itself."""
        return self.folder / "task.json"

    @property
    def stamp(self) -> Path:
        """What its numbers depend on beside the task: the code's version and what the reference gave."""
        return self.folder / "stamp.json"

    @property
    def shared_pairs(self) -> Path:
        """The prompts of `shared`, a pairs file."""
        return self.folder / "shared_pairs.parquet"

    @property
    def outcome(self) -> Path:
        """What became of it; there only when it ended."""
        return self.folder / "outcome.json"

    @property
    def own(self) -> Path:
        """The run on the checkpoint's own correct prompts."""
        return self.folder / "own"

    @property
    def shared(self) -> Path:
        """The run on prompts that the reference answers correctly too."""
        return self.folder / "shared"


@dataclass
class SweepFolder:
    """One sweep on disk. Made by `sweep.folder`, read after `SweepFolder.open`."""

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path | str) -> "SweepFolder":
        """Open a folder to read it. Raises RunConflictError when it is no sweep, damaged, or of another schema."""
        path = Path(path)
        file = path / SWEEP
        if not file.is_file():
            raise RunConflictError(f"{path} is not a sweep's folder (no {SWEEP}): make one with 'arithcirc sweep'")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            schema = manifest["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunConflictError(f"{file} is damaged ({error}): start the sweep in another --out") from None
        if schema != SCHEMA:
            raise RunConflictError(
                f"{path} was made by another version of arithcirc (schema {schema}, {SCHEMA} needed): use another --out"
            )
        return cls(path, manifest)

    def save(self) -> None:
        """Write `sweep.json` atomically."""
        write_json(self.path / SWEEP, self.manifest)

    # -- tasks -----------------------------------------------------------------------------------------------------

    def files(self, model: str, revision: str, symbol: str) -> TaskFiles:
        """Where a task's files lie."""
        names = (part.replace("/", "--") for part in (model, revision))
        return TaskFiles(Path(self.path, "tasks", *names, OPERATOR_FOLDERS[symbol]))

    def ended(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], TaskFiles]]:
        """`(task, outcome, files)` of every task that ended, in the order of their folders."""
        for file in sorted((self.path / "tasks").glob("*/*/*/outcome.json")):
            files = TaskFiles(file.parent)
            try:
                yield json.loads(files.task.read_text("utf-8")), json.loads(file.read_text("utf-8")), files
            except (OSError, ValueError):
                continue

    # -- tables ----------------------------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Names of the tables on disk."""
        return tables_in(self.path / "tables")

    def table(self, name: str) -> pd.DataFrame:
        """Read a table. Raises RunConflictError when the sweep has none of that name, or it is damaged."""
        file = self.path / "tables" / f"{name}.parquet"
        if not file.is_file():
            raise RunConflictError(
                f"sweep {self.path} has no table {name!r}: it has {', '.join(self.tables()) or 'none'}"
            )
        try:
            return pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise RunConflictError(f"{file} is damaged ({error}): run the sweep again, it is computed anew") from None

    def sql(self, query: str) -> pd.DataFrame:
        """Query the tables by name with DuckDB, in memory: `sweep.sql("select step, accuracy from accuracy")`.

        Raises RequestError for a query that DuckDB refuses.
        """
        return query_tables(self.path / "tables", query)
