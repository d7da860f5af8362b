"""A task's files are the same bytes whoever runs it: this machine's processes, a Ray actor, a SLURM job."""

from importlib.util import find_spec

import pytest
from sweep.circuit_task import circuit_task, files_of

from arithcirc.config import CircuitConfig, HeuristicConfig, NeuronConfig, ProbeConfig, PromptConfig
from arithcirc.models.zoo import SHIPPED
from arithcirc.sweep.local import LocalExecutor
from arithcirc.sweep.task import Loading, Settings, Task

if find_spec("ray") is None or find_spec("submitit") is None:
    pytest.skip("the extra cluster is not installed", allow_module_level=True)

from arithcirc.sweep.ray_executor import RayExecutor
from arithcirc.sweep.slurm import SlurmExecutor

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


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # on a busy machine it ends later
def test_a_job_of_its_own_leaves_the_same_bytes(circuit_files, toy_folder, tmp_path):
    assert files_of(EXECUTORS["slurm"](tmp_path), tmp_path, [circuit_task(toy_folder)]) == circuit_files


@pytest.mark.slow
def test_whole_tasks_are_the_same_bytes(tmp_path, ray_folder):
    tasks = [
        Task(SHIPPED, SHIPPED, f"step{step}", step, "*", "step4000", WHOLE, loading=Loading(device="cpu"))
        for step in (2000, 4000)
    ]
    found = {kind: files_of(make(tmp_path / kind), tmp_path / kind, tasks) for kind, make in EXECUTORS.items()}
    assert any("shared/" in name for name in found["local"])
    for kind, files in found.items():
        assert files == found["local"], kind
