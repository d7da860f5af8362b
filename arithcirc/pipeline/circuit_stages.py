"""Stages `localize`, `means` and `faithfulness`: from effects of single components to a judged circuit."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from arithcirc.arithmetic.operators import OPERATORS
from arithcirc.circuits.circuit import RankedHeads, curve_sizes, parse_mlps, rank_heads
from arithcirc.circuits.faithfulness import (
    Candidate,
    Judged,
    judge,
    random_candidates,
    ranked_candidates,
    smallest_faithful,
)
from arithcirc.circuits.localize import Effects, heads_and_mlps, localize
from arithcirc.components import PATCHED_POSITIONS, Position, all_heads
from arithcirc.measure.means import Means, mean_activations, sampled_mean_activations
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.prompt_stage import CHANGES, load_pairs, n_pairs, n_prompts, rows_of, used_operators
from arithcirc.pipeline.stage import Cost, suffix_share

# -- localize -----------------------------------------------------------------------------------------------------


def localize_stage(job: Job) -> list[str]:
    """Table `effects`, and per-prompt effects in `effects.safetensors` as `<operator>.<change>`."""
    prompts = job.run.table("prompts")
    discover = prompts[prompts["set"] == "discover"]
    sites = len(heads_and_mlps(job.model)) * len(PATCHED_POSITIONS)
    advance = job.counter("localize", sites * len(discover))
    frames, arrays = [], {}
    for symbol in used_operators(discover):
        for change in CHANGES:
            rows = discover[(discover["operator"] == symbol) & (discover["change"] == change)]
            if rows.empty:
                continue
            pairs = [load_pairs(part) for _, part in rows.groupby("seed")]
            effects: Effects = localize(job.model, job.encoder, pairs, batch_size=job.batch_size, progress=advance)
            frames.append(effects.frame(operator=symbol, change=change))
            arrays[f"{symbol}.{change}"] = effects.values.astype(np.float32)
    return [
        job.run.write_table("effects", pd.concat(frames, ignore_index=True)),
        job.run.write_arrays("effects", arrays),
    ]


def count_localize(job: Job) -> Cost:
    """(patch, prompt) rows."""
    info = job.model.info
    pairs = n_pairs(job)
    layers = range(info.n_layers)
    per_position = [
        suffix_share(info.n_layers, job.encoder.length, job.encoder.index(p), layers) for p in PATCHED_POSITIONS
    ]
    patches = (info.n_heads + 1) * info.n_layers
    return Cost(pairs * patches * len(PATCHED_POSITIONS), pairs * (patches * sum(per_position) + 2))


# -- means --------------------------------------------------------------------------------------------------------


def means_stage(job: Job) -> list[str]:
    """Mean activations over all prompts, always of all four operators, as `means.safetensors`."""
    p, sample = job.config.prompts, job.config.circuit.mean_prompts
    key = repr((p.operands, p.prefix, p.template, None if sample is None else (sample, p.seed), job.batch_size))
    if key not in job.means:
        job.means[key] = _means(job, sample)
    means = job.means[key]
    arrays = {f"z.{i}": value.cpu().numpy() for i, value in enumerate(means.z)}
    arrays |= {f"post.{i}": value.cpu().numpy() for i, value in enumerate(means.post)}
    return [job.run.write_arrays("means", arrays | {"n": np.array([means.n])})]


def _means(job: Job, sample: int | None) -> Means:
    total = len(OPERATORS) * min(sample or len(job.operands) ** 2, len(job.operands) ** 2)
    advance = job.counter("means", total)
    if sample is None:
        return mean_activations(
            job.model, job.encoder, OPERATORS, job.operands, batch_size=job.batch_size, progress=advance
        )
    return sampled_mean_activations(
        job.model,
        job.encoder,
        OPERATORS,
        job.operands,
        per_operator=sample,
        batch_size=job.batch_size,
        rng=job.rng("means"),
        progress=advance,
    )


def load_means(job: Job) -> Means:
    """The means stage's result."""
    arrays = job.run.arrays("means")
    layers = range(job.model.info.n_layers)
    z = [torch.from_numpy(arrays[f"z.{i}"]) for i in layers]
    return Means(z, [torch.from_numpy(arrays[f"post.{i}"]) for i in layers], int(arrays["n"][0]))


def count_means(job: Job) -> Cost:
    """Prompts behind the means."""
    sample = job.config.circuit.mean_prompts
    everything = len(OPERATORS) * len(job.operands) ** 2
    if sample is not None:
        n = len(OPERATORS) * min(sample, len(job.operands) ** 2)
        return Cost(n, float(n))
    tail = (job.encoder.length - job.encoder.index(Position.OP2)) / job.encoder.length
    return Cost(everything, everything * tail)


# -- faithfulness -------------------------------------------------------------------------------------------------


