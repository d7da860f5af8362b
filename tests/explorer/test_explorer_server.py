"""Where the server listens and what it sends; runs that lack tables, are damaged, go or change while open."""

import http.client
import os
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from explorer.asking import asker, fill, pages, settled
from explorer.planted_live import PlantedLive
from explorer.synthetic_explorer import TABLES, make_explorer_run

from arithcirc.errors import EnvironmentFailure, ModelError, RequestError
from arithcirc.explorer.app import POLL, SELDOM
from arithcirc.explorer.library import FRESH, Library
from arithcirc.explorer.live import KEPT, Live
from arithcirc.explorer.server import listening
from arithcirc.explorer.source import Source, open_source
from arithcirc.explorer.view import View

NAMES = ("overview", "neurons", "neuron", "prompt", "heuristics", "heads", "sweep", "compare")
every = pytest.mark.parametrize("page", NAMES)


@pytest.fixture
def copied(explorer_run, tmp_path) -> Path:
    """The planted run in a folder of the test's own, `runs/one`."""
    return Path(shutil.copytree(explorer_run.path, tmp_path / "runs" / "one"))


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))}


# -- where it listens, what it sends -----------------------------------------------------------------------------------


def test_it_listens_on_this_machine_only(explorer_run):
    server = listening([explorer_run.path])
    try:
        assert server.socket.getsockname()[0] == "127.0.0.1"
        with pytest.raises(EnvironmentFailure, match="give another --port"):
            listening([explorer_run.path], port=int(server.effective_port))
    finally:
        server.close()
        server.task_dispatcher.shutdown()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.1.1.1"])
def test_an_address_it_cannot_have_is_said(host, explorer_run):
    with pytest.raises(EnvironmentFailure, match="no address for --host"):
        listening([explorer_run.path], host=host)


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(RequestError, match="holds no run"):
        listening([tmp_path])
    with pytest.raises(RequestError, match="there is no folder"):
        listening([tmp_path / "none"])


def test_every_answer_carries_the_policy(served):
    host = served.removeprefix("http://")
    for path in ("/", "/_dash-layout", "/_dash-dependencies", "/assets/explorer.css", "/nothing.txt", "/_reload-hash"):
        connection = http.client.HTTPConnection(host, timeout=120)
        connection.request("GET", path)
        answer = connection.getresponse()
        policy = answer.getheader("Content-Security-Policy")
        assert policy.startswith("default-src 'none'; script-src 'self'"), path
        assert "unsafe-eval" not in policy
        assert "'unsafe-inline'" not in policy.split("style-src")[0]
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Access-Control-Allow-Origin") is None
        assert b"Werkzeug" not in answer.read()
        connection.close()


def test_requests_that_are_no_http_get_no_trace(served):
    name, port = served.removeprefix("http://").split(":")
    for line in (
        b"\x16\x03\x01\x02\x00\x01\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"x" * 300_000,
    ):
        with socket.create_connection((name, int(port)), timeout=120) as connection:
            connection.sendall(line + b"\r\n\r\n")
            assert b"Traceback" not in connection.recv(4096)


def test_no_debugger_and_no_reload(served, explorer_run):
    made = asker([explorer_run.path])
    assert not made.context.dash.server.debug
    assert made.client.get("/_dash-layout").get_data(as_text=True).count("http://") == 0
    page = made.client.get("/").get_data(as_text=True)
    sources = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert sources
    assert all(source.startswith("/") and not source.startswith("//") for source in sources)
    assert '"hot_reload"' not in page


# -- runs that are not whole -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "young"
    make_explorer_run(path, tables=("accuracy", "prompts"), with_maps=False)
    return asker([path])


@every
def test_a_run_of_its_first_stage_says_what_to_do(page, first_stage):
    answer = first_stage.go(f"/{page}?layer=3&neuron=1&head=1").calm()
    assert "arithcirc" in answer.page


