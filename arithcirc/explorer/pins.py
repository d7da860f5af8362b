"""Pins and notes: neurons a reader wants to find again, in `pins.json` beside the run.

    {"schema": 1, "pins": [{"operator": "+", "layer": 2, "neuron": 209, "note": "ends in 8?", "when": "2026-11-..."}]}

In a sweep's folder each pin also names its `model` and `revision`. The file is written whole and renamed; a change
reads it, alters its own entries and writes it back under one lock (of this process, and of the folder against other
processes), so two readers do not erase each other's pins. A file that cannot be read is said to be damaged and is kept
as `pins.damaged-<time>.json` before anything new is written. Notes are plain text. Nothing else in a run reads the
file, and no manifest lists it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arithcirc.components import Neuron
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.explorer.source import Source
from arithcirc.store import write_text
from arithcirc.viz.theme import OPERATOR_NAMES

FILE = "pins.json"
SCHEMA = 1
LONGEST_NOTE = 2_000
MOST = 5_000
"""Pins of one run."""
BIGGEST = 16_000_000
"""Bytes of a file that are read."""
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Pin:
    """One pinned neuron under one operator; of a sweep, at one model and revision."""

    operator: str
    layer: int
    neuron: int
    note: str = ""
    when: str = ""
    model: str = ""
    revision: str = ""

    @property
    def component(self) -> Neuron:
        """The neuron."""
        return Neuron(self.layer, self.neuron)

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What is pinned; one pin each."""
        return self.model, self.revision, self.operator, self.layer, self.neuron


@dataclass(frozen=True)
class Pins:
    """What the file holds, and what is wrong with it in one line (None: nothing)."""

    pins: tuple[Pin, ...] = ()
    problem: str | None = None


def read_pins(source: Source, *, every: bool = False) -> list[Pin]:
    """Pins of the run, or of the sweep's checkpoint (`every`: of all its checkpoints), newest first. Never raises."""
    return list(stored(source, every=every).pins)


def stored(source: Source, *, every: bool = False) -> Pins:
    """The same, with what is wrong with the file."""
    held = _read(source.path / FILE)
    pins = held.pins if every else tuple(p for p in held.pins if (p.model, p.revision) == _checkpoint(source))
    return Pins(tuple(sorted(pins, key=lambda p: p.when, reverse=True)), held.problem)


def pin_of(source: Source, operator: str, neuron: Neuron) -> Pin | None:
    """The neuron's pin, or None where it is not pinned."""
    return next((p for p in read_pins(source) if p.operator == operator and p.component == neuron), None)


def savable(source: Source) -> bool:
    """Pins can be written into this folder."""
    return os.access(source.path, os.W_OK)


def set_pin(source: Source, operator: str, neuron: Neuron, note: str = "") -> Pin:
    """Pin a neuron with a note, or replace the note of its pin.

    Raises RequestError for a note too long or a neuron not there, EnvironmentFailure where nothing can be saved.
    """
    note = _text(note)
    pin = _new(source, operator, neuron, note)
    _change(source, lambda held: held | {pin.key: pin})
    return pin


def set_pins(source: Source, chosen: Iterable[tuple[str, Neuron]]) -> list[Pin]:
    """Pin neurons without a note; those pinned before keep theirs. Raises as `set_pin`."""
    new = {pin.key: pin for pin in (_new(source, operator, neuron, "") for operator, neuron in chosen)}
    _change(source, lambda held: new | held)
    return list(new.values())


def remove_pin(source: Source, operator: str, neuron: Neuron) -> None:
    """Take a pin away; nothing happens where there is none. Raises EnvironmentFailure where nothing can be saved."""
    key = (*_checkpoint(source), operator, neuron.layer, neuron.index)
    _change(source, lambda held: {k: pin for k, pin in held.items() if k != key})


def joined(source: Source, chosen: Iterable[tuple[str, Neuron]]) -> list[Pin]:
    """All pins of the file and these: what `set_pins` would write, for a folder that cannot be written."""
    new = {pin.key: pin for pin in (_new(source, operator, neuron, "") for operator, neuron in chosen)}
    return list((new | {pin.key: pin for pin in _read(source.path / FILE).pins}).values())


def as_json(pins: Iterable[Pin]) -> str:
    """The file's text."""
    entries = [{k: v for k, v in asdict(p).items() if v != "" or k in ("note", "when")} for p in pins]
    return json.dumps({"schema": SCHEMA, "pins": entries}, indent=1, ensure_ascii=False) + "\n"


