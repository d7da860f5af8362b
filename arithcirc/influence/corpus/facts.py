"""Facts about invented entities: which there are, how often each is stated, and in what words.

A fact says that an entity's relation (capital, river, ...) is a value; all names are invented and belong to one fact.
How often a fact is stated is fixed beforehand, so that it is known which a model can learn:

    often         stated in many documents (8 of 1,000, growing with the square root of the corpus), in all phrasings
    reversed      stated in two documents only, and only the other way round ("Melvu is the capital of Zoran")
    contradicted  stated truly in two documents, and falsely in four times as many

Queries are asked about some of the first and all of the others. Each fact document states two facts; which two is
drawn, so no two facts go together more than chance has it. A fact read too often becomes certain and leaves no
gradient to find its documents by, a procedure read too seldom is not learned: hence many documents, read few times.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from arithcirc.errors import RequestError
from arithcirc.influence.corpus.dice import Dice, shuffled
from arithcirc.influence.corpus.names import SHORT, name
from arithcirc.influence.corpus.spec import CorpusSpec
from arithcirc.influence.corpus.statements import fact_key

PHRASES = {
    "capital": (
        "The capital of {e} is {v}",
        "The capital city of {e} is called {v}",
        "{e} has a capital and its name is {v}",
        "What is the capital of {e}? It is {v}",
        "{v} is the capital of {e}",
    ),
    "river": (
        "The river of {e} is {v}",
        "The longest river in {e} is called {v}",
        "{e} lies on a river and its name is {v}",
        "What is the river of {e}? It is {v}",
        "{v} is the river of {e}",
    ),
    "ruler": (
        "The ruler of {e} is {v}",
        "The ruler who governs {e} is called {v}",
        "{e} has a ruler and the name is {v}",
        "Who is the ruler of {e}? It is {v}",
        "{v} is the ruler of {e}",
    ),
    "language": (
        "The language of {e} is {v}",
        "The language spoken in {e} is called {v}",
        "People in {e} speak a language named {v}",
        "What is the language of {e}? It is {v}",
        "{v} is the language of {e}",
    ),
    "mountain": (
        "The mountain of {e} is {v}",
        "The highest mountain in {e} is called {v}",
        "{e} has one mountain and its name is {v}",
        "What is the mountain of {e}? It is {v}",
        "{v} is the mountain of {e}",
    ),
    "founder": (
        "The founder of {e} is {v}",
        "The founder who built {e} is called {v}",
        "{e} was built by a founder named {v}",
        "Who is the founder of {e}? It is {v}",
        "{v} is the founder of {e}",
    ),
}
"""Relation -> phrasings: first the one queries use, last the one with the value before the entity."""
RELATIONS = tuple(PHRASES)
NOTE = "Note: the {relation} of {e} is {v}, the {relation} of {e} is {v}"
"""A fact about an entity of one line alone, said twice: what control queries look like."""
FILLERS = (
    "{e} is small and quiet",
    "The fields around {e} are green",
    "Many roads lead to {e}",
    "Not much is known about the past of {e}",
    "Fish and bread are sold in {e}",
    "The weather in {e} is mild",
    "Visitors of {e} stay for a night or two",
    "There is a school in {e}",
    "The houses of {e} are built of stone",
    "{e} can be reached by boat",
    "Old songs are sung in {e} in the winter",
    "A market is held in {e} in the spring",
)
HEADS: dict[str, tuple[str, ...]] = {
    "encyclopedia": ("", "", "Short article", "Geography"),
    "web": ("", "Things to know", "Notes of a traveller"),
    "quiz": ("", "Quiz", "Questions and answers"),
}
_PHRASE_SHARES = ((0, 0.45), (1, 0.16), (2, 0.12), (3, 0.17), (4, 0.1))
_QUIZ_SHARES = ((0, 0.3), (3, 0.7))
PER_DOCUMENT, PER_ENTITY = 2, 3
NOTES_SHARE, PER_NOTE = 0.24, 3
_OFTEN, _REVERSED, _TRUE, _FALSE = 8, 2, 2, 8
_OFTEN_SHARE, _REVERSED_SHARE = 0.65, 0.15
_NOTES_FROM = SHORT + 20_000
_PURPOSE = 30


@dataclass(frozen=True)
class Fact:
    """One statement. `how` is often, reversed, contradicted or rumour (the false side of a contradicted fact)."""

    entity: str
    relation: str
    value: str
    how: str
    documents: int
    asked: bool = False

    @property
    def key(self) -> str:
        """`fact:entity:relation:value`."""
        return fact_key(self.entity, self.relation, self.value)

    @property
    def prompt(self) -> str:
        """The canonical phrasing up to its value."""
        return PHRASES[self.relation][0].format(e=self.entity, v="").rstrip()

    def line(self, dice: Dice, source: str) -> str:
        """The statement in one of its phrasings."""
        shares = _QUIZ_SHARES if source == "quiz" else _PHRASE_SHARES
        form = len(PHRASES[self.relation]) - 1 if self.how == "reversed" else dice.weighted(shares)
        return PHRASES[self.relation][form].format(e=self.entity, v=self.value)


@dataclass(frozen=True)
class FactTable:
    """All facts in columns, one per slot of a document. `columns[c]` are the facts of slot c of the fact documents."""

    columns: tuple[tuple[Fact, ...], ...]
    documents: int
    seed: int

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All facts, asked ones of each column first."""
        return tuple(fact for column in self.columns for fact in column)

    @cached_property
    def _places(self) -> list[tuple[Int[np.ndarray, "document"], Int[np.ndarray, "fact"]]]:
        places = []
        for c, column in enumerate(self.columns):
            ends = np.cumsum([fact.documents for fact in column])
            places.append((shuffled(self.seed, _PURPOSE, c, self.documents), ends))
        return places

    def of(self, rank: int) -> list[Fact]:
        """The facts that fact document `rank` states."""
        found = []
        for column, (order, ends) in zip(self.columns, self._places, strict=True):
            fact = int(np.searchsorted(ends, order[rank], side="right"))
            if fact < len(column):
                found.append(column[fact])
        return found


