"""Train a model on a course (course.py) with the Hugging Face Trainer, and resume when killed.

An item of the data set is a whole step's batch, read in order, so the Trainer's own resume puts the run back
where it was: in float32 on one machine the resumed weights equal the uninterrupted run's bit by bit. Every
`resume_every` steps the Trainer writes weights, optimiser and scheduler into `<out>/.work`; those are torch files of
this run's own making, read back with torch's weights-only loader, and the folder goes when the run is done. A resume
point counts once its clock.json is there, which is written last.

At each checkpoint step the weights are rounded, written, read back and measured (model.py). Folders of steps that
`Recipe.keep` leaves out are measured too, then dropped.

One process uses one device: where several GPUs are visible, the first. Several processes, as torchrun and accelerate
launch start them, share out the rows of each step of a course that says how many it has (ranks.py); the first of them
alone writes folders, examines and reports. Any other course is refused there.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback
from transformers.utils.generic import ModelOutput

from arithcirc.errors import EnvironmentFailure, NumericsError, RequestError, RunConflictError, TrainingStopped
from arithcirc.store import write_json
from arithcirc.training.arithmetic_course import ArithmeticCourse
from arithcirc.training.course import Batch, Course, Grade, Progress, Report, Rowed, Trained
from arithcirc.training.evaluate import Accuracy
from arithcirc.training.fields import Schedule
from arithcirc.training.machine import Machine
from arithcirc.training.model import load_step, save_step, without_progress_bars
from arithcirc.training.optim import build_optimizer
from arithcirc.training.plan import cpu_threads, resolve_device
from arithcirc.training.processes import check_alone
from arithcirc.training.ranks import Ranks, SharedBatches, joined, weighted
from arithcirc.training.recipe import Recipe

WORK = ".work"
LOG_EVERY = 25


def train(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    report: Report[Accuracy] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Trained[Accuracy]:
    """Train an arithmetic model by a recipe; see `run_course`."""
    return run_course(ArithmeticCourse(recipe), out, device=device, threads=threads, report=report, stop=stop)


def run_course(
    course: Course[Grade],
    out: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    report: Report[Grade] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Trained[Grade]:
    """Train, measure and write a model folder; resume it when it is half done, return it when it is done.

    `stop` is asked after every step, in the first process; at True the run leaves a resume point and raises
    TrainingStopped. Raises RunConflictError when `out` holds another recipe or other files, EnvironmentFailure when it
    cannot be written, NumericsError when the loss is not finite, RequestError as one of several processes that cannot
    share a step.
    """
    ranks = Ranks.started()
    _check_shared(course, ranks)
    where = resolve_device(device)
    with joined(ranks, where), _disk_failures(out), cpu_threads(threads):
        done = _claim(course, out, ranks)
        if done is not None:
            return done
        clock = _Clock(_resume_point(out))
        recorder = _Recorder(course, out, clock, where, report or _silent, ranks, stop)
        if clock.step < course.recipe.steps:
            _fit(course, out, where, recorder)
        seconds = clock.seconds()
        if ranks.first:
            machine = Machine.this(where, torch.get_num_threads(), ranks.number)
            course.write_card(out, course.read_grades(out), seconds, machine)
            shutil.rmtree(out / WORK)
        ranks.wait()
        rows = course.read_grades(out)
    return Trained(out, out / f"step{course.recipe.steps}", rows, seconds)


def _check_shared(course: Course[Any], ranks: Ranks) -> None:
    """Refuse to be one of several processes that cannot share this course's steps. Raises RequestError."""
    if ranks.number == 1:
        return
    if not isinstance(course, Rowed):
        check_alone("this training")
    elif course.rows < ranks.number:
        raise RequestError(
            f"{ranks.number} processes cannot share a step of {course.rows} row(s): start {course.rows} at most"
        )


def _silent(_: Progress[Any]) -> None:
    """The default report."""


