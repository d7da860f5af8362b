"""Whole runs of a tiny model: folders, measured numbers, kill and resume, bad requests."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.tiny import EXACT, TINY
from transformers import AutoModelForCausalLM, AutoTokenizer

from arithcirc.errors import EnvironmentFailure, NumericsError, RequestError, RunConflictError
from arithcirc.training.evaluate import exam_set, read_accuracies
from arithcirc.training.model import build_model, load_step, save_step
from arithcirc.training.plan import cpu_threads, measure_plan
from arithcirc.training.recipe import load_recipe
from arithcirc.training.trainer import _arguments, train

TESTS = Path(__file__).parents[1]
CHILD = """
import sys, time
from pathlib import Path
from arithcirc.training.trainer import train
from training.tiny import EXACT
def report(event):
    if event.accuracies:
        print(event.step, flush=True)
        time.sleep(float(sys.argv[2]) if event.step == 16 else 0)
train(EXACT, Path(sys.argv[1]), device="cpu", threads=1, report=report)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "tiny"
    events = []
    return train(TINY, out, device="cpu", threads=1, report=events.append), events


def test_a_run_leaves_plain_folders_and_nothing_else(run):
    out = run[0].folder
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    files = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    expected = {f"step{s}/{f}" for s in (0, 8, 24) for f in files}
    assert names == expected | {"recipe.json", "accuracy.json", "card.json", "README.md"}
    assert load_recipe(out) == TINY


def test_a_step_folder_loads_with_the_auto_classes(run):
    folder = run[0].final
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert model.dtype == torch.bfloat16
    assert model(**tokenizer("3+4=", return_tensors="pt")).logits.shape == (1, 4, 49)
    assert model.config.use_parallel_residual
    assert not model.config.tie_word_embeddings


def test_accuracies_are_those_of_the_weights_on_disk(run):
    done, events = run
    steps = sorted({row.step for row in done.accuracies})
    assert steps == list(TINY.checkpoint_steps())
    again = exam_set(TINY).measure(done.final, 24)
    assert again == tuple(row for row in done.accuracies if row.step == 24)
    assert read_accuracies(done.folder) == done.accuracies
    assert [e.step for e in events if e.accuracies] == steps
    assert [e.step for e in events if e.loss is not None]


def test_the_untrained_checkpoint_is_the_seeds_model(run):
    disk = load_step(run[0].folder / "step0").state_dict()
    for name, value in build_model(TINY).state_dict().items():
        assert torch.equal(disk[name], value.bfloat16().float())


def test_the_card_tells_the_run(run):
    out = run[0].folder
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    text = (out / "README.md").read_text(encoding="utf-8")
    assert card["checkpoints"] == [0, 8, 24]
    assert [c["held_out"] + c["train"] for c in card["counts"]] == [c["legal"] for c in card["counts"]]
    assert card["command"] in text
    assert "| **24** |" in text
    assert os.uname().nodename not in text
    assert str(out) not in text


def test_a_finished_run_is_returned_not_repeated(run):
    before = {p: p.stat().st_mtime_ns for p in run[0].folder.rglob("*")}
    again = train(TINY, run[0].folder, device="cpu")
    assert again.seconds == pytest.approx(run[0].seconds, abs=0.1)
    assert replace(again, seconds=run[0].seconds) == run[0]
    assert {p: p.stat().st_mtime_ns for p in run[0].folder.rglob("*")} == before


def test_another_recipe_in_the_folder_is_refused_by_field(run):
    with pytest.raises(RunConflictError, match="seed: 5 here, 0 there"):
        train(replace(TINY, seed=5), run[0].folder)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "killed"), "60"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=TESTS,
    ) as child:
        deadline = time.monotonic() + 120
        for line in child.stdout:
            if line.strip() == "16" or time.monotonic() > deadline:
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    resumes = sorted(p.name for p in (tmp_path / "killed/.work").glob("checkpoint-*"))
    assert resumes == ["checkpoint-12", "checkpoint-6"]
    (tmp_path / "killed/.work/checkpoint-18").mkdir()
    events = []
    resumed = train(EXACT, tmp_path / "killed", device="cpu", threads=1, report=events.append)
    assert [e.step for e in events if e.accuracies] == [16, 24]
    whole = train(EXACT, tmp_path / "whole", device="cpu", threads=1)
    one, two = (load_file(r.final / "model.safetensors") for r in (resumed, whole))
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert resumed.accuracies == whole.accuracies


def test_adamw_alone_and_bf16_train_too(tmp_path):
    recipe = replace(TINY, optimizer="adamw", precision="bf16", disk_dtype="float16", steps=4, warmup_steps=1, keep=())
    done = train(recipe, tmp_path / "run", device="cpu", threads=1)
    assert load_file(done.final / "model.safetensors")["gpt_neox.embed_in.weight"].dtype == torch.float16


def test_the_plan_counts_and_measures():
    recipe = replace(TINY, steps=60, rows=32)
    model = build_model(recipe)
    plan = measure_plan(recipe, device="cpu", threads=1)
    assert plan.parameters == sum(p.numel() for p in model.parameters())
    assert plan.tokens == 60 * 32 * 11
    assert plan.seconds > 0
    assert "60 steps" in plan.text()


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(EnvironmentFailure, match="cannot write"):
        train(TINY, tmp_path / "file" / "run")
    with pytest.raises(RunConflictError, match="no recipe"):
        train(TINY, tmp_path)


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("arithcirc.training.trainer.save_step", full)
    with pytest.raises(EnvironmentFailure, match="No space left") as caught:
        train(TINY, tmp_path / "run", device="cpu")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("arithcirc.training.trainer.save_step", save_step)
    assert train(TINY, tmp_path / "run", device="cpu").final.is_dir()


def test_a_diverging_run_stops_with_a_reason(tmp_path):
    recipe = replace(TINY, optimizer="adamw", learning_rate=1e30, warmup_steps=0, keep=())
    with pytest.raises(NumericsError, match="lower"):
        train(recipe, tmp_path / "run", device="cpu")


def test_one_of_several_processes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="one of 2 processes"):
        train(TINY, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_several_gpus_are_not_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", property(lambda self: self.__dict__.get("_n_gpu") or 4))
    assert _arguments(TINY, tmp_path, "cpu").n_gpu == 1


def test_devices_and_threads_that_are_not_there(tmp_path):
    with pytest.raises(RequestError, match="unknown device"):
        train(TINY, tmp_path / "run", device="tpu")
    with pytest.raises(RequestError, match="threads"), cpu_threads(0):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="no GPU"):
            train(TINY, tmp_path / "run", device="cuda")