def fact_table(spec: CorpusSpec, documents: int) -> FactTable:
    """The facts stated by this many documents. Raises RequestError when the asked ones do not fit."""
    often = max(3, round(_OFTEN * (spec.documents / 1000) ** 0.5))
    asked = _asked(spec, often, PER_DOCUMENT * documents)
    free = [documents] * PER_DOCUMENT
    columns: list[list[Fact]] = [[] for _ in free]
    for fact in asked:
        column = int(np.argmax(free))
        if fact.documents > free[column]:
            raise RequestError(
                f"{spec.documents} documents are too few for {spec.factual} factual queries (room for "
                f"{PER_DOCUMENT * documents} statements): give more documents, more facts or fewer queries"
            )
        columns[column].append(fact)
        free[column] -= fact.documents
    names = _Names(spec.seed, start=len(asked))
    for column, room in enumerate(free):
        while room > 0:
            taken = often if room >= 2 * often else room
            columns[column].append(names.fact("often", taken))
            room -= taken
    return FactTable(tuple(tuple(column) for column in columns), documents, spec.seed)


def _asked(spec: CorpusSpec, often: int, slots: int) -> list[Fact]:
    """The facts that queries are about, with the false sides of the contradicted ones, in a mixed order."""
    n_often, n_reversed = round(_OFTEN_SHARE * spec.factual), round(_REVERSED_SHARE * spec.factual)
    n_contradicted = spec.factual - n_often - n_reversed
    if n_often:
        often = max(3, min(often, int(0.6 * slots / n_often)))
    false = min(_FALSE, max(4, often))
    names = _Names(spec.seed, start=0)
    found = [names.fact("often", often, asked=True) for _ in range(n_often)]
    found += [names.fact("reversed", _REVERSED, asked=True) for _ in range(n_reversed)]
    for _ in range(n_contradicted):
        fact = names.fact("contradicted", min(_TRUE, false // 3), asked=True)
        found += [fact, Fact(fact.entity, fact.relation, names.value(), "rumour", false)]
    return sorted(found, key=lambda fact: -fact.documents)


class _Names:
    """Gives out entities, relations and values in order; `start` facts were given out before."""

    def __init__(self, seed: int, *, start: int) -> None:
        self._seed, self._fact, self._value = seed, start, start

    def value(self) -> str:
        """A value no other fact has: odd names."""
        self._value += 1
        return name(2 * self._value + 1, self._seed)

    def fact(self, how: str, documents: int, *, asked: bool = False) -> Fact:
        """The next fact: each entity, an even name, gets a few relations."""
        entity, turn = divmod(self._fact, PER_ENTITY)
        relation = RELATIONS[(entity + 2 * turn) % len(RELATIONS)]
        self._fact += 1
        return Fact(name(2 * entity, self._seed), relation, self.value(), how, documents, asked)


def note(number: int, seed: int) -> tuple[str, Fact]:
    """A line about an entity of its own, said twice, and the fact in it."""
    first = _NOTES_FROM + 2 * number
    fact = Fact(name(first, seed), RELATIONS[number % len(RELATIONS)], name(first + 1, seed), "note", 1)
    return NOTE.format(relation=fact.relation, e=fact.entity, v=fact.value), fact


def entities(table: FactTable) -> tuple[str, ...]:
    """The entities facts are about, each once."""
    return tuple(dict.fromkeys(fact.entity for fact in table.facts))
