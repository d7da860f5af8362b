"""Do one task of an influence study in a worker: load the checkpoint, if it is not held, and do the task's part.

A task never raises but KeyboardInterrupt and SystemExit: what went wrong is its outcome. The process holds the model
of its last task.
"""

import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from arithcirc.errors import ArithcircError
from arithcirc.influence.study.fit import encode_documents, fit_factors
from arithcirc.influence.study.queries import answer_queries
from arithcirc.influence.study.score import score
from arithcirc.influence.study.study import FIT, SCORE, Asked, How, Report, Study, open_study, silent
from arithcirc.models.fit import is_out_of_memory, release_memory
from arithcirc.models.load import set_threads
from arithcirc.models.plain import PlainModel, load_plain
from arithcirc.models.zoo import locate
from arithcirc.sweep.influence_task import FINISH, PREPARE, StudyTask
from arithcirc.sweep.task import Outcome, Status

_held: dict[tuple[Any, ...], PlainModel] = {}


def task_of(values: dict[str, Any]) -> StudyTask:
    """The task that was sent."""
    return StudyTask.of(values)


def run_task(task: StudyTask, root: Path, *, report: Report = silent) -> Outcome:
    """Do a task; what became of it. `root` is where the caller's workers keep their logs."""
    del root
    start = time.perf_counter()
    status: Status = "done"
    reason, loading = None, 0.0
    try:
        model = _loaded(task)
        loading = time.perf_counter() - start
        _do(task, model, report)
    except Exception as error:
        status, reason = "failed", _reason(error)
    return Outcome(
        status,
        reason,
        seconds=round(time.perf_counter() - start - loading, 3),
        load_seconds=round(loading, 3),
        peak_bytes=int(psutil.Process().memory_info().rss),
        host=socket.gethostname(),
        pid=os.getpid(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _do(task: StudyTask, model: PlainModel, report: Report) -> None:
    if task.part == PREPARE:
        fitted = _study(task, model, FIT, report)
        encode_documents(fitted)
        fit_factors(fitted)
        answer_queries(_study(task, model, SCORE, report))
        return
    study = _study(task, model, SCORE, report, write=task.part == FINISH)
    score(study, partitions=task.partitions)


def _study(
    task: StudyTask, model: PlainModel, sections: tuple[str, ...], report: Report, *, write: bool = True
) -> Study:
    study = open_study(
        model, Path(task.corpus), Path(task.out), queries=None if task.queries is None else Path(task.queries),
        asked=Asked(**task.asked), how=How(**task.how), sections=sections, write=write,
    )  # fmt: skip
    study.report = report
    return study


def _loaded(task: StudyTask) -> PlainModel:
    """The task's model, held from the last task where it is the same."""
    loading = task.loading
    set_threads(loading.threads)
    key = (task.model, task.revision, loading.device, loading.dtype)
    if key not in _held:
        _held.clear()
        release_memory()
        alone = locate(task.model).revision == task.revision
        _held[key] = load_plain(
            task.model, revision=None if alone else task.revision, device=loading.device, dtype=loading.dtype,
            cache_dir=loading.cache_dir, offline=loading.offline,
        )  # fmt: skip
    return _held[key]


def _reason(error: Exception) -> str:
    if isinstance(error, ArithcircError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory: use a smaller --batch-size or --partition, fewer --workers or --dtype bfloat16"
    return " ".join(f"unexpected {type(error).__name__}: {error}".split())
