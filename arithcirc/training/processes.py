"""What processes that train beside each other share."""

import os
import threading
from multiprocessing import parent_process

from arithcirc.errors import RequestError


def first_process() -> bool:
    """Whether this process was started alone, or is the first of those that torchrun or accelerate launch started."""
    return (os.environ.get("WORLD_SIZE") or "1") == "1" or (os.environ.get("RANK") or "0") == "0"


def check_alone(what: str) -> None:
    """Raise RequestError in one of several processes, each of which would do all of `what`."""
    if (started := os.environ.get("WORLD_SIZE") or "1") != "1":
        raise RequestError(
            f"this is one of {started} processes (WORLD_SIZE) and {what} runs in one: start it without torchrun or "
            "accelerate launch"
        )


def end_with_parent() -> None:
    """Called in a new process: end it when the process that started it is gone.

    A killed parent cannot stop its processes, which would wait for work without end. Files are whole at any time.
    """
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
