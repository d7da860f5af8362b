"""Whole runs, through every stage: planned rows, any batch size, the model left as found, finished stages reused."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toys import counted_rows

from arithcirc.config import CircuitConfig, HeuristicConfig, KnockoutConfig, NeuronConfig, ProbeConfig, PromptConfig
from arithcirc.models.bridge import BridgedModel
from arithcirc.pipeline.api import analyze
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.plan import Plan, make_plan
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.store import RunFolder

ASKED = {
    "prompts": PromptConfig(operators="+-", operands="0..30", n_discover=2, n_evaluate=2, counterfactual_seeds=1),
    "circuit": CircuitConfig(random_circuits=1),
    "probe": ProbeConfig(prompts=60, epochs=3),
    "neurons": NeuronConfig(top=10, first_layer=1, random_draws=1),
    "heuristics": HeuristicConfig(draws=20),
    "knockout": KnockoutConfig(prompts=5, by_prompt=5, failures=5),
}
NAMES = [s.name for s in stages_for()]
Rows = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Whole:
    """A finished run with its plans, the rows it ran, and what it changed in the model."""

    job: Job
    before: Plan
    ran: Rows
    after: Plan
    changed: list[str]


@pytest.fixture(scope="module")
def whole(toy_model: BridgedModel, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    stages = stages_for()
    job = open_job(toy_model, tmp_path_factory.mktemp("whole"), **ASKED, sections=("model", *ASKED))
    before, held = make_plan(job, stages), state(toy_model)
    with counted_rows() as ran:
        run_stages(job, stages)
    found = state(toy_model)
    changed = [name for name in held | found if not torch.equal(held[name], found[name])]
    return Whole(job, before, ran, make_plan(job, stages), changed)


def state(model: BridgedModel) -> dict[str, torch.Tensor]:
    """Weights and gradients of a model, and how many hooks and flags its modules have."""
    network = model.bridge.original_model
    found = {name: value.clone() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        found[f"{name}.requires_grad"] = torch.tensor(parameter.requires_grad)
        found[f"{name}.grad"] = torch.zeros(0) if parameter.grad is None else parameter.grad.clone()
    for name, module in model.bridge.named_modules():
        hooks = len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)
        found[f"{name}.hooks"] = torch.tensor([*hooks, module.training])
    return found


def planned(plan: Plan) -> Rows:
    return {s.stage: (s.rows, s.rows) for s in plan.stages}


def test_the_plan_counts_the_rows_of_every_stage(whole: Whole) -> None:
    assert list(whole.ran) == NAMES
    assert planned(whole.after) == whole.ran
    # how many labels and wrong answers there are, and which neurons have any effect, is seen when they are made
    estimated = {"knockout", "failures", "maps"}
    exact = {name: rows for name, rows in planned(whole.before).items() if name not in estimated}
    assert exact == {name: rows for name, rows in whole.ran.items() if name not in estimated}
    assert planned(whole.before)["maps"][0] >= whole.ran["maps"][0] > 0
    assert all(s.forwards > 0 for s in (*whole.before.stages, *whole.after.stages))
    assert [s.done for s in whole.before.stages] == [False] * len(NAMES)
    assert whole.after.seconds == 0


def test_the_model_is_left_as_found(whole: Whole) -> None:
    assert whole.changed == []


def test_every_table_names_only_operators_asked_for(whole: Whole) -> None:
    for name in whole.job.run.tables():
        found = set(whole.job.run.table(name)["operator"])
        assert found <= {"+", "-", "all"}, name


def test_a_second_analysis_reuses_every_stage(whole: Whole, toy_model: BridgedModel) -> None:
    stages = {name: dict(record) for name, record in whole.job.run.manifest["stages"].items()}
    assert list(stages) == NAMES
    again = analyze(toy_model, whole.job.run.path.parents[1], **ASKED)  # type: ignore[arg-type]
    assert again.manifest["stages"] == stages


@pytest.mark.slow
def test_results_of_no_stage_depend_on_the_batch_size(whole: Whole, toy_model: BridgedModel, tmp_path: Path) -> None:
    few = {**ASKED, "prompts": PromptConfig("+", "0..8", n_discover=1, n_evaluate=1, counterfactual_seeds=1)}
    one, other = (analyze(toy_model, tmp_path / str(n), **few, batch_size=n) for n in (2048, 7))  # type: ignore[arg-type]
    assert one.tables() == other.tables() == whole.job.run.tables()
    for name in one.tables():
        tables = [run.table(name) for run in (one, other)]
        if name == "neurons":  # effects that are equal up to rounding change places, in KL most of them
            ranks = [t.pop("rank").to_numpy()[t["metric"] == "logit_diff"] for t in tables]
            np.testing.assert_allclose(*ranks, atol=2)
        pd.testing.assert_frame_equal(*tables, rtol=1e-3, atol=1e-4, obj=name)
    for name in ("means", "gallery", "number_responses"):
        same_arrays(one, other, name)


def same_arrays(one: RunFolder, other: RunFolder, name: str) -> None:
    ours, theirs = one.arrays(name), other.arrays(name)
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-3, err_msg=f"{name} {key}")
