"""Peak memory: what each stage will hold beside the loaded model, and what it then took.

A stage's peak is what it keeps (records, activations, maps, results) and the largest batch in flight. Counted are
tensors and arrays, from their shapes; WIDE, HIDDEN and ATTENTION say how many are alive at the peak of a block, read
off PyTorch's allocations on GPT-NeoX and Llama (tests/pipeline/test_peak_memory.py measures them again). On the CPU the
resident memory before the stage is added, on a GPU what is allocated there.
What it does not count: what libraries load on first use, and memory that the allocator keeps after it was freed.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch

from arithcirc.arithmetic.operators import OPERATORS
from arithcirc.circuits import neurons as effects
from arithcirc.circuits.neuron_circuits import neuron_grid
from arithcirc.circuits.probes import RECORD_BYTES, TRAINING_BYTES, layer_blocks, site_bytes
from arithcirc.components import PATCHED_POSITIONS, Position
from arithcirc.errors import EnvironmentFailure
from arithcirc.heuristics.arms import DONORS
from arithcirc.heuristics.nulls import DRAWS_AT_ONCE, hit_levels
from arithcirc.heuristics.ranks import BLOCK, FEW
from arithcirc.measure.maps import HELD_BYTES, MAP_BYTES
from arithcirc.models.fit import LOGIT_BYTES, logit_rows, number_bytes, record_bytes
from arithcirc.models.memory import free_bytes, gigabytes
from arithcirc.models.protocol import ModelInfo
from arithcirc.pipeline.circuit_stages import circuit_sizes, random_grid
from arithcirc.pipeline.heuristic_stages import USUAL_TOP, expected_neurons
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.map_stage import expected_maps
from arithcirc.pipeline.probe_stages import COPIED, COPY_PROMPTS, probe_prompts
from arithcirc.pipeline.prompt_stage import AT_LEAST_TRIED, legal_by_operator, n_prompts
from arithcirc.pipeline.stage import Stage

HIDDEN = 4
"""Tensors of width d_model alive while a block's MLP runs: residual, its norm, attention's output, the MLP's input."""
WIDE = {False: 2, True: 3}
"""Tensors of width d_mlp alive at its peak: before and after the activation; gated: gate, linear part, product."""
ATTENTION = 6
"""Tensors of width d_model alive while a block's attention runs."""
GRAPH_HIDDEN, GRAPH_WIDE = 6, {False: 2, True: 4}
"""The same kept of every layer for a backward pass."""
SCORE_BYTES = 64
"""Per neuron and heuristic: scores, p and p_shift of both ends, and what is computed from them."""
N_HEURISTICS = 600
"""Heuristics of an operator."""
SORT_BYTES = 40
"""Per prompt: keys and places of one map that is being ranked."""
ROW_BYTES = 120
"""A row of a long table, and its copy while tables are put together."""


class Held(NamedTuple):
    """Bytes beside the model: of tensors on its device, and of arrays and tables, always in the machine's memory."""

    device: int
    host: int = 0


# -- one batch --------------------------------------------------------------------------------------------------------


def block_bytes(info: ModelInfo, rows: int, window: int, n_pos: int) -> int:
    """A block on so many rows of `window` tokens, which attend to `n_pos` positions: its MLP or its attention."""
    mlp = rows * window * (HIDDEN * info.d_model + WIDE[info.gated] * info.d_mlp)
    shared = info.n_kv_heads if info.n_kv_heads < info.n_heads else 0  # repeated for every query head
    joined = 2 * n_pos * (info.n_heads + shared) * info.d_head if window < n_pos else 0
    attention = rows * (window * ATTENTION * info.d_model + joined)
    return number_bytes(info) * max(mlp, attention)


def logit_bytes(info: ModelInfo, rows: int, copies: int = 1, *, whole: bool = False) -> int:
    """Float32 logits while they are made, or read, with what is computed from them.

    A whole forward adds a bias, 0 where there is none, to products that are still there; a soft-cap makes one more. In
    half precision a CPU puts parts together, and widens a part of the unembedding for each.
    """
    widened = info.dtype != "float32" and info.device == "cpu"
    part = min(LOGIT_BYTES, 4 * info.d_vocab * info.d_model) if widened else 0
    made = 4 * (1 + (whole or widened) + (info.softcap is not None))
    return part + rows * info.d_vocab * max(made, 4 * copies)


def forward_bytes(info: ModelInfo, rows: int, n_pos: int, copies: int = 1) -> int:
    """A whole forward whose logits are read: a block, or the final residual and the logits."""
    final = 2 * rows * n_pos * info.d_model * number_bytes(info)
    return max(block_bytes(info, rows, n_pos, n_pos), final + logit_bytes(info, rows, copies, whole=True))


