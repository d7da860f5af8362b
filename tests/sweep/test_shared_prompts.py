"""Shared prompts are the reference's, in its order, with its counterfactuals, and answered correctly at both."""

from dataclasses import replace
from pathlib import Path

import little_tasks
import numpy as np
import pandas as pd
import pytest

from arithcirc.arithmetic.pairs import PAIR_COLUMNS, read_pairs
from arithcirc.measure.answers import predictions
from arithcirc.models.load import load
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.prompt_stage import load_pairs, rows_of
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.sweep.shared import ANSWERS, LIST, choose_shared, count_answers, shortage

WANTED = replace(little_tasks.SETTINGS.prompts, operators="-")
PAIR = list(PAIR_COLUMNS)


@pytest.fixture(scope="module")
def model(checkpoints: Path) -> Path:
    return checkpoints


@pytest.fixture(scope="module")
def reference(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A model that always answers 6, so that of a - b with operands 0..20 it answers 15 prompts rightly."""
    loaded = load(str(model), revision="step2", device="cpu")
    job = open_job(loaded, tmp_path_factory.mktemp("runs"), prompts=WANTED)
    run_stages(job, [*stages_for("prompts"), ANSWERS, LIST])
    return job


@pytest.fixture(scope="module")
def listed(reference: Job) -> pd.DataFrame:
    return reference.run.table("shared_prompts")


def test_the_list_begins_with_the_references_own_prompts(reference: Job, listed: pd.DataFrame) -> None:
    prompts = reference.run.table("prompts")
    for name in ("discover", "evaluate"):
        own = rows_of(prompts, "-", name)[PAIR].reset_index(drop=True)
        pd.testing.assert_frame_equal(
            listed.loc[listed["set"] == name, PAIR].head(len(own)).reset_index(drop=True), own
        )


def test_the_list_has_every_prompt_once_and_correctly_answered(reference: Job, listed: pd.DataFrame) -> None:
    answers = reference.run.table("answers")
    right = answers[answers["correct"]]
    assert len(listed) == len(right) == 15  # all that there are, as there are fewer than the list has room for
    assert not listed.duplicated(["op1", "op2"]).any()
    assert set(listed[["op1", "op2"]].itertuples(index=False)) == set(right[["op1", "op2"]].itertuples(index=False))
    assert (listed["answer"] == 6).all()
    assert (listed["counterfactual_answer"] != listed["answer"]).all()
    sizes = listed["set"].value_counts()
    assert abs(sizes["discover"] - sizes["evaluate"]) <= 1


def test_a_longer_list_is_cut_evenly(reference: Job, listed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arithcirc.sweep.shared.LISTED", 10)
    before = reference.run.table("shared_prompts")
    try:
        LIST.run(reference)
        cut = reference.run.table("shared_prompts")
    finally:
        reference.run.write_table("shared_prompts", before)
    assert cut["set"].value_counts().to_dict() == {"discover": 5, "evaluate": 5}
    own = [rows_of(reference.run.table("prompts"), "-", name) for name in ("discover", "evaluate")]
    assert set(pd.concat(own)["prompt"]) <= set(cut["prompt"]) <= set(listed["prompt"])


def test_the_reference_takes_its_own_prompts(reference: Job, listed: pd.DataFrame) -> None:
    taken = choose_shared(reference, listed)
    own = pd.concat([rows_of(reference.run.table("prompts"), "-", name) for name in ("discover", "evaluate")])
    pd.testing.assert_frame_equal(taken[[*PAIR, "set"]], own[[*PAIR, "set"]].reset_index(drop=True))


def test_others_take_the_first_that_they_answer_too(reference: Job, listed: pd.DataFrame) -> None:
    """Prompts with other results stand for those that only the reference answers."""
    strange = listed.assign(op2=listed["op1"], answer=0)
    mixed = pd.concat([strange, listed]).sort_index(kind="stable").reset_index(drop=True)
    taken = choose_shared(reference, mixed)
    pd.testing.assert_frame_equal(taken, choose_shared(reference, listed))
    clean = load_pairs(taken).clean
    said = predictions(reference.model, reference.encoder, clean, batch_size=64)
    np.testing.assert_array_equal(said, reference.encoder.answers(clean.answer))
    assert choose_shared(reference, strange).empty


def test_what_is_taken_is_a_pairs_file(reference: Job, listed: pd.DataFrame, tmp_path: Path) -> None:
    taken = choose_shared(reference, listed)
    taken.to_parquet(tmp_path / "pairs.parquet", index=False)
    pairs, sets = read_pairs(tmp_path / "pairs.parquet")
    assert sets.tolist() == taken["set"].tolist()
    given = load_pairs(taken)
    assert pairs.clean.texts() == given.clean.texts()
    assert pairs.counterfactual.texts() == given.counterfactual.texts()


@pytest.mark.parametrize(("discover", "evaluate", "short"), [(2, 2, False), (1, 9, True), (9, 1, True), (0, 0, True)])
def test_two_prompts_of_a_set_are_the_fewest(discover: int, evaluate: int, short: bool) -> None:
    said = shortage(pd.DataFrame({"set": ["discover"] * discover + ["evaluate"] * evaluate}))
    assert (said is not None) == short
    if said is not None:
        assert f"{discover} to discover and {evaluate} to evaluate" in said


def test_answers_are_those_of_plain_forwards(reference: Job) -> None:
    answers = reference.run.table("answers")
    clean = load_pairs(
        answers.assign(**{f"counterfactual_{c}": answers[c] for c in ("operator", "op1", "op2", "answer")})
    )
    said = predictions(reference.model, reference.encoder, clean.clean, batch_size=512)
    np.testing.assert_array_equal(answers["correct"], said == reference.encoder.answers(clean.clean.answer))
    assert len(answers) == count_answers(reference).rows
    assert (answers["given"] == 6).all()
