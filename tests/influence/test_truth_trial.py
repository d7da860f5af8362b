"""A study beside its training: what fits together, what is refused, and both tries from plan to table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from training.tiny import TINY_TEXT, tiny_texts

from arithcirc.config import ModelConfig
from arithcirc.errors import RequestError, RunConflictError
from arithcirc.influence.config import InfluenceConfig
from arithcirc.influence.rows import Row
from arithcirc.influence.train_exam import read
from arithcirc.influence.truth import (
    check_recipe,
    choose_targets,
    judge_datamodels,
    judge_removals,
    open_trial,
)
from arithcirc.influence_scores import write_part
from arithcirc.store import RunFolder
from arithcirc.training.retrain import retrain
from arithcirc.training.text_data import Texts

ASKED = (0, 5, 9, 12)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return tiny_texts()


@pytest.fixture(scope="module")
def study(texts, tmp_path_factory):
    """A folder as `influence score` leaves it: four queries that are documents, scored by whether they are."""
    place = tmp_path_factory.mktemp("study")
    rows = [Row(tuple(texts.document(i).tolist()), start=2) for i in ASKED]
    nats, _ = read(retrain(texts, TINY_TEXT), rows)
    named = ModelConfig("tiny", "step20", "", "", "float32")
    run = RunFolder.create(place, InfluenceConfig(named), sections=("model",), facts={})
    kinds = ["fact" if i % 2 else "code" for i in range(40)]
    lengths = np.diff(texts.ends, prepend=0)
    run.write_table(
        "documents",
        pd.DataFrame({"document": range(40), "kind": kinds, "source": "web", "tokens": lengths, "holds": [[]] * 40}),
    )
    run.write_table(
        "queries",
        pd.DataFrame(
            {
                "query": [f"q{i}" for i in ASKED],
                "group": ["factual", "factual", "reasoning", "reasoning"],
                "correct": [True, False, True, False],
                "nats": nats,
                "norm": 1.0,
                "row": [list(row.tokens) for row in rows],
                "start": 2,
            }
        ),
    )
    same = np.array([[float(i == asked) for i in range(40)] for asked in ASKED], dtype=np.float32)
    noise = np.random.default_rng(0).random((4, 40), dtype=np.float32)
    write_part(place / "scores", 0, 0, {"ekfac": same + noise / 100, "dot": noise}, {})
    return place


@pytest.fixture(scope="module")
def trial(study, texts, tmp_path_factory):
    return open_trial(study, texts, TINY_TEXT, tmp_path_factory.mktemp("trainings"))


def test_the_recipe_gives_the_studys_model_and_another_does_not(trial, study, texts, tmp_path):
    assert check_recipe(trial) == pytest.approx(0, abs=1e-6)
    other = open_trial(study, texts, replace(TINY_TEXT, learning_rate=1e-2), tmp_path)
    with pytest.raises(RunConflictError, match="gives another model"):
        check_recipe(other)


def test_other_texts_are_refused(study, texts, tmp_path):
    pieces = [texts.document(i).tolist() for i in range(40)]
    for wrong in (pieces[:-1], [*pieces[:-1], pieces[-1] + [3]]):
        given = Texts.of(wrong, vocabulary=texts.vocabulary, bos=texts.bos, pad=texts.pad)
        with pytest.raises(RunConflictError, match="other lengths"):
            open_trial(study, given, TINY_TEXT, tmp_path)


def test_scores_are_those_of_the_study(trial, study, texts, tmp_path):
    assert set(trial.scores) == {"ekfac", "dot"}
    assert trial.scores["ekfac"].argmax(1).tolist() == list(ASKED)
    assert set(open_trial(study, texts, TINY_TEXT, tmp_path, methods=["dot"]).scores) == {"dot"}
    assert trial.of_kind("fact").sum() == 20
    assert trial.of_kind("fact", "code").all()


def test_datamodels_and_removals_from_plan_to_table(trial):
    table, groups = judge_datamodels(trial, subsets=3, seed=1)
    assert len(table) == 2 * 4
    assert groups["group"].unique().tolist() == ["all", "factual", "reasoning"]
    rows, means = judge_removals(trial, {0: [1], 2: [2]}, trial.of_kind("fact"), k=1, name="some", methods=("ekfac",))
    assert rows["arm"].value_counts().to_dict() == {"nothing": 2, "random": 2, "ekfac": 2}
    assert means.set_index("arm").loc["ekfac", "fall"] == pytest.approx(rows.query("arm == 'ekfac'")["fall"].mean())
    assert (rows.query("arm == 'ekfac'")["fall"] > 0).all()  # the document was the query
    with pytest.raises(RequestError, match="no scores by 'bm25'"):
        judge_removals(trial, {0: [1]}, trial.of_kind("fact"), k=1, methods=("bm25",))


def test_targets_differ_between_seeds_as_long_as_they_last():
    wanted = np.array([True, False, True, True, True, False, True, True])
    targets = choose_targets(wanted, (1, 2, 3, 4, 5))
    assert sorted(s for seeds in targets.values() for s in seeds) == [1, 2, 3, 4, 5]
    assert len(targets) == 5
    assert set(targets) <= set(np.flatnonzero(wanted))
    few = choose_targets(np.arange(8) < 2, (1, 2, 3, 4, 5))
    assert sorted(len(seeds) for seeds in few.values()) == [2, 3]
    assert targets == choose_targets(wanted, (1, 2, 3, 4, 5))
    with pytest.raises(RequestError, match="no query"):
        choose_targets(wanted & False, (1,))