@pytest.fixture(scope="module")
def damaged(explorer_run, tmp_path_factory):
    path = Path(shutil.copytree(explorer_run.path, tmp_path_factory.mktemp("runs") / "cut"))
    for file in (*path.glob("*.parquet"), *path.glob("*.safetensors")):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return asker([path])


@every
def test_half_written_files_are_named(page, damaged):
    answer = damaged.go(f"/{page}?op=%2B&layer=3&neuron=0").calm()
    assert answer.status == 200
    assert "accuracy.parquet" in answer.page
    assert "arithcirc prompts" in answer.page


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _spoil(file: Path) -> None:
    """Damage inside, which only reading finds: the footer stays."""
    held = file.read_bytes()
    file.write_bytes(held[:4] + b"\x93" * (len(held) // 2) + held[4 + len(held) // 2 :])


LOST_BY_ONE = (
    ("accuracy.parquet", _cut, ("overview", "prompt", "compare")), ("accuracy.parquet", _spoil, ("overview",)),
    ("heuristics.parquet", _cut, ("overview", "prompt", "neuron")), ("maps_sub.safetensors", _cut, ("neuron",)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "shown"), LOST_BY_ONE)
def test_one_damaged_file_takes_only_what_it_holds(name, damage, shown, copied):
    made = asker([copied])
    for page in shown:
        address = f"/{page}?op=%2B&layer=3&neuron=0"
        whole = len(made.go(address).calm().page)
        kept = (copied / name).read_bytes()
        damage(copied / name)
        answer = made.go(address).calm()
        assert name in answer.page
        assert "cannot be shown" not in answer.page
        assert len(answer.page) > whole / 2
        for leak in (str(copied), "Parquet magic", "Could not open", "ArrowInvalid"):
            assert leak not in answer.text
        (copied / name).write_bytes(kept)


ONE_BY_ONE = ("neurons", "heuristics", "accuracy", "effects", "answers", "heads", "circuit", "knockouts_by_heuristic")


@pytest.mark.parametrize("at", range(len(ONE_BY_ONE)))
def test_a_table_may_be_missing(at, copied):
    table, page = ONE_BY_ONE[at], NAMES[(at + 1) % len(NAMES)]
    made = asker([copied])
    (copied / f"{table}.parquet").unlink()
    for name in {page, "overview" if table in ("effects", "circuit") else page}:
        made.go(f"/{name}?layer=3&neuron=0").calm()


@pytest.mark.slow
@every
def test_any_table_may_be_missing_empty_or_cut(page, copied):
    made = asker([copied], PlantedLive())
    made.context.live.state(made.context.source({}))
    for table in TABLES:
        file = copied / f"{table}.parquet"
        whole = file.read_bytes()
        for change in (
            lambda f: f.unlink(),
            lambda f: f.write_bytes(b""),
            lambda f: pd.read_parquet(f).head(0).to_parquet(f),
        ):
            file.write_bytes(whole)
            change(file)
            made.go(f"/{page}?layer=3&neuron=0&op=%2B").calm()
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"schema": 1}', '{"schema": 99}', '{"schema": 1, "config": 3, "stages": []}']
)
def test_a_damaged_manifest_is_one_line(text, copied):
    (copied / "manifest.json").write_text(text)
    made = asker([copied])
    for page in ("overview", "neuron"):
        made.go(f"/{page}").calm()


def test_the_newest_run_that_can_be_read_opens_first(explorer_run, tmp_path):
    for name in ("old", "newer", "newest"):
        shutil.copytree(
            explorer_run.path, tmp_path / "runs" / name, ignore=shutil.ignore_patterns("maps_*", "gallery*")
        )
    for when, name in enumerate(("old", "newer", "newest"), 1):
        os.utime(tmp_path / "runs" / name / "manifest.json", (when, when))
    (tmp_path / "runs" / "newest" / "manifest.json").write_text("{")
    answer = asker([tmp_path / "runs"]).go("/").calm()
    assert answer.view["run"] == "newer"
    frame = answer.json["response"]["frame-shown"]["data"]
    assert {"value": "newest", "label": "newest (damaged)"} in frame["runs"]
    assert frame["title"].startswith("Overview ")
    assert "newer" in frame["title"]
    given = asker([tmp_path / "runs" / "old", tmp_path / "runs"])
    assert given.go("/").calm().view["run"] == "runs/old"
    assert sorted(given.context.library.paths()) == ["newer", "newest", "runs/old"]


