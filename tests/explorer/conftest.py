"""A planted run, a model with known answers, and the explorer served on a free port."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from explorer.planted_live import PlantedLive
from explorer.synthetic_explorer import make_explorer_run

from arithcirc.explorer.live import Opener
from arithcirc.explorer.server import address, listening
from arithcirc.explorer.source import Source, open_source
from arithcirc.store import RunFolder


@pytest.fixture(scope="session")
def explorer_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run of `synthetic_explorer`, to read from only; its folder is `planted/step4000`."""
    return make_explorer_run(tmp_path_factory.mktemp("runs") / "planted" / "step4000")


@pytest.fixture
def source(explorer_run: RunFolder) -> Source:
    """The planted run, to read from."""
    return open_source("planted", explorer_run.path)


@pytest.fixture
def own(explorer_run: RunFolder, tmp_path: Path) -> Source:
    """A copy of the planted run, to alter."""
    folder = tmp_path / "own" / "step4000"
    shutil.copytree(explorer_run.path, folder, ignore=shutil.ignore_patterns("maps_*", "gallery*", "number*"))
    return open_source("step4000", folder)


@pytest.fixture(scope="session")
def planted_live() -> PlantedLive:
    """The model behind that run."""
    return PlantedLive()


@pytest.fixture(scope="session")
def explorer() -> Iterator[Callable[..., str]]:
    """`explorer(folder, ..., live=opener)`: the address of an explorer over these folders, without a last slash.

    `live` is an opener (folder, model, revision) -> LiveModel, or a live model.
    """
    started = []

    def start(*folders: Path, live: Opener | PlantedLive | None = None) -> str:
        opener = (lambda *_: live) if isinstance(live, PlantedLive) else live
        server = listening(folders, live=opener)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        started.append((server, thread))
        return address("127.0.0.1", int(server.effective_port)).rstrip("/")

    yield start
    for server, thread in started:
        server.close()
        server.task_dispatcher.shutdown()
        thread.join(5)


@pytest.fixture(scope="session")
def served(explorer: Callable[..., str], explorer_run: RunFolder, planted_live: PlantedLive) -> str:
    """The explorer over the planted run with the planted model."""
    return explorer(explorer_run.path, live=planted_live)
