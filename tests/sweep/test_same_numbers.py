"""A task's files are the same bytes whoever runs it: this machine's processes, a Ray actor, a SLURM job."""

import json
from importlib.util import find_spec

import pytest
from toys import contents

from arithcirc.catalogue import SweepFolder
from arithcirc.config import CircuitConfig, HeuristicConfig, NeuronConfig, ProbeConfig, PromptConfig
from arithcirc.models.zoo import SHIPPED
from arithcirc.sweep.driver import run_tasks
from arithcirc.sweep.local import LocalExecutor
from arithcirc.sweep.task import Loading, Settings, Task

if find_spec("ray") is None or find_spec("submitit") is None:
    pytest.skip("the extra cluster is not installed", allow_module_level=True)

from arithcirc.sweep.ray_executor import RayExecutor
from arithcirc.sweep.slurm import SlurmExecutor

CIRCUIT = Settings(
    stages="circuit",
    prompts=PromptConfig(operands="0..30", n_discover=2, n_evaluate=2, counterfactual_seeds=1),
    circuit=CircuitConfig(random_circuits=1, mean_prompts=50),
)
WHOLE = Settings(
    prompts=PromptConfig(operands="0..20", n_discover=10, n_evaluate=10, counterfactual_seeds=1),
    circuit=CircuitConfig(random_circuits=1, mean_prompts=200),
    probe=ProbeConfig(prompts=200),
    neurons=NeuronConfig(random_draws=1, top=10),
    heuristics=HeuristicConfig(draws=20),
)
EXECUTORS = {
    "local": lambda root: LocalExecutor(root, workers=1, threads=1),
    "ray": lambda root: RayExecutor(root, slots=1),
    "slurm": lambda root: SlurmExecutor(root, slots=1, cluster="local"),
    "debug": lambda root: SlurmExecutor(root, slots=1, cluster="debug"),
}


def files_of(kind, root, tasks):
    """Tables and arrays of the tasks, run by one executor."""
    sweep = SweepFolder(root, {"models": []})
    executor = EXECUTORS[kind](root)
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


def test_circuits_are_the_same_bytes(toy_folder, tmp_path):
    task = Task(str(toy_folder), "toy", "main", None, "+", "main", CIRCUIT, Loading(device="cpu"))
    found = {kind: files_of(kind, tmp_path / kind, [task]) for kind in ("debug", "ray", "slurm")}
    assert len(found["debug"]) >= 5
    for kind, files in found.items():
        assert files == found["debug"], kind


@pytest.mark.slow
def test_whole_tasks_are_the_same_bytes(tmp_path):
    tasks = [
        Task(SHIPPED, SHIPPED, f"step{step}", step, "*", "step4000", WHOLE, Loading(device="cpu"))
        for step in (2000, 4000)
    ]
    found = {kind: files_of(kind, tmp_path / kind, tasks) for kind in EXECUTORS}
    assert any("shared/" in name for name in found["local"])
    for kind, files in found.items():
        assert files == found["local"], kind
