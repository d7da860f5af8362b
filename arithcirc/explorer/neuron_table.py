"""All neurons of a run in one table, joined with their labels, held in memory for the grid that scrolls over it.

One row per operator, layer and neuron: effect (exact patch, logit difference, nats), spread over prompts, rank in its
layer, whether it is important, how many labels it has, and one label with score, base rate, end, q and, in a sweep, the
step from which it stays. The label shown is the best (significant first, then by score), or the best of those asked
for. Labels are those at the score threshold.

The join is made by DuckDB from the Parquet files, once per state of the files, and kept for the few runs used last
(460,000 rows take about 0.7 s of processor time and 100 MB); every request reads it through a cursor of its own, so
nothing belongs to a user. Estimates stand in where a run has no exact effects.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from arithcirc.errors import RequestError, RunConflictError
from arithcirc.explorer.neuron_query import COLUMNS, Query, Search, Wanted, key, nearest, query, read_search
from arithcirc.explorer.source import Source

MOST_ROWS = 1_500_000
MOST_TABLES = 24
"""Neurons and tables held at once; the one in use is always held."""
CHUNKS = 2
"""DuckDB's vectors (2,048 rows each) that a CSV is written in."""
_OF_LABELS = """
    (select n.* exclude (heuristic, family, "end", score, base_rate, q, label_significant, birth),
            l.heuristic, l.family, l."end", l.score, l.base_rate, l.q, l.significant as label_significant, l.birth
     from held n join (select id, min(lid) as lid from labels where {} group by id) h using (id)
                 join labels l using (lid))
"""
_ID = """
    create macro identity(operator, layer, neuron) as
        list_position(['+', '-', '*', '/'], operator)::bigint * 1099511627776
        + layer::bigint * 16777216 + neuron::bigint
"""
_FINITE = "create macro finite(x) as case when isfinite(x::double) then x::double end"
_BIRTHS = """select operator, layer, neuron, heuristic, birth from births
    where model = ? and labels = 'matched' and birth is not null"""
_LABELS = """
    create table labels as select row_number() over () as lid, * from (select
        identity(operator, layer, neuron) as id,
        operator, heuristic, replace(lower(heuristic), ' ', '') as key, family, "end",
        finite(score) as score, finite(base_rate) as base_rate, finite(q) as q,
        coalesce(significant, false) as significant, birth::bigint as birth
    from heuristics {births} where coalesce(matched, false)
    order by heuristics.significant desc nulls last, heuristics.score desc nulls last, heuristic)
"""
_NO_LABELS = """
    create table labels (lid bigint, id bigint, operator varchar, heuristic varchar, key varchar, family varchar,
        "end" varchar, score double, base_rate double, q double, significant boolean, birth bigint)
"""
_NEURONS = """
    create table held as
    with counted as (select id, count(*) as labels, count(*) filter (significant) as significant, min(lid) as best
                     from labels group by id),
         mine as (select identity(operator, layer, neuron) as id, operator, layer::int as layer, neuron::int as neuron,
                         finite(effect) as effect, finite(std) as std,
                         rank::int as rank, coalesce(important, false) as important
                  from neurons where method = ? and metric = ?)
    select m.*, coalesce(c.labels, 0)::int as labels, coalesce(c.significant, 0)::int as significant,
           l.heuristic, l.family, l."end", l.score, l.base_rate, l.q, l.significant as label_significant, l.birth
    from mine m left join counted c using (id) left join labels l on l.lid = c.best
"""


@dataclass(frozen=True)
class NeuronTable:
    """The joined table. Its effects are of one method and metric (nats for logit_diff, `largest` in size).

    `names` are operator, label and number of neurons, the commonest first. `first` is, by operator, the layer from
    which neurons were tested for labels.
    """

    connection: duckdb.DuckDBPyConnection
    method: str
    metric: str
    names: tuple[tuple[str, str, int], ...]
    first: Mapping[str, int]
    keys: frozenset[str]
    operators: tuple[str, ...]
    layers: tuple[int, ...]
    families: tuple[str, ...]
    total: int
    largest: float

    def search(self, text: str) -> Search:
        """What a search means here."""
        return read_search(text, self.keys)

    def page(self, wanted: Wanted, first: int, last: int) -> tuple[list[dict[str, Any]], int, Search]:
        """Rows first..last-1 as asked for, how many there are, and what the search was read as."""
        search = self.search(wanted.search)
        asked = query(wanted, search)
        cursor = self.connection.cursor()
        rows = self._run(cursor, asked, "count(*)", "").fetchone()
        cursor = self._run(cursor, asked, _fields(), f"order by {asked.order} limit ? offset ?", last - first, first)
        return [dict(zip(COLUMNS, row, strict=True)) for row in cursor.fetchall()], int(rows[0]) if rows else 0, search

    def csv(self, wanted: Wanted) -> Iterator[str]:
        """All rows asked for as lines of a CSV, a chunk at a time."""
        asked = query(wanted, self.search(wanted.search))
        return _lines(self._run(self.connection.cursor(), asked, _fields(), f"order by {asked.order}"))

    def names_of(self, operator: str | None) -> list[str]:
        """Labels of an operator's neurons, the commonest first."""
        return list(dict.fromkeys(name for o, name, _ in self.names if operator in (None, o)))

    def instead(self, operator: str, search: Search) -> tuple[list[tuple[str, int]], dict[str, int]]:
        """For a label that was not found: the nearest of the operator's labels, and neurons with it under others."""
        mine = {name: n for o, name, n in self.names if o == operator}
        others: dict[str, int] = {}
        for o, name, n in self.names:
            if o != operator and (key(name) == search.label if search.exact else search.label in key(name)):
                others[o] = others.get(o, 0) + n
        return [(name, mine[name]) for name in nearest(search.label, [*mine])], others

    def _run(
        self, cursor: duckdb.DuckDBPyConnection, asked: Query, fields: str, tail: str, *values: int
    ) -> duckdb.DuckDBPyConnection:
        table = _OF_LABELS.format(asked.labels) if asked.labels else "held"
        sql = f"select {fields} from {table} where {asked.neurons} {tail}"  # noqa: S608 (all from fixed lists)
        return cursor.execute(sql, [*asked.label_values, *asked.neuron_values, *values])


