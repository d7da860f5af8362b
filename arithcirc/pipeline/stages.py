"""The stages of an analysis, in order: prompts, localize, means, faithfulness.

A stage is a function from a Job to the names of the files it wrote. What a stage needs from an earlier one it reads
from the run folder, so every stage can be run alone and resumed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from arithcirc.arithmetic.operators import OPERATORS, Operator, Prompts, fitting_prompts
from arithcirc.arithmetic.pairs import (
    Counterfactual,
    Pairs,
    counterfactuals,
    legal_pool,
    split_discover_evaluate,
)
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
from arithcirc.components import PATCHED_POSITIONS, all_heads
from arithcirc.errors import PromptError
from arithcirc.measure.answers import Answers, find_correct, predictions
from arithcirc.measure.means import Means, mean_activations, sampled_mean_activations
from arithcirc.pipeline.job import Job

AT_LEAST_TRIED = 2_000
"""Prompts tried per operator, where there are as many, so that an accuracy has a standard error below .012."""
CHANGES = (Counterfactual.ANY, Counterfactual.OP1, Counterfactual.OP2, Counterfactual.OPERATOR)


@dataclass(frozen=True)
class Stage:
    """A named step: configuration sections it depends on, stages it reads, and the function that runs it."""

    name: str
    sections: tuple[str, ...]
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    run: Callable[[Job], list[str]]


# -- prompts ------------------------------------------------------------------------------------------------------


def choose_prompts(job: Job) -> list[str]:
    """Tables `accuracy` and `prompts`: what the model answers, which prompts are used, and their counterfactuals."""
    frames, accuracy = (_given_prompts if job.pairs is not None else _sampled_prompts)(job)
    tables = [job.run.write_table("accuracy", pd.DataFrame(accuracy))]
    if not frames:
        reasons = "; ".join(f"{row['operator']}: {row['skipped']}" for row in accuracy)
        raise PromptError(f"{job.model.info.name} leaves no prompt to analyse ({reasons}): try easier --operands")
    tables.append(job.run.write_table("prompts", pd.concat(frames, ignore_index=True)))
    return tables


def _sampled_prompts(job: Job) -> tuple[list[pd.DataFrame], list[dict[str, object]]]:
    cfg = job.config.prompts
    pool = legal_pool(job.operands, job.encoder.limit)
    legal = legal_by_operator(job)
    wanted = cfg.n_discover + cfg.n_evaluate
    advance = job.counter("prompts", sum(min(len(p), max(AT_LEAST_TRIED, wanted)) for p in legal.values()))
    frames, accuracy = [], []
    for op, prompts in legal.items():
        if not len(prompts):
            accuracy.append(_no_legal_row(job, op))
            continue
        answers = find_correct(
            job.model,
            job.encoder,
            op,
            prompts,
            wanted=wanted,
            at_least=AT_LEAST_TRIED,
            batch_size=job.batch_size,
            rng=job.rng("answers", op.name),
            progress=advance,
        )
        right = answers.tried[answers.correct]
        note = _shortage(answers, len(right), wanted)
        if len(right) >= 2:
            sets = split_discover_evaluate(right, cfg.n_discover, cfg.n_evaluate, job.rng("select", op.name))
            named = zip(("discover", "evaluate"), sets, strict=True)
            frames += [_with_counterfactuals(job, op, part, name, pool) for name, part in named]
        accuracy.append(_accuracy_row(answers, len(right), note))
    return frames, accuracy


def legal_by_operator(job: Job) -> dict[Operator, Prompts]:
    """Legal prompts of each operator asked for; none where no result fits."""
    return {op: fitting_prompts(op, job.operands, job.encoder.limit) for op in job.operators}


def _no_legal_row(job: Job, op: Operator) -> dict[str, object]:
    note = f"no prompt with operands {job.operands} has a result in 0..{job.encoder.limit}: operator skipped"
    numbers = {"n": 0, "correct": 0, "accuracy": float("nan"), "base_rate": float("nan"), "legal": 0}
    return {"operator": op.symbol, **numbers, "skipped": note, "note": note}


def _accuracy_row(answers: Answers, right: int, note: str | None) -> dict[str, object]:
    skipped = note if right < 2 else None
    return {
        "operator": answers.operator.symbol,
        "n": len(answers.tried),
        "correct": right,
        "accuracy": answers.accuracy,
        "base_rate": answers.base_rate,
        "legal": answers.legal,
        "skipped": skipped,
        "note": note,
    }


def _shortage(answers: Answers, right: int, wanted: int) -> str | None:
    if right < 2:
        return f"{right} of {len(answers.tried)} prompts answered correctly, at least 2 are needed: operator skipped"
    if right < wanted:
        asked = f"{wanted} were asked to discover and evaluate"
        return f"only {right} of {len(answers.tried)} prompts answered correctly, {asked}: fewer are used"
    if answers.accuracy <= answers.base_rate:
        return "no better than always giving the most frequent answer: effects mean little"
    return None


def _with_counterfactuals(job: Job, op: Operator, part: Prompts, name: str, pool: Prompts) -> pd.DataFrame:
    """Rows of the table `prompts`: a counterfactual of every kind and seed for each prompt (to evaluate, only one)."""
    frames = []
    for change in CHANGES if name == "discover" else CHANGES[:1]:
        seeds = job.config.prompts.counterfactual_seeds if change is Counterfactual.ANY and name == "discover" else 1
        for seed in range(seeds):
            drawn, found = counterfactuals(part, pool, job.rng("pairs", op.name, name, change, seed), change=change)
            pairs = Pairs(part[found], drawn[found])
            frames.append(_pair_rows(pairs, name, change, seed))
    return pd.concat(frames, ignore_index=True)


def _pair_rows(pairs: Pairs, name: str, change: Counterfactual, seed: int) -> pd.DataFrame:
    numbers = {"op1": pairs.clean.op1, "op2": pairs.clean.op2}
    other = pairs.counterfactual
    origin = {
        "counterfactual_operator": other.symbols,
        "counterfactual_op1": other.op1,
        "counterfactual_op2": other.op2,
    }
    return pairs.frame().assign(set=name, change=change.value, seed=seed, **numbers, **origin)


def _given_prompts(job: Job) -> tuple[list[pd.DataFrame], list[dict[str, object]]]:
    """The pairs of the user's file: all are used, whether answered correctly or not; the accuracy says how many are."""
    if job.pairs is None or job.pair_sets is None:
        raise PromptError("no pairs were given")
    pairs, sets = job.pairs, job.pair_sets
    advance = job.counter("prompts", len(pairs))
    tokens = predictions(job.model, job.encoder, pairs.clean, batch_size=job.batch_size, progress=advance)
    right = tokens == job.encoder.answers(pairs.clean.answer)
    accuracy: list[dict[str, object]] = []
    for op in job.operators:
        mine = pairs.clean.symbols == op.symbol
        answers = Answers(op, pairs.clean[mine], right[mine], int(mine.sum()), float("nan"))
        wrong = int((~right[mine]).sum())
        note = (
            f"{wrong} of the {mine.sum()} given prompts are not answered as the file says and are used all the same"
            if wrong
            else None
        )
        if not (sets == "evaluate").any():
            note = f"{note + '; ' if note else ''}the circuit is judged on the prompts it is chosen on"
        accuracy.append(_accuracy_row(answers, int(right[mine].sum()), note) | {"skipped": None})
    frames = [_pair_rows(pairs[sets == name], name, Counterfactual.ANY, 0) for name in ("discover", "evaluate")]
    if not (sets == "evaluate").any():
        frames[1] = frames[0].assign(set="evaluate")
    return [f for f in frames if len(f)], accuracy