@contextmanager
def _disk_failures(out: Path) -> Iterator[None]:
    """Turn the operating system's errors about files into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise EnvironmentFailure(
            f"cannot write to {out}: {reason}; free space or choose another --out, the run resumes where it stopped"
        ) from error


def _claim(course: Course[Grade], out: Path, ranks: Ranks) -> Trained[Grade] | None:
    """As `_open`, by the first process; the others wait for it, and find what it found."""
    if not ranks.first:
        if not ranks.hear(False):
            raise RequestError(f"the first of {ranks.number} processes could not start: its message says why")
        return _finished(course, out)
    ready = False
    try:
        done = _open(course, out)
        _resume_point(out)
        ready = True
    finally:
        ranks.hear(ready)
    return done


def _open(course: Course[Grade], out: Path) -> Trained[Grade] | None:
    """Claim the folder for this course's recipe; the finished run if that is what it holds already."""
    path = out / "recipe.json"
    if path.is_file():
        if (text := course.difference(path)) is not None:
            raise RunConflictError(f"{out} was trained by another recipe ({text}): choose another --out or that recipe")
    elif out.is_dir() and any(out.iterdir()):
        raise RunConflictError(f"{out} holds other files and no recipe.json: choose an empty or new folder")
    if (done := _finished(course, out)) is not None:
        return done
    (out / WORK).mkdir(parents=True, exist_ok=True)
    write_json(path, course.recipe.to_json())
    return None


def _finished(course: Course[Grade], out: Path) -> Trained[Grade] | None:
    """The run in a folder, where it is done."""
    card = out / "card.json"
    if not card.is_file() or (out / WORK).exists():
        return None
    seconds = float(json.loads(card.read_text(encoding="utf-8"))["wall_seconds"])
    return Trained(out, out / f"step{course.recipe.steps}", course.read_grades(out), seconds)


def _resume_point(out: Path) -> Path | None:
    """The newest whole resume folder; half-written ones are removed, or the Trainer would trip over them."""
    whole: dict[int, Path] = {}
    for folder in (out / WORK).glob("checkpoint-*"):
        if (folder / "clock.json").is_file():
            whole[int(folder.name.rpartition("-")[2])] = folder
        else:
            shutil.rmtree(folder)
    return whole[max(whole)] if whole else None


def resumes_at(out: Path) -> int:
    """The step at which a run in a folder that was interrupted goes on: its last resume point, 0 without one."""
    points = (out / WORK).glob("checkpoint-*/clock.json")
    return max((int(clock.parent.name.rpartition("-")[2]) for clock in points), default=0)


class _Clock:
    """Seconds of work over all the pieces of an interrupted run."""

    def __init__(self, point: Path | None) -> None:
        self.point = point
        saved = json.loads((point / "clock.json").read_text(encoding="utf-8")) if point else {"step": 0, "seconds": 0}
        self.step, self._before, self._start = int(saved["step"]), float(saved["seconds"]), time.monotonic()

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start


