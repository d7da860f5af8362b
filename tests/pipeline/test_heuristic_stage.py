"""The stage `heuristics`: its tables and arrays, the rows it announces, and neurons given in place of ranked ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import toys

from arithcirc.arithmetic.operators import operator
from arithcirc.config import CircuitConfig, HeuristicConfig, NeuronConfig, ProbeConfig, PromptConfig
from arithcirc.heuristics.labels import COLUMNS
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.measure.answers import predictions
from arithcirc.measure.maps import MAP_BYTES, neuron_blocks
from arithcirc.models.bridge import BridgedModel
from arithcirc.pipeline import heuristic_stages
from arithcirc.pipeline.heuristic_stages import EXAMPLES, count_heuristics
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.prompt_stage import legal_by_operator
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.store import RunFolder

PROMPTS = PromptConfig(operators="-/", operands="0..30", n_discover=2, n_evaluate=2, counterfactual_seeds=1)
CIRCUIT = CircuitConfig(random_circuits=1, mean_prompts=50)
TOP, FIRST_LAYER, THRESHOLD, LEVEL = 8, 1, 0.5, 0.05
"""A level at which a random model has labels to show."""
LATE = {
    "probe": ProbeConfig(prompts=60, epochs=3),
    "neurons": NeuronConfig(top=TOP, first_layer=FIRST_LAYER, random_draws=1),
    "heuristics": HeuristicConfig(threshold=THRESHOLD, q=LEVEL, draws=20),
}
SECTIONS = ("model", "prompts", "circuit", *LATE)
NEURON = ["layer", "neuron"]
SCHEMA = {
    "heuristics": COLUMNS,
    "label_summary": (
        "operator", "important", "matched", "significant", "structured", "unlabelled", "heuristics", "tests",
        "pairs",
    ),
    "unlabelled": ("operator", "layer", "neuron", "best", "score", "base_rate", "q", "matched"),
    "excluded_heuristics": ("operator", "heuristic", "family", "size", "zero_share", "reason"),
    "answers": ("operator", "op1", "op2", "answer", "given", "correct"),
    "gallery": (
        "operator", "layer", "neuron", "heuristic", "family", "kind", "end", "score", "base_rate", "q", "key",
    ),
    "number_neurons": ("operator", "neuron", "largest", "at", "heuristic", "score", "base_rate", "p", "q"),
}  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """A finished stage with the rows planned before and told while it ran."""

    job: Job
    before: int
    told: tuple[int, int]

    @property
    def run(self) -> RunFolder:
        return self.job.run


@pytest.fixture(scope="module")
def finished(toy_model: BridgedModel, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("labels")
    job = open_job(toy_model, out, prompts=PROMPTS, circuit=CIRCUIT, **LATE, sections=SECTIONS)  # type: ignore[arg-type]
    before = count_heuristics(job).rows
    with toys.counted_rows() as seen:
        run_stages(job, stages_for("heuristics"))
    return Finished(job, before, seen["heuristics"])


def neurons_of(table: pd.DataFrame, symbol: str) -> set[tuple[int, int]]:
    return set(table.loc[table["operator"] == symbol, NEURON].itertuples(index=False, name=None))


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMA)
def test_tables_have_their_columns_for_every_operator(finished: Finished, name: str) -> None:
    table = finished.run.table(name)
    assert tuple(table) == SCHEMA[name]
    operators = {"all"} if name == "number_neurons" else {"-", "/"}
    if name == "excluded_heuristics":
        operators = {"/"}  # a difference is rarely 0
    assert set(table["operator"]) == operators


def test_the_plan_counts_the_rows_that_are_run(finished: Finished) -> None:
    assert finished.told == (finished.before, finished.before)
    assert count_heuristics(finished.job).rows == finished.before


def test_every_important_neuron_has_a_row_and_no_other(finished: Finished) -> None:
    ranked = finished.run.table("neurons").query("important")
    for symbol in "-/":
        mine = neurons_of(finished.run.table("heuristics"), symbol)
        assert mine == neurons_of(ranked, symbol)
        assert len(mine) == TOP * (toys.LAYERS - FIRST_LAYER)


def test_labels_are_what_their_columns_say(finished: Finished) -> None:
    table = finished.run.table("heuristics")
    assert table["significant"].any()
    assert not table.duplicated(["operator", *NEURON, "heuristic", "end"]).any()
    threshold = np.where(table["family"] == "multi_value", 0.95, THRESHOLD)
    assert (table["matched"] == (table["score"] >= threshold)).all()
    assert (table["significant"] == (table["matched"] & (table["q"] < LEVEL))).all()
    for op, legal in legal_by_operator(finished.job).items():
        rows = table[table["operator"] == op.symbol].drop_duplicates("heuristic")
        named = [parse_heuristic(name) for name in rows["heuristic"]]
        assert rows["size"].tolist() == [int(h.mask(legal).sum()) for h in named]
        assert rows["base_rate"].to_numpy() == pytest.approx(rows["size"].to_numpy() / len(legal))
        assert rows[["family", "value", "kind"]].to_numpy().tolist() == [[h.family, h.value, h.kind] for h in named]


def test_the_summary_counts_neurons_and_the_unlabelled_are_the_rest(finished: Finished) -> None:
    table, rest = finished.run.table("heuristics"), finished.run.table("unlabelled")
    for row in finished.run.table("label_summary").to_dict("records"):
        important, matched, significant = (
            neurons_of(t, row["operator"]) for t in (table, table[table["matched"]], table[table["significant"]])
        )
        counted = [len(important), len(matched), len(significant), len(important - significant)]
        assert [row[c] for c in ("important", "matched", "significant", "unlabelled")] == counted
        assert neurons_of(rest, row["operator"]) == important - significant
        assert row["pairs"] == ((table["operator"] == row["operator"]) & table["significant"]).sum()
    table = table.assign(fit=(table["score"] - table["base_rate"]) / (1 - table["base_rate"]))
    best = table.groupby(["operator", *NEURON])["fit"].max()
    held = rest.set_index(["operator", *NEURON])
    fit = ((held["score"] - held["base_rate"]) / (1 - held["base_rate"])).rename("fit")
    pd.testing.assert_series_equal(fit, best.loc[held.index])


def test_what_only_says_zero_is_left_out_and_listed(finished: Finished) -> None:
    excluded, table = finished.run.table("excluded_heuristics"), finished.run.table("heuristics")
    assert (excluded["reason"].str.len() > 0).all()
    pairs = [set(t[["operator", "heuristic"]].itertuples(index=False, name=None)) for t in (excluded, table)]
    assert not pairs[0] & pairs[1]


# -- answers, maps, numbers -------------------------------------------------------------------------------------------


def test_answers_are_those_of_a_plain_forward(finished: Finished) -> None:
    job, table = finished.job, finished.run.table("answers")
    for op, legal in legal_by_operator(job).items():
        mine = table[table["operator"] == op.symbol]
        assert (
            mine[["op1", "op2", "answer"]].to_numpy().tolist()
            == np.stack([legal.op1, legal.op2, legal.answer], axis=1).tolist()
        )
        said = predictions(job.model, job.encoder, legal, batch_size=500)
        right = said == job.encoder.answers(legal.answer)
        np.testing.assert_array_equal(mine["correct"].to_numpy(), right)
        np.testing.assert_array_equal((mine["given"] == mine["answer"]).to_numpy(), right)
        number = {int(token): n for n, token in enumerate(job.encoder.answer_ids)}
        assert mine["given"].tolist() == [number.get(int(token), -1) for token in said]


def test_the_gallery_holds_maps_of_labelled_neurons(finished: Finished) -> None:
    job, shown, arrays = finished.job, finished.run.table("gallery"), finished.run.arrays("gallery")
    assert set(shown["key"]) == set(arrays)
    assert shown.groupby(["operator", "family", "kind"]).size().max() <= EXAMPLES
    label = ["operator", *NEURON, "heuristic", "end"]
    assert len(shown.merge(job.run.table("heuristics").query("significant"), on=label)) == len(shown) > 0
    for row in shown.itertuples():
        (legal,) = (p for op, p in legal_by_operator(job).items() if op.symbol == row.operator)
        grid = arrays[row.key]
        assert grid.shape == (31, 31)
        assert grid.dtype == np.float16
        filled = np.zeros((31, 31), dtype=bool)
        filled[legal.op1, legal.op2] = True
        np.testing.assert_array_equal(~np.isnan(grid), filled)
    assert {key.rpartition(".")[2] for key in shown.loc[shown["kind"] == "indirect", "key"]} <= {"K"}


def test_a_map_of_the_gallery_is_the_neurons_activation(finished: Finished) -> None:
    job, arrays = finished.job, finished.run.arrays("gallery")
    key = next(k for k in arrays if k.endswith(".K"))
    name, _, at = key.removesuffix(".K").partition(".L")
    layer, neuron = (int(n) for n in at.split("N"))
    legal = legal_by_operator(job)[operator(name)][:20]
    tokens = torch.from_numpy(job.encoder.encode(legal))
    seen = job.model.activations(tokens, parts={"post"}).post[layer][:, -1, neuron].numpy()
    np.testing.assert_allclose(arrays[key][legal.op1, legal.op2], seen, rtol=2e-3, atol=2e-3)


def test_numbers_have_a_row_per_neuron_of_the_first_mlp(finished: Finished) -> None:
    table, responses = finished.run.table("number_neurons"), finished.run.arrays("number_responses")["response"]
    assert responses.shape == (toys.LIMIT + 1, toys.HIDDEN)
    assert table["neuron"].tolist() == list(range(toys.HIDDEN))
    asked = responses[:31]  # labelled by the numbers that are operands
    np.testing.assert_array_equal(table["largest"].to_numpy(), asked.max(0))
    np.testing.assert_array_equal(table["at"].to_numpy(), asked.argmax(0))
    assert (table["heuristic"].notna() == (table["score"] >= 0.6)).all()


# -- given neurons ----------------------------------------------------------------------------------------------------


def test_given_neurons_need_nothing_but_prompts(toy_model: BridgedModel, tmp_path: Path) -> None:
    given = [(2, 95), (0, 3), (1, 50), (0, 3)]
    pd.DataFrame(given, columns=NEURON).assign(why="mine").to_csv(tmp_path / "mine.csv", index=False)
    stages = stages_for("heuristics", without=("neurons",))
    assert [s.name for s in stages] == ["prompts", "heuristics"]
    job = open_job(
        toy_model, tmp_path, prompts=PROMPTS, heuristics=LATE["heuristics"], neurons_file=tmp_path / "mine.csv"  # type: ignore[arg-type]
    )  # fmt: skip
    before = count_heuristics(job).rows
    with toys.counted_rows() as seen:
        run_stages(job, stages)
    assert seen["heuristics"] == (before, before)
    assert not job.run.finished("neurons")
    for symbol in "-/":
        assert neurons_of(job.run.table("heuristics"), symbol) == set(given)
    assert job.run.table("label_summary")["important"].tolist() == [3, 3]


def test_labels_do_not_depend_on_the_blocks_they_are_made_in(
    finished: Finished, toy_model: BridgedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for three neurons' maps at a time: passes over layers 1 and 2, one of them through the whole model."""
    whole = neuron_blocks
    legal = max(len(p) for p in legal_by_operator(finished.job).values())
    monkeypatch.setattr(
        heuristic_stages, "neuron_blocks", lambda chosen, n: whole(chosen, n, held_bytes=3 * MAP_BYTES * legal)
    )
    job = open_job(toy_model, tmp_path, prompts=PROMPTS, circuit=CIRCUIT, **LATE, sections=SECTIONS)  # type: ignore[arg-type]
    with toys.counted_rows() as seen:
        run_stages(job, stages_for("heuristics"))
    ran, planned = seen["heuristics"]
    assert ran == planned == count_heuristics(job).rows > 4 * finished.before
    for name in SCHEMA:
        pd.testing.assert_frame_equal(job.run.table(name), finished.run.table(name), rtol=1e-6)
    ours, theirs = (run.arrays("gallery") for run in (job.run, finished.run))
    assert set(ours) == set(theirs) != set()
    for key, value in ours.items():
        np.testing.assert_allclose(value, theirs[key], rtol=1e-2, atol=1e-3)
