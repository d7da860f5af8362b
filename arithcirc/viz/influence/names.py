"""What methods, groups, kinds and relations are called on the pages, in which order, and their colours.

The words on the left are those of the study's tables. What a table holds beside them is shown by its own word.
"""

import html
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.viz.theme import GREY, number

METHODS = {
    "ekfac_normed": ("EK-FAC, normed", "#2f7ebc", "circle"),
    "ekfac": ("EK-FAC, raw", "#79b4e3", "circle-open"),
    "cosine": ("gradient cosine", "#d9731a", "square"),
    "dot": ("gradient dot product", "#b85f10", "square-open"),
    "bm25": ("BM25", "#1b9e77", "triangle-up"),
    "random": ("random", GREY, "x"),
}
"""Name, colour, marker."""
METHOD_HINTS = {
    "ekfac_normed": "EK-FAC influence divided by the norm of the document's gradient: the paper's ranking",
    "ekfac": "EK-FAC influence as it is: documents with large gradients come first",
    "cosine": "cosine between the gradients of query and document, without curvature",
    "dot": "dot product of the gradients of query and document, without curvature",
    "bm25": "overlap of words, weighted by their rarity; the model is not asked",
    "random": "numbers drawn at random: what no relation looks like",
}
GROUPS = {
    "reasoning": ("reasoning", "#2f7ebc", "circle"),
    "factual": ("factual", "#d9731a", "square"),
    "control_reasoning": ("control, reasoning", "#1b9e77", "circle-open"),
    "control_factual": ("control, factual", "#b267a8", "square-open"),
}
KINDS = {
    "equation": ("equation", "#2f7ebc"),
    "procedure": ("worked procedure", "#1b9e77"),
    "code": ("code", "#b267a8"),
    "fact": ("fact", "#d9731a"),
    "distractor": ("distractor", GREY),
}
ANSWERED = {"right": "answered right", "wrong": "answered wrong"}
"""In tables of groups, which also have a row `all`."""
SYMBOLS = {"right": "circle", "wrong": "circle-open"}
ENDS = {"top": "top", "bottom": "bottom"}
_STEP = "documents that a training step on would make the completion "
END_HINTS = {
    "": {
        "top": "documents that make the completion likelier",
        "bottom": "documents that make the completion less likely",
    },
    "cosine": {"top": f"{_STEP}likelier", "bottom": f"{_STEP}less likely"},
    "dot": {"top": f"{_STEP}likelier", "bottom": f"{_STEP}less likely"},
    "bm25": {
        "top": "documents that share the most words with the query; of equal scores the earlier in the corpus first",
        "bottom": "documents that share the fewest words with the query, often none: of equal scores the earlier in "
        "the corpus first",
    },
    "random": {
        "top": "the order has no meaning, it is there to compare",
        "bottom": "the order has no meaning, it is there to compare",
    },
}
"""What stands at each end of a query's ranking, by method; those that are not named estimate influence."""
FINDINGS = {
    1: "Queries of one task share their documents",
    2: "Reasoning relies less on each document than facts do",
    3: "Answers stand in the top documents of facts, not of reasoning",
    4: "Documents that show the procedure rank high for reasoning",
    5: "Some sources count for more than the kinds of their documents",
    6: "Documents that obey a neuron’s heuristic rank high for it",
}
"""What the paper found, in a line each, and from 6 on questions of ours; the table of findings says what holds."""
VERDICT_TAGS = {"holds": "good", "does not hold": "miss"}


def method(name: str) -> str:
    """A method's name for people."""
    return METHODS[name][0] if name in METHODS else name.replace("_", " ")


def group(name: str) -> str:
    """A query group's name for people."""
    return GROUPS[name][0] if name in GROUPS else (name or "no group").replace("_", " ")


def kind(name: str) -> str:
    """A document kind's name for people."""
    return KINDS[name][0] if name in KINDS else (name or "of no kind").replace("_", " ")


def kind_colour(name: str) -> str:
    """A kind's fixed colour; grey for one we have no colour for."""
    return KINDS[name][1] if name in KINDS else GREY


def group_colour(name: str) -> str:
    """A group's fixed colour; grey for one we have no colour for."""
    return GROUPS[name][1] if name in GROUPS else GREY


def group_symbol(name: str) -> str:
    """A group's marker."""
    return GROUPS[name][2] if name in GROUPS else "diamond"


def in_order(found: Iterable[Any], known: Mapping[str, Any]) -> list[str]:
    """Words that occur, those we know first and in their order, others after them by name."""
    held = {str(word) for word in found if word is not None and word == word}
    return [word for word in known if word in held] + sorted(held - set(known))


def plain(text: Any, longest: int = 90) -> str:
    """Text of a corpus or a query inside a figure: nothing in it is markup, and it is cut where it is long."""
    line = " ".join(str(text).split())
    return html.escape(line if len(line) <= longest else f"{line[: longest - 1]}…", quote=False)


def score(value: Any) -> str:
    """A score of any size with three digits that count, and its sign: `+0.0123`, `−4.56e−7`."""
    if value is None or pd.isna(value):
        return "–"
    x = float(value)
    if not np.isfinite(x) or x == 0:
        return number(x, 0)
    if 1e-3 <= abs(x) < 1e4:
        text = f"{x:+.{max(0, 2 - int(np.floor(np.log10(abs(x)))))}f}"
    else:
        mantissa, _, power = f"{x:+.2e}".partition("e")
        text = f"{mantissa}e{int(power)}"
    return text.replace("-", "−")


def answered(value: Any) -> bool | None:
    """A yes-or-no of a table: None where it is not known."""
    return None if value is None or pd.isna(value) else bool(value)
