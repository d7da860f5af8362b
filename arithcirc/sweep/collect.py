"""Collecting: every table of a sweep's tasks in one file each, with the model, revision and step in front, and the
tables computed from them over the steps.

Gathered tables keep the columns of the run folders they come from; in front come `model`, `revision`, `step` and
`prompts`, own or shared: whose correct prompts the rows are about. What the stage of the three analyses wrote has
`prompts` already. Labels and answers are made once per task, in own/. The reference has no run on shared prompts: its
rows appear twice, once for each set. A failed task gives no rows; a file that cannot be read is left out and named in
the table `tasks`. Rows are in the order of the manifest: model, operator, revision.

Files are streamed: at most ROWS rows of a table are in memory, and a row group is as long, so that a query of one step,
operator or neuron reads few of them. Every file is written as `.part` and renamed; a table that is no longer made goes.
Cost: 5 s of processor time and 350 MB for 44 tasks of the shipped model. Needs no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from arithcirc.catalogue import SweepFolder
from arithcirc.store import write_atomic
from arithcirc.sweep.births import births
from arithcirc.sweep.history import Ended, ended_tasks, histories, references
from arithcirc.sweep.jumps import jumps
from arithcirc.sweep.overlap import overlap
from arithcirc.sweep.steps import count_neurons, families, recipe_of, steps, tasks
from arithcirc.sweep.verdict import verdict

GATHERED = (
    *("accuracy", "prompts", "effects", "circuit", "faithfulness", "undefined", "probes", "first_layers", "neurons"),
    *("neuron_agreement", "neuron_faithfulness", "heuristics", "label_summary", "excluded_heuristics", "answers"),
    *("number_neurons", "kept_faithfulness", "knockouts_by_prompt"),
)
"""Tables of run folders that a sweep collects."""
IN_BOTH = (
    *("prompts", "effects", "circuit", "faithfulness", "undefined", "first_layers", "neurons", "neuron_agreement"),
    *("neuron_faithfulness", "kept_faithfulness", "knockouts_by_prompt"),
)
"""Those about one set of prompts, of which the reference's rows stand for both."""
SMALL = ("accuracy", "faithfulness", "kept_faithfulness", "knockouts_by_prompt")
"""Gathered tables that those over the steps are computed from as a whole."""
ROWS = 1 << 18
"""Rows of a row group, and kept in memory."""


@dataclass(frozen=True)
class _Source:
    """One file and what goes in front of its rows."""

    file: Path
    keys: Mapping[str, Any]
    prompts: str


def collect(folder: SweepFolder) -> list[str]:
    """Gather and compute all tables of a sweep from the tasks that ended; returns their names."""
    ended = ended_tasks(folder)
    unread: dict[Path, str] = {}
    names = [name for name in GATHERED if _gather(folder, name, _sources(ended, name, references(folder)), unread)]
    recipes = {model["name"]: recipe_of(model["model"]) for model in folder.manifest["models"]}
    made: dict[str, list[pd.DataFrame]] = {name: [] for name in ("overlap", "births", "families", "jumps", "counts")}
    for history in histories(folder, ended):
        made["overlap"].append(overlap(history))
        made["births"].append(births(history))
        made["families"].append(families(history))
        made["jumps"].append(jumps(history, recipe=recipes[history.model]))
        made["counts"].append(count_neurons(history))
    tables = {name: _joined(parts) for name, parts in made.items()}
    tables["tasks"] = tasks(folder, ended, unread)
    small = {name: folder.table(name) for name in SMALL if name in names}
    tables["steps"] = steps(ended, small, tables.pop("counts"), recipes)
    tables["verdict"] = verdict(folder, {**small, **tables})
    for name, table in tables.items():
        if len(table.columns):
            write_atomic(_file(folder, name), partial(table.to_parquet, index=False))
            names.append(name)
    for stale in set(folder.tables()) - set(names):
        _file(folder, stale).unlink(missing_ok=True)
    return sorted(names)


