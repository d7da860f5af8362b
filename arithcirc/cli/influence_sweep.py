"""`arithcirc influence sweep`: studies of several checkpoints, or one in portions, on workers of this or more machines.

Heavy imports stay inside the functions.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from arithcirc.cli import show
from arithcirc.cli.influence_options import ScoreOptions, StudyOptions
from arithcirc.cli.options import PlainOptions
from arithcirc.cli.sweep_options import WhereOptions

if TYPE_CHECKING:
    from arithcirc.sweep.influence_task import StudyTask

_PLAIN, _SCORE, _WHERE = PlainOptions(), ScoreOptions(), WhereOptions()


def sweep(
    model: str,
    *,
    study: StudyOptions,
    revisions: Annotated[
        str | None, Parameter(help="step512; step0..step4000; all; or several, joined by commas (default: the last).")
    ] = None,
    options: ScoreOptions = _SCORE,
    loading: PlainOptions = _PLAIN,
    where: WhereOptions = _WHERE,
) -> None:
    """Fit and score at several checkpoints, the documents of each dealt out to workers: local, Ray or SLURM.

    Each checkpoint gets a study of its own, the same as `fit` and `score` make. Interrupt at any moment; the same
    command goes on.

    Parameters
    ----------
    model
        Hugging Face id or local folder.
    """
    from arithcirc.errors import RequestError
    from arithcirc.sweep.influence_driver import DO, run_studies
    from arithcirc.sweep.where import make_executor

    if study.plan_only or options.partitions or options.replace:
        raise RequestError("--plan-only, --partitions and --replace are of 'score': leave them out of a sweep")
    tasks = studies(model, revisions, study, options, loading)
    show.err.print(f"{len(tasks)} checkpoints: {', '.join(task.revision for task in tasks)}", markup=False)

    def listen(what: str, task: "StudyTask", words: str) -> None:
        if what != "progress":
            show.err.print(f"{what:<8} {task}{': ' * bool(words)}{words}", markup=False)

    with tempfile.TemporaryDirectory() as logs:
        executor = make_executor(where.where(), study.out.resolve(), tasks, tasks[0].loading, logs=Path(logs), do=DO)
        run_studies(tasks, executor, partition=options.partition, retries=where.retries, listen=listen)
    for task in tasks:
        show.out.print(f"study: {Path(task.out, task.name.replace('/', '--'), task.revision, 'influence')}")


def studies(
    model: str, revisions: str | None, study: StudyOptions, options: ScoreOptions, loading: PlainOptions
) -> "list[StudyTask]":
    """One task for each checkpoint, with paths that mean the same in every process."""
    from arithcirc.influence.study.source import find_source
    from arithcirc.models.zoo import check_request
    from arithcirc.sweep.influence_task import PREPARE, StudyTask
    from arithcirc.sweep.revisions import checkpoints
    from arithcirc.sweep.task import Loading

    check_request(model, revision=loading.revision, device=loading.device, dtype=loading.dtype)
    find_source(study.corpus, options.queries)
    asked = study.asked(
        max_new_tokens=options.max_new_tokens, stop=options.stop, damping=options.damping, low_rank=options.low_rank,
    )  # fmt: skip
    found = checkpoints(model, revisions or loading.revision)
    chosen = found.revisions if revisions or loading.revision else found.revisions[-1:]
    cache = None if loading.cache_dir is None else str(loading.cache_dir.expanduser().absolute())
    how = Loading(loading.device, None, loading.dtype, cache, loading.offline, loading.threads)
    return [
        StudyTask(
            found.model, found.name, one.revision, PREPARE, str(study.corpus.resolve()), str(study.out.resolve()),
            None if options.queries is None else str(options.queries.resolve()), asdict(asked),
            asdict(options.how(study)), loading=how,
        )
        for one in chosen
    ]  # fmt: skip
