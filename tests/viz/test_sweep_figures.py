"""Figures over checkpoints: what is drawn is what the tables hold, at the place of its checkpoint."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from sweep.synthetic_sweep import STEPS
from sweep.synthetic_tables import head_effect, kept_share, knocked_out

from arithcirc.catalogue import SweepFolder
from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.emergence import births, figure10, growth, jumps, maps, words
from arithcirc.viz.emergence.axis import StepAxis, dress, spread
from arithcirc.viz.emergence.data import SweepData, read_sweep
from arithcirc.viz.emergence.lines import Style, line
from arithcirc.viz.emergence.plates import page_selectors, stems

MODEL = "toy-arith"
SHOWN = ("shared", "significant")


@pytest.fixture(scope="module")
def sweep(planted_sweep: SweepFolder) -> SweepFolder:
    return planted_sweep


@pytest.fixture(scope="module")
def data(sweep: SweepFolder) -> SweepData:
    return read_sweep(sweep)


def trace(figure: go.Figure, name: str, panel: int = 1) -> go.Scatter:
    axis = "x" if panel == 1 else f"x{panel}"
    return next(t for t in figure.data if t.name == name and t.xaxis == axis and t.fill is None)


def test_steps_lie_where_the_axis_says() -> None:
    axis = StepAxis(("a", "b", "c", "d"), (0, 64, 128, 143000))
    assert axis.ways[0] == "log"
    np.testing.assert_allclose(axis.at("log"), np.log2(1 + np.array([0, 1, 2, 143000 / 64])))
    np.testing.assert_array_equal(axis.at("linear"), [0, 64, 128, 143000])
    assert axis.ticks("linear", 4) == ([143000.0, 0.0], ["143k", "0"])
    assert StepAxis(("a", "b"), (1000, 2000)).ways[0] == "linear"


@pytest.mark.parametrize("steps", [(None, None), (3, None), (5, 5), (9, 1)])
def test_revisions_without_growing_steps_are_spread_evenly(steps: tuple[int | None, int | None]) -> None:
    axis = StepAxis(("one", "two"), steps)
    assert axis.ways == ["even"]
    np.testing.assert_array_equal(axis.at("log"), [0, 1])


def test_ticks_never_touch_and_end_at_the_last() -> None:
    steps = (0, *(2**i for i in range(10)), *range(1000, 144000, 1000))
    axis = StepAxis(tuple(f"step{s}" for s in steps), steps)
    for way in axis.ways:
        at, texts = axis.ticks(way, 4)
        span = float(axis.at(way)[-1] - axis.at(way)[0])
        assert texts[0] == "143k"
        assert 3 <= len(at) <= 8
        assert min(-np.diff(at)) >= 0.13 * span


def test_a_dressed_figure_spreads_ordinals_to_positions() -> None:
    axis = StepAxis(("a", "b", "c"), (0, 10, 1000))
    figure = dress(go.Figure(go.Scatter(x=[0, 1, 1.5, 2], y=[1, 2, 3, 4])), axis, panels=1)
    assert list(spread(figure, "linear").data[0].x) == [0, 10, 505, 1000]


def test_points_without_prompts_are_hollow_and_missing_ones_are_gaps() -> None:
    axis = StepAxis(("a", "b", "c"), (0, 1, 2))
    rows = pd.DataFrame({"place": [0, 2], "y": [0.5, 0.7], "n": [9, 10]})
    figure = theme.facets(["+"])
    line(figure, 1, axis, rows, "y", Style("it", "#000000"))
    (drawn,) = figure.data
    assert drawn.marker.symbol == ("circle-open", "circle", "circle")
    np.testing.assert_array_equal(np.isnan(drawn.y), [False, True, False])
    assert drawn.connectgaps is None


def test_overlap_draws_the_shares_and_their_chance(data: SweepData) -> None:
    figure = figure10.overlap_curves(data, MODEL, *SHOWN)
    rows = data.rows("overlap", model=MODEL, operator="+", prompts="shared", what="pairs", labels="significant")
    np.testing.assert_allclose(trace(figure, "(neuron, heuristic) pairs").y, rows["share"])
    np.testing.assert_allclose(trace(figure, "(neuron, heuristic) pairs: chance").y, rows["expected"])
    neurons = data.rows("overlap", model=MODEL, operator="+", prompts="shared", what="neurons")
    np.testing.assert_allclose(trace(figure, "important neurons").y, neurons["share"])
    assert not np.allclose(neurons["share"], rows["share"])


def test_steps_without_a_circuit_and_failed_ones_are_marked(data: SweepData) -> None:
    figure = figure10.overlap_curves(data, MODEL, *SHOWN)
    assert list(trace(figure, "no circuit").x) == [0]
    assert list(trace(figure, "task failed", 2).x) == [STEPS.index(1000)]
    assert "cut short" in trace(figure, "task failed", 2).text[0]
    assert np.isnan(trace(figure, "important neurons", 2).y[STEPS.index(1000)])


def test_kept_neurons_are_drawn_beside_random_ones(data: SweepData) -> None:
    figure = figure10.kept_curves(data, MODEL, *SHOWN, "faithfulness", "all")
    expected = [kept_share(place, rival=False) for place in range(1, 7)]
    np.testing.assert_allclose(trace(figure, "kept: with a pair of the reference").y[1:], expected)
    np.testing.assert_allclose(trace(figure, "random neurons, as many as kept").y[1:], 0.25)
    (band, *_) = [t for t in figure.data if t.fill == "toself" and t.xaxis == "x"]
    assert (min(band.y), max(band.y)) == pytest.approx((0.23, 0.27))
    assert list(band.x) == [1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("per_layer", ["5", "25"])
def test_ablations_are_drawn_for_the_size_asked(data: SweepData, per_layer: str) -> None:
    figure = figure10.knockout_curves(data, MODEL, *SHOWN, per_layer, "zero")
    for arm, rival in (("kept", False), ("new", True)):
        expected = round(knocked_out(arm, int(per_layer), rival) * 50) / 50
        drawn = trace(figure, figure10.ARMS[arm].name, 2 if rival else 1)
        assert drawn.y[1] == pytest.approx(expected)
        assert drawn.error_y.array[1] == pytest.approx(min(1.0, expected + 0.1) - expected)


def test_families_stack_to_the_table(data: SweepData) -> None:
    figure = growth.family_bars(data, MODEL, "own", "significant", "pairs")
    table = data.rows("families", model=MODEL, operator="+", prompts="own", labels="significant")
    stacked = np.nansum([t.y for t in figure.data if t.xaxis == "x"], axis=0)
    np.testing.assert_array_equal(stacked, table.groupby("place")["pairs"].sum().reindex(range(7), fill_value=0))
    assert stacked.sum() > 0


def test_circuits_have_their_sizes(data: SweepData) -> None:
    figure = growth.circuit_curves(data, MODEL, "own", "heads")
    np.testing.assert_array_equal(trace(figure, "heads in the circuit").y[1:], [2, 3, 4, 5, 6, 6])


def test_births_and_deaths_are_counted_where_they_happen(data: SweepData) -> None:
    figure = births.birth_bars(data, MODEL, "significant")
    table = data.tables["births"]
    rows = table[(table["operator"] == "+") & (table["labels"] == "significant")]
    bars = np.sum([t.y for t in figure.data if t.xaxis == "x"], axis=0)
    born = [int((rows["birth"] == step).sum()) for step in STEPS]
    gone = rows[rows["fate"].isin(["dies", "flickers"])]
    died = [0, *(int((gone["last"] == step).sum()) for step in STEPS[:-1])]
    np.testing.assert_array_equal(bars, np.array(born) - np.array(died))
    assert sum(born) > 20
    assert sum(died) > 0


def test_the_raster_is_a_staircase(data: SweepData) -> None:
    figure = births.birth_raster(data, MODEL, "significant")
    grid = np.array(next(t for t in figure.data if t.type == "heatmap").z)
    full = (grid > 0) & (grid % 2 == 0)
    birth = full.argmax(axis=1)
    assert (np.diff(birth) >= 0).all()
    assert all(row[b:].all() and not row[:b].any() for row, b in zip(full, birth, strict=True))
    (found,) = [f for f in births.fates(data, MODEL, "significant") if f.operator == "+"]
    assert found.stays == len(grid)
    assert found.total == found.stays + found.dies + found.flickers + found.left


def test_frames_hold_the_effects_of_every_checkpoint(data: SweepData) -> None:
    figure = maps.effect_frames(data, MODEL, "own", "equals")
    frames = figure.layout.meta["frames"]
    assert frames["labels"] == [f"step {s:,}" for s in STEPS]
    for place in (1, 6):
        values = np.frombuffer(base64.b64decode(frames["z"][place][0]["bdata"]), dtype="<f4").reshape(4, 4)
        expected = [[head_effect(place, layer, head) for head in range(4)] for layer in range(4)]
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    missing = np.frombuffer(base64.b64decode(frames["z"][5][1]["bdata"]), dtype="<f4")
    assert np.isnan(missing).all()  # the failed task
    said = {(i, j): text for i, panels in enumerate(frames["said"]) for j, text in enumerate(panels) if text}
    assert said == {(0, 0): maps.NO_CIRCUIT, (0, 1): maps.NO_CIRCUIT, (5, 1): "the task failed here"}
    assert {a.range for a in (figure.layout.xaxis, figure.layout.xaxis2, figure.layout.yaxis)} == {(-0.5, 3.5)}
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax


def test_maps_in_files_are_those_of_the_reference(data: SweepData) -> None:
    early = replace(data.models[0], reference="step512")
    moved = SweepData(tables=data.tables, models=(early,), manifest=data.manifest)
    figure = maps.still(maps.effect_frames(moved, MODEL, "own", "equals"))
    assert figure.layout.title.text.endswith(": step 512")
    assert "frames" not in figure.layout.meta
    place = STEPS.index(512)
    expected = [[head_effect(place, layer, head) for head in range(4)] for layer in range(4)]
    np.testing.assert_allclose(np.array(figure.data[0].z, dtype=np.float64), expected, rtol=1e-6)
    assert stems(data, "maps", "equals") == ["maps_equals"]


@pytest.mark.parametrize("draw", ["overlap", "kept", "knockouts"])
def test_every_line_says_how_many_prompts_are_behind_its_points(data: SweepData, draw: str) -> None:
    figure = {
        "overlap": lambda: figure10.overlap_curves(data, MODEL, *SHOWN),
        "kept": lambda: figure10.kept_curves(data, MODEL, *SHOWN, "faithfulness", "all"),
        "knockouts": lambda: figure10.knockout_curves(data, MODEL, *SHOWN, "25", "zero"),
    }[draw]()
    lines = [t for t in figure.data if t.fill is None and t.name not in ("no circuit", "task failed")]
    assert len(lines) > 4
    assert [t.name for t in lines if "n = " not in t.hovertemplate and " prompts" not in t.hovertemplate] == []


def test_the_event_study_draws_means_at_their_offsets(data: SweepData) -> None:
    figure = jumps.event_study(data, MODEL, "significant")
    table = data.tables["jumps"]
    rows = table[(table["operator"] == "+") & (table["labels"] == "significant") & (table["heuristic"] == jumps.ALL)]
    drawn = trace(figure, "mean over heuristics, 95%")
    rows = rows[rows["difference"].notna()].sort_values("offset")
    assert list(drawn.x) == rows["offset"].tolist()
    np.testing.assert_allclose(drawn.y, rows["difference"])


def test_few_significant_pairs_put_matched_labels_first(data: SweepData) -> None:
    assert list(data.label_order) == ["significant", "matched"]
    steps = data.tables["steps"].assign(pairs_significant=1)
    poor = SweepData(tables={**data.tables, "steps": steps}, models=data.models, manifest=data.manifest)
    assert list(poor.label_order) == ["matched", "significant"]
    assert {name: first for name, _, first in page_selectors(poor)}["labels"] == "matched"


def test_tables_that_are_not_there_are_refused_by_name(tmp_path: Path, data: SweepData) -> None:
    empty = SweepData(tables={}, models=data.models, manifest=data.manifest)
    for draw in (
        lambda: figure10.overlap_curves(empty, MODEL, *SHOWN),
        lambda: births.birth_bars(empty, MODEL, "matched"),
        lambda: jumps.event_study(empty, MODEL, "matched"),
        lambda: maps.effect_frames(empty, MODEL, "own", "mlps"),
    ):
        with pytest.raises(RequestError):
            draw()
    assert words.findings(empty)["kept"] == []


def test_heuristics_with_few_prompts_are_not_among_the_points(data: SweepData) -> None:
    table = data.tables["jumps"]
    few = table.assign(n_in=table["n_in"].where(table["heuristic"] == jumps.ALL, jumps.FEWEST - 1))
    poor = SweepData(tables={"jumps": few}, models=data.models, manifest=data.manifest)
    drawn = {t.name for t in jumps.event_study(poor, MODEL, "significant").data}
    assert drawn == {"mean over heuristics, 95%"}
    assert {t.name for t in jumps.event_study(data, MODEL, "significant").data} == drawn | {"single heuristics"}
