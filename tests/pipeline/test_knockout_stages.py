"""The stages `knockout` and `failures` on a run whose labels were put there by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import planted
import pytest
from planted import PLANTED
from toys import counted_rows

from arithcirc.arithmetic.operators import ADD, legal_prompts
from arithcirc.config import CircuitConfig, KnockoutConfig, PromptConfig
from arithcirc.heuristics import by_heuristic, by_prompt, verdict
from arithcirc.measure.answers import predictions
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.knockout_stages import (
    count_failures,
    count_knockout,
    failures_stage,
    knockout_stage,
    labels_of,
    prompts_to_break,
)
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.training.tokenizer import NUMBER_ID

WANTED = KnockoutConfig(prompts=12, by_prompt=30, failures=6)
TABLES = ("knockouts_by_heuristic", "knockouts_by_prompt", "bag_of_heuristics", "failures", "failure_tests")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    return planted.load_adder(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def job(model, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run up to its means, with labels and answers as the labelling would have written them."""
    prompts = PromptConfig(operators="+", operands=planted.OPERANDS, n_discover=5, n_evaluate=20)
    job = open_job(
        model, tmp_path_factory.mktemp("run"), prompts=prompts, circuit=CircuitConfig(mean_prompts=100),
        knockout=WANTED, sections=("model", "prompts", "circuit", "knockout"),
    )  # fmt: skip
    run_stages(job, stages_for("means"))
    write_labels(job, planted.label_table())
    return job


def write_labels(job: Job, labels: pd.DataFrame) -> None:
    """Tables `heuristics` (with an unmatched row for every other neuron) and `answers`, three of them said wrong."""
    rest = planted.important_table().assign(heuristic="op1 = 1", score=0.1, matched=False).drop(columns="important")
    legal = legal_prompts(ADD, job.operands, job.encoder.limit)
    given = predictions(job.model, job.encoder, legal, batch_size=1024) - NUMBER_ID
    given[:3] = [-1, 59, 59]
    columns = {"operator": legal.symbols, "op1": legal.op1, "op2": legal.op2, "answer": legal.answer, "given": given}
    answers = pd.DataFrame(columns | {"correct": given == legal.answer})
    names = [
        job.run.write_table("heuristics", pd.concat([labels, rest], ignore_index=True)),
        job.run.write_table("answers", answers),
    ]
    job.run.finish("heuristics", names)


def test_rows_are_as_predicted_and_repeat(job: Job) -> None:
    predicted = {"knockout": count_knockout(job), "failures": count_failures(job)}
    with counted_rows() as advanced:
        files = [*knockout_stage(job), *failures_stage(job)]
    assert files == [f"{name}.parquet" for name in TABLES]
    first = {name: job.run.table(name) for name in TABLES}
    for stage, cost in predicted.items():
        assert advanced[stage] == (cost.rows, cost.rows)
        assert cost.forwards > 0
    assert (count_knockout(job), count_failures(job)) == tuple(predicted.values())
    knockout_stage(job)
    failures_stage(job)
    for name, table in first.items():
        pd.testing.assert_frame_equal(job.run.table(name), table)
    check_tables(first)


def check_tables(tables: dict[str, pd.DataFrame]) -> None:
    heuristic = tables["knockouts_by_heuristic"]
    assert list(heuristic.columns) == ["operator", *by_heuristic.COLUMNS]
    mine = heuristic[(heuristic["ablation"] == "zero") & (heuristic["arm"] == "targeted")]
    broken = mine[(mine["where"] == "in") & (mine["accuracy"] == 0)]
    assert set(broken["heuristic"]) == set(PLANTED)
    prompt = tables["knockouts_by_prompt"]
    assert list(prompt.columns) == ["operator", *by_prompt.COLUMNS]
    assert set(prompt["n"]) == {WANTED.by_prompt}
    judged = tables["bag_of_heuristics"]
    assert list(judged.columns) == ["operator", *verdict.COLUMNS]
    assert (judged["operator"] == "+").all()
    failed = tables["failures"]
    assert failed["correct"].tolist() == [True] * 6 + [False] * 3
    assert set(failed["given"][6:]) == {"no number", "59"}
    assert tables["failure_tests"]["note"].str.contains("only 3 incorrect").all()


def test_prompts_on_which_nothing_was_ranked_come_first(job: Job) -> None:
    ((symbol, labels, _),) = labels_of(job)
    chosen = prompts_to_break(job, symbol, labels)
    texts = np.array(labels.prompts.texts())[chosen].tolist()
    table = job.run.table("prompts")
    used = {name: set(table["prompt"][table["set"] == name]) for name in ("evaluate", "discover")}
    assert len(texts) == len(set(texts)) == WANTED.by_prompt
    wrong = set(np.array(labels.prompts.texts())[~labels.correct])
    assert len(used["evaluate"]) == 20
    assert used["evaluate"] & wrong
    expected = used["evaluate"] - wrong
    assert set(texts[: len(expected)]) == expected
    assert not set(texts) & used["discover"]


def test_every_tried_neuron_is_a_possible_control(job: Job) -> None:
    ((_, labels, given),) = labels_of(job)
    assert len(labels.neurons) == planted.N_NEURONS
    assert "op1 = 1" not in labels.names
    assert labels.correct.sum() == len(given) - 3


def test_before_the_labels_there_is_a_guess(model, tmp_path: Path) -> None:
    prompts = PromptConfig(operators="+", operands=planted.OPERANDS)
    fresh = open_job(model, tmp_path, prompts=prompts, knockout=WANTED, write=False)
    assert count_knockout(fresh).rows > 1000
    assert count_failures(fresh).rows == 2 * WANTED.failures


def test_an_operator_without_labels_has_empty_tables_and_no_verdict(job: Job) -> None:
    write_labels(job, planted.label_table()[:0])
    predicted = count_knockout(job).rows
    with counted_rows() as advanced:
        knockout_stage(job)
    failures_stage(job)
    assert advanced["knockout"] == (predicted, predicted)
    assert job.run.table("knockouts_by_heuristic").empty
    judged = job.run.table("bag_of_heuristics")
    assert len(judged) == 4
    assert not judged["holds"].any()
    assert (job.run.table("failures")["neurons"] == 0).all()
    write_labels(job, planted.label_table())
