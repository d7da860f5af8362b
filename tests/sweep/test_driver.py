"""The loop: the order of tasks, retries, failures, the reference that cannot be read, and going on later."""

import json
from dataclasses import replace

import pytest
from scripted import STEPS, Scripted, model, planned, write_ended

from arithcirc.errors import SweepIncomplete
from arithcirc.sweep import driver
from arithcirc.sweep.api import check_complete
from arithcirc.sweep.driver import run_tasks, unfinished
from arithcirc.sweep.task import Outcome


def revisions(order):
    """Checkpoints in the order in which their first task was handed over."""
    return list(dict.fromkeys(revision for _, revision, _ in order))


def outcome_of(sweep, task):
    return json.loads(sweep.files(*task.key).outcome.read_text())


# -- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_every_task_runs_once_the_references_first(tmp_path, slots):
    sweep, tasks = planned(tmp_path)
    executor = Scripted(tmp_path, slots)
    summary = run_tasks(sweep, tasks, executor)
    assert sorted(executor.order) == sorted(t.key for t in tasks)
    assert set(executor.order[:2]) == {("m", "step3", "+"), ("m", "step3", "*")}
    assert executor.most <= slots
    assert (len(summary.ended), summary.failed, summary.left, summary.stopped) == (8, [], 0, None)
    assert summary.task_seconds == 16


def test_one_worker_keeps_its_checkpoint_and_goes_backwards_through_training(tmp_path):
    sweep, tasks = planned(tmp_path, operators="+-*/")
    executor = Scripted(tmp_path)
    run_tasks(sweep, tasks, executor)
    groups = [revision for _, revision, _ in executor.order]
    assert groups == [r for r in reversed(STEPS) for _ in range(4)]


def test_two_workers_take_different_checkpoints_and_keep_them(tmp_path):
    sweep, tasks = planned(tmp_path, operators="+-*/")
    executor = Scripted(tmp_path, slots=2)
    run_tasks(sweep, tasks, executor)
    after = [revision for _, revision, _ in executor.order[4:]]
    assert after[:8].count("step2") == after[:8].count("step1") == 4


def test_an_operator_waits_for_its_reference_only(tmp_path):
    sweep, tasks = planned(tmp_path)
    executor = Scripted(tmp_path, slots=3)
    run_tasks(sweep, tasks, executor)
    place = {key: n for n, key in enumerate(executor.order)}
    assert executor.most == 3
    assert all(place["m", "step3", o] < place["m", s, o] for s in STEPS[:-1] for o in "+*")


def test_models_have_a_reference_each(tmp_path):
    sweep, tasks = planned(tmp_path, models=(model("a"), model("b", ("step5", "step9"))))
    executor = Scripted(tmp_path, slots=2)
    run_tasks(sweep, tasks, executor)
    assert {key[:2] for key in executor.order[:2]} == {("a", "step3"), ("b", "step9")}
    assert {t.name: t.reference for t in tasks} == {"a": "step3", "b": "step9"}


def test_another_reference(tmp_path):
    sweep, tasks = planned(tmp_path, reference="step1")
    executor = Scripted(tmp_path)
    run_tasks(sweep, tasks, executor)
    assert revisions(executor.order) == ["step1", "step3", "step2", "step0"]


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_task_is_recorded_and_the_rest_goes_on(tmp_path):
    sweep, tasks = planned(tmp_path)
    summary = run_tasks(sweep, tasks, Scripted(tmp_path, fates={("step1", "*"): "failed"}))
    assert [(t.key, reason) for t, reason in summary.failed] == [(("m", "step1", "*"), "broken")]
    assert len(summary.ended) == 8
    with pytest.raises(SweepIncomplete, match=r"1 of 8 tasks failed \(first: m step1 \*: broken\); table tasks"):
        check_complete(summary, 8)


@pytest.mark.parametrize(
    ("times", "retries", "status"), [(1, 2, "done"), (2, 2, "done"), (3, 2, "failed"), (1, 0, "failed")]
)
def test_a_lost_task_is_tried_again_so_many_times(tmp_path, times, retries, status):
    sweep, tasks = planned(tmp_path)
    executor = Scripted(tmp_path, fates={("step2", "+"): times})
    heard = []
    run_tasks(sweep, tasks, executor, retries=retries, listen=heard.append)
    lost = next(t for t in tasks if t.key[1:] == ("step2", "+"))
    tries = min(times, retries) + 1
    assert executor.tried[lost.key] == tries
    written = outcome_of(sweep, lost)
    assert (written["status"], written["attempts"]) == (status, tries)
    assert status == "done" or f"its worker is gone, {tries} times" in written["reason"]
    assert len([n for n in heard if n.what == "again"]) == tries - 1


def test_a_sweep_that_ran_to_its_end_is_complete(tmp_path):
    sweep, tasks = planned(tmp_path)
    check_complete(run_tasks(sweep, tasks, Scripted(tmp_path)), len(tasks))


# -- a reference that cannot be read ----------------------------------------------------------------------------------


def test_the_latest_earlier_checkpoint_replaces_a_reference_that_cannot_be_read(tmp_path):
    sweep, tasks = planned(tmp_path)
    executor = Scripted(tmp_path, fates={"step3": "failed", "step2": "lost"})
    run_tasks(sweep, tasks, executor, retries=0)
    assert revisions(executor.order) == ["step3", "step2", "step1", "step0"]
    assert {t.revision: t.reference for t in executor.tasks} == {
        "step3": "step3",
        "step2": "step2",
        "step1": "step1",
        "step0": "step1",
    }
    held = json.loads((tmp_path / "sweep.json").read_text())["models"][0]
    assert held["reference"] == "step1"
    assert held["reference_note"].startswith("step2 could not be analysed (its worker is gone, 1 times)")
    _, again = planned(tmp_path)
    assert {t.reference for t in again} == {"step1"}
    assert [t.revision for t in unfinished(sweep, again)] == ["step2", "step2", "step3", "step3"]


