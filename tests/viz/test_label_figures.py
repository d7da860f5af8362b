"""Figures of labels, activation maps, ablations and failures show the tables' numbers where they belong."""

import numpy as np
import pandas as pd
import pytest
from viz import synthetic_neurons as made

from arithcirc.errors import RequestError
from arithcirc.viz import failures, gallery, heuristics, knockouts, masks, theme
from arithcirc.viz.frames import RunData

LABELS = made.heuristics()
DATA = RunData({"heuristics": LABELS, "neurons": made.neurons(), "unlabelled": made.unlabelled()})


def test_labelled_share_draws_both_shares_with_their_counts() -> None:
    matched, significant, structured = heuristics.labelled_share(made.label_summary()).data
    rows = made.label_summary()
    np.testing.assert_allclose(matched.y, rows["matched"] / rows["important"])
    np.testing.assert_allclose(significant.y, rows["significant"] / rows["important"])
    np.testing.assert_allclose(structured.y, rows["structured"] / rows["important"])
    assert len(heuristics.labelled_share(rows.drop(columns="structured")).data) == 2
    assert matched.text[0] == f"{rows['matched'][0]} of {rows['important'][0]}"


def test_family_shares_divide_by_the_important_neurons_of_the_layer() -> None:
    figure = heuristics.family_shares(DATA)
    plus = figure.data[0]
    assert list(plus.x) == ["3", "4", "5"]
    assert list(plus.y) == [theme.family_name(f) for f in theme.FAMILIES]
    np.testing.assert_allclose(plus.z[:5], 1 / made.TOP, rtol=1e-6)
    np.testing.assert_allclose(plus.z[5:], 0)
    assert heuristics.family_shares(DATA, kind="matched").data[0].z[5, 0] == pytest.approx(1 / made.TOP)


def test_without_the_neurons_table_every_neuron_that_was_labelled_counts() -> None:
    assert heuristics.important_by_layer(DATA, "/") == dict.fromkeys((2, 3, 4, 5), made.TOP)
    bare = RunData({"heuristics": LABELS[LABELS["matched"]], "unlabelled": made.unlabelled()})
    assert heuristics.important_by_layer(bare, "/") == dict.fromkeys((2, 3, 4, 5), made.TOP)


def test_scores_are_filled_when_significant_and_sampled_when_many() -> None:
    figure = heuristics.score_scatter(LABELS)
    points = [t for t in figure.data if t.mode == "markers" and t.x[0] is not None]
    assert sum(len(t.x) for t in points) == len(LABELS)
    filled = sum(len(t.x) for t in points if not t.marker.symbol.endswith("-open"))
    assert filled == LABELS["significant"].sum()
    assert "all 768" in figure.layout.title.text
    many = pd.concat([LABELS] * 30)
    few = heuristics.score_scatter(many)
    drawn = sum(len(t.x) for t in few.data if t.mode == "markers" and t.x[0] is not None)
    assert drawn <= 8 * heuristics.SHOWN
    assert f"{drawn:,} of {len(many):,} drawn" in few.layout.title.text


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("result in 20..30", (10, 10), (10, 20)),
        ("op2 = 8 mod 10", (1, 18), (18, 1)),
        ("op1 matches .5.", (50, 0), (5, 0)),
        ("op1 matches 1.5", (115, 0), (116, 0)),
        ("op1 = 42", (42, 1), (1, 42)),
        ("both in 0..10", (9, 9), (9, 10)),
        ("both = 3 mod 5", (3, 8), (3, 9)),
        ("op1 = op2", (7, 7), (7, 8)),
        ("result in {1, 2, 3}", (1, 2), (2, 2)),
    ],
)
def test_masks_hold_where_the_name_says(name: str, inside: tuple[int, int], outside: tuple[int, int]) -> None:
    where = masks.mask(name, "+", 0, (120, 120))
    assert where is not None
    assert where[inside]
    assert not where[outside]
    shifted = masks.mask(name, "+", 1, (119, 119))
    assert shifted is not None
    np.testing.assert_array_equal(shifted, where[1:, 1:])


