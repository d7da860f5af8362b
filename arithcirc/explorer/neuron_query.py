"""What a reader wants to see of the table of all neurons: read from words and grid filters, turned into SQL safely.

    "op2 = 8 mod 10"    neurons with this label (spaces and case do not matter); else labels with these words in them
    "op2 ends in 8"     the same in words; also "is even", "is odd", "is a multiple of 3"
    "modulo"            a family, by its word in the tables or its name on the pages
    "L3", "layer 3"     a layer;  "L3N17", "L3N17 L3N18" those neurons;  "N17" an index in every layer

Everything that comes from a browser becomes a parameter of the query; names of columns and comparisons come from the
fixed lists here. What cannot be read raises RequestError, or is left out where an address may be old.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from arithcirc.components import Neuron
from arithcirc.errors import RequestError
from arithcirc.viz import theme

TEXTS = ("operator", "heuristic", "family", "end", "name")
COLUMNS = (
    "operator", "layer", "neuron", "effect", "std", "rank", "important", "labels", "significant",
    "heuristic", "family", "end", "score", "base_rate", "q", "label_significant", "birth",
)  # fmt: skip
"""Columns of the table, in the order of its CSV."""
SHOWN = {
    "all": "all neurons",
    "important": "important",
    "labelled": "with a label",
    "significant": "with a significant label",
    "unlabelled": "important, no label",
    "pinned": "pinned",
}
"""Which neurons are wanted, and the words for it."""
SORT = (("effect", "desc"),)
LONGEST = 200
"""Characters of a search that are read."""
MOST_PARTS = 20
"""Columns that are filtered at once, and conditions on each."""

_COMPARED = {
    "equals": "{c} = ?", "notEqual": "{c} <> ?", "greaterThan": "{c} > ?", "greaterThanOrEqual": "{c} >= ?",
    "lessThan": "{c} < ?", "lessThanOrEqual": "{c} <= ?",
}  # fmt: skip
_TEXT = {
    "contains": "contains(lower({c}), lower(?))", "notContains": "not contains(lower({c}), lower(?))",
    "equals": "lower({c}) = lower(?)", "notEqual": "lower({c}) <> lower(?)",
    "startsWith": "starts_with(lower({c}), lower(?))", "endsWith": "ends_with(lower({c}), lower(?))",
}  # fmt: skip
_BLANK = {"blank": "{c} is null", "notBlank": "{c} is not null"}
NAME = "('L' || layer || 'N' || neuron)"
"""SQL of a neuron's name."""
_NEURON = re.compile(r"l(\d{1,4})\s*n(\d{1,7})", re.IGNORECASE)
_LAYER = re.compile(r"(?:l|layer\s*)(\d{1,4})", re.IGNORECASE)
_INDEX = re.compile(r"(?:n|neuron\s*)(\d{1,7})", re.IGNORECASE)
_OPERAND = {"the result": "result", "answer": "result", "the answer": "result", "each operand": "both"}
_IN_WORDS = re.compile(
    r"(op1|op2|both|result|the result|answer|the answer|each operand) "
    r"(?:ends (?:in|with) (?P<end>\d{1,2})|is (?P<even>even|odd)|"
    r"(?:is )?(?:a multiple of|divisible by) (?P<of>\d{1,4}))",
    re.IGNORECASE,
)
_RESIDUE = re.compile(r"(op1|op2|both|result)=(\d+)mod(\d+)")


@dataclass(frozen=True)
class Search:
    """What the search box was read as; `said` says it in words."""

    said: str = ""
    neurons: tuple[Neuron, ...] = ()
    layer: int | None = None
    index: int | None = None
    family: str | None = None
    label: str = ""
    exact: bool = False
    typed: str = ""


@dataclass(frozen=True)
class Wanted:
    """Which neurons, in which order. `operator` None: all of them. `pinned` are those of the run's pins."""

    operator: str | None = None
    search: str = ""
    layer: int | None = None
    family: str = ""
    shown: str = "all"
    pinned: tuple[tuple[str, Neuron], ...] = ()
    filters: Mapping[str, Any] = field(default_factory=dict)
    sort: tuple[tuple[str, str], ...] = SORT