def load_pairs(table: pd.DataFrame) -> Pairs:
    """Pairs from rows of the table `prompts`."""
    clean = Prompts(*(table[c].to_numpy() for c in ("operator", "op1", "op2", "answer")))
    names = ("counterfactual_operator", "counterfactual_op1", "counterfactual_op2", "counterfactual_answer")
    return Pairs(clean, Prompts(*(table[c].to_numpy() for c in names)))


def used_operators(prompts: pd.DataFrame) -> list[str]:
    """Operators that have prompts, in the order of the table."""
    return list(dict.fromkeys(prompts["operator"]))


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


# -- means --------------------------------------------------------------------------------------------------------


def means_stage(job: Job) -> list[str]:
    """Mean activations over all prompts, always of all four operators, as `means.safetensors`."""
    sample = job.config.circuit.mean_prompts
    if sample is None:
        advance = job.counter("means", len(OPERATORS) * len(job.operands) ** 2)
        means = mean_activations(
            job.model, job.encoder, OPERATORS, job.operands, batch_size=job.batch_size, progress=advance
        )
    else:
        advance = job.counter("means", len(OPERATORS) * min(sample, len(job.operands) ** 2))
        means = sampled_mean_activations(
            job.model,
            job.encoder,
            OPERATORS,
            job.operands,
            per_operator=sample,
            batch_size=job.batch_size,
            rng=job.rng("means"),
            progress=advance,
        )
    arrays = {f"z.{i}": value.cpu().numpy() for i, value in enumerate(means.z)}
    arrays |= {f"post.{i}": value.cpu().numpy() for i, value in enumerate(means.post)}
    return [job.run.write_arrays("means", arrays | {"n": np.array([means.n])})]


