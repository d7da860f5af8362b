"""Births: where a strength starts to stay, and documents that can teach a rule are found while it is being learned."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from influence import planted_rule

from arithcirc.errors import RequestError
from arithcirc.influence.engine import Engine, Settings, linear_modules
from arithcirc.influence.mechanisms.births import Checkpoint, births, crossing, lifts
from arithcirc.influence.mechanisms.measurements import prepare, values
from arithcirc.influence.mechanisms.scoring import Scorer
from arithcirc.influence.rows import collate, summed_nll

STEPS = (0, 20, 40, 60, 80)


@pytest.fixture(scope="module")
def world():
    """Stopped while the rule is learned, with copies from before."""
    return planted_rule.world(stop=81, keep=STEPS)


@pytest.fixture(scope="module")
def mechanisms(world):
    """The four neurons that tell the rule best at the end, and what they write together."""
    network = world.kept[STEPS[-1]]
    every = planted_rule.neuron_rules()
    found = values(network, prepare(network, linear_modules(network), every))
    best = [every[i] for i in np.argsort(-found)[:4]]
    return (*best, planted_rule.heuristic_rule([m.neurons[0] for m in best]))


@pytest.fixture(scope="module")
def born(world, mechanisms, tmp_path_factory):
    return births(
        mechanisms, [Checkpoint(f"step{s}", s) for s in STEPS], lambda name: world.kept[int(name[4:])],
        linear_modules(world.network), world.documents, np.where(world.teaches, "teaches", "other").tolist(),
        tmp_path_factory.mktemp("births"), at_most=4, top=int(world.teaches.sum()),
        shares=[world.teaches.astype(float)] * len(mechanisms),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("strength", "at"),
    [
        ([0.0, 0.1, 0.6, 1.0], 2),
        ([0.0, 0.9, 0.2, 1.0], 3),  # it left again
        ([0.7, 0.9, 1.0], None),  # there at once
        ([0.0, 1.0, -0.5], None),  # not there at the end
        ([-1.0, 0.5, 1.0], 1),
    ],
)
def test_a_birth_is_where_half_of_the_last_value_stays(strength, at):
    assert crossing(np.array(strength)) == at


def test_values_are_those_of_each_checkpoint(world, mechanisms, born):
    tracked = linear_modules(world.network)
    for step, rows in born.values.groupby("step"):
        network = world.kept[step]
        expected = values(network, prepare(network, tracked, mechanisms))
        np.testing.assert_allclose(rows.set_index("query")["value"][[m.id for m in mechanisms]], expected)


def test_documents_that_can_teach_the_rule_lead_before_its_birth(world, mechanisms, born):
    table = born.table[born.table["kind"] == "teaches"].set_index(["query", "when"])
    heuristic = mechanisms[-1].id
    before = table.loc[(heuristic, "before")]
    assert before["lift"] > 0.9 / 0.2 * 0.9  # nearly all of the first are among the fifth that teaches
    assert before["lift"] > before["chance_high"]
    assert before["auc"] >= 0.95
    assert (before["documents"], before["positives"]) == (len(world.documents), world.teaches.sum())
    assert np.isnan(before["auc_others"])  # all mechanisms here are of one heuristic
    lifts_before = [table.loc[(m.id, "before"), "lift"] for m in mechanisms if (m.id, "before") in table.index]
    assert np.mean(lifts_before) > 2
    assert table.loc[(heuristic, "final"), "r"] == pytest.approx(1)


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(world, mechanisms, tmp_path, monkeypatch):
    documents, steps = world.documents[:20], STEPS[:2]
    neuron = mechanisms[0].neurons[0]
    label = {"operator": "+", "layer": neuron.layer, "neuron": neuron.index, "heuristic": mechanisms[0].heuristic}
    fitted, fit = [], Engine.fit

    def follow(folder, chosen=mechanisms[:2], most=9):
        def counted(engine, rows, **options):
            if len(fitted) == most:
                raise KeyboardInterrupt
            fitted.append(engine.folder.name)
            return fit(engine, rows, **options)

        fitted.clear()
        monkeypatch.setattr(Engine, "fit", counted)
        return births(
            chosen, [Checkpoint(f"step{s}", s) for s in steps], lambda name: world.kept[int(name[4:])],
            linear_modules(world.network), documents, ["x"] * 20, folder, given=pd.DataFrame([{**label, "birth": 20}]),
        ).table  # fmt: skip

    whole = follow(tmp_path / "whole")
    assert fitted == ["step0", "step20"]
    with pytest.raises(KeyboardInterrupt):
        follow(tmp_path / "stopped", most=1)
    again = follow(tmp_path / "stopped")
    assert fitted == ["step20"]
    pd.testing.assert_frame_equal(again, whole)
    follow(tmp_path / "whole")
    assert not fitted
    follow(tmp_path / "whole", chosen=mechanisms[:1])  # other mechanisms: nothing kept is theirs
    assert len(fitted) == 2


def test_what_is_not_affordable_is_named(world, mechanisms, tmp_path):
    checkpoints = [Checkpoint(f"step{s}", s) for s in STEPS]
    found = births(
        mechanisms[:2], checkpoints, lambda name: world.kept[int(name[4:])], linear_modules(world.network),
        world.documents, ["x"] * len(world.documents), tmp_path, at_most=1,
    )  # fmt: skip
    assert found.table.empty
    assert found.left_out == tuple(m.id for m in mechanisms[:2])
    assert not found.seconds
    with pytest.raises(RequestError, match="two or more checkpoints"):
        births(mechanisms, checkpoints[:1], lambda _: world.network, (), [], [], tmp_path)


def test_a_sweeps_births_are_taken_where_given(world, mechanisms, tmp_path):
    one = replace(mechanisms[0])
    neuron = one.neurons[0]
    label = {"operator": "+", "layer": neuron.layer, "neuron": neuron.index, "heuristic": one.heuristic, "birth": 20}
    given = pd.DataFrame([label])
    found = births(
        [one], [Checkpoint(f"step{s}", s) for s in STEPS[:3]], lambda name: world.kept[int(name[4:])],
        linear_modules(world.network), world.documents[:40], ["x"] * 40, tmp_path, given=given,
    )  # fmt: skip
    assert set(found.values["birth"]) == {"given"}
    assert found.values.set_index("step")["born"].to_dict() == {0: False, 20: True, 40: True}
    assert found.table.groupby("when")["step"].first().to_dict() == {"before": 0, "after": 20, "final": 40}


def test_lifts_are_counts_over_what_chance_gives():
    kinds = ["a"] * 30 + ["b"] * 70
    rows = {row["kind"]: row for row in lifts(kinds, np.arange(10))}
    assert rows["a"]["count"] == 10
    assert rows["a"]["lift"] == pytest.approx(10 / 3)
    assert rows["b"]["lift"] == 0
    rng = np.random.default_rng(0)
    inside = [
        row["chance_low"] <= row["lift"] <= row["chance_high"]
        for _ in range(200)
        for row in lifts(kinds, rng.permutation(100)[:10])
    ]
    assert np.mean(inside) >= 0.93


@pytest.mark.slow
def test_a_step_on_top_documents_strengthens_the_rule_on_bottom_ones_it_weakens(world, mechanisms, tmp_path):
    network, tracked = copy.deepcopy(world.kept[40]), linear_modules(world.network)
    prepared = prepare(network, tracked, mechanisms)
    scores = Scorer(network, tracked, prepared, tmp_path, settings=Settings(strategy="identity")).scores(
        world.documents
    )
    weights = [p for name in tracked for p in network.get_submodule(name).parameters()]
    start, rate = values(network, prepared), 1e-5
    for number, row in enumerate(scores["dot"]):
        order = np.argsort(-row)
        for chosen, sign in ((order[:16], 1), (order[-16:], -1)):
            batch = collate([world.documents[i] for i in chosen])
            loss = summed_nll(network(input_ids=batch["input_ids"]).logits, batch["labels"], batch["weight"])
            grads = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for p, g in zip(weights, grads, strict=True):
                    p.sub_(rate * g)
            change = values(network, prepared)[number] - start[number]
            with torch.no_grad():
                for p, g in zip(weights, grads, strict=True):
                    p.add_(rate * g)
            predicted = rate * row[chosen].sum()
            if sign * predicted > 0:
                assert sign * change > 0
                assert change == pytest.approx(predicted, rel=0.1)
