"""A sweep's page: what it claims is in the tables, gaps are named, nothing is fetched, every choice draws."""

import base64
import html
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report.grown_sweep import grow, made, repeat
from report.pages import HOSTILE, open_page, words

from arithcirc.catalogue import SweepFolder
from arithcirc.report import render_report, write_report
from arithcirc.report.sweep_notes import amount, undrawn, used_settings
from arithcirc.viz.emergence.data import read_sweep
from arithcirc.viz.emergence.plates import PLATES


@pytest.fixture(scope="module")
def sweep(planted_sweep: SweepFolder, tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return SweepFolder.open(shutil.copytree(planted_sweep.path, tmp_path_factory.mktemp("sweep") / "sweep"))


@pytest.fixture(scope="module")
def report(sweep: SweepFolder) -> Path:
    return write_report(sweep)


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return report.read_text(encoding="utf-8")


def bare(path: Path, *tables: str, name: str = "toy-arith") -> SweepFolder:
    """A sweep without tasks on disk and with these tables only, empty ones but for `tasks`."""
    revisions = [{"revision": f"step{s}", "step": s} for s in (0, 64, 128)]
    model = {"model": name, "name": name, "revisions": revisions, "reference": "step128", "reference_note": None}
    manifest = {
        "schema": 1,
        "models": [model],
        "operators": "+",
        "command": "arithcirc sweep M --out=runs/x --stages circuit",
    }
    folder = SweepFolder(path, manifest)
    folder.save()
    (path / "tables").mkdir()
    rows = [(name, "step0", 0, "+", "no circuit", HOSTILE), (name, "step64", 64, "+", "failed", "cut | short")]
    table = pd.DataFrame(rows, columns=["model", "revision", "step", "operator", "status", "reason"])
    for table_name in tables:
        table.to_parquet(path / "tables" / f"{table_name}.parquet", index=False)
    return folder


def test_the_answers_are_those_of_the_table(sweep: SweepFolder, page: str) -> None:
    text = words(page)
    verdict = sweep.table("verdict")
    assert len(verdict) == 6
    for row in verdict.to_dict("records"):
        assert " ".join(row["detail"].replace("%", " %").split()) in text
    assert "− subtraction yes" in text
    assert "7 checkpoints, step 0 to 2,000, compared with step 2,000" in text
    assert "11 of 14 tasks done, 2 without a circuit, 1 failed" in text
    assert "− subtraction step 1,000 failed weights of step1000 cannot be read: the file is cut short" in text
    assert "+ addition step 0 no circuit no prompt is answered correctly" in text


@pytest.mark.parametrize(
    ("question", "value", "chance", "detail", "said"),
    [
        ("early", 0.2253, 0.0109, "At step 7, 23% of the pairs", "23% of pairs (chance 1.1%)"),
        ("early", 0.0, np.nan, "", "0% of pairs"),
        ("carried", 2 / 3, np.nan, "costs more at 6 of the 9 steps (gap 0.2 of 1)", "6 of 9 steps"),
        ("carried", 1.0, np.nan, "costs more at all 6 steps that can show it", "6 of 6 steps"),
        ("rival", 0.5, np.nan, "Of 6 steps before step 7, 3 show a sign: 0.19 of the 0.79", "3 of 6 early steps"),
        ("rival", 0.5, np.nan, "Half of them show 0.19 of the 0.79", "50% of early steps"),
        ("carried", np.nan, np.nan, "Not known: only 1 of 3 was measured.", ""),
    ],
)
def test_numbers_of_answers_say_what_they_count(
    question: str, value: float, chance: float, detail: str, said: str
) -> None:
    assert amount(question, {"statistic": value, "chance": chance, "detail": detail}) == said


def test_lines_that_tables_do_not_hold_are_named(sweep: SweepFolder, page: str) -> None:
    assert "so not drawn" not in words(page)
    data = read_sweep(sweep)
    table = data.tables["knockouts_by_prompt"]
    old = replace(data, tables={**data.tables, "knockouts_by_prompt": table[table["arm"] != "random_new"]})
    assert list(undrawn(old)) == ["knockouts"]
    assert "so not drawn: random, as many as new." in undrawn(old)["knockouts"]


def test_the_reference_is_set_against_the_checkpoint_before_it(sweep: SweepFolder, page: str) -> None:
    table = sweep.table("overlap")
    held = {"prompts": "shared", "what": "pairs", "labels": "significant", "operator": "+", "step": 1000}
    (share,) = table[np.logical_and.reduce([table[k] == v for k, v in held.items()])]["share"]
    assert f"+ addition {share:.0%} at step 1,000" in words(page)


def test_what_a_sweep_does_not_read_is_not_among_its_settings() -> None:
    settings = {"stages": "heuristics", "probe": {"batch": 1}, "knockout": {"by_prompt": 50, "failures": 2}}
    assert used_settings({"settings": settings}) == {"probe": {"batch": 1}, "knockout": {"by_prompt": 50}}
    assert used_settings({"settings": settings | {"stages": "circuit"}}) == {}


def test_every_figure_is_there_and_nothing_is_missing(page: str) -> None:
    assert set(re.findall(r'<figure data-group="(\w+)"', page)) == {plate.key for plate in PLATES}
    assert "Not computed yet" not in page
    assert "left out to keep the page light;" not in page


def test_links_lead_to_files_that_say_the_same(sweep: SweepFolder, page: str) -> None:
    links = re.findall(r'href="(tables/[^"]+)"', page)
    assert len(links) == 2 * len(sweep.tables())
    assert all((sweep.path / link).is_file() for link in links)
    csv = pd.read_csv(sweep.path / "tables" / "steps.csv")
    pd.testing.assert_series_equal(csv["accuracy"], sweep.table("steps")["accuracy"])


def test_missing_tables_are_named_with_a_command_that_makes_them(tmp_path: Path) -> None:
    text = words(render_report(bare(tmp_path / "sweep", "tasks")))
    assert "This sweep does not hold everything" in text
    assert "1 of its tasks have not run" in text
    assert "Make it with arithcirc sweep M --stages=heuristics --out=OTHER" in text
    assert "Make it with arithcirc sweep M --stages=circuit --out=OTHER" in text


def test_a_sweep_without_any_table_has_a_page(tmp_path: Path) -> None:
    text = words(render_report(bare(tmp_path / "sweep")))
    assert "3 tasks" in text
    assert "No tables yet" in text


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    page = render_report(bare(tmp_path / "sweep", "tasks", name=HOSTILE))
    assert HOSTILE not in page
    assert "<img" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    markup = re.sub(r"<script\b[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", markup)
    assert "default-src 'none'" in html.unescape(markup)
    assert page.count("plotly.js v") == 1


@pytest.mark.slow
def test_the_page_of_a_long_sweep_of_two_models_stays_light(tmp_path: Path) -> None:
    folder = repeat(grow(made(tmp_path / "sweep", "+-*/"), 24), "other/arith")
    page = render_report(folder)
    assert len(page.encode()) < 10_000_000
    assert "24 checkpoints, step 0 to 143,000, compared with step 143,000; other/arith: 24 checkpoints" in words(page)
    assert set(re.findall(r'<figure data-group="(\w+)"', page)) == {plate.key for plate in PLATES}


def check_drawn(page: Any, size: tuple[int, int], scheme: str) -> None:
    """Every figure is drawn, as wide as the window allows, in the colours asked for."""
    figures = page.locator("figure[data-group]")
    assert figures.count() == len(PLATES)
    for i in range(figures.count()):
        assert figures.nth(i).locator("svg.main-svg").count() >= 1
        assert figures.nth(i).locator(".trace, .heatmaplayer image, .barlayer path").count() >= 1
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    ink = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ink == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.browser
@pytest.mark.slow
def test_opens_in_the_dark(browser: Any, report: Path) -> None:
    page, wrong = open_page(browser, report, (1920, 1080), "dark")
    check_drawn(page, (1920, 1080), "dark")
    assert wrong == []
    page.context.close()


@pytest.mark.browser
def test_opens_from_disk_with_every_figure_drawn_and_a_slider_over_checkpoints(browser: Any, report: Path) -> None:
    page, wrong = open_page(browser, report, (1280, 800), "light")
    check_drawn(page, (1280, 800), "light")
    slider = page.locator("figure[data-group=maps] input[type=range]")
    shown = page.locator("figure[data-group=maps] output")
    values = "document.querySelector('figure[data-group=maps] .plot').data[0].z"
    assert shown.inner_text() == "step 2,000"
    last = decoded(page.evaluate(values))
    slider.focus()
    page.keyboard.press("Home")
    assert shown.inner_text() == "step 0"
    empty = page.locator("figure[data-group=maps] .annotation", has_text="no circuit at this checkpoint")
    assert empty.count() == 2
    page.keyboard.press("ArrowRight")
    assert shown.inner_text() == "step 64"
    assert empty.count() == 0
    first = decoded(page.evaluate(values))
    assert first.shape == last.shape == (16,)
    assert (first < last).all()
    assert wrong == []
    page.context.close()


@pytest.mark.browser
def test_the_choices_of_the_page_move_every_figure(browser: Any, report: Path) -> None:
    page, wrong = open_page(browser, report, (1280, 800), "light")
    titles = page.locator("figure[data-group=overlap] .plot-title")
    assert "significant labels" in titles.inner_text()
    page.locator(".controls label", has_text="matched").click()
    assert "matched labels" in titles.inner_text()

    def places() -> list[float]:
        found = page.evaluate("document.querySelector('figure[data-group=overlap] .plot').data[0].x")
        return [float(x) for x in found]

    assert places() == pytest.approx(np.log2(1 + np.array([0, 64, 128, 256, 512, 1000, 2000]) / 64).tolist())
    page.locator(".controls label", has_text="linear").click()
    assert places() == [0, 64, 128, 256, 512, 1000, 2000]
    page.locator(".controls label", has_text="evenly").click()
    assert places() == [0, 1, 2, 3, 4, 5, 6]
    for label in page.locator("fieldset label").all():
        label.click()
        assert page.locator(".no-figure:visible").count() == 0
    assert wrong == []
    page.context.close()


def decoded(z: Any) -> np.ndarray:
    """A trace's values, as they were stored or as plotly.js unpacked them."""
    if isinstance(z, dict) and "bdata" in z:
        return np.frombuffer(base64.b64decode(z["bdata"]), dtype="<f4")
    rows = z.values() if isinstance(z, dict) else z
    return np.array([v for row in rows for v in (row.values() if isinstance(row, dict) else row)], dtype=np.float32)
