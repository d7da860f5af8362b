"""What a sweep's folder holds is gathered whole, whatever state its tasks are in."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from sweep.synthetic_sweep import FAILED, FAILED_STEP, NAME, STEPS, answers, looked_at, synthetic_sweep

from arithcirc.catalogue import SweepFolder
from arithcirc.store import RunFolder
from arithcirc.sweep.collect import GATHERED, IN_BOTH, collect


@pytest.fixture(scope="module")
def sweep(planted_sweep) -> SweepFolder:
    return planted_sweep


def _run(sweep, step, symbol, kind="own"):
    return RunFolder.open(getattr(sweep.files(NAME, f"step{step}", symbol), kind))


def test_every_table_begins_with_where_it_comes_from(sweep):
    assert set(sweep.tables()) >= {"tasks", "steps", "overlap", "births", "families", "jumps", "verdict"}
    for name in set(sweep.tables()) & set(GATHERED):
        assert sweep.table(name).columns[:4].tolist() == ["model", "revision", "step", "prompts"]


@pytest.mark.parametrize("name", ["neurons", "circuit", "effects", "answers", "heuristics"])
def test_rows_of_a_task_are_those_of_its_run(sweep, name):
    table = sweep.table(name)
    mine = table[(table["step"] == 256) & (table["operator"] == "+") & (table["prompts"] == "own")]
    mine = mine.drop(columns=["model", "revision", "step", "prompts"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, _run(sweep, 256, "+").table(name), check_dtype=False)


def test_shared_prompts_have_their_own_rows_and_the_reference_gives_its_for_both(sweep):
    counts = sweep.sql("select step, prompts, count(*) n from prompts where operator = '+' group by all")
    counts = counts.pivot_table(index="step", columns="prompts", values="n")
    assert (counts.loc[[64, 1000], "own"] == 80).all()
    assert (counts.loc[[64, 1000], "shared"] == 60).all()
    assert (counts.loc[STEPS[-1]] == 80).all()
    for name in set(IN_BOTH) & set(sweep.tables()):
        both = sweep.table(name)
        both = both[both["step"] == STEPS[-1]]
        own, shared = (
            both[both["prompts"] == p].drop(columns="prompts").reset_index(drop=True) for p in ("own", "shared")
        )
        pd.testing.assert_frame_equal(own, shared)
    assert set(sweep.table("answers")["prompts"]) == {"own"}


def test_what_says_itself_whose_prompts_it_is_about_is_taken_at_its_word(sweep):
    found = sweep.table("knockouts_by_prompt")
    mine = found[(found["step"] == 256) & (found["operator"] == "+")]
    inside = _run(sweep, 256, "+").table("knockouts_by_prompt")
    assert mine["prompts"].tolist() == inside["prompts"].tolist()


def test_a_reference_that_speaks_of_its_own_prompts_only_speaks_for_both(tmp_path):
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64, 128))
    file = made.files(NAME, "step128", "+").own / "kept_faithfulness.parquet"
    own = pd.read_parquet(file).query("prompts == 'own'")
    own.to_parquet(file, index=False)
    collect(made)
    table = made.table("kept_faithfulness").query("step == 128")
    assert table["prompts"].value_counts().to_dict() == {"own": len(own), "shared": len(own)}


def test_failed_tasks_are_named_and_give_no_rows(sweep):
    tasks = sweep.table("tasks")
    assert len(tasks) == 2 * len(STEPS)
    (failed,) = tasks[tasks["status"] == "failed"].to_dict("records")
    assert (failed["operator"], failed["step"]) == (FAILED, FAILED_STEP)
    assert "cut short" in failed["reason"]
    accuracy = sweep.table("accuracy")
    assert accuracy[(accuracy["step"] == FAILED_STEP) & (accuracy["operator"] == FAILED)].empty
    assert tasks.loc[tasks["reference"], "step"].unique().tolist() == [STEPS[-1]]


def test_damaged_files_are_left_out_and_named(tmp_path):
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64, 128))
    own = made.files(NAME, "step64", "+").own
    (own / "effects.parquet").write_bytes(b"PAR1 and no more")
    whole = (own / "neurons.parquet").read_bytes()
    (own / "neurons.parquet").write_bytes(whole[:4] + bytes(200) + whole[204:])
    collect(made)
    tasks = made.table("tasks").set_index("step")
    assert tasks.loc[64, "reason"] == "cannot be read: own/effects.parquet, own/neurons.parquet"
    assert pd.isna(tasks.loc[128, "reason"])
    assert set(made.table("effects")["step"]) == {64, 128}  # 64 from its run on shared prompts
    assert 64 not in set(made.table("effects").query("prompts == 'own'")["step"])


def test_tasks_that_have_not_ended_or_were_not_asked_for_do_not_count(tmp_path):
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64, 128, 256))
    (made.files(NAME, "step64", "+").outcome).unlink()
    revisions = made.manifest["models"][0]["revisions"]
    made.manifest["models"][0]["revisions"] = [r for r in revisions if r["step"] != 128]
    names = collect(made)
    assert set(made.table("tasks")["step"]) == {0, 256}
    assert set(made.table("neurons")["step"]) == {256}
    assert sorted(names) == made.tables()


def test_a_folder_without_tasks_has_empty_tables_and_stale_ones_go(tmp_path):
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64))
    collect(made)
    for outcome in made.path.glob("tasks/*/*/*/outcome.json"):
        outcome.unlink()
    assert "neurons" not in collect(made)
    assert "neurons" not in made.tables()
    assert made.table("tasks").empty
    assert set(made.table("verdict")["answer"]) == {"unknown"}


def test_revisions_without_a_step_have_none(tmp_path):
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64))
    for revision in made.manifest["models"][0]["revisions"]:
        revision["step"] = None
    for file in made.path.glob("tasks/*/*/*/task.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"step": None}))
    collect(made)
    assert made.table("neurons")["step"].isna().all()
    assert made.table("births")["birth"].isna().all()
    assert set(made.table("births")["birth_revision"].dropna()) == {"step64"}
    assert set(made.table("steps")["revision"]) == {"step0", "step64"}


def test_collecting_again_gives_the_same_bytes(tmp_path):
    made = synthetic_sweep(tmp_path / "sweep", operators="+", steps=(0, 64, 128))
    files = [made.path / "tables" / f"{name}.parquet" for name in collect(made)]
    before = [file.read_bytes() for file in files]
    collect(made)
    assert [file.read_bytes() for file in files] == before
    assert not list(made.path.glob("tables/*.part"))


def test_the_driver_collects_without_torch(sweep):
    code = (
        "import sys; from arithcirc.catalogue import SweepFolder; from arithcirc.sweep.collect import collect; "
        f"collect(SweepFolder.open({str(sweep.path)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_neurons_and_labels_are_kept(sweep):
    counted = sweep.sql("select step, count(*) n from neurons where operator = '+' and prompts = 'own' group by step")
    assert set(counted["n"]) == {4 * 64}
    labels = sweep.sql("select distinct layer, neuron from heuristics where step = 128 and operator = '+'")
    assert sorted(labels.itertuples(index=False, name=None)) == looked_at(2)
    assert len(sweep.table("answers").query("operator == '+' and step == 64")) == len(answers("+", 1))