def test_labels_that_were_not_computed_are_not_said_to_write_nothing(copied):
    for table in ("neurons", "heuristics"):
        (copied / f"{table}.parquet").unlink()
    made = asker([copied], PlantedLive())
    made.context.live.ask(made.context.source({}), lambda model: model.info)
    page = made.go("/prompt?op=%2B&prompt=12%2B13%3D").calm().page
    assert "No neuron of this run has been labelled, nor which are important" in page
    assert "whose heuristics hold write" not in page
    assert "arithcirc neurons" in made.go("/neuron?op=%2B").calm().page


# -- runs that change while open ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["overview", "neurons"])
def test_a_run_deleted_while_open_is_said(page, copied):
    made = asker([copied.parent])
    held = made.go(f"/{page}").calm().view
    shutil.rmtree(copied)
    answer = made.go(f"/{page}?run=one").calm()
    assert "no longer there" in answer.page or "no run" in answer.page or "not a run" in answer.page
    for known in made.callbacks():
        if any(part["id"] == "view" for part in (*known["inputs"], *known["state"])):
            made.post(fill(known, {"view.data": held})).calm(forged=True)


def test_a_table_written_again_is_read_again(copied):
    source = open_source("one", copied)
    before = source.table("accuracy")
    changed = before.assign(accuracy=0.123456)
    changed.to_parquet(copied / "accuracy.parquet")
    os.utime(copied / "accuracy.parquet", ns=(1, 1))
    assert set(source.table("accuracy")["accuracy"]) == {0.123456}
    assert set(before["accuracy"]) != {0.123456}


def test_a_new_run_is_found(copied, monkeypatch):
    library = Library([copied.parent])
    assert list(library.paths()) == ["one"]
    shutil.copytree(copied, copied.parent / "two")
    assert list(library.paths()) == ["one"]
    later = time.monotonic() + FRESH + 1
    monkeypatch.setattr("time.monotonic", lambda: later)
    assert sorted(library.paths()) == ["one", "two"]


def test_looking_writes_nothing(copied):
    before = state_of(copied)
    made = asker([copied], PlantedLive())
    for page in pages():
        made.go(f"/{page}?layer=3&neuron=0&prompt=28-8%3D").calm()
    assert state_of(copied) == before


def test_links_inside_a_folder_are_not_followed(copied, tmp_path):
    secret = Path(shutil.move(copied, tmp_path / "secret"))
    (copied.parent / "linked").symlink_to(secret)
    assert Library([copied.parent]).paths() == {}


# -- many readers ------------------------------------------------------------------------------------------------------


