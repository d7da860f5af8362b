"""Stage `emergence` of a task: how much of what it does a checkpoint does as the reference will.

Tables `kept_faithfulness` and `knockouts_by_prompt` (see kept_faithfulness, kept_knockouts), each for the checkpoint's
own correct prompts and, where there is a shared run, for those it shares with the reference: the important neurons are
those of the run, the labels those measured at this checkpoint, matched and significant ones apart. At the reference
itself every label is kept, so kept equals all and new is empty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from arithcirc.arithmetic.operators import Prompts, operator
from arithcirc.circuits.neuron_circuits import Rest, everything
from arithcirc.components import Neuron
from arithcirc.config import LABELS
from arithcirc.measure.means import Means
from arithcirc.pipeline.circuit_stages import load_means
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.neuron_stages import circuit_rest, first_layer
from arithcirc.pipeline.prompt_stage import load_pairs, n_prompts, rows_of
from arithcirc.pipeline.stage import Cost, Stage
from arithcirc.store import RunFolder
from arithcirc.sweep.given import Given, important_of
from arithcirc.sweep.kept import LabelRows, label_rows
from arithcirc.sweep.kept_faithfulness import ANCHORS, kept_faithfulness, n_sets
from arithcirc.sweep.kept_knockouts import arms, kept_knockouts, zero_or_mean

TABLES = ("kept_faithfulness", "knockouts_by_prompt")
_HEADS = 2  # settings of the heads: all, and the circuit's


@dataclass(frozen=True)
class Compared:
    """What a task's own run is compared with: its shared run, if any, and what the reference gave.

    `reference` says that this is the reference itself, whose labels are all kept.
    """

    shared: RunFolder | None = None
    given: Given | None = None
    reference: bool = False

    @property
    def with_reference(self) -> bool:
        """Whether there are labels to compare with."""
        return self.reference or self.given is not None


@dataclass(frozen=True)
class _On:
    """One set of prompts: its name, prompts to evaluate, important neurons, and the two settings of the heads."""

    name: str
    evaluate: Prompts
    important: tuple[Neuron, ...]
    rests: tuple[Rest, Rest]


def emergence_stage(job: Job, *, compared: Compared) -> list[str]:
    """Tables `kept_faithfulness` and `knockouts_by_prompt`."""
    (op,) = job.operators
    runs = {"own": job.run} | ({} if compared.shared is None else {"shared": compared.shared})
    on = [_prompts_of(job, run, name) for name, run in runs.items()]
    advance = job.counter("emergence", sum(_rows(job, len(one.evaluate), compared) for one in on))
    means, here = load_means(job), job.run.table("heuristics")
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for one in on:
        reference = None if compared.given is None else compared.given.labels
        rows = {kind: label_rows(here, one.important, reference, kind) for kind in LABELS}
        for name, frame in zip(TABLES, _analyse(job, one, rows, means, compared, advance), strict=True):
            frame.insert(0, "operator", op.symbol)
            frame.insert(1, "prompts", one.name)
            tables[name].append(frame)
    return [job.run.write_table(name, pd.concat(frames, ignore_index=True)) for name, frames in tables.items()]


def _analyse(
    job: Job, on: _On, rows: dict[str, LabelRows], means: Means, compared: Compared, advance: Callable[[int], None]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables for one set of prompts."""
    symbol = str(on.evaluate.symbols[0])
    name, more = operator(symbol).name, compared.with_reference
    faithful = kept_faithfulness(
        job, on.evaluate, rows, on.rests, means, job.rng("kept faithfulness", name, on.name),
        compared=more, first_layer=first_layer(job, symbol), progress=advance,
    )  # fmt: skip
    replaced = zero_or_mean(job.model, means)
    broken = on.evaluate[: job.config.knockout.by_prompt]
    knockouts = []
    for kind, labelled in rows.items():
        rng = job.rng("kept knockouts", name, on.name, kind)
        found = kept_knockouts(job, broken, labelled, on.important, replaced, rng, compared=more, progress=advance)
        found.insert(0, "labels", kind)
        knockouts.append(found)
    return faithful, pd.concat(knockouts, ignore_index=True)


def _prompts_of(job: Job, run: RunFolder, name: str) -> _On:
    """The prompts, neurons and heads of one of the task's runs."""
    (op,) = job.operators
    info = job.model.info
    evaluate = load_pairs(rows_of(run.table("prompts"), op.symbol, "evaluate")).clean
    rests = (everything(info.n_layers, info.n_heads), circuit_rest(run, op.symbol))
    return _On(name, evaluate, important_of(run.table("neurons")), rests)


def _rows(job: Job, n: int, compared: Compared) -> int:
    """(set, prompt) rows on n prompts to evaluate."""
    return _judged(n, compared) + _knocked(job, n, compared)


def _judged(n: int, compared: Compared) -> int:
    return n * (ANCHORS + len(LABELS) * _HEADS * n_sets(compared=compared.with_reference))


def _knocked(job: Job, n: int, compared: Compared) -> int:
    broken = min(n, job.config.knockout.by_prompt)
    return len(LABELS) * arms(compared=compared.with_reference).planned_rows(broken)


def count_emergence(job: Job, *, compared: Compared) -> Cost:
    """(set, prompt) rows; of the knockouts only `=` is run, and about half the layers."""
    evaluate = n_prompts(job)[1]
    if compared.shared is not None:
        shared = compared.shared.table("prompts")
        sizes = [evaluate, int((shared["set"] == "evaluate").sum())]
    else:
        sizes = [evaluate]
    judged = sum(_judged(n, compared) for n in sizes)
    knocked = sum(_knocked(job, n, compared) for n in sizes)
    share = 0.5 if job.model.info.n_layers > 1 else 1.0
    return Cost(judged + knocked, judged + knocked * share / job.encoder.length)


def emergence(compared: Compared) -> Stage:
    """The stage, for a task with this to compare with."""
    return Stage(
        "emergence",
        ("model", "prompts", "circuit", "probe", "neurons", "heuristics", "knockout"),
        ("prompts", "means", "faithfulness", "neurons", "heuristics"),
        ("prompts.parquet", "means.safetensors", "circuit.parquet", "neurons.parquet", "heuristics.parquet"),
        partial(emergence_stage, compared=compared),
        partial(count_emergence, compared=compared),
        like=("neurons", "knockout"),
    )
