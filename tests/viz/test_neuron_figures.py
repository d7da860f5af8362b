"""Figures of probes, neurons and heads show the tables' numbers where they belong."""

import numpy as np
import pandas as pd
import pytest
from viz import synthetic_neurons as made

from arithcirc.errors import RequestError
from arithcirc.viz import heads, neuron_curves, neurons, panels, probes, theme

PROBES, FIRST = made.probes(), made.first_layers()
CURVES = made.neuron_faithfulness()


def test_probe_heatmap_has_every_accuracy_in_its_cell_and_outlines_the_first_layer() -> None:
    figure = probes.probe_heatmap(PROBES.sample(frac=1, random_state=1), FIRST)
    for operator, trace, shape in zip(made.OPERATORS, figure.data, figure.layout.shapes, strict=True):
        wanted = [[made.probe_accuracy(operator, layer, p) for p in made.PLACES] for layer in range(made.LAYERS)]
        np.testing.assert_allclose(trace.z, wanted, rtol=1e-6)
        assert list(trace.x) == ["op1", "operator", "op2", "="]
        assert (shape.x0, shape.x1, shape.y0) == (2.5, 3.5, made.FIRST[operator] - 0.5)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)


def test_probe_at_equals_has_wilson_bars_base_rate_and_first_layer() -> None:
    figure = probes.probe_at_equals(PROBES, FIRST)
    by_group = {t.legendgroup: t for t in figure.data if t.xaxis == "x4"}
    line = by_group["probe"]
    low, high = made.wilson(round(400 * made.probe_accuracy("/", 3, "equals")), 400)
    assert line.y[3] - line.error_y.arrayminus[3] == pytest.approx(low)
    assert line.y[3] + line.error_y.array[3] == pytest.approx(high)
    assert set(by_group["base"].y) == {0.5}
    assert (by_group["first"].x[0], by_group["first"].y[0]) == (2, made.probe_accuracy("/", 2, "equals"))


def test_without_first_layers_and_optional_columns_the_probe_still_draws() -> None:
    bare = PROBES[["operator", "layer", "position", "accuracy"]]
    assert not probes.probe_heatmap(bare).layout.shapes
    assert len(probes.probe_at_equals(bare, FIRST[["operator"]]).data) == 8
    with pytest.raises(RequestError, match="accuracy"):
        probes.probe_heatmap(PROBES.drop(columns="accuracy"))
    with pytest.raises(RequestError, match="no rows"):
        probes.probe_at_equals(PROBES.head(0))


def test_agreement_draws_correlation_overlap_and_chance() -> None:
    table = made.neuron_agreement()
    figure = neurons.agreement(table.sample(frac=1, random_state=1))
    plus = [t for t in figure.data if t.legendgroup == "+"]
    part = table[table["operator"] == "+"]
    np.testing.assert_allclose(plus[0].y, part["spearman"])
    np.testing.assert_allclose(plus[1].y, part["overlap"])
    chance = [t for t in figure.data if t.legendgroup == "chance"]
    assert len(chance) == 4
    assert [t.showlegend for t in chance] == [True, False, False, False]
    assert {t.xaxis for t in chance} == {"x2"}
    assert len({(t.line.dash, t.marker.symbol) for t in figure.data if t.legendgroup in "+-*/"}) == 4


def test_no_overlap_is_drawn_where_no_neuron_has_an_effect() -> None:
    table = made.neuron_agreement()
    table.loc[table["layer"] == 0, "spearman"] = np.nan
    line = next(t for t in neurons.agreement(table).data if t.legendgroup == "+" and t.xaxis == "x2")
    assert np.isnan(line.y).tolist() == [True] + [False] * 5


def test_effect_curves_are_the_exact_effects_by_size() -> None:
    table = made.neurons()
    table.loc[table["layer"] == 0, "effect"] = 0.0
    figure = neurons.effect_curves(table)
    assert len(figure.data) == 4 * (made.LAYERS - 1)
    assert "next to no effect in layer 0" in figure.layout.title.text
    trace = next(t for t in figure.data if t.legendgroup == "layer 5")
    effects = sorted((made.neuron_effect("+", 5, n) for n in range(made.WIDTH)), key=lambda e: -abs(e))
    np.testing.assert_allclose(trace.customdata, [effects[r - 1] for r in trace.x], rtol=1e-5)
    np.testing.assert_allclose(trace.y, np.abs(trace.customdata))
    assert (trace.x[0], trace.x[-1]) == (1, made.WIDTH)
    negative = np.array(trace.customdata) < 0
    assert negative.any()
    np.testing.assert_array_equal(np.array(trace.marker.size) > 0, negative)


def test_long_layers_and_deep_models_are_thinned_with_their_ends_kept() -> None:
    ranks = neurons.log_ranks(14_336)
    assert len(ranks) <= neurons.POINTS
    assert (ranks[0], ranks[-1]) == (1, 14_336)
    shown = neurons.shown_layers(list(range(32)))
    assert len(shown) == neurons.LAYERS
    assert (shown[0], shown[-1]) == (0, 31)
    assert neurons.shown_layers([0, 1]) == [0, 1]


