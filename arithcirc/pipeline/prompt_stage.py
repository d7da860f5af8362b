"""Stage `prompts`: what the model answers, which prompts are used, and their counterfactuals."""

import pandas as pd

from arithcirc.arithmetic.operators import Operator, Prompts, fitting_prompts
from arithcirc.arithmetic.pairs import (
    Counterfactual,
    Pairs,
    counterfactuals,
    legal_pool,
    split_discover_evaluate,
)
from arithcirc.errors import PromptError
from arithcirc.measure.answers import Answers, find_correct, predictions
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.stage import Cost

AT_LEAST_TRIED = 2_000
"""Prompts tried per operator, where there are as many, so that an accuracy has a standard error below .012."""
CHANGES = (Counterfactual.ANY, Counterfactual.OP1, Counterfactual.OP2, Counterfactual.OPERATOR)


def choose_prompts(job: Job) -> list[str]:
    """Tables `accuracy` and `prompts`: what the model answers, which prompts are used, and their counterfactuals."""
    frames, accuracy = (_given_prompts if job.pairs is not None else _sampled_prompts)(job)
    tables = [job.run.write_table("accuracy", pd.DataFrame(accuracy))]
    if not frames:
        reasons = "; ".join(f"{row['operator']}: {row['skipped']}" for row in accuracy)
        raise PromptError(
            f"{job.model.info.name} leaves no prompt to analyse ({reasons}): try easier --operands, another model, or "
            "--pairs FILE, whose prompts are used even where the answer is wrong"
        )
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
            frames.append(pair_rows(pairs, name, change, seed))
    return pd.concat(frames, ignore_index=True)


def pair_rows(pairs: Pairs, name: str, change: Counterfactual, seed: int) -> pd.DataFrame:
    """Rows of the table `prompts`."""
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
    frames = [pair_rows(pairs[sets == name], name, Counterfactual.ANY, 0) for name in ("discover", "evaluate")]
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


def rows_of(prompts: pd.DataFrame, symbol: str, name: str) -> pd.DataFrame:
    """One operator's prompts of a set, each with its first random counterfactual."""
    mine = prompts[(prompts["operator"] == symbol) & (prompts["set"] == name)]
    return mine[(mine["change"] == Counterfactual.ANY) & (mine["seed"] == 0)]


# -- what it costs -----------------------------------------------------------------------------------------------------


def count_prompts(job: Job) -> Cost:
    """Prompts tried."""
    if job.pairs is not None:
        return Cost(len(job.pairs), float(len(job.pairs)))
    cfg = job.config.prompts
    most = max(AT_LEAST_TRIED, cfg.n_discover + cfg.n_evaluate)
    n = sum(min(len(legal), most) for legal in legal_by_operator(job).values())
    return Cost(n, float(n))


def n_prompts(job: Job) -> tuple[int, int]:
    """Prompts of all operators to discover and to evaluate: as chosen, else as given, else as asked."""
    if job.run.finished("prompts"):
        table = job.run.table("prompts")
        used = table[(table["change"] == Counterfactual.ANY) & (table["seed"] == 0)]
        return int((used["set"] == "discover").sum()), int((used["set"] == "evaluate").sum())
    if job.pairs is None or job.pair_sets is None:
        cfg = job.config.prompts
        wanted = cfg.n_discover + cfg.n_evaluate
        shares = [min(1.0, len(legal) / wanted) for legal in legal_by_operator(job).values()]
        return round(sum(shares) * cfg.n_discover), round(sum(shares) * cfg.n_evaluate)
    discover = int((job.pair_sets == "discover").sum())
    return discover, len(job.pairs) - discover or discover


def n_pairs(job: Job) -> int:
    """Prompts to discover, counted once for each of their counterfactuals."""
    if job.run.finished("prompts"):
        return int((job.run.table("prompts")["set"] == "discover").sum())
    draws = 1 if job.pairs is not None else job.config.prompts.counterfactual_seeds + len(CHANGES) - 1
    return draws * n_prompts(job)[0]
