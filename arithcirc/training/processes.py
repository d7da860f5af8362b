"""What processes that train beside each other share."""

import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Called in a new process: end it when the process that started it is gone.

    A killed parent cannot stop its processes, which would wait for work without end. Files are whole at any time.
    """
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