def test_overlap_is_symmetric_beside_what_is_expected() -> None:
    left, right = neurons.overlap_matrix(made.neuron_overlap()).data
    z = np.array(left.z)
    np.testing.assert_allclose(z, z.T)
    assert z[0, 3] == pytest.approx(0.5)
    assert np.isnan(np.diag(z)).all()
    assert right.z[1, 2] == pytest.approx(0.11)


@pytest.mark.parametrize("choice", neuron_curves.HEADS)
def test_neuron_curves_are_the_evaluate_rows_with_band_and_choice(choice: str) -> None:
    figure = neuron_curves.neuron_faithfulness(CURVES.sample(frac=1, random_state=1), heads=choice)
    second = {t.legendgroup: t for t in figure.data if t.xaxis == "x2"}
    exact = second["exact"]
    tops = [0, 1, 2, 4, 8, 16, 24, made.WIDTH]
    np.testing.assert_allclose(exact.x, np.log2(1 + np.array(tops)))
    np.testing.assert_allclose(exact.y, [made.kept_faithfulness("-", "exact", t) for t in tops])
    np.testing.assert_allclose(exact.error_y.array, 0.01)
    assert second["estimate"].line.dash != exact.line.dash
    np.testing.assert_allclose(second["random"].y, [made.kept_faithfulness("-", "random", t) for t in tops])
    band = second["random neurons, range"]
    around = np.array(band.y)
    np.testing.assert_allclose(around[: len(tops)] - around[len(tops) :][::-1], 0.08, atol=1e-12)
    assert second["chosen"].y[0] == pytest.approx(made.kept_faithfulness("-", "exact", made.TOP))
    named = [a for a in figure.layout.annotations if a.xref == "x2" and a.text == "8 per layer"]
    assert [a.x for a in named] == [pytest.approx(np.log2(1 + made.TOP))]


def test_the_axis_of_counts_shows_zero_and_does_not_crowd() -> None:
    figure = theme.facets(["+"])
    counts = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 512]
    panels.count_axis(figure, counts, "neurons")
    axis = figure.layout.xaxis
    assert axis.tickvals[axis.ticktext.index("0")] == 0
    assert "512" in axis.ticktext
    gaps = np.abs(np.diff(axis.tickvals))
    assert gaps.min() >= 0.11 * 9


def test_head_figures_show_the_circuit_only() -> None:
    figure = heads.head_attention(made.heads())
    for operator, trace in zip(made.OPERATORS, figure.data, strict=True):
        assert list(trace.y) == [f"L{layer}H{head}" for layer, head in made.IN_CIRCUIT[operator]]
        assert list(trace.x) == ["bos", "op1", "operator", "op2", "="]
    layer, head = made.IN_CIRCUIT["-"][1]
    assert figure.data[1].z[1, (layer + head) % 5] == pytest.approx(0.6)


def test_copies_are_accuracy_above_the_base_rate_on_a_centred_scale() -> None:
    figure = heads.head_copies(made.head_copies())
    minus = figure.data[1]
    assert list(minus.x) == ["op1", "operator", "op2", "result"]
    assert minus.z[0, 0] == pytest.approx(0.9)
    assert minus.z[2, 1] == pytest.approx(0.74)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1, 1)


def test_cuts_keep_their_order_with_the_uncut_model_on_top() -> None:
    figure = heads.head_cuts(made.head_cuts())
    assert figure.layout.yaxis.categoryarray[-1] == "nothing cut"
    trace = figure.data[2]
    at = list(trace.y).index("= ← op1")
    low, high = made.wilson(4, 100)
    assert trace.x[at] == 0.04
    assert trace.x[at] + trace.error_x.array[at] == pytest.approx(high)
    assert trace.x[at] - trace.error_x.arrayminus[at] == pytest.approx(low)


def test_number_responses_are_sorted_by_peak_in_per_cent_of_the_largest() -> None:
    response = made.number_responses()["response"]
    shuffled = np.random.default_rng(0).permutation(made.WIDTH)
    (trace,) = heads.number_responses(made.number_neurons(), response[:, shuffled]).data
    assert trace.z.dtype == np.int8
    assert (np.diff(np.abs(trace.z.astype(int)).argmax(axis=1)) >= 0).all()
    assert (np.abs(trace.z.astype(int)).max(axis=1) == 100).all()
    assert any(": op1 = 3 mod 5" in label for label in trace.y)
    assert len(heads.number_responses(None, response).data[0].y) == made.WIDTH
    assert len(heads.selective(np.tile(response, 3), 48)) == 48


def test_figures_without_rows_say_so() -> None:
    for draw, table in (
        (neurons.effect_curves, made.neurons().query("method == 'estimate'")),
        (heads.head_copies, made.head_copies().query("operator == 'all'")),
        (heads.head_cuts, made.head_cuts().head(0)),
        (neurons.overlap_matrix, pd.DataFrame({"operator": []})),
    ):
        with pytest.raises(RequestError) as caught:
            draw(table)
        assert "\n" not in str(caught.value)
