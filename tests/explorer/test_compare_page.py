"""The page Compare: figures and counts of two sides, what may be compared, how B is chosen and kept in the address."""

import json
import shutil
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd
import pytest
from explorer.asking import Asker, asker
from viz import synthetic

from arithcirc.explorer.context import Context
from arithcirc.explorer.pages import compare_panels
from arithcirc.explorer.pages.compare_sides import Side, comparability, other, sides, swapped
from arithcirc.explorer.source import open_source
from arithcirc.explorer.view import View
from arithcirc.viz import comparison


@pytest.fixture(scope="module")
def folder(explorer_run, tmp_path_factory) -> Path:
    """Three runs: the planted one, one of another shape without heuristics, one of the same shape by another name."""
    root = tmp_path_factory.mktemp("compared")
    shutil.copytree(explorer_run.path, root / "one", ignore=shutil.ignore_patterns("*.safetensors"))
    lacking = shutil.ignore_patterns("heuristics.*", "label_summary.*", "knockouts*", "bag_*")
    wide = Path(shutil.copytree(root / "one", root / "wide", ignore=lacking))
    _facts(wide, n_heads=8, name="wide")
    effects = pd.read_parquet(wide / "effects.parquet")
    more = effects[effects["kind"] == "head"].assign(head=lambda rows: rows["head"] + 4)
    pd.concat([effects, more]).to_parquet(wide / "effects.parquet")
    shutil.copytree(root / "one", root / "named")
    _facts(root / "named", name="other")
    return root


def _facts(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["facts"]["model"] |= changes
    if "name" in changes:
        manifest["config"]["model"]["name"] = changes["name"]
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def ask(folder) -> Asker:
    return asker([folder])


def pair(context: Context, **choices: str) -> tuple[Side, Side]:
    view = View("compare", "one", op="+", choices=choices)
    return sides(context, view, context.library.open(view))


# -- figures ---------------------------------------------------------------------------------------------------------


def test_the_difference_is_b_minus_a_on_one_centred_scale():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 3))
    figure = comparison.effect_pair(a, b)
    drawn = [np.asarray(trace.z) for trace in figure.data]
    np.testing.assert_allclose(drawn[2], drawn[1] - drawn[0], rtol=1e-5)
    limit = max(float(np.abs(z).max()) for z in drawn)
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == pytest.approx((-limit, limit), rel=1e-6)
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}


def test_other_shapes_have_no_difference():
    figure = comparison.effect_pair(np.ones((5, 3)), np.ones((2, 4)))
    assert len(figure.data) == 2


def neurons(important: set[tuple[int, int]], *, scale: float = 1.0) -> pd.DataFrame:
    rows = [
        ("exact", "logit_diff", layer, n, scale * (layer - n), n + 1, (layer, n) in important)
        for layer in range(3)
        for n in range(20)
    ]
    names = ["method", "metric", "layer", "neuron", "effect", "rank", "important"]
    estimate = pd.DataFrame(rows, columns=names).assign(method="estimate", effect=99.0)
    return pd.concat([pd.DataFrame(rows, columns=names), estimate])


def test_shared_neurons_and_chance_are_counted_per_layer():
    first, second = {(0, n) for n in range(10)} | {(1, 3)}, {(0, n) for n in range(5, 20)} | {(2, 1)}
    both = comparison.matched_neurons(neurons(first), neurons(second, scale=2.0))
    assert len(both) == 60
    assert (both["effect_b"] == 2 * both["effect_a"]).all()
    counted = comparison.shared_by_layer(both).set_index("layer")
    assert counted["a"].tolist() == [10, 1, 0]
    assert counted["b"].tolist() == [15, 0, 1]
    assert counted["shared"].tolist() == [5, 0, 0]
    rng = np.random.default_rng(0)
    draws = [len(set(rng.choice(20, 10, replace=False)) & set(rng.choice(20, 15, replace=False))) for _ in range(4000)]
    assert counted["expected"][0] == pytest.approx(np.mean(draws), abs=0.1)
    text = compare_panels.overlap_words(counted.reset_index())
    assert text.startswith("Of 11 important neurons in A and 16 in B 5 are the same (intersection over union 0.23)")


def test_the_same_set_shares_everything_and_every_neuron_is_drawn_once():
    chosen = {(0, 1), (2, 7)}
    both = comparison.matched_neurons(neurons(chosen), neurons(chosen))
    counted = comparison.shared_by_layer(both)
    assert counted["shared"].sum() == counted["a"].sum() == 2
    for by in ("effect", "rank"):
        figure = comparison.neuron_pair(both, by=by)
        assert sum(len(trace.x) for trace in figure.data) == 60
        line = figure.layout.shapes[0]
        assert (line.x0, line.x1) == (line.y0, line.y1)
    effect = comparison.neuron_pair(both).data[0]
    x, true = np.asarray(effect.x), np.asarray(effect.customdata)[:, 2]
    np.testing.assert_allclose(np.sign(x) * x**2, true, atol=1e-5)


def test_curves_and_families_hold_each_sides_numbers():
    table = synthetic.faithfulness()
    rows = {name: table[table["operator"] == op] for name, op in (("A", "+"), ("B", "-"))}
    for trace, operator in zip(comparison.curve_pair(rows).data, "+-", strict=True):
        at = list(trace.x).index(synthetic.CHOSEN[operator])
        value = synthetic.faithfulness_value(operator, synthetic.CHOSEN[operator], "evaluate")
        assert trace.y[at] == pytest.approx(value)
        assert trace.marker.symbol[at] == "diamond-open"
    figure = comparison.family_pair({"A": {"modulo": 0.5}, "B": {"range": 0.25}})
    assert [list(trace.x) for trace in figure.data] == [[0.0, 0.5], [0.25, 0.0]]  # in the order of the families


