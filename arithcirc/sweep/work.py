"""Doing a task: load the model, make its runs, write down what became of it.

    own       the stages on the checkpoint's own correct prompts
    shared    the same, up to the neurons, on the reference's prompts that are answered correctly here too
    labels    once, in own/: of all neurons that are important by own prompts, by shared prompts or for the reference
    emergence faithfulness and knockouts of what is shared with the reference's labels (emergence_stage)

Finished stages are reused, so a task that was killed goes on where it stopped, and a task that is done changes nothing.
What a task takes from its reference is hashed (`stamp.json`); where the reference or the code changed since, the task's
runs are made anew. Nothing is shared/ for the reference itself: its own prompts are the shared ones.
A task never raises but KeyboardInterrupt and SystemExit: what went wrong is its outcome.
"""

import os
import shutil
import socket
import time
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
from scipy import stats

from arithcirc.catalogue import SweepFolder, TaskFiles
from arithcirc.errors import ArithcircError, PromptError, RunConflictError
from arithcirc.models.fit import is_out_of_memory
from arithcirc.pipeline.job import Job, Report, silent
from arithcirc.pipeline.peak import measuring
from arithcirc.store import RunFolder, write_json
from arithcirc.sweep.emergence_stage import Compared, emergence
from arithcirc.sweep.estimate import plan_task
from arithcirc.sweep.given import Given, important_of, read_given, read_outcome, read_values, stamp
from arithcirc.sweep.loaded import loaded_for
from arithcirc.sweep.runs import Doing, Tally, first_stages, labels_stage, open_run, run
from arithcirc.sweep.shared import ANSWERS, LIST, shortage, take_shared
from arithcirc.sweep.task import Outcome, Status, Task

__all__ = ["plan_task", "run_task"]


def run_task(task: Task, root: Path, *, report: Report = silent) -> Outcome:
    """Do a task in a sweep's folder, or what is left of it; returns what became of it, as written to `outcome.json`.

    A task that ended before (done or without a circuit) is not done again as long as its files are whole; a failed one
    is. Where the folder holds another task nothing is written.
    """
    folder = SweepFolder(root)
    files = folder.files(*task.key)
    earlier = read_outcome(files)
    attempts = 1 if earlier is None or earlier.status != "failed" else earlier.attempts + 1
    start = time.perf_counter()
    try:
        given, missing = _reference(task, folder)
        if earlier is not None and _stands(task, files, given, earlier):
            return earlier
        _claim(task, files, given)
    except Exception as error:
        return _ended(Outcome("failed", _reason(error), attempts=attempts))
    try:
        with measuring(torch.device("cpu")) as peak:
            loaded, load_seconds = loaded_for(task)
    except Exception as error:
        seconds = round(time.perf_counter() - start, 3)
        return _written(files, Outcome("failed", _reason(error), seconds, attempts=attempts))
    doing = Doing(task, files, loaded, given, report, Tally(peak_bytes=peak.bytes or 0))
    status, reason, n_shared = _attempt(doing, missing)
    tally = doing.tally
    ended = Outcome(
        status,
        reason,
        seconds=round(time.perf_counter() - start - load_seconds + tally.reused, 3),
        load_seconds=round(load_seconds, 3),
        forwards=round(tally.forwards, 1),
        peak_bytes=max(tally.peak_bytes, int(psutil.Process().memory_info().rss)),
        stages=_stage_seconds(files),
        n_shared=n_shared,
        attempts=attempts,
    )
    return _written(files, ended)


# -- before and after --------------------------------------------------------------------------------------------------


def _reference(task: Task, folder: SweepFolder) -> tuple[Given | None, str | None]:
    """What the reference gives, or why it gives nothing; neither at the reference itself."""
    if task.is_reference:
        return None, None
    found = read_given(folder.files(task.name, task.reference, task.operator), task.operator, task.settings.stages)
    if isinstance(found, Given):
        return found, None
    return None, f"{found}: own rule, no shared run, nothing to compare labels with"


def _stands(task: Task, files: TaskFiles, given: Given | None, earlier: Outcome) -> bool:
    """Whether the earlier outcome is that of this task, with whole files."""
    if earlier.status == "failed" or read_values(files.stamp) != stamp(task, given):
        return False
    if _differences(task, files):
        return False
    try:
        runs = {path.name: RunFolder.open(path) for path in (files.own, files.shared) if path.exists()}
    except ArithcircError:
        return False
    ran = [name.split("/") for name in earlier.stages]
    return bool(ran) and all(part in runs and runs[part].finished(stage) for part, stage in ran)


def _differences(task: Task, files: TaskFiles) -> list[str]:
    """Fields in which the task in the folder is another one; how it is loaded counts by its dtype only."""
    held = read_values(files.task)
    if held is None:
        return []
    ours, theirs = task.as_json(), held
    same = ("model", "name", "revision", "operator", "settings")
    different = [name for name in same if ours[name] != theirs.get(name)]
    if ours["loading"]["dtype"] != theirs.get("loading", {}).get("dtype"):
        different.append("dtype")
    return different


