"""A step shared among processes is the step of one: gradients of shares, and whole runs of two processes on gloo."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from axioms.tiny_axiom import TINY_AXIOM
from safetensors.torch import load_file

from arithcirc.axioms.course import AxiomCourse
from arithcirc.axioms.train import train_axiom
from arithcirc.cli.main import run as run_command
from arithcirc.errors import RequestError, TrainingStopped
from arithcirc.training.ranks import SharedBatches, share, weighted

TESTS = Path(__file__).parents[1]
# 7 graphs for two processes; an epsilon above the rounding error of gradients, which AdamW else takes for a direction
ADAMW = replace(
    TINY_AXIOM, graphs_per_step=7, dropout=0.0, optimizer="adamw", adam_epsilon=1e-4, steps=8, curriculum_steps=4,
    measure_every=4, resume_every=100,
)  # fmt: skip
MUON = replace(ADAMW, optimizer="muon", muon_learning_rate=1e-3)
DROPPED = replace(ADAMW, dropout=0.1)
CHILD = """
import sys
from pathlib import Path
from torch import distributed
from arithcirc.axioms.train import train_axiom
from arithcirc.errors import TrainingStopped
from axioms.test_axiom_ranks import ADAMW, DROPPED, MUON
distributed.init_process_group("gloo")
out, told = Path(sys.argv[1]), []
def train(recipe, name, **options):
    return train_axiom(recipe, out / name, device="cpu", threads=1, report=told.append, **options)
def stopped(recipe, name):
    try:
        train(recipe, name, stop=lambda: told[-1].step >= 4)
    except TrainingStopped as error:
        print(error)
for name, recipe in (("adamw", ADAMW), ("muon", MUON), ("dropped", DROPPED)):
    train(recipe, name)
for name, recipe in (("adamw", ADAMW), ("dropped", DROPPED)):
    stopped(recipe, f"{name}-stopped")
    train(recipe, f"{name}-stopped")
stopped(ADAMW, "left")
print(len(told), train(ADAMW, "adamw").seconds > 0)
"""


def gradient(course, batch, scale):
    """The gradient of a batch's loss at the untrained weights, and its loss; `scale` is told the loss and labels."""
    model, batch = course.model(), dict(batch)
    labels = batch.pop("labels")
    loss = scale(course.loss(model(**batch).logits, labels), labels)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]), loss.detach()


def test_the_mean_of_the_shares_is_the_step():
    course, number = AxiomCourse(ADAMW), 3
    batches = course.batches()
    shared = SharedBatches(batches, ADAMW.steps, number)
    assert len(shared) == number * len(batches)
    index = 3
    whole, parts = batches[index], [shared[number * index + rank] for rank in range(number)]
    for name, value in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), value)
    answers = [int((part["labels"] >= 0).sum()) for part in parts]
    assert len(set(answers)) > 1
    found = [
        gradient(course, part, lambda loss, labels: number * weighted(loss, labels, sum(answers))) for part in parts
    ]
    expected, loss = gradient(course, whole, lambda loss, _: loss)
    assert torch.allclose(sum(g for g, _ in found) / number, expected, atol=1e-6)
    assert sum(lost for _, lost in found) / number == pytest.approx(float(loss), abs=1e-6)
    naive = sum(gradient(course, part, lambda loss, _: loss)[0] for part in parts) / number
    assert (naive - expected).abs().max() > 1e-3  # the mean of the processes' means is another step


def test_shares_are_consecutive_and_nearly_equal():
    batch = {"labels": torch.arange(10)}
    parts = [share(batch, rank, 4)["labels"].tolist() for rank in range(4)]
    assert parts == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(tmp_path):
    events = []
    with pytest.raises(TrainingStopped, match="at step 4 of 8: the same command goes on") as caught:
        train_axiom(ADAMW, tmp_path / "a", device="cpu", report=events.append, stop=lambda: events[-1].step == 4)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a/card.json").exists()
    resumed = train_axiom(ADAMW, tmp_path / "a", device="cpu")
    whole = train_axiom(ADAMW, tmp_path / "b", device="cpu", stop=lambda: False)
    one, two = (load_file(r.final / "model.safetensors") for r in (resumed, whole))
    assert all(torch.equal(one[name], two[name]) for name in two)


def test_more_processes_than_rows_and_studies_in_several_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(RequestError, match=r"8 processes cannot share a step of 7 row\(s\): start 7 at most"):
        train_axiom(ADAMW, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    study = ["axioms", "study", "--out", str(tmp_path / "run")]
    assert run_command(study) == 2
    assert "one of 8 processes (WORLD_SIZE) and a study runs in one" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("RANK", "3")
    assert run_command(study) == 2
    assert not capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], cwd=TESTS, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        first, second = (rank.communicate(timeout=300)[0] for rank in ranks)
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], first + second
    assert second.splitlines()[-1] == "0 True"  # it has reported nothing, and found the finished run
    assert first.count("stopped as asked at step 4 of 8") == second.count("stopped as asked at step 4 of 8") == 3

    def weights(folder):
        return load_file(folder / "step8" / "model.safetensors")

    for name, recipe in (("adamw", ADAMW), ("muon", MUON)):
        alone = train_axiom(recipe, tmp_path / f"{name}-alone", device="cpu", threads=1)
        one, two = weights(alone.folder), weights(tmp_path / name)
        assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
        files = {p.relative_to(alone.folder) for p in alone.folder.rglob("*")}
        assert {p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*")} == files
        assert json.loads((tmp_path / name / "card.json").read_text())["machine"]["threads"] == 2
    for name in ("adamw", "dropped"):
        one, two = weights(tmp_path / name), weights(tmp_path / f"{name}-stopped")
        assert all(torch.equal(one[key], two[key]) for key in one)
    alone = train_axiom(ADAMW, tmp_path / "left", device="cpu", threads=1)  # one process goes on where two stopped
    one, two = weights(alone.folder), weights(tmp_path / "adamw")
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
