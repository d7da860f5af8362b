"""Stages `probe` and `heads`: where the answer can be read, and what the attention heads do.

Probes are trained on correct prompts among a fixed number of random legal ones, whatever prompts the circuit was found
on. Rows of progress are prompts run through the model and epochs of probes, one per site; the epochs that early
stopping leaves out are told when a site stops, so a plan is exact.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from arithcirc.arithmetic.operators import Operator, Prompts
from arithcirc.circuits.head_roles import (
    CUTS,
    Training,
    attention_from_equals,
    attention_rows,
    copy_rows,
    decode,
    judge_cuts,
    read_heads,
)
from arithcirc.circuits.probes import (
    FEWEST,
    HELD_OUT,
    VALIDATION,
    FirstLayer,
    Probes,
    first_heuristics_layer,
    join_probes,
    layer_blocks,
    read_residuals,
    train_probes,
)
from arithcirc.components import PATCHED_POSITIONS, Position
from arithcirc.measure.intervals import wilson
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.prompt_stage import legal_by_operator, load_pairs, n_prompts, rows_of, used_operators
from arithcirc.pipeline.stage import Cost

Advance = Callable[[int], None]
RESIDUAL_EPOCHS, HEAD_EPOCHS = 16, 28
"""Epochs after which probes have stopped, averaged over sites of the shipped model: what a plan's time assumes."""
COPY_PROMPTS = 2_000
"""Prompts of an operator, at most, from which it is decoded what heads carry."""
COPIED = ("op1", "op2", "result")


def probe_prompts(job: Job, op: Operator, legal: Prompts, *, most: int | None = None) -> Prompts:
    """The random legal prompts of an operator that are tried; the correct ones among them train and test probes."""
    tried = min(job.config.probe.prompts, len(legal) if most is None else most)
    return legal[job.rng("probe", op.name).permutation(len(legal))[:tried]]


def _generator(job: Job, *words: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(job.rng(*words).integers(2**62)))


def _table(frames: Sequence[pd.DataFrame], columns: Mapping[str, str]) -> pd.DataFrame:
    """Frames after each other, with these columns in this order, also where there is no frame."""
    empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    return pd.concat(frames, ignore_index=True)[list(columns)].astype(dict(columns)) if frames else empty


# -- probe -------------------------------------------------------------------------------------------------------------

_PROBES = {
    "operator": "str", "layer": "int64", "position": "str", "accuracy": "float64", "low": "float64", "high": "float64",
    "n": "int64", "classes": "int64", "base_rate": "float64", "epochs": "int64",
}  # fmt: skip
_FIRST_LAYERS = {
    "operator": "str", "layer": "int64", "accuracy": "float64", "best": "float64", "base_rate": "float64",
    "rule": "str",
}  # fmt: skip


def probe_stage(job: Job) -> list[str]:
    """Tables `probes` and `first_layers`."""
    used = used_operators(job.run.table("prompts"))
    advance = job.counter("probe", count_probe(job).rows)
    probes, firsts = [], []
    for op, legal in legal_by_operator(job).items():
        tried = probe_prompts(job, op, legal)
        if op.symbol not in used:
            advance(_probe_passes(job, tried) * len(tried) + _sites(job) * job.config.probe.epochs)
            continue
        rows, first = _probe_operator(job, op, tried, advance)
        probes += rows
        firsts.append(pd.DataFrame([{"operator": op.symbol} | vars(first)]))
    return [
        job.run.write_table("probes", _table(probes, _PROBES)),
        job.run.write_table("first_layers", _table(firsts, _FIRST_LAYERS)),
    ]


def _sites(job: Job) -> int:
    return job.model.info.n_layers * len(PATCHED_POSITIONS)


def _probe_passes(job: Job, tried: Prompts) -> int:
    """How often the prompts are run: once for each block of layers."""
    return len(layer_blocks(job.model.info, len(tried), len(PATCHED_POSITIONS)))


