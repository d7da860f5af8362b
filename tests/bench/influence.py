"""What influence costs: `python tests/bench/influence.py` prints a Markdown table, measured rows first.

Measured: every part of fitting and scoring for random weights of the default model's shape (1,000 documents of 66
tokens, 60 queries) and of Pythia-70m's (16 documents of 128 tokens, 8 queries), in processor seconds of one thread, or
seconds of the GPU with --device cuda. Extrapolated, and marked so: the operations of larger jobs by
`influence.study.cost`, each part at the rate that the largest measured shape reached in it; 100 queries of 150 tokens,
documents of 512 tokens, 100,000 of them fitted, as in Ruis et al. (arXiv 2411.12580). Nothing is downloaded.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from arithcirc.influence.engine import Engine, Settings
from arithcirc.influence.factors import NEEDED
from arithcirc.influence.footprint import Sizes, footprint
from arithcirc.influence.rows import Row, Rows
from arithcirc.influence.study.cost import Cost, Job, multiplied, shapes_of, study_cost
from arithcirc.influence.tracked import linear_modules
from arithcirc.models.shapes import Shape, configuration, meta_network, random_network, resized
from arithcirc.models.zoo import named

PARTS = tuple(f.name for f in fields(Cost))
MEASURED = {"neox-corpus": (1000, 66, 60), "pythia-70m": (16, 128, 8)}
EXTRAPOLATED = ("pythia-70m", "pythia-160m", "pythia-410m", "pythia-1b")
SCORED = (100_000, 5_000_000)
FITTED, TOKENS, QUERIES, QUERY_TOKENS, RANK = 100_000, 512, 100, 150, 32


def shape_of(name: str) -> Shape:
    """Of a Pythia model, or of the model that `arithcirc influence train` makes."""
    if name != "neox-corpus":
        return named(name).shape
    small = named("pythia-70m").shape
    return resized(small, n_layers=2, d_model=128, n_heads=4, n_kv_heads=4, d_mlp=512, d_vocab=544)


def texts(count: int, tokens: int, vocab: int, *, start: int = 1, seed: int = 0) -> Rows:
    """Random rows."""
    draw = random.Random(seed)  # noqa: S311
    return Rows([Row(tuple(draw.randrange(vocab) for _ in range(tokens)), start=start) for _ in range(count)])


def timed(work: Callable[[], object], device: str) -> float:
    """Processor seconds of this process, or seconds of the GPU."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measure(name: str, documents: int, tokens: int, queries: int, device: str) -> dict[str, dict[str, float]]:
    """Seconds and operations of each part."""
    shape = shape_of(name)
    network = random_network(configuration(shape), device=device)
    tracked = linear_modules(network)
    given = texts(documents, tokens, shape.d_vocab)
    asked = texts(queries, min(24, tokens), shape.d_vocab, start=12, seed=1)
    job = Job(documents, documents * tokens, documents, documents * tokens, queries, queries * min(24, tokens))
    seconds = {}
    with TemporaryDirectory() as folder:
        curved = Engine(network, tracked, Path(folder) / "curved", settings=Settings())
        curved.claim(given)
        for part, stage in zip(PARTS, NEEDED["ekfac"], strict=False):
            seconds[part] = timed(lambda s=stage: curved.fit_partition(s, given, (0, 0)), device)
            curved.close(stage)
        plain = Engine(network, tracked, Path(folder) / "plain", settings=Settings(strategy="identity"))
        plain.fit(given)
        seconds["ekfac"] = timed(lambda: curved.scores(asked, given), device)
        seconds["dot"] = timed(lambda: plain.scores(asked, given), device)
        seconds["measures"] = timed(lambda: curved.measures(given), device)
        cost = study_cost(multiplied(network), shapes_of(curved.sizes), job)
    return {part: {"seconds": seconds[part], "flop": getattr(cost, part)} for part in PARTS}


def extrapolated(name: str, documents: int, rates: dict[str, float]) -> list[str]:
    """A row of the table: operations, and the time they would take at measured rates."""
    network = meta_network(configuration(shape_of(name)))
    sizes = Sizes.of(network, linear_modules(network))
    fitted = min(FITTED, documents)
    asked, portions = QUERIES * QUERY_TOKENS, documents // 4096
    job = Job(documents, documents * TOKENS, fitted, fitted * TOKENS, QUERIES, asked, portions)
    cost = study_cost(multiplied(network), shapes_of(sizes), job)
    hours = {part: getattr(cost, part) / rates[part] / 3600 for part in PARTS}
    fit, score = sum(hours[p] for p in PARTS[:3]), sum(hours[p] for p in PARTS[3:])
    whole, low = (
        footprint(sizes, batch_size=8, tokens=TOKENS, queries=QUERIES, low_rank=rank) for rank in (None, RANK)
    )
    return [
        f"{name}, extrapolated", f"{documents:,}", f"{QUERIES}", f"{cost.fit:.2g}", f"{cost.score:.2g}",
        duration(fit), duration(score), f"{whole.scores / 1e9:.3g} ({low.scores / 1e9:.3g})",
        f"{whole.disk / 1e9:.2g}",
    ]  # fmt: skip


def duration(hours: float) -> str:
    """In words that fit."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:,.0f} days"


def main() -> None:
    """Measure, extrapolate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="the default model's shape alone, a tenth of it")
    parser.add_argument("--out", type=Path, help="write the measured parts as JSON too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    jobs = {"neox-corpus": (100, 66, 6)} if options.quick else MEASURED
    found = {name: measure(name, *sizes, options.device) for name, sizes in jobs.items()}
    columns = ("job", "documents", "queries", "fit FLOP", "score FLOP", "fit", "score", "memory GB", "factors GB")
    table = [columns, tuple("--" for _ in columns)]
    for name, parts in found.items():
        network = meta_network(configuration(shape_of(name)))
        sizes = Sizes.of(network, linear_modules(network))
        peak = footprint(sizes, batch_size=32, tokens=jobs[name][1], queries=jobs[name][2])
        sums = [[sum(parts[p][what] for p in ps) for ps in (PARTS[:3], PARTS[3:])] for what in ("flop", "seconds")]
        table.append((
            f"{name}, measured", f"{jobs[name][0]:,}", f"{jobs[name][2]}", *(f"{v:.2g}" for v in sums[0]),
            *(f"{v:.1f} s" for v in sums[1]), f"{peak.scores / 1e9:.2g}", f"{peak.disk / 1e9:.2g}",
        ))  # fmt: skip
    last = list(found.values())[-1]
    rates = {part: last[part]["flop"] / max(last[part]["seconds"], 1e-6) for part in PARTS}
    table += [extrapolated(name, count, rates) for name in EXTRAPOLATED for count in SCORED]
    for row in table:
        print("| " + " | ".join(row) + " |")
    print()
    print("GFLOP/s by part:", ", ".join(f"{part} {rate / 1e9:.3g}" for part, rate in rates.items()))
    for name, parts in found.items():
        print(f"seconds, {name}:", ", ".join(f"{part} {value['seconds']:.2f}" for part, value in parts.items()))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
