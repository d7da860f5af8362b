"""A GPT-NeoX of the recipe's shape, and any decoder's life as a Hugging Face folder.

The shape's architecture is Pythia's: rotary positions on a share of each head, attention and MLP in parallel,
embeddings not tied. A step folder holds config.json, model.safetensors and the tokenizer's files; it is written as
`step<N>.part` and renamed, so a folder that exists is whole. Weights are rounded to the recipe's disk type; accuracies
are those of the rounded weights, computed in float32.
"""

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel
from transformers.utils import logging

from arithcirc.arithmetic.operators import Prompts
from arithcirc.errors import ModelError, NumericsError
from arithcirc.training.fields import Shape
from arithcirc.training.recipe import Recipe
from arithcirc.training.tokenizer import BOS_ID, PAD_ID, answer_ids, token_ids, vocabulary


def shaped_config(shape: Shape, *, vocabulary: int, bos: int, pad: int) -> GPTNeoXConfig:
    """The configuration of an untrained model with so many tokens; `bos` also ends a text."""
    return GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.mlp_width,
        max_position_embeddings=shape.positions,
        initializer_range=shape.init_std,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": shape.rotary_share,
        },
        use_parallel_residual=True,
        tie_word_embeddings=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=bos,
        eos_token_id=bos,
        pad_token_id=pad,
    )


def build_config(recipe: Recipe) -> GPTNeoXConfig:
    """The configuration of an untrained arithmetic model."""
    return shaped_config(recipe, vocabulary=len(vocabulary(recipe.limit)), bos=BOS_ID, pad=PAD_ID)


def untrained(config: GPTNeoXConfig, seed: int) -> GPTNeoXForCausalLM:
    """An untrained model, its weights drawn with the seed; torch's global generator is left as found."""
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPTNeoXForCausalLM(config)


def build_model(recipe: Recipe) -> GPTNeoXForCausalLM:
    """An untrained arithmetic model."""
    return untrained(build_config(recipe), recipe.seed)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Silence the loading and writing bars of transformers for a while."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def save_step(model: PreTrainedModel, folder: Path, *, dtype: str, save_tokenizer: Callable[[Path], None]) -> None:
    """Write a copy of the model, rounded to the disk type, and the tokenizer, as a Hugging Face folder."""
    config = copy.deepcopy(model.config)
    config.use_cache = True  # the Trainer turns it off while it trains
    with torch.random.fork_rng(devices=[]):
        rounded = type(model)(config)
    rounded.load_state_dict({name: value.detach().cpu() for name, value in model.state_dict().items()})
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with without_progress_bars():
        rounded.to(getattr(torch, dtype)).save_pretrained(part)
    save_tokenizer(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def load_step(folder: Path, device: str = "cpu") -> Any:
    """The model of a step folder in float32, in evaluation mode, on a device (`cpu`, `cuda`).

    Raises ModelError for weights that are no whole safetensors file.
    """
    try:
        with without_progress_bars(), torch.random.fork_rng(devices=[]):
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, attn_implementation="sdpa"
            )
    except SafetensorError as error:
        raise ModelError(
            f"{folder} holds damaged weights ({error}): copy its model.safetensors again, or train the model again"
        ) from None
    model.train(False)
    return model.to(torch.device(device))


def correct(model: GPTNeoXForCausalLM, prompts: Prompts, *, batch_size: int = 1024) -> np.ndarray:
    """True where the most likely token after `BOS op1 operator op2 =` is the answer, shape (prompt,).

    Raises NumericsError when the model's logits are not finite.
    """
    device = model.device
    ids, answers = torch.from_numpy(token_ids(prompts)), answer_ids(prompts)
    found = []
    with torch.no_grad():
        for part in torch.split(ids, batch_size):
            logits = model(input_ids=part.to(device), logits_to_keep=1, use_cache=False).logits[:, -1]
            if not torch.isfinite(logits).all():
                raise NumericsError("the model's logits are not finite: lower the learning rates and train again")
            found.append(logits.argmax(-1).cpu().numpy())
    return np.concatenate(found) == answers if found else np.zeros(0, dtype=bool)
