"""Rule or shortcut? What a model answers rightly against what shortcuts would, and what its neurons are needed for.

On the questions of a cell the hard accuracy (shortcuts.py) is compared with that of each shortcut and with 1/2, which
guessing has. A model beats the shortcuts there when the lower end of its interval, clustered by graph, lies above all
of them. Cells that the model has no positions for cannot tell, nor can those that a shortcut answers nearly wholly
(TELLING): sequential chains, where order of mention is always right. The trained kind is flipped chains of the longest
trained length, where the mix has flipped chains; OCC, of chains in order only, has no trained kind that can tell.

    nothing learned    chains written in order, of the longest trained length, are not answered above chance
    rule               shortcuts are beaten on every cell that can tell
    rule in part       on every one of the trained kind, and on half of the others or more
    trained kind only  on every one of the trained kind, but on fewer of the others
    shortcut in part   on some cell, but not on all of the trained kind; without a trained kind on fewer than half
    shortcut           on none

This is a statement about answers on these cells. A model may compute the rule and read it off badly, or hold many
shortcuts that together look like the rule on chains of these lengths.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from arithcirc.axioms.asking import AxiomModel, ask
from arithcirc.axioms.evaluation import Cell, evaluation_set
from arithcirc.axioms.graphs import Question
from arithcirc.axioms.mixes import find_mix
from arithcirc.axioms.names import Names
from arithcirc.axioms.recipe import question_tokens
from arithcirc.axioms.shortcuts import SHORTCUTS, score
from arithcirc.measure.intervals import wilson
from arithcirc.training.positions import TABLE_KINDS

LEARNED = "sequential"
TRAINED = "flipped"
"""Part of the verdict with chains as the training mixes have them, those that have flipped ones."""
CHANCE = 0.5
TELLING = 0.95
"""Hard accuracy of a shortcut from which on a cell cannot tell a rule from it."""
NEEDED = 0.05
"""Share of the margin that must be lost, with its whole interval, before neurons are called needed."""
KEYS = {"mention": "mention order", "stated": "literal edge", "roles": "end roles"}
"""Column of a shortcut in the table `generalisation` -> its name."""


def cells_of(nodes: int) -> dict[str, tuple[Cell, ...]]:
    """Part of the verdict -> its evaluation sets, for a model whose longest chain had so many nodes."""
    return {
        "sequential": tuple(Cell("sequential", n) for n in (nodes, *_longer(nodes))),
        "flipped": (Cell("flipped", nodes),),
        "reversal": (Cell("reversal", nodes),),
        "shuffled": (Cell("shuffled", nodes),),
        "branching": (Cell("branching", nodes + 2, 1.4), Cell("branching", 2 * nodes, 1.4)),
        "longer": tuple(Cell("flipped", n) for n in _longer(nodes)),
    }


def _longer(nodes: int) -> tuple[int, ...]:
    return tuple(nodes * part // 2 for part in (3, 4, 5))


def fits(model: AxiomModel, nodes: int, characters: int, *, factor: float | None = None) -> bool:
    """Whether prompts about so many nodes have no more tokens than the model's table of positions has rows."""
    config = model.network.config
    sentences = nodes - 1 if factor is None else int(nodes * factor + 1e-9)
    tokens = question_tokens(sentences + 1, characters)
    return getattr(config, "position_kind", None) not in TABLE_KINDS or tokens <= config.max_position_embeddings