@dataclass(frozen=True)
class Query:
    """Conditions on labels and on neurons with the label shown, in SQL with `?`, and their parameters."""

    labels: str
    label_values: tuple[Any, ...]
    neurons: str
    neuron_values: tuple[Any, ...]
    order: str


def key(text: str) -> str:
    """A label's name as it is compared: without spaces and case."""
    return "".join(text.split()).casefold()


def read_search(text: str, known: Collection[str]) -> Search:
    """What a search means; `known` are the keys of the labels there are."""
    text = " ".join(text[:LONGEST].split())
    if not text:
        return Search()
    rest = _NEURON.sub("", text).strip(" ,;")
    if not rest:
        found = tuple(Neuron(int(layer), int(index)) for layer, index in _NEURON.findall(text))
        return Search("neurons " * (len(found) > 1) + ", ".join(map(str, found)), neurons=found)
    if m := _LAYER.fullmatch(text):
        return Search(f"layer {int(m[1])}", layer=int(m[1]))
    if m := _INDEX.fullmatch(text):
        return Search(f"neuron {int(m[1])} of every layer", index=int(m[1]))
    families = {name.casefold(): family for family, (name, *_) in theme.FAMILIES.items()}
    family = families.get(text.casefold()) or (text.casefold() if text.casefold() in theme.FAMILIES else None)
    if family is not None:
        return Search(f"family {theme.family_name(family)}", family=family)
    text = _named(text)
    if key(text) in known:
        return Search(f"label “{text}”", label=key(text), exact=True, typed=text)
    return Search(f"labels with “{text}” in their name", label=key(text), typed=text)


def _named(text: str) -> str:
    """The label that words such as "op2 ends in 8" stand for; other text as it is."""
    found = _IN_WORDS.fullmatch(text)
    if found is None:
        return text
    of = _OPERAND.get(found[1].lower(), found[1].lower())
    if end := found["end"]:
        return f"{of} = {int(end)} mod {10 ** len(end)}"
    if found["even"]:
        return f"{of} = {int(found['even'].lower() == 'odd')} mod 2"
    return f"{of} = 0 mod {int(found['of'])}"


def nearest(label: str, names: Sequence[str], *, most: int = 4) -> list[str]:
    """Names most like one that is not there: first residues that it implies ("op2 = 0 mod 2" of "op2 = 8 mod 10")."""
    asked = _RESIDUE.fullmatch(key(label))

    def distance(name: str) -> tuple[bool, float]:
        held = _RESIDUE.fullmatch(key(name))
        implied = False
        if asked and held and asked[1] == held[1]:
            modulus = max(int(held[3]), 1)
            implied = int(asked[3]) % modulus == 0 and int(asked[2]) % modulus == int(held[2])
        return not implied, -SequenceMatcher(None, key(name), key(label)).ratio()

    return sorted(dict.fromkeys(names), key=distance)[:most]


def query(wanted: Wanted, search: Search) -> Query:
    """The conditions and the order. Raises RequestError for a filter or an order that does not exist."""
    labels, label_values = _of_labels(wanted, search)
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, *given: Any) -> None:
        conditions.append(condition)
        values.extend(given)

    if wanted.operator is not None:
        add("operator = ?", wanted.operator)
    for layer in (wanted.layer, search.layer):
        if layer is not None:
            add("layer = ?", layer)
    if search.index is not None:
        add("neuron = ?", search.index)
    if search.neurons:
        add("(layer, neuron) in (select unnest(?), unnest(?))", *_columns((n.layer, n.index) for n in search.neurons))
    match wanted.shown:
        case "important":
            add("important")
        case "labelled":
            add("labels > 0")
        case "unlabelled":
            add("important and labels = 0")
        case "pinned":
            pins = _columns((o, n.layer, n.index) for o, n in wanted.pinned) if wanted.pinned else ([], [], [])
            add("(operator, layer, neuron) in (select unnest(?::varchar[]), unnest(?::int[]), unnest(?::int[]))", *pins)
    for column, model in [*wanted.filters.items()][:MOST_PARTS]:
        add(*_filter(column, model))
    return Query(labels, tuple(label_values), " and ".join(conditions) or "true", tuple(values), _order(wanted.sort))


