"""Answers as rows of tables: one row for each evaluation set, and one for each length of path in it.

`cells` has the accuracy and the hard balanced accuracy (shortcuts.py) with 95 % intervals clustered by graph. A model
that says neither Yes nor No is wrong. The shortcuts answer the same questions and stand in the same table, with
`kind` "shortcut" and no mix, positions or seed. `hops` splits accuracy by the shortest path from cause to effect; 0 is
No.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from arithcirc.axioms.asking import BATCH_TOKENS, AxiomModel, ask
from arithcirc.axioms.evaluation import Cell
from arithcirc.axioms.graphs import Question
from arithcirc.axioms.shortcuts import HARD_HOPS, SHORTCUTS, score
from arithcirc.axioms.study.questions import Sets, prompt_tokens
from arithcirc.errors import RequestError
from arithcirc.training.positions import check_length

MODEL, SHORTCUT = "model", "shortcut"
CACHED_TOKENS = 4096
"""Tokens read at once on a processor, whose caches hold the small model's activations then: 1.7 times as fast."""
WHO = ("model", "mix", "positions", "seed", "asked_seed", "counted", "kind")
"""Columns that say who answered, before those of `CELLS` and `HOPS`."""
CELLS = (
    "family", "nodes", "factor", "questions", "graphs", "accuracy", "low", "high",
    "hard", "hard_low", "hard_high", "hard_questions", "said_yes", "neither",
)  # fmt: skip
HOPS = ("family", "nodes", "factor", "hops", "questions", "accuracy")
_TYPES = {"seed": "Int64", "asked_seed": "Int64", "factor": "Float64", "nodes": "int64"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """Rows of `cells` and `hops` without the columns of WHO, and names of sets that the model has no positions for."""

    cells: tuple[Row, ...]
    hops: tuple[Row, ...]
    left_out: tuple[str, ...] = ()


def ask_sets(model: AxiomModel, sets: Sets, *, progress: Callable[[int, int], None] | None = None) -> Answered:
    """Ask a model every set, all of them batched together by length.

    Sets beyond its table of positions are left out, by name. Raises as `ask`, and RequestError when none is left.
    """
    asked = [(cell, questions) for cell, questions in sets if _fits(model, questions)]
    left_out = tuple(cell.name for cell, _ in sets if cell not in {known for known, _ in asked})
    if not asked:
        check_length(model.network.config, min(max(map(prompt_tokens, questions)) for _, questions in sets))
    every = [question for _, questions in asked for question in questions]
    done = 0

    def more(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, len(every))

    tokens = CACHED_TOKENS if model.network.device.type == "cpu" else BATCH_TOKENS
    answers = ask(model, every, batch_tokens=tokens, progress=more)
    yes, no = answers.said == model.known["Yes"], answers.said == model.known["No"]
    return _answered(asked, answers.right, yes, ~(yes | no), left_out)


def guess_sets(sets: Sets) -> dict[str, Answered]:
    """What each shortcut answers, by its name."""
    every = [question for _, questions in sets for question in questions]
    labels = np.array([question.label for question in every], dtype=bool)
    found = {}
    for name, guess in SHORTCUTS.items():
        yes = np.array([guess(question) for question in every], dtype=bool)
        found[name] = _answered(sets, yes == labels, yes, np.zeros(len(every), dtype=bool), ())
    return found


def table(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table with the columns of WHO and these, numbers that may be missing as nullable ones."""
    names = [*WHO, *columns]
    made = pd.DataFrame(list(rows), columns=names)
    return made.astype({name: kind for name, kind in _TYPES.items() if name in names})


def told(rows: Sequence[Row], who: Mapping[str, Any]) -> list[Row]:
    """Rows with the columns that say who answered."""
    return [dict(who) | row for row in rows]


def _answered(
    asked: Sequence[tuple[Cell, tuple[Question, ...]]],
    right: Bool[np.ndarray, "question"],
    yes: Bool[np.ndarray, "question"],
    neither: Bool[np.ndarray, "question"],
    left_out: tuple[str, ...],
) -> Answered:
    """Split the answers to all sets, one after the other, into rows."""
    cells: list[Row] = []
    hops: list[Row] = []
    start = 0
    for cell, questions in asked:
        part = slice(start, start + len(questions))
        start += len(questions)
        place = {"family": cell.family, "nodes": cell.nodes, "factor": cell.factor}
        cells.append(place | _cell(questions, right[part], yes[part], neither[part]))
        hops += [place | row for row in _by_hops(questions, right[part])]
    return Answered(tuple(cells), tuple(hops), left_out)


def _cell(
    questions: Sequence[Question],
    right: Bool[np.ndarray, "question"],
    yes: Bool[np.ndarray, "question"],
    neither: Bool[np.ndarray, "question"],
) -> Row:
    """One set's accuracies; what is neither Yes nor No counts as the wrong answer."""
    scored = score(questions, [q.label if good else not q.label for q, good in zip(questions, right, strict=True)])
    plain, hard = scored.accuracy, scored.hard
    return {
        "questions": plain.questions,
        "graphs": plain.graphs,
        "accuracy": plain.value,
        "low": plain.low,
        "high": plain.high,
        "hard": hard.value if hard else np.nan,
        "hard_low": hard.low if hard else np.nan,
        "hard_high": hard.high if hard else np.nan,
        "hard_questions": sum(not q.label or q.hops >= HARD_HOPS for q in questions),
        "said_yes": float(yes.mean()),
        "neither": float(neither.mean()),
    }


def _by_hops(questions: Sequence[Question], right: Bool[np.ndarray, "question"]) -> list[Row]:
    hops = np.array([question.hops for question in questions])
    return [
        {"hops": int(n), "questions": int((hops == n).sum()), "accuracy": float(right[hops == n].mean())}
        for n in np.unique(hops)
    ]


def _fits(model: AxiomModel, questions: Sequence[Question]) -> bool:
    """Whether the model has positions for a set's longest question."""
    try:
        check_length(model.network.config, max(map(prompt_tokens, questions)))
    except RequestError:
        return False
    return True
