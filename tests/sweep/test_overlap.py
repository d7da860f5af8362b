"""Overlaps counted by hand, and their chance levels against simulation."""

import numpy as np
import pandas as pd
import pytest
from sweep.synthetic_sweep import D_MLP, LISTED, STEPS, important, present, synthetic_sweep

from arithcirc.sweep.history import Facts, History, Moment, ended_tasks, histories
from arithcirc.sweep.overlap import overlap

LAST = len(STEPS) - 1


@pytest.fixture(scope="module")
def planted(planted_sweep):
    return pd.concat([overlap(history) for history in histories(planted_sweep, ended_tasks(planted_sweep))])


def _row(table, step, what, labels, prompts="own", symbol="+"):
    at = (table["step"] == step) & (table["what"] == what) & (table["labels"] == labels)
    return table[at & (table["prompts"] == prompts) & (table["operator"] == symbol)].iloc[0]


@pytest.mark.parametrize("prompts", ["own", "shared"])
@pytest.mark.parametrize("place", range(1, LAST + 1))
def test_planted_overlaps_are_counted(planted, place, prompts):
    def pairs(at):
        here = set(important(at, shared=prompts == "shared" and at != LAST))
        return {pair for pair in present(at) if pair[:2] in here}

    row = _row(planted, STEPS[place], "pairs", "significant", prompts)
    assert (row["at_reference"], row["here"]) == (len(pairs(LAST)), len(pairs(place)))
    assert row["shared"] == len(pairs(LAST) & pairs(place))
    assert row["share"] == pytest.approx(row["shared"] / row["at_reference"])
    assert row["jaccard"] == pytest.approx(row["shared"] / len(pairs(LAST) | pairs(place)))
    names = _row(planted, STEPS[place], "heuristics", "significant", prompts)
    assert names["shared"] == len({p[2] for p in pairs(LAST)} & {p[2] for p in pairs(place)})
    labelled = _row(planted, STEPS[place], "labelled", "significant", prompts)
    assert labelled["shared"] == len({p[:2] for p in pairs(LAST)} & {p[:2] for p in pairs(place)})


def test_pairs_of_neurons_that_do_not_matter_yet_count_as_tested(planted):
    row = _row(planted, 64, "pairs_tested", "significant")
    reference = {pair for pair in present(LAST) if pair[1] < 12}
    assert row["shared"] == len(reference & present(1))
    assert row["shared"] > _row(planted, 64, "pairs", "significant")["shared"]


def test_the_reference_shares_all_and_a_step_without_a_circuit_nothing(planted):
    last = planted[planted["step"] == STEPS[LAST]]
    assert (last[["share", "jaccard"]] == 1).all(axis=None)
    first = planted[planted["step"] == 0]
    assert len(first) > 0
    assert (first[["shared", "expected"]] == 0).all(axis=None)


def test_random_labels_share_what_is_expected(tmp_path):
    table = pd.concat([overlap(history) for seed in range(3) for history in _histories(tmp_path / str(seed), seed)])
    table = table[(table["prompts"] == "own") & ~table["revision"].isin(["step0", "step2000"])]
    for what in ("neurons", "pairs", "heuristics"):
        mine = table[(table["what"] == what) & table["labels"].isin(["", "significant"])]
        expected, spread = mine["expected"].mean(), mine["share"].std() / np.sqrt(len(mine))
        assert abs(mine["share"].mean() - expected) < 3 * spread + 1e-9, what


def _histories(path, seed):
    sweep = synthetic_sweep(path, operators="+", random=True, seed=seed)
    return list(histories(sweep, ended_tasks(sweep)))


def _history(sets, labels):
    """Two places; `sets` are (layer, neuron) by place, `labels` (layer, neuron) -> heuristics by place."""
    rows = [
        (place, layer, n, h, "modulo", 1.0, True, True)
        for place, held in enumerate(labels)
        for (layer, n), names in held.items()
        for h in names
    ]
    columns = ["place", "layer", "neuron", "heuristic", "family", "fit", "matched", "significant"]
    table = pd.DataFrame(rows, columns=columns).astype({"heuristic": "category", "family": "category"})
    chosen = [(place, "own", layer, n) for place, mine in enumerate(sets) for layer, n in mine]
    neurons = pd.DataFrame(chosen, columns=["place", "prompts", "layer", "neuron"])
    heads = neurons.rename(columns={"neuron": "head"}).astype({"head": "int64"}).iloc[:0]
    moments = tuple(Moment(f"step{i}", i, "done", None, {}) for i in range(2))
    return History("m", "+", moments, 1, Facts(4, D_MLP, 99), table, neurons, heads, (len(LISTED),) * 2)


def _draw(rng):
    """Uneven layers, labels of uneven frequency."""
    neurons = [(layer, int(n)) for layer, size in ((0, 20), (1, 8)) for n in rng.permutation(D_MLP)[:size]]
    common = LISTED[:6]
    often = [0.4, 0.2, 0.1, 0.1, 0.1, 0.1]
    return {at: {str(h) for h in rng.choice(common, size=rng.integers(0, 4), p=often)} for at in neurons}


def test_chance_levels_are_the_means_of_permutations():
    rng = np.random.default_rng(0)
    here, there = _draw(rng), _draw(rng)
    row = overlap(_history([list(here), list(there)], [here, there])).query("step == 0 and labels == 'significant'")
    row = row.set_index("what")
    ours = {(at, h) for at, names in there.items() for h in names}
    moved, exchanged = [], []
    for _ in range(4000):
        place = {layer: rng.permutation(D_MLP) for layer in (0, 1)}
        moved.append(sum(((layer, place[layer][n]), h) in ours for (layer, n), names in here.items() for h in names))
        other = {}
        for layer in (0, 1):
            mine = [at for at in here if at[0] == layer]
            other |= dict(zip(mine, [here[mine[i]] for i in rng.permutation(len(mine))], strict=True))
        exchanged.append(sum((at, h) in ours for at, names in other.items() for h in names))
    for name, drawn in (("expected", moved), ("given_neurons", exchanged)):
        error = np.std(drawn) / np.sqrt(len(drawn)) / len(ours)
        assert row.loc["pairs", name] == pytest.approx(np.mean(drawn) / len(ours), abs=4 * error)
    assert row.loc["pairs", "given_neurons"] > 0


def test_without_the_reference_there_is_nothing_to_compare(tmp_path):
    sweep = synthetic_sweep(tmp_path / "sweep", operators="-", steps=(0, 64, 1000))
    sweep.manifest["models"][0]["reference"] = "step1000"  # the task that failed
    (history,) = histories(sweep, ended_tasks(sweep))
    assert history.reference is None
    assert overlap(history).empty
