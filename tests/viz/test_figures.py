"""Figures show the tables' numbers in the right cells, on the right scale, with the right words."""

import numpy as np
import pytest
from viz import synthetic

from arithcirc.errors import RequestError
from arithcirc.viz import effects, faithfulness, theme

EFFECTS = synthetic.effects()
FAITHFULNESS = synthetic.faithfulness()


@pytest.mark.parametrize("position", synthetic.POSITIONS)
@pytest.mark.parametrize("change", synthetic.CHANGES)
def test_head_heatmap_puts_every_head_in_its_cell(position: str, change: str) -> None:
    figure = effects.head_heatmap(EFFECTS, position=position, change=change)
    assert len(figure.data) == 4
    for operator, trace in zip(synthetic.OPERATORS, figure.data, strict=True):
        wanted = [
            [synthetic.head_effect(operator, change, position, layer, head) for head in range(synthetic.N_HEADS)]
            for layer in range(synthetic.N_LAYERS)
        ]
        np.testing.assert_allclose(trace.z, wanted, rtol=1e-6)
        assert list(trace.x) == list(range(synthetic.N_HEADS))
        assert theme.operator_title(operator) in trace.hovertemplate


def test_head_heatmap_does_not_depend_on_the_order_of_rows() -> None:
    shuffled = EFFECTS.sample(frac=1, random_state=3)
    for one, two in zip(effects.head_heatmap(EFFECTS).data, effects.head_heatmap(shuffled).data, strict=True):
        np.testing.assert_array_equal(one.z, two.z)


def test_missing_rows_are_gaps_and_not_zeros() -> None:
    kept = EFFECTS[~((EFFECTS["layer"] == 2) & (EFFECTS["head"] == 1) & (EFFECTS["operator"] == "+"))]
    z = effects.head_heatmap(kept, operators=["+"]).data[0].z
    assert np.isnan(z[2, 1])
    assert np.isnan(z).sum() == 1


def test_hover_keeps_the_raw_numbers() -> None:
    trace = effects.head_heatmap(EFFECTS, metric="E", operators=["+"]).data[0]
    raw = np.expm1(synthetic.head_effect("+", "any", "equals", 2, 1))
    np.testing.assert_allclose(trace.customdata[2, 1], [raw, raw / 2, 0.4 * raw, 100], rtol=1e-6)
    for word in ("mean", "median", "standard error", "n ="):
        assert word in trace.hovertemplate


def test_e_is_drawn_as_log10_of_one_plus_e() -> None:
    trace = effects.head_heatmap(EFFECTS, metric="E", operators=["+"]).data[0]
    # the synthetic E is exp(d) - 1, so log10(1 + E) = d / ln 10
    wanted = synthetic.head_effect("+", "any", "equals", 2, 1) / np.log(10)
    assert trace.z[2, 1] == pytest.approx(wanted, rel=1e-6)
    drawn = effects.drawn(np.array([-1.0, 0.0, 9.0, 1e15 - 1, np.inf]), "E")
    assert drawn[1:4] == pytest.approx([0, 1, 15])
    assert np.isfinite(drawn[0])
    assert np.isnan(drawn[4])


@pytest.mark.parametrize(("metric", "signed"), [("logit_diff", True), ("E", True), ("kl", False)])
def test_colour_scale_is_centred_at_zero_or_starts_there(metric: str, signed: bool) -> None:
    for figure in (effects.head_heatmap(EFFECTS, metric=metric), effects.mlp_heatmap(EFFECTS, metric=metric)):
        axis = figure.layout.coloraxis
        assert axis.cmin == (-axis.cmax if signed else 0)
        assert axis.cmax == pytest.approx(max(np.abs(t.z).max() for t in figure.data))
        assert axis.colorbar.title.text == theme.METRICS[metric].axis
        assert {t.coloraxis for t in figure.data} == {"coloraxis"}


def test_mlp_heatmap_has_positions_in_order() -> None:
    figure = effects.mlp_heatmap(EFFECTS, change="op2")
    for operator, trace in zip(synthetic.OPERATORS, figure.data, strict=True):
        wanted = [
            [synthetic.mlp_effect(operator, "op2", position, layer) for position in synthetic.POSITIONS]
            for layer in range(synthetic.N_LAYERS)
        ]
        np.testing.assert_allclose(trace.z, wanted, rtol=1e-6)
        assert list(trace.x) == ["op1", "operator", "op2", "="]


