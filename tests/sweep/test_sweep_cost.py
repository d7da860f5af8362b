"""The computed cost of a sweep: it adds up over checkpoints and counts as a loaded model is counted."""

from dataclasses import replace

import pytest

from arithcirc.config import PromptConfig
from arithcirc.errors import ModelError
from arithcirc.sweep.api import run_sweep
from arithcirc.sweep.cost import ON_DISK, counted, sweep_cost
from arithcirc.sweep.estimate import plan_task
from arithcirc.sweep.task import Loading, Settings, Task
from arithcirc.sweep.where import Where

SMALL = Settings(prompts=PromptConfig(operands="0..30", n_discover=4, n_evaluate=4, counterfactual_seeds=1))


def cost(checkpoints, **options):
    return sweep_cost("pythia-14m", checkpoints=checkpoints, **({"settings": SMALL, "operators": "+"} | options))


@pytest.fixture(scope="module")
def three():
    return [cost(n) for n in (1, 2, 3)]


def test_each_further_checkpoint_costs_the_same_and_more_than_the_reference_alone(three):
    for name in ("forwards", "seconds", "slow_seconds", "host_seconds", "disk_bytes", "traffic_bytes"):
        one, two, all_three = (getattr(c, name) for c in three)
        assert all_three - two == pytest.approx(two - one)
        assert two > one > 0
    assert three[1].forwards > 1.5 * three[0].forwards  # a shared run more, a probe less


def test_weights_are_the_published_ones_and_few_are_kept(three):
    assert three[0].weights_bytes == pytest.approx(2 * 14_067_712, rel=0.01)
    assert [c.dropped_bytes / c.weights_bytes for c in three] == [1, 2, 3]
    assert replace(three[0], checkpoints=154).dropped_bytes == ON_DISK * three[0].weights_bytes


def test_half_the_rates_take_at_most_twice_as_long(three):
    assert three[0].seconds < three[0].slow_seconds <= 2 * three[0].seconds


def test_fewer_stages_and_operators_cost_less(three):
    circuit = cost(1, settings=replace(SMALL, stages="circuit"))
    assert circuit.forwards < cost(1, settings=replace(SMALL, stages="neurons")).forwards < three[0].forwards
    assert circuit.host_seconds == 0 < three[0].host_seconds
    assert cost(1, operators="+*").forwards > three[0].forwards


def test_stages_count_the_same_on_a_loaded_model(toy_folder, toy_model, tmp_path):
    task = Task(str(toy_folder), "toy", "main", None, "+", "main", SMALL, loading=Loading(device="cpu", threads=1))
    planned = plan_task(task, tmp_path)["stages"]
    _, found = counted(task, toy_model)
    assert {k: v["forwards"] for k, v in found.items()} == {k: v["forwards"] for k, v in planned.items()}


def test_a_model_whose_shape_is_not_known_is_refused():
    with pytest.raises(ModelError, match=r"is not in the table: did you mean .*pythia-14m"):
        sweep_cost("pythia-15m", checkpoints=2)


def test_the_line_for_people_says_that_it_was_computed(three):
    assert "computed from the model's shape" in str(three[1])
    assert "2 checkpoints" in str(three[1])


def test_a_plan_says_what_weights_that_are_not_here_would_cost(three, tmp_path):
    plans = []
    run_sweep(
        "EleutherAI/pythia-14m", revisions="step1,step512", operators="+", out=tmp_path / "out", settings=SMALL,
        loading=Loading(device="cpu", cache_dir=str(tmp_path / "cache")), where=Where(workers=1), plan_only=True,
        on_plan=plans.append,
    )  # fmt: skip
    (plan,) = plans
    assert str(three[1]) in plan.notes
    assert plan.traffic_bytes == three[1].traffic_bytes
    assert not (tmp_path / "out").exists()
