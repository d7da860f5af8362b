"""Stage `neurons`: every neuron's effect at `=`, how many of them the answer needs, and which operators share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from arithcirc.arithmetic.pairs import Pairs
from arithcirc.circuits.faithfulness import judge_masks
from arithcirc.circuits.neuron_circuits import (
    NeuronCircuit,
    Ranking,
    Ranks,
    Rest,
    everything,
    fewest_faithful,
    label_rows,
    neuron_grid,
    neuron_masks,
    overlap_rows,
    random_circuits,
    random_ranks,
    ranked_circuits,
)
from arithcirc.circuits.neurons import NeuronEffects, neuron_effects
from arithcirc.components import Head, Position
from arithcirc.errors import RequestError
from arithcirc.measure.means import Means
from arithcirc.pipeline.circuit_stages import load_means
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.prompt_stage import load_pairs, n_prompts, rows_of, used_operators
from arithcirc.pipeline.stage import Cost, suffix_share
from arithcirc.store import RunFolder

Advance = Callable[[int], None]


@dataclass(frozen=True)
class _Operator:
    """What is found for one operator."""

    symbol: str
    first_layer: int
    effects: NeuronEffects
    top: int
    curve: pd.DataFrame


def neurons_stage(job: Job) -> list[str]:
    """Tables `neurons`, `neuron_agreement`, `neuron_faithfulness` and `neuron_overlap`.

    Effects and the choice of k are of the discover prompts with their first random counterfactual; random rankings are
    judged on the evaluate prompts only. Given a first layer, no neuron below it is patched. How many neurons have no
    estimate is noted in the manifest.
    """
    prompts, means = job.run.table("prompts"), load_means(job)
    advance = job.counter("neurons", count_neurons(job).rows)
    found = [_one_operator(job, prompts, symbol, means, advance) for symbol in used_operators(prompts)]
    ranks = {f.symbol: f.effects.exact_ranks for f in found}
    overlap = overlap_rows(ranks, {f.symbol: f.first_layer for f in found}, top=max(f.top for f in found))
    if without := {f.symbol: f.effects.n_without_estimate for f in found if f.effects.n_without_estimate}:
        why = f"gradient at '=' not finite in {job.model.info.dtype}: no estimate, ranked last by it"
        job.run.note("neurons_without_estimate", without | {"why": why})
    tables = {
        "neurons": [f.effects.frame(operator=f.symbol, top=f.top, first_layer=f.first_layer) for f in found],
        "neuron_agreement": [f.effects.agreement(operator=f.symbol, top=f.top) for f in found],
        "neuron_faithfulness": [f.curve for f in found],
        "neuron_overlap": [overlap],
    }
    return [job.run.write_table(name, pd.concat(frames, ignore_index=True)) for name, frames in tables.items()]


def _one_operator(job: Job, prompts: pd.DataFrame, symbol: str, means: Means, advance: Advance) -> _Operator:
    info, cfg = job.model.info, job.config.neurons
    first = first_layer(job, symbol)
    discover = load_pairs(rows_of(prompts, symbol, "discover"))
    effects = neuron_effects(
        job.model,
        job.encoder,
        discover,
        first_layer=cfg.first_layer or 0,
        batch_size=job.batch_size,
        progress=advance,
    )
    grid = neuron_grid(info.d_mlp, cfg.top)
    rests = (circuit_rest(job.run, symbol), everything(info.n_layers, info.n_heads))
    ranked = ranked_circuits(grid, rests)
    randoms = random_circuits(grid, rests, cfg.random_draws)
    drawn = random_ranks(info.n_layers, info.d_mlp, cfg.random_draws, job.rng("random neurons", symbol))
    ranks: dict[tuple[Ranking, int], Ranks] = {("random", i): r for i, r in enumerate(drawn)}
    ranks |= {("exact", 0): effects.exact_ranks, ("estimate", 0): effects.estimate_ranks}

    def judged(name: str, circuits: Sequence[NeuronCircuit]) -> pd.DataFrame:
        pairs = load_pairs(rows_of(prompts, symbol, name))
        masks = neuron_masks(circuits, ranks, first_layer=first, n_heads=info.n_heads)
        answers = torch.from_numpy(job.encoder.answers(pairs.clean.answer)).to(job.model.device)
        numbers = judge_masks(
            job.model, _tokens(job, pairs), answers, masks, means, batch_size=job.batch_size, progress=advance
        )
        table = label_rows(numbers.table, circuits)
        table.insert(0, "operator", symbol)
        table.insert(1, "set", name)
        return table

    discovered = judged("discover", ranked)
    top = min(cfg.top, info.d_mlp) if cfg.top is not None else fewest_faithful(discovered, job.config.circuit.target)
    curve = pd.concat([discovered, judged("evaluate", [*ranked, *randoms])], ignore_index=True)
    chosen = (curve["ranking"] == "exact") & (curve["top"] == top)
    return _Operator(symbol, first, effects, top, curve.assign(chosen=chosen))


def _tokens(job: Job, pairs: Pairs) -> torch.Tensor:
    return torch.from_numpy(job.encoder.encode(pairs.clean)).to(job.model.device)


def circuit_rest(run: RunFolder, symbol: str) -> Rest:
    """The heads and MLPs that the table `circuit` chose."""
    table = run.table("circuit")
    kept = table[(table["operator"] == symbol) & table["in_circuit"].astype(bool)]
    heads, mlps = (kept[kept["kind"] == word] for word in ("head", "mlp"))
    labels = zip(heads["layer"].to_list(), heads["head"].to_list(), strict=True)
    return Rest("circuit", tuple(Head(int(i), int(h)) for i, h in labels), tuple(int(i) for i in mlps["layer"]))


def first_layer(job: Job, symbol: str) -> int:
    """First layer whose MLP is cut down to its strongest neurons: as asked, else from the table `first_layers`."""
    n_layers, asked = job.model.info.n_layers, job.config.neurons.first_layer
    if asked is not None:
        return asked
    table = job.run.table("first_layers")
    mine = table[table["operator"] == symbol]["layer"]
    if mine.empty:
        raise RequestError(
            f"the probes found no layer for {symbol!r}: name one of 0..{n_layers - 1} with --first-layer"
        )
    return int(mine.iloc[0])


def count_neurons(job: Job) -> Cost:
    """(neuron, prompt) rows of the exact effects, prompts of the estimate, (circuit, prompt) rows of the curves."""
    info, cfg = job.model.info, job.config.neurons
    discover, evaluate = n_prompts(job)
    grid = neuron_grid(info.d_mlp, cfg.top)
    ranked, randoms = 2 * 2 * len(grid) + 2, 2 * cfg.random_draws * (len(grid) - 2)
    judged = discover * ranked + evaluate * (ranked + randoms)
    layers = range(cfg.first_layer or 0, info.n_layers)
    exact = discover * len(layers) * info.d_mlp
    at = job.encoder.index(Position.EQUALS)
    share = suffix_share(info.n_layers, job.encoder.length, at, layers) + _unembed_share(job)
    passes = 2 + 2 + 3  # clean and counterfactual records, twice; forward and backward
    return Cost(exact + discover + judged, exact * share + discover * passes + judged)


def _unembed_share(job: Job) -> float:
    """Cost of one row of logits, which a replay of few blocks cannot neglect, in forwards."""
    info = job.model.info
    one = info.d_vocab * info.d_model
    blocks = max(1, info.n_params - 2 * one) * job.encoder.length
    return one / (one + blocks)
