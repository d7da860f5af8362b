"""Train a model by a recipe with the Hugging Face Trainer, and resume when killed.

An item of the data set is a whole step's batch (data.py), read in order, so the Trainer's own resume puts the run back
where it was: in float32 on one machine the resumed weights equal the uninterrupted run's bit by bit. Every
`resume_every` steps the Trainer writes weights, optimiser and scheduler into `<out>/.work`; those are torch files of
this run's own making, read back with torch's weights-only loader, and the folder goes when the run is done. A resume
point counts once its clock.json is there, which is written last.

At each checkpoint step the weights are rounded, written, read back and measured (model.py). Folders of steps that
`Recipe.keep` leaves out are measured too, then dropped. One device; several GPUs are not used.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GPTNeoXForCausalLM,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.trainer_callback import PrinterCallback

from arithcirc.errors import EnvironmentFailure, NumericsError, RunConflictError
from arithcirc.store import write_json
from arithcirc.training.card import Machine, write_card
from arithcirc.training.data import Batch, PackedBatches
from arithcirc.training.evaluate import Accuracy, ExamSet, exam_set, read_accuracies, write_accuracies
from arithcirc.training.model import build_model, load_step, save_step, without_progress_bars
from arithcirc.training.optim import build_optimizer
from arithcirc.training.plan import answer_loss, cpu_threads, resolve_device
from arithcirc.training.recipe import Recipe, difference, load_recipe

WORK = ".work"
LOG_EVERY = 25


@dataclass(frozen=True)
class Progress:
    """One report of a run: the loss every few steps, or the accuracies of a checkpoint just measured."""

    step: int
    steps: int
    seconds: float
    loss: float | None = None
    accuracies: tuple[Accuracy, ...] = ()


@dataclass(frozen=True)
class Trained:
    """A finished run: the folder, the last step's folder, all accuracies, and the seconds it took."""

    folder: Path
    final: Path
    accuracies: tuple[Accuracy, ...]
    seconds: float


Report = Callable[[Progress], None]


def train(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    report: Report | None = None,
) -> Trained:
    """Train, measure and write a model folder; resume it when it is half done, return it when it is done.

    Raises RunConflictError when `out` holds another recipe or other files, EnvironmentFailure when it cannot be
    written, NumericsError when the loss is not finite.
    """
    where = resolve_device(device)
    with _disk_failures(out), cpu_threads(threads):
        done = _open(recipe, out)
        if done is not None:
            return done
        clock = _Clock(_resume_point(out))
        recorder = _Recorder(recipe, out, exam_set(recipe), clock, where, report or _silent)
        if clock.step < recipe.steps:
            _fit(recipe, out, where, recorder)
        seconds = clock.seconds()
        rows = read_accuracies(out)
        machine = Machine.this(where, torch.get_num_threads())
        write_card(recipe, out, rows, seconds, machine)
        shutil.rmtree(out / WORK)
    return Trained(out, out / f"step{recipe.steps}", rows, seconds)


def _silent(_: Progress) -> None:
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


def _open(recipe: Recipe, out: Path) -> Trained | None:
    """Claim the folder for this recipe; the finished run if that is what it holds already."""
    path = out / "recipe.json"
    if path.is_file():
        if (text := difference(recipe, load_recipe(path))) is not None:
            raise RunConflictError(f"{out} was trained by another recipe ({text}): choose another --out or that recipe")
    elif out.is_dir() and any(out.iterdir()):
        raise RunConflictError(f"{out} holds other files and no recipe.json: choose an empty or new folder")
    if (card := out / "card.json").is_file() and not (out / WORK).exists():
        seconds = float(json.loads(card.read_text(encoding="utf-8"))["wall_seconds"])
        return Trained(out, out / f"step{recipe.steps}", read_accuracies(out), seconds)
    (out / WORK).mkdir(parents=True, exist_ok=True)
    write_json(path, recipe.to_json())
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

    def __init__(self, recipe: Recipe, out: Path, exam: ExamSet, clock: _Clock, device: str, report: Report) -> None:
        self.recipe, self.out, self.exam, self.clock = recipe, out, exam, clock
        self.device, self.report = device, report
        self.wanted, self.kept = set(recipe.checkpoint_steps()), set(recipe.kept_steps())

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
        self.report(Progress(state.global_step, self.recipe.steps, self.clock.seconds(), loss=loss))

    def _measure(self, step: int, model: GPTNeoXForCausalLM) -> None:
        """Round, write, read back, measure; the folder goes where it belongs."""
        home = self.out if step in self.kept else self.out / WORK
        folder = home / f"step{step}"
        save_step(model, self.recipe, folder)
        rows = self.exam.measure(folder, step, self.device)
        earlier = tuple(row for row in read_accuracies(self.out) if row.step < step)
        write_accuracies(self.out, (*earlier, *rows))
        if step not in self.kept:
            shutil.rmtree(folder)
        self.report(Progress(step, self.recipe.steps, self.clock.seconds(), accuracies=rows))


def _arguments(recipe: Recipe, work: Path, device: str) -> TrainingArguments:
    """The Trainer's settings: batches as data.py makes them, no reports to services, quiet."""
    return TrainingArguments(
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


def _first(items: list[Batch]) -> Batch:
    """A data set item is a batch already."""
    return items[0]


def _loss(outputs: CausalLMOutputWithPast, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:  # noqa: ARG001
    """The Trainer's call of `answer_loss`; a step is one batch, so the count of items is not needed."""
    if outputs.logits is None:
        raise NumericsError("the model returned no logits")
    return answer_loss(outputs.logits, labels)


class _Resuming(Trainer):
    """The Trainer, reading a resume folder's weights by their names on disk.

    transformers 5.23 writes GPT-NeoX's `lm_head` under its old name `embed_out`, which `from_pretrained` knows and the
    Trainer's own resume does not: it would go on with a fresh unembedding and only a warning.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Strict: every weight must be there."""
        target: Any = self.model if model is None else model
        target.load_state_dict(load_step(Path(resume_from_checkpoint)).state_dict())


def _fit(recipe: Recipe, out: Path, device: str, recorder: _Recorder) -> None:
    """Run the Trainer from the resume point, or from the start."""
    model = build_model(recipe)
    trainer = _Resuming(
        model=model,
        args=_arguments(recipe, out / WORK, device),
        train_dataset=PackedBatches(recipe),
        data_collator=_first,
        callbacks=[recorder],
        optimizers=(build_optimizer(model, recipe), None),
        compute_loss_func=_loss,
    )
    trainer.remove_callback(PrinterCallback)
    point = recorder.clock.point
    with without_progress_bars():
        trainer.train(resume_from_checkpoint=str(point) if point else None)