def test_results_follow_the_operator_and_strange_names_have_no_mask() -> None:
    assert masks.result("/", np.array([9, 7]), np.array([2, 0])).tolist() == [4, -1]
    assert masks.result("*", np.array([9]), np.array([2])).tolist() == [18]
    assert masks.mask("something else", "+", 0, (4, 4)) is None
    assert [masks.fine(n) for n in ("op1 matches .5.", "op1 matches ..5", "op1 = 2 mod 3", "op1 = 42")] == [
        False, True, True, False,
    ]  # fmt: skip


def test_shrinking_takes_the_mean_of_what_is_there() -> None:
    values = np.array([[1.0, 3.0, np.nan], [np.nan, 2.0, np.nan], [5.0, np.nan, 7.0]])
    np.testing.assert_allclose(gallery.shrink(values, 2), [[2.0, np.nan], [5.0, 7.0]])
    np.testing.assert_allclose(gallery.shrink(values, 1), values)
    assert gallery.shrink(values, 2, largest=True)[0, 0] == 3


@pytest.mark.parametrize("operator", made.OPERATORS)
def test_gallery_draws_each_map_marked_where_its_heuristic_holds(operator: str) -> None:
    arrays = made.gallery_maps()
    figure = gallery.gallery_maps(made.gallery(), arrays, operator=operator, cells=30)
    maps = [t for t in figure.data if t.type == "heatmap"]
    assert len(maps) == gallery.MAPS
    assert "L4 N1: op2 = 8 mod 10" in figure.layout.annotations[1].text
    assert "score 0.90, base rate 0.100, q 1e−6" in figure.layout.annotations[1].text
    coarse, fine = np.array(maps[0].z, dtype=float), np.array(maps[1].z, dtype=float)
    assert coarse.shape == (30, 30)
    assert fine.shape == (gallery.CROP, gallery.CROP)
    assert np.nanmax(np.abs(coarse)) == np.nanmax(np.abs(fine)) == 100
    dots = next(t for t in figure.data if t.type == "scatter")
    assert set(np.array(dots.x) % 10) == {8}
    assert np.isfinite(fine[dots.y, dots.x]).all()
    outline = next(t for t in figure.data if t.type == "contour")
    inside = coarse[np.array(outline.z) > 0]
    assert np.nanmean(inside) > np.nanmean(coarse)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-100, 100)


def test_a_gallery_without_its_arrays_is_refused() -> None:
    with pytest.raises(RequestError, match=r"gallery\.safetensors"):
        gallery.gallery_maps(made.gallery(), {}, operator="+")


@pytest.mark.parametrize("ablation", made.ABLATIONS)
def test_knockout_scatter_pairs_inside_with_outside(ablation: str) -> None:
    table = made.knockouts_by_heuristic().sample(frac=1, random_state=1)
    figure = knockouts.knockout_scatter(table, ablation=ablation)
    plus = {t.legendgroup: t for t in figure.data if t.xaxis in (None, "x")}
    names = [name for name, *_ in made.LABELS]
    at = {n: i for i, n in enumerate(plus["targeted"].text)}
    for j, name in enumerate(names):
        inside = round(100 * (made.arm_accuracy("+", "targeted", "in", ablation) - 0.01 * j)) / 100
        outside = round(100 * (made.arm_accuracy("+", "targeted", "out", ablation) - 0.01 * j)) / 100
        assert plus["targeted"].y[at[name]] == pytest.approx(inside)
        assert plus["targeted"].x[at[name]] == pytest.approx(outside)
    assert plus["random"].marker.symbol.endswith("-open")
    assert len(plus["random"].x) == len(names)


def test_a_heuristic_without_prompts_outside_is_left_out() -> None:
    table = made.knockouts_by_heuristic()
    table.loc[(table["heuristic"] == "op1 = 42") & (table["where"] == "out"), "accuracy"] = np.nan
    assert "op1 = 42" not in set(knockouts.pairs(table, "zero")["heuristic"])


def test_a_heuristic_with_too_few_prompts_inside_is_left_out() -> None:
    table = made.knockouts_by_heuristic()
    of_value = (table["heuristic"] == "op1 = 42") & (table["where"] == "in")
    table.loc[of_value, "n"] = knockouts.FEWEST
    assert "op1 = 42" in set(knockouts.pairs(table, "zero")["heuristic"])
    table.loc[of_value, "n"] = knockouts.FEWEST - 1
    assert "op1 = 42" not in set(knockouts.pairs(table, "zero")["heuristic"])


