"""Page Sweep on a planted history: births where they were planted, the checkpoint marked, clicks that lead on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweep.synthetic_sweep import JUMPERS, NAME, STEPS

from arithcirc.catalogue import SweepFolder
from arithcirc.explorer.app import make_app
from arithcirc.explorer.context import Context
from arithcirc.explorer.pages import sweep, sweep_figures
from arithcirc.explorer.pages.sweep_figures import DRAWINGS, TIMELINE, Choices
from arithcirc.explorer.source import Source, open_source
from arithcirc.explorer.view import View
from arithcirc.viz.emergence.axis import StepAxis
from arithcirc.viz.emergence.data import read_sweep
from arithcirc.viz.emergence.timeline import birth_timeline


@pytest.fixture(scope="module")
def context(planted_sweep: SweepFolder) -> Context:
    return make_app([planted_sweep.path])


def source(folder: SweepFolder, revision: str = "") -> Source:
    return open_source("planted", folder.path, NAME, revision)


def choices(**changed: str) -> Choices:
    held = {"model": NAME, "operator": "+", "prompts": "shared", "labels": "significant", "scale": "log",
            "rows": "heuristics", "where": "equals"}  # fmt: skip
    return Choices(**(held | changed))


def page(context: Context, folder: SweepFolder, revision: str = "", query: str = "") -> str:
    """The page as the browser gets it."""
    at = source(folder, revision)
    view = View.parse("/sweep", f"run=planted&model={NAME}&revision={at.checkpoint.revision}&op=%2B&{query}")
    return json.dumps(sweep.layout(context, view, at).to_plotly_json(), default=lambda o: getattr(
        o, "to_plotly_json", lambda: str(o))())  # fmt: skip


def test_births_stand_where_they_were_planted(planted_sweep: SweepFolder) -> None:
    data = read_sweep(planted_sweep)
    figure = birth_timeline(data, NAME, "significant", "+")
    discs = {(c[0], c[1]): c[2] for trace in figure.data for c in trace.customdata}
    for heuristic, place in JUMPERS.items():
        assert discs[heuristic, f"step{STEPS[place]}"] >= 1
    births = data.tables["births"]
    stays = births[(births["operator"] == "+") & (births["labels"] == "significant") & (births["fate"] == "stays")]
    assert sum(discs.values()) == stays["birth"].notna().sum()
    families = birth_timeline(data, NAME, "significant", "+", "families")
    assert sum(c[2] for trace in families.data for c in trace.customdata) == sum(discs.values())
    assert list(figure.layout.yaxis.categoryarray)[-1] in {h for (h, r) in discs if r == "step64"}  # first born on top


def test_the_line_marks_the_checkpoint_and_nothing_else_changes(planted_sweep: SweepFolder) -> None:
    axis = StepAxis(tuple(f"step{s}" for s in STEPS), STEPS)
    for way in ("log", "even", "linear"):
        chosen = choices(scale=way)
        for place, revision in enumerate(axis.revisions):
            at = source(planted_sweep, revision)
            for drawing in (DRAWINGS[0], DRAWINGS[2], TIMELINE):
                figure = sweep_figures.drawn(at, drawing, chosen)
                assert figure is not None
                spread = "even" if drawing.key == "families" else way
                (x,) = {s["x0"] for s in figure["layout"]["shapes"] if s["x0"] == s.get("x1")}
                assert x == pytest.approx(axis.at(spread)[place])
                other = sweep_figures.drawn(source(planted_sweep), drawing, chosen)
                assert other is not None
                assert other["data"] is figure["data"]


def test_the_effect_map_is_that_of_the_checkpoint_on_colours_of_all(planted_sweep: SweepFolder) -> None:
    data = read_sweep(planted_sweep)
    limits = set()
    for revision in ("step0", "step256", "step2000"):
        figure = sweep_figures.effect_map(source(planted_sweep, revision), choices())
        assert figure is not None
        limits.add((figure["layout"]["coloraxis"]["cmin"], figure["layout"]["coloraxis"]["cmax"]))
        rows = data.rows("effects", model=NAME, revision=revision, operator="+", prompts="shared", kind="head")
        said = [note["text"] for note in figure["layout"].get("annotations", ())]
        assert ("no circuit at this checkpoint" in said) == rows.empty
    assert len(limits) == 1


@pytest.mark.parametrize("revision", ["step0", "step256", "step2000"])
def test_every_checkpoint_and_choice_draws(context: Context, planted_sweep: SweepFolder, revision: str) -> None:
    text = page(context, planted_sweep, revision)
    for said in ("What the sweep says", "Birth of each heuristic", "Tasks: 11 of 14 done", "weights of step1000"):
        assert said in text
    assert f"'{revision}'" in text  # the row of the checkpoint is marked
    for query in (
        "across=all",
        "prompts=own&labels=matched",
        "scale=linear&rows=families&where=mlps",
        "rows=<b>&across=%00",
    ):
        assert "Accuracy over training" in page(context, planted_sweep, revision, query)


def test_tables_that_lack_leave_their_figures_out(planted_sweep: SweepFolder, tmp_path: Path) -> None:
    copy = SweepFolder.open(shutil.copytree(planted_sweep.path, tmp_path / "part"))
    for name in ("births", "overlap", "verdict", "effects", "tasks", "jumps", "families"):
        (copy.path / "tables" / f"{name}.parquet").unlink()
    text = page(make_app([copy.path]), copy)
    assert "no table 'verdict'" in text
    assert "no table 'tasks'" in text
    assert "No pair with" in text
    assert "Pairs born and pairs lost" not in text
    assert "Accuracy over training" in text


def test_a_table_written_again_is_drawn_again(planted_sweep: SweepFolder, tmp_path: Path) -> None:
    copy = SweepFolder.open(shutil.copytree(planted_sweep.path, tmp_path / "again"))
    before = sweep_figures.drawn(source(copy), DRAWINGS[0], choices())
    file = copy.path / "tables" / "steps.parquet"
    steps = pd.read_parquet(file)
    steps.assign(accuracy=0.5).to_parquet(file, index=False)
    after = sweep_figures.drawn(source(copy), DRAWINGS[0], choices())
    assert before is not None
    assert after is not None
    assert before["data"] != after["data"]


@pytest.mark.slow
def test_rows_figures_and_keys_lead_to_checkpoints_and_neurons(
    browser: Any, explorer: Callable[..., str], planted_sweep: SweepFolder
) -> None:
    address = explorer(planted_sweep.path)
    window = browser.new_context(viewport={"width": 1280, "height": 800})
    page, wrong = window.new_page(), []
    page.on("console", lambda m: wrong.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.goto(f"{address}/sweep?op=%2B")
    page.locator("#sweep-checkpoints .ag-row").nth(3).click()
    page.wait_for_url("**revision=step256**")
    shown(page, "#frame-step-name", "step256")
    page.locator("#frame-step [role=slider]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**revision=step512**")
    shown(page, "#sweep-map", "Patching effect at step512")
    page.locator("#sweep-labels").get_by_text("matched").click()
    page.wait_for_url("**labels=matched**")
    page.keyboard.press("Escape")
    page.locator("#frame-step [role=slider]").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**revision=step256**")
    assert "labels=matched" in page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    plot = page.locator(".js-plotly-plot").filter(has=page.locator(".scatterlayer")).first
    plot.scroll_into_view_if_needed()
    assert wrong == []
    window.close()


def shown(page: Any, where: str, text: str) -> None:
    """Wait until a part of the page says so."""
    page.locator(where).filter(has_text=text).wait_for(timeout=120_000)
