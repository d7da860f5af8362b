"""Train again in memory, with some documents weighted or left out: the truth that influence functions estimate.

The same model, batches, loss, optimiser and schedule as a run on disk (trainer.py), step for step; nothing is written
or examined. A document of weight 0 is left out of its batches and the others keep their places, so that two such
trainings differ by these documents alone, and half the documents cost half the time.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from transformers import GPTNeoXForCausalLM, get_scheduler

from arithcirc.errors import NumericsError, RequestError
from arithcirc.training.model import shaped_config, untrained
from arithcirc.training.optim import build_optimizer
from arithcirc.training.text_data import Texts, documents_of, packed_batch, text_loss, tokens_per_step
from arithcirc.training.text_recipe import TextRecipe

Weights = Num[np.ndarray, "document"] | Bool[np.ndarray, "document"]


def text_model(texts: Texts, recipe: TextRecipe) -> GPTNeoXForCausalLM:
    """The untrained model of a recipe for these texts."""
    config = shaped_config(recipe, vocabulary=texts.vocabulary, bos=texts.bos, pad=texts.pad)
    return untrained(config, recipe.seed)


def retrain(
    texts: Texts,
    recipe: TextRecipe,
    *,
    weights: Weights | None = None,
    seed: int | None = None,
    steps: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> GPTNeoXForCausalLM:
    """A model trained on the texts, in evaluation mode on `device`.

    `weights` multiplies each document's loss (a mask keeps and leaves out); `seed` and `steps` replace the recipe's.
    `progress` is told the step and their number. Raises RequestError for weights that do not fit, NumericsError when
    the loss is not finite.
    """
    chosen = recipe if steps is None else recipe.shortened(steps)
    chosen = chosen if seed is None else replace(chosen, seed=seed)
    share = _weights(texts, weights)
    model = text_model(texts, chosen)
    model.to(torch.device(device))  # type: ignore[arg-type]
    model.train()
    optimizer = build_optimizer(model, chosen)
    scheduler = get_scheduler(
        chosen.schedule, optimizer, num_warmup_steps=chosen.warmup_steps, num_training_steps=chosen.steps
    )
    per = tokens_per_step(texts, chosen)
    for step in range(chosen.steps):
        numbers = documents_of(step, len(texts), chosen)
        numbers = numbers[share[numbers] != 0]
        if len(numbers):
            _update(model, texts, numbers, share, per, chosen)
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()
        if progress is not None:
            progress(step + 1, chosen.steps)
    model.train(False)
    return model


def _update(
    model: GPTNeoXForCausalLM,
    texts: Texts,
    numbers: np.ndarray,
    share: Float[np.ndarray, "document"],
    per: float,
    recipe: TextRecipe,
) -> None:
    """Leave the clipped gradient of one step in the parameters."""
    device = model.device
    batch, weight = packed_batch([texts.document(int(i)) for i in numbers], share[numbers].tolist(), pad=texts.pad)
    batch = {name: value.to(device) for name, value in batch.items()}
    labels = batch.pop("labels")
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = model(**batch, use_cache=False).logits
    loss = text_loss(logits, labels, per, weight.to(device))
    loss.backward()  # type: ignore[no-untyped-call]
    if not torch.isfinite(torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)):
        raise NumericsError("the gradient is not finite: lower learning_rate or muon_learning_rate")


def _weights(texts: Texts, weights: Weights | None) -> Float[np.ndarray, "document"]:
    if weights is None:
        return np.ones(len(texts))
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (len(texts),) or not np.isfinite(found).all() or (found < 0).any():
        raise RequestError(
            f"weights of shape {found.shape} do not fit: give one finite weight of at least 0 "
            f"for each of {len(texts)} documents"
        )
    return found