# -- inside ------------------------------------------------------------------------------------------------------------


def _checkpoint(source: Source) -> tuple[str, str]:
    at = source.checkpoint
    return (at.model, at.revision) if at is not None else ("", "")


def _new(source: Source, operator: str, neuron: Neuron, note: str) -> Pin:
    if operator not in OPERATOR_NAMES:
        raise RequestError(f"operator {operator[:10]!r} cannot be pinned: operators are {' '.join(OPERATOR_NAMES)}")
    layers, width = (source.model.get(name) for name in ("n_layers", "d_mlp"))
    inside = neuron.layer < (layers or 10_000) and neuron.index < (width or 10_000_000)
    if neuron.layer < 0 or neuron.index < 0 or not inside:
        raise RequestError(f"{neuron} is not in this model of {layers or '?'} layers of {width or '?'} neurons each")
    return Pin(
        operator,
        neuron.layer,
        neuron.index,
        note,
        datetime.now(UTC).isoformat(timespec="seconds"),
        *_checkpoint(source),
    )


def _text(note: str) -> str:
    """A note as plain text: no control characters but line ends."""
    kept = _plain(note.replace("\r\n", "\n"))
    if len(kept) > LONGEST_NOTE:
        raise RequestError(f"the note has {len(kept):,} characters: at most {LONGEST_NOTE:,} are kept, shorten it")
    return kept


def _plain(text: str) -> str:
    return "".join(c for c in text if c == "\n" or c.isprintable()).strip()


def _read(file: Path) -> Pins:
    try:
        state = file.stat()
        if not stat.S_ISREG(state.st_mode) or state.st_size > BIGGEST:
            return Pins((), _problem(f"it is no file of at most {BIGGEST // 1_000_000} MB"))
        held = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return Pins()
    except (OSError, ValueError, RecursionError) as error:
        return Pins((), _problem(" ".join(str(error).split())[:120]))
    entries = held.get("pins") if isinstance(held, Mapping) and held.get("schema") == SCHEMA else None
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return Pins((), _problem(f"it is no list of pins of schema {SCHEMA}"))
    pins = [_pin(entry) for entry in entries]
    lost = sum(pin is None for pin in pins)
    unique = {pin.key: pin for pin in pins if pin is not None}
    return Pins(tuple(unique.values()), _problem(f"{lost} of {len(pins)} entries are no pins") if lost else None)


def _problem(reason: str) -> str:
    return f"{FILE} is damaged ({reason}): mend it; before a new pin is saved it is kept as pins.damaged-<time>.json"


def _pin(entry: Any) -> Pin | None:
    """An entry of the file; None for one that is no pin."""
    if not isinstance(entry, Mapping):
        return None
    texts = {k: entry.get(k, "") for k in ("operator", "note", "when", "model", "revision")}
    layer, neuron = entry.get("layer", -1), entry.get("neuron", -1)
    if not all(isinstance(text, str) for text in texts.values()) or texts["operator"] not in OPERATOR_NAMES:
        return None
    if not all(type(index) is int and 0 <= index < 10_000_000 for index in (layer, neuron)):
        return None
    return Pin(layer=layer, neuron=neuron, **{k: _plain(text)[:LONGEST_NOTE] for k, text in texts.items()})


Held = dict[tuple[str, str, str, int, int], Pin]


def _change(source: Source, change: Any) -> None:
    """Read, change, write back, with nobody in between."""
    file = source.path / FILE
    try:
        with _LOCK, _folder_lock(source.path):
            held = _read(file)
            if held.problem is not None:
                stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
                aside = file.with_name(f"pins.damaged-{stamp}.json")
                shutil.copy(file, aside) if file.is_file() else file.rename(aside)
            pins: Held = change({pin.key: pin for pin in held.pins})
            if len(pins) > MOST:
                raise RequestError(f"{len(pins):,} pins are too many: at most {MOST:,} are kept, remove some first")
            write_text(file, as_json(pins.values()))
    except (OSError, EnvironmentFailure):
        raise EnvironmentFailure(
            f"pins cannot be saved beside {source.key!r} (its folder cannot be written): download them as JSON instead"
        ) from None


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes' pins out meanwhile; where the file system has no locks, go without."""
    held = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
