"""The report: every number it claims is there, hostile text is inert, nothing is fetched, everything is drawn."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report.pages import HOSTILE, open_page, words
from viz import synthetic

from arithcirc.report import render_report, write_report
from arithcirc.store import RunFolder
from arithcirc.viz import commands, embed, theme
from arithcirc.viz.plates import PLATES

MADE_BY = {table: stage for table, stage in commands.MADE_BY.items() if table != "maps"}
"""Tables that the page reads; maps are files for the explorer."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return synthetic.make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def report(run: RunFolder) -> Path:
    return write_report(run)


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return report.read_text(encoding="utf-8")


def test_every_number_it_claims_is_there(page: str) -> None:
    text = words(page)
    for operator in synthetic.OPERATORS:
        n = synthetic.CHOSEN[operator]
        value = theme.number(synthetic.faithfulness_value(operator, n, "evaluate"))
        assert f"{n} of 24 heads and all 6 MLPs" in text
        assert f"F = {value} ± 0.012 on 98 prompts it was not chosen on (2 left out, undefined)" in text
        assert f"{theme.number(n / 24 * 0.6)} on average" in text
        for (layer, head), part in synthetic.CARRIERS.items():
            effect = synthetic.head_effect(operator, part, "equals", layer, head)
            assert f"{part}: L{layer}H{head} ({theme.number(effect, 2)})" in text
    for row in synthetic.accuracy().to_dict("records"):
        accuracy = theme.percent(row["accuracy"]).replace("\N{NO-BREAK SPACE}", " ")
        assert f"{row['correct']:,} of {row['n']:,} prompts correctly ({accuracy})" in text
        assert theme.number(row["base_rate"]) in text
    for row in synthetic.undefined().to_dict("records"):
        assert f"{row['prompt']} {theme.number(row['gap'], 5)}" in text
    assert "misses the target of 0.9" in text
    assert "1,862,912 parameters" in text
    assert "arXiv 2410.21272" in text


def test_the_circuit_table_lists_the_circuit(page: str) -> None:
    text = words(page)
    effect = theme.number(synthetic.head_effect("*", "any", "equals", 3, 0))
    assert f"1 L3H0 {effect}" in text


def test_a_run_without_any_table_names_every_table_with_its_command(tmp_path: Path) -> None:
    text = words(render_report(synthetic.make_run(tmp_path / "run", tables=())))
    assert "nothing to sum up" in text
    assert "This run is not complete" in text
    boxes = text.split("Not computed yet:")[1:]
    for table, stage in MADE_BY.items():
        box = next(b for b in boxes if re.search(rf"\(tables? [^)]*\b{table}\b", b))
        assert f"Make it with arithcirc {stage} neox-arith --revision=step4000" in box


@pytest.mark.parametrize("stage", ["faithfulness", "probe", "neurons", "heads", "heuristics", "knockout", "failures"])
def test_a_stage_alone_has_a_page_that_names_the_others(stage: str, tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=synthetic.STAGES[stage])
    text = words(render_report(run))
    assert set(re.findall(r"Make it with arithcirc (\w+)", text)) == set(MADE_BY.values()) - {stage}


def test_an_empty_table_is_said_to_be_empty(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=synthetic.STAGES["failures"])
    run.write_table("failures", synthetic.TABLES["failures"]().head(0))
    run.write_table("unlabelled", synthetic.TABLES["unlabelled"]().head(0))
    text = words(render_report(run))
    assert "Empty: labelled neurons on correct and incorrect prompts (table failures )" in text
    assert "It is made by arithcirc failures" in text
    assert "Every important neuron has a significant label" in text


def test_a_skipped_operator_is_named_with_its_reason(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("accuracy",))
    accuracy = synthetic.accuracy()
    accuracy.loc[1, ["correct", "accuracy", "skipped"]] = [3, 0.0002, "only 3 correct prompts & 2 are needed"]
    run.write_table("accuracy", accuracy)
    text = words(render_report(run))
    assert "− subtraction. Skipped: only 3 correct prompts & 2 are needed." in text


def test_a_recorded_command_is_shown(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("accuracy",))
    assert "was not recorded" in words(render_report(run))
    run.note("command", ["arithcirc", "analyze", "my model"])
    assert "arithcirc analyze 'my model'" in words(render_report(run))


def test_facts_of_the_model_may_be_nested(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("circuit",))
    facts = run.manifest["facts"]
    run.manifest["facts"] = {"model": facts, "bos_id": 0}
    assert "6 layers × 4 heads" in words(render_report(run))


