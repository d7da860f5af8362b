"""Memory in use: now, and at most while something runs."""

import contextlib
import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch


def resident_bytes(device: torch.device) -> int:
    """What is in use now: allocated on a GPU, or resident in the machine's memory once freed memory is given back."""
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


@dataclass
class Measured:
    """The largest memory in use inside `measuring`; None where the system does not say."""

    bytes: int | None = None


@contextlib.contextmanager
def measuring(device: torch.device) -> Iterator[Measured]:
    """Measure the peak inside the block: of a GPU's allocator, else of the process's resident memory.

    Linux forgets earlier peaks when asked to; elsewhere only a new largest peak can be told.
    """
    found = Measured()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.bytes = torch.cuda.max_memory_allocated(device)
        return
    reset = _forget_peak()
    before = _largest_resident()
    yield found
    after = _largest_resident()
    found.bytes = after if reset or (after is not None and before is not None and after > before) else None


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _largest_resident() -> int | None:
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        if found is not None:
            return int(found[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