def test_labels_are_counted_as_sets_of_neurons():
    def table(*pairs: tuple[int, str]) -> pd.DataFrame:
        rows = [(2, n, name, "modulo", True) for n, name in pairs]
        return pd.DataFrame(rows, columns=["layer", "neuron", "heuristic", "family", "matched"])

    a = table((1, "op1 = 0 mod 2"), (2, "op1 = 0 mod 2"), (2, "op1 = 0 mod 2"), (5, "op2 = 1 mod 3"))
    b = table((2, "op1 = 0 mod 2"), (9, "result = 2 mod 5"))
    rows = compare_panels.label_rows(a, b, "matched").set_index("heuristic")
    assert rows.loc["op1 = 0 mod 2", ["a", "b", "same", "difference"]].tolist() == [2, 1, 1, -1]
    assert rows.loc["op2 = 1 mod 3", ["a", "b", "same"]].tolist() == [1, 0, 0]
    assert rows.loc["result = 2 mod 5", ["a", "b", "same"]].tolist() == [0, 1, 0]
    assert "1 heuristics label neurons on both sides, 1 in A only, 1 in B only" in compare_panels.label_words(rows)
    alone = compare_panels.label_rows(a, None, "matched")
    assert alone["b"].sum() == alone["same"].sum() == 0


# -- sides -----------------------------------------------------------------------------------------------------------


def test_what_may_be_compared_is_said(ask):
    context = ask.context
    assert "two operators" in comparability(*pair(context, with_op="-"))
    assert "Both sides are the same" in comparability(*pair(context, **{"with": "one", "with_op": "+"}))
    assert "Different architectures (6 layers × 4 heads" in comparability(*pair(context, **{"with": "wide"}))
    assert "different models" in comparability(*pair(context, **{"with": "named"}))


def test_exchanging_twice_returns(ask):
    view = View("compare", "one", op="+", choices={"with": "wide", "with_op": "-"})
    a, b = sides(ask.context, view, ask.context.library.open(view))
    path, _, query = swapped(view, a, b).partition("?")
    turned = View.parse(path, query)
    assert (turned.run, turned.op) == ("wide", "-")
    assert (turned.choices["with"], turned.choices["with_op"]) == ("one", "+")
    c, d = sides(ask.context, turned, ask.context.library.open(turned))
    assert (c.where, d.where) == (b.where, a.where)
    again = dict(parse_qsl(swapped(turned, c, d).partition("?")[2]))
    assert again == {"run": "one", "op": "+", "with": "wide", "with_op": "-"}


def test_by_default_a_sweep_is_compared_with_the_checkpoint_before(planted_sweep):
    for revision, rival in (("step2000", "step1000"), ("step128", "step64"), ("step0", "step2000")):
        source = open_source("sweep", planted_sweep.path, revision=revision)
        assert other(View("compare", "sweep", op="+"), source).revision == rival
    page = asker([planted_sweep.path]).go("/compare?op=%2B&revision=step1000").calm().page
    assert "compare-with_revision" in page
    assert "Two checkpoints of" in page
    assert "compare-heads" in page


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_both_sides(ask):
    page = ask.go("/compare?run=one&op=%2B&with_op=-").calm().page
    for part in ("compare-curves", "compare-heads", "compare-neurons", "compare-overlap", "compare-families"):
        assert part in page
    assert "Of 24 important neurons in A and 24 in B 15 are the same" in page


def test_other_architectures_are_compared_as_far_as_they_go(ask):
    page = ask.go("/compare?run=one&op=%2B&with=wide&with_op=%2B").calm().page
    assert "Different architectures" in page
    assert "different shapes" in page
    assert "compare-curves" in page
    assert "compare-heads" in page
    assert "compare-neurons" not in page
    assert '"same"' not in page


@pytest.mark.parametrize("lost", ["effects", "neurons", "heuristics"])
def test_a_table_one_side_lacks_leaves_the_rest(lost, folder, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(folder / "one", tmp_path / name)
    (tmp_path / "two" / f"{lost}.parquet").unlink()
    page = asker([tmp_path]).go("/compare?run=one&op=%2B&with=two&with_op=%2B").calm().page
    assert "In numbers" in page
    assert "Labels that both or only one have" in page


def test_a_run_there_is_not_is_said_and_another_can_be_chosen(ask):
    page = ask.go("/compare?run=one&op=%2B&with=..%2F..%2Fetc").calm().page
    assert "no run is called" in page
    assert "compare-with" in page


@pytest.mark.slow
def test_in_the_browser_b_is_chosen_and_the_address_restores_it(browser, served):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    try:
        page.goto(f"{served}/compare?op=%2B")
        page.get_by_text("planted step4000, subtraction").wait_for(timeout=120_000)
        page.locator("#compare-with_op").get_by_text("×").click()
        page.get_by_text("planted step4000, multiplication").wait_for(timeout=120_000)
        assert "with_op=*" in page.url.replace("%2A", "*")
        page.get_by_text("rank in its layer").click()
        page.wait_for_function("() => location.search.includes('by=rank')", timeout=120_000)
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        page.get_by_text("planted step4000, multiplication").wait_for(timeout=120_000)
        chosen = page.locator("#compare-by input:checked").input_value()
        assert chosen == "rank"
    finally:
        page.close()
