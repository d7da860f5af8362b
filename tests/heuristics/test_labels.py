"""Synthetic maps with known heuristics plus noise: what is found, what is not, and the sets of division."""

import numpy as np
import pandas as pd
import pytest

from arithcirc.arithmetic.operators import ADD, DIV, MUL, OperandRange, Operator, fitting_prompts
from arithcirc.components import Neuron
from arithcirc.errors import RequestError
from arithcirc.heuristics.families import BothModulo, Heuristic, Modulo, MultiValue, Pattern, Range
from arithcirc.heuristics.labels import COLUMNS, label_neurons
from arithcirc.measure.maps import Maps

OPERANDS, LIMIT = OperandRange(0, 99), 198


def maps_of(op: Operator, lines: list[np.ndarray], *, noise: float, seed: int = 0) -> Maps:
    prompts = fitting_prompts(op, OPERANDS, LIMIT)
    drawn = np.random.default_rng(seed).standard_normal((len(lines), len(prompts)))
    k = (np.stack(lines) + noise * drawn).astype(np.float32)
    said = prompts.answer.astype(np.int64)
    return Maps(tuple(Neuron(1, i) for i in range(len(k))), prompts, k, np.ones(len(prompts), dtype=bool), said)


def labelled(op: Operator, lines: list[np.ndarray], *, noise: float, draws: int = 100, **options):
    maps = maps_of(op, lines, noise=noise)
    ones = np.ones((len(lines), LIMIT + 1), dtype=np.float32)  # every value vector writes 1: KV = K
    return label_neurons(maps, ones, op, OPERANDS, draws=draws, rng=np.random.default_rng(1), **options)


def test_planted_heuristics_are_recovered_with_this_precision_and_recall():
    """48 neurons with a rule each and 48 of noise: recall >= .95, and >= .95 of the significant labels overlap it."""
    prompts = fitting_prompts(ADD, OPERANDS, LIMIT)
    rules: list[Heuristic] = [
        *(Modulo("op2", r, 10) for r in range(10)),
        *(Range("op1", a, a + 10) for a in range(0, 100, 10)),
        *(Range("result", a, a + 10) for a in range(20, 100, 10)),
        *(Modulo("result", r, 5) for r in range(5)),
        *(BothModulo(r, 4) for r in range(4)),
        *(Pattern("op2", f".{d}.") for d in range(10)),
        Modulo("op1", 1, 2),
    ]
    silent = [np.zeros(len(prompts)) for _ in range(len(rules))]
    found = labelled(ADD, [*(1.0 * r.mask(prompts) for r in rules), *silent], noise=0.4, draws=200)
    table = found.table[found.table["significant"] & (found.table["end"] == "top")]
    same = {i: r.mask(prompts) for i, r in enumerate(rules)}
    hit, right = set(), 0
    for row in table.itertuples():
        from arithcirc.heuristics.names import parse_heuristic

        mask = parse_heuristic(row.heuristic).mask(prompts)
        truth = same.get(row.neuron, np.zeros(len(prompts), dtype=bool))
        right += bool((mask & truth).sum() > 0.5 * mask.sum())
        if (mask == truth).all():
            hit.add(row.neuron)
    assert len(hit) / len(rules) >= 0.95
    assert right / len(table) >= 0.95


def test_noise_earns_no_significant_label_and_is_listed_with_its_best():
    prompts = fitting_prompts(ADD, OPERANDS, LIMIT)
    found = labelled(ADD, [np.zeros(len(prompts))] * 30, noise=1.0)
    assert not found.table["significant"].any()
    assert found.table["neuron"].nunique() == 30
    assert tuple(found.table.columns) == COLUMNS
    assert (found.table["q"].dropna() > 0.01).all()


def test_k_carries_operands_and_kv_results():
    maps = maps_of(ADD, [np.zeros(len(fitting_prompts(ADD, OPERANDS, LIMIT)))] * 2, noise=0.0)
    k = np.abs(maps.k) + 1
    even = np.where(np.arange(LIMIT + 1) % 2 == 0, 1.0, -1.0).astype(np.float32)[None].repeat(2, 0)
    found = label_neurons(
        Maps(maps.neurons, maps.prompts, k, maps.correct, maps.given),
        even, ADD, OPERANDS, draws=50, rng=np.random.default_rng(0),
    ).table  # fmt: skip
    best = found.sort_values("score", ascending=False).groupby(["neuron", "end"]).head(1)
    ends = {(row.neuron, row.end, row.heuristic, row.kind) for row in best[best["significant"]].itertuples()}
    assert {(i, "top", "result = 0 mod 2", "direct") for i in range(2)} <= ends
    assert {(i, "bottom", "result = 1 mod 2", "direct") for i in range(2)} <= ends
    assert not (found["significant"] & (found["kind"] == "indirect")).any()


def test_maps_without_negative_values_have_no_bottom():
    prompts = fitting_prompts(ADD, OPERANDS, LIMIT)
    lines = [np.abs(np.random.default_rng(0).standard_normal(len(prompts))) for _ in range(3)]
    found = labelled(ADD, lines, noise=0.0, threshold=0.3)
    assert set(found.table["end"]) == {"top"}


def test_division_finds_sets_of_results_and_leaves_zero_out():
    prompts = fitting_prompts(DIV, OPERANDS, LIMIT)
    wanted = [MultiValue((3, 5)), MultiValue((2, 4, 7)), MultiValue((1, 6, 8, 9))]
    found = labelled(DIV, [3.0 * s.mask(prompts) for s in wanted], noise=0.3)
    sets = found.table[(found.table["family"] == "multi_value") & (found.table["end"] == "top")]
    assert {(row.neuron, row.heuristic) for row in sets.itertuples()} >= {(i, str(s)) for i, s in enumerate(wanted)}
    assert (sets["score"] >= 0.95).all()
    assert not sets["heuristic"].str.contains(r"\{0,").any()
    assert sets["p_shift"].isna().all()
    assert (found.excluded["zero_share"] >= 0.9).all()
    assert not set(found.excluded["heuristic"]) & set(found.table["heuristic"])


def test_multiplication_excludes_what_only_says_zero():
    found = labelled(MUL, [np.zeros(len(fitting_prompts(MUL, OPERANDS, LIMIT)))], noise=1.0, draws=20)
    assert "op1 = 0" in set(found.excluded["heuristic"])


def test_the_threshold_decides_what_is_matched_and_the_level_what_is_significant():
    prompts = fitting_prompts(ADD, OPERANDS, LIMIT)
    lines = [1.0 * Modulo("op2", 3, 10).mask(prompts)]
    strict = labelled(ADD, lines, noise=0.8, threshold=0.99).table
    loose = labelled(ADD, lines, noise=0.8, threshold=0.3).table
    assert not strict["matched"].any()
    assert loose["matched"].all()
    pd.testing.assert_series_equal(loose["significant"], loose["q"] < 0.01, check_names=False)


def test_an_unknown_preset_is_refused():
    with pytest.raises(RequestError, match="paper or reference"):
        labelled(ADD, [np.zeros(len(fitting_prompts(ADD, OPERANDS, LIMIT)))], noise=1.0, preset_name="mine")
