"""How fast neurons are matched with heuristics: `python tests/bench/heuristics.py`, part of `make bench`.

`classify_vs_reference`: the loop of the released code, for every neuron and heuristic a Python loop over the k top
prompts, against ranks and gathers, on the same 150 neurons of the shipped model, 485 heuristics and 10,000 addition
prompts; one map, its top end. The released code itself took 18.5 s for this on one core of another machine.
`classify_large`: 800 neurons, 600 heuristics, 45,150 subtraction prompts, both ends, with the memory it takes.
`label_large`: the whole labelling of these neurons, with nulls and q-values, for what a user waits for.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from timing import PeakMemory, write_rows

import arithcirc as ac
from arithcirc.components import Neuron
from arithcirc.heuristics.families import BothModulo, BothRange, Heuristic, Identical, Modulo, Pattern, Range
from arithcirc.heuristics.labels import label_neurons
from arithcirc.heuristics.matching import members_of, score
from arithcirc.heuristics.presets import preset
from arithcirc.heuristics.ranks import rank_maps
from arithcirc.measure.maps import Maps, activation_maps, value_logits
from arithcirc.neuron_maps import tie_order

RELEASED = 18.5
"""Seconds the released code took for 150 neurons x 485 heuristics x 10,000 prompts."""
Rule = Callable[[int, int, int], bool]


def rule(h: Heuristic) -> Rule:
    """A heuristic as a test of one prompt's operands and result, the way a loop over prompts needs it."""
    if isinstance(h, Range):
        low, high = h.low, h.high
        return {
            "op1": lambda a, b, r: low <= a < high,
            "op2": lambda a, b, r: low <= b < high,
            "result": lambda a, b, r: low <= r < high,
        }[h.variable]
    if isinstance(h, Modulo):
        n, m = h.modulus, h.residue
        return {
            "op1": lambda a, b, r: a % n == m,
            "op2": lambda a, b, r: b % n == m,
            "result": lambda a, b, r: r % n == m,
        }[h.variable]
    if isinstance(h, BothRange):
        low, high = h.low, h.high
        return lambda a, b, r: low <= a < high and low <= b < high
    if isinstance(h, BothModulo):
        n, m = h.modulus, h.residue
        return lambda a, b, r: a % n == m and b % n == m
    if isinstance(h, Identical):
        return lambda a, b, r: a == b
    if not isinstance(h, Pattern):
        raise TypeError(f"no rule for {h}")
    fits = {n for n in range(1000) if h.holds(np.array([n]))[0]}
    return {
        "op1": lambda a, b, r: a in fits,
        "op2": lambda a, b, r: b in fits,
        "result": lambda a, b, r: r in fits,
    }[h.variable]


def reference_loop(maps: np.ndarray, prompts: ac.Prompts, heuristics: list[Heuristic]) -> np.ndarray:
    """Scores by a Python loop over the k top prompts of every neuron and heuristic; ties as ours breaks them."""
    rows = list(zip(prompts.op1.tolist(), prompts.op2.tolist(), prompts.answer.tolist(), strict=True))
    rules = [(rule(h), int(h.mask(prompts).sum())) for h in heuristics]
    tie = np.argsort(tie_order(len(rows)))
    out = np.empty((len(maps), len(heuristics)))
    for i, line in enumerate(maps):
        ordered = [rows[p] for p in tie[np.argsort(-line[tie], kind="stable")]]
        for j, (holds, k) in enumerate(rules):
            hits = 0
            for op1, op2, result in ordered[:k]:
                if holds(op1, op2, result):
                    hits += 1
            out[i, j] = hits / k
    return out


def ours(maps: np.ndarray, prompts: ac.Prompts, heuristics: list[Heuristic]) -> np.ndarray:
    """The same scores from ranks."""
    return score(rank_maps(maps), members_of(heuristics, prompts), ends=("top",)).ends["top"]


def some_maps(op: str, high: int, n: int) -> tuple[Any, Maps, np.ndarray]:
    """Maps of n neurons of the shipped model on all legal prompts with operands 0..high, and their value logits."""
    model = ac.load(device="cpu")
    encoder = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    everything = [Neuron(layer, i) for layer in range(1, model.info.n_layers) for i in range(model.info.d_mlp)]
    neurons = [everything[i] for i in np.sort(np.random.default_rng(0).permutation(len(everything))[:n])]
    legal = ac.legal_prompts(ac.operator(op), ac.OperandRange(0, high), encoder.limit)
    maps = activation_maps(model, encoder, legal, neurons, batch_size=2048)
    return encoder, maps, value_logits(model, encoder, neurons)


def classify(repeats: int, n_neurons: int, n_heuristics: int, high: int) -> dict[str, Any]:
    """Ours and the loop, interleaved, in one process."""
    encoder, maps, _ = some_maps("+", high, n_neurons)
    listed = preset("reference", ac.operator("+"), ac.OperandRange(0, high), encoder.limit)
    chosen = sorted(listed, key=lambda h: h.family == "value")[:n_heuristics]
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    found: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, run in (("ours", ours), ("reference", reference_loop)):
            start = time.perf_counter()
            found[name] = run(maps.k, maps.prompts, chosen)
            seconds[name].append(time.perf_counter() - start)
    ratios = [theirs / mine for theirs, mine in zip(seconds["reference"], seconds["ours"], strict=True)]
    return {
        "median": statistics.median(seconds["reference"]),
        "ours": statistics.median(seconds["ours"]),
        "ratio": statistics.median(ratios),
        "spread": (max(ratios) - min(ratios)) / statistics.median(ratios),
        "difference": float(np.abs(found["ours"] - found["reference"]).max()),
        "released": RELEASED,
        "neurons": len(maps.k),
        "heuristics": len(chosen),
        "prompts": len(maps.prompts),
    }


def large(repeats: int, n_neurons: int, n_heuristics: int, high: int) -> dict[str, Any]:
    """Matching at the size of a large run, and the whole labelling, nulls included."""
    encoder, maps, values = some_maps("-", high, n_neurons)
    op, operands = ac.operator("-"), ac.OperandRange(0, high)
    listed = preset("paper", op, operands, encoder.limit)
    chosen = [listed[i] for i in np.linspace(0, len(listed) - 1, n_heuristics).astype(int)]
    seconds = []
    with PeakMemory(torch.device("cpu")) as memory:
        for _ in range(repeats):
            start = time.perf_counter()
            score(rank_maps(maps.k), members_of(chosen, maps.prompts))
            seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    labels = label_neurons(maps, values, op, operands, rng=np.random.default_rng(0))
    labelling = time.perf_counter() - start
    size = {"neurons": len(maps.k), "prompts": len(maps.prompts)}
    return {
        "classify_large": size | {
            "heuristics": len(chosen),
            "median": statistics.median(seconds),
            "peak_mb": memory.mb + maps.k.nbytes / 1e6,
        },
        "label_large": size | {"heuristics": labels.n_heuristics, "tests": labels.n_tests, "median": labelling},
    }  # fmt: skip


def main() -> None:
    """Run both and write them into bench.json beside what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    small, big = ((4, 30, 19), (8, 30, 19)) if options.quick else ((150, 485, 99), (800, 600, 299))
    results = {"classify_vs_reference": classify(options.repeats, *small), **large(options.repeats, *big)}
    console = Console(width=130)
    for name, row in results.items():
        shown = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
        console.print(f"{name}: {shown} ({torch.get_num_threads()} threads)")
    write_rows(options.out, results, owner=("classify", "label"))


if __name__ == "__main__":
    main()
