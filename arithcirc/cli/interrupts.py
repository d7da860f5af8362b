"""Ctrl-C while a model trains: the first one stops it behind the step under way, a second one ends at once.

The handler writes to the file descriptor itself: a signal may come amid a print, which must not be entered twice.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from arithcirc.errors import ArithcircError

_SAID = b"\nstopping when this step is done and saved; Ctrl-C again ends at once\n"


class Interrupted(ArithcircError):
    """Stopped by the reader; what is on disk is whole, and the text says what is kept (exit code 1)."""


@contextmanager
def training_ctrl_c(folder: Path) -> Iterator[Callable[[], bool] | None]:
    """What a training asks after every step: whether Ctrl-C was pressed once. A second one raises Interrupted.

    The text says at which step the run in `folder` goes on. None where Ctrl-C is not ours to hear: outside the main
    thread, where it is ignored or handled otherwise, and in one of several processes, which their launcher ends.
    """
    asked = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as `signal` calls it
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(OSError):
            os.write(2, _SAID)

    alone = (os.environ.get("WORLD_SIZE") or "1") == "1" and threading.current_thread() is threading.main_thread()
    ours = alone and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, hear)
    try:
        yield asked.is_set if ours else None
    except KeyboardInterrupt:
        from arithcirc.training.trainer import resumes_at

        raise Interrupted(
            f"interrupted: steps since the last resume point are lost, the same command goes on at step "
            f"{resumes_at(folder):,}"
        ) from None
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
