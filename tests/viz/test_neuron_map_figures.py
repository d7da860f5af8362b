"""One neuron's figures: hits against the labels' own ranks, borders, spectra and histograms against closed forms."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from arithcirc.components import Neuron
from arithcirc.heuristics.ranks import rank_maps
from arithcirc.neuron_maps import Cases, NeuronMap, on_plane
from arithcirc.viz import masks, neuron_hits, theme
from arithcirc.viz.emergence.axis import StepAxis
from arithcirc.viz.marginals import marginals
from arithcirc.viz.neuron_effects import drop_histogram, effect_histogram
from arithcirc.viz.neuron_hits import FALSE_ALARM, HIT, ILLEGAL, MISS, NEITHER, Marginal, hits, marginal, spectrum
from arithcirc.viz.neuron_maps import Marked, activation_maps, small_map, thickness
from arithcirc.viz.neuron_steps import kept_labels, neuron_steps
from arithcirc.viz.neuron_words import breaks, inside, matters, where_active, writes
from arithcirc.viz.value_tokens import extremes, value_line, value_tokens

SIDE = 80
ENDS_IN_8 = Marked("op2 = 8 mod 10", "indirect", "top")


def legal(operator: str = "+", side: int = SIDE) -> np.ndarray:
    a, b = (x.ravel() for x in np.indices((side, side)))
    r = {"+": a + b, "-": a - b}[operator]
    held = (r >= 0) & (r <= 120)
    return np.stack([a, b, r], axis=1)[held]


def made(k: np.ndarray, prompts: np.ndarray, value: np.ndarray | None = None, operator: str = "+") -> NeuronMap:
    plane, answer = on_plane(prompts, k.astype(np.float32), 0, SIDE)
    value = np.linspace(-1, 1, 121, dtype=np.float32) if value is None else value
    return NeuronMap(operator, Neuron(2, 5), 0, plane, answer, value)


@pytest.fixture
def planted() -> NeuronMap:
    """2 where op2 ends in 8, but for every seventh op1; a ripple below 1 elsewhere, larger where op1 is."""
    prompts = legal()
    inside = (prompts[:, 1] % 10 == 8) & (prompts[:, 0] % 7 != 0)
    return made(np.where(inside, 2.0, prompts[:, 0] / 100), prompts)


# -- hits --------------------------------------------------------------------------------------------------------------


def test_hits_are_those_planted(planted):
    prompts = legal()
    held = prompts[:, 1] % 10 == 8
    found = hits(planted, "op2 = 8 mod 10", "indirect", "top")
    followed = int((held & (prompts[:, 0] % 7 != 0)).sum())
    assert found.k == held.sum()
    assert found.legal == len(prompts)
    extra = found.hit - followed  # ripples of H that are large anyway
    assert 0 <= extra <= (held & (prompts[:, 0] % 7 == 0) & (prompts[:, 0] > 60)).sum()
    assert found.miss == found.false_alarm == found.k - found.hit
    assert found.score == found.hit / found.k
    assert np.bincount(found.codes.ravel(), minlength=5).tolist() == [
        SIDE * SIDE - len(prompts), len(prompts) - found.k - found.false_alarm,
        found.hit, found.miss, found.false_alarm,
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["top", "bottom"])
@pytest.mark.parametrize("name", ["op2 = 8 mod 10", "result in 20..50", "op1 matches .5.", "both in 0..10"])
def test_hits_are_the_ones_labels_are_scored_by(name, end):
    prompts = legal("-")
    rng = np.random.default_rng(3)
    k = np.maximum(rng.normal(size=len(prompts)), 0.0).round(1)  # half of it ties at zero
    value = rng.normal(size=121).astype(np.float32)
    neuron_map = made(k, prompts, value, "-")
    kind = "direct" if name.startswith("result") else "indirect"
    scored = k.astype(np.float32)[None] * (value[prompts[:, 2]] if kind == "direct" else np.float32(1))
    rank = rank_maps(scored).blocks[0][:, 0].astype(int)
    held = masks.mask(name, "-", 0, (SIDE, SIDE))[prompts[:, 0], prompts[:, 1]]
    n = int(held.sum())
    strong = rank < n if end == "top" else rank >= len(prompts) - n
    found = hits(neuron_map, name, kind, end)
    assert found.hit == int((strong & held).sum())
    assert found.k == n
    at = found.codes[prompts[:, 0], prompts[:, 1]]
    wanted = np.select([strong & held, held, strong], [HIT, MISS, FALSE_ALARM], NEITHER)
    assert (at == wanted).all()


def test_what_is_illegal_is_neither(planted):
    found = hits(planted, "op2 = 8 mod 10", "indirect", "top")
    assert ((found.codes == ILLEGAL) == (planted.answer < 0)).all()
    assert hits(planted, "op1 is prime", "indirect", "top") is None
    assert np.isnan(hits(planted, "result in 900..910", "direct", "top").score)


# -- masks -------------------------------------------------------------------------------------------------------------


def test_borders_are_as_long_as_neighbours_differ():
    inside = np.random.default_rng(0).random((17, 23)) < 0.4
    x, y = masks.edges(inside, 5)
    pieces = np.stack([x, y], axis=1).reshape(-1, 3, 2)
    assert np.isnan(pieces[:, 2]).all()
    length = np.abs(pieces[:, 1] - pieces[:, 0]).sum()
    padded = np.pad(inside, 1)
    assert length == (padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum()
    assert ((pieces[:, :2] % 1) == 0.5).all()
    assert np.nanmin(x) >= 4.5
    assert np.nanmax(y) <= 5 + 17 - 0.5


def test_a_rectangle_has_four_sides():
    inside = masks.mask("both in 3..6", "+", 0, (10, 10))
    x, y = masks.edges(inside, 0)
    assert len(x) == 4 * 3
    assert set(x[np.isfinite(x)]) == set(y[np.isfinite(y)]) == {2.5, 5.5}


def test_periods_of_names():
    periods = {"op2 = 8 mod 10": 10, "result = 3 mod 7": 7, "op1 matches ..5": 10, "op1 matches .5.": 100}
    assert {name: masks.modulus(name) for name in periods} == periods
    assert [masks.modulus(n) for n in ("op1 = 42", "both in 0..10", "op1 matches 1..", "nonsense")] == [None] * 4


# -- marginals and spectra ---------------------------------------------------------------------------------------------


def test_a_marginal_is_the_mean_over_its_prompts(planted):
    prompts = legal()
    for column, variable in enumerate(neuron_hits.VARIABLES):
        found = marginal(planted, planted.kv, variable)
        assert found.n.sum() == len(prompts)
        some = found.values[len(found.values) // 2]
        mine = prompts[prompts[:, column] == some]
        assert found.mean[found.values == some][0] == pytest.approx(planted.kv[mine[:, 0], mine[:, 1]].mean(), rel=1e-5)


def test_shares_of_variance_sum_to_one_and_find_the_period():
    values = np.arange(300)
    for line in (np.cos(2 * np.pi * values / 10), np.random.default_rng(1).normal(size=300)):
        period, power = spectrum(Marginal("op2", values, line + 3.0, np.ones(300, dtype=int)))
        assert power.sum() == pytest.approx(1.0)
        assert period[0] == 300
        assert period[-1] == 2
    period, power = spectrum(Marginal("op2", values, np.cos(2 * np.pi * values / 10), np.ones(300, dtype=int)))
    assert period[power.argmax()] == 10
    assert power.max() == pytest.approx(1.0)


def test_a_last_digit_has_its_harmonics():
    values = np.arange(300)
    period, power = spectrum(Marginal("op2", values, (values % 10 == 8).astype(float), np.ones(300, dtype=int)))
    strong = period[power > 0.01]
    assert strong == pytest.approx([10, 5, 10 / 3, 2.5, 2])
    assert power[power > 0.01] == pytest.approx([2 / 9] * 4 + [1 / 9])  # the indicator's energy, spread evenly


def test_a_constant_has_no_spectrum():
    for n in (2, 40):
        period, power = spectrum(Marginal("op1", np.arange(n), np.full(n, 0.7), np.ones(n, dtype=int)))
        assert len(period) == len(power) == 0


def test_marginals_mark_the_heuristic(planted):
    figure = marginals(planted, ENDS_IN_8)
    marked = [t for t in figure.data if t.name == "heuristic holds"]
    assert [t.xaxis for t in marked] == ["x2"]
    assert list(marked[0].x) == [8, 18, 28, 38, 48, 58, 68, 78]
    assert {s.xref for s in figure.layout.shapes} == {"x5"}
    assert marginals(planted).layout.shapes == ()


# -- maps --------------------------------------------------------------------------------------------------------------


def test_maps_carry_every_number(planted):
    figure = activation_maps(planted, ENDS_IN_8)
    heat = {t.meta: t for t in figure.data if t.meta}
    assert set(heat) == {"k", "kv", "hits"}
    np.testing.assert_array_equal(heat["k"].z, planted.k)
    np.testing.assert_array_equal(heat["kv"].z, planted.kv.astype(np.float32))
    assert (heat["k"].customdata == np.maximum(planted.answer, 0)).all()
    assert heat["hits"].z.dtype == np.int8
    assert heat["k"].z.dtype == np.float32
    assert {t.xaxis for t in figure.data} == {"x", "x2", "x3"}
    assert figure.layout.xaxis2.matches == "x"
    assert figure.layout.yaxis3.matches == "y"


def test_colours_are_centred_at_zero(planted):
    layout = activation_maps(planted, ENDS_IN_8).layout
    assert layout.coloraxis.cmin == -layout.coloraxis.cmax
    assert layout.coloraxis.cmax == pytest.approx(2.0)
    assert layout.coloraxis2.cmin == -layout.coloraxis2.cmax < 0


def test_a_fine_heuristic_is_ticked_and_outlined_when_few_cells_are_shown(planted):
    whole = [t for t in activation_maps(planted, ENDS_IN_8, panels=("k",)).data if t.name == "heuristic"]
    assert [t.mode for t in whole] == ["markers"]
    assert list(whole[0].x) == [8, 18, 28, 38, 48, 58, 68, 78]
    assert min(whole[0].y) > SIDE - 0.5
    near = activation_maps(planted, ENDS_IN_8, panels=("k",), window=(0, 39, 10, 49))
    lines = [t for t in near.data if t.name == "heuristic"]
    assert [t.mode for t in lines] == ["lines"]
    assert set(lines[0].x[np.isfinite(lines[0].x)]) == {17.5, 18.5, 27.5, 28.5, 37.5, 38.5, 47.5, 48.5}
    assert near.layout.xaxis.range == (9.5, 49.5)
    assert near.layout.yaxis.range == (-0.5, 39.5)


def test_without_a_known_heuristic_there_are_no_hits(planted):
    for heuristic in (None, Marked("op1 is prime", "indirect", "top")):
        figure = activation_maps(planted, heuristic)
        assert [t.meta for t in figure.data if t.meta] == ["k", "kv"]
        assert not [t for t in figure.data if t.name == "heuristic"]


def test_illegal_prompts_are_shaded_only_where_there_are_some(planted):
    shaded = [t for t in activation_maps(planted, ENDS_IN_8).data if t.name == "no legal prompt"]
    assert len(shaded) == 3
    assert ((shaded[0].z == 1) == (planted.answer < 0)).all()
    full = np.stack([*(x.ravel() for x in np.indices((SIDE, SIDE))), np.zeros(SIDE * SIDE, dtype=int)], axis=1)
    assert not [t for t in activation_maps(made(np.ones(SIDE * SIDE), full)).data if t.name == "no legal prompt"]


def test_small_maps_are_small_and_marked(planted):
    figure = small_map(planted, Marked("both in 0..10", "indirect", "top"), cells=20)
    assert figure.data[0].z.shape == (20, 20)
    assert np.nanmax(figure.data[0].z) == pytest.approx(100, abs=1)
    assert len(figure.data) == 2
    assert len(small_map(planted, ENDS_IN_8).data) == 1
    assert small_map(planted, ENDS_IN_8).data[0].z.shape == (40, 40)  # cell by cell: blocks would hide a residue


def test_red_is_above_zero_in_every_map():
    """All values positive: the scale is centred all the same, so the map is red, not the blue of a sequential scale."""
    neuron_map = made(np.full(len(legal()), 2.0), legal(), np.full(121, 0.5, dtype=np.float32))
    assert np.nanmin(neuron_map.kv) > 0
    for figure in (small_map(neuron_map), activation_maps(neuron_map)):
        axes = [axis for name, axis in figure.to_dict()["layout"].items() if name.startswith("coloraxis")]
        assert axes
        for axis in axes:
            assert axis["cmin"] == -axis["cmax"] < 0
            assert axis["autocolorscale"]  # then plotly takes the template's diverging scale
    for scheme in ("light", "dark"):
        below, _, above = (theme.template(scheme).layout.colorscale.diverging[i][1] for i in (0, 3, -1))
        red, _, blue = (int(above[i : i + 2], 16) for i in (1, 3, 5))
        assert red > blue
        assert int(below[1:3], 16) < int(below[5:7], 16)


# -- values, effects, steps --------------------------------------------------------------------------------------------


def test_extremes_are_the_largest_and_the_smallest():
    value = np.random.default_rng(0).normal(size=50)
    top, bottom = extremes(value, 10)
    assert value[top].tolist() == sorted(value, reverse=True)[:10]
    assert value[bottom].tolist() == sorted(value)[:10]
    assert extremes(value[:3], 10) == ([int(value[:3].argmax())], [int(value[:3].argmin())])
    figure = value_tokens(value)
    assert list(figure.data[0].y) == [str(n) for n in [*top, *bottom[::-1]]]
    line = value_line(value, "result = 1 mod 5")
    assert list(line.data[1].x) == list(range(1, 50, 5))
    assert len(value_line(value, "op1 = 3").data) == 1


def test_histograms_are_shares():
    rng = np.random.default_rng(0)
    effects, inside = rng.normal(size=400), rng.random(400) < 0.2
    figure = effect_histogram(effects, inside, name="H")
    assert [sum(t.y) for t in figure.data] == pytest.approx([1, 1])
    assert [sum(t.customdata) for t in figure.data] == [(~inside).sum(), inside.sum()]
    assert [s.x0 for s in figure.layout.shapes] == pytest.approx([effects[~inside].mean(), effects[inside].mean()])
    assert len(effect_histogram(effects, np.zeros(400, dtype=bool)).data) == 1
    both = drop_histogram(effects, inside)
    assert sum(sum(t.y) for t in both.data) == pytest.approx(1)
    assert len(drop_histogram(np.zeros(5), np.zeros(5, dtype=bool)).data) == 1


def test_steps_place_effects_and_labels():
    axis = StepAxis(("step0", "step10", "step100"), (0, 10, 100))
    effects = pd.DataFrame({
        "revision": ["step100", "step10"], "effect": [0.4, 0.1], "rank": [1, 9], "important": [True, False],
    })  # fmt: skip
    labels = pd.DataFrame({
        "revision": ["step10", "step100", "step100", "step100"], "heuristic": ["a", "a", "b", "c"],
        "score": [0.7, 0.8, 0.9, 0.3], "matched": [True, True, True, False],
    })  # fmt: skip
    assert kept_labels(labels) == ["a", "b"]
    figure = neuron_steps(axis, effects, labels, here="step100")
    at = axis.at(axis.ways[0])
    assert list(figure.data[0].x) == [at[1], at[2]]
    assert list(figure.data[0].y) == [0.1, 0.4]
    assert list(figure.data[0].marker.symbol) == ["circle-open", "circle"]
    assert sorted(zip(figure.data[1].y, figure.data[1].customdata, strict=True)) == [
        ("a", "step10"), ("a", "step100"), ("b", "step100"),
    ]  # fmt: skip
    assert {s.x0 for s in figure.layout.shapes} == {at[2]}
    assert isinstance(neuron_steps(axis, effects.head(0), labels.head(0)), go.Figure)


# -- words -------------------------------------------------------------------------------------------------------------


def test_words_quote_the_tables_and_the_map(planted):
    label = {
        "heuristic": "op2 = 8 mod 10", "kind": "indirect", "end": "top", "score": 0.93, "base_rate": 0.1, "q": 1e-6,
        "matched": True, "significant": True,
    }  # fmt: skip
    found = hits(planted, "op2 = 8 mod 10", "indirect", "top")
    text = where_active("L2N5", label, found)
    for said in (
        "L2N5’s activation is largest where op2 = 8 mod 10",
        f"{found.hit:,}",
        "score 0.93",
        "0.10",
        "significant at 0.01: q = 1e−6",
    ):
        assert said in text
    weak = where_active("L2N5", label | {"matched": False, "significant": False, "q": float("nan")}, found)
    assert weak.startswith("No heuristic describes L2N5 well enough")
    assert "not significant" in where_active("L2N5", label | {"significant": False, "q": 0.2}, None)
    assert "lowest" in where_active("L2N5", label | {"end": "bottom"}, None)
    assert "no label" in where_active("L2N5", None, None)


def test_words_on_what_it_writes_where_a_heuristic_holds(planted):
    held = neuron_hits.where(planted, "op2 = 8 mod 10")
    legal_cells = planted.answer >= 0
    text = inside(planted, held)
    assert f"averages {planted.k[held].mean():.2f} ({planted.k[legal_cells & ~held].mean():.2f} elsewhere)" in text
    written = planted.value[planted.answer[held]].mean()
    assert f"{written:+.2f}".replace("-", "−") in text
    assert inside(planted, legal_cells) == ""


def test_stripes_are_measured():
    for width, name in ((1, "op2 = 8 mod 10"), (10, "op1 in 20..30")):
        found = thickness(masks.mask(name, "+", 0, (400, 400)))
        assert found == pytest.approx(width, rel=0.05)
    assert thickness(np.zeros((5, 5), dtype=bool)) == 0


def test_words_on_values_and_effects():
    value = np.zeros(40)
    value[[3, 13]], value[7] = [0.4, 0.3], -0.5
    assert "3, 13" in writes(value)
    assert "+0.40" in writes(value)
    assert "−0.50" in writes(value)
    assert "raises" in matters(-0.02, 3, 512, 15, 3072, 4)
    assert "rank 3 of 512 in layer 4, 15 of the 3,072 measured" in matters(0.02, 3, 512, 15, 3072, 4)
    cases = Cases(np.array([1, 2]), np.array([3, 4]), np.array([4, 6]), np.array([4, 7]), np.array([0.1, 1.5]))
    assert "changes 1 of 2 right answers" in breaks(cases)
    assert "1.500 nats" in breaks(cases)
    none = Cases(*(np.empty(0, dtype=int) for _ in range(4)), np.empty(0))
    assert "no prompt" in breaks(none).lower()