def faithfulness_stage(job: Job) -> list[str]:
    """Tables `circuit`, `faithfulness` and `undefined`: choose on the discover set, judge on the evaluate set."""
    prompts, effects, means = job.run.table("prompts"), job.run.table("effects"), load_means(job)
    symbols = used_operators(prompts)
    info, cfg = job.model.info, job.config.circuit
    sizes = circuit_sizes(job)
    random_sizes = random_grid(sizes)
    n_prompts = {name: sum(len(rows_of(prompts, s, name)) for s in symbols) for name in ("discover", "evaluate")}
    rivals = len(random_sizes) * cfg.random_circuits
    total = n_prompts["discover"] * (len(sizes) + 2) + n_prompts["evaluate"] * (len(sizes) + 2 + rivals)
    advance = job.counter("faithfulness", total)
    circuits, curves, undefined = [], [], []
    for symbol in symbols:
        ranked = rank_heads(effects[effects["operator"] == symbol], metric=cfg.rank_by)
        mlps = parse_mlps(cfg.mlps, info.n_layers)
        candidates = ranked_candidates(ranked, sizes, mlps)
        discovered = _judge(job, prompts, symbol, "discover", candidates, means, advance)
        chosen = _chosen_size(job, discovered, len(ranked.heads))
        heads = all_heads(info.n_layers, info.n_heads)
        rng = job.rng("random circuits", symbol)
        randoms = random_candidates(heads, _with_chosen(random_sizes, chosen, sizes), mlps, cfg.random_circuits, rng)
        judged = _judge(job, prompts, symbol, "evaluate", [*candidates, *randoms], means, advance)
        for name, result in (("discover", discovered), ("evaluate", judged)):
            curves.append(_curve_rows(result, symbol, name, chosen))
        undefined.append(_undefined_rows(prompts, symbol, judged))
        circuits.append(_circuit_rows(symbol, ranked, chosen, mlps, info.n_layers))
    tables = {"circuit": circuits, "faithfulness": curves, "undefined": undefined}
    return [job.run.write_table(name, pd.concat(frames, ignore_index=True)) for name, frames in tables.items()]


def circuit_sizes(job: Job) -> list[int]:
    """Sizes of the ranked circuits on the curve: 0, all heads, steps between, and the size that was asked for."""
    n_heads = job.model.info.n_layers * job.model.info.n_heads
    asked = job.config.circuit.n_heads
    return sorted({*curve_sizes(n_heads), *([] if asked is None else [min(asked, n_heads)])})


def _with_chosen(grid: list[int], chosen: int, sizes: Sequence[int]) -> list[int]:
    """The grid with the chosen size in the nearest one's place, so that it has random rivals at no extra cost."""
    if chosen in (*grid, sizes[0], sizes[-1]) or not grid:
        return grid
    nearest = min(grid, key=lambda n: abs(n - chosen))
    return sorted({*grid, chosen} - {nearest})


def random_grid(sizes: Sequence[int]) -> list[int]:
    """At most a dozen sizes at which random circuits are drawn."""
    inner = [n for n in sizes if n not in (sizes[0], sizes[-1])]
    return inner[:: max(1, -(-len(inner) // 12))]


def _chosen_size(job: Job, discovered: Judged, n_heads: int) -> int:
    if job.config.circuit.n_heads is not None:
        return min(job.config.circuit.n_heads, n_heads)
    found = smallest_faithful(discovered.table, job.config.circuit.target)
    return n_heads if found is None else found


def _judge(
    job: Job,
    prompts: pd.DataFrame,
    symbol: str,
    name: str,
    candidates: Sequence[Candidate],
    means: Means,
    advance: Callable[[int], None],
) -> Judged:
    clean = load_pairs(rows_of(prompts, symbol, name)).clean
    tokens = torch.from_numpy(job.encoder.encode(clean)).to(job.model.device)
    answers = torch.from_numpy(job.encoder.answers(clean.answer)).to(job.model.device)
    return judge(job.model, tokens, answers, candidates, means, batch_size=job.batch_size, progress=advance)


def _curve_rows(judged: Judged, symbol: str, name: str, chosen: int) -> pd.DataFrame:
    table = judged.table.copy()
    table.insert(0, "operator", symbol)
    table.insert(1, "set", name)
    return table.assign(chosen=(table["circuit"] == "ranked") & (table["n_heads"] == chosen))


def _undefined_rows(prompts: pd.DataFrame, symbol: str, judged: Judged) -> pd.DataFrame:
    texts = rows_of(prompts, symbol, "evaluate")["prompt"].to_numpy()
    out = ~judged.defined
    return pd.DataFrame({"operator": symbol, "prompt": texts[out], "gap": judged.gap[out]})


def _circuit_rows(symbol: str, ranked: RankedHeads, chosen: int, mlps: tuple[int, ...], n_layers: int) -> pd.DataFrame:
    heads = pd.DataFrame(
        {
            "operator": symbol,
            "kind": "head",
            "layer": [h.layer for h in ranked.heads],
            "head": pd.array([h.index for h in ranked.heads], dtype="Int64"),
            "rank": np.arange(1, len(ranked.heads) + 1),
            "position": list(ranked.position),
            "effect": list(ranked.effect),
            "in_circuit": np.arange(len(ranked.heads)) < chosen,
        }
    )
    layers = range(n_layers)
    blank = {"operator": symbol, "kind": "mlp", "position": None, "effect": np.nan}
    mlp_rows = pd.DataFrame({"layer": list(layers), "in_circuit": [i in mlps for i in layers]}).assign(
        **blank, head=pd.array([None] * n_layers, dtype="Int64"), rank=0
    )
    return pd.concat([heads, mlp_rows[heads.columns]], ignore_index=True)


def count_faithfulness(job: Job) -> Cost:
    """(circuit, prompt) rows."""
    sizes = circuit_sizes(job)
    rivals = len(random_grid(sizes)) * job.config.circuit.random_circuits
    discover, evaluate = n_prompts(job)
    n = discover * (len(sizes) + 2) + evaluate * (len(sizes) + 2 + rivals)
    return Cost(n, float(n))
