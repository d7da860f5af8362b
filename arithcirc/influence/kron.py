"""kronfluence at arm's length: imported when used, kept quiet, and everything global left as it was found.

Importing it takes a second and touches the root logger; its loaders draw from torch's global generator; it stays on the
device of the first analysis in a process. All of that is undone here, and its failures become one line.
"""

import contextlib
import gc
import logging
import os
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn

from arithcirc.errors import EnvironmentFailure, ModelError, NumericsError, RequestError

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def kronfluence() -> ModuleType:
    """The package. Raises RequestError, saying what to type, where it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import kronfluence
            import kronfluence.analyzer
    except ModuleNotFoundError as error:
        raise RequestError(
            f"influence needs {error.name}, which is not installed: pip install --no-deps kronfluence==1.0.1, "
            "then pip install 'arithcirc[influence]'"
        ) from None
    return kronfluence  # type: ignore[no-any-return]


def wrapped(model: nn.Module, task: Any) -> nn.Module:
    """The model with its tracked layers wrapped, in place. Raises ModelError where others were than asked for."""
    package = kronfluence()
    with quietly(model):
        made: nn.Module = package.analyzer.prepare_model(model, task)
    from kronfluence.module.utils import get_tracked_module_names

    if (tracked := list(get_tracked_module_names(made))) != list(task.tracked):
        raise ModelError(f"kronfluence tracks {tracked}, not the layers asked for, {task.tracked}: report this")
    return made


def opened(model: nn.Module, task: Any, folder: str) -> Any:
    """An analyzer of a wrapped model on the model's own device. Raises RequestError under torchrun."""
    package = kronfluence()
    from kronfluence.utils.state import State

    device = next(model.parameters()).device
    if "LOCAL_RANK" in os.environ and device.type == "cuda":
        raise RequestError("influence does not run under torchrun: start it once, with --processes, and it deals out")
    if State().device != device:
        State._reset_state()
        state = State(cpu=device.type == "cpu")
        state.device = device
    with quietly(model):
        return package.analyzer.Analyzer(
            "work", model, task, cpu=device.type == "cpu", disable_tqdm=True, output_dir=folder, log_level=logging.ERROR
        )


@contextlib.contextmanager
def quietly(model: nn.Module, *, seed: int = 0) -> Iterator[None]:
    """Gradients on, warnings of the libraries ignored, a generator state of our own; all of it undone at the end.

    Python's collector skips what is there already: kronfluence collects after every step, half a second each time.
    """
    device = next(model.parameters()).device
    root = logging.getLogger()
    level, frozen = root.level, gc.get_freeze_count()
    if not frozen:
        gc.freeze()
    try:
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            torch.inference_mode(False),
            torch.enable_grad(),
            warnings.catch_warnings(),
            explained(),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            yield
    finally:
        root.setLevel(level)
        if not frozen:
            gc.unfreeze()


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Memory that runs out, and matrices that have no eigenvectors, in one line."""
    advice = "give a smaller --batch-size, more --module-partitions, or --low-rank queries"
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise EnvironmentFailure(f"not enough memory for influence: {advice}; what was finished is kept") from error
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise NumericsError(f"the curvature has no eigenvectors ({error}): use --dtype float32") from None
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _NO_MEMORY):
            raise
        raise EnvironmentFailure(f"not enough memory for influence: {advice}; what was finished is kept") from error


def released(model: nn.Module) -> None:
    """Take kronfluence's hooks and stored matrices off a wrapped model, after a step that failed."""
    from kronfluence.module.tracked_module import ModuleMode
    from kronfluence.module.utils import set_attention_mask, set_mode

    model.zero_grad(set_to_none=True)
    set_attention_mask(model=model, attention_mask=None)
    set_mode(model=model, mode=ModuleMode.DEFAULT, release_memory=True)
