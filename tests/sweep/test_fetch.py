"""Fetching weights: once per checkpoint, ahead, offline afterwards; deleted again only where it was fetched here."""

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from urllib.parse import urlsplit

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from toys import COMMIT, cached, contents

from arithcirc.errors import ModelError
from arithcirc.models.load import load
from arithcirc.sweep.driver import Weights
from arithcirc.sweep.fetch import Fetcher, wanted_files
from arithcirc.sweep.task import Loading, Task

MODEL = "EleutherAI/pythia-14m"


def task(revision="step512", symbol="*", model=MODEL, reference="step143000"):
    return Task(model, model, revision, None, symbol, reference, loading=Loading())


def commit_of(revision):
    return hashlib.sha1(revision.encode(), usedforsecurity=False).hexdigest()


class Hub:
    """Stands in for the hub: a folder per revision, and what was asked."""

    def __init__(self, folder, files=None):
        self.folder, self.files = folder, files or sorted(p.name for p in folder.iterdir())
        self.asked, self.listed, self.fail = [], [], None

    def model_info(self, repo_id, *, revision):
        self.listed.append((repo_id, revision))
        if self.fail is not None:
            raise self.fail
        names = [*self.files, "pytorch_model.bin", "onnx/model.safetensors", "training_args.bin"]
        return SimpleNamespace(sha=commit_of(revision), siblings=[SimpleNamespace(rfilename=n) for n in names])

    def snapshot_download(self, repo_id, *, revision, cache_dir, allow_patterns, tqdm_class):
        assert tqdm_class(range(2), name="x", desc="y").disable
        self.asked.append((repo_id, revision, tuple(allow_patterns)))
        store = Path(cache_dir) / f"models--{repo_id.replace('/', '--')}"
        commit = commit_of(revision)
        (store / "refs").mkdir(parents=True, exist_ok=True)
        (store / "blobs").mkdir(exist_ok=True)
        (store / "refs" / revision).write_text(commit)
        for name in set(allow_patterns) & set(self.files):
            (store / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folder / name, store / "snapshots" / commit / name)
        return str(store / "snapshots" / commit)


@pytest.fixture
def hub(toy_folder, monkeypatch):
    """The hub has the toy at every revision."""
    made = Hub(toy_folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda _, *a, **k: made.model_info(*a, **k))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


@pytest.fixture
def make(tmp_path):
    """`make(...)`: a fetcher into a cache of its own."""
    made = []

    def fetcher(**options):
        made.append(Fetcher(str(tmp_path / "cache"), **options))
        return made[-1]

    yield fetcher
    for one in made:
        one.close(cancel=True)


