"""`explore`: what it serves and says, and what it refuses before anything is served."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arithcirc.cli import explore
from arithcirc.questions import LiveModel


@dataclass
class Served:
    """What the server was asked for, and what a browser was; nothing listens."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Served:
    found = Served()

    def serve(folders: Any, **options: Any) -> None:
        found.calls.append({"folders": [str(f) for f in folders], **options})
        options["opened"]("http://127.0.0.1:8050/")

    (tmp_path / "runs").mkdir()
    monkeypatch.setitem(sys.modules, "arithcirc.explorer.server", SimpleNamespace(serve=serve))
    monkeypatch.setattr(explore.webbrowser, "open", found.opened.append)
    return found


def test_the_runs_here_are_served_and_a_browser_opens(cli, served):
    done = cli("explore")
    assert done.code == 0, done.err
    assert done.out.strip() == "explorer: http://127.0.0.1:8050/ (Ctrl-C ends it)"
    assert done.err == ""
    (call,) = served.calls
    assert (call["folders"], call["host"], call["port"]) == (["runs"], "127.0.0.1", 8050)
    assert call["live"] is explore.open_model
    assert served.opened == ["http://127.0.0.1:8050/"]


def test_options_reach_the_server(cli, served, tmp_path):
    (tmp_path / "other").mkdir()
    done = cli("explore", "runs", "other", "--port", "0", "--no-live", "--no-browser")
    assert done.code == 0, done.err
    (call,) = served.calls
    assert (call["folders"], call["port"], call["live"]) == (["runs", "other"], 0, None)
    assert served.opened == []


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5"])  # noqa: S104
def test_another_host_warns(cli, served, host):
    done = cli("explore", "--host", host, "--no-browser")
    assert done.code == 0
    assert f"warning: listening on {host}: anyone who reaches this port can read these runs" in done.err
    assert served.calls[0]["host"] == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_does_not_warn(cli, served, host):
    assert cli("explore", "--host", host, "--no-browser").err == ""
    assert served.calls


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["there is no folder nowhere", "'arithcirc analyze'"]),
        (["--port", "70000"], ["--port 70000", "1 to 65535"]),
        (["--port", "-1"], ["--port -1"]),
    ],
    ids=" ".join,
)
def test_what_cannot_be_served_is_refused(cli, served, arguments, words):
    cli("explore", *arguments).refused(*words)
    assert not served.calls


def test_a_missing_extra_is_named(cli, monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    for name in [m for m in sys.modules if m.startswith("arithcirc.explorer")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "waitress.server", None)
    cli("explore").refused("the explorer needs waitress", "pip install 'arithcirc[explorer]'")


def test_the_model_of_a_run_or_a_checkpoint_is_opened(monkeypatch, tmp_path):
    from arithcirc.live import open as opening

    asked: list[object] = []
    model: LiveModel = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setattr(opening, "open_live", lambda run: asked.append(run.path) or model)
    monkeypatch.setattr(opening, "open_checkpoint", lambda sweep, *at: asked.append((sweep.path, *at)) or model)
    (tmp_path / "manifest.json").write_text('{"schema": 1, "stages": {}, "config": {}}')
    (tmp_path / "sweep.json").write_text('{"schema": 1}')
    assert explore.open_model(tmp_path, None, None) is model
    assert explore.open_model(tmp_path, "toy", "step5") is model
    assert asked == [tmp_path, (tmp_path, "toy", "step5")]
