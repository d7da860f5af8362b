"""A live model behind the pages: loaded in the background when it is first needed, asked one question at a time.

Loading takes seconds and imports torch, so it never happens while a page is drawn: a page asks for the `state` (which
starts loading) and shows the rest meanwhile. Models are loaded one after the other, those still wanted when their turn
comes, and kept by folder and checkpoint, the few used last. A question carries everything it depends on, so users share
no state, and one lock keeps questions apart. What went wrong is kept as one line; loading is tried again when asked to.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from arithcirc.errors import ArithcircError, RequestError
from arithcirc.explorer.source import Source
from arithcirc.questions import LiveModel

KEPT = 2
"""Models held in memory at once."""
PATIENCE = 20.0
"""Seconds for which a question waits for its model to load."""
WAITING = 3
"""Questions that may wait so at once; those of others are told to come again, so that pages are served meanwhile."""

Opener = Callable[[Path, str | None, str | None], LiveModel]
"""Loads the model of a run's folder, or of a sweep's folder at (model, revision)."""
Answer = TypeVar("Answer")
Key = tuple[Path, str | None, str | None]


@dataclass
class _Entry:
    model: LiveModel | None = None
    problem: str | None = None
    seconds: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class LiveState:
    """`off` (no live model was asked for), `idle` (none was needed yet), `loading`, `ready` or `failed`, and a line."""

    name: str
    text: str

    @property
    def ready(self) -> bool:
        """Questions can be asked."""
        return self.name == "ready"


class Live:
    """Live models of an explorer. With no opener, every state is `off`."""

    def __init__(self, opener: Opener | None) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING)
        self._held: dict[Key, _Entry] = {}
        self._recent: list[Key] = []  # asked for last, in order: worth holding, and worth loading when their turn comes

    def state(self, source: Source, *, start: bool = True, again: bool = False) -> LiveState:
        """How the source's model is; starts loading it unless `start` is False. `again` retries what failed."""
        if self._opener is None:
            return LiveState("off", "no live model: start the explorer without --no-live to ask this model questions")
        key = _key(source)
        with self._lock:
            entry = self._held.get(key)
            if entry is None or (again and entry.problem is not None):
                if not start:
                    return LiveState("idle", "the model is not loaded: it loads when a page first asks it")
                entry = self._held[key] = _Entry()
                threading.Thread(target=self._load, args=(key, entry), daemon=True, name="live-model").start()
            self._recent = [*(k for k in self._recent if k != key), key][-KEPT:]
            self._forget()
        if entry.problem is not None:
            return LiveState("failed", entry.problem)
        if entry.model is None:
            return LiveState("loading", "loading the model in the background; everything else works meanwhile")
        return LiveState(
            "ready", f"{entry.model.info.name} {entry.model.info.revision}, loaded in {entry.seconds:.1f} s"
        )

    def ask(self, source: Source, question: Callable[[LiveModel], Answer]) -> Answer:
        """Put one question to the source's model, which may have to load first.

        Raises RequestError when it is not ready after a while; the model's own errors.
        """
        state = self.state(source)
        with self._lock:
            entry = self._held.get(_key(source))
        if entry is not None and not entry.done.is_set() and self._waiting.acquire(blocking=False):
            try:
                entry.done.wait(PATIENCE)
            finally:
                self._waiting.release()
        if entry is None or entry.model is None:
            raise RequestError((entry.problem if entry is not None else None) or state.text)
        with entry.lock:
            return question(entry.model)

    def _load(self, key: Key, entry: _Entry) -> None:
        with self._loading:
            with self._lock:
                if key not in self._recent:  # its reader went on to others while it waited
                    if self._held.get(key) is entry:
                        del self._held[key]
                    entry.done.set()
                    return
            self._open(key, entry)
        entry.done.set()
        with self._lock:
            self._forget()

    def _open(self, key: Key, entry: _Entry) -> None:
        start = time.perf_counter()
        try:
            if self._opener is not None:
                model = self._opener(*key)
                entry.seconds = time.perf_counter() - start
                entry.model = model
        except ArithcircError as error:
            entry.problem = str(error)
        except Exception as error:
            entry.problem = (
                f"the model could not be loaded ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            )

    def _forget(self) -> None:
        """Drop models not used lately; those still loading stay."""
        for key in [k for k, entry in self._held.items() if entry.done.is_set() and k not in self._recent]:
            del self._held[key]


def _key(source: Source) -> Key:
    at = source.checkpoint
    return (source.path, at.model, at.revision) if at is not None else (source.path, None, None)
