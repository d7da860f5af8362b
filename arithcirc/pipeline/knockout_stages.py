"""Stages `knockout` and `failures`: do the labels say what the model needs?

Both read the labels of the table `heuristics` (the matched ones, or the significant ones only) and what the model
answers to every legal prompt from the table `answers`; every neuron of `heuristics` counts as important, as it was
either ranked so or given by the user.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from arithcirc.arithmetic.operators import Prompts, operator
from arithcirc.heuristics import by_heuristic, by_prompt
from arithcirc.heuristics import failures as failing
from arithcirc.heuristics.arms import DONORS, replacements
from arithcirc.heuristics.by_heuristic import knock_out_by_heuristic
from arithcirc.heuristics.by_prompt import knock_out_by_prompt
from arithcirc.heuristics.labelled import Labelled
from arithcirc.heuristics.verdict import bag_of_heuristics
from arithcirc.pipeline.circuit_stages import load_means
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.prompt_stage import legal_by_operator, rows_of, used_operators
from arithcirc.pipeline.stage import Cost

GUESSED_HEURISTICS = 250
"""Labelled heuristics per operator assumed in an estimate made before the labels exist."""


Of = tuple[str, Labelled, Int[np.ndarray, "_"]]
"""An operator's symbol, its labels, and the number given to each legal prompt (-1: no number)."""


def labels_of(job: Job) -> Iterator[Of]:
    """The labels of each operator that has prompts, read from the run."""
    heuristics, answers = job.run.table("heuristics"), job.run.table("answers")
    for symbol in used_operators(job.run.table("prompts")):
        mine, told = (table[table["operator"] == symbol] for table in (heuristics, answers))
        prompts = Prompts(*(told[c].to_numpy() for c in ("operator", "op1", "op2", "answer")))
        counted = mine[mine[job.config.knockout.labels].astype(bool)]
        labels = Labelled.of(counted, mine, prompts, told["correct"].to_numpy(dtype=bool))
        yield symbol, labels, told["given"].to_numpy(dtype=np.int64)


# -- knockout ---------------------------------------------------------------------------------------------------------


def knockout_stage(job: Job) -> list[str]:
    """Tables `knockouts_by_heuristic`, `knockouts_by_prompt` and the verdict, `bag_of_heuristics`."""
    means, cfg = load_means(job), job.config.knockout
    labelled = list(labels_of(job))
    advance = job.counter("knockout", _knockout_rows(job, labelled))
    frames: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("knockouts_by_heuristic", "knockouts_by_prompt", "bag_of_heuristics")
    }
    for symbol, labels, _ in labelled:
        name = operator(symbol).name
        rng = job.rng("knockout", name)
        replaced = replacements(job.model, job.encoder, labels.prompts, means, rng)
        heuristic = knock_out_by_heuristic(
            job.model, job.encoder, labels, replaced, job.rng("knockout by heuristic", name),
            n=cfg.prompts, batch_size=job.batch_size, progress=advance,
        )  # fmt: skip
        prompt = knock_out_by_prompt(
            job.model, job.encoder, labels, replaced, prompts_to_break(job, symbol, labels),
            job.rng("knockout by prompt", name), batch_size=job.batch_size, progress=advance,
        )  # fmt: skip
        judged = bag_of_heuristics(heuristic, prompt)
        for table, frame in zip(frames.values(), (heuristic, prompt, judged), strict=True):
            frame.insert(0, "operator", symbol)
            table.append(frame)
    return [job.run.write_table(name, _joined(parts)) for name, parts in frames.items()]


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table; operators without rows have no say in its columns' types."""
    return pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)


