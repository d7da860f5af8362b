"""README.md says what is true: its examples run, and the commands, options and files that it names exist."""

import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest

import arithcirc as ac
from arithcirc.cli.main import build, run

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted(ROOT.glob("analyses/*/README.md")))
TEXT = README.read_text(encoding="utf-8")
FENCED = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
PYTHON = [code for language, code in FENCED if language == "python"]
CODE = [*(code for _, code in FENCED), *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))]
COMMANDS = {name for name in build().resolved_commands() if not name.startswith("-")}


def named(pattern):
    return {name for code in CODE for name in re.findall(pattern, code, flags=re.MULTILINE)}


def test_the_example_finds_the_heads_it_says(capsys):
    exec(PYTHON[0], {"__name__": "example"})  # noqa: S102
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:3] == ["L0H1", "at", "equals:"]
    assert {line[0] for line in lines} == {"L0H1", "L1H0", "L1H1"}
    assert all(line[2] == "equals:" and float(line[3]) > 5 for line in lines)


def test_the_example_has_about_ten_lines():
    assert len([line for line in PYTHON[0].splitlines() if line]) <= 10


def test_the_query_runs(tmp_path, monkeypatch, capsys):
    folder = ac.RunFolder(tmp_path / "runs" / "neox-arith" / "step4000")
    rows = [("+", "evaluate", "ranked", 2, 0.5, 0.25), ("+", "discover", "ranked", 3, 1.0, 1.0)]
    columns = ["operator", "set", "circuit", "n_heads", "faithfulness", "accuracy"]
    folder.write_table("faithfulness", pd.DataFrame(rows, columns=columns))
    (folder.path / "manifest.json").write_text(json.dumps({"schema": 1, "stages": {}, "config": {}}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(PYTHON[1], {"__name__": "example"})  # noqa: S102
    assert capsys.readouterr().out.split() == ["n_heads", "faithfulness", "accuracy", "0", "2", "0.5", "0.25"]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, flags=re.MULTILINE))
    assert {"demo", "test"} <= named(r"\bmake ([\w-]+)") <= targets


def test_commands_exist_and_all_are_named():
    assert named(r"^arithcirc ([a-z][\w-]*)") == COMMANDS


def test_options_exist(capsys):
    for command in sorted(COMMANDS):
        assert run([command, "--help"]) == 0
    for command in ("corpus", "train", "fit", "score", "sweep", "report"):
        assert run(["influence", command, "--help"]) == 0
    for command in ("data", "train", "study", "report", "open"):
        assert run(["axioms", command, "--help"]) == 0
    known = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    assert named(r"(--[a-z][\w-]*)") - {"--constraint", "--no-deps", "--strict"} <= known  # of pip and mypy


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_linked_files_exist(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_tables_of_the_run_folder_are_those_of_the_report():
    from arithcirc.viz.commands import MADE_BY

    assert set(re.findall(r"^\| `(\w+)\.parquet`", TEXT, flags=re.MULTILINE)) == set(MADE_BY) - {"maps"}


def test_the_screenshot_is_small_and_says_where_it_came_from():
    picture = ROOT / "figures" / "report.png"
    sidecar = json.loads((ROOT / "figures" / "report.json").read_text(encoding="utf-8"))
    assert picture.stat().st_size < 400_000
    assert sidecar["png_sha256"] == hashlib.sha256(picture.read_bytes()).hexdigest()


def test_no_path_of_a_machine():
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(?:work|home|root|tmp|usr)\b", page.read_text(encoding="utf-8"))
