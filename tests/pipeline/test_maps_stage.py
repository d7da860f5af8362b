"""The stage `maps`: its numbers are those of the tables and of single hooked forwards, and it asks for nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import toys

from arithcirc.arithmetic.operators import SUB, OperandRange
from arithcirc.circuits.neurons import neuron_effects
from arithcirc.components import Neuron
from arithcirc.config import MapsConfig, PromptConfig
from arithcirc.live.model import LiveHooked
from arithcirc.models.bridge import BridgedModel
from arithcirc.neuron_maps import StoredMaps, maps_file
from arithcirc.pipeline import map_stage
from arithcirc.pipeline.heuristic_stages import as_half
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.map_stage import expected_size, strongest
from arithcirc.pipeline.prompt_stage import legal_by_operator, load_pairs, rows_of
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.questions import Off

LOW, HIGH, TOP = 0, 30, 5
ASKED: dict[str, Any] = {
    "prompts": PromptConfig("-", f"{LOW}..{HIGH}", n_discover=2, n_evaluate=2, counterfactual_seeds=1),
    "maps": MapsConfig(TOP),
}
FLOATS = {"value", "effects", "drops", "falls", "leads"}
SECTIONS = ("model", "prompts", "circuit", "probe", "neurons", "heuristics", "maps")
MAPS = [s for s in stages_for("maps") if s.name == "maps"]
LABELLED = [(layer, i) for layer in (1, 2) for i in (0, 3, 17, 40, 95)]


@pytest.fixture(scope="module")
def job(toy_model: BridgedModel, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run with prompts, the effects of all neurons, and rows of labels for some of them."""
    job = open_job(toy_model, tmp_path_factory.mktemp("maps"), **ASKED, sections=SECTIONS)
    run_stages(job, stages_for("prompts"))
    pairs = load_pairs(rows_of(job.run.table("prompts"), "-", "discover"))
    effects = neuron_effects(job.model, job.encoder, pairs, first_layer=1)
    labels = pd.DataFrame(LABELLED * 2, columns=["layer", "neuron"]).assign(operator="-")
    tables = {"neurons": effects.frame(operator="-", top=5, first_layer=1), "heuristics": labels}
    for name, table in tables.items():
        job.run.finish(name, [job.run.write_table(name, table)])
    run_stages(job, MAPS)
    return job


@pytest.fixture(scope="module")
def arrays(job: Job) -> dict[str, np.ndarray]:
    return job.run.arrays("maps_sub")


@pytest.fixture(scope="module")
def live(job: Job) -> LiveHooked:
    return LiveHooked(job.model, job.encoder, OperandRange(LOW, HIGH))


def test_every_array_has_the_shape_and_type_it_is_documented_with(job: Job, arrays: dict[str, np.ndarray]) -> None:
    legal = legal_by_operator(job)[SUB]
    n, cases = TOP, len(arrays["cases"])
    shapes = {
        "neurons": (n, 2), "k": (n, len(legal)), "value": (n, toys.LIMIT + 1), "prompts": (len(legal), 3),
        "effects": (n, 2), "pairs": (2, 2), "drops": (n, cases), "after": (n, cases), "cases": (cases, 3),
        "falls": (n, cases), "leads": (cases,),
    }  # fmt: skip
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert {name for name, array in arrays.items() if array.dtype == np.float32} == FLOATS
    assert arrays["k"].dtype == np.float16
    np.testing.assert_array_equal(arrays["prompts"], np.stack([legal.op1, legal.op2, legal.answer], axis=1))
    assert job.run.manifest["stages"]["maps"]["outputs"].keys() == {maps_file("-")}


def test_the_mean_over_pairs_is_the_effect_of_table_neurons(job: Job, arrays: dict[str, np.ndarray]) -> None:
    table = job.run.table("neurons").query("method == 'exact' and metric == 'logit_diff'")
    by_neuron = table.set_index(["layer", "neuron"])["effect"]
    effect = [by_neuron[tuple(pair)] for pair in arrays["neurons"].tolist()]
    np.testing.assert_allclose(arrays["effects"].mean(axis=1), effect, rtol=1e-4, atol=1e-5)
    prompts = job.run.table("prompts").query("set == 'discover' and change == 'any' and seed == 0")
    np.testing.assert_array_equal(arrays["pairs"], prompts[["op1", "op2"]])


