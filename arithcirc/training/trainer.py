"""Train a model on a course (course.py) with the Hugging Face Trainer, and resume when killed.

An item of the data set is a whole step's batch, read in order, so the Trainer's own resume puts the run back
where it was: in float32 on one machine the resumed weights equal the uninterrupted run's bit by bit. Every
`resume_every` steps the Trainer writes weights, optimiser and scheduler into `<out>/.work`; those are torch files of
this run's own making, read back with torch's weights-only loader, and the folder goes when the run is done. A resume
point counts once its clock.json is there, which is written last.

At each checkpoint step the weights are rounded, written, read back and measured (model.py). Folders of steps that
`Recipe.keep` leaves out are measured too, then dropped. One process and one device: where several GPUs are visible the
first is used, and a start as one of several processes is refused, since each would write the same folder.
"""

import json
import math
import os
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

from arithcirc.errors import EnvironmentFailure, NumericsError, RequestError, RunConflictError
from arithcirc.store import write_json
from arithcirc.training.arithmetic_course import ArithmeticCourse
from arithcirc.training.course import Batch, Course, Grade, Progress, Report, Trained
from arithcirc.training.evaluate import Accuracy
from arithcirc.training.fields import Schedule
from arithcirc.training.machine import Machine
from arithcirc.training.model import load_step, save_step, without_progress_bars
from arithcirc.training.optim import build_optimizer
from arithcirc.training.plan import cpu_threads, resolve_device
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
) -> Trained[Accuracy]:
    """Train an arithmetic model by a recipe; see `run_course`."""
    return run_course(ArithmeticCourse(recipe), out, device=device, threads=threads, report=report)


def run_course(
    course: Course[Grade],
    out: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    report: Report[Grade] | None = None,
) -> Trained[Grade]:
    """Train, measure and write a model folder; resume it when it is half done, return it when it is done.

    Raises RunConflictError when `out` holds another recipe or other files, EnvironmentFailure when it cannot be
    written, NumericsError when the loss is not finite, RequestError as one of several processes.
    """
    _check_alone()
    where = resolve_device(device)
    with _disk_failures(out), cpu_threads(threads):
        done = _open(course, out)
        if done is not None:
            return done
        clock = _Clock(_resume_point(out))
        recorder = _Recorder(course, out, clock, where, report or _silent)
        if clock.step < course.recipe.steps:
            _fit(course, out, where, recorder)
        seconds = clock.seconds()
        rows = course.read_grades(out)
        machine = Machine.this(where, torch.get_num_threads())
        course.write_card(out, rows, seconds, machine)
        shutil.rmtree(out / WORK)
    return Trained(out, out / f"step{course.recipe.steps}", rows, seconds)


def _check_alone() -> None:
    """Refuse to be one of several processes. Raises RequestError."""
    if (started := os.environ.get("WORLD_SIZE", "1")) not in ("", "1"):
        raise RequestError(
            f"this is one of {started} processes (WORLD_SIZE) and training runs in one: start it without torchrun or "
            "accelerate launch"
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


def _open(course: Course[Grade], out: Path) -> Trained[Grade] | None:
    """Claim the folder for this course's recipe; the finished run if that is what it holds already."""
    path = out / "recipe.json"
    if path.is_file():
        if (text := course.difference(path)) is not None:
            raise RunConflictError(f"{out} was trained by another recipe ({text}): choose another --out or that recipe")
    elif out.is_dir() and any(out.iterdir()):
        raise RunConflictError(f"{out} holds other files and no recipe.json: choose an empty or new folder")
    if (card := out / "card.json").is_file() and not (out / WORK).exists():
        seconds = float(json.loads(card.read_text(encoding="utf-8"))["wall_seconds"])
        return Trained(out, out / f"step{course.recipe.steps}", course.read_grades(out), seconds)
    (out / WORK).mkdir(parents=True, exist_ok=True)
    write_json(path, course.recipe.to_json())
    return None


def _resume_point(out: Path) -> Path | None:
    """The newest whole resume folder; half-written ones are removed, or the Trainer would trip over them."""
    whole: dict[int, Path] = {}
    for folder in (out / WORK).glob("checkpoint-*"):
        if (folder / "clock.json").is_file():
            whole[int(folder.name.rpartition("-")[2])] = folder
        else:
            shutil.rmtree(folder)
    return whole[max(whole)] if whole else None


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
    """Saves and measures the checkpoint steps, keeps the clock, and reports."""

    def __init__(
        self, course: Course[Grade], out: Path, clock: _Clock, device: str, report: Callable[[Progress[Any]], None]
    ) -> None:
        self.course, self.out, self.clock = course, out, clock
        self.device, self.report = device, report
        self.wanted, self.kept = set(course.recipe.checkpoint_steps()), set(course.recipe.kept_steps())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the untrained model."""
        if state.global_step == 0:
            self._measure(0, kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure a checkpoint step."""
        if state.global_step in self.wanted:
            self._measure(state.global_step, kwargs["model"])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the Trainer's resume folder as whole."""
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
        self.report(Progress(state.global_step, self.course.recipe.steps, self.clock.seconds(), loss=loss))

    def _measure(self, step: int, model: PreTrainedModel) -> None:
        """Round, write, read back, measure; the folder goes where it belongs."""
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
        remove_unused_columns=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # with more, the Trainer reads a batch for each and keeps the first
    return arguments


def _first(items: list[Batch]) -> Batch:
    """A data set item is a batch already."""
    return items[0]


def _loss_of(course: Course[Any]) -> Callable[..., Tensor]:
    """The Trainer's call of the course's loss; a step is one batch, so the count of items is not needed."""

    def loss(outputs: ModelOutput, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:  # noqa: ARG001
        logits: Tensor | None = outputs.get("logits")
        if logits is None:
            raise NumericsError("the model returned no logits")
        return course.loss(logits, labels)

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
    """Run the Trainer from the resume point, or from the start."""
    model, recipe = course.model(), course.recipe
    trainer = _Resuming(
        model=model,
        args=_arguments(recipe, out / WORK, device),
        train_dataset=course.batches(),
        data_collator=_first,
        callbacks=[recorder],
        optimizers=(build_optimizer(model, recipe), None),
        compute_loss_func=_loss_of(course),
    )
    trainer.remove_callback(PrinterCallback)
    point = recorder.clock.point
    with without_progress_bars():
        trainer.train(resume_from_checkpoint=str(point) if point else None)