class NoNeurons(RequestError):
    """No neuron was patched in this run or at this checkpoint."""


Key = tuple[Any, ...]
_HELD: OrderedDict[Key, NeuronTable] = OrderedDict()
_LOCK = threading.Lock()


def neuron_table(source: Source) -> NeuronTable:
    """The table of a run, or of a sweep's checkpoint, as its files are now. Raises MissingTable, RunConflictError."""
    with _LOCK:
        now = (source.path, source.checkpoint, *(_state(source, name) for name in ("neurons", "heuristics", "births")))
        if now not in _HELD:
            for old in [k for k in _HELD if k[:2] == now[:2]]:
                del _HELD[old]
            _HELD[now] = _built(source)
        _HELD.move_to_end(now)
        while len(_HELD) > 1 and (len(_HELD) > MOST_TABLES or sum(t.total for t in _HELD.values()) > MOST_ROWS):
            _HELD.popitem(last=False)
        return _HELD[now]


def _state(source: Source, name: str) -> tuple[int, int]:
    """When a table was written and its size; zeros where it is not there."""
    try:
        found = (source.folder / f"{name}.parquet").stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _built(source: Source) -> NeuronTable:
    connection = duckdb.connect(":memory:", config={"threads": min(4, os.cpu_count() or 1)})
    names = [name for name in ("neurons", "heuristics", "births") if name == "neurons" or source.has(name)]
    source.views(connection, names)
    try:
        for macro in (_ID, _FINITE):
            connection.execute(macro)
        return _joined(source, connection, names)
    except duckdb.Error as error:
        for name in names:
            source.table(name)  # says so where one is damaged inside
        reason = " ".join(str(error).replace(str(source.folder), source.key).split())[:200]
        raise RunConflictError(
            f"the tables of neurons and labels of {source.key!r} cannot be joined ({reason}): compute them again"
        ) from None


def _joined(source: Source, connection: duckdb.DuckDBPyConnection, names: list[str]) -> NeuronTable:
    kinds = connection.execute("select distinct method, metric from neurons").fetchall()
    if not kinds:
        raise NoNeurons(
            f"no neuron of {source.title} was patched: the model answers too few prompts correctly here, so no effect "
            "could be measured; choose another run or a later checkpoint"
        )
    method, metric = min(kinds, key=lambda kind: (kind[0] != "exact", kind[1] != "logit_diff", kind))
    if "heuristics" in names and "births" in names and source.checkpoint is not None:
        births = f"left join ({_BIRTHS}) using (operator, layer, neuron, heuristic)"
        connection.execute(_LABELS.format(births=births), [source.checkpoint.model])
    elif "heuristics" in names:
        connection.execute(_LABELS.format(births="cross join (select null as birth)"))
    else:
        connection.execute(_NO_LABELS)
    connection.execute(_NEURONS, [method, metric])
    for name in names:
        connection.execute(f"drop view {name}")
    counted = "select operator, heuristic, count(distinct id) from labels group by all order by 3 desc, 2, 1"
    labels = tuple((o, name, int(n)) for o, name, n in connection.execute(counted).fetchall())
    tested = "select operator, min(layer) from held where important group by operator"
    first = {o: int(layer) for o, layer in connection.execute(tested).fetchall()} if labels else {}
    ((total, largest),) = connection.execute("select count(*), coalesce(max(abs(effect)), 0) from held").fetchall()
    return NeuronTable(
        connection=connection,
        method=method,
        metric=metric,
        names=labels,
        first=first,
        keys=frozenset(key(name) for _, name, _ in labels),
        operators=tuple(o for (o,) in connection.execute("select distinct operator from held order by 1").fetchall()),
        layers=tuple(layer for (layer,) in connection.execute("select distinct layer from held order by 1").fetchall()),
        families=tuple(f for (f,) in connection.execute("select distinct family from labels order by 1").fetchall()),
        total=total,
        largest=largest,
    )


def _lines(cursor: duckdb.DuckDBPyConnection) -> Iterator[str]:
    head = True
    while True:
        frame = cursor.fetch_df_chunk(CHUNKS)
        if frame.empty and not head:
            return
        text: str = frame.to_csv(index=False, header=head)
        head = False
        yield text


def _fields() -> str:
    return ", ".join(f'"{name}"' for name in COLUMNS)