def _probe_operator(job: Job, op: Operator, tried: Prompts, advance: Advance) -> tuple[list[pd.DataFrame], FirstLayer]:
    """One operator's rows of `probes` (none where too few prompts are correct), and its first layer."""
    cfg, info = job.config.probe, job.model.info
    blocks = layer_blocks(info, len(tried), len(PATCHED_POSITIONS))
    parts: list[Probes] = []
    for layers in blocks:
        features, correct = read_residuals(
            job.model, job.encoder, tried, layers=layers, batch_size=job.batch_size, progress=advance
        )
        right = int(correct.sum())
        if right < FEWEST:
            advance((len(blocks) - 1) * len(tried) + _sites(job) * cfg.epochs)
            return [], _no_probe(right, len(tried))
        features = features[:, correct]
        classes, labels = np.unique(tried.answer[correct.cpu().numpy()], return_inverse=True)
        found = train_probes(
            features,
            torch.from_numpy(labels),
            n_classes=len(classes),
            learning_rate=cfg.learning_rate,
            batch=cfg.batch,
            epochs=cfg.epochs,
            generator=_generator(job, "train probes", op.name),  # in the same state for every block
            progress=advance,
        )
        parts.append(found)
        del features
    found = join_probes(parts)
    at_equals = found.correct.reshape(info.n_layers, -1)[:, PATCHED_POSITIONS.index(Position.EQUALS)]
    first = first_heuristics_layer(at_equals, found.n, found.base_rate, parallel=info.parallel)
    return [_probe_rows(found, op, len(classes))], first


def _no_probe(right: int, tried: int) -> FirstLayer:
    rule = f"{right} of {tried} prompts tried are answered correctly, a probe needs {FEWEST}: layer 0 is taken"
    return FirstLayer(0, np.nan, np.nan, np.nan, rule)


def _probe_rows(found: Probes, op: Operator, classes: int) -> pd.DataFrame:
    n_layers = len(found.correct) // len(PATCHED_POSITIONS)
    bounds = np.array([wilson(int(k), found.n) for k in found.correct])
    return pd.DataFrame(
        {
            "operator": op.symbol,
            "layer": np.repeat(np.arange(n_layers), len(PATCHED_POSITIONS)),
            "position": [p.value for p in PATCHED_POSITIONS] * n_layers,
            "accuracy": found.accuracy,
            "low": bounds[:, 0],
            "high": bounds[:, 1],
            "n": found.n,
            "classes": classes,
            "base_rate": found.base_rate,
            "epochs": found.epochs,
        }
    )


def count_probe(job: Job) -> Cost:
    """Prompts tried, and epochs of sites."""
    rows, forwards = 0, 0.0
    for op, legal in legal_by_operator(job).items():
        tried = probe_prompts(job, op, legal)
        run = _probe_passes(job, tried) * len(tried)
        rows += run + _sites(job) * job.config.probe.epochs
        classes = len(np.unique(tried.answer))
        width = job.model.info.d_model
        forwards += run + _training(job, _sites(job), width, len(tried), classes, RESIDUAL_EPOCHS)
    return Cost(rows, forwards)


def _training(job: Job, sites: int, width: int, examples: int, classes: int, epochs: int) -> float:
    """Training a group of probes, in forward passes of one prompt: multiply-adds over the model's."""
    seen = examples * (1 - HELD_OUT) * (1 - VALIDATION) * min(job.config.probe.epochs, epochs)
    return 2 * sites * seen * (width + _SOFTMAX) * classes / (job.model.info.n_params * job.encoder.length)


_SOFTMAX = 32
"""Multiply-adds that take as long as one logit's share of a softmax, of its gradient and of the optimiser."""


# -- heads -------------------------------------------------------------------------------------------------------------

_HEADS = {
    "operator": "str", "layer": "int64", "head": "int64", "in_circuit": "bool", "position": "str",
    "attention": "float64", "attention_std": "float64", "n": "int64",
}  # fmt: skip
_COPIES = {
    "operator": "str", "layer": "int64", "head": "int64", "in_circuit": "bool", "what": "str", "accuracy": "float64",
    "base_rate": "float64", "n": "int64",
}  # fmt: skip
_CUTS = {
    "operator": "str", "cut": "str", "accuracy": "float64", "low": "float64", "high": "float64",
    "logit_diff": "float64", "kl": "float64", "n": "int64",
}  # fmt: skip


def heads_stage(job: Job) -> list[str]:
    """Tables `heads` and `head_cuts` of the prompts to discover and to evaluate, and `head_copies` of the probes'."""
    prompts, circuit = job.run.table("prompts"), job.run.table("circuit")
    advance = job.counter("heads", count_heads(job).rows)
    heads, cuts = [], []
    for symbol in used_operators(prompts):
        chosen = _chosen_prompts(job, prompts, symbol)
        tokens = torch.from_numpy(job.encoder.encode(chosen))
        seen = attention_from_equals(job.model, tokens, batch_size=job.batch_size, progress=advance)
        rows = attention_rows(seen, job.encoder, n_heads=job.model.info.n_heads)
        heads.append(_in_circuit(rows.assign(operator=symbol), circuit))
        judged = judge_cuts(job.model, job.encoder, chosen, batch_size=job.batch_size, progress=advance)
        cuts.append(judged.assign(operator=symbol))
    copies = [_in_circuit(part, circuit) for part in _copies(job, used_operators(prompts), advance)]
    return [
        job.run.write_table("heads", _table(heads, _HEADS)),
        job.run.write_table("head_copies", _table(copies, _COPIES)),
        job.run.write_table("head_cuts", _table(cuts, _CUTS)),
    ]