def test_given_prompts_are_not_said_to_be_correct_or_held_out(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run")
    run.manifest["config"]["prompts"]["pairs"] = "0" * 64
    run.manifest["facts"]["command"] = "arithcirc analyze models/mine --pairs mine.csv"
    prompts = synthetic.prompts().query("set == 'discover'")
    run.write_table("prompts", pd.concat([prompts, prompts.assign(set="evaluate")]))
    run.write_table("accuracy", synthetic.accuracy().assign(base_rate=float("nan"), correct=0, accuracy=0.0))
    run.write_table("effects", synthetic.effects().head(0))
    page = render_report(run)
    text = words(page)
    assert "98 of the 100 prompts it was chosen on" in text
    assert "the same prompts serve to choose the circuit and to judge it" in text
    assert "arithcirc localize models/mine --pairs=mine.csv" in text
    assert "F ≥ 0.9, mostly wrong" in text
    assert 'class="tag good">F' not in page
    for claim in ("not chosen on", "correct prompts only", "Disjoint sets", "no better than", "(–)"):
        assert claim not in text


def test_a_page_tells_tokens_precision_and_memory(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("accuracy", "circuit"))
    run.manifest["facts"] |= {"tokens": {"0 bos": "<s>", "1 op1": "12, one of 0 ... 60"}, "sliding_window": 64}
    run.manifest["stages"]["prompts"]["memory"] = {"predicted": 2_000_000_000, "measured": 1_900_000_000}
    text = words(render_report(run))
    assert "MLP width 512" in text
    assert "sliding window of 64 keys, float32 on cpu" in text
    assert re.search(r"Tokens, position by position \(.*?\): <s> bos \| 12 op1, one of 0 \.\.\. 60", text)
    assert "prompts 12.3 – 2.0 GB 1.9 GB" in text


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", name=HOSTILE, tables=("accuracy", "prompts", "failures"))
    run.write_table("undefined", synthetic.undefined().assign(prompt=HOSTILE))
    run.write_table("unlabelled", synthetic.TABLES["unlabelled"]().assign(best=HOSTILE))
    page = render_report(run)
    assert HOSTILE not in page
    assert "<img" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in page


def test_json_cannot_end_its_element() -> None:
    text = embed.safe(json.dumps({"x": HOSTILE + "\u2028&"}, ensure_ascii=False))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text)["x"] == HOSTILE + "\u2028&"


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    markup = re.sub(r"<script\b[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", markup)
    assert "@import" not in markup
    assert "default-src 'none'" in html.unescape(markup)
    assert page.count("plotly.js v") == 1
    assert len(page.encode()) < 8_000_000


def test_the_page_of_a_large_model_stays_light(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("accuracy",))
    run.write_table("effects", synthetic.effects(32, 32))
    page = render_report(run)
    assert len(page.encode()) < 8_000_000
    assert "more combinations were left out" in page


def test_written_atomically_into_the_run(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("accuracy",))
    path = write_report(run)
    assert path == run.path / "report.html"
    assert not list(run.path.glob("*.part"))
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_the_view_arm_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, arithcirc.report, arithcirc.viz.export;"
        "print([m for m in ('torch', 'transformers', 'transformer_lens', 'kaleido') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def everything_is_drawn(page: Any, width: int) -> None:
    figures = 4 + len(PLATES)
    assert page.locator("figure[data-group]").count() == figures
    for i in range(figures):
        assert page.locator(".js-plotly-plot").nth(i).locator("svg.main-svg").count() >= 1
    assert page.locator("figure[data-group=heads] .heatmaplayer image").count() == 4
    assert page.locator("figure[data-group=gallery] .heatmaplayer image").count() == 8
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.slow
@pytest.mark.browser
def test_opens_from_disk_in_the_dark_with_every_figure_drawn(browser: Any, report: Path) -> None:
    page, wrong = open_page(browser, report, (1920, 1080), "dark")
    everything_is_drawn(page, 1920)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert wrong == []
    page.context.close()


@pytest.mark.browser
def test_opens_in_the_light_where_every_choice_of_every_selector_draws(browser: Any, report: Path) -> None:
    page, wrong = open_page(browser, report, (1280, 800), "light")
    everything_is_drawn(page, 1280)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    labels = page.locator("fieldset label")
    titles = set()
    for i in range(labels.count()):
        labels.nth(i).click()
        assert page.locator(".no-figure:visible").count() == 0
        titles |= set(page.locator(".plot-title").all_inner_texts())
    assert any("MLPs: mean KL" in t for t in titles)
    assert any("another operator" in t for t in titles)
    assert wrong == []
    page.context.close()


@pytest.mark.browser
def test_hostile_name_runs_nothing_in_the_dark(browser: Any, tmp_path: Path) -> None:
    report = write_report(synthetic.make_run(tmp_path / "run", name=HOSTILE, tables=("accuracy", "probes")))
    page, wrong = open_page(browser, report, (1920, 1080), "dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 1920
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert page.evaluate("window.stolen") is None
    assert wrong == []
    page.context.close()
