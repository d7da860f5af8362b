"""Small sweeps for tests: a folder with checkpoints of a toy, and tasks of few prompts on it."""

from dataclasses import replace
from pathlib import Path

import torch
import toys

from arithcirc.config import CircuitConfig, HeuristicConfig, KnockoutConfig, NeuronConfig, ProbeConfig, PromptConfig
from arithcirc.sweep.task import Loading, Settings, StageSet, Task

NAME = "toy"
SETTINGS = Settings(
    level=1.0,
    prompts=PromptConfig(operands="0..20", n_discover=3, n_evaluate=3, counterfactual_seeds=1),
    circuit=CircuitConfig(random_circuits=1, mean_prompts=40),
    probe=ProbeConfig(prompts=60, epochs=2),
    neurons=NeuronConfig(random_draws=1),
    heuristics=HeuristicConfig(draws=20),
    knockout=KnockoutConfig(by_prompt=3),
)


def checkpoints(folder: Path) -> Path:
    """step0 says only `=`, step1 is near the last, step2 is the reference; step3 cannot be read."""
    last, near = toys.answering(6), toys.answering(6)
    with torch.no_grad():
        for weights in near.parameters():
            weights += 0.02 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(3)) * weights.std()
    for step, model in enumerate((toys.silent(), near, last)):
        toys.save(model, folder / NAME / f"step{step}")
    broken = toys.save(last, folder / NAME / "step3")
    (broken / "model.safetensors").write_bytes(b"not weights")
    return folder / NAME


def task(folder: Path, step: int, operator: str = "+", *, stages: StageSet = "heuristics") -> Task:
    """One of their tasks, with step2 as the reference."""
    loading = Loading(device="cpu", threads=1, batch_size=256)
    settings = replace(SETTINGS, stages=stages)
    return Task(str(folder), NAME, f"step{step}", step, operator, "step2", settings, loading=loading)
