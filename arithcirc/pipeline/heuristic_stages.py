"""Stage `heuristics`: every important neuron's labels, from its maps over all legal prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from arithcirc.arithmetic.operators import Operator, Prompts, operator
from arithcirc.components import Neuron, Position
from arithcirc.errors import PromptError
from arithcirc.heuristics.calibration import UNION_BOUND
from arithcirc.heuristics.labels import Labels, join_labels, match_neurons
from arithcirc.heuristics.nulls import corrected
from arithcirc.heuristics.number_neurons import label_numbers, number_responses
from arithcirc.measure.maps import Maps, activation_maps, neuron_blocks, value_logits
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.prompt_stage import legal_by_operator, used_operators
from arithcirc.pipeline.stage import Cost

EXAMPLES = 3
"""Example maps kept per family and operator."""
USUAL_TOP = 100
"""Neurons per layer that a plan assumes before they are ranked."""


@dataclass(frozen=True)
class _Labelled:
    """One operator's labels, its answers to all prompts, and example maps."""

    labels: Labels
    answers: pd.DataFrame
    gallery: pd.DataFrame
    maps: dict[str, np.ndarray]


def heuristics_stage(job: Job, *, examples: int = EXAMPLES) -> list[str]:
    """Tables `heuristics`, `label_summary`, `unlabelled`, `excluded_heuristics`, `answers`, `gallery`, numbers.

    `answers` says what the model answers to every legal prompt; the maps of the gallery, `examples` of a family, and
    the first MLP's responses to single numbers are arrays; without examples no arrays are written.
    """
    prompts = job.run.table("prompts")
    legal = {op: p for op, p in legal_by_operator(job).items() if op.symbol in used_operators(prompts)}
    neurons = {op: job.neurons or important_neurons(job.run.table("neurons"), op) for op in legal}
    blocks = {op: neuron_blocks(neurons[op], len(mine)) for op, mine in legal.items()}
    rows = sum(len(blocks[op]) * len(mine) for op, mine in legal.items())
    advance = job.counter("heuristics", rows + job.encoder.limit + 1)
    frames: dict[str, list[pd.DataFrame]] = {}
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, frame: pd.DataFrame) -> None:
        frames.setdefault(name, []).append(frame)

    for op, mine in legal.items():
        found = _label_operator(job, op, mine, blocks[op], examples, advance)
        add("heuristics", found.labels.table)
        add("label_summary", summary(found.labels, op, len(neurons[op])))
        add("unlabelled", unlabelled(found.labels.table))
        add("excluded_heuristics", found.labels.excluded.assign(operator=op.symbol))
        add("answers", found.answers)
        add("gallery", found.gallery)
        arrays |= found.maps
    responses = number_responses(job.model, job.encoder, batch_size=job.batch_size, progress=advance)
    add("number_neurons", label_numbers(responses[: job.operands.high + 1], preset_name=job.config.heuristics.preset))
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}
    tables["excluded_heuristics"].insert(0, "operator", tables["excluded_heuristics"].pop("operator"))
    written = [job.run.write_table(name, table) for name, table in tables.items()]
    if examples:
        written.append(job.run.write_arrays("gallery", arrays))
        written.append(job.run.write_arrays("number_responses", {"response": responses.numpy()}))
    return written


def _label_operator(
    job: Job,
    op: Operator,
    prompts: Prompts,
    blocks: Sequence[tuple[Neuron, ...]],
    examples: int,
    advance: Callable[[int], None],
) -> _Labelled:
    """Labels of an operator's neurons, one block of layers after another; q sees all of them."""
    cfg, matched = job.config.heuristics, []
    maps: Maps | None = None
    given = None
    for block in blocks:
        maps = None  # the maps of the last block go before the next ones come
        maps = activation_maps(
            job.model, job.encoder, prompts, block, batch_size=job.batch_size, given=given, progress=advance
        )
        values, given = value_logits(job.model, job.encoder, block), maps.given
        found = match_neurons(
            maps, values, op, job.operands,
            preset_name=cfg.preset, threshold=cfg.threshold, draws=cfg.draws, rng=job.rng("null", op.name),
        )  # fmt: skip
        matched.append(found)
    labels = join_labels(matched[::-1], op, level=cfg.q)
    shown = _shown(labels.table, examples)
    if maps is None or (len(blocks) > 1 and len(shown)):  # once more, of the few neurons that are shown
        maps = None
        few = [
            Neuron(int(layer), int(i))
            for layer, i in shown[["layer", "neuron"]].drop_duplicates().itertuples(index=False)
        ]
        maps = activation_maps(job.model, job.encoder, prompts, few, batch_size=job.batch_size, given=given)
    gallery, arrays = _gallery(shown, maps, value_logits(job.model, job.encoder, maps.neurons), job)
    return _Labelled(labels, answers_of(job, maps), gallery, arrays)


def count_heuristics(job: Job) -> Cost:
    """All legal prompts for every block of neurons, of which only op2 and `=` are run, and the single numbers."""
    legal = legal_by_operator(job)
    rows = sum(len(p) * len(neuron_blocks(expected_neurons(job, op), len(p))) for op, p in legal.items())
    tail = (job.encoder.length - job.encoder.index(Position.OP2)) / job.encoder.length
    return Cost(rows + job.encoder.limit + 1, 1.5 * rows * tail)  # half as much again for ranks, scores and nulls


