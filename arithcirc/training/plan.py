"""What a training run will cost, measured before it starts.

A few real steps (packed batch, forward, backward, update) are timed on a throw-away model with the same device, threads
and precision; the median after one warm-up step, times the number of steps, is the estimate. Measuring accuracy and
writing checkpoints come on top: they are not in it (about a tenth in practice). Other work on the machine moves it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from arithcirc.errors import RequestError
from arithcirc.training.data import PackedBatches
from arithcirc.training.model import build_model
from arithcirc.training.optim import build_optimizer
from arithcirc.training.recipe import Recipe

DISK_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Plan:
    """The size of a run and, when measured, its time."""

    parameters: int
    steps: int
    prompts: int
    tokens: int
    checkpoints: int
    disk_bytes: int
    seconds_per_step: float

    @property
    def seconds(self) -> float:
        """Estimated seconds of all steps, without measuring and saving."""
        return self.steps * self.seconds_per_step

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.steps:,} steps, {self.prompts:,} prompts in {self.tokens:,} tokens, "
            f"{self.parameters:,} parameters, {self.checkpoints} checkpoints of {self.disk_bytes / 1e6:.0f} MB "
            f"together, about {self.seconds / 60:.1f} minutes ({self.seconds_per_step:.3f} s a step, measured)"
        )


def resolve_device(device: str) -> str:
    """`auto` -> `cuda` when there is one, else `cpu`. Raises RequestError for a device that is not there."""
    if device not in ("auto", "cpu", "cuda"):
        raise RequestError(f"unknown device {device!r}: use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise RequestError("device cuda asked for, but torch sees no GPU: use --device cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """Use this many threads for a while; None leaves the number as it is. Raises RequestError below 1."""
    before = torch.get_num_threads()
    if threads is not None:
        if threads < 1:
            raise RequestError(f"threads is {threads}: use 1 or more")
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (nats) of the answers at the `=` tokens; logits (row, suffix, vocabulary)."""
    return functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())


def measure_plan(recipe: Recipe, *, device: str = "auto", threads: int | None = None, steps: int = 5) -> Plan:
    """Time a few steps on a throw-away model and lay out the run. Nothing is written."""
    where = resolve_device(device)
    batches = PackedBatches(recipe)
    model = build_model(recipe).to(torch.device(where))  # type: ignore[arg-type]
    model.train()
    optimizer = build_optimizer(model, recipe)
    seconds = []
    with cpu_threads(threads):
        for i in range(min(steps, recipe.steps) + 1):
            start = time.perf_counter()
            batch = {name: value.to(where) for name, value in batches[i].items()}
            labels = batch.pop("labels")
            with torch.autocast(where, torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits = model(**batch, use_cache=False).logits
            loss = answer_loss(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            seconds.append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in model.parameters())
    return Plan(
        parameters=parameters,
        steps=recipe.steps,
        prompts=recipe.steps * recipe.prompts_per_step,
        tokens=recipe.steps * recipe.tokens_per_step,
        checkpoints=len(recipe.kept_steps()),
        disk_bytes=parameters * DISK_BYTES[recipe.disk_dtype] * len(recipe.kept_steps()),
        seconds_per_step=median(seconds[1:]),
    )
