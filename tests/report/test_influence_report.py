"""The report of an influence study: every verdict is there, bad is said as bad, texts stay texts."""

import html
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from influence.planted_scores import HOSTILE, planted_study
from report.pages import open_page, words

from arithcirc.errors import RequestError
from arithcirc.report import influence_report, markdown
from arithcirc.viz.influence import names
from arithcirc.viz.influence.plates import PLATES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = planted_study(tmp_path_factory.mktemp("report") / "step1000", documents=200)
    documents = pd.read_parquet(made / "documents.parquet")
    top = pd.read_parquet(made / "top.parquet")
    first = top[(top["rank"] == 0) & (top["method"] == "ekfac_normed")]["document"].iloc[0]
    documents.loc[first, "text"] = f"{HOSTILE}<img src=x onerror='window.stolen=1'>"
    documents.to_parquet(made / "documents.parquet", index=False)
    return made


@pytest.fixture(scope="module")
def report(folder: Path) -> Path:
    return influence_report(folder.parent)


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return report.read_text(encoding="utf-8")


def test_it_lies_in_the_study_and_is_not_heavy(report, folder):
    assert report == folder / "report.html"
    assert report.stat().st_size < 8_500_000


def test_every_claim_stands_there_with_its_verdict_and_base_rate(page, folder):
    text = words(page)
    table = pd.read_parquet(folder / "findings.parquet")
    for row in table.to_dict("records"):
        assert row["claim"] in text
        start = text.index(row["claim"])
        assert row["verdict"] in text[start : start + 900]
    assert text.count("The opposite is the case here.") >= 2 * table["note"].str.startswith("The opposite").sum()
    table = table[table["finding"] <= 5]
    held = (table["verdict"] == "holds").sum()
    assert f"Of {len(table)} claims about the paper’s five findings, {held} hold here" in text
    for number in range(1, 6):
        assert names.FINDINGS[number] in text


def test_it_shows_figures_examples_mechanisms_and_settings(page):
    for plate in PLATES:
        assert f'data-group="{plate.key}"' in page
    text = words(page)
    assert "0.1 × the mean eigenvalue of each layer." in text
    assert "seed 0" in text
    assert "Levels: a claim holds if" in text
    assert "true answer:" in text
    assert "gpt_neox.layers.0.mlp.dense_h_to_4h" in text
    assert "− L3N17" in text
    assert 'class="hit-need"' in page
    assert 'class="hit-rule"' in page


def test_texts_of_documents_are_escaped(page):
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert html.escape(HOSTILE)[:20] in page


def test_a_study_without_findings_says_so_with_the_command(folder, tmp_path):
    own = tmp_path / "step1" / "influence"
    own.mkdir(parents=True)
    for name in ("manifest.json", "documents.parquet"):
        shutil.copy(folder / name, own)
    text = words(influence_report(own).read_text(encoding="utf-8"))
    assert "This study is not complete" in text
    assert "The findings have not been computed." in text
    assert "arithcirc influence score neox-planted --corpus=CORPUS" in text
    assert "No neuron or heuristic was asked about" in text


def test_what_is_no_study_or_no_format_is_one_line(folder, tmp_path):
    with pytest.raises(RequestError, match="holds no influence study"):
        influence_report(tmp_path)
    with pytest.raises(RequestError, match="use one of html, md"):
        influence_report(folder, form="pdf")


def test_markdown_says_the_same(folder, monkeypatch):
    monkeypatch.setattr(markdown, "pictures", lambda *_: ({}, "no browser here"))
    text = influence_report(folder, form="md").read_text(encoding="utf-8")
    assert "*Figures were left out: no browser here*" in text
    for claim in pd.read_parquet(folder / "findings.parquet")["claim"]:
        assert markdown.escape(claim) in text
    bare = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", text)  # code is inert in Markdown
    assert "<script>" in text
    assert "<script>" not in bare
    assert text.count("## ") >= 8


@pytest.mark.browser
def test_it_opens_without_a_network_and_draws_everything(browser, report):
    page, wrong = open_page(browser, report, (1280, 800), "dark")
    assert wrong == []
    assert page.evaluate("window.stolen") is None
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("figure .js-plotly-plot").count() == len(PLATES)
    page.context.close()