def _claim(task: Task, files: TaskFiles, given: Given | None) -> None:
    """Write the task and its stamp; runs made with another stamp go. Raises RunConflictError for another task."""
    if different := _differences(task, files):
        raise RunConflictError(
            f"{files.folder} holds another task (its {', '.join(different)} differ): choose another --out"
        )
    now = stamp(task, given)
    if read_values(files.stamp) != now:
        for path in (files.own, files.shared):
            shutil.rmtree(path, ignore_errors=True)
        for file in (files.shared_pairs, files.outcome):
            file.unlink(missing_ok=True)
        write_json(files.stamp, now)
    if read_values(files.task) != task.as_json():
        write_json(files.task, task.as_json())


def _reason(error: Exception) -> str:
    """One line."""
    if isinstance(error, ArithcircError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory: use a smaller --batch-size, fewer --workers or --dtype bfloat16"
    return " ".join(f"unexpected {type(error).__name__}: {error}".split())


def _ended(outcome: Outcome) -> Outcome:
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(outcome, host=socket.gethostname(), pid=os.getpid(), finished=finished)


def _written(files: TaskFiles, outcome: Outcome) -> Outcome:
    """The outcome, on disk; a disk that takes nothing more makes it a failed one."""
    ended = _ended(outcome)
    try:
        write_json(files.outcome, asdict(ended))
    except ArithcircError as error:
        return replace(ended, status="failed", reason=str(error))
    return ended


def _stage_seconds(files: TaskFiles) -> dict[str, float]:
    """Seconds of every finished stage, by `own/<stage>` and `shared/<stage>`."""
    found: dict[str, float] = {}
    for path in (files.own, files.shared):
        with suppress(ArithcircError):
            records = RunFolder.open(path).manifest["stages"]
            found |= {f"{path.name}/{name}": float(record["seconds"]) for name, record in records.items()}
    return found


# -- the work ----------------------------------------------------------------------------------------------------------


def _attempt(doing: Doing, missing: str | None) -> tuple[Status, str | None, int]:
    """Status, reason and number of shared prompts, whatever happens on the way."""
    try:
        return _work(doing, missing)
    except Exception as error:
        return "failed", _reason(error), 0


def _work(doing: Doing, missing: str | None) -> tuple[Status, str | None, int]:
    task = doing.task
    own = open_run(doing, "own")
    first = first_stages(task, doing.given)
    try:
        run(doing, own, first[:1])
    except PromptError:
        if (why := _nothing_correct(own)) is None:
            raise
    else:
        why = _no_better(own, task.settings.level)
    if why is not None:
        run(doing, own, [ANSWERS])
        return "no circuit", why, 0
    run(doing, own, first)
    shared, short = _shared(doing, own)
    if task.settings.stages == "heuristics":
        union = {n for run in (own, shared) if run is not None for n in important_of(run.run.table("neurons"))}
        given = () if doing.given is None else doing.given.neurons
        own = open_run(doing, "own", neurons=sorted(union.union(given)))
        compared = Compared(None if shared is None else shared.run, doing.given, task.is_reference)
        run(doing, own, [labels_stage(), emergence(compared)])
    else:
        run(doing, own, [ANSWERS])
    if task.is_reference:
        run(doing, own, [LIST])
    n_shared = 0 if shared is None else len(shared.pairs or ())
    return "done", missing or short, n_shared


def _shared(doing: Doing, own: Job) -> tuple[Job | None, str | None]:
    """The run on the reference's prompts, or why there is none."""
    if doing.given is None:
        return None, None
    taken = take_shared(own, doing.given, doing.files)
    if (short := shortage(taken)) is not None:
        return None, short
    job = open_run(doing, "shared")
    run(doing, job, first_stages(doing.task, doing.given))
    return job, None


def _no_better(job: Job, level: float) -> str | None:
    """That the most frequent answer does as well on the prompts tried (one-sided binomial test); None if not so."""
    row = job.run.table("accuracy").iloc[0]
    right, n, base = int(row["correct"]), int(row["n"]), float(row["base_rate"])
    p = float(stats.binom.sf(right - 1, n, base))
    if p <= level:
        return None
    return (
        f"{right} of {n} prompts answered correctly, no better than the most frequent answer, right for {base:.1%} "
        f"(p = {p:.2g})"
    )


def _nothing_correct(job: Job) -> str | None:
    """That too few prompts are answered rightly to analyse any, as the table `accuracy` has it; None if not so."""
    if job.run.finished("prompts") or "accuracy" not in job.run.tables():
        return None
    accuracy = job.run.table("accuracy")
    if not (accuracy["correct"] < 2).all():
        return None
    return str(accuracy["skipped"].iloc[0]).removesuffix(": operator skipped")
