"""The far end of Ray and SLURM: text comes in, a task is done, text goes out.

    in     a task as one line of JSON (`Task.text`), the sweep's folder, and the function that does tasks, by name
    out    its outcome as JSON: returned (Ray), or written into a file of its own that is renamed when whole (SLURM)

Only strings cross the machines' boundary, so that both ends may be different processes, machines and times. The sweep's
folder has to be on a disk that all of them share, under the same path. The process keeps the model of its last task.
"""

import importlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arithcirc.store import write_json
from arithcirc.sweep.executors import Work
from arithcirc.sweep.task import Outcome, Task

DO = "arithcirc.sweep.work:run_task"
"""The function that does a task: `module:function`, called with the task and the sweep's folder.

Its module may have a function `task_of` that makes the task from `as_json`'s values; else it is a sweep's `Task`.
"""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""What libraries ask for the number of threads when they start."""


def do_text(root: str, text: str, do: str = DO) -> str:
    """Do a task; returns its outcome as JSON. Raises only what the function raises."""
    task_of, run = named(do)
    outcome = run(task_of(json.loads(text)), Path(root))
    return json.dumps(asdict(outcome), ensure_ascii=False)


def named(do: str) -> tuple[Callable[[dict[str, Any]], Work], Callable[..., Outcome]]:
    """What makes tasks from values, and what does them."""
    module, _, name = do.partition(":")
    found = importlib.import_module(module)
    return getattr(found, "task_of", Task.of), getattr(found, name)


def answer_into(file: str, root: str, text: str, do: str = DO) -> None:
    """Do a task and write `{"outcome": ...}` into a file, or `{"lost": why}` when the function raised."""
    try:
        answer = {"outcome": json.loads(do_text(root, text, do))}
    except Exception as error:
        answer = {"lost": " ".join(f"{type(error).__name__}: {error}".split())}
    write_json(Path(file), answer)


class Remote:
    """A worker of a Ray cluster: one process that does one task after the other."""

    def __init__(self, root: str, do: str = DO) -> None:
        self._root, self._do = root, do

    def do(self, text: str) -> str:
        """As `do_text`."""
        return do_text(self._root, text, self._do)

    def pid(self) -> int:
        """The process."""
        return os.getpid()