def _sets(job: Job) -> tuple[str, ...]:
    """The sets of prompts, without `evaluate` where it repeats `discover`."""
    repeated = job.pair_sets is not None and not (job.pair_sets == "evaluate").any()
    return ("discover",) if repeated else ("discover", "evaluate")


def _chosen_prompts(job: Job, prompts: pd.DataFrame, symbol: str) -> Prompts:
    return load_pairs(pd.concat([rows_of(prompts, symbol, name) for name in _sets(job)])).clean


def _in_circuit(rows: pd.DataFrame, circuit: pd.DataFrame) -> pd.DataFrame:
    """Mark the heads of the operator's circuit; for all operators together, those of any circuit."""
    inside = circuit[(circuit["kind"] == "head") & circuit["in_circuit"].astype(bool)]
    found = {s: set(zip(part["layer"], part["head"], strict=True)) for s, part in inside.groupby("operator")}
    found["all"] = set().union(*found.values())
    labels = zip(rows["operator"], rows["layer"], rows["head"], strict=True)
    return rows.assign(in_circuit=[(layer, head) in found.get(symbol, ()) for symbol, layer, head in labels])


def _n_heads(job: Job) -> int:
    return job.model.info.n_layers * job.model.info.n_heads


def _copies(job: Job, used: Sequence[str], advance: Advance) -> list[pd.DataFrame]:
    """What each head carries, per operator; and, of two operators or more, which one."""
    epochs = _n_heads(job) * job.config.probe.epochs
    parts: list[pd.DataFrame] = []
    pool: dict[str, Float[Tensor, "head example d_head"]] = {}
    for op, legal in legal_by_operator(job).items():
        tried = probe_prompts(job, op, legal, most=COPY_PROMPTS)
        if op.symbol not in used:
            advance(len(tried) + len(COPIED) * epochs)
            continue
        if not len(tried):
            advance(len(COPIED) * epochs)
            continue
        z, correct = read_heads(job.model, job.encoder, tried, batch_size=job.batch_size, progress=advance)
        z, right = z[:, correct], tried[correct.cpu().numpy()]
        if len(right) < FEWEST:
            advance(len(COPIED) * epochs)
            continue
        pool[op.symbol] = z[:, : COPY_PROMPTS // 2].clone()
        values = dict(zip(COPIED, (right.op1, right.op2, right.answer), strict=True))
        parts.append(_decoded(job, z, values, op.symbol, op.name, advance))
    if len(job.operators) > 1 and len(pool) < 2:
        advance(epochs)
    elif len(pool) > 1:
        share = [z[:, : COPY_PROMPTS // len(pool)] for z in pool.values()]
        labels = np.repeat(np.arange(len(share)), [z.shape[1] for z in share])
        parts.append(_decoded(job, torch.cat(share, dim=1), {"operator": labels}, "all", "all", advance))
    return parts


def _decoded(
    job: Job,
    z: Float[Tensor, "head example d_head"],
    values: Mapping[str, np.ndarray],
    symbol: str,
    name: str,
    advance: Advance,
) -> pd.DataFrame:
    cfg = job.config.probe
    training = Training(cfg.learning_rate, cfg.batch, cfg.epochs)
    generator = _generator(job, "decode heads", name)
    found = decode(z, values, training=training, generator=generator, progress=advance)
    return copy_rows(found, n_heads=job.model.info.n_heads).assign(operator=symbol)


def count_heads(job: Job) -> Cost:
    """Prompts run for attention and for each cut, prompts tried for what heads carry, and epochs of heads."""
    heads, info, epochs = _n_heads(job), job.model.info, job.config.probe.epochs
    chosen = sum(n for n, _ in zip(n_prompts(job), _sets(job), strict=False))
    rows, forwards = chosen * (2 + len(CUTS)), float(chosen * (2 + len(CUTS)))
    for op, legal in legal_by_operator(job).items():
        tried = probe_prompts(job, op, legal, most=COPY_PROMPTS)
        rows += len(tried) + heads * len(COPIED) * epochs
        classes = sum(len(np.unique(column)) for column in (tried.op1, tried.op2, tried.answer))
        forwards += len(tried) + _training(job, heads, info.d_head, len(tried), classes, HEAD_EPOCHS)
    if len(job.operators) > 1:
        rows += heads * epochs
        forwards += _training(job, heads, info.d_head, COPY_PROMPTS, len(job.operators), HEAD_EPOCHS)
    return Cost(rows, forwards)
