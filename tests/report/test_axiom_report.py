"""The report of an axiom study: every part is there or said to be missing, from any folder that has something."""

import json
import re
import shutil

import pytest
from axioms import planted_axioms as planted
from report.pages import HOSTILE, open_page, words

from arithcirc.cli.main import run
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.report.axioms import axioms_report, content
from arithcirc.viz.axioms.plates import PLATES, STUDY_PLATES
from arithcirc.viz.axioms.study import AxiomStudy


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    made = tmp_path_factory.mktemp("axioms") / "small"
    planted.write_study(made)
    planted.write_opening(made / "opening" / "none")
    planted.write_opening(made / "opening" / "learned", model=f"models/{HOSTILE}/step200", word="shortcut")
    planted.write_comparison(made)
    return made


@pytest.fixture(scope="module")
def report(root):
    return axioms_report(root)


@pytest.fixture(scope="module")
def page(report):
    return report.read_text(encoding="utf-8")


def test_every_figure_is_there_and_the_page_is_light(root, report, page):
    assert report == root / "report.html"
    assert report.stat().st_size < 8_000_000
    drawn = set(re.findall(r'data-group="(\w+)"', page))
    assert drawn == {plate.key for plate in PLATES}


def test_it_answers_rule_or_shortcut(page):
    text = words(page)
    assert "TS2 · no positions: a rule in part." in text
    assert "OCC · no positions: a shortcut." in text
    assert "Opened, TS2-none-s0 step200: a rule in part." in text
    assert "not recovered" in text
    assert "GPT-4 0.97 0.99 0.98 0.92 transcription" in text
    assert "Missing" not in text
    assert "Not computed yet" not in text


def test_names_are_text(page):
    assert HOSTILE not in page
    assert "<img src=x" not in page


def test_a_study_that_nobody_opened_says_so(tmp_path):
    planted.write_study(tmp_path / "small")
    study = AxiomStudy.find(tmp_path / "small" / "study")
    assert study.root == tmp_path / "small"
    said = content(study, study.read())
    wanted = "arithcirc axioms open small/models/TS2-none-s0/step200 --against small/models/TS2-learned-s0/step200"
    assert said["missing"] == [("what the models compute: none was opened", wanted)]
    assert said["open_command"] == wanted
    assert ("OCC · no positions", "a shortcut") in [answer[:2] for answer in said["answers"]]


def test_one_model_without_bars_or_published_numbers_is_enough(tmp_path):
    only = (("TS2", "none", 0),)
    planted.write_study(tmp_path, models=only, without=("bars", "published", "training"))
    page = axioms_report(tmp_path).read_text(encoding="utf-8")
    drawn = set(re.findall(r'data-group="(\w+)"', page))
    assert drawn == {p.key for p in STUDY_PLATES} - {"axioms_bars", "axioms_training"}
    assert "tables bars, published ( arithcirc axioms study )" in words(page)
    assert "Expected beforehand" not in page
    assert str(tmp_path) not in page


def test_answers_of_a_model_asked_by_itself(tmp_path):
    planted.write_study(tmp_path / "run", models=(("TS2", "none", 0),))
    for name in ("training", "models", "bars", "published"):
        (tmp_path / "run" / "study" / f"{name}.parquet").unlink()
    lone = shutil.copytree(tmp_path / "run" / "study", tmp_path / "asked")
    cells = planted.cell_rows((("TS2", "none", 0),))
    cells[["mix", "positions"]] = ""
    cells.to_parquet(lone / "cells.parquet", index=False)
    study = AxiomStudy.find(lone)
    assert study.root == lone
    assert [a[:2] for a in content(study, study.read())["answers"]] == [("other · model", "a rule in part")]


def test_an_opened_model_alone(tmp_path):
    planted.write_opening(tmp_path / "o", only=("verdict", "generalisation", "walk_tokens", "walk_attention"))
    page = axioms_report(tmp_path / "o").read_text(encoding="utf-8")
    assert set(re.findall(r'data-group="(\w+)"', page)) == {"axioms_rule", "axioms_walk"}
    text = words(page)
    assert "Opened, TS2-none-s0 step200: a rule in part." in text
    assert "of TS2-none-s0 step200: patching," in text


def test_bad_folders_are_said_in_one_line(tmp_path, root, capsys):
    with pytest.raises(RequestError, match="holds no axiom study"):
        axioms_report(tmp_path)
    assert run(["axioms", "report", str(tmp_path)]) == 2
    assert "holds no axiom study" in capsys.readouterr().err
    broken = shutil.copytree(root, tmp_path / "broken")
    (broken / "study" / "cells.parquet").write_bytes(b"no table")
    with pytest.raises(RunConflictError, match=r"cells\.parquet"):
        axioms_report(broken)


def test_only_a_pair_of_kinds_is_compared(tmp_path, capsys):
    for name, kind in (("a", "none"), ("b", "rotary")):
        (tmp_path / name / "step1").mkdir(parents=True)
        (tmp_path / name / "step1" / "model.safetensors").write_bytes(b"")
        (tmp_path / name / "step1" / "config.json").write_text(json.dumps({"position_kind": kind}), encoding="utf-8")
    assert run(["axioms", "open", str(tmp_path / "a"), "--against", str(tmp_path / "b")]) == 2
    assert "compares a model without positions" in " ".join(capsys.readouterr().err.split())
    assert run(["axioms", "open", str(tmp_path)]) == 2
    assert "holds no trained model" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_everything_and_asks_for_nothing(browser, report, scheme):
    page, wrong = open_page(browser, report, (1500, 1000), scheme)
    drawn = page.evaluate("document.querySelectorAll('.plot.js-plotly-plot').length")
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.context.close()
    assert drawn == len(PLATES)
    assert overflow <= 0
    assert not wrong
