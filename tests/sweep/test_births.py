"""Births against the planted history and against a slow loop over random ones."""

import numpy as np
import pandas as pd
import pytest
from sweep.synthetic_sweep import EVENTS, JUMPERS, STEPS, TOP, born, looked_at, present

from arithcirc.sweep.births import FATES, births, heuristic_births
from arithcirc.sweep.history import Facts, History, Moment, ended_tasks, histories


@pytest.fixture(scope="module")
def planted(planted_sweep):
    return list(histories(planted_sweep, ended_tasks(planted_sweep)))


@pytest.fixture(scope="module")
def addition(planted):
    table = births(planted[0])
    return table[table["labels"] == "significant"].set_index(["layer", "neuron", "heuristic"])


def test_every_planted_birth_is_found(addition):
    events = {event[:3] for event in EVENTS.values()}
    for pair, place in born().items():
        if pair not in events:
            row = addition.loc[pair]
            assert (row["birth"], row["fate"], row["at_reference"]) == (STEPS[place], "stays", True)
            assert row["present"] == len(STEPS) - place
            assert row["tested"] == len(STEPS)


def test_the_four_fates_are_told_apart(addition):
    for fate, (layer, neuron, heuristic, places) in EVENTS.items():
        row = addition.loc[(layer, neuron, heuristic)]
        assert row["fate"] == fate
        assert (row["first"], row["last"], row["present"]) == (STEPS[places[0]], STEPS[places[-1]], len(places))
        assert pd.isna(row["birth"]) == (fate != "stays")
    assert addition.loc[EVENTS["stays"][:3], "birth"] == STEPS[3]
    assert addition.loc[EVENTS["stays"][:3], "gaps"] == 1
    assert addition.loc[EVENTS["left"][:3], "tested"] == 6  # step 0 has no circuit, and counts


def test_what_dies_becomes_the_best_label_of_its_neuron_at_the_end(addition):
    layer, neuron, heuristic, _ = EVENTS["dies"]
    last = {pair[2] for pair in present(6) if pair[:2] == (layer, neuron)}
    assert addition.loc[(layer, neuron, heuristic), "becomes"] in last
    assert addition.loc[addition["fate"] == "stays", "becomes"].isna().all()


def test_a_failed_task_is_no_step(planted):
    minus = planted[1]
    assert [m.step for m in minus.moments] == [0, 64, 128, 256, 512, 2000]
    table = births(minus)
    assert not set(table["birth"].dropna()) & {1000}
    fifth = table[(table["labels"] == "significant") & (table["heuristic"] == "result = 2 mod 13")]
    assert set(fifth["birth"]) == {2000}  # planted at the step that failed, so first seen at the next


def test_a_heuristic_is_born_with_its_first_carrier_that_lasts(planted):
    found = heuristic_births(planted[0], "significant").set_index("heuristic")["birth"]
    assert {name: found[name] for name in JUMPERS} == JUMPERS
    assert EVENTS["dies"][2] not in found.index


def _random_history(rng, *, circuits):
    """Labels of 6 neurons over `circuits` (False: no circuit), neurons 0..2 tested everywhere, the rest at times."""
    rows = []
    for place, circuit in enumerate(circuits):
        if not circuit:
            continue
        for neuron in [n for n in range(6) if n < 3 or rng.random() < 0.6]:
            held = [h for h in ("op1 = 0 mod 2", "op2 = 0 mod 2", "op1 = op2") if rng.random() < 0.5]
            rows += [(place, 1, neuron, h, "modulo", rng.random(), True, rng.random() < 0.7) for h in held]
            rows += [(place, 1, neuron, "op1 = 1 mod 3", "modulo", 0.1, False, False)] * (not held)
    columns = ["place", "layer", "neuron", "heuristic", "family", "fit", "matched", "significant"]
    labels = pd.DataFrame(rows, columns=columns).astype({"heuristic": "category", "family": "category"})
    moments = [Moment(f"step{10 * i}", 10 * i, "done" if c else "no circuit", None, {}) for i, c in enumerate(circuits)]
    empty = pd.DataFrame(columns=["place", "prompts", "layer", "neuron"])
    return History(
        "m", "+", tuple(moments), len(circuits) - 1, Facts(4, 64, 99), labels, empty, empty, (9,) * len(circuits)
    )


def _slowly(history, kind):
    """Birth, fate and the step counts of every pair by walking through the steps."""
    labels, found = history.labels, {}
    for pair, rows in labels[labels[kind]].groupby(["neuron", "heuristic"], observed=True):
        there = set(rows["place"])
        places = set(labels.loc[labels["neuron"] == pair[0], "place"])
        looked = [p for p, m in enumerate(history.moments) if p in places or m.status == "no circuit"]
        walk = [p in there for p in looked]
        last = len(history.moments) - 1
        comes = sum(now and not before for before, now in zip([False, *walk], walk, strict=False))
        if walk[-1] and looked[-1] == last:
            since = next(i for i in range(len(walk)) if all(walk[i:]))
            found[pair] = (looked[since] * 10, "stays", len(there), len(walk))
        else:
            fate = "left" if walk[-1] else "dies" if comes == 1 else "flickers"
            found[pair] = (None, fate, len(there), len(walk))
    return found


@pytest.mark.parametrize("circuits", [(True,) * 6, (False, True, True, False, True, True), (True,)])
def test_the_table_says_what_a_walk_through_the_steps_says(circuits):
    seen = set()
    for seed in range(8):
        history = _random_history(np.random.default_rng(seed), circuits=circuits)
        table = births(history)
        for kind in ("matched", "significant"):
            mine = table[table["labels"] == kind].set_index(["neuron", "heuristic"])
            got = {
                pair: (None if pd.isna(row["birth"]) else row["birth"], row["fate"], row["present"], row["tested"])
                for pair, row in mine.iterrows()
            }
            assert got == _slowly(history, kind)
            seen |= set(mine["fate"])
    assert seen == (set(FATES) if len(circuits) > 1 else {"stays"})


def test_the_reference_is_labelled_at_every_step_of_the_planted_sweep():
    assert all({(2, n) for n in range(TOP)} <= set(looked_at(place)) for place in range(1, len(STEPS)))