def _of_labels(wanted: Wanted, search: Search) -> tuple[str, list[Any]]:
    """Conditions on a label, empty where any neuron will do, with or without one."""
    conditions: list[str] = []
    values: list[Any] = []
    for family in (wanted.family, search.family):
        if family:
            conditions.append("family = ?")
            values.append(family)
    if search.label:
        conditions.append("key = ?" if search.exact else "contains(key, ?)")
        values.append(search.label)
    if wanted.shown == "significant":
        conditions.append("significant")
    if conditions and wanted.operator is not None:
        conditions.append("operator = ?")
        values.append(wanted.operator)
    return " and ".join(conditions), values


def read_sort(text: str) -> tuple[tuple[str, str], ...]:
    """`"score:desc,name:asc"` as an order; the usual one where the text has none."""
    parts = [part.partition(":") for part in text[:LONGEST].split(",") if part]
    read = tuple((column, way or "asc") for column, _, way in parts)
    known = (*COLUMNS, "name")
    return read if read and all(c in known and way in ("asc", "desc") for c, way in read) else SORT


def _columns(rows: Any) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _order(sort: Sequence[tuple[str, str]]) -> str:
    """The order, made total by the neuron's name."""
    parts = []
    for column, direction in sort[:6]:
        if column == "name":
            parts += [f"layer {_direction(direction)}", f"neuron {_direction(direction)}"]
        elif column in COLUMNS:
            parts.append(f'"{column}" {_direction(direction)} nulls last')
        else:
            raise RequestError(f"the table of neurons has no column {column[:40]!r}: columns are {', '.join(COLUMNS)}")
    return ", ".join([*parts, "layer", "neuron", "operator"])


def _direction(given: str) -> str:
    if given not in ("asc", "desc"):
        raise RequestError(f"order {given[:20]!r} does not exist: asc or desc")
    return given


def _filter(column: Any, model: Any) -> tuple[Any, ...]:
    """One column's filter as a condition and its values."""
    if column not in (*COLUMNS, "name"):
        raise RequestError(f"the table of neurons has no column {str(column)[:40]!r}: columns are {', '.join(COLUMNS)}")
    if not isinstance(model, Mapping):
        raise RequestError(f"the filter of column {column} cannot be read: clear it")
    parts = model.get("conditions")
    if parts is None:
        return _condition(column, model)
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not 0 < len(parts) <= MOST_PARTS:
        raise RequestError(f"the filter of column {column} has no conditions: clear it")
    read = [_condition(column, part) for part in parts]
    join = " or " if model.get("operator") == "OR" else " and "
    return "(" + join.join(condition for condition, *_ in read) + ")", *(v for _, *values in read for v in values)


def _condition(column: str, model: Any) -> tuple[Any, ...]:
    """One comparison and its values."""
    kind = model.get("type") if isinstance(model, Mapping) else None
    text = column in TEXTS
    known = _TEXT if text else _COMPARED
    sql = NAME if column == "name" else f'"{column}"'
    if kind in _BLANK:
        return (_BLANK[kind].format(c=sql),)
    if kind == "inRange" and not text:
        return f"{sql} between ? and ?", _number(column, model.get("filter")), _number(column, model.get("filterTo"))
    if kind not in known:
        raise RequestError(f"column {column} cannot be filtered by {str(kind)[:40]!r}: clear the filter")
    given = model.get("filter")
    if not text:
        return known[kind].format(c=f"{sql}::double"), _number(column, given)
    return known[kind].format(c=sql), str(given if given is not None else "")[:LONGEST]


def _number(column: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise RequestError(f"column {column} is filtered by a number, not by {str(given)[:40]!r}")
    return float(given)