def load_means(job: Job) -> Means:
    """The means stage's result."""
    arrays = job.run.arrays("means")
    layers = range(job.model.info.n_layers)
    z = [torch.from_numpy(arrays[f"z.{i}"]) for i in layers]
    return Means(z, [torch.from_numpy(arrays[f"post.{i}"]) for i in layers], int(arrays["n"][0]))


# -- faithfulness -------------------------------------------------------------------------------------------------


def faithfulness_stage(job: Job) -> list[str]:
    """Tables `circuit`, `faithfulness` and `undefined`: choose on the discover set, judge on the evaluate set."""
    prompts, effects, means = job.run.table("prompts"), job.run.table("effects"), load_means(job)
    symbols = used_operators(prompts)
    info, cfg = job.model.info, job.config.circuit
    sizes = circuit_sizes(job)
    random_sizes = random_grid(sizes)
    n_prompts = {name: sum(len(_rows_of(prompts, s, name)) for s in symbols) for name in ("discover", "evaluate")}
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


def _rows_of(prompts: pd.DataFrame, symbol: str, name: str) -> pd.DataFrame:
    mine = prompts[(prompts["operator"] == symbol) & (prompts["set"] == name)]
    return mine[(mine["change"] == Counterfactual.ANY) & (mine["seed"] == 0)]


def _judge(
    job: Job,
    prompts: pd.DataFrame,
    symbol: str,
    name: str,
    candidates: Sequence[Candidate],
    means: Means,
    advance: Callable[[int], None],
) -> Judged:
    clean = load_pairs(_rows_of(prompts, symbol, name)).clean
    tokens = torch.from_numpy(job.encoder.encode(clean)).to(job.model.device)
    answers = torch.from_numpy(job.encoder.answers(clean.answer)).to(job.model.device)
    return judge(job.model, tokens, answers, candidates, means, batch_size=job.batch_size, progress=advance)


def _curve_rows(judged: Judged, symbol: str, name: str, chosen: int) -> pd.DataFrame:
    table = judged.table.copy()
    table.insert(0, "operator", symbol)
    table.insert(1, "set", name)
    return table.assign(chosen=(table["circuit"] == "ranked") & (table["n_heads"] == chosen))


def _undefined_rows(prompts: pd.DataFrame, symbol: str, judged: Judged) -> pd.DataFrame:
    texts = _rows_of(prompts, symbol, "evaluate")["prompt"].to_numpy()
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


STAGES = (
    Stage("prompts", ("model", "prompts"), (), (), choose_prompts),
    Stage("localize", ("model", "prompts"), ("prompts",), ("prompts.parquet",), localize_stage),
    Stage("means", ("model", "prompts", "circuit"), ("prompts",), ("prompts.parquet",), means_stage),
    Stage(
        "faithfulness",
        ("model", "prompts", "circuit"),
        ("prompts", "localize", "means"),
        ("prompts.parquet", "effects.parquet", "means.safetensors"),
        faithfulness_stage,
    ),
)
