"""Circuits of the strongest neurons, and the overlap of operators' sets."""

from math import comb

import numpy as np
import pandas as pd
import pytest

from arithcirc.circuits.neuron_circuits import (
    NeuronCircuit,
    Rest,
    everything,
    expected_iou,
    fewest_faithful,
    label_rows,
    neuron_grid,
    neuron_masks,
    overlap_rows,
    random_circuits,
    random_ranks,
    ranked_circuits,
)
from arithcirc.components import Head

RANKS = np.stack([np.arange(1, 7)] * 3)
SOME = Rest("circuit", (Head(1, 0),), (0, 2))
ALL = everything(3, 2)


def test_the_grid_doubles_from_a_hundred_and_ends_at_the_width() -> None:
    assert neuron_grid(512) == [0, 1, 2, 5, 10, 20, 50, 100, 200, 400, 512]
    assert neuron_grid(800)[-3:] == [200, 400, 800]
    assert neuron_grid(3) == [0, 1, 2, 3]
    assert neuron_grid(1) == [0, 1]
    assert neuron_grid(60, 30) == [0, 1, 2, 5, 10, 20, 30, 50, 60]
    assert neuron_grid(60, 99) == neuron_grid(60)


def test_masks_keep_the_top_of_late_layers_and_early_mlps_whole() -> None:
    circuits = [NeuronCircuit("exact", 0, 2, rest) for rest in (SOME, ALL)]
    masks = neuron_masks(circuits, {("exact", 0): RANKS}, first_layer=1, n_heads=2)
    assert masks.mlps.tolist() == [[True, False, False]] * 2
    assert masks.heads.sum().item() == 1 + 6
    assert masks.heads[0, 1, 0]
    top = [True, True, False, False, False, False]
    none = [False] * 6
    assert masks.neurons is not None
    assert masks.neurons.tolist() == [[none, none, top], [none, top, top]]


def test_random_rankings_are_orders_and_only_inner_sizes_are_drawn() -> None:
    drawn = random_ranks(3, 6, 2, np.random.default_rng(0))
    assert all((np.sort(r, axis=1) == np.arange(1, 7)).all() for r in drawn)
    assert (drawn[0] != drawn[1]).any()
    grid = neuron_grid(6)
    circuits = random_circuits(grid, (SOME, ALL), 2)
    assert {c.top for c in circuits} == {1, 2, 5}
    assert len(circuits) == 2 * 2 * 3
    assert len(ranked_circuits(grid, (SOME, ALL))) == 2 * 2 * 5


def curve(faithful: list[float], heads: str = "all") -> pd.DataFrame:
    tops = [0, 1, 2, 5][: len(faithful)]
    return pd.DataFrame({"ranking": "exact", "heads": heads, "top": tops, "faithfulness": faithful})


def test_fewest_faithful_counts_from_one_and_looks_at_the_neurons_alone() -> None:
    assert fewest_faithful(curve([0.0, 0.5, 0.92, 1.0]), 0.9) == 2
    assert fewest_faithful(curve([0.8, 0.95, 0.97, 0.99]), 0.9) == 5  # .9 of the way from .8 to 1 is .98
    assert fewest_faithful(curve([-0.3, 0.9, 0.95, 1.0]), 0.9) == 1
    assert fewest_faithful(curve([0.1, np.nan, 0.2, 0.3]), 0.9) == 5
    assert fewest_faithful(curve([np.nan, np.nan, 0.95, 1.0]), 0.9) == 2
    both = pd.concat([curve([0.0, 1.0, 1.0, 1.0], "circuit"), curve([0.0, 0.0, 0.0, 1.0])])
    assert fewest_faithful(both, 0.9) == 5


def test_labels_follow_the_anchors() -> None:
    circuits = ranked_circuits([0, 6], (ALL,))
    table = label_rows(pd.DataFrame({"faithfulness": [1.0, 0.0, 0.1, 0.2, 0.3, 0.4]}), circuits)
    assert table["faithfulness"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert table["top"].tolist() == [0, 6, 0, 6]
    assert table["ranking"].tolist() == ["exact", "exact", "estimate", "estimate"]


def test_overlap_of_equal_and_of_disjoint_sets() -> None:
    backwards = RANKS[:, ::-1].copy()
    table = overlap_rows({"+": RANKS, "-": RANKS, "*": backwards}, {"+": 1, "-": 1, "*": 2}, top=3)
    assert table[["operator", "other"]].to_numpy().tolist() == [["+", "-"], ["+", "*"], ["-", "*"]]
    assert table["iou"].tolist() == [1, 0, 0]
    assert table["shared"].tolist() == [6, 0, 0]
    assert table["union"].tolist() == [6, 9, 9]
    assert overlap_rows({"+": RANKS}, {"+": 0}, top=3).empty


def test_expected_iou_is_that_of_random_sets() -> None:
    a = np.zeros((1, 5), dtype=bool)
    a[0, :2] = True
    chances = [comb(2, s) * comb(3, 2 - s) / comb(5, 2) for s in range(3)]
    assert expected_iou(a, a) == pytest.approx(sum(p * s / (4 - s) for s, p in enumerate(chances)))
    assert expected_iou(np.ones((2, 4), dtype=bool), np.ones((2, 4), dtype=bool)) == pytest.approx(1)
    rng = np.random.default_rng(0)
    first, second = (np.stack([rng.permutation(30) < k for k in ks]) for ks in ((10, 4), (7, 0)))
    found = []
    for _ in range(3000):
        other = np.stack([row[rng.permutation(30)] for row in second])
        found.append((first & other).sum() / (first | other).sum())
    assert np.mean(found) == pytest.approx(expected_iou(first, second), abs=4 * np.std(found) / 3000**0.5)
