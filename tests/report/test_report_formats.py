"""Markdown and PDF: what is written, what is said when something is missing, and which folders have a report."""

import json
import re
import sys
from pathlib import Path

import pytest
from report.grown_sweep import made
from report.pages import HOSTILE
from viz import synthetic

from arithcirc.catalogue import SweepFolder
from arithcirc.cli.main import run as command
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.report import open_folder, write_report
from arithcirc.report.markdown import block, code, escape, table
from arithcirc.store import RunFolder
from arithcirc.viz.export import write_figures


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return made(tmp_path_factory.mktemp("formats") / "sweep", "+")


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading."""
    lines = text.split(heading, 1)[1].split("\n| ", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("| "))] for line in lines]


def test_text_cannot_become_markup() -> None:
    assert escape("a|b <i> [x](y) _z_\n# no") == r"a\|b \<i\> \[x\](y) \_z\_ \# no"
    assert code("a`b|c") == "`` a`b\\|c ``"
    assert block("```") == "````\n```\n````"
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| :-- | --: |\n| 1 | 2 |"


def test_a_run_as_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    run = synthetic.make_run(tmp_path / "run")
    path = write_report(run, form="md")
    text = path.read_text(encoding="utf-8")
    assert path.name == "report.md"
    assert text.startswith("# The arithmetic circuit of neox-arith, revision step4000\n")
    assert "Figures were left out: static figures need kaleido" in text
    assert not (run.path / "figures").exists()
    accuracy = {cells[0]: cells[1:] for cells in rows(text, "## Accuracy")}
    assert accuracy["− subtraction"] == ["20,000", "19,402", "0.970", "0.010"]
    assert "(2 left out, undefined)" in text
    assert str(tmp_path) not in text


def test_hostile_text_stays_text_in_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    run = synthetic.make_run(tmp_path / "run", name=HOSTILE, tables=("accuracy",))
    text = write_report(run, form="md").read_text(encoding="utf-8")
    assert HOSTILE not in re.sub(r"(?m)`[^`]*`|^```.*?^```", "", text, flags=re.DOTALL)


def test_a_sweep_as_markdown(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    text = write_report(sweep, form="md").read_text(encoding="utf-8")
    steps = rows(text, "## Step by step")
    assert [cells[1] for cells in steps[2:]] == [
        f"step {s}" for s in ("0", "64", "128", "256", "512", "1,000", "2,000")
    ]
    assert "Did they carry accuracy at every step?" in text
    assert "## (b) Do the neurons kept suffice?" in text


def test_unknown_formats_and_folders_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("accuracy",))
    assert command(["report", str(run.path), "--format", "doc"]) == 2
    assert "'doc' is not known: use one of html, md, pdf" in " ".join(capsys.readouterr().err.split())
    assert command(["report", str(tmp_path)]) == 2
    assert "neither a run's folder (no manifest.json) nor a sweep's" in " ".join(capsys.readouterr().err.split())
    assert command(["export", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert not (run.path / "report.html").exists()


def test_folders_are_told_apart(sweep: SweepFolder, tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=())
    assert isinstance(open_folder(run.path), RunFolder)
    assert isinstance(open_folder(sweep.path), SweepFolder)


def test_without_a_browser_a_pdf_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    run = synthetic.make_run(tmp_path / "run", tables=("accuracy",))
    with pytest.raises(EnvironmentFailure, match="chromium") as caught:
        write_report(run, form="pdf")
    assert "\n" not in str(caught.value)
    assert not (run.path / "report.html").exists()


def test_a_browser_that_prints_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/bin/false")
    run = synthetic.make_run(tmp_path / "run", tables=("accuracy",))
    with pytest.raises(EnvironmentFailure, match=r"/bin/false could not print the page \(exit code 1\)"):
        write_report(run, form="pdf")
    assert not (run.path / "report.pdf").exists()


@pytest.mark.browser
def test_a_pdf_has_the_figures(browser: object, tmp_path: Path) -> None:
    few = write_report(synthetic.make_run(tmp_path / "few", tables=("accuracy",)), form="pdf")
    more = write_report(synthetic.make_run(tmp_path / "more", tables=("accuracy", "faithfulness")), form="pdf")
    assert few.read_bytes().startswith(b"%PDF-")
    assert more.stat().st_size > few.stat().st_size + 5_000


def test_a_sweeps_figures_are_exported_with_their_origin(sweep: SweepFolder, tmp_path: Path) -> None:
    written = write_figures(sweep, tmp_path, only=("overlap", "births"))
    assert {path.name for path in written} == {"overlap.html", "births.html"}
    sidecar = json.loads((tmp_path / "overlap.json").read_text(encoding="utf-8"))
    assert sidecar["table"] == "tables/overlap.parquet"
    assert sidecar["references"] == {"toy-arith": "step2000"}
    assert sidecar["command"].startswith("arithcirc export sweep --out")
    with pytest.raises(RequestError, match=r"'heads'.*overlap"):
        write_figures(sweep, tmp_path, only=("heads",))