def test_twenty_readers_get_their_own_answers(explorer_run, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(explorer_run.path, tmp_path / name)
    made = asker([tmp_path], lambda path, model, revision: PlantedLive(path.name))
    ways = [
        (run, op, page)
        for run in ("one", "two")
        for op in ("+", "-", "*", "/")
        for page in ("overview", "heads", "prompt")
    ]
    ways = ways[:20]

    def look(way: tuple[str, str, str]) -> tuple[str, str, str]:
        run, op, page = way
        view = made.go(f"/{page}?run={run}&op={op.replace('+', '%2B')}").calm().view
        return view["run"], view["op"], view["page"]

    def ask(i: int) -> tuple[str, int]:
        source = made.context.library.open(_view("one" if i % 2 else "two"))
        return made.context.live.ask(source, lambda model: (model.info.name, model.answer(f"{i + 20}-{i}=").answer))

    for name in ("one", "two"):
        source = made.context.library.open(_view(name))
        for _ in range(6000):
            if made.context.live.state(source).ready:
                break
            threading.Event().wait(0.02)
    with ThreadPoolExecutor(20) as pool:
        looks, answers = pool.map(look, ways), pool.map(ask, range(20))
        assert list(looks) == ways
        assert list(answers) == [("one" if i % 2 else "two", 20) for i in range(20)]


def _view(run: str) -> View:
    return View(run=run)


# -- the live model ----------------------------------------------------------------------------------------------------


def wait(live: Live, source: Source) -> str:
    for _ in range(6000):
        if (state := live.state(source)).name != "loading":
            return state.name
        threading.Event().wait(0.02)
    return "loading"


def test_a_model_that_does_not_load_is_one_line(explorer_run):
    tries = []

    def broken(path, model, revision):
        tries.append(path)
        raise ModelError("weights of 'planted'\nare gone")

    live, source = Live(broken), open_source("one", explorer_run.path)
    assert wait(live, source) == "failed"
    assert live.state(source).text == "weights of 'planted' are gone"
    with pytest.raises(RequestError, match="are gone"):
        live.ask(source, lambda model: 0)
    assert len(tries) == 1
    assert live.state(source, again=True).name == "loading"
    assert wait(live, source) == "failed"
    assert len(tries) == 2


def test_a_model_that_breaks_while_loading_or_asked_leaves_the_rest_alive(explorer_run):
    made = asker([explorer_run.path], lambda *_: 1 / 0)
    source = made.context.source({})
    assert wait(made.context.live, source) == "failed"
    assert "ZeroDivisionError" in made.context.live.state(source).text
    for page in ("prompt", "neuron", "heads"):
        made.go(f"/{page}?prompt=28-8%3D&layer=3&neuron=0").calm()


def test_the_badge_says_idle_until_a_page_asks_the_model(explorer_run, planted_live):
    gate = threading.Event()

    def slow(*_):
        gate.wait(120)
        return planted_live

    made = asker([explorer_run.path], slow)
    source = made.context.source({})

    def badge() -> tuple[str, bool, int]:
        known = made.callback("..frame-live.children")
        response = made.post(fill(known, {"view.data": settled(source.key, "overview")})).calm().json["response"]
        poll = response["frame-poll"]
        return response["frame-live"]["children"]["props"]["children"]["props"]["children"], *poll.values()

    for page in ("overview", "neurons", "neuron", "heuristics"):
        made.go(f"/{page}").calm()
        assert badge() == ("model idle", False, SELDOM)
    made.go("/prompt").calm()
    assert badge() == ("model loading", False, POLL)
    gate.set()
    assert wait(made.context.live, source) == "ready"
    assert badge() == ("model ready", True, SELDOM)


def test_only_the_models_used_last_are_kept(explorer_run, tmp_path):
    sources = [open_source(str(i), Path(shutil.copytree(explorer_run.path, tmp_path / str(i)))) for i in range(4)]
    live = Live(lambda path, *_: PlantedLive(path.name))
    for source in sources:
        assert wait(live, source) == "ready"
    assert len(live._held) <= KEPT
    assert live.state(sources[0], start=False).name == "idle"
    assert live.ask(sources[3], lambda model: model.info.name) == "3"


def test_models_nobody_waits_for_any_more_are_not_loaded(explorer_run, tmp_path):
    sources = [open_source(str(i), Path(shutil.copytree(explorer_run.path, tmp_path / str(i)))) for i in range(6)]
    gate, loaded = threading.Event(), []

    def slow(path, *_):
        gate.wait(120)
        loaded.append(path.name)
        return PlantedLive(path.name)

    live = Live(slow)
    for source in sources:
        live.state(source)
    gate.set()
    assert wait(live, sources[-1]) == "ready"
    assert len(loaded) <= 1 + KEPT