def test_half_are_the_strongest_of_all_and_half_the_strongest_labelled(job: Job, arrays: dict[str, np.ndarray]) -> None:
    table = job.run.table("neurons").query("method == 'exact' and metric == 'logit_diff'")
    ranked = table.assign(size=table["effect"].abs()).sort_values("size", ascending=False)
    every = list(ranked[["layer", "neuron"]].itertuples(index=False, name=None))
    best = every[: (TOP + 1) // 2]
    assert not set(best) <= set(LABELLED), "the test needs a strong neuron without a label"
    best += [n for n in every if n in LABELLED and n not in best][: TOP - len(best)]
    assert sorted(map(tuple, arrays["neurons"].tolist())) == sorted(best)
    assert arrays["neurons"].tolist() == sorted(arrays["neurons"].tolist())


def test_a_neuron_without_an_effect_comes_last() -> None:
    labels = pd.DataFrame({"operator": "+", "layer": [0, 1, 2, 2], "neuron": [3, 4, 5, 5]})
    effects = pd.DataFrame(
        [("+", 1, 4, -0.5), ("+", 2, 5, 0.1), ("-", 0, 3, 9.0)], columns=["operator", "layer", "neuron", "effect"]
    ).assign(method="exact", metric="logit_diff")
    assert strongest(labels, effects, "+", 5).tolist() == [[1, 4], [2, 5], [0, 3]]
    assert strongest(labels, effects, "+", 1).tolist() == [[1, 4]]
    other = pd.DataFrame([("+", 3, 8, 0.3), ("+", 3, 9, 0.05)], columns=effects.columns[:4]).assign(
        method="exact", metric="logit_diff"
    )
    both = pd.concat([effects, other])
    assert strongest(labels, both, "+", 5).tolist() == [[1, 4], [3, 8], [2, 5], [0, 3], [3, 9]]
    assert strongest(labels[:0], both, "+", 5).tolist() == []


def test_a_stored_map_is_the_live_map_to_half_precision(job: Job, live: LiveHooked) -> None:
    stored = StoredMaps.find(job.run.path, "-", (LOW, HIGH))
    assert stored is not None
    for neuron in stored.neurons():
        kept, now = stored.read(neuron), live.neuron_map("-", neuron)
        assert kept is not None
        np.testing.assert_array_equal(kept.k, as_half(now.k).astype(np.float32))
        np.testing.assert_array_equal(kept.answer, now.answer)
        np.testing.assert_allclose(kept.value, now.value, rtol=1e-5, atol=1e-6)
    assert np.isnan(kept.k[0, 1]), "0-1 has no legal result"


def test_stored_drops_are_those_of_single_prompts(arrays: dict[str, np.ndarray], live: LiveHooked) -> None:
    assert len(arrays["cases"])
    for i, (layer, index) in enumerate(arrays["neurons"].tolist()):
        for case, (op1, op2, answer) in enumerate(arrays["cases"].tolist()):
            before = live.answer(f"{op1}-{op2}=")
            after = live.answer(f"{op1}-{op2}=", Off((Neuron(layer, index),)))
            assert before.correct
            assert before.answer == answer
            drop = np.log(before.answer_guess.probability) - np.log(after.answer_guess.probability)
            assert arrays["drops"][i, case] == pytest.approx(drop, abs=1e-4)
            lead = before.guesses[0].logit - before.guesses[1].logit
            assert arrays["leads"][case] == pytest.approx(lead, abs=1e-4)
            others = max(g.logit for g in after.guesses if g.number != answer)
            fall = lead - (after.answer_guess.logit - others)
            assert arrays["falls"][i, case] == pytest.approx(fall, abs=1e-4)
            assert arrays["after"][i, case] == (-1 if after.guesses[0].number is None else after.guesses[0].number)


def test_blocks_and_batches_change_no_number(
    job: Job, arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = map_stage.neuron_blocks
    monkeypatch.setattr(map_stage, "neuron_blocks", lambda neurons, n: whole(neurons, n, held_bytes=8 * n * 2))
    other = replace(job, batch_size=100)
    found: dict[str, np.ndarray] = {}
    monkeypatch.setattr(type(job.run), "write_arrays", lambda _, name, a: found.update(a) or name)
    assert map_stage.maps_stage(other) == ["maps_sub"]
    for name, array in arrays.items():
        np.testing.assert_allclose(found[name], array, rtol=2e-3, atol=1e-4, err_msg=name)


def test_the_file_is_as_large_as_was_said(job: Job) -> None:
    n, size = expected_size(job)
    assert n == TOP
    assert (job.run.path / maps_file("-")).stat().st_size == pytest.approx(size, rel=0.1, abs=1500)


def test_an_older_run_gets_its_maps_and_nothing_else(job: Job) -> None:
    run = job.run
    before = {name: dict(record) for name, record in run.manifest["stages"].items() if name != "maps"}
    run.forget(["maps"])
    run.manifest["config"].pop("maps")
    run._save()
    again = open_job(job.model, run.path.parents[1], **ASKED, sections=SECTIONS)
    run_stages(again, MAPS)
    stages = dict(again.run.manifest["stages"])
    assert stages.pop("maps")["outputs"].keys() == {maps_file("-")}
    assert stages == before


def test_none_are_kept_where_none_are_asked_for(job: Job) -> None:
    none = replace(job, config=replace(job.config, maps=MapsConfig(0)))
    assert map_stage.count_maps(none).rows == 0
    assert expected_size(none) == (0, 0)
    assert map_stage.maps_stage(none) == []
