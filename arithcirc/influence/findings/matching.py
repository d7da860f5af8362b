"""Does a document state what a query needs? By the list it carries (`holds`), and by exact matching in its text.

A need is one statement:

    4+3=7                        an equation of two numbers, found as written, with or without spaces, × as *; not
                                 inside a longer sum (1+4+3=7 states something else)
    fact:Zoran:capital:Melvu     entity and value as whole words in one sentence, a question with its answer being one;
                                 the relation is not looked for, since it has several phrasings
    words:Melvu capital Zoran    of a query that lists no needs: the last word of its answer, and at least half of the
                                 words of its prompt (see `needs_of`), anywhere in the text
    anything else                the phrase itself, case and spaces aside

Exact matching is not understanding: a sentence that denies a fact matches too, and a paraphrase does not.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from arithcirc.errors import RunConflictError

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})
_SPACES = re.compile(r"[ \t]*([-+*/=])[ \t]*")
_SIGNED = re.compile(r"(?<=[^\d)\s])([ \t]+)-(?=\d)")
_BULLET = re.compile(r"(?m)^[ \t]*[-*][ \t]+")
_EQUATION = re.compile(r"(?<![\w.+\-*/)])(?=(-?\d+[-+*/]-?\d+=-?\d+)(?![\w(]|\.\d|[-+*/][\d(]))")
_ONE = re.compile(r"-?\d+[-+*/]-?\d+=-?\d+")
_SENTENCE = re.compile(r"(?<=[.!;])\s+|\n+")
_WORD = re.compile(r"\w+")
_PLAIN = frozenset(
    _WORD.findall("the a an of is are was were to in on at and or what which who how many much do does it by for")
)
FACT, WORDS = "fact:", "words:"
_SEARCHED = ("reasoning", "factual", "")
BATCH = 8192


def needs_of(group: str, prompt: str, answer: str, needs: Sequence[str]) -> tuple[str, ...]:
    """The query's needs; where it lists none and is no control, its answer's last word with the prompt's words."""
    if len(needs) or group not in _SEARCHED:
        return tuple(needs)
    words, result = [w.lower() for w in _WORD.findall(prompt)], [w.lower() for w in _WORD.findall(answer)]
    kept = [w for w in dict.fromkeys(words) if w not in _PLAIN and w not in result[-1:]]
    return (WORDS + " ".join([result[-1], *kept]),) if result else ()


def said_of(needs: Sequence[str], completion: str) -> str | None:
    """The need of a wrongly answered fact with the answer that was given: fact:Zoran:capital:Oldin. None of others."""
    words = _WORD.findall(completion or "")
    parts = needs[0].split(":") if len(needs) == 1 else []
    if len(parts) < 4 or not needs[0].startswith(FACT) or not words:
        return None
    given = ":".join([*parts[:-1], words[0]])
    return given if given != needs[0] else None


def equations(text: str) -> set[str]:
    """Equations of two numbers that a text states, without spaces: {"4+3=7"}."""
    plain = _BULLET.sub("", text.translate(_SIGNS))
    plain = _SPACES.sub(r"\1", _SIGNED.sub(r"\1~", plain)).replace("~", "-")  # of "so -4 + 3" the minus is a sign
    return set(_EQUATION.findall(plain))


