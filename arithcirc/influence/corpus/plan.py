"""Everything a document is made from: laid out once from the spec, after which each document stands alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from arithcirc.influence.corpus import equations, facts
from arithcirc.influence.corpus.dice import shuffled
from arithcirc.influence.corpus.problems import TASKS, Questions, questions
from arithcirc.influence.corpus.spec import CorpusSpec
from arithcirc.influence.documents import KINDS

_PURPOSE = 1


@dataclass(frozen=True)
class Plan:
    """The pools of a corpus. `order[i]` is document i's place when sorted by kind; `starts` where kinds begin."""

    spec: CorpusSpec
    order: Int[np.ndarray, "document"]
    starts: tuple[int, ...]
    equations: list[str]
    questions: dict[str, Questions]
    facts: facts.FactTable
    entities: tuple[str, ...]
    notes: int

    @property
    def strangers(self) -> int:
        """The first note number that neither documents nor control queries use: names for stories come from there."""
        return self.notes * facts.PER_NOTE + self.spec.controls

    def place(self, number: int) -> tuple[str, int]:
        """Kind of document `number`, and its rank among the documents of that kind."""
        position = int(self.order[number])
        kind = int(np.searchsorted(self.starts, position, side="right")) - 1
        return KINDS[kind], position - self.starts[kind]


def make_plan(spec: CorpusSpec) -> Plan:
    """Lay a corpus out. Memory: 8 bytes a document and the pools. Raises RequestError when its queries do not fit."""
    counts = spec.counts()
    starts = tuple(np.cumsum([0, *(counts[kind] for kind in KINDS[:-1])]).tolist())
    notes = round(facts.NOTES_SHARE * counts["fact"])
    table = facts.fact_table(spec, counts["fact"] - notes)
    return Plan(
        spec=spec,
        order=shuffled(spec.seed, _PURPOSE, 0, spec.documents),
        starts=starts,
        equations=equations.pool(spec),
        questions={task: questions(spec, task) for task in TASKS},
        facts=table,
        entities=facts.entities(table) or (facts.note(0, spec.seed)[1].entity,),
        notes=notes,
    )
