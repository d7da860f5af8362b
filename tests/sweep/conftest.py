"""What several files of these tests need, made once."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `little_tasks.checkpoints`."""
    import little_tasks

    return little_tasks.checkpoints(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep with the tasks of `outcomes`, to read from only."""
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="session")
def outcomes(checkpoints: Path, root: Path) -> dict[int, Any]:
    """What became of the little tasks of addition, by step: the reference's is the first."""
    import little_tasks

    from arithcirc.sweep.work import run_task

    return {step: run_task(little_tasks.task(checkpoints, step), root) for step in (2, 0, 1, 3)}


@pytest.fixture(scope="session")
def circuit_files(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the toy's circuit task leaves when submitit does it in this process."""
    pytest.importorskip("submitit", reason="submitit is not installed (extra 'cluster')")
    from sweep.circuit_task import circuit_task, files_of

    from arithcirc.sweep.slurm import SlurmExecutor

    root = tmp_path_factory.mktemp("circuit")
    found = files_of(SlurmExecutor(root, slots=1, cluster="debug"), root, [circuit_task(toy_folder)])
    assert len(found) >= 5
    return found


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    """Where clusters that start meanwhile keep sockets and logs; its name is short, as those of sockets must be."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_TMPDIR", str(folder))
        yield folder
    shutil.rmtree(folder, ignore_errors=True)