def test_a_reference_that_fails_for_one_operator_stays(tmp_path):
    sweep, tasks = planned(tmp_path)
    executor = Scripted(tmp_path, slots=4, fates={("step3", "+"): "failed"})
    run_tasks(sweep, tasks, executor)
    assert sorted(executor.order) == sorted(t.key for t in tasks)
    assert sweep.manifest["models"][0]["reference"] == "step3"


def test_when_no_checkpoint_can_be_read_all_have_failed(tmp_path):
    sweep, tasks = planned(tmp_path)
    summary = run_tasks(sweep, tasks, Scripted(tmp_path, fates=dict.fromkeys(STEPS, "failed")))
    assert len(summary.failed) == len(tasks)


# -- going on ---------------------------------------------------------------------------------------------------------


def test_only_what_is_missing_runs_again(tmp_path):
    sweep, tasks = planned(tmp_path)
    run_tasks(sweep, tasks, Scripted(tmp_path, fates={("step1", "*"): "failed", ("step0", "+"): "failed"}))
    sweep.files("m", "step2", "+").outcome.unlink()
    executor = Scripted(tmp_path)
    run_tasks(sweep, tasks, executor)
    assert sorted(executor.order) == [("m", "step0", "+"), ("m", "step1", "*"), ("m", "step2", "+")]
    assert unfinished(sweep, tasks) == []


def test_no_circuit_is_a_result_and_other_numbers_are_not(tmp_path):
    sweep, tasks = planned(tmp_path)
    ended, other, elsewhere = tasks[:3]
    write_ended(tmp_path, ended, Outcome("no circuit"))
    write_ended(tmp_path, replace(other, loading=replace(other.loading, dtype="bfloat16")), Outcome("done"))
    write_ended(
        tmp_path, replace(elsewhere, loading=replace(elsewhere.loading, threads=7, device="cpu")), Outcome("done")
    )
    for task in tasks:
        if task.is_reference:
            write_ended(tmp_path, task, Outcome("done"))
    left = unfinished(sweep, tasks)
    assert ended not in left
    assert other in left
    assert elsewhere not in left


def test_what_hangs_on_a_reference_that_runs_again_is_looked_at_again(tmp_path):
    sweep, tasks = planned(tmp_path)
    run_tasks(sweep, tasks, Scripted(tmp_path))
    sweep.files("m", "step3", "*").outcome.unlink()
    assert {t.operator for t in unfinished(sweep, tasks)} == {"*"}
    assert len(unfinished(sweep, tasks)) == len(STEPS)


def test_the_references_tasks_join_those_asked_for(tmp_path):
    planned(tmp_path)
    (tmp_path / "tasks").mkdir()  # a folder belongs to a sweep once its first task has begun
    _, tasks = planned(tmp_path, models=(model(steps=("step1",)),), operators="+")
    assert [t.key for t in tasks] == [("m", "step1", "+"), ("m", "step3", "+")]


# -- disk -------------------------------------------------------------------------------------------------------------


def test_nothing_more_is_started_on_a_full_disk(tmp_path, monkeypatch):
    sweep, tasks = planned(tmp_path)
    executor = Scripted(tmp_path)
    monkeypatch.setattr(driver, "free_disk", lambda _: 10**9 if len(executor.order) < 3 else 10**8)
    summary = run_tasks(sweep, tasks, executor)
    assert (len(summary.ended), summary.left) == (3, 5)
    with pytest.raises(SweepIncomplete, match=r"nearly full .100 MB free .*: 5 of 8 tasks were not started"):
        check_complete(summary, 8)


# -- weights of remote checkpoints ------------------------------------------------------------------------------------


class Hub:
    """Weights that come after a few questions; `broken` never come."""

    def __init__(self, broken=()):
        self.asked, self.gone, self.broken = {}, [], broken

    def ready(self, task):
        self.asked[task.revision] = self.asked.get(task.revision, 0) + 1
        return self.asked[task.revision] > 2

    def error(self, task):
        return "the hub has no such weights" if task.revision in self.broken else None

    def prepared(self, task):
        return replace(task, loading=replace(task.loading, offline=True))

    def done(self, name, revision):
        self.gone.append((name, revision))


def test_tasks_wait_for_their_weights_which_are_fetched_a_little_ahead(tmp_path):
    sweep, tasks = planned(tmp_path)
    hub, executor = Hub(), Scripted(tmp_path)
    run_tasks(sweep, tasks, executor, weights=hub)
    assert all(t.loading.offline for t in executor.tasks)
    assert list(hub.asked) == [*reversed(STEPS)]
    assert hub.gone == [("m", revision) for revision in reversed(STEPS)]


def test_weights_that_cannot_be_had_fail_their_tasks_only(tmp_path):
    sweep, tasks = planned(tmp_path)
    executor = Scripted(tmp_path)
    summary = run_tasks(sweep, tasks, executor, weights=Hub(broken=("step3", "step1")))
    assert {t.revision for t, _ in summary.failed} == {"step3", "step1"}
    assert {t.revision: t.reference for t in executor.tasks} == {"step2": "step2", "step0": "step2"}
