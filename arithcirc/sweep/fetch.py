"""Weights of remote checkpoints are fetched once, by the driver, while its workers compute; workers then work offline.

Per checkpoint: the files of the revision are listed, its configuration, tokenizer and safetensors are
brought into the hub's cache with `snapshot_download` (nothing else, and never pickled weights), in one thread, one
checkpoint after the other. The driver asks for the next ones in order, so few are on disk at once. A checkpoint that
cannot be had fails its tasks with the line that loading it would give; the others go on.

With `drop`, a checkpoint is deleted from the cache after its last task, but only what this sweep fetched: commits that
were there before stay. Which those are is kept in `ledger`, so that a sweep that is killed and started again still
knows. The references' weights stay until `close`. Deleting happens in the fetching thread, between two checkpoints,
because files that are being fetched look unused.

Models in local folders are always ready.
"""

import json
import logging
import queue
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from arithcirc.errors import ArithcircError
from arithcirc.models.zoo import Located, locate
from arithcirc.store import write_json
from arithcirc.sweep.task import Task

Group = tuple[str, str]
"""A model's name and a revision."""
Begins = Callable[[str], None]
"""Told the commit before anything of it is fetched."""
Fetch = Callable[[Located, str | None, Begins], None]
"""Brings one revision into the cache. Raises ArithcircError."""

_TEXTS = ("*.json", "*.model", "*.txt", "*.jinja")
"""Configuration and tokenizer, at the top of the repository."""
_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


@dataclass
class _Checkpoint:
    """One revision on its way: `commit` is set when this sweep fetched it."""

    located: Located
    work: "Future[str | None]"
    reference: bool
    groups: set[Group] = field(default_factory=set)
    over: set[Group] = field(default_factory=set)


