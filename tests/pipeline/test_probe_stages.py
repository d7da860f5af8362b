"""Stages `probe` and `heads`: their tables, rows as planned, the same again, and what is done where answers are few."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toys

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.arithmetic.pairs import counterfactuals, legal_pool
from arithcirc.circuits.head_roles import CUTS
from arithcirc.config import CircuitConfig, ProbeConfig, PromptConfig
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.probe_stages import count_heads, count_probe, heads_stage, probe_prompts, probe_stage
from arithcirc.pipeline.prompt_stage import legal_by_operator
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.pipeline.stage import Stage
from arithcirc.store import RunFolder

PROBE = Stage("probe", ("model", "prompts", "probe"), ("prompts",), ("prompts.parquet",), probe_stage, count_probe)
HEADS = Stage(
    "heads",
    ("model", "prompts", "circuit", "probe"),
    ("prompts", "faithfulness"),
    ("prompts.parquet", "circuit.parquet"),
    heads_stage,
    count_heads,
)
STAGES = [*stages_for("faithfulness"), PROBE, HEADS]
SECTIONS = ("model", "prompts", "circuit", "probe")
PROMPTS = PromptConfig(operators="-/", operands="0..30", n_discover=2, n_evaluate=3, counterfactual_seeds=1)
CIRCUIT = CircuitConfig(n_heads=5, random_circuits=1, mean_prompts=20)
TRAINING = ProbeConfig(prompts=300, learning_rate=0.02, batch=64, epochs=7)
Rows = dict[str, tuple[int, int]]
LAYERS, HEAD_COUNT = toys.LAYERS, toys.LAYERS * toys.HEADS


@pytest.fixture(scope="module")
def zero(tmp_path_factory: pytest.TempPathFactory) -> BridgedModel:
    """Answers 0 always: many correct divisions, a few correct subtractions."""
    return load(str(toys.save(toys.answering(0), tmp_path_factory.mktemp("zero") / "zero")), device="cpu")


def opened(model: BridgedModel, out: Path, prompts: PromptConfig = PROMPTS, **options: object) -> Job:
    return open_job(model, out, prompts=prompts, circuit=CIRCUIT, probe=TRAINING, sections=SECTIONS, **options)  # type: ignore[arg-type]


def planned(job: Job) -> Rows:
    """Rows that the two stages are planned to run."""
    return {stage.name: (stage.count(job).rows,) * 2 for stage in (PROBE, HEADS)}


def run_counted(job: Job) -> Rows:
    """Rows that the two stages ran."""
    with toys.counted_rows() as seen:
        run_stages(job, STAGES)
    return {name: seen[name] for name in ("probe", "heads")}


@dataclass(frozen=True)
class Finished:
    """A finished run, its plan before it and the rows it ran."""

    job: Job
    before: Rows
    ran: Rows

    @property
    def run(self) -> RunFolder:
        return self.job.run


@pytest.fixture(scope="module")
def finished(zero: BridgedModel, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    job = opened(zero, tmp_path_factory.mktemp("first"))
    before = planned(job)
    return Finished(job, before, run_counted(job))


# -- tables -----------------------------------------------------------------------------------------------------------


def test_probes_have_a_row_per_layer_and_position(finished: Finished) -> None:
    table = finished.run.table("probes")
    assert list(table) == [
        "operator", "layer", "position", "accuracy", "low", "high", "n", "classes", "base_rate", "epochs",
    ]  # fmt: skip
    assert table.groupby("operator").size().to_dict() == {"-": LAYERS * 4, "/": LAYERS * 4}
    assert not table.duplicated(["operator", "layer", "position"]).any()
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()
    assert table["epochs"].between(1, 7).all()
    assert (table["classes"] == 1).all(), "all its correct answers are 0"
    assert (table[["accuracy", "base_rate"]] == 1).all(axis=None)


def test_only_correct_prompts_of_the_sample_are_probed(finished: Finished) -> None:
    table = finished.run.table("probes").groupby("operator")["n"].first()
    for op, legal in legal_by_operator(finished.job).items():
        tried = probe_prompts(finished.job, op, legal)
        assert len(tried) == min(300, len(legal))
        assert table[op.symbol] == max(1, round(0.2 * (tried.answer == 0).sum()))


def test_a_model_that_reads_nothing_keeps_every_layer(finished: Finished) -> None:
    table = finished.run.table("first_layers")
    assert list(table) == ["operator", "layer", "accuracy", "best", "base_rate", "rule"]
    assert table["operator"].tolist() == ["-", "/"]
    assert (table["layer"] == 0).all()
    assert table["rule"].str.contains("exceeds base rate").all()


def test_heads_have_a_row_per_position_part_and_cut(finished: Finished) -> None:
    heads, copies, cuts = (finished.run.table(name) for name in ("heads", "head_copies", "head_cuts"))
    assert heads.groupby("operator").size().to_dict() == {"-": 5 * HEAD_COUNT, "/": 5 * HEAD_COUNT}
    np.testing.assert_allclose(heads.groupby(["operator", "layer", "head"])["attention"].sum(), 1, rtol=1e-5)
    assert (heads["n"] == 5).all()
    parts = copies.groupby("operator")["what"].unique().map(list).to_dict()
    assert parts == {"-": ["op1", "op2", "result"], "/": ["op1", "op2", "result"], "all": ["operator"]}
    assert len(copies) == 7 * HEAD_COUNT
    assert cuts.groupby("operator")["cut"].apply(list).to_dict() == {symbol: ["none", *CUTS] for symbol in "-/"}
    assert list(cuts) == ["operator", "cut", "accuracy", "low", "high", "logit_diff", "kl", "n"]


def test_the_circuits_heads_are_marked(finished: Finished) -> None:
    circuit = finished.run.table("circuit").query("kind == 'head'").set_index(["operator", "layer", "head"])
    for name in ("heads", "head_copies"):
        table = finished.run.table(name)
        own = table[table["operator"] != "all"]
        marks = own.groupby(["operator", "layer", "head"])["in_circuit"].first()
        pd.testing.assert_series_equal(marks, circuit["in_circuit"].loc[marks.index], check_index_type=False)
    shared = finished.run.table("head_copies").query("operator == 'all'").set_index(["layer", "head"])["in_circuit"]
    any_circuit = circuit["in_circuit"].groupby(["layer", "head"]).any()
    assert shared.to_dict() == any_circuit.to_dict()


# -- again, and plans -------------------------------------------------------------------------------------------------


def test_the_plan_counts_the_rows_that_are_run(finished: Finished) -> None:
    assert finished.before == finished.ran == planned(finished.job)


def test_finished_stages_are_reused(finished: Finished, zero: BridgedModel) -> None:
    notices: list[str] = []
    again = opened(zero, finished.run.path.parents[1])
    run_stages(again, STAGES, notice=lambda stage, _: notices.append(stage))
    assert notices == [s.name for s in STAGES]


def test_an_operator_alone_gives_the_same_tables(finished: Finished, zero: BridgedModel, tmp_path: Path) -> None:
    alone = opened(zero, tmp_path, replace(PROMPTS, operators="/"))
    before = planned(alone)
    assert before == run_counted(alone) == planned(alone)
    for name in ("probes", "first_layers", "heads", "head_copies", "head_cuts"):
        both = finished.run.table(name).query("operator == '/'").reset_index(drop=True)
        pd.testing.assert_frame_equal(alone.run.table(name), both)


# -- the shipped model, few answers, given pairs -----------------------------------------------------------------------


def test_the_shipped_model_writes_the_answer_at_equals(tmp_path: Path) -> None:
    few = ProbeConfig(prompts=1500, epochs=15)
    prompts = PromptConfig(operators="-", operands="0..99", n_discover=2, n_evaluate=2)
    job = open_job(load(), tmp_path, prompts=prompts, probe=few, sections=SECTIONS)
    run_stages(job, [STAGES[0], PROBE])
    read = job.run.table("probes").pivot_table(index="layer", columns="position", values="accuracy")
    assert read["equals"].iloc[-1] > 0.9
    assert read["equals"].iloc[0] < 0.3
    assert read[["op1", "operator", "op2"]].max(axis=None) < 0.5
    assert job.run.table("first_layers")["layer"].item() in (1, 2, 3)


def test_operators_with_few_answers_are_said_to_have_few(tmp_path: Path) -> None:
    """Always 2, operands from 1: + is right once and skipped, * twice, too little to probe, - often."""
    model = load(str(toys.save(toys.answering(2), tmp_path / "two")), device="cpu")
    job = opened(model, tmp_path, replace(PROMPTS, operators="+*-", operands="1..30", n_discover=1, n_evaluate=1))
    before = planned(job)["probe"]
    ran = run_counted(job)
    assert ran == planned(job)
    assert before == ran["probe"]
    assert job.run.table("probes")["operator"].unique().tolist() == ["-"]
    first = job.run.table("first_layers").set_index("operator")
    assert first.index.tolist() == ["*", "-"]
    assert first.loc["*", "layer"] == 0
    assert "prompts tried are answered correctly, a probe needs 10" in first.loc["*", "rule"]
    assert set(job.run.table("heads")["operator"]) == {"*", "-"}
    assert set(job.run.table("head_copies")["operator"]) == {"-"}


def test_given_pairs_are_probed_on_sampled_prompts(zero: BridgedModel, tmp_path: Path) -> None:
    pool = legal_pool(OperandRange(0, 30), 60)
    clean = pool[np.flatnonzero((pool.symbols == "/") & (pool.answer == 0))[:4]]
    other, _ = counterfactuals(clean, pool, np.random.default_rng(0))
    table = pd.DataFrame({"prompt": clean.texts(), "answer": clean.answer, "operator": "/"})
    table = table.assign(counterfactual=other.texts(), counterfactual_answer=other.answer)
    table.to_csv(tmp_path / "pairs.csv")
    job = opened(zero, tmp_path / "out", pairs_file=tmp_path / "pairs.csv")
    before = planned(job)
    assert before == run_counted(job) == planned(job)
    assert (job.run.table("probes")["n"] > 4).all()
    assert (job.run.table("heads")["n"] == 4).all(), "evaluate repeats discover: counted once"
