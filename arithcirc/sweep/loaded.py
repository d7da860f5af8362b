"""The model that this process holds: one at a time, so that the operators of a checkpoint load it once.

The old one is freed before the next is loaded. With the model stay its mean activations, which depend on nothing that
differs between the operators of a checkpoint.
"""

import atexit
import gc
import time
from dataclasses import dataclass, field

from arithcirc.measure.means import Means
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.fit import release_memory
from arithcirc.models.load import load, set_threads
from arithcirc.models.zoo import locate
from arithcirc.sweep.task import Loading, Task

_Key = tuple[str, str, str | None, str | None, str]


@dataclass(frozen=True)
class Loaded:
    """A model, the seconds that loading took, and the means computed with it so far."""

    model: BridgedModel
    seconds: float
    means: dict[str, Means] = field(default_factory=dict)


_held: dict[_Key, Loaded] = {}


def loaded_for(task: Task) -> tuple[Loaded, float]:
    """The task's model, and the seconds spent on loading it now (0: it was held). Raises what `load` raises."""
    loading = task.loading
    set_threads(loading.threads)
    key = (task.model, task.revision, loading.device, loading.device_map, loading.dtype)
    if key in _held:
        return _held[key], 0.0
    free()
    start = time.perf_counter()
    model = _load(task, loading)
    gc.collect()
    gc.freeze()  # every stage collects garbage to measure its memory, and need not look through libraries and weights
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)  # or what is frozen is never freed, and libraries complain
    _held[key] = Loaded(model, time.perf_counter() - start)
    return _held[key], _held[key].seconds


def _load(task: Task, loading: Loading) -> BridgedModel:
    """Load a checkpoint; a folder that is one has no revision to ask for."""
    alone = locate(task.model).revision == task.revision
    return load(
        task.model,
        revision=None if alone else task.revision,
        device=loading.device,
        device_map=loading.device_map,
        dtype=loading.dtype,
        cache_dir=loading.cache_dir,
        offline=loading.offline,
    )


def free() -> None:
    """Hold no model any more, and give its memory back."""
    if _held:
        _held.clear()
        gc.unfreeze()
        gc.collect()
        release_memory()
