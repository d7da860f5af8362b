"""Studies dealt out to workers: two local processes write what one process writes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from influence.studied import ASKED, corpus, done, opened, results, toy

from arithcirc.errors import RequestError, SweepIncomplete
from arithcirc.sweep.executors import Finished, Lost, Work
from arithcirc.sweep.influence_driver import DO, run_studies
from arithcirc.sweep.influence_task import FINISH, PREPARE, StudyTask
from arithcirc.sweep.remote import do_text, named
from arithcirc.sweep.task import Outcome


def task(root: Path, **changes) -> StudyTask:
    made = StudyTask("m", "m", "step1", PREPARE, "corpus", str(root), asked={"max_tokens": 20}, how={"partition": 8})
    return replace(made, **changes)


class Scripted:
    """An executor that answers by a function at once, and remembers."""

    slots = 2

    def __init__(self, answer):
        self.answer, self.seen, self.events, self.closed = answer, [], [], []

    def submit(self, task):
        self.seen.append(task.key)
        self.events.append(self.answer(task))

    def poll(self, timeout):  # noqa: ARG002
        found, self.events = self.events, []
        return found

    def close(self, *, cancel=False):
        self.closed.append(cancel)


def prepared(root: Path, revision: str, pieces: int) -> None:
    folder = root / "m" / revision / "influence"
    folder.mkdir(parents=True)
    manifest = {"schema": 1, "stages": {"documents": {"pieces": pieces}}, "config": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_task_is_work_that_survives_a_journey(tmp_path):
    made = task(tmp_path, part="3..5").on_threads(2)
    assert isinstance(made, Work)
    assert StudyTask.of(json.loads(made.text())) == made
    assert made.loading.threads == 2
    assert made.partitions == range(3, 6)
    assert made.doing(FINISH).partitions is None
    assert named(DO)[0](made.as_json()) == made
    with pytest.raises(RequestError, match="another version"):
        StudyTask.of({"model": "m"})


def test_partitions_come_between_preparing_and_finishing(tmp_path):
    for revision, pieces in (("step1", 70), ("step2", 8)):
        prepared(tmp_path, revision, pieces)
    executor = Scripted(lambda t: Finished(t.key, Outcome("done")))
    run_studies([task(tmp_path), task(tmp_path, revision="step2")], executor, partition=8)
    parts = {r: [p for _, revision, p in executor.seen if revision == r] for r in ("step1", "step2")}
    assert parts["step2"] == [PREPARE, "0..0", FINISH]
    assert parts["step1"] == [PREPARE, "0..2", "3..5", "6..8", FINISH]
    assert executor.closed == [False]


def test_a_lost_task_is_tried_again_and_a_failed_one_ends_its_study_alone(tmp_path):
    for revision in ("step1", "step2"):
        prepared(tmp_path, revision, 20)
    lost = []

    def answer(task):
        if task.part == "0..0" and task.revision == "step1" and len(lost) < 2:
            lost.append(task)
            return Lost(task.key, "killed")
        failed = task.part == "1..1" and task.revision == "step2"
        return Finished(task.key, Outcome("failed", "no room") if failed else Outcome("done"))

    executor = Scripted(answer)
    with pytest.raises(SweepIncomplete, match=r"m step2 1\.\.1 failed: no room"):
        run_studies([task(tmp_path), task(tmp_path, revision="step2")], executor, partition=8)
    assert ("m", "step1", FINISH) in executor.seen
    assert ("m", "step2", FINISH) not in executor.seen
    assert executor.seen.count(("m", "step1", "0..0")) == 3


def test_a_worker_says_why_it_failed(tmp_path):
    outcome = json.loads(do_text(str(tmp_path), task(tmp_path, model=str(tmp_path / "none")).text(), DO))
    assert outcome["status"] == "failed"
    assert "none" in outcome["reason"]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path):
    given, model = corpus(tmp_path / "corpus"), toy(tmp_path / "toy")
    alone = done(model, given, tmp_path / "alone")
    from arithcirc.cli.main import run

    command = (
        f"influence sweep {tmp_path / 'toy'} --corpus {given} --out {tmp_path / 'runs'} --partition 16 --workers 2 "
        f"--max-tokens {ASKED.max_tokens} --max-new-tokens {ASKED.max_new_tokens} --device cpu"
    )
    assert run(command.split()) == 0
    assert results(opened(model, given, tmp_path / "runs")) == results(alone)
    shutil.rmtree(tmp_path / "runs" / "toy" / "main" / "influence" / "scores")
    assert run(command.split()) == 0
    assert results(opened(model, given, tmp_path / "runs")) == results(alone)