def test_carriers_give_each_head_three_bars() -> None:
    figure = effects.head_carriers(EFFECTS, top=3, operators=["-"])
    by_part = {trace.legendgroup: trace for trace in figure.data}
    assert set(by_part) == {"op1", "operator", "op2"}
    for (layer, head), part in synthetic.CARRIERS.items():
        name = f"L{layer}H{head}"
        for change, trace in by_part.items():
            value = trace.x[list(trace.y).index(name)]
            assert value == pytest.approx(synthetic.head_effect("-", change, "equals", layer, head))
            assert (value > 1) == (change == part)
    assert set(by_part["op1"].y) == {"L2H1", "L2H3", "L3H0"}
    assert by_part["op1"].error_x.array is not None


def test_asking_for_what_the_table_lacks_names_what_it_has() -> None:
    with pytest.raises(RequestError, match="operator") as caught:
        effects.head_heatmap(EFFECTS, position="bos")
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="no effects"):
        effects.head_carriers(EFFECTS[EFFECTS["change"] == "any"])
    with pytest.raises(RequestError, match="unknown measure"):
        faithfulness.faithfulness_curves(FAITHFULNESS, measure="nonsense")
    with pytest.raises(RequestError, match="no rows"):
        faithfulness.faithfulness_curves(FAITHFULNESS, operators=["%"])


def test_curves_are_the_ranked_rows_in_order_of_size() -> None:
    shuffled = FAITHFULNESS.sample(frac=1, random_state=1)
    figure = faithfulness.faithfulness_curves(shuffled, operators=["*"])
    line = next(t for t in figure.data if t.legendgroup == "evaluate")
    assert list(line.x) == [0, 1, 2, 3, 4, 6, 8, 12, 16, 24]
    np.testing.assert_allclose(line.y, [synthetic.faithfulness_value("*", n, "evaluate") for n in line.x])
    chosen = next(t for t in figure.data if t.legendgroup == "chosen")
    assert list(chosen.x) == [synthetic.CHOSEN["*"]]
    assert list(chosen.y) == pytest.approx([synthetic.faithfulness_value("*", 8, "evaluate")])


def test_random_band_is_the_range_over_draws() -> None:
    part = FAITHFULNESS[FAITHFULNESS["operator"] == "+"]
    band = faithfulness.random_band(part, "faithfulness").set_index("n_heads")
    assert band.loc[4].tolist() == pytest.approx([0.1, 0.0, 0.2, 5])
    assert faithfulness.random_band(part[part["circuit"] != "random"], "faithfulness").empty


@pytest.mark.parametrize("measure", list(faithfulness.MEASURES))
def test_every_measure_draws_with_its_reference_lines(measure: str) -> None:
    figure = faithfulness.faithfulness_curves(FAITHFULNESS, measure=measure, target=0.8)
    heights = {shape.y0 for shape in figure.layout.shapes}
    if measure.startswith("faithfulness"):
        assert heights == {0.8}
    else:
        whole = FAITHFULNESS[(FAITHFULNESS["circuit"] == "full") & (FAITHFULNESS["set"] == "evaluate")]
        assert float(whole[measure].iloc[0]) in heights


def test_one_wild_ratio_does_not_flatten_the_curves() -> None:
    wild = FAITHFULNESS.copy()
    wild.loc[0, "faithfulness"] = -400.0
    low, high = faithfulness.value_range(wild, "faithfulness")
    assert low >= -1.3
    assert high <= 2.3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_templates_are_transparent_and_scales_meet_the_page_at_zero(scheme: theme.Scheme) -> None:
    layout = theme.template(scheme).layout
    assert layout.paper_bgcolor == "rgba(0,0,0,0)"
    diverging = layout.colorscale.diverging
    assert diverging[len(diverging) // 2][0] == 0.5
    assert diverging[len(diverging) // 2][1] == layout.colorscale.sequential[0][1]


def test_the_toolbar_offers_no_upload() -> None:
    assert theme.PLOTLY_CONFIG["showSendToCloud"] is False
    assert theme.PLOTLY_CONFIG["displaylogo"] is False


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98312, "0.983"),
        (-0.25, "−0.250"),
        (-0.00001, "0.000"),
        (None, "–"),
        (float("nan"), "–"),
        (2.5e15, "2.50e+15"),
    ],
)
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert theme.number(value) == text
