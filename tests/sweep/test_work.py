"""A task is a pure function from a config to files: safe to run twice, to kill, and to run elsewhere."""

import shutil
from dataclasses import replace
from pathlib import Path

import little_tasks
import pytest

from arithcirc.arithmetic.operators import OperandRange, fitting_prompts, operator
from arithcirc.catalogue import SweepFolder, TaskFiles
from arithcirc.errors import EnvironmentFailure
from arithcirc.pipeline import circuit_stages
from arithcirc.store import RunFolder
from arithcirc.sweep import emergence_stage, loaded, work
from arithcirc.sweep.given import Given, important_of, read_given
from arithcirc.sweep.task import Outcome, Task
from arithcirc.sweep.work import plan_task, run_task


@pytest.fixture(scope="module")
def model(checkpoints: Path) -> Path:
    return checkpoints


def files_of(root: Path, task: Task) -> TaskFiles:
    return SweepFolder(root).files(*task.key)


def tables(folder: Path) -> dict[str, bytes]:
    """Tables and arrays below a folder; manifests say when and where they were made."""
    kinds = (".parquet", ".safetensors")
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.suffix in kinds}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the last change of every file: a file written anew, with the same bytes too, differs."""
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def with_reference(root: Path, here: Path, model: Path, *more: int) -> Path:
    """Another sweep's folder that has the reference's task, and others', already."""
    for step in (2, *more):
        task = little_tasks.task(model, step)
        shutil.copytree(files_of(root, task).folder, files_of(here, task).folder)
    return here


# -- what becomes of tasks ---------------------------------------------------------------------------------------------


def test_each_task_says_what_became_of_it(outcomes: dict[int, Outcome], model: Path, root: Path) -> None:
    assert {step: o.status for step, o in outcomes.items()} == {2: "done", 1: "done", 0: "no circuit", 3: "failed"}
    assert outcomes[2].reason is outcomes[1].reason is None
    assert outcomes[0].reason == "0 of 441 prompts answered correctly, at least 2 are needed"
    assert "step3" in str(outcomes[3].reason)
    assert "\n" not in str(outcomes[3].reason)
    for step, outcome in outcomes.items():
        task = little_tasks.task(model, step)
        written = SweepFolder(root)
        ended = {f.folder: o for _, o, f in written.ended()}
        assert Outcome.of(ended[files_of(root, task).folder]) == outcome


def test_an_outcome_counts_time_and_work(outcomes: dict[int, Outcome]) -> None:
    for step in (2, 1):
        found = outcomes[step]
        assert found.seconds >= sum(found.stages.values()) * 0.99 > 0
        assert found.load_seconds > 0
        assert found.forwards > 500
        assert found.peak_bytes > 10**7
        assert found.host
        assert found.attempts == 1
    assert outcomes[1].n_shared == 6
    assert outcomes[2].n_shared == 0
    assert {name.partition("/")[0] for name in outcomes[1].stages} == {"own", "shared"}
    assert {name.partition("/")[0] for name in outcomes[2].stages} == {"own"}


def test_where_nothing_is_answered_there_are_accuracy_and_answers(
    outcomes: dict[int, Outcome], model: Path, root: Path
) -> None:
    assert outcomes[0].status == "no circuit"
    run = RunFolder.open(files_of(root, little_tasks.task(model, 0)).own)
    legal = fitting_prompts(operator("+"), OperandRange(0, 20), 60)
    answers = run.table("answers")
    assert len(answers) == len(legal)
    assert not answers["correct"].any()
    assert run.table("accuracy")["correct"].tolist() == [0]


def test_answers_are_the_same_columns_whoever_writes_them(
    outcomes: dict[int, Outcome], model: Path, root: Path
) -> None:
    first, second = (RunFolder.open(files_of(root, little_tasks.task(model, s)).own).table("answers") for s in (0, 2))
    assert outcomes[2].status == "done"
    assert first.dtypes.to_dict() == second.dtypes.to_dict()


# -- one rule for all --------------------------------------------------------------------------------------------------


