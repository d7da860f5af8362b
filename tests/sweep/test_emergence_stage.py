"""What is kept of the reference's labels: planted label tables, masks, arms, and the tables of a task."""

import shutil
from pathlib import Path

import little_tasks
import numpy as np
import pandas as pd
import pytest
import toys

from arithcirc.arithmetic.operators import Prompts
from arithcirc.catalogue import SweepFolder
from arithcirc.circuits.neuron_circuits import Rest, everything
from arithcirc.components import Neuron
from arithcirc.heuristics.labelled import Labelled
from arithcirc.measure.means import mean_activations
from arithcirc.models.bridge import BridgedModel
from arithcirc.pipeline.job import Job, open_job
from arithcirc.store import RunFolder
from arithcirc.sweep import emergence_stage
from arithcirc.sweep.emergence_stage import Compared, count_emergence
from arithcirc.sweep.kept import LabelRows, label_rows, random_like
from arithcirc.sweep.kept_faithfulness import RANDOM_DRAWS, kept_faithfulness, neuron_sets, set_masks
from arithcirc.sweep.kept_knockouts import COMPARED, PER_LAYER, arm_sets
from arithcirc.sweep.task import Outcome
from arithcirc.sweep.work import run_task

ARMS = list(COMPARED)


def labels(*rows: tuple[int, int, str, bool, bool]) -> pd.DataFrame:
    """Rows of the table `heuristics`: layer, neuron, heuristic, matched, significant."""
    return pd.DataFrame(rows, columns=["layer", "neuron", "heuristic", "matched", "significant"]).assign(score=0.7)


HERE = labels(
    (1, 0, "op1 in 0..10", True, True),  # the reference says so too: kept
    (1, 0, "op2 in 0..10", True, True),  # a second label of a kept neuron
    (1, 1, "op1 in 0..10", True, True),  # another heuristic there: new
    (2, 2, "op1 = op2", True, False),  # kept as matched, not significant here
    (2, 3, "op2 = 1 mod 2", True, True),  # significant here, only matched there
    (2, 4, "op1 in 0..10", False, False),  # its best one, unmatched: no label
    (2, 5, "op1 in 0..10", True, True),  # not important here
)
THERE = labels(
    (1, 0, "op1 in 0..10", True, True),
    (1, 1, "op2 in 0..10", True, True),
    (2, 2, "op1 = op2", True, True),
    (2, 3, "op2 = 1 mod 2", True, False),
    (2, 4, "op1 in 0..10", True, True),
    (2, 5, "op1 in 0..10", True, True),
)
IMPORTANT = [Neuron(1, 0), Neuron(1, 1), Neuron(2, 2), Neuron(2, 3), Neuron(2, 4)]


# -- kept and new ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "every", "kept"),
    [
        ("matched", [(1, 0), (1, 1), (2, 2), (2, 3)], [(1, 0), (2, 2), (2, 3)]),
        ("significant", [(1, 0), (1, 1), (2, 3)], [(1, 0)]),
    ],
)
def test_a_neuron_is_kept_by_one_shared_pair(
    kind: str, every: list[tuple[int, int]], kept: list[tuple[int, int]]
) -> None:
    rows = label_rows(HERE, IMPORTANT, THERE, kind)
    assert list(map(tuple, rows.all_neurons.tolist())) == every
    assert list(map(tuple, rows.kept_neurons.tolist())) == kept
    assert list(map(tuple, rows.new_neurons.tolist())) == [pair for pair in every if pair not in kept]
    assert len(rows.kept) == len(kept)  # of the pairs, only the shared ones


def test_the_reference_keeps_all_its_labels() -> None:
    rows = label_rows(THERE, IMPORTANT, None, "matched")
    assert rows.kept_neurons.tolist() == rows.all_neurons.tolist()
    assert rows.new_neurons.shape == (0, 2)


def test_nothing_labelled_is_nothing_kept() -> None:
    rows = label_rows(HERE.iloc[:0], IMPORTANT, THERE, "matched")
    assert rows.all_neurons.shape == rows.kept_neurons.shape == rows.new_neurons.shape == (0, 2)


def test_random_sets_have_as_many_of_each_layer() -> None:
    chosen = np.array([(1, 0), (1, 4), (1, 5), (3, 2)])
    rng = np.random.default_rng(0)
    drawn = [random_like(chosen, 8, rng) for _ in range(40)]
    for members in drawn:
        assert members[:, 0].tolist() == [1, 1, 1, 3]
        assert len(np.unique(members, axis=0)) == 4
    assert {int(i) for members in drawn for i in members[:, 1]} == set(range(8))
    assert random_like(chosen[:0], 8, rng).shape == (0, 2)


