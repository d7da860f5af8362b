"""Tasks that other processes do in tests of Ray and SLURM, named as `remote_tasks:<function>`; they need no model."""

import os
import signal
from dataclasses import asdict
from pathlib import Path

from arithcirc.catalogue import SweepFolder
from arithcirc.config import PromptConfig
from arithcirc.store import write_json
from arithcirc.sweep.task import Loading, Outcome, Settings, Task

HERE = str(Path(__file__).resolve().parent)
SETTINGS = Settings(prompts=PromptConfig(operands="0..20"))


def task(step: int = 1, symbol: str = "*", **loading: object) -> Task:
    """A task of a model that is nowhere."""
    revision = f"step{step}"
    return Task("nowhere", "nowhere", revision, step, symbol, revision, SETTINGS, loading=Loading(**loading))


def done(task: Task, root: Path) -> Outcome:
    """Says, as the reason, what of its surroundings matters."""
    files = SweepFolder(root).files(*task.key)
    seen = f"{task} threads={task.loading.threads} OMP={os.environ.get('OMP_NUM_THREADS')}"
    outcome = Outcome("done", seen, seconds=0.5, pid=os.getpid(), n_shared=7)
    files.folder.mkdir(parents=True, exist_ok=True)
    write_json(files.outcome, asdict(outcome))
    return outcome


def killed_once(task: Task, root: Path) -> Outcome:
    """Is killed the first time, as when memory runs out, after a failed outcome of an earlier attempt was there."""
    marker = root / f"killed-{task.revision}"
    if not marker.exists():
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return done(task, root)


def raises(task: Task, root: Path) -> Outcome:
    """What no task may do."""
    raise ValueError("an unforeseen\nerror")