def replay_bytes(info: ModelInfo, rows: int, window: int, n_pos: int, copies: int) -> int:
    """Rows replayed from a recorded run: residuals, a block on them, and the logits in pieces (copies 0: none)."""
    resid = rows * window * info.d_model * number_bytes(info)
    pieces = logit_bytes(info, min(rows, logit_rows(info.d_vocab)), copies) if copies else 0
    return 2 * resid + max(block_bytes(info, rows, window, n_pos), pieces)


# -- one stage --------------------------------------------------------------------------------------------------------


def _whole_rows(job: Job) -> int:
    """Rows of a batch whose logits are all made at once."""
    return min(job.batch_size, logit_rows(job.model.info.d_vocab))


def _per_operator(job: Job) -> tuple[int, int]:
    """Prompts of one operator to discover and to evaluate."""
    discover, evaluate = (ceil(n / len(job.operators)) for n in n_prompts(job))
    return max(1, discover), max(1, evaluate)


def _tile_rows(job: Job, n: int, patches: int) -> int:
    """Rows of a tile: whole patches on n prompts, as many as a batch has room for and a position has patches."""
    return min(n, job.batch_size) if n >= job.batch_size else min(patches, job.batch_size // n) * n


def _prompts(job: Job) -> Held:
    rows = min(_whole_rows(job), AT_LEAST_TRIED)
    return Held(forward_bytes(job.model.info, rows, job.encoder.length))


def _localize(job: Job) -> Held:
    info, n_pos, (n, _) = job.model.info, job.encoder.length, _per_operator(job)
    parts = n * n_pos * info.n_layers * (info.n_heads * info.d_head + info.d_model) * number_bytes(info)
    clean = n * record_bytes(info, n_pos) + logit_bytes(info, n, 3)
    rows = _tile_rows(job, n, info.n_layers * (info.n_heads + 1))
    known = 2 * rows * (n_pos - 1) * info.d_model * number_bytes(info)  # the MLP's output where it is known
    results = 3 * 8 * 3 * n * info.n_layers * (info.n_heads + 1) * len(PATCHED_POSITIONS)
    return Held(clean + 3 * parts + known + results + replay_bytes(info, rows, n_pos - 1, n_pos, 3))


def _means(job: Job) -> Held:
    info, n_pos = job.model.info, job.encoder.length
    numbers = info.n_layers * n_pos * (info.d_mlp + info.n_heads * info.d_head)
    if job.config.circuit.mean_prompts is not None:
        rows = min(_whole_rows(job), len(OPERATORS) * job.config.circuit.mean_prompts)
        return Held(16 * numbers + forward_bytes(info, rows, n_pos))
    rows = min(job.batch_size, len(OPERATORS) * len(job.operands) ** 2)
    return Held(16 * numbers + _tails(job, rows, rows // len(job.operands) + 2, copies=0))


def _tails(job: Job, rows: int, beginnings: int, *, copies: int) -> int:
    """Prompts that share beginnings: what is recorded of those, and the tails on them."""
    info, n_pos, start = job.model.info, job.encoder.length, job.encoder.index(Position.OP2)
    beginnings = min(rows, beginnings)
    prefix = beginnings * record_bytes(info, start) + logit_bytes(info, beginnings)
    repeated = 2 * rows * start * info.n_kv_heads * info.d_head * number_bytes(info)
    return prefix + repeated + replay_bytes(info, rows, n_pos - start, n_pos, copies)


def _judged(job: Job, n: int, circuits: int) -> int:
    """Circuits judged on n prompts: logits, log probabilities, and two products of them; the clean ones twice."""
    most = _whole_rows(job)
    rows = min(n, most) if n >= most else min(circuits, most // n) * n
    return logit_bytes(job.model.info, n, 2) + forward_bytes(job.model.info, rows, job.encoder.length, copies=4)


def _faithfulness(job: Job) -> Held:
    sizes = circuit_sizes(job)
    circuits = len(sizes) + 2 + len(random_grid(sizes)) * job.config.circuit.random_circuits
    return Held(_judged(job, max(_per_operator(job)), circuits))


def _neurons(job: Job) -> Held:
    info, n_pos, (n, evaluate) = job.model.info, job.encoder.length, _per_operator(job)
    number = number_bytes(info)
    wide = n_pos * info.d_mlp * number
    clean = n * (record_bytes(info, n_pos) + n_pos * info.n_layers * info.d_model * number) + logit_bytes(info, n, 3)
    every = 2 * n * wide * info.n_layers
    post = every if every <= effects.HELD_BYTES else effects.HELD_BYTES * 3 // 2  # a new block beside the last one
    rows = _tile_rows(job, n, info.d_mlp)
    exact = clean + post + 2 * 24 * n * info.d_mlp + replay_bytes(info, rows, 1, n_pos, 3)
    size = min(n, job.batch_size, max(1, effects.HELD_BYTES // (4 * info.n_layers * wide)))
    graph = GRAPH_HIDDEN * info.d_model + GRAPH_WIDE[info.gated] * info.d_mlp
    slopes = size * n_pos * info.n_layers * graph * number + forward_bytes(info, size, n_pos, 2)
    sides = 3 * size * wide * info.n_layers
    tables = 4 * info.n_layers * info.d_mlp * len(job.operators) * ROW_BYTES
    steps = len(neuron_grid(info.d_mlp, job.config.neurons.top))
    judged = _judged(job, max(n, evaluate), 2 + steps * (4 + 2 * job.config.neurons.random_draws))
    return Held(max(exact, slopes, sides, judged), tables)


def _heuristics(job: Job) -> Held:
    device = host = 0
    for op, legal in legal_by_operator(job).items():
        n, neurons = max(1, len(legal)), len(expected_neurons(job, op))
        most = min(neurons, max(1, HELD_BYTES // (MAP_BYTES * n)))
        rank = 2 if n <= 2**16 else 4
        width = min(most, BLOCK if n > FEW else 4 * BLOCK)
        values = max((len(np.unique(column)) for column in (legal.op1, legal.op2, legal.answer)), default=0)
        table = 4 * width * values * (len(hit_levels(n)) + 2 * DRAWS_AT_ONCE)
        per_thread = max(SORT_BYTES * n, table)
        matching = most * N_HEURISTICS * SCORE_BYTES + torch.get_num_threads() * per_thread
        running = _tails(job, min(job.batch_size, n), len(job.operands), copies=1)
        device = max(device, running, _written(job, neurons))
        host = max(host, (4 + rank) * most * n + matching)
    return Held(device, host)


def _written(job: Job, neurons: int) -> int:
    """What the neurons of a layer write into all logits, centred, and a part of the unembedding in float32."""
    info = job.model.info
    rows = min(ceil(neurons / info.n_layers), logit_rows(info.d_vocab))
    part = 0 if info.dtype == "float32" else min(LOGIT_BYTES, 4 * info.d_vocab * info.d_model)
    return part + 2 * 4 * rows * info.d_vocab


def _probe(job: Job) -> Held:
    info, n_pos = job.model.info, job.encoder.length
    most = 0
    for op, legal in legal_by_operator(job).items():
        tried = probe_prompts(job, op, legal)
        n, classes = len(tried), len(np.unique(tried.answer))
        layers = max((len(block) for block in layer_blocks(info, n, len(PATCHED_POSITIONS))), default=0)
        sites = layers * len(PATCHED_POSITIONS)
        block = sites * n * info.d_model * number_bytes(info)
        rows = max(1, min(_whole_rows(job), RECORD_BYTES // record_bytes(info, n_pos)))
        reading = rows * record_bytes(info, n_pos) + forward_bytes(info, rows, n_pos)
        most = max(most, block + max(reading, block + _training(sites, n, info.d_model, classes)))
    return Held(most)


def _training(sites: int, n: int, width: int, classes: int) -> int:
    """A group of sites in training."""
    one = site_bytes(n, width, max(1, classes))
    return min(sites, max(1, TRAINING_BYTES // one)) * one


def _heads(job: Job) -> Held:
    info, n_pos = job.model.info, job.encoder.length
    chosen = min(sum(_per_operator(job)), _whole_rows(job))
    cuts = forward_bytes(info, chosen, n_pos, copies=6)
    legal = legal_by_operator(job)
    most = 0
    pool = 0
    for op, prompts in legal.items():
        tried = probe_prompts(job, op, prompts, most=COPY_PROMPTS)
        z = info.n_layers * info.n_heads * len(tried) * info.d_head * number_bytes(info)
        classes = max(len(np.unique(getattr(tried, "answer" if c == "result" else c))) for c in COPIED)
        training = _training(info.n_layers * info.n_heads, len(tried), info.d_head, classes)
        reading = forward_bytes(info, min(_whole_rows(job), max(1, len(tried))), n_pos)
        most = max(most, pool + z + max(reading, z, training))
        pool += z // 2
    return Held(max(cuts, most))


def _knockout(job: Job) -> Held:
    info, n_pos = job.model.info, job.encoder.length
    held = max(1, job.batch_size // 8)
    values = 2 * 4 * (2 + DONORS) * info.n_layers * info.d_mlp
    clean = held * record_bytes(info, n_pos) + logit_bytes(info, held)
    keys = 2 * job.batch_size * (n_pos - 1) * info.n_kv_heads * info.d_head * number_bytes(info)
    return Held(values + clean + keys + replay_bytes(info, job.batch_size, 1, n_pos, 2))


def _failures(job: Job) -> Held:
    n = 2 * job.config.knockout.failures
    rows = min(job.batch_size, n)
    return Held(_tails(job, rows, rows, copies=1), 2 * 4 * n * job.model.info.n_layers * USUAL_TOP)


def _maps(job: Job) -> Held:
    """K of a block of neurons and its half beside those of all, and what is written of them; or a replay."""
    info, n_pos, (n, evaluate) = job.model.info, job.encoder.length, _per_operator(job)
    device = host = 0
    for op, legal in legal_by_operator(job).items():
        neurons = len(expected_maps(job, op))
        most = min(neurons, max(1, HELD_BYTES // (MAP_BYTES * max(1, len(legal)))))
        running = _tails(job, min(job.batch_size, len(legal)), len(job.operands), copies=0)
        device = max(device, running, _written(job, neurons))
        half = 2 * neurons * len(legal)
        host = max(host, half + max(8 * most * len(legal), half))
    held = min(max(1, job.batch_size // 8), evaluate)
    clean = max(n, held) * (record_bytes(info, n_pos) + 2 * n_pos * info.n_layers * info.d_model * number_bytes(info))
    keys = 2 * job.batch_size * (n_pos - 1) * info.n_kv_heads * info.d_head * number_bytes(info)
    post = min(2 * n * n_pos * info.d_mlp * number_bytes(info) * info.n_layers, effects.HELD_BYTES * 3 // 2)
    replay = clean + keys + post + logit_bytes(info, max(n, held), 3) + replay_bytes(info, job.batch_size, 1, n_pos, 3)
    return Held(max(device, replay), host)


HELD: dict[str, Callable[[Job], Held]] = {
    "prompts": _prompts,
    "localize": _localize,
    "means": _means,
    "faithfulness": _faithfulness,
    "probe": _probe,
    "neurons": _neurons,
    "heads": _heads,
    "heuristics": _heuristics,
    "knockout": _knockout,
    "failures": _failures,
    "maps": _maps,
}
"""What each stage holds at its peak beside the model."""


# -- what it means for the run ----------------------------------------------------------------------------------------


def _held(job: Job, stage: Stage) -> Held:
    """What the stage holds at its peak: as much as the largest of those that it names as being like it."""
    like = [HELD[name](job) for name in stage.like or (stage.name,)]
    return Held(max(held.device for held in like), max(held.host for held in like))


def held_bytes(job: Job, stage: Stage) -> int:
    """Bytes that the stage holds at its peak on the model's device, beside what is in use there before."""
    held = _held(job, stage)
    return held.device + (held.host if job.model.device.type == "cpu" else 0)


def fit_batch_size(job: Job, stages: Sequence[Stage]) -> str | None:
    """Lower the job's batch size until every unfinished stage fits in what is free; what was done, None for nothing.

    Raises EnvironmentFailure with the numbers where even a batch of one does not fit.
    """
    asked, device = job.batch_size, str(job.model.device)
    left = [s for s in stages if not job.run.finished(s.name)]
    free = {"cpu": free_bytes("cpu"), device: free_bytes(device)}
    while (worst := _misfit(job, left, free)) is not None:
        if job.batch_size == 1:
            name, where, needed = worst
            raise EnvironmentFailure(
                f"stage {name} needs {gigabytes(needed)} on {where} beside the model even with --batch-size 1, and "
                f"{gigabytes(free[where])} are free: use --dtype bfloat16, fewer --prompts, a smaller model or a "
                "bigger machine"
            )
        job.batch_size //= 2
    if job.batch_size == asked:
        return None
    return (
        f"--batch-size {asked} would not fit in the {gigabytes(free[device])} free on {device}: {job.batch_size} used"
    )


def _misfit(job: Job, stages: Sequence[Stage], free: dict[str, int]) -> tuple[str, str, int] | None:
    """The first stage that does not fit, where, and what it needs there."""
    device = str(job.model.device)
    for stage in stages:
        held = _held(job, stage)
        needs = {"cpu": held.host}
        needs[device] = held.device + (held.host if device == "cpu" else 0)
        for where, needed in needs.items():
            if needed > free[where]:
                return stage.name, where, needed
    return None
