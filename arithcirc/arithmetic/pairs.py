"""Choosing prompts and their counterfactuals.

Circuit discovery uses prompts that the model answers correctly, with as many distinct answers as possible, and for each
a counterfactual prompt with a different result (spec section 1). `any` draws it from the pool of all operators, as the
paper does; `op1`, `op2` and `operator` change only that part, so the effect says which part a component carries.
Everything is seeded, and a prompt's counterfactual depends on nothing but the seed and the prompts.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import (
    OPERATORS,
    OperandRange,
    Operator,
    Prompts,
    concatenate,
    fitting_prompts,
    operator,
)
from arithcirc.errors import PromptError

PAIR_COLUMNS = ("operator", "prompt", "answer", "counterfactual", "counterfactual_answer")


class Counterfactual(StrEnum):
    """What differs between a prompt and its counterfactual."""

    ANY = "any"
    OP1 = "op1"
    OP2 = "op2"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Pairs:
    """Prompts and their counterfactuals, row by row."""

    clean: Prompts
    counterfactual: Prompts

    def __post_init__(self) -> None:
        if len(self.clean) != len(self.counterfactual):
            raise PromptError(
                f"{len(self.clean)} prompts have {len(self.counterfactual)} counterfactuals: give one each"
            )

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: np.ndarray | slice) -> "Pairs":
        return Pairs(self.clean[index], self.counterfactual[index])

    def frame(self) -> pd.DataFrame:
        """Table with the columns of a pairs file."""
        return pd.DataFrame(
            {
                "operator": self.clean.symbols,
                "prompt": self.clean.texts(),
                "answer": self.clean.answer,
                "counterfactual": self.counterfactual.texts(),
                "counterfactual_answer": self.counterfactual.answer,
            }
        )


def select_distinct(prompts: Prompts, n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of n prompts with as many distinct answers as possible (all of them when fewer exist), shuffled.

    Answers are dealt in rounds: every answer gives one prompt before any gives its second.
    """
    order = rng.permutation(len(prompts))
    answers = prompts.answer[order]
    by_answer = np.argsort(answers, kind="stable")
    sorted_answers = answers[by_answer]
    starts = np.flatnonzero(np.r_[True, sorted_answers[1:] != sorted_answers[:-1]]) if len(order) else np.empty(0, int)
    turn = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    dealt = by_answer[np.lexsort((rng.random(len(order)), turn))]
    chosen: np.ndarray = order[dealt[:n]]
    return chosen


def split_discover_evaluate(
    correct: Prompts, n_discover: int, n_evaluate: int, rng: np.random.Generator
) -> tuple[Prompts, Prompts]:
    """Two disjoint sets of correct prompts; when too few exist both shrink in proportion, to one prompt at least."""
    chosen = select_distinct(correct, n_discover + n_evaluate, rng)
    share = round(len(chosen) * n_discover / (n_discover + n_evaluate))
    first = max(1, min(share, len(chosen) - 1))
    picked = rng.permutation(chosen)
    return correct[picked[:first]], correct[picked[first:]]


def counterfactuals(
    prompts: Prompts, pool: Prompts, rng: np.random.Generator, *, change: Counterfactual = Counterfactual.ANY
) -> tuple[Prompts, Bool[np.ndarray, "prompt"]]:
    """A counterfactual with a different result for each prompt, and which prompts have one.

    `any` draws from the whole pool; the others from the pool's prompts that share everything but the named part. A
    prompt for which no such counterfactual exists is marked False and keeps itself as a placeholder.
    """
    codes = {s: i for i, s in enumerate(sorted(set(pool.symbols) | set(prompts.symbols)))}
    pool_symbol = np.array([codes[s] for s in pool.symbols])
    candidates = np.arange(len(pool))
    chosen, found = np.full(len(prompts), -1), np.zeros(len(prompts), dtype=bool)
    for i in range(len(prompts)):
        symbol = codes[prompts.symbols[i]]
        if change is Counterfactual.ANY:
            chosen[i] = _draw_different(candidates, pool.answer, int(prompts.answer[i]), rng)
        else:
            keep = pool.answer != prompts.answer[i]
            for part, column, value in (
                (Counterfactual.OP1, pool.op1, prompts.op1[i]),
                (Counterfactual.OP2, pool.op2, prompts.op2[i]),
                (Counterfactual.OPERATOR, pool_symbol, symbol),
            ):
                keep &= (column != value) if part is change else (column == value)
            matching = candidates[keep]
            chosen[i] = rng.choice(matching) if len(matching) else -1
        found[i] = chosen[i] >= 0
    drawn = pool[np.maximum(chosen, 0)]
    merged = concatenate([drawn, prompts])
    rows = np.where(found, np.arange(len(prompts)), np.arange(len(prompts)) + len(prompts))
    return merged[rows], found