def prompts_to_break(job: Job, symbol: str, labels: Labelled) -> Int[np.ndarray, "prompt"]:
    """Correct prompts of the by-prompt sweep: those to evaluate, on which no neuron was ranked, then random others.

    Prompts to discover come last, as the neurons were chosen on them.
    """
    table = job.run.table("prompts")
    order = job.rng("knockout prompts", operator(symbol).name).permutation(len(labels.prompts))
    place = {
        pair: i for i, pair in enumerate(zip(labels.prompts.op1.tolist(), labels.prompts.op2.tolist(), strict=True))
    }
    sets = {}
    for name in ("evaluate", "discover"):
        rows = rows_of(table, symbol, name)
        found = [place.get(pair) for pair in zip(rows["op1"].tolist(), rows["op2"].tolist(), strict=True)]
        sets[name] = [i for i in found if i is not None]
    others = order[~np.isin(order, sets["evaluate"] + sets["discover"])]
    candidates = np.array([*sets["evaluate"], *others, *sets["discover"]], dtype=np.int64)
    first = candidates[np.sort(np.unique(candidates, return_index=True)[1])]
    chosen: np.ndarray = first[labels.correct[first]][: job.config.knockout.by_prompt]
    return chosen


def _knockout_rows(job: Job, labelled: Sequence[Of]) -> int:
    cfg = job.config.knockout
    rows = sum(by_heuristic.planned_rows(labels, cfg.prompts) for _, labels, _ in labelled)
    return rows + sum(by_prompt.planned_rows(min(cfg.by_prompt, int(x.correct.sum()))) for _, x, _ in labelled)


def count_knockout(job: Job) -> Cost:
    """(prompt, set of neurons) rows, of which only `=` is run; before the labels exist, a guess at how many there are.

    Cost: about half the layers of one token for each row, and a whole forward for each prompt recorded.
    """
    cfg, info = job.config.knockout, job.model.info
    if job.run.finished("heuristics") and job.run.finished("prompts"):
        labelled = list(labels_of(job))
        rows = _knockout_rows(job, labelled)
        recorded = sum(len(labels.prompts) for _, labels, _ in labelled)
    else:
        legal = [len(p) for p in legal_by_operator(job).values()]
        each = len(by_heuristic.ARMS) * GUESSED_HEURISTICS
        rows = sum(each * 2 * min(cfg.prompts, n) + by_prompt.planned_rows(min(cfg.by_prompt, n)) for n in legal)
        recorded = sum(legal)
    recorded = min(recorded, rows // 10) + DONORS * len(job.operators)
    share = 0.5 if info.n_layers > 1 else 1.0
    return Cost(rows, rows * share / job.encoder.length + recorded)


# -- failures ---------------------------------------------------------------------------------------------------------


def failures_stage(job: Job) -> list[str]:
    """Tables `failures` and `failure_tests`."""
    n = job.config.knockout.failures
    labelled = list(labels_of(job))
    advance = job.counter("failures", sum(failing.planned_rows(labels, n) for _, labels, _ in labelled))
    prompts: list[pd.DataFrame] = []
    tests: list[pd.DataFrame] = []
    for symbol, labels, given in labelled:
        found = failing.failures(
            job.model, job.encoder, labels, given, job.rng("failures", operator(symbol).name),
            n=n, batch_size=job.batch_size,
        )  # fmt: skip
        for frames, frame in ((prompts, found.prompts), (tests, found.tests)):
            frame.insert(0, "operator", symbol)
            frames.append(frame)
        advance(len(found.prompts))
    tables = {"failures": prompts, "failure_tests": tests}
    return [job.run.write_table(name, _joined(parts)) for name, parts in tables.items()]


def count_failures(job: Job) -> Cost:
    """Prompts compared, each one forward; before the answers exist, as many as were asked for."""
    n = job.config.knockout.failures
    if job.run.finished("heuristics") and job.run.finished("prompts"):
        rows = sum(failing.planned_rows(labels, n) for _, labels, _ in labels_of(job))
    else:
        rows = sum(min(2 * n, len(legal)) for legal in legal_by_operator(job).values())
    return Cost(rows, float(rows))