def test_sets_in_the_tables_order() -> None:
    rows = label_rows(HERE, IMPORTANT, THERE, "matched")
    sets = neuron_sets(rows, compared=True, width=toys.HIDDEN, rng=np.random.default_rng(0))
    assert [(s.name, len(s.members)) for s in sets] == [
        ("all", 4), ("kept", 3), *[("random_kept", 3)] * RANDOM_DRAWS, ("new", 1), *[("random_new", 1)] * RANDOM_DRAWS,
        ("none", 0),
    ]  # fmt: skip
    alone = neuron_sets(rows, compared=False, width=toys.HIDDEN, rng=np.random.default_rng(0))
    assert [s.name for s in alone] == ["all", "none"]


# -- faithfulness ------------------------------------------------------------------------------------------------------


@pytest.fixture
def job(toy_model: BridgedModel, tmp_path: Path) -> Job:
    return open_job(toy_model, tmp_path, prompts=little_tasks.SETTINGS.prompts)


def every_neuron(*layers: int) -> pd.DataFrame:
    return labels(*((layer, i, "op1 = op2", True, True) for layer in layers for i in range(toys.HIDDEN)))


def sums(n: int) -> Prompts:
    op1, op2 = np.arange(n), np.arange(n)[::-1].copy()
    return Prompts(np.array(["+"] * n), op1, op2, op1 + op2)


def test_masks_keep_the_rest_and_the_set_only(toy_model: BridgedModel) -> None:
    rows = label_rows(HERE, IMPORTANT, THERE, "matched")
    sets = neuron_sets(rows, compared=True, width=toys.HIDDEN, rng=np.random.default_rng(0))
    some = Rest("circuit", everything(3, 4).heads[:2], (0, 2))
    masks = set_masks(sets, some, 1, toy_model.info)
    assert masks.heads.sum(dim=(1, 2)).tolist() == [2] * len(sets)
    assert masks.mlps.tolist() == [[True, False, False]] * len(sets)
    assert masks.neurons is not None
    assert masks.neurons[0].nonzero().tolist() == [[2, 2], [2, 3]]  # MLP 1 is not in the circuit
    assert not masks.neurons[-1].any()


def test_all_neurons_are_the_model_and_none_are_none(job: Job) -> None:
    """Every neuron from the first layer on labelled and kept: F = 1; nothing labelled: F of `none`."""
    means = mean_activations(job.model, job.encoder, job.operators, job.operands, batch_size=512)
    whole, empty = every_neuron(1, 2), every_neuron()
    rows = {"matched": LabelRows(whole, empty), "significant": LabelRows(empty, empty)}
    rests = (everything(3, 4), Rest("circuit", everything(3, 4).heads[:6], (0, 1, 2)))
    table = kept_faithfulness(
        job, sums(12), rows, rests, means, np.random.default_rng(0),
        compared=True, first_layer=1, progress=lambda _: None,
    )  # fmt: skip
    assert len(table) == 2 * 2 * (4 + 2 * RANDOM_DRAWS)
    found = table.set_index(["labels", "heads", "neurons", "draw"])["faithfulness"]
    assert found["matched", "all", "all", 0] == found["matched", "all", "new", 0] == pytest.approx(1, abs=1e-6)
    for heads in ("all", "circuit"):
        none = found["matched", heads, "none", 0]
        assert found["matched", heads, "kept", 0] == pytest.approx(none, abs=1e-6)
        assert found["significant", heads, "all", 0] == pytest.approx(none, abs=1e-6)
        assert found["matched", heads, "all", 0] != pytest.approx(none, abs=1e-3)
    sizes = table.set_index(["labels", "neurons", "heads", "draw"])["n_neurons"]
    assert sizes["matched", "all", "all", 0] == 2 * toys.HIDDEN
    assert sizes["matched", "kept", "all", 0] == sizes["matched", "random_kept", "all", 4] == 0


# -- arms --------------------------------------------------------------------------------------------------------------