def _draw_different(candidates: np.ndarray, answers: np.ndarray, answer: int, rng: np.random.Generator) -> int:
    """One candidate whose answer differs, by rejection, then exactly; -1 when there is none."""
    for _ in range(20):
        drawn = int(rng.choice(candidates))
        if answers[drawn] != answer:
            return drawn
    different = candidates[answers != answer]
    return int(rng.choice(different)) if len(different) else -1


def legal_pool(operands: OperandRange, limit: int, operators: tuple[Operator, ...] = OPERATORS) -> Prompts:
    """All legal prompts of the operators, of which some may have none: the pool counterfactuals come from."""
    return concatenate(fitting_prompts(o, operands, limit) for o in operators)


def read_pairs(path: Path, *, format: PromptFormat | None = None) -> tuple[Pairs, np.ndarray]:
    """Pairs, and each row's set, from a CSV, JSON-lines or Parquet file with the columns of PAIR_COLUMNS.

    An optional column `set` says `discover` or `evaluate`; without it every row is `discover`.

    Prompts are written in the plain form `87+3=`, or in the given format. Rows are taken as they are, also where the
    counterfactual has the same answer. Raises PromptError naming the row at fault.
    """
    table = _read_table(path)
    missing = [c for c in PAIR_COLUMNS if c not in table.columns]
    if missing:
        raise PromptError(f"{path.name} lacks the column(s) {', '.join(missing)}: it needs {', '.join(PAIR_COLUMNS)}")
    if table.empty:
        raise PromptError(f"{path.name} has no rows")
    clean = _parse_column(table, "prompt", "answer", path, format or PromptFormat())
    other = _parse_column(table, "counterfactual", "counterfactual_answer", path, format or PromptFormat())
    for row, (written, symbol) in enumerate(zip(table["operator"], clean.symbols, strict=True), start=1):
        try:
            same = operator(str(written)).symbol == symbol
        except PromptError as error:
            raise PromptError(f"{path.name} row {row}: {error}") from None
        if not same:
            raise PromptError(
                f"{path.name} row {row}: operator {written!r} is not the one in {table['prompt'].iloc[row - 1]!r}"
            )
    sets = table["set"].astype(str).to_numpy() if "set" in table.columns else np.full(len(table), "discover")
    for row, name in enumerate(sets, start=1):
        if name not in ("discover", "evaluate"):
            raise PromptError(f"{path.name} row {row}: set {name!r} must be discover or evaluate")
    for symbol in dict.fromkeys(clean.symbols.tolist()):
        if absent := {"discover", *sets.tolist()} - set(sets[clean.symbols == symbol].tolist()):
            raise PromptError(f"{path.name} has no {min(absent)} rows for {symbol}: each operator needs some")
    return Pairs(clean, other), sets


def _read_table(path: Path) -> pd.DataFrame:
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    suffix = path.suffix.lower()
    if not path.is_file():
        raise PromptError(f"pairs file {path} does not exist")
    try:
        if suffix in {".jsonl", ".ndjson", ".json"}:
            return pd.read_json(path, lines=True)
        if suffix in readers:
            return readers[suffix](path)  # type: ignore[no-any-return,operator]
    except (ValueError, OSError) as error:
        raise PromptError(f"pairs file {path.name} cannot be read: {error}") from None
    raise PromptError(f"pairs file {path.name}: use .csv, .jsonl or .parquet, not {suffix or 'no suffix'}")


def _parse_column(table: pd.DataFrame, text: str, answer: str, path: Path, fmt: PromptFormat) -> Prompts:
    """Columns of prompts parsed back to numbers, in the plain form or the given format."""

    body = re.escape(fmt.body)
    for slot, pattern in (("op1", r"(?P<op1>\d+)"), ("operator", r"(?P<operator>[-+*/])"), ("op2", r"(?P<op2>\d+)")):
        body = body.replace(re.escape("{" + slot + "}"), pattern)
    patterns = [re.compile(re.escape(fmt.prefix) + body), re.compile(r"(?P<op1>\d+)(?P<operator>[-+*/])(?P<op2>\d+)=")]
    rows = []
    for number, (prompt, value) in enumerate(zip(table[text], table[answer], strict=True), start=1):
        match = next((m for p in patterns if (m := p.fullmatch(str(prompt).rstrip(" ")))), None)
        if match is None:
            raise PromptError(f"{path.name} row {number}: {prompt!r} is not of the form op1∘op2=, as 226-68=")
        if not str(value).strip().removesuffix(".0").isdecimal():
            raise PromptError(f"{path.name} row {number}: the {answer} {value!r} is not a whole number >= 0")
        rows.append((match["operator"], int(match["op1"]), int(match["op2"]), int(float(value))))
    symbols, op1, op2, answers = zip(*rows, strict=True)
    return Prompts(np.array(symbols), np.array(op1), np.array(op2), np.array(answers))
