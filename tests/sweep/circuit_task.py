"""A small task of the toy, and what is in its files: the same bytes whoever does it."""

import json
from pathlib import Path

from toys import contents

from arithcirc.catalogue import SweepFolder
from arithcirc.config import CircuitConfig, PromptConfig
from arithcirc.sweep.driver import run_tasks
from arithcirc.sweep.executors import Executor
from arithcirc.sweep.task import Loading, Settings, Task

CIRCUIT = Settings(
    stages="circuit",
    level=1.0,
    prompts=PromptConfig(operands="0..20", n_discover=2, n_evaluate=2, counterfactual_seeds=1),
    circuit=CircuitConfig(random_circuits=1, mean_prompts=50),
)


def circuit_task(folder: Path) -> Task:
    """The circuit of a toy."""
    return Task(str(folder), "toy", "main", None, "+", "main", CIRCUIT, loading=Loading(device="cpu"))


def files_of(executor: Executor, root: Path, tasks: list[Task]) -> dict[str, bytes]:
    """Tables and arrays of the tasks, done by an executor, which is closed."""
    sweep = SweepFolder(root, {"models": []})
    try:
        summary = run_tasks(sweep, tasks, executor)
    finally:
        executor.close(cancel=True)
    assert [(o.status, o.reason) for _, o in summary.ended] == [("done", None)] * len(tasks)
    for task in tasks:
        held = json.loads(sweep.files(*task.key).task.read_text())
        assert held["loading"]["threads"] == 1
    found = contents(root / "tasks")
    return {name: data for name, data in found.items() if name.endswith((".parquet", ".safetensors"))}
