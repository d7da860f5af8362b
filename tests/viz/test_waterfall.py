"""The figures of one prompt: parts that sum to the logit, steps that meet, lines that end where the logits are."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from explorer.planted_live import PlantedLive

from arithcirc.components import Neuron
from arithcirc.viz import masks
from arithcirc.viz.contributions import (
    GROUPS,
    MOST_LAYERS,
    Target,
    at_equals,
    building_up,
    by_layer,
    parts,
    side_by_side,
    singles,
)
from arithcirc.viz.waterfall import waterfall


@pytest.fixture(scope="module")
def explanation():
    """The planted model on a prompt of one heuristic, with a rival."""
    return PlantedLive().explain("42+30=", numbers=[7, 50])


@pytest.fixture(scope="module")
def planes(explanation):
    """Some neurons that hold and some important ones, overlapping."""
    rng = np.random.default_rng(3)
    shape = explanation.neurons.shape[:2]
    return rng.random(shape) < 0.2, rng.random(shape) < 0.4


@pytest.mark.parametrize("target", [Target(72), Target(72, 7)])
def test_parts_sum_to_the_targets_logit_and_count_every_neuron_once(explanation, planes, target):
    found = parts(explanation, target, *planes)
    assert sum(part.value for part in found.parts) == pytest.approx(found.total, abs=1e-4)
    assert sum(found.group(group) for group in GROUPS) == pytest.approx(found.total, abs=1e-4)
    by_hand = explanation.logits[0] - (0 if target.minus is None else explanation.logits[1])
    assert found.total == pytest.approx(by_hand, abs=1e-5)
    neurons = [part for part in found.parts if part.group in ("holding", "important", "others")]
    assert sum(part.size for part in neurons) == explanation.neurons[..., 0].size
    held = explanation.neurons[..., 0] - (0 if target.minus is None else explanation.neurons[..., 1])
    assert found.group("holding") == pytest.approx(held[planes[0]].sum(), abs=1e-5)
    assert found.group("important") == pytest.approx(held[planes[1] & ~planes[0]].sum(), abs=1e-5)


def test_a_deep_model_is_drawn_by_its_strongest_layers_and_still_sums(explanation, planes):
    deep = 4
    tall = replace(
        explanation,
        **{
            name: np.tile(getattr(explanation, name), (deep, *(1,) * (getattr(explanation, name).ndim - 1)))
            for name in ("heads", "neurons", "attention_bias", "mlp_bias", "activations", "attention")
        },
    )
    tall = replace(tall, logits=building_up(tall)[-1])
    found = parts(tall, Target(72), *(np.tile(plane, (deep, 1)) for plane in planes))
    assert len([layer for layer in found.layers if layer is not None]) == MOST_LAYERS
    assert sum(part.value for part in found.parts) == pytest.approx(found.total, abs=1e-4)
    assert len(waterfall(found).to_json()) < 60_000


def test_the_waterfall_climbs_without_gaps_to_the_logit(explanation, planes):
    found = parts(explanation, Target(72, 7), *planes)
    bars = [trace for trace in waterfall(found).data if trace.type == "bar"]
    steps = sorted((x, base, y) for bar in bars[:-1] for x, base, y in zip(bar.x, bar.base, bar.y, strict=True))
    assert len(steps) == len(found.parts)
    assert steps[0][1] == pytest.approx(0)
    for (_, base, y), (_, following, _) in itertools.pairwise(steps):
        assert base + y == pytest.approx(following, abs=1e-9)
    assert steps[-1][1] + steps[-1][2] == pytest.approx(bars[-1].y[0], abs=1e-4)
    assert {bar.marker.color for bar in bars[:-1]} <= {colour for _, colour in GROUPS.values()}


@pytest.mark.parametrize("target", [Target(72), Target(72, 7)])
def test_the_largest_neurons_are_steps_of_their_own_and_the_rest_is_one(explanation, planes, target):
    found = singles(explanation, target, *planes, most=9)
    assert sum(part.value for part in found.parts) == pytest.approx(found.total, abs=1e-4)
    held = target.of(explanation, explanation.neurons)
    named = {part.neuron: part for part in found.parts if part.neuron is not None}
    assert len(named) == 9
    assert [n.layer for n in named] == sorted(n.layer for n in named)
    least = min(abs(part.value) for part in named.values())
    for (layer, index), value in np.ndenumerate(held):
        at = Neuron(layer, index)
        if at not in named:
            assert abs(value) <= least + 1e-9
            continue
        assert named[at].value == pytest.approx(value)
        group = "holding" if planes[0][layer, index] else "important" if planes[1][layer, index] else "others"
        assert named[at].group == group
    rest = next(part for part in found.parts if part.name.endswith("other neurons"))
    assert rest.size == held.size - 9
    assert rest.value == pytest.approx(held.sum() - sum(p.value for p in named.values()), abs=1e-5)
    assert rest.name == f"{rest.size:,} other neurons"
    figure = waterfall(found, {next(iter(named)): "op1 = 42"})
    facts = [point for bar in figure.data if bar.type == "bar" and bar.customdata for point in bar.customdata]
    assert {Neuron(*p[2:]) for p in facts if p[2] is not None} == set(named)
    assert sum(p[0].endswith("(op1 = 42)") for p in facts) == 1
    assert {str(n) for n in named} < set(figure.layout.xaxis.ticktext)
    assert len(singles(explanation, target, *planes, most=held.size).parts) == 3 + held.size


def test_logits_build_up_from_the_embedding_to_the_last_layer(explanation):
    built = building_up(explanation)
    assert built.shape == (1 + 2 * len(explanation.heads), len(explanation.numbers))
    np.testing.assert_allclose(built[0], explanation.embedding + explanation.constant, atol=1e-6)
    np.testing.assert_allclose(built[-1], explanation.logits, atol=1e-4)
    lines = by_layer(explanation, [72, 7], {72: "true"}).data
    assert [line.name for line in lines] == ["72 true", "7"]
    assert lines[1].y[-1] == pytest.approx(explanation.logits[explanation.numbers.index(7)], abs=1e-4)


def test_attention_and_contributions_stand_under_the_same_head(explanation):
    bars, heat = at_equals(explanation, Target(72)).data
    np.testing.assert_allclose(bars.y, explanation.heads[..., 0].ravel(), atol=1e-6)
    assert list(bars.customdata)[2 * 4 + 1] == "L2H1"
    np.testing.assert_allclose(np.asarray(heat.z)[:, 2 * 4 + 1], explanation.attention[2, 1])
    assert len(set(heat.y)) == len(explanation.reply.tokens)


def test_two_prompts_side_by_side_keep_their_own_sums(explanation, planes):
    other = PlantedLive().explain("42+31=")
    held = [("a", parts(explanation, Target(72), *planes)), ("b", parts(other, Target(73), *planes))]
    figure = side_by_side(held)
    for trace, (_, found) in zip(figure.data, held, strict=True):
        assert trace.x[-1] == pytest.approx(found.total)
        assert sum(trace.x[:-1]) == pytest.approx(found.total, abs=1e-4)


@pytest.mark.parametrize("operator", ["+", "-", "*", "/"])
def test_a_heuristic_holds_of_a_prompt_where_its_map_says_so(operator):
    names = ["op1 = op2", "result in 3..9", "op2 = 3 mod 5", "op1 matches ..4", "both in 2..6", "result in {1, 2}"]
    for name in names:
        where = masks.mask(name, operator, 0, (12, 12))
        for op1, op2 in [(0, 0), (4, 4), (11, 3), (3, 8), (9, 1)]:
            assert masks.holds(name, operator, op1, op2) == bool(where[op1, op2]), name
    assert masks.holds("nothing known", operator, 1, 1) is None


def test_targets_name_what_they_are():
    assert str(Target(158)) == "logit of 158"
    assert str(Target(158, 160)) == "logit of 158 − logit of 160"