def test_the_reference_gives_the_rule_and_the_neurons_to_label(
    outcomes: dict[int, Outcome], model: Path, root: Path
) -> None:
    assert outcomes[1].status == "done"
    files = files_of(root, little_tasks.task(model, 1))
    given = read_given(files_of(root, little_tasks.task(model, 2)), "+", "heuristics")
    assert isinstance(given, Given)
    runs = {name: RunFolder.open(path) for name, path in (("own", files.own), ("shared", files.shared))}
    for run in runs.values():
        assert run.manifest["config"]["neurons"]["first_layer"] == given.first_layer
        assert run.manifest["config"]["neurons"]["top"] == given.top
        assert "probes" not in run.tables()
        important = run.table("neurons").query("important")
        per_layer = important.drop_duplicates(["layer", "neuron"]).groupby("layer").size()
        assert per_layer.index.min() == given.first_layer
        assert set(per_layer) == {given.top}
    labelled = set(runs["own"].table("heuristics")[["layer", "neuron"]].itertuples(index=False, name=None))
    union = {n for run in runs.values() for n in important_of(run.table("neurons"))} | set(given.neurons)
    assert labelled == {(n.layer, n.index) for n in union}
    assert "heuristics" not in runs["shared"].tables()


def test_without_a_reference_a_task_goes_by_its_own_rule(
    outcomes: dict[int, Outcome], model: Path, root: Path, tmp_path: Path
) -> None:
    """The same place first had a reference, whose results are then gone: its runs are made anew."""
    assert outcomes[1].n_shared > 0
    task = little_tasks.task(model, 1)
    here = with_reference(root, tmp_path, model, 1)
    shutil.rmtree(files_of(here, little_tasks.task(model, 2)).folder)
    found = run_task(task, here)
    assert found.status == "done"
    assert str(found.reason).startswith("the reference has not been analysed")
    files = files_of(here, task)
    assert not files.shared.exists()
    own = RunFolder.open(files.own)
    assert own.finished("probe")
    assert set(own.table("kept_faithfulness")["neurons"]) == {"all", "none"}
    assert set(own.table("knockouts_by_prompt")["arm"]) == {"targeted", "random"}


# -- twice, killed, elsewhere ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 1, 0])
def test_a_task_that_ended_is_not_done_again(
    outcomes: dict[int, Outcome], model: Path, root: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: Task) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(work, "loaded_for", never)
    before = stamps(root)
    assert run_task(little_tasks.task(model, step), root) == outcomes[step]
    assert stamps(root) == before


def test_no_circuit_is_looked_for_where_a_constant_answer_does_as_well(model: Path, tmp_path: Path) -> None:
    lucky = little_tasks.task(model, 1)
    outcome = run_task(replace(lucky, settings=replace(lucky.settings, level=1e-9)), tmp_path)
    assert outcome.status == "no circuit"
    assert "no better than the most frequent answer" in str(outcome.reason)
    assert set(outcome.stages) == {"own/prompts", "own/answers"}


def test_a_lost_table_is_made_again(outcomes: dict[int, Outcome], model: Path, root: Path, tmp_path: Path) -> None:
    assert outcomes[0].status == "no circuit"
    task = little_tasks.task(model, 0)
    here = with_reference(root, tmp_path, model, 0)
    lost = files_of(here, task).own / "answers.parquet"
    before = lost.read_bytes()
    lost.unlink()
    assert run_task(task, here).status == "no circuit"
    assert lost.read_bytes() == before


