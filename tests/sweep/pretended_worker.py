"""A worker process whose tasks are pretended: `python pretended_worker.py ROOT`, without torch.

`ROOT/fates.json` says what becomes of a task, by "revision operator", one word for each attempt (the last counts for
all later ones): ok, fail, die (SIGKILL), leave (exit code 3), hang, chatter, or a number of seconds of work. Every
attempt adds a line to `ROOT/attempts.txt`: process, revision, operator, the threads it was given.
"""

import json
import os
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

from scripted import write_ended

from arithcirc.sweep import worker
from arithcirc.sweep.task import Outcome, Task


def run_task(task: Task, root: Path, *, report: Any) -> Outcome:
    fates = json.loads((root / "fates.json").read_text()) if (root / "fates.json").exists() else {}
    words = fates.get(f"{task.revision} {task.operator}", ["ok"])
    lines = (root / "attempts.txt").read_text().splitlines() if (root / "attempts.txt").exists() else []
    before = len([line for line in lines if line.split()[1:3] == [task.revision, task.operator]])
    with (root / "attempts.txt").open("a") as file:
        threads = f"{task.loading.threads} {os.environ['OMP_NUM_THREADS']}"
        device = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
        file.write(f"{os.getpid()} {task.revision} {task.operator} {threads} {device}\n")
    report("own/prompts", 1, 2)
    outcome = _meet(words[min(before, len(words) - 1)])
    write_ended(root, task, outcome)
    return outcome


def _meet(fate: str) -> Outcome:
    if fate == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "leave":
        print("out of luck", file=sys.stderr)
        os._exit(3)
    if fate == "chatter":
        print("a library says hello")
        os.system("echo a child says hello")  # noqa: S605
    if fate == "fail":
        return Outcome("failed", "it was to fail")
    time.sleep(600 if fate == "hang" else float(fate) if fate[0].isdigit() else 0)
    return Outcome("done", pid=os.getpid())


def plan_task(task: Task, root: Path) -> dict[str, Any]:
    if (root / "no_plan").exists():
        raise ValueError("no plan")
    stages = {"own/prompts": {"forwards": 100.0, "seconds": 2.0}, "own/localize": {"forwards": 300.0, "seconds": 4.0}}
    return {"stages": stages, "rate": 50.0, "model_bytes": 1000, "memory_bytes": 10**6, "disk_bytes": 5e5}


if __name__ == "__main__":
    pretended: Any = types.ModuleType("arithcirc.sweep.work")
    pretended.run_task, pretended.plan_task = run_task, plan_task
    sys.modules["arithcirc.sweep.work"] = pretended
    worker.main(Path(sys.argv[1]))
