"""The stage `neurons`: its tables, the rows it announces, and a second run that finds it done."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
import toys

from arithcirc.circuits.neuron_circuits import fewest_faithful, neuron_grid
from arithcirc.config import CircuitConfig, NeuronConfig, PromptConfig
from arithcirc.errors import RequestError
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.models.protocol import Activations, Objective
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.neuron_stages import count_neurons, first_layer, neurons_stage
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.pipeline.stage import Stage
from arithcirc.viz.neurons import agreement

PROMPTS = PromptConfig(operators="+-", operands="0..30", n_discover=3, n_evaluate=2, counterfactual_seeds=1)
CIRCUIT = CircuitConfig(random_circuits=1, mean_prompts=20)
READS = ("prompts.parquet", "circuit.parquet", "first_layers.parquet", "means.safetensors")
STAGE = Stage(
    "neurons", ("model", "prompts", "circuit", "neurons"), ("faithfulness",), READS, neurons_stage, count_neurons
)
TABLES = ("neurons", "neuron_agreement", "neuron_faithfulness", "neuron_overlap")


def prepared(model: BridgedModel, out: Path, neurons: NeuronConfig, layers: Sequence[int] = (1, 2)) -> Job:
    """A run that has all the stage reads; first layers are made up."""
    sections = ("model", "prompts", "circuit", "neurons")
    job = open_job(model, out, prompts=PROMPTS, circuit=CIRCUIT, neurons=neurons, sections=sections)
    run_stages(job, stages_for("faithfulness"))
    job.run.write_table("first_layers", pd.DataFrame({"operator": list("+-")[: len(layers)], "layer": list(layers)}))
    return job


@pytest.fixture(scope="module")
def done(toy_model: BridgedModel, tmp_path_factory: pytest.TempPathFactory) -> Job:
    job = prepared(toy_model, tmp_path_factory.mktemp("neurons"), NeuronConfig(random_draws=2))
    run_stages(job, [STAGE])
    return job


def test_every_neuron_of_every_operator_has_its_rows(done: Job) -> None:
    table = done.run.table("neurons")
    per_operator = toys.LAYERS * toys.HIDDEN * 4
    assert table.groupby("operator", sort=False).size().to_dict() == {"+": per_operator, "-": per_operator}
    columns = ["operator", "layer", "neuron", "method", "metric", "effect", "std", "rank", "important"]
    assert list(table) == columns
    assert not table.isna().any().any()
    first = table[table["important"]].groupby("operator")["layer"].min()
    assert first.to_dict() == {"+": 1, "-": 2}


def test_the_curve_ends_at_the_model_and_the_chosen_size_is_that_of_the_discover_prompts(done: Job) -> None:
    table = done.run.table("neuron_faithfulness")
    grid = neuron_grid(toys.HIDDEN)
    labels = ["operator", "set", "ranking", "heads", "top", "draw"]
    assert list(table)[:6] == labels
    assert not table.duplicated(labels).any()
    whole = table[(table["heads"] == "all") & (table["top"] == toys.HIDDEN) & (table["undefined"] == 0)]
    assert whole["faithfulness"].to_numpy() == pytest.approx(1, abs=1e-3)
    assert whole["accuracy"].to_numpy() == pytest.approx(1)
    assert set(table[table["ranking"] == "random"]["set"]) == {"evaluate"}
    for symbol, rows in table.groupby("operator"):
        exact = rows.query("ranking == 'exact' and heads == 'all' and set == 'discover'")
        assert exact["top"].tolist() == grid
        (chosen,) = set(rows[rows["chosen"]]["top"])
        assert chosen == fewest_faithful(exact, CIRCUIT.target)
        marked = done.run.table("neurons")
        marked = marked[(marked["operator"] == symbol) & marked["important"]]
        assert marked.query("metric == 'E'").groupby("layer").size().unique().tolist() == [chosen]


def test_agreement_and_overlap_are_at_the_chosen_sizes(done: Job) -> None:
    curve = done.run.table("neuron_faithfulness")
    chosen = curve[curve["chosen"]].groupby("operator")["top"].first()
    agreement, overlap = (done.run.table(n) for n in ("neuron_agreement", "neuron_overlap"))
    assert len(agreement) == 2 * toys.LAYERS
    assert (agreement["top"] == agreement["operator"].map(chosen)).all()
    assert (agreement["layer"] == 0)[agreement["spearman"].isna()].all(), "a parallel first MLP has no effect at `=`"
    assert agreement["spearman"].dropna().between(-1, 1).all()
    assert overlap[["operator", "other", "top"]].to_numpy().tolist() == [["+", "-", chosen.max()]]
    assert overlap["iou"].between(0, 1).all()


@pytest.mark.parametrize("neurons", [NeuronConfig(random_draws=2), NeuronConfig(top=7, first_layer=0, random_draws=1)])
def test_the_plan_counts_the_rows_that_are_run(toy_model: BridgedModel, tmp_path: Path, neurons: NeuronConfig) -> None:
    job = open_job(toy_model, tmp_path, prompts=PROMPTS, circuit=CIRCUIT, neurons=neurons, write=False)
    before = count_neurons(job)
    job = prepared(toy_model, tmp_path, neurons)
    with toys.counted_rows() as seen:
        run_stages(job, [STAGE])
    after = count_neurons(job)
    assert seen["neurons"] == (before.rows, before.rows) == (after.rows, after.rows)
    assert 0 < after.forwards < after.rows
    if neurons.top is not None:
        assert set(job.run.table("neuron_overlap")["top"]) == {7}
        assert set(job.run.table("neurons").query("important")["layer"]) == {0, 1, 2}


def test_a_finished_stage_is_reused_and_a_lost_table_made_again(done: Job) -> None:
    files = {name: (done.run.path / f"{name}.parquet") for name in TABLES}
    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    notices: list[tuple[str, str]] = []
    run_stages(done, [STAGE], notice=lambda *said: notices.append(said))
    assert notices == [("neurons", "finished before, reused")]
    assert {name: file.stat().st_mtime_ns for name, file in files.items()} == before
    old = {name: pd.read_parquet(file) for name, file in files.items()}
    files["neuron_overlap"].unlink()
    run_stages(done, [STAGE])
    for name, table in old.items():
        pd.testing.assert_frame_equal(done.run.table(name), table)


def test_a_first_layer_that_is_not_there_is_refused(toy_model: BridgedModel, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--first-layer 3 .* layers 0\.\.2"):
        open_job(toy_model, tmp_path, prompts=PROMPTS, neurons=NeuronConfig(first_layer=3))
    job = open_job(toy_model, tmp_path, prompts=PROMPTS)
    job.run.write_table("first_layers", pd.DataFrame({"operator": ["+"], "layer": [1]}))
    assert first_layer(job, "+") == 1
    with pytest.raises(RequestError, match=r"'-'.*--first-layer"):
        first_layer(job, "-")


def test_neurons_without_an_estimate_are_noted_and_the_rest_goes_on(
    toy_folder: Path, done: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One neuron of layer 1 has no finite gradient at `=`."""
    model = load(str(toy_folder), device="cpu")
    gradients = model.gradients

    def broken(tokens: torch.Tensor, objective: Objective) -> Activations:
        found = gradients(tokens, objective)
        found.post[1][:, -1, 4] = torch.inf
        return found

    monkeypatch.setattr(model, "gradients", broken)
    job = prepared(model, tmp_path, NeuronConfig(random_draws=2))
    run_stages(job, [STAGE])
    note = job.run.manifest["notes"]["neurons_without_estimate"]
    assert note == {"+": 1, "-": 1, "why": "gradient at '=' not finite in float32: no estimate, ranked last by it"}
    assert "notes" not in done.run.manifest
    table, whole = job.run.table("neurons"), done.run.table("neurons")
    lost = (table["layer"] == 1) & (table["neuron"] == 4) & (table["method"] == "estimate")
    assert table["effect"].isna().equals(lost)
    assert (table.loc[lost, "rank"] == toys.HIDDEN).all()
    exact = table["method"] == "exact"
    pd.testing.assert_frame_equal(table[exact], whole[exact])
    measured = job.run.table("neuron_agreement")
    assert measured["spearman"].isna().equals(measured["layer"] <= 1)  # nothing has an effect in layer 0
    agreement(measured)
    agreement(measured.assign(spearman=float("nan")))
