"""Stage `maps`: what single neurons do, prompt by prompt, kept to be looked at (`maps_<operator>.safetensors`).

For `top` neurons of an operator: K on every legal prompt, what a unit of it writes into each number's logit, the effect
of patching it on every discover pair, and what zeroing it alone does to the evaluate prompts answered correctly. Half
of them are the neurons with the largest |effect| (exact, logit_diff) of all layers, labelled or not; the other half are
the strongest labelled ones, and where labels run out the strongest of the rest. Layout: arithcirc.neuron_maps.
Cost: a pass over the legal prompts for each block of neurons, and a replay of `=` for each (neuron, pair) and (neuron,
evaluate prompt). On disk about 2 bytes per neuron and legal prompt. The other neurons have no map here.
"""

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import Operator, Prompts
from arithcirc.circuits.neurons import RANKED_BY, exact_of
from arithcirc.components import Neuron, Position
from arithcirc.measure.knockout import Knockouts, NeuronSets, knock_out, zero_values
from arithcirc.measure.maps import activation_maps, neuron_blocks, value_logits
from arithcirc.measure.metrics import METRICS, verdicts
from arithcirc.neuron_maps import maps_file
from arithcirc.pipeline.heuristic_stages import as_half, expected_neurons
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.prompt_stage import legal_by_operator, load_pairs, n_prompts, rows_of, used_operators
from arithcirc.pipeline.stage import Cost

Advance = Callable[[int], None]
Arrays = dict[str, np.ndarray]


def maps_stage(job: Job) -> list[str]:
    """Write one file of maps for each operator that has prompts and neurons to keep."""
    advance = job.counter("maps", count_maps(job).rows)
    written = []
    for op, legal in _wanted(job).items():
        neurons = expected_maps(job, op)
        if neurons:
            arrays = _named(neurons, legal) | _values(job, neurons, legal, advance)
            arrays |= _effects(job, op, neurons, advance) | _broken(job, op, neurons, advance)
            written.append(job.run.write_arrays(maps_file(op.symbol).removesuffix(".safetensors"), arrays))
    return written


def expected_maps(job: Job, op: Operator) -> list[Neuron]:
    """The neurons whose maps are kept, by layer and index; before there are effects and labels, as many as will be."""
    top, info = job.config.maps.top, job.model.info
    if not job.run.finished("heuristics"):
        labelled = list(expected_neurons(job, op))[:top]
        if not labelled or job.neurons is not None:
            return labelled
        held = set(labelled)
        others = (Neuron(layer, i) for layer in range(info.n_layers) for i in range(info.d_mlp))
        return labelled + list(islice((n for n in others if n not in held), top - len(labelled)))
    ranked = strongest(job.run.table("heuristics"), job.run.table("neurons"), op.symbol, top)
    return sorted(Neuron(int(layer), int(i)) for layer, i in ranked)


