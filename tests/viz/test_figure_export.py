"""Figures as files: what is written, what the sidecar proves, and what happens without kaleido."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from axioms import planted_axioms as planted
from viz import synthetic

from arithcirc.cli.export import export_command
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.store import sha256_file
from arithcirc.viz.export import config_hash, write_figures


def test_html_and_sidecars(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("faithfulness",))
    (path,) = write_figures(run, tmp_path / "figures")
    assert path.name == "faithfulness.html"
    text = path.read_text(encoding="utf-8")
    assert "cdn." not in text.split("<script", 2)[0]
    assert "<script src=" not in text
    sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert sidecar["table_sha256"] == sha256_file(run.path / "faithfulness.parquet")
    assert sidecar["run_config_sha256"] == config_hash(run)
    assert str(tmp_path) not in json.dumps(sidecar)
    assert sidecar["command"].startswith("arithcirc export ")


def test_a_given_command_is_kept(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("faithfulness",))
    write_figures(run, tmp_path, command="python run.py")
    assert json.loads((tmp_path / "faithfulness.json").read_text())["command"] == "python run.py"


def test_only_the_named_figures_are_written(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("effects", "faithfulness"))
    write_figures(run, tmp_path / "some", only=("mlps_E", "heads_kl", "faithfulness"))
    heads = {f"heads_kl_{p}" for p in ("op1", "operator", "op2", "equals")}
    names = {"mlps_E", "faithfulness", *heads}
    assert {p.name for p in (tmp_path / "some").iterdir()} == {f"{n}.{s}" for n in names for s in ("html", "json")}
    with pytest.raises(RequestError, match=r"'head_heat'.*head_carriers"):
        write_figures(run, tmp_path / "none", only=("head_heat",))
    assert not (tmp_path / "none").exists()


def test_an_axiom_study_and_an_opened_model_give_their_figures(tmp_path: Path) -> None:
    study, opened = planted.write_study(tmp_path / "small"), planted.write_opening(tmp_path / "opened")
    (path,) = write_figures(study, tmp_path / "bars", only=("axioms_bars",))
    sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert (sidecar["table"], sidecar["table_sha256"]) == ("bars.parquet", sha256_file(study.path / "bars.parquet"))
    (rule,) = write_figures(opened, tmp_path / "rule", only=("axioms_layers",))
    assert rule.name == "axioms_layers_TS2-none-s0-step200.html"
    with pytest.raises(RequestError, match="give a study/ or the folder of an opened model"):
        write_figures(planted.write_comparison(tmp_path / "small"), tmp_path)
    with pytest.raises(RequestError, match=r"is no run of 'arithcirc analyze'.*give --formats"):
        export_command(study.path, out=tmp_path / "site")


def test_unknown_formats_and_empty_runs_are_refused(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=())
    with pytest.raises(RequestError, match="gif"):
        write_figures(run, tmp_path, ["gif"])
    with pytest.raises(RequestError, match="analyze"):
        write_figures(run, tmp_path)


def test_without_kaleido_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = synthetic.make_run(tmp_path / "run", tables=("faithfulness",))
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(EnvironmentFailure, match=r"arithcirc\[figures\]") as caught:
        write_figures(run, tmp_path / "out", ["png"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.browser
@pytest.mark.filterwarnings("default")
def test_png_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("kaleido", reason="kaleido is not installed (extra 'figures')")
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    run = synthetic.make_run(tmp_path / "run", tables=("faithfulness",))
    (path,) = write_figures(run, tmp_path / "figures", ["png"])
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20]) == 2480
    (path,) = write_figures(run, tmp_path / "small", ["png"], at_most=len(data) - 1)
    assert 1240 <= int.from_bytes(path.read_bytes()[16:20]) < 2480
    assert path.stat().st_size < len(data)
