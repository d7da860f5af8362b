"""Activation maps that the live model computes on request: one at a time, in the background, the last few kept.

A page asks with `look` whether a map is there, and with `want` for it to be made; both return at once. Nothing belongs
to a user: whoever asks for the same neuron gets the same map.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from arithcirc.components import Neuron
from arithcirc.errors import ArithcircError
from arithcirc.explorer.live import Live
from arithcirc.explorer.source import Source
from arithcirc.neuron_maps import NeuronMap

KEPT = 40
"""Maps held, under a megabyte each: those of a neuron at a sweep's checkpoints and under every operator."""
Key = tuple[str, str, str, str, Neuron]


@dataclass
class Computed:
    """The maps made by one explorer's live models."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: "OrderedDict[Key, NeuronMap]" = field(default_factory=OrderedDict)
    _running: Key | None = None
    _failed: dict[Key, str] = field(default_factory=dict)

    def look(self, source: Source, operator: str, neuron: Neuron) -> NeuronMap | None:
        """A map made before, or None."""
        key = _key(source, operator, neuron)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def want(self, live: Live, source: Source, operator: str, neuron: Neuron) -> tuple[str, str]:
        """Have a map made: `made`, `computing`, `waiting` (another is being made) or `failed`, and a line about it."""
        key = _key(source, operator, neuron)
        with self._lock:
            if key in self._held:
                return "made", ""
            if key in self._failed:
                return "failed", self._failed.pop(key)
            if self._running is not None:
                mine = self._running == key
                other = f"waiting: the model is busy with {self._running[-1]}"
                return ("computing", _computing(neuron)) if mine else ("waiting", other)
            self._running = key
        threading.Thread(target=self._make, args=(live, key, source), daemon=True, name="neuron-map").start()
        return "computing", _computing(neuron)

    def _make(self, live: Live, key: Key, source: Source) -> None:
        operator, neuron = key[-2:]
        found, problem = None, ""
        try:
            found = live.ask(source, lambda model: model.neuron_map(operator, neuron))
        except ArithcircError as error:
            problem = str(error)
        except Exception as error:
            problem = f"the map could not be computed ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
        with self._lock:
            self._running = None
            if found is None:
                self._failed[key] = problem
                return
            self._held[key] = found
            while len(self._held) > KEPT:
                self._held.popitem(last=False)


def _computing(neuron: Neuron) -> str:
    return f"computing what {neuron} does on every legal prompt"


def _key(source: Source, operator: str, neuron: Neuron) -> Key:
    at = source.checkpoint
    where = f"{source.path}", at.model if at is not None else "", at.revision if at is not None else ""
    return (*where, operator, neuron)


_OF: "WeakKeyDictionary[Live, Computed]" = WeakKeyDictionary()


def computed(live: Live) -> Computed:
    """The maps of one explorer."""
    return _OF.setdefault(live, Computed())


def map_of(live: Live, source: Source, operator: str, neuron: Neuron) -> NeuronMap | None:
    """The stored map, else one that was computed, else None."""
    stored = source.neuron_map(operator, neuron)
    return stored if stored is not None else computed(live).look(source, operator, neuron)