def expected_neurons(job: Job, op: Operator) -> Sequence[Neuron]:
    """The neurons to label: as given, as ranked, else so many of each layer as were asked for or are usual."""
    if job.neurons is not None:
        return job.neurons
    if job.run.finished("neurons"):
        table = job.run.table("neurons")
        return important_neurons(table, op) if (table["operator"] == op.symbol).any() else ()
    per_layer = min(job.config.neurons.top or USUAL_TOP, job.model.info.d_mlp)
    layers = range(job.config.neurons.first_layer or 0, job.model.info.n_layers)
    return [Neuron(layer, i) for layer in layers for i in range(per_layer)]


def important_neurons(table: pd.DataFrame, op: Operator) -> list[Neuron]:
    """Important neurons of an operator, from the table `neurons`. Raises PromptError when there is none."""
    mine = table[(table["operator"] == op.symbol) & table["important"].astype(bool)]
    pairs = mine[["layer", "neuron"]].drop_duplicates().sort_values(["layer", "neuron"])
    if pairs.empty:
        raise PromptError(f"no neuron counts as important for {op.symbol}: give --top-neurons 10 or more")
    return [Neuron(int(layer), int(index)) for layer, index in pairs.itertuples(index=False)]


def summary(labels: Labels, op: Operator, important: int) -> pd.DataFrame:
    """One row: how many neurons carry a label at the threshold, and at the level of q.

    `structured` counts those with a significant label that had a structured null to beat: single values and sets found
    in the data have only a union bound, which smooth maps beat easily.
    """
    table = labels.table
    counted = {name: _n_neurons(table[table[name]]) for name in ("matched", "significant")}
    counted["structured"] = _n_neurons(table[table["significant"] & ~table["family"].isin(UNION_BOUND)])
    row = {"operator": op.symbol, "important": important, **counted, "unlabelled": important - counted["significant"]}
    more = {"heuristics": labels.n_heuristics, "tests": labels.n_tests, "pairs": int(table["significant"].sum())}
    return pd.DataFrame([row | more])


def _n_neurons(table: pd.DataFrame) -> int:
    return len(table[["layer", "neuron"]].drop_duplicates())


def unlabelled(table: pd.DataFrame) -> pd.DataFrame:
    """Neurons without a significant label, with the best one they have."""
    named = set(table.loc[table["significant"], ["layer", "neuron"]].itertuples(index=False, name=None))
    rest = table[[pair not in named for pair in table[["layer", "neuron"]].itertuples(index=False, name=None)]]
    fit = corrected(rest["score"].to_numpy(dtype=float), rest["base_rate"].to_numpy(dtype=float))
    best = rest.assign(fit=fit).sort_values("fit", ascending=False, kind="stable").drop_duplicates(["layer", "neuron"])
    columns = ["operator", "layer", "neuron", "heuristic", "score", "base_rate", "q", "matched"]
    return best.sort_values(["layer", "neuron"])[columns].rename(columns={"heuristic": "best"})


def answers_of(job: Job, maps: Maps) -> pd.DataFrame:
    """What the model says to every legal prompt; `given` is -1 where it says something that is no number."""
    p: Prompts = maps.prompts
    columns = {"operator": p.symbols, "op1": p.op1, "op2": p.op2, "answer": p.answer}
    return pd.DataFrame(columns | {"given": job.encoder.numbers(maps.given), "correct": maps.correct})


def as_half(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Float16, for pictures; what lies beyond its range is put at its end instead of at infinity."""
    most = np.finfo(np.float16).max
    half: np.ndarray = values.clip(-most, most).astype(np.float16)
    return half


def _shown(table: pd.DataFrame, examples: int) -> pd.DataFrame:
    """Labels to show as maps: those that fit best in each family, by the score corrected for chance."""
    shown = table[table["significant"]].assign(
        fit=lambda t: corrected(t["score"].to_numpy(), t["base_rate"].to_numpy())
    )
    shown = shown.sort_values("fit", ascending=False, kind="stable").drop_duplicates(["family", "layer", "neuron"])
    return shown.groupby(["family", "kind"], sort=False).head(examples).drop(columns="fit").reset_index(drop=True)


def _gallery(
    shown: pd.DataFrame, maps: Maps, values: np.ndarray, job: Job
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Maps (op1, op2) of labels; NaN: illegal."""
    at = {(n.layer, n.index): i for i, n in enumerate(maps.neurons)}
    arrays = {}
    keys = []
    for row in shown.itertuples():
        i = at[int(row.layer), int(row.neuron)]  # type: ignore[arg-type]
        line = maps.k[i] if row.kind == "indirect" else maps.k[i] * values[i, maps.prompts.answer]
        grid = np.full((len(job.operands), len(job.operands)), np.nan, dtype=np.float16)
        grid[maps.prompts.op1 - job.operands.low, maps.prompts.op2 - job.operands.low] = as_half(line)
        name = "K" if row.kind == "indirect" else "KV"
        keys.append(f"{operator(str(row.operator)).name}.L{row.layer}N{row.neuron}.{name}")
        arrays[keys[-1]] = grid
    columns = ["operator", "layer", "neuron", "heuristic", "family", "kind", "end", "score", "base_rate", "q"]
    return shown[columns].assign(key=keys), arrays
