"""What a study will take, told before it starts, from steps and questions that are timed here.

For each kind of positions a few real steps (packed questions, forward, backward, update) spread over the run, so that
the short chains of the curriculum count as much as they last, on a throw-away model; and a few questions of every
evaluation set asked of that model. Exams, checkpoints and starting processes come on top (about a tenth), trainings
that are half done and those that are repeated are not known. Trainings that share a machine's memory are slower.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from arithcirc.axioms.asking import AxiomModel
from arithcirc.axioms.course import AxiomCourse
from arithcirc.axioms.recipe import AxiomRecipe
from arithcirc.axioms.study.answers import ask_sets
from arithcirc.axioms.study.jobs import THREADS
from arithcirc.axioms.study.questions import Sets, sample_sets
from arithcirc.axioms.study.study import Study
from arithcirc.axioms.study.workers import check_workers
from arithcirc.axioms.tokenizer import vocabulary
from arithcirc.training.optim import build_optimizer
from arithcirc.training.plan import cpu_threads, resolve_device

SAMPLED = 4
"""Steps that are timed, and questions of each set."""


@dataclass(frozen=True)
class Rate:
    """Seconds of one training step, and of asking the sampled questions; numbers that are trained."""

    step: float
    asking: float
    parameters: int


@dataclass(frozen=True)
class PlannedModel:
    """One model: steps to train (0 when it is trained), and seconds in all."""

    name: str
    steps: int
    seconds: float
    done: bool


@dataclass(frozen=True)
class StudyPlan:
    """All models, questions for each, workers, and the measured rates by kind of positions."""

    models: tuple[PlannedModel, ...]
    questions: int
    workers: int
    rates: dict[str, Rate]

    @property
    def left(self) -> tuple[PlannedModel, ...]:
        """Models that are not done."""
        return tuple(model for model in self.models if not model.done)

    @property
    def seconds(self) -> float:
        """Of what is left, each model taken by the worker that is free first."""
        ends = [0.0] * self.workers
        for model in self.left:
            first = ends.index(min(ends))
            ends[first] += model.seconds
        return max(ends)


def make_plan(study: Study, *, workers: int = 1) -> StudyPlan:
    """Time a few steps and questions of what is left. Nothing is written. Raises RequestError below one worker."""
    check_workers(workers)
    left = {(job.recipe.mix, job.recipe.position_kind, job.asked_seed): job for job in study.left()}
    kinds = dict.fromkeys(job.recipe.position_kind for job in left.values())
    evaluation, base = study.request.evaluation, study.request.recipe
    sets = sample_sets(evaluation, SAMPLED) if left else ()
    rates = {kind: measure_rate(replace(base, position_kind=kind), sets, device=study.request.device) for kind in kinds}
    times = evaluation.questions / SAMPLED
    models = []
    for first in study.jobs():
        job = left.get((first.recipe.mix, first.recipe.position_kind, first.asked_seed))
        if job is None:
            models.append(PlannedModel(first.name, 0, 0.0, done=True))
            continue
        rate, steps = rates[job.recipe.position_kind], 0 if (job.folder / "card.json").is_file() else job.recipe.steps
        models.append(PlannedModel(job.name, steps, steps * rate.step + times * rate.asking, done=False))
    return StudyPlan(tuple(models), len(evaluation.cells) * evaluation.questions, workers, rates)


def measure_rate(recipe: AxiomRecipe, sets: Sets = (), *, device: str = "auto") -> Rate:
    """Time training, and asking these sets, on a throw-away model, on the threads of a job."""
    where = resolve_device(device)
    with cpu_threads(THREADS):
        course = AxiomCourse(recipe)
        model = course.model().to(torch.device(where))
        step = _step_seconds(course, model, where)
        model.train(False)
        start = time.perf_counter()
        if sets:
            ask_sets(AxiomModel(model, vocabulary(vocab=recipe.vocab)), sets)
        asking = time.perf_counter() - start
    return Rate(step, asking, sum(p.numel() for p in model.parameters() if p.requires_grad))


def _step_seconds(course: AxiomCourse, model: torch.nn.Module, where: str) -> float:
    """Mean seconds of steps spread over the run, the faster of two each, after one that is not counted."""
    recipe, batches = course.recipe, course.batches()
    optimizer = build_optimizer(model, recipe)
    model.train()
    spread: Sequence[int] = [recipe.steps * (2 * i + 1) // (2 * SAMPLED) for i in range(SAMPLED)]
    seconds = []
    with torch.random.fork_rng(devices=[]):
        for number in (spread[-1], *(n for n in spread for _ in range(2))):
            start = time.perf_counter()
            batch = {name: value.to(where) for name, value in batches[number].items()}
            labels = batch.pop("labels")
            with torch.autocast(where, torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits = model(**batch, use_cache=False).logits
            loss = course.loss(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            seconds.append(time.perf_counter() - start)
    return sum(map(min, seconds[1::2], seconds[2::2])) / SAMPLED