def test_knockout_means_average_over_heuristics() -> None:
    figure = knockouts.knockout_means(made.knockouts_by_heuristic())
    bars = {t.legendgroup: t for t in figure.data if t.xaxis in (None, "x")}
    both = knockouts.pairs(made.knockouts_by_heuristic(), "mean").query("operator == '+' and arm == 'targeted'")
    bar = bars["its neurons, inside"]
    assert list(bar.text) == list(made.ABLATIONS)
    assert bar.y[1] == pytest.approx(both["accuracy_in"].mean())
    assert bar.error_y.array[1] == pytest.approx(2 * both["accuracy_in"].sem())
    assert bars["its neurons, outside"].marker.symbol == "circle-open"


@pytest.mark.parametrize("ablation", made.ABLATIONS)
def test_knockout_curves_have_every_arm_with_its_wilson_band(ablation: str) -> None:
    table = made.knockouts_by_prompt()
    figure = knockouts.knockout_curves(table.sample(frac=1, random_state=1), ablation=ablation)
    part = table.query("operator == '*' and arm == 'targeted' and ablation == @ablation")
    third = {t.legendgroup: t for t in figure.data if t.xaxis == "x3"}
    np.testing.assert_allclose(third["targeted"].y, part["accuracy"])
    np.testing.assert_allclose(third["targeted"].x, np.log2(1 + part["per_layer"]))
    band = third["neurons of the heuristics that apply, 95%"]
    np.testing.assert_allclose(band.y[: len(part)], part["high"])
    np.testing.assert_allclose(band.y[len(part) :][::-1], part["low"])
    assert {"targeted", "random", "not_applying"} <= set(third)
    assert "n = 50" in figure.layout.title.text


def test_controls_that_ablate_fewer_neurons_are_not_drawn() -> None:
    table = made.knockouts_by_prompt()
    table.loc[(table["arm"] == "random") & (table["per_layer"] >= 50), "neurons"] = 3.0
    table.loc[(table["arm"] == "not_applying") & (table["operator"] == "*"), "neurons"] = 0.0
    figure = knockouts.knockout_curves(table)
    third = {t.legendgroup: t for t in figure.data if t.xaxis == "x3"}
    np.testing.assert_allclose(third["random"].x, np.log2(1 + np.array([5, 10, 15, 20, 25])))
    assert len(third["targeted"].x) == 8
    assert "not_applying" not in third
    few = pd.concat([table, table[table["arm"] == "targeted"].assign(arm="targeted_as_few", neurons=2.0)])
    kept = knockouts.comparable(few[(few["operator"] == "+") & (few["ablation"] == "zero")])
    assert kept["arm"].value_counts().to_dict() == {
        "targeted": 8, "not_applying": 8, "targeted_as_few": 8, "random": 5,
    }  # fmt: skip


def test_failures_draw_each_prompt_once_with_the_rank_test() -> None:
    table = made.failures()
    figure = failures.failure_boxes(table, made.failure_tests())
    for measure, axis in (("neurons", "y2"), ("contribution", "y6")):
        boxes = [t for t in figure.data if t.yaxis == axis]
        assert [len(t.y) for t in boxes] == [50, 10]
        wrong = table.query("operator == '-' and not correct")
        np.testing.assert_allclose(boxes[1].y, wrong[measure])
    texts = [a.text for a in figure.layout.annotations]
    assert texts.count("not tested (n = 50 and 0)") == 2
    assert texts.count("rank test p = 2e−7") == 3
    assert len(failures.failure_boxes(table.drop(columns=["answer", "given"])).data) == 14


def test_tables_without_rows_or_columns_are_refused_by_name() -> None:
    for draw, table, name in (
        (
            knockouts.knockout_scatter,
            made.knockouts_by_heuristic().query("ablation == 'mean'"),
            "knockouts_by_heuristic",
        ),
        (knockouts.knockout_means, made.knockouts_by_heuristic().head(0), "knockouts_by_heuristic"),
        (knockouts.knockout_curves, made.knockouts_by_prompt().drop(columns="arm"), "knockouts_by_prompt"),
        (failures.failure_boxes, made.failures().head(0), "failures"),
        (heuristics.score_scatter, LABELS.drop(columns="q"), "heuristics"),
    ):
        with pytest.raises(RequestError, match=name):
            draw(table)