@dataclass(frozen=True)
class Matcher:
    """Finds which of many needs a text states, in one pass over its words."""

    sums: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = field(default_factory=dict)
    words: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = field(default_factory=dict)
    phrases: Mapping[str, re.Pattern[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, needs: Iterable[str]) -> "Matcher":
        """A matcher of these needs."""
        sums, phrases = {}, {}
        facts: dict[str, list[tuple[str, tuple[str, ...], tuple[str, ...]]]] = {}
        words: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for need in dict.fromkeys(needs):
            parts = need.split(":")
            plain = "".join(need.translate(_SIGNS).split())
            if need.startswith(FACT) and len(parts) >= 4 and _words(parts[1]) and _words(parts[-1]):
                entity, value = _words(parts[1]), _words(parts[-1])
                facts.setdefault(entity[0], []).append((need, entity, value))
            elif need.startswith(WORDS) and len(_words(need)) > 1:
                _, first, *rest = _words(need)
                words.setdefault(first, []).append((need, tuple(rest)))
            elif _ONE.fullmatch(plain):
                sums[plain] = need
            elif plain:
                inner = r"\s*".join(re.escape(token) for token in re.findall(r"\w+|[^\w\s]", need))
                phrases[need] = re.compile(rf"(?<!\w){inner}(?!\w)", re.IGNORECASE)
        return cls(sums, _frozen(facts), _frozen(words), phrases)

    def stated(self, text: str) -> set[str]:
        """The needs that the text states."""
        found = {self.sums[one] for one in equations(text) if one in self.sums} if self.sums else set()
        if self.facts:
            for sentence in _SENTENCE.split(text):
                found |= self._facts_in(_words(sentence))
        if self.words:
            here = set(_words(text))
            for first in here & self.words.keys():
                found |= {n for n, rest in self.words[first] if 2 * sum(w in here for w in rest) >= len(rest)}
        return found | {need for need, pattern in self.phrases.items() if pattern.search(text)}

    def _facts_in(self, words: tuple[str, ...]) -> set[str]:
        joined = f" {' '.join(words)} "
        return {
            need
            for word in set(words) & self.facts.keys()
            for need, entity, value in self.facts[word]
            if f" {' '.join(entity)} " in joined and f" {' '.join(value)} " in joined
        }


@dataclass(frozen=True)
class Corpus:
    """What is known of the documents: codes of kind and source [document], and who states each need (sorted numbers).

    `listed` is False where no document lists what it holds (a corpus not made here): then only `by_text` counts.
    """

    kinds: tuple[str, ...]
    kind: np.ndarray
    sources: tuple[str, ...]
    source: np.ndarray
    by_holds: Mapping[str, np.ndarray]
    by_text: Mapping[str, np.ndarray]
    listed: bool

    @property
    def n(self) -> int:
        """Number of documents."""
        return len(self.kind)

    @property
    def ways(self) -> dict[str, Mapping[str, np.ndarray]]:
        """Ways of knowing who states a need: "holds" where documents list it, and "text"."""
        return ({"holds": self.by_holds} if self.listed else {}) | {"text": self.by_text}


def read_corpus(file: Path, needs: Iterable[str]) -> Corpus:
    """Read `documents.parquet` batch by batch, texts never all at once. Raises RunConflictError where it is damaged."""
    asked = list(dict.fromkeys(needs))
    matcher, wanted = Matcher.of(asked), set(asked)
    labels: dict[str, dict[str, int]] = {"kind": {}, "source": {}}
    codes: dict[str, list[np.ndarray]] = {"kind": [], "source": []}
    holds: dict[str, list[int]] = {need: [] for need in asked}
    texts: dict[str, list[int]] = {need: [] for need in asked}
    listed, number = False, 0
    for batch in _batches(file):
        for name, known in labels.items():
            column = [value or "" for value in batch[name]]
            codes[name].append(np.array([known.setdefault(value, len(known)) for value in column], dtype=np.int32))
        for held, text in zip(batch["holds"], batch["text"], strict=True):
            listed = listed or bool(held)
            for need in wanted.intersection(held or ()):
                holds[need].append(number)
            for need in matcher.stated(text or ""):
                texts[need].append(number)
            number += 1
    kind, source = (np.concatenate(codes[name]) if codes[name] else np.zeros(0, np.int32) for name in labels)
    return Corpus(
        tuple(labels["kind"]), kind, tuple(labels["source"]), source, _arrays(holds), _arrays(texts), listed
    )  # fmt: skip


def _batches(file: Path) -> Iterator[Mapping[str, Sequence[Any]]]:
    names = ["kind", "source", "holds", "text"]
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(BATCH, columns=names):
                yield {name: batch.column(name).to_pylist() for name in names}
    except (OSError, ValueError, KeyError) as error:
        raise RunConflictError(f"{file} cannot be read ({error}): run 'arithcirc influence score' again") from None


def _arrays(found: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
    return {need: np.array(documents, dtype=np.int64) for need, documents in found.items()}


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def _frozen(lists: Mapping[str, list[tuple]]) -> dict[str, tuple]:  # type: ignore[type-arg]
    return {key: tuple(values) for key, values in lists.items()}
