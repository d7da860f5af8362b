"""The folder of an influence study, read for pages: whole small tables, and of large ones only the rows asked for.

`influence/` lies inside the run folder of its model and is a run folder of its own. The tables of documents and of
top documents grow with the corpus, so rows are taken from them by DuckDB; what is held in memory is bounded by what a
page shows. Errors name tables, never paths: whoever reads a page may sit elsewhere.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from arithcirc.errors import RequestError, RunConflictError
from arithcirc.store import MANIFEST, RunFolder
from arithcirc.viz.commands import recorded_line
from arithcirc.viz.facts import model_facts

FOLDER = "influence"
STAGES = {"documents": "fit", "factors": "fit", "queries": "score", "scores": "score", "mechanisms": "score",
          "findings": "score"}  # fmt: skip
"""Which command makes which stage."""
MADE_BY = {
    "documents": "fit", "queries": "score", "top": "score", "mechanisms": "score", "mechanism_top": "score",
    "births": "score", "mechanism_values": "score", "mechanism_retrieval": "score",
}  # fmt: skip
"""Which command makes which table; all others are findings, made at the end of `score`."""
_LONGEST = 20_000
"""Characters of a document's text that a page reads."""
_OPTIONS = ("corpus", "out", "revision", "queries", "device", "dtype")


class NoStudy(RequestError):
    """A run without an influence study, or a study without a table; `command` makes it."""

    def __init__(self, text: str, command: str) -> None:
        super().__init__(f"{text}: make it with '{command}', then reload")
        self.command = command


@dataclass(frozen=True)
class Study:
    """One influence study to read. `path` is the folder `influence/` itself."""

    path: Path
    manifest: Mapping[str, Any] = field(hash=False)

    @classmethod
    def find(cls, folder: Path) -> "Study | None":
        """The study of a run's folder, or the folder itself where it is one; None where there is none.

        Raises RunConflictError when its manifest is damaged.
        """
        for path in (folder / FOLDER, folder):
            if path.name == FOLDER and (path / MANIFEST).is_file():
                try:
                    return cls(path, RunFolder.open(path).manifest)
                except RunConflictError as error:
                    raise RunConflictError(str(error).replace(str(path), FOLDER)) from None
        return None

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration by section, as plain values."""
        held: Mapping[str, Any] = self.manifest.get("config", {})
        return held

    @property
    def model(self) -> dict[str, Any]:
        """Facts about the model, as far as they are recorded."""
        return model_facts(self.manifest.get("facts", {}), {"model": self.config.get("model", {})})

    @property
    def title(self) -> str:
        """For people: model and revision."""
        return f"{self.model.get('name', 'model')} {self.model.get('revision') or ''}".strip()

    def command(self, table: str = "top") -> str:
        """The command line that makes a table, as it was typed as far as that is known."""
        return command_line(MADE_BY.get(table, "score"), dict(self.manifest), self.model)

    # -- tables ------------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """The table is on disk."""
        return (self.path / f"{name}.parquet").is_file()

    def table(self, name: str) -> pd.DataFrame:
        """A small table, whole; not to be written into. Raises NoStudy, RunConflictError for a damaged file."""
        file = self._file(name)
        try:
            state = file.stat()
            return _whole(file, state.st_mtime_ns, state.st_size)
        except (OSError, ValueError) as error:
            raise self._damaged(name, error) from None

    def rows(self, name: str, where: Mapping[str, Any], *, order: str = "", at_most: int | None = None) -> pd.DataFrame:
        """Rows of a table of any size with these values. Raises NoStudy, RunConflictError."""
        tests = " and ".join(f'"{column}" = ?' for column in where) or "true"
        text = f"select * from held where {tests}"  # noqa: S608  columns are ours, values are bound
        text += f' order by "{order}"' if order else ""
        text += f" limit {int(at_most)}" if at_most is not None else ""
        return self._ask(name, text, list(where.values()))

    def values(self, name: str, column: str) -> list[str]:
        """The different values of a column of a table of any size. Raises NoStudy, RunConflictError."""
        file = self._file(name)
        try:
            state = file.stat()
            return list(_distinct(file, state.st_mtime_ns, state.st_size, column))
        except (OSError, duckdb.Error) as error:
            raise self._damaged(name, error) from None

    def texts(self, numbers: Sequence[int]) -> pd.DataFrame:
        """Documents by their row numbers, in that order: id, kind, source, task, tokens, cut, norm, holds, text."""
        wanted = [int(n) for n in numbers]
        if not wanted:
            return pd.DataFrame()
        text = f"select * replace (left(text, {_LONGEST}) as text) from held where document in (select unnest(?))"  # noqa: S608
        found = self._ask("documents", text, [wanted]).set_index("document", drop=False)
        return found.loc[[n for n in wanted if n in found.index]].reset_index(drop=True)

    def corpus(self, column: str = "kind") -> pd.DataFrame:
        """How many documents the corpus has of each kind, or source: columns `column`, documents, share, tokens."""
        file = self._file("documents")
        try:
            state = file.stat()
            return _counted(file, state.st_mtime_ns, state.st_size, column)
        except (OSError, duckdb.Error) as error:
            raise self._damaged("documents", error) from None

    def _ask(self, name: str, text: str, values: list[Any]) -> pd.DataFrame:
        file = self._file(name)
        try:
            with duckdb.connect() as connection:
                connection.read_parquet(str(file)).create_view("held")
                frame: pd.DataFrame = connection.execute(text, values).df()
        except (OSError, duckdb.Error) as error:
            raise self._damaged(name, error) from None
        return frame

    def _damaged(self, name: str, error: Exception) -> RunConflictError:
        """One line without the reader's words: they name folders of this machine."""
        if isinstance(error, FileNotFoundError):
            return RunConflictError("the folder of the influence study is no longer there: choose another run")
        return RunConflictError(
            f"{name}.parquet of the influence study is damaged: make it again with '{self.command(name)}', then reload"
        )

    def _file(self, name: str) -> Path:
        file = self.path / f"{name}.parquet"
        if not file.is_file():
            raise NoStudy(f"the influence study has no table {name!r} yet", self.command(name))
        return file