def snapshots(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").glob("*/snapshots/*"))


def test_two_workers_and_four_operators_cost_one_fetch_and_load_offline(hub, make, tmp_path, toy_model):
    fetcher: Weights = make()
    tasks = [task(symbol=symbol) for symbol in "+-*/"]
    assert [fetcher.error(t) for t in tasks] == [None] * 4
    assert all(fetcher.ready(t) for t in tasks)
    assert hub.listed == [(MODEL, "step512")]
    assert len(hub.asked) == 1
    assert not [n for n in hub.asked[0][2] if n.endswith(".bin") or "/" in n]
    prepared = fetcher.prepared(tasks[0])
    assert prepared.loading.offline
    assert prepared.key == tasks[0].key
    model = load(MODEL, revision="step512", device="cpu", cache_dir=tmp_path / "cache", offline=True)
    tokens = torch.tensor([[0, 12, 3, 20, 7]])
    assert torch.equal(model.logits(tokens), toy_model.logits(tokens))


def test_asking_does_not_wait(make):
    gate = threading.Event()
    fetcher = make(fetch=lambda *_: gate.wait(120))
    assert not fetcher.ready(task())
    gate.set()
    assert fetcher.error(task()) is None
    assert fetcher.ready(task())


def test_the_last_step_of_pythia_is_fetched_from_main(hub, make):
    assert make().error(task("step143000")) is None
    assert hub.listed == [(MODEL, "main")]


def test_local_models_and_offline_sweeps_ask_nothing(hub, make, toy_folder):
    fetcher = make()
    here = task("main", model=str(toy_folder))
    assert fetcher.ready(here)
    assert fetcher.error(here) is None
    assert fetcher.prepared(here) is here
    off = make(offline=True)
    assert off.ready(task())
    assert off.prepared(task()) == task()
    assert hub.listed == []


def test_pickled_weights_alone_are_refused_as_loading_refuses_them_and_others_go_on(hub, make):
    whole, hub.files = hub.files, ["config.json", "tokenizer.json"]
    fetcher = make()
    said = fetcher.error(task("step1"))
    assert said.startswith(f"{MODEL} has no safetensors at revision step1, only pickled weights, which can run code")
    assert hub.asked == []
    assert fetcher.ready(task("step1"))
    hub.files = whole
    assert fetcher.error(task("step2")) is None


def test_a_hub_that_is_away_is_one_line_unless_the_cache_is_complete(hub, make, toy_folder, tmp_path):
    hub.fail = LocalEntryNotFoundError("no network\nat all")
    assert "the Hugging Face hub cannot be reached for the weights" in make().error(task("step4"))
    cached(toy_folder, tmp_path / "cache", MODEL, "step8")
    assert make().error(task("step8")) is None


@pytest.mark.parametrize("kind", [ModelError, RuntimeError])
def test_whatever_goes_wrong_is_one_line(make, kind):
    def fail(*_):
        raise kind("it broke\nbadly")

    assert make(fetch=fail).error(task()).endswith("it broke badly")


def test_fetched_weights_go_after_the_last_task_but_the_references_stay_till_the_end(hub, make, tmp_path):
    fetcher = make(drop=True)
    for revision in ("step143000", "step512", "step1000"):
        assert fetcher.error(task(revision)) is None
    assert len(snapshots(tmp_path)) == 3
    fetcher.done(MODEL, "step512")
    fetcher.done(MODEL, "step143000")
    assert fetcher.error(task("step2000")) is None  # after the deletion in line
    assert len(snapshots(tmp_path)) == 3
    refs = {p.name for p in (tmp_path / "cache").glob("*/refs/*")}
    assert refs == {"main", "step1000", "step2000"}
    fetcher.close()
    assert snapshots(tmp_path) == []


def test_weights_that_were_here_before_stay(hub, make, toy_folder, tmp_path):
    hub.snapshot_download(
        MODEL, revision="step512", cache_dir=tmp_path / "cache", allow_patterns=hub.files,
        tqdm_class=lambda *_, **__: SimpleNamespace(disable=True),
    )  # fmt: skip
    before = contents(tmp_path / "cache")
    fetcher = make(drop=True)
    assert fetcher.error(task()) is None
    fetcher.done(MODEL, "step512")
    fetcher.close()
    assert contents(tmp_path / "cache") == before


def test_a_sweep_that_was_killed_still_knows_what_it_fetched(hub, make, tmp_path):
    ledger = tmp_path / "fetched.json"
    assert make(drop=True, ledger=ledger).error(task()) is None
    assert json.loads(ledger.read_text()) == {"fetched": snapshots(tmp_path)}
    again = make(drop=True, ledger=ledger)
    assert again.error(task()) is None
    again.done(MODEL, "step512")
    again.close()
    assert snapshots(tmp_path) == []


def test_what_was_being_fetched_when_a_sweep_was_killed_goes_later(hub, make, tmp_path, monkeypatch):
    ledger = tmp_path / "fetched.json"
    whole = hub.snapshot_download

    def half(*arguments, **options):
        whole(*arguments, **options)
        raise ConnectionError("killed")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", half)
    assert make(drop=True, ledger=ledger).error(task()) is not None
    monkeypatch.setattr(huggingface_hub, "snapshot_download", whole)
    again = make(drop=True, ledger=ledger)
    assert again.error(task()) is None
    again.done(MODEL, "step512")
    again.close()
    assert snapshots(tmp_path) == []


def test_one_set_of_weights_and_the_texts_are_wanted():
    texts = ["config.json", "tokenizer.json", "vocab.txt"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    other = ["README.md", "pytorch_model.bin", "original/config.json", "adapter.safetensors", "tf_model.h5"]
    assert sorted(wanted_files([*texts, *other, "model.safetensors", index, *shards])) == sorted(
        [*texts, "model.safetensors"]
    )
    assert sorted(wanted_files([*texts, *other, index, *shards])) == sorted([*texts, index, *shards])


class Served(BaseHTTPRequestHandler):
    """The part of the hub's protocol that fetching needs: one model, every revision of which is one folder."""

    folder: Path
    asked: ClassVar[list[str]] = []

    def log_message(self, *_):
        """Say nothing."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        path = urlsplit(self.path).path
        type(self).asked.append(f"{self.command} {path}")
        names = [*sorted(p.name for p in self.folder.iterdir()), "pytorch_model.bin"]
        if path.startswith(f"/api/models/{MODEL}/revision/"):
            known = {"sha": COMMIT, "id": MODEL, "modelId": MODEL, "siblings": [{"rfilename": n} for n in names]}
            return self.send(json.dumps(known).encode(), body=body)
        if path.startswith(f"/api/models/{MODEL}/tree/"):
            files = [{"type": "file", "path": n, "size": self.size(n), "oid": COMMIT} for n in names]
            return self.send(json.dumps(files).encode(), body=body)
        file = self.folder / path.rsplit("/", 1)[-1]
        if path.startswith(f"/{MODEL}/resolve/") and file.is_file():
            return self.send(file.read_bytes(), body=body, etag=hashlib.sha256(file.read_bytes()).hexdigest())
        self.send_error(404)
        return None

    def size(self, name):
        return (self.folder / name).stat().st_size if (self.folder / name).is_file() else 1

    def send(self, data, *, body, etag="x"):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def served(toy_folder, monkeypatch):
    """A hub on this machine; what it is asked is in `Served.asked`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Served,), {"folder": toy_folder, "asked": []}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield server.RequestHandlerClass
    server.shutdown()
    server.server_close()


def test_a_hub_is_asked_for_each_file_once_and_the_copy_loads_offline(served, make, tmp_path, toy_model):
    fetcher = make(drop=True)
    tasks = [task(symbol=symbol) for symbol in "+-*/"]
    assert [fetcher.error(t) for t in tasks] == [None] * 4
    fetched = [a for a in served.asked if a.startswith("GET") and "/resolve/" in a]
    assert len(fetched) == len(set(fetched))
    assert any(a.endswith("model.safetensors") for a in fetched)
    assert not any("pytorch_model" in a for a in served.asked)
    count = len(served.asked)
    model = load(MODEL, revision="step512", device="cpu", cache_dir=tmp_path / "cache", offline=True)
    tokens = torch.tensor([[0, 12, 3, 20, 7]])
    assert torch.equal(model.logits(tokens), toy_model.logits(tokens))
    assert len(served.asked) == count
    fetcher.done(MODEL, "step512")
    fetcher.close()
    assert snapshots(tmp_path) == []
