"""The planted model and the planted run say the same, and what `planted_live` promises holds."""

import http.client

import numpy as np
import pytest
from explorer.planted_live import DECOY, HOLDS, PlantedLive, activation, carriers, legal, ranks
from explorer.synthetic_explorer import lone_prompt, score

from arithcirc.components import Head
from arithcirc.neuron_maps import StoredMaps
from arithcirc.questions import Off
from arithcirc.viz import masks

OPERATORS = "+-*/"


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_heuristic_alone_decides_its_prompt(operator, planted_live):
    name = "op2 = 8 mod 10"
    prompt = lone_prompt(operator, name)
    carrying = tuple(n for n, held in carriers(operator).items() if held == name)
    assert planted_live.answer(prompt).correct
    for off in (Off(carrying), Off(carrying[:1]), Off((), (Head(2, 1),)), Off(carrying, (), "mean")):
        assert planted_live.answer(prompt, off).guesses[0].number == DECOY
    others = tuple(n for n in ranks(operator) if n not in carrying)
    assert planted_live.answer(prompt, Off(others)).correct


def test_contributions_sum_to_the_logits(planted_live):
    e = planted_live.explain("28-8=", Off((next(iter(carriers("-"))),), (), "mean"), numbers=(3, 99))
    total = e.heads.sum((0, 1)) + e.neurons.sum((0, 1)) + e.embedding + e.attention_bias.sum(0) + e.mlp_bias.sum(0)
    np.testing.assert_allclose(total + e.constant, e.logits, atol=1e-4)
    assert e.logits[0] == pytest.approx(e.reply.answer_guess.logit, abs=1e-5)
    np.testing.assert_allclose(e.attention.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("operator", OPERATORS)
def test_planted_regions_are_those_the_figures_draw(operator):
    a, b, r = legal(operator)
    for name, where in HOLDS.items():
        np.testing.assert_array_equal(masks.mask(name, operator, 0, (60, 60))[a, b], where(a, b, r))


def test_stored_maps_are_the_models(explorer_run, planted_live):
    stored = StoredMaps.find(explorer_run.path, "-", (0, 59))
    for neuron in stored.neurons():
        held, live = stored.read(neuron), planted_live.neuron_map("-", neuron)
        np.testing.assert_allclose(held.k, live.k, atol=2e-3)
        np.testing.assert_array_equal(held.value, live.value)
    effect = explorer_run.table("neurons").query("operator == '-' and method == 'exact' and metric == 'logit_diff'")
    row = effect[(effect["layer"] == neuron.layer) & (effect["neuron"] == neuron.index)]
    assert held.effects.mean() == pytest.approx(row["effect"].iloc[0], abs=1e-5)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_tables_scores_are_those_of_the_maps(operator, explorer_run):
    a, b, r = legal(operator)
    for neuron, name in carriers(operator).items():
        held = HOLDS[name](a, b, r)
        k = activation(operator, neuron, a, b) * (-1 if name == "op1 = 42" else 1)
        top = np.argsort(-k, kind="stable")[: held.sum()]
        assert held[top].mean() == pytest.approx(score(operator, neuron, name))


def test_questions_are_counted():
    asked = []
    PlantedLive(asked=asked.append).answer("28-8=")
    assert asked == ["answer 28-8="]


def test_the_explorer_answers(served):
    host, port = served.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    connection.request("GET", "/neurons?op=%2B")
    page = connection.getresponse()
    assert page.status == 200
    assert b"_dash" in page.read()
    connection.close()