def strongest(labels: pd.DataFrame, effects: pd.DataFrame, symbol: str, top: int) -> Int[np.ndarray, "neuron 2"]:
    """(layer, neuron) of `top` neurons of an operator: the strongest half of them, then the strongest labelled ones.

    By |effect|, largest first in each half; labelled neurons that were not patched come after those that were, and last
    the strongest of the rest. None where no neuron is labelled.
    """
    mine = labels.loc[labels["operator"] == symbol, ["layer", "neuron"]].drop_duplicates().assign(labelled=True)
    ranking = (effects["operator"] == symbol) & (effects["method"] == "exact")
    ranking &= effects["metric"] == METRICS[RANKED_BY]
    patched = effects.loc[ranking, ["layer", "neuron", "effect"]]
    sized = mine.merge(patched, how="outer", on=["layer", "neuron"])
    if mine.empty:
        return np.empty((0, 2), dtype=np.int64)
    sized["size"] = sized["effect"].abs()
    sized = sized.sort_values("size", ascending=False, kind="stable", na_position="last")
    half = sized["size"].notna() & (np.arange(len(sized)) < (top + 1) // 2)
    place = np.select([half, sized["labelled"].notna()], [0, 1], 2)
    best = sized.iloc[np.argsort(place, kind="stable")].head(top)
    pairs: np.ndarray = best[["layer", "neuron"]].to_numpy(dtype=np.int64)
    return pairs


def _wanted(job: Job) -> dict[Operator, Prompts]:
    """Legal prompts of the operators that are analysed; before prompts were chosen, of all that have any."""
    legal = {op: prompts for op, prompts in legal_by_operator(job).items() if len(prompts)}
    if job.run.finished("prompts"):
        used = used_operators(job.run.table("prompts"))
        legal = {op: prompts for op, prompts in legal.items() if op.symbol in used}
    return legal


def _named(neurons: Sequence[Neuron], legal: Prompts) -> Arrays:
    named = np.array([(n.layer, n.index) for n in neurons], dtype=np.int32)
    prompts = np.stack([legal.op1, legal.op2, legal.answer], axis=1).astype(np.int32)
    return {"neurons": named, "prompts": prompts}


def _values(job: Job, neurons: Sequence[Neuron], legal: Prompts, advance: Advance) -> Arrays:
    """K, one block of neurons after another, and value logits."""
    k = np.empty((len(neurons), len(legal)), dtype=np.float16)
    unread = np.zeros(len(legal), dtype=np.int64)  # answers are not asked for: layers above the neurons are not run
    places = {neuron: i for i, neuron in enumerate(neurons)}
    for block in neuron_blocks(neurons, len(legal)):
        maps = activation_maps(
            job.model, job.encoder, legal, block, batch_size=job.batch_size, given=unread, progress=advance
        )
        k[[places[n] for n in block]] = as_half(maps.k)
        del maps  # before the next block's come
    return {"k": k, "value": value_logits(job.model, job.encoder, neurons)}


def _effects(job: Job, op: Operator, neurons: Sequence[Neuron], advance: Advance) -> Arrays:
    """Exact effects on every discover pair: the numbers whose mean the table `neurons` has."""
    pairs = load_pairs(rows_of(job.run.table("prompts"), op.symbol, "discover"))
    layers = {layer: [n.index for n in neurons if n.layer == layer] for layer in sorted({n.layer for n in neurons})}
    found = exact_of(job.model, job.encoder, pairs, layers, batch_size=job.batch_size, progress=advance)
    effects = torch.cat([effect[..., RANKED_BY] for effect in found]).numpy().astype(np.float32)
    return {"effects": effects, "pairs": np.stack([pairs.clean.op1, pairs.clean.op2], axis=1).astype(np.int32)}


def _broken(job: Job, op: Operator, neurons: Sequence[Neuron], advance: Advance) -> Arrays:
    """What zeroing each neuron alone does to the evaluate prompts that are answered correctly with all of them."""
    prompts = load_pairs(rows_of(job.run.table("prompts"), op.symbol, "evaluate")).clean
    sets = [np.empty((0, 2), dtype=np.int64), *(np.array([[n.layer, n.index]], dtype=np.int64) for n in neurons)]
    n, each = len(prompts), len(sets)
    rows = Knockouts(np.tile(np.arange(n), each), np.repeat(np.arange(each), n), np.zeros(n * each, dtype=np.int64))
    answer = torch.from_numpy(job.encoder.answers(prompts.answer))

    def read(logits: Float[Tensor, "row vocab"], at: Int[np.ndarray, "row"]) -> Float[Tensor, "row metric"]:
        return verdicts(logits, answer[torch.from_numpy(rows.prompt[at])].to(logits.device))

    found = knock_out(
        job.model,
        torch.from_numpy(job.encoder.encode(prompts)).to(job.model.device),
        NeuronSets.of(sets),
        rows,
        zero_values(job.model),
        read,
        batch_size=job.batch_size,
        progress=advance,
    ).numpy()
    log_p, lead, said = found.reshape(each, n, 3).transpose(2, 0, 1)
    right = said[0] == answer.numpy()
    return {
        "drops": (log_p[:1] - log_p[1:])[:, right].astype(np.float32),
        "falls": (lead[:1] - lead[1:])[:, right].astype(np.float32),
        "leads": lead[0, right].astype(np.float32),
        "after": job.encoder.numbers(said[1:, right].astype(np.int64)).astype(np.int32),
        "cases": np.stack([prompts.op1, prompts.op2, prompts.answer], axis=1)[right].astype(np.int32),
    }


# -- what it costs ----------------------------------------------------------------------------------------------------


def count_maps(job: Job) -> Cost:
    """All legal prompts for every block of neurons, (neuron, pair) rows and (neuron, evaluate prompt) rows."""
    info, encoder = job.model.info, job.encoder
    tail = (encoder.length - encoder.index(Position.OP2)) / encoder.length
    maps = replays = 0
    for op, legal in _wanted(job).items():
        if n := len(expected_maps(job, op)):
            discover, evaluate = _prompts_of(job, op)
            maps += len(legal) * len(neuron_blocks(expected_maps(job, op), len(legal)))
            replays += n * discover + (n + 1) * evaluate
    share = 0.5 if info.n_layers > 1 else 1.0
    return Cost(maps + replays, maps * tail + replays * share / encoder.length)


def _prompts_of(job: Job, op: Operator) -> tuple[int, int]:
    """Pairs to discover with and prompts to evaluate of one operator; its share of all before they are chosen."""
    if not job.run.finished("prompts"):
        n_operators = max(1, len(_wanted(job)))
        discover, evaluate = n_prompts(job)
        return round(discover / n_operators), round(evaluate / n_operators)
    table = job.run.table("prompts")
    return len(rows_of(table, op.symbol, "discover")), len(rows_of(table, op.symbol, "evaluate"))


def expected_size(job: Job) -> tuple[int, int]:
    """How many neurons' maps will be kept, summed over operators, and their bytes on disk."""
    total = size = 0
    for op, legal in _wanted(job).items():
        n = len(expected_maps(job, op))
        discover, evaluate = _prompts_of(job, op)
        total += n
        size += n * (2 * len(legal) + 4 * (job.encoder.limit + 1) + 4 * discover + 12 * evaluate + 8)
        size += 12 * len(legal) + 16 * evaluate if n else 0
    return total, size