def command_line(stage: str, manifest: dict[str, Any], model: Mapping[str, Any]) -> str:
    """`arithcirc influence <stage> MODEL --corpus ...`, with the model and options of the command last typed."""
    recorded = recorded_line(manifest)
    words = shlex.split(recorded) if recorded else []
    name, options = str(model.get("name") or "MODEL"), dict[str, str]()
    if words[:2] == ["arithcirc", "influence"]:
        given, options = _typed(words[3:])
        name = given or name
    elif model.get("revision"):
        options["revision"] = str(model["revision"])
    options = {"corpus": "CORPUS"} | options
    return shlex.join(["arithcirc", "influence", stage, name, *(f"--{k}={v}" for k, v in options.items())])


def _typed(words: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The model and the options worth repeating of a command line."""
    rest, name, options = list(words), "", dict[str, str]()
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            name = name or word
            continue
        option, given, value = word[2:].partition("=")
        if not given and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        if option in _OPTIONS and value:
            options[option] = value
    return name, options


@lru_cache(maxsize=48)
def _whole(file: Path, _changed: int, _size: int) -> pd.DataFrame:
    return pd.read_parquet(file)


@lru_cache(maxsize=16)
def _distinct(file: Path, _changed: int, _size: int, column: str) -> tuple[str, ...]:
    with duckdb.connect() as connection:
        connection.read_parquet(str(file)).create_view("held")
        found = connection.execute(f'select distinct "{column}" from held').fetchall()  # noqa: S608
    return tuple(str(row[0]) for row in found)


@lru_cache(maxsize=16)
def _counted(file: Path, _changed: int, _size: int, column: str) -> pd.DataFrame:
    with duckdb.connect() as connection:
        connection.read_parquet(str(file)).create_view("held")
        sums = "count(*) as documents, sum(tokens) as tokens, count_if(cut) as cut"
        counted = f'select "{column}", {sums} from held group by 1'  # noqa: S608  a column of ours
        frame: pd.DataFrame = connection.execute(f"{counted} order by documents desc").df()
    frame["share"] = frame["documents"] / max(int(frame["documents"].sum()), 1)
    return frame
