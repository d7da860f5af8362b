"""Running stages in order, reusing what is finished.

A finished stage is skipped when its record, its files and their hashes agree; when a stage runs again, the records of
those that read from it are dropped first, so a kill in between cannot leave old results beside new ones.
"""

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.models.fit import hearing, is_out_of_memory
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.memory import fit_batch_size, held_bytes
from arithcirc.pipeline.peak import measuring, resident_bytes
from arithcirc.pipeline.stage import Stage
from arithcirc.pipeline.stages import STAGES

Notice = Callable[[str, str], None]
"""`notice(stage, text)`: a stage was skipped, reused, or has something to say."""


def quiet(stage: str, text: str) -> None:
    """Say nothing."""


def stages_for(*goals: str, without: Collection[str] = ()) -> list[Stage]:
    """Stages and all they need, in order; all stages without a goal. Raises RequestError for an unknown name.

    No stage needs those in `without`, whose results are given: with given neurons nothing has to rank them
    ("neurons"), with a given first layer no probe has to find it ("probe"). A goal is run all the same.
    """
    by_name = {s.name: s for s in STAGES}
    if unknown := [g for g in (*goals, *without) if g not in by_name]:
        raise RequestError(f"unknown stage {unknown[0]!r}: use one of {', '.join(by_name)}")
    wanted: set[str] = set()

    def add(name: str) -> None:
        if name not in wanted:
            wanted.add(name)
            for need in by_name[name].needs:
                if need not in without:
                    add(need)

    for goal in goals or by_name:
        add(goal)
    return [s for s in STAGES if s.name in wanted]


def _dependents(stage: Stage, others: Sequence[Stage]) -> list[str]:
    """Stages, of the analysis or of these others, that read from this one, directly or not."""
    found: list[str] = []
    for other in (*STAGES, *others):
        if stage.name in other.needs or any(name in other.needs for name in found):
            found.append(other.name)
    return found


def run_stages(job: Job, stages: Sequence[Stage], *, notice: Notice = quiet) -> None:
    """Run what is not finished, in batches that fit in memory; the manifest has each stage's batch size and peak.

    Raises EnvironmentFailure before any work where even single rows do not fit, or when they do not after all.
    """
    if (lowered := fit_batch_size(job, stages)) is not None:
        notice("memory", lowered)
    for stage in stages:
        if job.run.finished(stage.name):
            notice(stage.name, "finished before, reused")
            continue
        if stage.name in job.run.manifest["stages"]:
            notice(stage.name, "its files are missing or changed, or its code is newer: computed again")
        job.run.forget([stage.name, *_dependents(stage, stages)])
        asked, start = job.batch_size, time.perf_counter()
        predicted = resident_bytes(job.model.device) + held_bytes(job, stage)
        with measuring(job.model.device) as peak, hearing(partial(_lower, job)):
            outputs = _run(job, stage)
        if job.batch_size < asked:
            notice(stage.name, f"batches of {asked} ran out of memory: went on with {job.batch_size}")
        read = [name for name in stage.reads if (job.run.path / name).exists()]  # a stage may do without, given neurons
        job.run.finish(
            stage.name,
            outputs,
            inputs=read,
            seconds=time.perf_counter() - start,
            facts={"batch_size": job.batch_size, "memory": {"predicted": predicted, "measured": peak.bytes}},
        )


def _lower(job: Job, rows: int) -> None:
    """Go on with batches of at most so many rows, in this stage and in later ones."""
    job.batch_size = min(job.batch_size, rows)


def _run(job: Job, stage: Stage) -> list[str]:
    try:
        return stage.run(job)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise EnvironmentFailure(
            f"out of memory in stage {stage.name} with --batch-size {job.batch_size}: run again with "
            f"--batch-size {max(1, job.batch_size // 4)}; finished stages are kept"
        ) from error
    except MemoryError as error:
        raise EnvironmentFailure(
            f"out of memory in stage {stage.name}: run again with a smaller --batch-size"
        ) from error
