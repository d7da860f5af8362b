"""A worker process: `python -m arithcirc.sweep.worker [DO] ROOT` runs the tasks it is sent, one after the other.

    in     one line of JSON per request: {"task": ...} or {"plan": ...}, each with a task's values
    out    {"progress": [model, revision, operator, stage, done, total]}
           {"finished": [model, revision, operator], "outcome": {...}}
           {"planned": {...}} or {"refused": "why"}

The lines go to what was standard output when the process began; standard output itself is pointed at standard error,
so nothing that a library prints can come between them. A thread reads the requests; when there are no more, because
the driver closed them or died, it ends the process at once, whatever is being computed: every file a task writes is
renamed into place when it is whole, so nothing is left half done.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from arithcirc.errors import ArithcircError
from arithcirc.sweep.executors import Work
from arithcirc.sweep.remote import DO, named
from arithcirc.sweep.task import Task

_EVERY = 0.2
"""Seconds between two reports of progress in the same stage."""
Send = Callable[[dict[str, Any]], None]


def main(root: Path, do: str = DO) -> None:
    """Serve requests until there are no more; `do` names what does a task (`remote.DO`)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when to stop
    requests, send = _channels()
    task_of, run = named(do)

    while True:
        request = requests.get()
        if "plan" in request:
            from arithcirc.sweep import work

            send(_planned(partial(work.plan_task, Task.of(request["plan"]), root)))
        else:
            task = task_of(request["task"])
            outcome = run(task, root, report=reporter(task, send))
            send({"finished": list(task.key), "outcome": asdict(outcome)})


def reporter(task: Work, send: Send) -> Callable[[str, int, int], None]:
    """A `Report` that sends the first and last count of each stage and a few a second in between."""
    last: tuple[str, float] = ("", 0.0)

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if stage != last[0] or done >= total or now - last[1] > _EVERY:
            last = (stage, now)
            send({"progress": [*task.key, stage, int(done), int(total)]})

    return report


def _planned(plan: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The plan of a task, or why there is none: a checkpoint that cannot be read does not end a sweep."""
    try:
        return {"planned": plan()}
    except ArithcircError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"refused": f"unexpected {type(error).__name__}: {error}"}


def _channels() -> tuple["queue.SimpleQueue[dict[str, Any]]", Send]:
    """Requests as they come, and a function that answers."""
    out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    source: TextIO = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in source:
            requests.put(json.loads(line))
        os._exit(0)

    def send(answer: dict[str, Any]) -> None:
        try:
            out.write(json.dumps(answer, ensure_ascii=False) + "\n")
        except OSError:
            os._exit(0)  # nobody listens any more

    threading.Thread(target=read, name="requests", daemon=True).start()
    return requests, send


if __name__ == "__main__":
    main(Path(sys.argv[-1]), *sys.argv[1:-1])
