"""Runs: reproducible, resumable, and as long as they said they would be, here up to the circuit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import counted_rows

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.arithmetic.pairs import counterfactuals, legal_pool
from arithcirc.circuits.circuit import curve_sizes
from arithcirc.config import CircuitConfig, PromptConfig
from arithcirc.errors import EnvironmentFailure
from arithcirc.pipeline import run as running
from arithcirc.pipeline.api import analyze, sample_pairs
from arithcirc.pipeline.circuit_stages import _with_chosen, random_grid
from arithcirc.pipeline.job import open_job
from arithcirc.pipeline.plan import make_plan
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.store import RunFolder

PROMPTS = PromptConfig(operators="+-", operands="0..30", n_discover=3, n_evaluate=2)
CIRCUIT = CircuitConfig(random_circuits=2)
POOL = legal_pool(OperandRange(0, 30), 60)


def to_the_circuit(model, out: Path, prompts: PromptConfig = PROMPTS, **options) -> RunFolder:
    """A run up to `faithfulness`."""
    return analyze(model, out, prompts=prompts, circuit=CIRCUIT, upto="faithfulness", **options)


@pytest.fixture(scope="module")
def finished(toy_model, tmp_path_factory) -> RunFolder:
    return to_the_circuit(toy_model, tmp_path_factory.mktemp("first"))


def assert_same_tables(one: RunFolder, other: RunFolder) -> None:
    assert one.tables() == other.tables() != []
    for name in one.tables():
        pd.testing.assert_frame_equal(one.table(name), other.table(name))


# -- the same again ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_tables(finished, toy_model, tmp_path):
    assert_same_tables(finished, to_the_circuit(toy_model, tmp_path))


def test_another_seed_gives_other_prompts(finished, toy_model, tmp_path):
    other = analyze(toy_model, tmp_path, prompts=replace(PROMPTS, seed=1), upto="prompts")
    assert finished.table("prompts")["prompt"].tolist() != other.table("prompts")["prompt"].tolist()


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 100])
def test_results_do_not_depend_on_the_batch_size(toy_model, tmp_path, batch_size):
    few = PromptConfig(operators="+", operands="0..8", n_discover=1, n_evaluate=1, counterfactual_seeds=1)
    whole, cut = (to_the_circuit(toy_model, tmp_path / str(size), few, batch_size=size) for size in (2048, batch_size))
    pd.testing.assert_frame_equal(whole.table("prompts"), cut.table("prompts"))
    for name in ("effects", "faithfulness"):
        pd.testing.assert_frame_equal(whole.table(name), cut.table(name), rtol=1e-3, atol=1e-4)


def test_an_operators_prompts_do_not_depend_on_the_other_operators(finished, toy_model, tmp_path):
    alone = open_job(toy_model, tmp_path, prompts=replace(PROMPTS, operators="-"))
    run_stages(alone, stages_for("prompts"))
    both = finished.table("prompts").query("operator == '-'").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.run.table("prompts"), both)


# -- prompts ----------------------------------------------------------------------------------------------------------


def test_discover_and_evaluate_share_no_prompt(finished):
    table = finished.table("prompts")
    sets = {name: set(rows["prompt"]) for name, rows in table.groupby("set")}
    assert not sets["discover"] & sets["evaluate"]
    assert {s: len(p) for s, p in sets.items()} == {"discover": 6, "evaluate": 4}


def test_every_kind_and_seed_of_counterfactual_is_drawn(finished):
    discover = finished.table("prompts").query("set == 'discover'")
    kinds = discover.groupby("change")["seed"].unique().map(len).to_dict()
    assert kinds == {"any": 3, "op1": 1, "op2": 1, "operator": 1}
    assert (discover["answer"] != discover["counterfactual_answer"]).all()


def test_effects_are_labelled_for_every_site(finished):
    effects = finished.table("effects")
    labels = ["operator", "change", "position", "layer", "kind", "head", "metric"]
    assert not effects.duplicated(labels).any()
    sites = effects.query("operator == '+' and change == 'any' and metric == 'E'")
    assert len(sites) == 4 * 3 * (4 + 1)
    assert (sites["n"] == 3 * PROMPTS.n_discover).all()


def test_given_pairs_replace_sampling(toy_model, tmp_path):
    encoder = open_job(toy_model, tmp_path, prompts=PROMPTS).encoder
    given = sample_pairs(toy_model, encoder, "+", 4, operands=OperandRange(0, 30))
    file = tmp_path / "pairs.parquet"
    given.frame().to_parquet(file)
    run = to_the_circuit(toy_model, tmp_path / "given", pairs_file=file)
    for name in ("discover", "evaluate"):
        used = run.table("prompts").query(f"set == '{name}'").reset_index(drop=True)
        pd.testing.assert_frame_equal(used[list(given.frame())], given.frame())
    assert run.manifest["config"]["prompts"]["operators"] == "+"
    assert set(run.table("circuit")["operator"]) == {"+"}


def test_sampled_pairs_are_answered_rightly_and_seeded(toy_model, tmp_path):
    encoder = open_job(toy_model, tmp_path, prompts=PROMPTS).encoder
    operands = OperandRange(0, 30)
    first, again = (sample_pairs(toy_model, encoder, "-", 5, operands=operands, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.frame(), again.frame())
    assert (first.clean.answer == first.clean.op1 - first.clean.op2).all()
    assert (first.counterfactual.answer != first.clean.answer).all()


# -- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "circuit",
    [
        pytest.param(CIRCUIT, id="auto"),
        pytest.param(CircuitConfig(n_heads=5, mean_prompts=20), id="5", marks=pytest.mark.slow),
        pytest.param(CircuitConfig(n_heads=99), id="99"),
    ],
)
def test_the_plan_counts_the_rows_that_are_run(toy_model, tmp_path, circuit):
    stages = stages_for("faithfulness")
    job = open_job(toy_model, tmp_path, prompts=PROMPTS, circuit=circuit)
    before = make_plan(job, stages)
    with counted_rows() as advanced:
        run_stages(job, stages)
    after = make_plan(job, stages)
    assert not any(s.done for s in before.stages)
    assert all(s.done for s in after.stages)
    assert after.seconds == 0
    for planned in (before, after):
        assert {s.stage: (s.rows, s.rows) for s in planned.stages} == advanced


def test_with_given_pairs_the_plan_is_exact_too(toy_model, tmp_path):
    clean = POOL[np.flatnonzero(POOL.symbols == "+")[:5]]
    other, _ = counterfactuals(clean, POOL, np.random.default_rng(0))
    table = pd.DataFrame({"prompt": clean.texts(), "answer": clean.answer, "operator": "+"})
    table = table.assign(counterfactual=other.texts(), counterfactual_answer=other.answer)
    table.assign(set=["discover"] * 2 + ["evaluate"] * 3).to_csv(tmp_path / "pairs.csv")
    job = open_job(toy_model, tmp_path, prompts=PROMPTS, circuit=CIRCUIT, pairs_file=tmp_path / "pairs.csv")
    plan = make_plan(job, stages_for("faithfulness"))
    with counted_rows() as advanced:
        run_stages(job, stages_for("faithfulness"))
    assert {s.stage: (s.rows, s.rows) for s in plan.stages} == advanced


@pytest.mark.parametrize("n_heads", [4, 12, 24, 48, 1024])
def test_a_chosen_size_gets_random_rivals_at_no_extra_cost(n_heads):
    sizes = curve_sizes(n_heads)
    grid = random_grid(sizes)
    for chosen in sizes:
        rivals = _with_chosen(grid, chosen, sizes)
        assert len(rivals) == len(grid) <= 12
        assert chosen in rivals or chosen in (0, n_heads)


# -- running ----------------------------------------------------------------------------------------------------------


def test_a_stage_computed_again_unfinishes_what_was_made_from_it(toy_model, tmp_path, monkeypatch):
    to_the_circuit(toy_model, tmp_path)
    (tmp_path / "toy" / "main" / "effects.parquet").unlink()

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_run", lambda job, stage: killed(job))
    with pytest.raises(KeyboardInterrupt):
        to_the_circuit(toy_model, tmp_path)
    assert set(RunFolder.open(tmp_path / "toy" / "main").manifest["stages"]) == {"prompts", "means"}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_says_what_to_do(toy_model, tmp_path, error):
    def exhausted(_):
        raise error

    job = open_job(toy_model, tmp_path, prompts=PROMPTS, batch_size=64)
    stage = replace(stages_for("prompts")[0], run=exhausted)
    with pytest.raises(EnvironmentFailure, match=r"out of memory in stage prompts.*--batch-size"):
        run_stages(job, [stage])


def test_a_job_reports_its_rows_and_never_more_than_the_total(toy_model, tmp_path):
    seen = []
    job = open_job(toy_model, tmp_path, prompts=PROMPTS, report=lambda *said: seen.append(said))
    advance = job.counter("means", 10)
    advance(6)
    advance(6)
    assert seen == [("means", 0, 10), ("means", 6, 10), ("means", 10, 10)]
