"""Where a document states what a query needs, as pieces of its text: plain, a needed statement, the answer, a name.

A need is an equation in the corpus' normal form (`4+3=7`), which is found however it is spaced and with any sign for
times and minus, or a fact (`fact:<entity>:<relation>:<value>`), which is found as its value in a text that also names
its entity; a value without its entity is marked as the answer only, since it may stand there for another reason. Any
other need is found as it is written. For a mechanism, equations of its operator are marked of which its heuristic
holds. Pieces are text and a mark, never markup: pages escape them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arithcirc.viz import masks

STRONG, ANSWER, NAME, RULE, SAID = "need", "answer", "name", "rule", "said"
"""Marks: a needed statement, the answer by itself, a fact's entity, an equation a heuristic holds of, a wrong word."""
MARKS = {
    STRONG: "a statement that the query needs", ANSWER: "the answer, by itself", NAME: "what the question is about",
    RULE: "an equation of which the heuristic holds", SAID: "what the model says wrongly",
}  # fmt: skip
_SIGNS = {"*": r"[*×x·]", "/": r"[/÷:]", "-": r"[-−–]"}
_PIECES = re.compile(r"\d+(?:\.\d+)?|\w+|\S")
LISTED, SHORT = 6, 20
"""Lines, and characters a line, from which and up to which a text is a list."""
MOST = 4_000
"""Marks in one text beyond which the rest stays plain."""


@dataclass(frozen=True)
class Piece:
    """A part of a text; `mark` is one of MARKS, or empty."""

    text: str
    mark: str = ""


def pieces(text: str, needs: Iterable[str], answer: str = "", *, said: str = "") -> list[Piece]:
    """The text in order, cut where marks begin and end. Joined, the pieces are the text.

    `said` is the model's own completion where it is wrong: its last word is marked too.
    """
    marks = [""] * len(text)
    answers, names, strong = [last_word(answer)], list[str](), list[str]()
    for need in needs:
        fact = _fact(need)
        if fact is None:
            strong.append(need)
            continue
        entity, value = fact
        if any(_places(text, entity)):
            names.append(entity)
            strong.append(value)
        else:
            answers.append(value)
    wrong = [last_word(said)] if last_word(said) != last_word(answer) else []
    for mark, wanted in (
        (NAME, names),
        (SAID, wrong),
        (ANSWER, answers),
        (STRONG, strong),
    ):  # the strongest last: it stays
        for word in dict.fromkeys(wanted):
            for start, end in _places(text, word):
                marks[start:end] = [mark] * (end - start)
    return _cut(text, marks)


def rule_pieces(text: str, heuristic: str, operator: str) -> list[Piece]:
    """The text with the equations `a operator b` marked of which the heuristic holds, if it is known."""
    marks = [""] * len(text)
    equation = re.compile(
        rf"(?<![\w.])(\d{{1,6}})\s*{_SIGNS.get(operator, re.escape(operator))}\s*(\d{{1,6}})(?![\w.])"
    )
    for i, hit in enumerate(equation.finditer(text)):
        if i >= MOST:
            break
        if masks.holds(heuristic, operator, int(hit[1]), int(hit[2])):
            marks[hit.start() : hit.end()] = [RULE] * (hit.end() - hit.start())
    return _cut(text, marks)


def shows(need: str) -> str:
    """A need as a page names it: `4+3=7`, `capital of Zoran: Melvu`."""
    fact = need.split(":")
    if fact[0] == "fact" and len(fact) >= 4:
        return f"{fact[2].replace('_', ' ')} of {fact[1]}: {':'.join(fact[3:])}"
    return need


def last_word(answer: str) -> str:
    """The result of an answer: its last word or number, without the full stop."""
    words = answer.split("=")[-1].split()
    return words[-1].strip(".,;:!?") if words else ""


def _fact(need: str) -> tuple[str, str] | None:
    parts = need.split(":")
    return (parts[1], ":".join(parts[3:])) if parts[0] == "fact" and len(parts) >= 4 else None


def _places(text: str, wanted: str) -> list[tuple[int, int]]:
    """Where it stands in the text, however it is spaced, not inside a longer word or number."""
    parts = _PIECES.findall(wanted)
    if not parts:
        return []
    body = r"\s*".join(_SIGNS.get(part, re.escape(part)) for part in parts)
    edges = (r"(?<![\w.])" if parts[0][0].isalnum() else ""), (r"(?!\w|\.\d)" if parts[-1][-1].isalnum() else "")
    flags = re.IGNORECASE if parts[0][0].isalpha() else 0
    found = []
    for hit in re.finditer(edges[0] + body + edges[1], text, flags):
        found.append(hit.span())
        if len(found) >= MOST:
            break
    return found


def _cut(text: str, marks: Sequence[str]) -> list[Piece]:
    found: list[Piece] = []
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or marks[at] != marks[start]:
            found.append(Piece(text[start:at], marks[start]))
            start = at
    return found


def short_lines(found: Sequence[Piece]) -> bool:
    """The text is a list of many short lines after its first, which pages set in columns."""
    lines = "".join(piece.text for piece in found).splitlines()
    return len(lines) >= LISTED and max(map(len, lines[1:])) <= SHORT


def excerpt(found: Sequence[Piece], *, longest: int = 480, around: int = 120) -> list[Piece]:
    """A long text cut to its beginning and to what stands around its marks; `…` where something is left out."""
    total = sum(len(piece.text) for piece in found)
    if total <= longest:
        return list(found)
    keep = [False] * total
    keep[: longest // 3] = [True] * (longest // 3)
    at, left = 0, longest - longest // 3
    strong = next((m for m in (STRONG, RULE, SAID, ANSWER) if any(p.mark == m for p in found)), STRONG)
    for piece in found:
        if piece.mark == strong and left > 0:
            start, end = max(0, at - around), min(total, at + len(piece.text) + around)
            left -= end - start - sum(keep[start:end])
            keep[start:end] = [True] * (end - start)
        at += len(piece.text)
    if left > 0:
        more = min(total, longest // 3 + left)
        keep[:more] = [True] * more
    return _kept(found, keep)


def _kept(found: Sequence[Piece], keep: Sequence[bool]) -> list[Piece]:
    shown: list[Piece] = []
    at, gap = 0, False
    for piece in found:
        flags = keep[at : at + len(piece.text)]
        at += len(piece.text)
        text = ""
        for character, kept in zip(piece.text, flags, strict=True):
            if kept:
                text += f" … {character}" if gap else character
            gap = not kept
        if text:
            shown.append(Piece(text, piece.mark))
    return [*shown, Piece(" …")] if gap else shown