def _file(folder: SweepFolder, name: str) -> Path:
    return folder.path / "tables" / f"{name}.parquet"


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame of several; empty ones keep only the columns."""
    full = [part for part in parts if len(part)]
    if full:
        return pd.concat(full, ignore_index=True)
    return parts[0] if parts else pd.DataFrame()


def _sources(ended: Sequence[Ended], name: str, reference: Mapping[str, str]) -> Iterator[_Source]:
    """The files of one table, in order."""
    for task in ended:
        if not task.measured:
            continue
        keys = {"model": task.task["name"], "revision": task.task["revision"], "step": task.task["step"]}
        own, shared = task.files.own / f"{name}.parquet", task.files.shared / f"{name}.parquet"
        if own.is_file():
            yield _Source(own, keys, "own")
        if reference[keys["model"]] == keys["revision"]:
            if name in IN_BOTH and own.is_file():
                yield _Source(own, keys, "shared")
        elif shared.is_file():
            yield _Source(shared, keys, "shared")


def _gather(folder: SweepFolder, name: str, sources: Iterator[_Source], unread: dict[Path, str]) -> bool:
    """Write one gathered table; False where no task has it. Files that cannot be read go into `unread`."""
    readable: list[tuple[_Source, pa.Schema]] = []
    for source in sources:
        try:
            readable.append((source, _plain(pq.read_schema(source.file))))
        except (OSError, ValueError, pa.ArrowException) as error:
            unread[source.file] = str(error)
    if not readable:
        return False
    schema = pa.unify_schemas([schema for _, schema in readable], promote_options="permissive")
    schema = _with_keys(pa.schema([_known(field) for field in schema]))

    def write(part: Path) -> None:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            for table in _chunks([source for source, _ in readable], schema, unread):
                writer.write_table(table, row_group_size=ROWS)

    write_atomic(_file(folder, name), write)
    return True


def _chunks(sources: Sequence[_Source], schema: pa.Schema, unread: dict[Path, str]) -> Iterator[pa.Table]:
    """The rows of all files, about ROWS at a time."""
    waiting: list[pa.Table] = []
    held = 0
    seen: set[Path] = set()
    for source in sources:
        try:
            table = _table(source, schema, again=source.file in seen)
        except (OSError, ValueError, pa.ArrowException) as error:
            unread[source.file] = str(error)
            continue
        seen.add(source.file)
        waiting.append(table)
        held += table.num_rows
        if held >= ROWS:
            yield pa.concat_tables(waiting)
            waiting, held = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _table(source: _Source, schema: pa.Schema, *, again: bool) -> pa.Table:
    """One file with its keys in front. Where it says itself whose prompts a row is about, that is kept.

    `again`: the reference's file, read for the other set of prompts; nothing is left to say where it spoke of both.
    """
    table = pq.ParquetFile(source.file).read(use_threads=False)
    if "prompts" in table.column_names and again:
        spoken = pc.equal(table["prompts"], source.prompts)
        table = table.drop_columns("prompts").slice(0, 0 if pc.any(spoken).as_py() else table.num_rows)
    columns = []
    for field in schema:
        if field.name in table.column_names and field.name not in source.keys:
            columns.append(table[field.name].cast(field.type))
            continue
        value = source.prompts if field.name == "prompts" else source.keys.get(field.name)
        columns.append(pa.repeat(pa.scalar(value, field.type), table.num_rows))
    return pa.table(columns, schema=schema)


def _plain(schema: pa.Schema) -> pa.Schema:
    """Without pandas' notes, and with one type of string."""
    return pa.schema([pa.field(f.name, _type(f.type)) for f in schema])


def _type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.string() if pa.types.is_large_string(kind) else kind


def _known(field: pa.Field) -> pa.Field:
    """A column that is null in every file is text: what else would be said is a reason."""
    return pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field


def _with_keys(schema: pa.Schema) -> pa.Schema:
    first = {"model": pa.string(), "revision": pa.string(), "step": pa.int64(), "prompts": pa.string()}
    rest = [field for field in schema if field.name not in first]
    return pa.schema([*(pa.field(name, kind) for name, kind in first.items()), *rest])