def test_a_killed_task_goes_on_where_it_stopped_to_the_same_bytes(
    outcomes: dict[int, Outcome], model: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another folder than the first time, and with means computed anew, which were kept between tasks there."""
    assert outcomes[1].status == "done"
    task = little_tasks.task(model, 1)
    here = with_reference(root, tmp_path, model)
    loaded.free()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(emergence_stage, "kept_knockouts", killed)
        with pytest.raises(KeyboardInterrupt):
            run_task(task, here)
    files = files_of(here, task)
    assert not files.outcome.exists()
    made = stamps(files.folder)
    found = run_task(task, here)
    assert (found.status, found.attempts, found.n_shared) == ("done", 1, 6)
    assert found.seconds >= sum(found.stages.values()) * 0.99
    kept = [name for name in made if Path(name).suffix in (".parquet", ".safetensors")]
    assert {name: made[name] for name in kept} == {name: stamps(files.folder)[name] for name in kept}
    assert tables(files.folder) == tables(files_of(root, task).folder) != {}


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EnvironmentFailure("the disk\nis full"), "the disk is full"),
        (ZeroDivisionError("by zero"), "unexpected ZeroDivisionError: by zero"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: use a smaller --batch-size"),
        (MemoryError(), "out of memory in stage localize"),
    ],
)
def test_a_failed_task_says_why_in_one_line_and_is_done_again(
    error: Exception,
    said: str,
    outcomes: dict[int, Outcome],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert outcomes[2].status == "done"
    task = little_tasks.task(model, 2, stages="circuit")

    def raising(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(circuit_stages if isinstance(error, MemoryError) else work, *_broken(error), raising)
        found = run_task(task, tmp_path)
        assert (found.status, found.attempts) == ("failed", 1)
        assert str(found.reason).startswith(said)
        assert "\n" not in str(found.reason)
        assert run_task(task, tmp_path).attempts == 2
    assert run_task(task, tmp_path).attempts == 3
    assert run_task(task, tmp_path).status == "done"


def _broken(error: Exception) -> tuple[str]:
    return ("localize",) if isinstance(error, MemoryError) else ("first_stages",)


def test_a_folder_that_holds_another_task_is_left_alone(outcomes: dict[int, Outcome], model: Path, root: Path) -> None:
    assert outcomes[1].status == "done"
    before = stamps(root)
    found = run_task(little_tasks.task(model, 1, stages="circuit"), root)
    assert found.status == "failed"
    assert "holds another task (its settings differ)" in str(found.reason)
    assert stamps(root) == before


# -- smaller sets of stages, and the plan ------------------------------------------------------------------------------


def test_a_circuit_is_enough_where_no_more_is_asked_for(model: Path, tmp_path: Path) -> None:
    for step in (2, 1):
        assert run_task(little_tasks.task(model, step, stages="circuit"), tmp_path).reason is None
    files = files_of(tmp_path, little_tasks.task(model, 1))
    own, shared = RunFolder.open(files.own), RunFolder.open(files.shared)
    assert own.finished("answers")
    assert set(shared.manifest["stages"]) == {"prompts", "localize", "means", "faithfulness"}
    assert "neurons" not in own.tables()


def test_means_are_computed_once_for_a_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    whole = circuit_stages.sampled_mean_activations
    monkeypatch.setattr(circuit_stages, "sampled_mean_activations", lambda *a, **k: calls.append(1) or whole(*a, **k))
    loaded.free()
    for operator_ in "+/":
        assert run_task(little_tasks.task(model, 2, operator_, stages="circuit"), tmp_path).status == "done"
    assert calls == [1]
    files = [files_of(tmp_path, little_tasks.task(model, 2, o)).own / "means.safetensors" for o in "+/"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_progress_names_the_run_and_the_stage(model: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    run_task(little_tasks.task(model, 2, stages="circuit"), tmp_path, report=lambda *said: seen.append(said))
    assert {stage for stage, *_ in seen} >= {"own/prompts", "own/localize", "own/faithfulness", "own/answers"}
    last = {stage: (done, total) for stage, done, total in seen}
    assert all(done == total for done, total in last.values())


def test_a_plan_counts_the_stages_that_run_and_writes_nothing(
    outcomes: dict[int, Outcome], model: Path, root: Path, tmp_path: Path
) -> None:
    plan = plan_task(little_tasks.task(model, 1), tmp_path)
    assert not list(tmp_path.iterdir())
    free = {"own/probe", "shared/means"}  # a rule is given, and means are kept
    assert set(plan["stages"]) | free == set(outcomes[1].stages) | free
    assert sum(s["forwards"] for s in plan["stages"].values()) == pytest.approx(outcomes[1].forwards, rel=0.3)
    taken = sum(p.stat().st_size for p in files_of(root, little_tasks.task(model, 1)).folder.rglob("*") if p.is_file())
    assert 0.3 < plan["disk_bytes"] / taken < 3
    assert plan["memory_bytes"] > plan["model_bytes"] > 0
    assert plan["rate"] > 0
