"""Ranks and scores against the definition written out, and against the released code's numbers."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from arithcirc.arithmetic.operators import ADD, SUB, OperandRange, fitting_prompts
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.components import Neuron
from arithcirc.heuristics.families import BothRange, Identical, Modulo, Range
from arithcirc.heuristics.matching import count, members_of, score
from arithcirc.heuristics.presets import preset
from arithcirc.heuristics.ranks import BLOCK, rank_maps
from arithcirc.measure.maps import activation_maps, value_logits
from arithcirc.models.load import load

PROMPTS = fitting_prompts(SUB, OperandRange(0, 19), 60)


def noise(n_neurons: int, n_prompts: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_neurons, n_prompts)).astype(np.float32)


def literal(line: np.ndarray, mask: np.ndarray, end: str) -> float:
    """Share of H among the k = |H| prompts with the largest (or smallest) values, by sorting and counting."""
    order = sorted(range(len(line)), key=lambda i: line[i], reverse=end == "top")
    k = int(mask.sum())
    return sum(bool(mask[i]) for i in order[:k]) / k


@pytest.mark.parametrize("n_prompts", [1, 7, 300, 70_000], ids=str)
def test_ranks_number_the_prompts_from_the_largest_value_on(n_prompts):
    maps = noise(BLOCK + 3, n_prompts)
    ranks = rank_maps(maps)
    assert ranks.n_neurons == len(maps)
    for columns, block in zip(ranks.columns(), ranks.blocks, strict=True):
        for line, place in zip(maps[columns], block.T, strict=True):
            assert (line[np.argsort(place)] == np.sort(line)[::-1]).all()


def test_ties_are_broken_the_same_way_each_time_and_favour_no_operand():
    flat = np.zeros((1, len(PROMPTS)), dtype=np.float32)
    flat[0, ::2] = -0.0
    first, again = rank_maps(flat).blocks[0], rank_maps(flat).blocks[0]
    assert (first == again).all()
    assert sorted(first[:, 0]) == list(range(len(PROMPTS)))
    halves = [Range("op1", 0, 14), Range("op1", 14, 20)]
    found = score(rank_maps(flat), members_of(halves, PROMPTS)).ends["top"][0]
    assert np.abs(found - [h.mask(PROMPTS).mean() for h in halves]).max() < 0.15


def test_no_value_is_the_smallest_value():
    maps = np.array([[1.0, np.nan, -np.inf, 2.0]], dtype=np.float32)
    assert rank_maps(maps).blocks[0][[3, 0], 0].tolist() == [0, 1]


def test_scores_are_the_definition():
    maps = noise(5, len(PROMPTS))
    heuristics = preset("paper", SUB, OperandRange(0, 19), 60)[::7]
    masks = [h.mask(PROMPTS) for h in heuristics]
    found = score(rank_maps(maps), members_of(heuristics, PROMPTS))
    for end, values in found.ends.items():
        slow = [[literal(line, mask, end) for mask in masks] for line in maps]
        np.testing.assert_allclose(values, slow, rtol=0, atol=1e-12)
    assert found.size.tolist() == [m.sum() for m in masks]


def test_a_planted_map_scores_one_and_its_negative_one_at_the_bottom():
    mask = Modulo("op2", 3, 5).mask(PROMPTS)
    maps = np.stack([mask + 0.0, 0.0 - mask]).astype(np.float32) + noise(2, len(PROMPTS)) * 0.1
    found = score(rank_maps(maps), [np.flatnonzero(mask)]).ends
    assert found["top"][0, 0] == found["bottom"][1, 0] == 1
    assert found["bottom"][0, 0] < 0.3


def test_a_block_more_or_less_and_more_threads_change_nothing():
    maps, masks = noise(2 * BLOCK + 5, 200), np.random.default_rng(1).random((9, 200)) < 0.3
    heuristics = [np.flatnonzero(mask) for mask in masks]
    whole = score(rank_maps(maps), heuristics).ends["top"]
    parts = [score(rank_maps(part), heuristics).ends["top"] for part in np.array_split(maps, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(whole, score(rank_maps(maps), heuristics).ends["top"])
    finally:
        torch.set_num_threads(1)


def test_members_are_the_prompts_of_the_mask():
    heuristics = [*preset("paper", SUB, OperandRange(0, 19), 60), Identical(), BothRange(0, 5)]
    for h, found in zip(heuristics, members_of(heuristics, PROMPTS), strict=True):
        assert sorted(found.tolist()) == np.flatnonzero(h.mask(PROMPTS)).tolist(), str(h)


def test_an_empty_set_scores_zero():
    assert score(rank_maps(noise(2, 30)), [np.empty(0, dtype=np.int64)]).ends["top"].tolist() == [[0], [0]]


@pytest.mark.parametrize("n", [0, 1, 126, 127, 128, 1000])
def test_counting_in_bytes_is_counting(n):
    hits = np.random.default_rng(n).random((n, 3)) < 0.7
    assert count(hits).tolist() == hits.sum(0).tolist()


COMPARABLE = {
    "op1_range": lambda a, b: Range("op1", a, b),
    "op2_range": lambda a, b: Range("op2", a, b),
    "result_range": lambda a, b: Range("result", a, b),
    "both_operands_range": BothRange,
}


@pytest.mark.parametrize(("name", "op"), [("add", ADD), ("sub", SUB)])
def test_scores_equal_the_reference(shared, name, op):
    """Golden numbers: the released code, repaired, on the small model; families with its k = |H| (see its README)."""
    golden = json.loads((shared / "golden/neox-m100" / f"{name}_scores.json").read_text())
    listed = pd.read_csv(shared / "golden/neox-m100" / f"{name}_neurons.csv")
    neurons = [Neuron(*row) for row in listed[["layer", "neuron"]].itertuples(index=False)]
    at = {(n.layer, n.index): i for i, n in enumerate(neurons)}
    model = load(str(shared / "models/neox-m100"), device="cpu")
    encoder = prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    prompts = fitting_prompts(op, OperandRange(0, 99), encoder.limit)
    maps = activation_maps(model, encoder, prompts, neurons, batch_size=4096)
    kv = maps.kv(value_logits(model, encoder, neurons))
    compared = differ = 0
    for key, values in (("K", maps.k), ("KV", kv)):
        found = {n: h for n in golden[key] if (h := heuristic_of(n, op)) is not None}
        masks = [h.mask(prompts) for h in found.values()]
        ours = score(rank_maps(values), members_of(found.values(), prompts), ends=("top",)).ends["top"]
        for column, reference in enumerate(found):
            rows = golden[key][reference]
            theirs = np.array([s for _, _, s in rows])
            where = np.array([at[layer, neuron] for layer, neuron, _ in rows])
            k = int(masks[column].sum())
            apart = np.flatnonzero(np.abs(ours[where, column] - theirs) > 1e-6)
            for i in apart:  # prompts at the edge of the top k whose values are equal but for rounding
                line = values[where[i]]
                edge = np.sort(line)[-k]
                tied = int((np.abs(line - edge) < 1e-6 * np.abs(line).max()).sum())
                assert abs(ours[where[i], column] - theirs[i]) * k < tied, f"{key} {reference} L{rows[i][:2]}"
            differ += len(apart)
            compared += len(rows)
    assert compared > 20_000
    assert differ <= 5e-3 * compared


def heuristic_of(name: str, op):
    """Our heuristic for a comparable name of the reference; None for the others."""
    if name == "same_operand":
        return Identical()
    for stem, make in COMPARABLE.items():
        if name.startswith(f"{stem}_"):
            low, high = name.removeprefix(f"{stem}_").split("_")
            return make(int(low), int(high))
    if op == ADD and "mod" in name and not name.startswith(("both", "result")):
        variable, rest = name.split("_")
        residue, modulus = map(int, rest.split("mod"))
        return Modulo(variable, residue, modulus) if 100 % modulus == 0 else None
    return None