def generalisation(
    model: AxiomModel,
    *,
    nodes: int,
    number: int,
    seed: int,
    names: Names,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Accuracies by cell beside those of the shortcuts; `progress` counts cells.

    Columns: part, questions, nodes, n, graphs, accuracy, low, high, hard, hard_low, hard_high; mention, mention_hard
    and like_mention (how often the answer is the shortcut's), and so for stated and roles (KEYS); n_against, against,
    against_low, against_high, the accuracy where order of mention is wrong, with Wilson's interval; n_misled, misled,
    misled_low, misled_high, the same where end roles is wrong, which are all No. Cells beyond the model's table of
    positions have n = 0.
    """
    rows = []
    for part, cells in cells_of(nodes).items():
        for cell in cells:
            asked: tuple[Question, ...] = ()
            if fits(model, cell.nodes, names.longest, factor=cell.factor):
                asked = evaluation_set(cell, number=number, seed=seed + 1, names=names)
            rows.append({"part": part, "questions": cell.name, "nodes": cell.nodes, **_scored(model, asked)})
            if progress is not None:
                progress(1)
    return pd.DataFrame(rows)


def _scored(model: AxiomModel, asked: Sequence[Question]) -> dict[str, float | int]:
    """One row of numbers; NaN without questions."""
    if not asked:
        return {"n": 0, "graphs": 0, **dict.fromkeys(_NUMBERS, float("nan"))}
    answers = ask(model, asked)
    labels = np.array([q.label for q in asked])
    said = np.where(answers.right, labels, ~labels)
    found = score(asked, said.tolist())
    row: dict[str, float | int] = {
        "n": len(asked),
        "graphs": found.accuracy.graphs,
        **dict.fromkeys(_NUMBERS, float("nan")),
    }
    row |= {"accuracy": found.accuracy.value, "low": found.accuracy.low, "high": found.accuracy.high}
    if found.hard is not None:
        row |= {"hard": found.hard.value, "hard_low": found.hard.low, "hard_high": found.hard.high}
    for key, name in KEYS.items():
        short = np.array([SHORTCUTS[name](q) for q in asked])
        value = score(asked, short.tolist())
        row |= {key: value.accuracy.value, f"like_{key}": float((short == said).mean())}
        if value.hard is not None:
            row[f"{key}_hard"] = value.hard.value
        if key in _WRONG:
            row |= _where(_WRONG[key], answers.right[short != labels])
    return row


def _where(column: str, right: Bool[np.ndarray, "question"]) -> dict[str, float | int]:
    """Number of answers and share of right ones with its interval; NaN of none."""
    n, low, high = len(right), *wilson(int(right.sum()), len(right))
    value = float(right.mean()) if n else float("nan")
    return {f"n_{column}": n, column: value, f"{column}_low": low, f"{column}_high": high}


_WRONG = {"mention": "against", "roles": "misled"}
"""Shortcut -> column of the accuracy where it is wrong."""
_NUMBERS = (
    *("accuracy", "low", "high", "hard", "hard_low", "hard_high"),
    *(f"{key}{hard}" for key in KEYS for hard in ("", "_hard")),
    *(f"{before}{column}{after}" for column in _WRONG.values() for before, after in
      (("n_", ""), ("", ""), ("", "_low"), ("", "_high"))),
    *(f"like_{key}" for key in KEYS),
)  # fmt: skip


def verdict(general: pd.DataFrame, knocked: pd.DataFrame, *, mix: str) -> pd.DataFrame:
    """Columns: claim, questions, value, low, high, other, holds; the last row is the verdict, in `claim`.

    `other` is what the value is compared with, `holds` is missing for cells that cannot tell. Claims: learned; beats
    shortcuts, by cell; a class's neurons are needed, by class and questions: the lower end of the share of the margin
    that is lost without them lies above what is lost without any of the random ones, and above NEEDED, as a loss that
    is surely there may still be too small to matter. `mix`: name of the training data. Raises RequestError for an
    unknown mix.
    """
    rows: list[tuple[object, ...]] = []
    first = general[general["part"] == LEARNED].iloc[0]
    learned = bool(first["low"] > CHANCE)
    rows.append(("learned", first["questions"], first["accuracy"], first["low"], first["high"], CHANCE, learned))
    trained: list[bool] = []
    others: list[bool] = []
    parts = (TRAINED,) if find_mix(mix).flipped else ()
    for row in general[general["part"] != LEARNED].to_dict("records"):
        other = max((CHANCE, *(v for v in (row[f"{key}_hard"] for key in KEYS) if v == v)))
        telling = row["hard_low"] == row["hard_low"] and other < TELLING
        holds = bool(row["hard_low"] > other) if telling else None
        rows.append(("beats shortcuts", row["questions"], row["hard"], row["hard_low"], row["hard_high"], other, holds))
        if holds is not None:
            (trained if row["part"] in parts else others).append(holds)
    for row in knocked[knocked["neurons"] > 0].to_dict("records"):
        lost, width, other = row["lost"], 1.96 * row["se"], max(row["random_lost_high"], NEEDED)
        facts = (lost, lost - width, lost + width, other, bool(lost - width > other))
        rows.append((f"neurons of {row['class']} are needed", row["questions"], *facts))
    rows.append((word(learned, trained, others), "", *[float("nan")] * 4, None))
    columns = ["claim", "questions", "value", "low", "high", "other", "holds"]
    return pd.DataFrame(rows, columns=columns).astype({"holds": "boolean"})


def word(learned: bool, trained: Sequence[bool], others: Sequence[bool]) -> str:
    """The verdict, from whether shortcuts are beaten on each cell that can tell, of the trained kind and of others."""
    if not learned:
        return "nothing learned"
    if not any((*trained, *others)):
        return "shortcut"
    if all((*trained, *others)):
        return "rule"
    half = 2 * sum(others) >= len(others)
    if trained and all(trained):
        return "rule in part" if half else "trained kind only"
    return "rule in part" if half and not trained else "shortcut in part"
