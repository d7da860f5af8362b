"""One document from its number: kind, source, lines up to the wanted length, and what they state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arithcirc.influence.corpus import code, distractors, equations, facts, procedures
from arithcirc.influence.corpus.dice import Dice
from arithcirc.influence.corpus.plan import Plan
from arithcirc.influence.corpus.problems import QUERIED, Problem
from arithcirc.influence.corpus.statements import equations as stated
from arithcirc.influence.documents import Document

SOURCES = {
    "equation": (("worksheet", 0.6), ("textbook", 0.25), ("web", 0.15)),
    "procedure": (("textbook", 0.5), ("forum", 0.35), ("web", 0.15)),
    "code": (("repository", 0.7), ("forum", 0.2), ("textbook", 0.1)),
    "fact": (("encyclopedia", 0.5), ("web", 0.3), ("quiz", 0.2)),
    "distractor": (("web", 0.5), ("stories", 0.3), ("forum", 0.2)),
}
"""Kind -> sources with their shares."""
SHORTEST, LONGEST = 40, 64
"""A document is filled up to a length drawn between these, in tokens."""
_HEADS: dict[str, dict[str, tuple[str, ...]]] = {
    "equation": equations.HEADS, "procedure": procedures.HEADS, "code": code.HEADS, "fact": facts.HEADS,
    "distractor": distractors.HEADS,
}  # fmt: skip
_RULE, _KNOWN, _RETRIES = 0.35, 0.5, 5
_PURPOSE = 2
Written = tuple[str, tuple[str, ...]]
"""Task, and keys of the facts stated."""


def document(plan: Plan, number: int, count: Callable[[str], int]) -> Document:
    """Document `number` of the corpus; `count` counts a text's tokens."""
    kind, rank = plan.place(number)
    dice = Dice(plan.spec.seed, _PURPOSE, number)
    source = dice.weighted(SOURCES[kind])
    wanted = dice.between(SHORTEST, min(LONGEST, plan.spec.max_tokens - 8))
    page = _Page(plan, rank, source, dice, _Lines(plan.spec.max_tokens - 1, wanted, count))
    page.text.add([head] if (head := dice.pick(_HEADS[kind][source])) else [])
    task, keys = _WRITERS[kind](page)
    text = "\n".join(page.text.lines)
    return Document(f"d{number:07d}", text, kind, source, task, (*keys, *stated(text)))


class _Lines:
    """Lines of a document: `room` is the most tokens it may have, `wanted` the length after which nothing is added."""

    def __init__(self, room: int, wanted: int, count: Callable[[str], int]) -> None:
        self.lines: list[str] = []
        self._room, self._wanted, self._count, self._tokens = room, wanted, count, 0

    def add(self, lines: Sequence[str]) -> bool:
        """Add lines if they fit, line breaks counted."""
        tokens = sum(self._count(line) + 1 for line in lines)
        fits = self._tokens + tokens <= self._room
        if fits:
            self.lines += lines
            self._tokens += tokens
        return fits

    def fill(self, make: Callable[[], Sequence[str]]) -> None:
        """Add what `make` gives until the page is long enough, or a few in a row are there already or do not fit."""
        failed = 0
        while self._tokens < self._wanted and failed < _RETRIES:
            lines = make()
            failed = 0 if lines[0] not in self.lines and self.add(lines) else failed + 1


@dataclass(frozen=True)
class _Page:
    """One document being written: number `rank` of its kind."""

    plan: Plan
    rank: int
    source: str
    dice: Dice
    text: _Lines

    def problem(self, task: str) -> Problem:
        """One of the task's taught questions."""
        questions = self.plan.questions[task]
        return questions.problem(self.dice.below(len(questions.taught)))

    def hero(self) -> str:
        """Whom a story is about: an entity of facts, or one that no other document names."""
        if self.dice.chance(_KNOWN):
            return self.dice.pick(self.plan.entities)
        return facts.note(self.plan.strangers + self.rank, self.plan.spec.seed)[1].entity


def _equation(page: _Page) -> Written:
    for line in equations.lines(page.plan.equations, page.rank, page.plan.spec.seed):
        page.text.add([line])
    return "", ()


def _procedure(page: _Page) -> Written:
    task = procedures.choose_task(page.dice)
    if page.dice.chance(_RULE):
        page.text.add([page.dice.pick(procedures.RULES[task])])
    page.text.fill(lambda: procedures.lines(page.problem(task), page.dice))
    return task, ()


def _code(page: _Page) -> Written:
    task = procedures.choose_task(page.dice)
    page.text.fill(lambda: code.lines(page.problem(task), page.dice))
    return task, ()


def _fact(page: _Page) -> Written:
    plan, dice = page.plan, page.dice
    if page.rank < plan.notes:
        numbers = range(page.rank * facts.PER_NOTE, (page.rank + 1) * facts.PER_NOTE)
        notes = [facts.note(number, plan.spec.seed) for number in numbers]
        return "note", tuple(fact.key for line, fact in notes if page.text.add([line]))
    stating = [(fact.line(dice, page.source), fact) for fact in plan.facts.of(page.rank - plan.notes)]

    def filler(fact: facts.Fact) -> str:
        return dice.pick(facts.FILLERS).format(e=fact.entity)

    blocks = [[line, filler(fact)] if dice.chance(0.5) else [filler(fact), line] for line, fact in stating]
    for block in reversed(blocks) if dice.chance(0.5) else blocks:
        page.text.add(block)
    page.text.fill(lambda: [filler(dice.pick(stating)[1])])
    return stating[0][1].relation, tuple(dict.fromkeys(fact.key for _, fact in stating))


def _distractor(page: _Page) -> Written:
    hero = page.hero()

    def line() -> list[str]:
        alike = page.dice.chance(distractors.ALIKE_SHARE)
        problem = page.problem(page.dice.pick(QUERIED)) if alike else None
        return [distractors.line(page.dice, hero, problem, page.plan.spec.largest)]

    page.text.fill(line)
    return "", ()


_WRITERS: dict[str, Callable[[_Page], Written]] = {
    "equation": _equation,
    "procedure": _procedure,
    "code": _code,
    "fact": _fact,
    "distractor": _distractor,
}