# the Trainer calls these with all arguments by position or name, used or not
# ruff: noqa: ARG002
class _Recorder(TrainerCallback):
    """Saves and measures the checkpoint steps, keeps the clock, and reports: all of that in the first process."""

    def __init__(
        self,
        course: Course[Grade],
        out: Path,
        clock: _Clock,
        device: str,
        report: Callable[[Progress[Any]], None],
        ranks: Ranks,
        stop: Callable[[], bool] | None,
    ) -> None:
        self.course, self.out, self.clock = course, out, clock
        self.device, self.report, self.ranks = device, report, ranks
        self._stop, self.stopped = stop, False
        self.wanted, self.kept = set(course.recipe.checkpoint_steps()), set(course.recipe.kept_steps())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the untrained model; each process drops out places of its own."""
        if self.ranks.number > 1:
            torch.manual_seed(args.seed + self.ranks.rank)
        if state.global_step == 0:
            self._measure(0, kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure a checkpoint step, and stop where that is asked."""
        if state.global_step in self.wanted:
            self._measure(state.global_step, kwargs["model"])
        if self._stop is None or state.global_step == state.max_steps:
            return
        if self.ranks.hear(self.ranks.first and self._stop()):
            self.stopped = control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the Trainer's resume folder as whole, which every process has written to."""
        self.ranks.wait()
        if not self.ranks.first:
            return
        folder = self.out / WORK / f"checkpoint-{state.global_step}"
        write_json(folder / "clock.json", {"step": state.global_step, "seconds": self.clock.seconds()})

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the loss, and stop at one that is not finite."""
        if logs is None or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise NumericsError(
                f"the loss is {loss} at step {state.global_step}: lower learning_rate or muon_learning_rate"
            )
        if self.ranks.first:
            self.report(Progress(state.global_step, self.course.recipe.steps, self.clock.seconds(), loss=loss))

    def _measure(self, step: int, model: PreTrainedModel) -> None:
        """Round, write, read back, measure; the folder goes where it belongs."""
        if not self.ranks.first:
            return
        home = self.out if step in self.kept else self.out / WORK
        folder = home / f"step{step}"
        save_step(model, folder, dtype=self.course.recipe.disk_dtype, save_tokenizer=self.course.save_tokenizer)
        rows = self.course.examine(folder, step, self.device)
        earlier = tuple(row for row in self.course.read_grades(self.out) if row.step < step)
        self.course.write_grades(self.out, (*earlier, *rows))
        if step not in self.kept:
            shutil.rmtree(folder)
        self.report(Progress(step, self.course.recipe.steps, self.clock.seconds(), accuracies=rows))


def _arguments(recipe: Schedule, work: Path, device: str) -> TrainingArguments:
    """The Trainer's settings: batches as the course makes them, no reports to services, quiet."""
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=recipe.steps,
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=recipe.gradient_clip,
        bf16=recipe.precision == "bf16",
        use_cpu=device == "cpu",
        seed=recipe.seed,
        save_strategy="steps",
        save_steps=recipe.resume_every,
        save_total_limit=2,
        logging_steps=min(LOG_EVERY, recipe.steps),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
        average_tokens_across_devices=True,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # with more, the Trainer reads a batch for each and keeps the first
    return arguments


def _first(items: list[Batch]) -> Batch:
    """A data set item is a batch already."""
    return items[0]


def _loss_of(course: Course[Any], ranks: Ranks) -> Callable[..., Tensor]:
    """The Trainer's call of the course's loss; `num_items_in_batch` counts the answers of all processes' shares."""

    def loss(outputs: ModelOutput, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        logits: Tensor | None = outputs.get("logits")
        if logits is None:
            raise NumericsError("the model returned no logits")
        found = course.loss(logits, labels)
        return found if ranks.number == 1 else weighted(found, labels, num_items_in_batch)

    return loss


class _Resuming(Trainer):
    """The Trainer, reading a resume folder's weights by their names on disk.

    transformers 5.23 writes GPT-NeoX's `lm_head` under its old name `embed_out`, which `from_pretrained` knows and the
    Trainer's own resume does not: it would go on with a fresh unembedding and only a warning.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Strict: every weight must be there."""
        target: Any = self.model if model is None else model
        target.load_state_dict(load_step(Path(resume_from_checkpoint)).state_dict())


def _fit(course: Course[Any], out: Path, device: str, recorder: _Recorder) -> None:
    """Run the Trainer from the resume point, or from the start. Raises TrainingStopped."""
    model, recipe, ranks = course.model(), course.recipe, recorder.ranks
    batches = course.batches()
    trainer = _Resuming(
        model=model,
        args=_arguments(recipe, out / WORK, device),
        train_dataset=batches if ranks.number == 1 else SharedBatches(batches, recipe.steps, ranks.number),
        data_collator=_first,
        callbacks=[recorder],
        optimizers=(build_optimizer(model, recipe), None),
        compute_loss_func=_loss_of(course, ranks),
    )
    trainer.remove_callback(PrinterCallback)
    point = recorder.clock.point
    with without_progress_bars():
        trainer.train(resume_from_checkpoint=str(point) if point else None)
    if recorder.stopped:
        step = int(trainer.state.global_step)
        raise TrainingStopped(f"stopped as asked at step {step:,} of {recipe.steps:,}: the same command goes on there")