class Fetcher:
    """The driver's `Weights`. `cache_dir` None: the hub's own; with `offline` nothing is fetched.

    `fetch` replaces what brings a revision here (tests).
    """

    def __init__(
        self,
        cache_dir: str | None = None,
        *,
        offline: bool = False,
        drop: bool = False,
        ledger: Path | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self._cache_dir, self._offline, self._drop, self._ledger = cache_dir, offline, drop, ledger
        self._fetch = fetch or fetch_revision
        self._line = _Line()
        self._held: dict[tuple[str, str], _Checkpoint] = {}
        self._ours: set[str] = set(_read(ledger))

    # -- what the driver asks ------------------------------------------------------------------------------------------

    def ready(self, task: Task) -> bool:
        """Whether the task's weights are here or cannot be had; the first time they begin to be fetched."""
        held = self._of(task)
        return held is None or held.work.done()

    def error(self, task: Task) -> str | None:
        """Why the weights cannot be had, in one line; waits for them."""
        held = self._of(task)
        if held is None:
            return None
        try:
            held.work.result()
        except ArithcircError as error:
            return str(error)
        except Exception as error:
            return " ".join(f"the weights cannot be fetched: {type(error).__name__}: {error}".split())
        return None

    def prepared(self, task: Task) -> Task:
        """The task that needs no network any more."""
        if self._of(task) is None:
            return task
        return replace(task, loading=replace(task.loading, offline=True))

    def done(self, name: str, revision: str) -> None:
        """A checkpoint's last task has ended."""
        for held in self._held.values():
            if (name, revision) in held.groups:
                held.over.add((name, revision))
                if self._drop and not held.reference and held.over == held.groups:
                    self._line.put(partial(self._delete, held))

    def close(self, *, cancel: bool = False) -> None:
        """Fetch no more; with `drop` the references go too. With `cancel` at once, and all that is here stays."""
        self._line.close(wait=not cancel)
        if self._drop and not cancel:
            for held in self._held.values():
                held.over = held.groups
            for held in self._held.values():
                self._delete(held)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _of(self, task: Task) -> _Checkpoint | None:
        """The task's checkpoint, which begins to be fetched when it is asked for first; None where nothing is to do."""
        located = locate(task.model, task.revision) if self._remote(task) else None
        if located is None or self._offline:
            return None
        key = (located.source, located.fetched or located.revision)
        if key not in self._held:
            self._held[key] = _Checkpoint(located, self._line.put(partial(self._bring, located)), task.is_reference)
        held = self._held[key]
        held.reference |= task.is_reference
        held.groups.add(task.key[:2])
        return held

    def _remote(self, task: Task) -> bool:
        try:
            return not locate(task.model).local
        except ArithcircError:
            return False  # loading it says why

    def _bring(self, located: Located) -> str | None:
        """Fetch in the thread; the commit when it was not in the cache before."""
        before = _commits(located.source, self._cache_dir)
        self._fetch(located, self._cache_dir, lambda commit: None if commit in before else self._remember(commit))
        commit = _commit(located, self._cache_dir)
        return commit if commit in self._ours else None

    def _delete(self, held: _Checkpoint) -> str | None:
        """Delete what was fetched of a checkpoint, unless another one that is needed is the same commit."""
        commit = _result(held)
        still = {_result(other) for other in self._held.values() if other is not held and other.over != other.groups}
        if commit is None or commit in still or commit not in self._ours:
            return None
        from huggingface_hub import scan_cache_dir

        with suppress(OSError, ValueError):
            scan_cache_dir(self._cache_dir).delete_revisions(commit).execute()
            self._ours.discard(commit)
            self._write()
        return None

    def _remember(self, commit: str) -> None:
        self._ours.add(commit)
        self._write()

    def _write(self) -> None:
        if self._ledger is not None:
            with suppress(ArithcircError):
                write_json(self._ledger, {"fetched": sorted(self._ours)})


class _Line:
    """Work done one piece after the other in a thread that does not keep the program from ending."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Future[str | None], Callable[[], str | None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, work: Callable[[], str | None]) -> "Future[str | None]":
        """Queue a piece of work."""
        future: Future[str | None] = Future()
        self._queue.put((future, work))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
            self._thread.start()
        return future

    def close(self, *, wait: bool) -> None:
        """Leave out what has not begun; with `wait` what has begun ends first."""
        self._closed = True
        self._queue.put(None)
        if wait and self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            future, work = item
            if self._closed:
                future.cancel()
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)


def _result(held: _Checkpoint) -> str | None:
    """The commit that was fetched for a checkpoint, once it is here."""
    if not held.work.done() or held.work.cancelled() or held.work.exception() is not None:
        return None
    return held.work.result()


def _read(ledger: Path | None) -> list[str]:
    """Commits that this sweep fetched before."""
    if ledger is None:
        return []
    try:
        return [str(commit) for commit in json.loads(ledger.read_text("utf-8"))["fetched"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


# -- the hub's cache ---------------------------------------------------------------------------------------------------


def fetch_revision(located: Located, cache_dir: str | None, begins: Begins) -> None:
    """Bring a revision's configuration, tokenizer and safetensors into the cache.

    Raises ModelError for a revision that is unknown, not allowed or has pickled weights only, EnvironmentFailure for a
    hub that cannot be reached or a full disk. A complete copy in the cache serves where the hub cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download

    from arithcirc.models.hub import explained, pickled_only

    revision = located.fetched or located.revision
    with explained(located, "weights"), _unheard():
        try:
            info = HfApi().model_info(located.source, revision=revision)
        except Exception as error:
            if _complete(located, cache_dir):
                return
            raise error from None
        wanted = wanted_files([file.rfilename for file in info.siblings or []])
        if not any(name.endswith(".safetensors") for name in wanted):
            raise pickled_only(located)
        begins(str(info.sha))
        snapshot_download(
            located.source, revision=revision, cache_dir=cache_dir, allow_patterns=wanted, tqdm_class=_silent_bar()
        )


@contextmanager
def _unheard() -> Iterator[None]:
    """The hub's advice and its notes on attempts stay out of our output."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def wanted_files(names: list[str]) -> list[str]:
    """Of a repository's files those that loading reads: texts at its top, and one set of safetensors."""
    texts = [n for n in names if "/" not in n and any(Path(n).match(pattern) for pattern in _TEXTS)]
    if _ONE in names:
        return [*(t for t in texts if t != _INDEX), _ONE]
    return [*texts, *(n for n in names if _SHARD.fullmatch(n))]


def _silent_bar() -> type:
    from tqdm.auto import tqdm

    bar: Any = tqdm

    class Silent(bar):  # type: ignore[misc]
        """A progress bar that is not drawn."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **kwargs | {"disable": True})

    return Silent


def _store(source: str, cache_dir: str | None) -> Path:
    from huggingface_hub import constants

    return Path(cache_dir or constants.HF_HUB_CACHE).expanduser() / f"models--{source.replace('/', '--')}"


def _commits(source: str, cache_dir: str | None) -> set[str]:
    """Commits of which the cache holds something."""
    return {path.name for path in (_store(source, cache_dir) / "snapshots").glob("*")}


def _commit(located: Located, cache_dir: str | None) -> str | None:
    """The commit that a revision stands for in the cache."""
    revision = located.fetched or located.revision
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        return (_store(located.source, cache_dir) / "refs" / revision).read_text("utf-8").strip()
    except OSError:
        return None


def _complete(located: Located, cache_dir: str | None) -> bool:
    """Whether the cache holds a revision's configuration and weights."""
    commit = _commit(located, cache_dir)
    folder = _store(located.source, cache_dir) / "snapshots" / str(commit)
    if commit is None or not (folder / "config.json").is_file():
        return False
    try:
        index = json.loads((folder / _INDEX).read_text("utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError):
        index = [_ONE]
    return (folder / _ONE).is_file() or all((folder / name).is_file() for name in index)