def test_arms_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(2)
    neurons = np.array([(layer, n) for layer in (1, 2) for n in range(60)])
    prompts = sums(1)
    names = ("a",)
    labelled = Labelled(
        prompts, np.ones(1, dtype=bool), names, names, np.ones((1, 1), dtype=bool), neurons, np.ones((120, 1))
    )
    for _ in range(5):
        holding = np.where(rng.random(120) < 0.6, rng.choice([0.6, 0.7, 0.8], 120), 0)
        shared = np.where(rng.random(120) < 0.4, holding * rng.choice([0.8, 1.0], 120), 0)
        sets = iter(arm_sets(labelled, holding, shared, rng, compared=True))
        score = {tuple(m): (h, s) for m, h, s in zip(neurons.tolist(), holding, shared, strict=True)}
        for n in PER_LAYER:
            arm = {name: [tuple(m) for m in next(sets).tolist()] for name in ARMS}
            for layer in (1, 2):
                mine = {name: {m for m in members if m[0] == layer} for name, members in arm.items()}
                wanted = {"targeted": lambda h, s: h, "kept": lambda h, s: s, "new": lambda h, s: h * (s == 0)}
                for name, by in wanted.items():
                    ranked = sorted((-by(*score[m]), m) for m in score if m[0] == layer and by(*score[m]) > 0)
                    assert mine[name] == {m for _, m in ranked[:n]}
                    control = mine["random" if name == "targeted" else f"random_{name}"]
                    assert len(control) == min(len(mine[name]), 60 - len(mine[name]))
                    assert not control & mine[name]
                assert not mine["kept"] & mine["new"]
        assert next(sets, None) is None
    assert len(arm_sets(labelled, holding, shared, rng, compared=False)) == 2 * len(PER_LAYER)


# -- the tables of tasks -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(
    checkpoints: Path, root: Path, outcomes: dict[int, Outcome], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SweepFolder, Path]:
    assert outcomes[1].status == outcomes[2].status == "done"
    return SweepFolder(shutil.copytree(root, tmp_path_factory.mktemp("sweeps") / "copy")), checkpoints


def run_of(sweep: tuple[SweepFolder, Path], step: int) -> RunFolder:
    return RunFolder.open(sweep[0].files(*little_tasks.task(sweep[1], step).key).own)


def test_at_the_reference_kept_is_all(sweep: tuple[SweepFolder, Path]) -> None:
    run = run_of(sweep, 2)
    table = run.table("kept_faithfulness")
    assert set(table["prompts"]) == {"own"}
    numbers = ["n_neurons", "n", "faithfulness", "probability", "accuracy", "kl"]
    one = {name: part.reset_index(drop=True)[numbers] for name, part in table.groupby("neurons")}
    pd.testing.assert_frame_equal(one["all"], one["kept"], rtol=1e-5)
    assert (one["new"]["n_neurons"] == 0).all()
    knocked = run.table("knockouts_by_prompt")
    by_arm = {arm: part.reset_index(drop=True) for arm, part in knocked.groupby("arm")}
    pd.testing.assert_frame_equal(by_arm["targeted"].drop(columns="arm"), by_arm["kept"].drop(columns="arm"))
    assert (by_arm["new"]["neurons"] == 0).all()
    assert (by_arm["new"]["accuracy"] == 1).all()  # nothing is knocked out, and all prompts are answered correctly


def test_tables_tell_prompts_and_labels_apart(sweep: tuple[SweepFolder, Path]) -> None:
    run = run_of(sweep, 1)
    faithful, knocked = run.table("kept_faithfulness"), run.table("knockouts_by_prompt")
    for table in (faithful, knocked):
        assert list(table.columns[:3]) == ["operator", "prompts", "labels"]
        assert set(zip(table["prompts"], table["labels"], strict=True)) == {
            (p, kind) for p in ("own", "shared") for kind in ("matched", "significant")
        }
    assert list(faithful.columns[3:7]) == ["heads", "neurons", "draw", "n_neurons"]
    assert knocked.groupby(["prompts", "labels", "ablation"])["arm"].agg(list).map(
        lambda arms: arms == ARMS * len(PER_LAYER)
    ).all()  # fmt: skip
    assert set(knocked["per_layer"]) == set(PER_LAYER)
    assert set(knocked["ablation"]) == {"zero", "mean"}


def test_rows_are_counted_before_they_run(sweep: tuple[SweepFolder, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    whole = emergence_stage.emergence_stage

    def counting(job: Job, *, compared: Compared) -> list[str]:
        counted.append(count_emergence(job, compared=compared).rows)
        return whole(job, compared=compared)

    monkeypatch.setattr(emergence_stage, "emergence_stage", counting)
    for step in (2, 1):
        task = little_tasks.task(sweep[1], step)
        run_of(sweep, step).forget(["emergence"])
        with toys.counted_rows() as seen:
            assert run_task(task, sweep[0].path).status == "done"
        assert set(seen) == {"emergence"}
        assert seen["emergence"] == (counted[-1], counted[-1])
