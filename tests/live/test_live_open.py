"""From a run to its model: found as it was typed, checked by its hash, never fetched."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from arithcirc.catalogue import SweepFolder
from arithcirc.components import Head, Neuron
from arithcirc.config import CircuitConfig, PromptConfig
from arithcirc.errors import ModelError, RequestError, RunConflictError
from arithcirc.live.open import open_checkpoint, open_live
from arithcirc.models.bridge import BridgedModel
from arithcirc.pipeline.job import open_job
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.questions import Off
from arithcirc.store import MANIFEST, RunFolder

OFF = Off((Neuron(1, 3),), (Head(0, 2),), "mean")


@pytest.fixture(scope="module")
def made(toy_model: BridgedModel, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy with mean activations."""
    job = open_job(
        toy_model,
        tmp_path_factory.mktemp("runs"),
        prompts=PromptConfig("+-", "0..20", n_discover=1, n_evaluate=1, counterfactual_seeds=1),
        circuit=CircuitConfig(mean_prompts=20),
        facts={"command": f"arithcirc analyze {toy_folder}", "loading": {"model": str(toy_folder)}},
    )
    run_stages(job, [s for s in stages_for("means") if s.name == "means"])
    return job.run.path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def change(folder: Path, *keys: str, to: Any) -> RunFolder:
    """Overwrite a value of the manifest, or take it out (None)."""
    manifest = json.loads((folder / MANIFEST).read_text())
    at = manifest
    for key in keys[:-1]:
        at = at[key]
    at.pop(keys[-1]) if to is None else at.update({keys[-1]: to})
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return RunFolder.open(folder)


def test_a_run_opens_with_its_model_format_and_means(made: Path, toy_model: BridgedModel) -> None:
    live = open_live(RunFolder.open(made), device="cpu")
    assert (live.info.name, live.info.revision, live.info.limit) == ("toy", "main", 60)
    assert str(live.operands) == "0..20"
    means = RunFolder.open(made).arrays("means")
    found = live.explain("12+3=", OFF)
    assert found.activations[1, 3] == pytest.approx(float(means["post.1"][-1, 3]))
    tokens = torch.from_numpy(live.encoder.encode(live._run("12+3=", Off(), parts=()).prompt))
    torch.testing.assert_close(live.model.logits(tokens), toy_model.logits(tokens))


def test_a_run_without_means_opens_too(run: Path) -> None:
    (run / "means.safetensors").unlink()
    live = open_live(RunFolder.open(run), device="cpu")
    assert live.answer("12+3=").guesses
    with pytest.raises(RequestError, match="'mean' needs the run's means"):
        live.answer("12+3=", OFF)


def test_the_command_line_says_it_where_an_older_run_does_not(run: Path) -> None:
    opened = open_live(change(run, "facts", "loading", to=None), device="cpu")
    assert opened.info.name == "toy"


def test_a_model_that_is_gone_is_named_with_what_to_do(run: Path) -> None:
    with pytest.raises(
        ModelError, match=r"the model toy \(main\) of this run is not here .*not exist.*'arithcirc"
    ) as e:
        open_live(change(run, "facts", "loading", to={"model": "./nowhere/toy"}))
    assert "\n" not in str(e.value)


def test_a_hub_model_is_never_fetched(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    change(run, "config", "model", "revision", to="step1000")
    loading = {"model": "EleutherAI/pythia-70m", "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(
        ModelError, match=r"not here .*'arithcirc prompts EleutherAI/pythia-70m --revision step1000 --pl"
    ):
        open_live(change(run, "facts", "loading", to=loading))


def test_other_weights_are_refused(run: Path) -> None:
    with pytest.raises(ModelError, match="other weights than this run was made with"):
        open_live(change(run, "config", "model", "weights_sha256", to="0" * 64), device="cpu")


def test_a_manifest_without_a_model_is_refused(run: Path) -> None:
    with pytest.raises(RunConflictError, match="does not say which model"):
        open_live(change(run, "config", "model", to=None))


def test_a_checkpoint_of_a_sweep_opens(made: Path, toy_folder: Path, tmp_path: Path) -> None:
    named = {"model": str(toy_folder), "name": "toy", "revisions": [{"revision": "main", "step": None}]}
    sweep = SweepFolder(tmp_path / "sweep", {"schema": 1, "models": [named], "loading": {"cache_dir": None}})
    own = sweep.files("toy", "main", "-").own
    shutil.copytree(made, own)
    live = open_checkpoint(sweep, "toy", "main", device="cpu")
    assert live.answer("12-3=", OFF).answer == 9
    with pytest.raises(RunConflictError, match="the sweep has no run of toy step5"):
        open_checkpoint(sweep, "toy", "step5")
