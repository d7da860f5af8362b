"""A task of an influence study: one checkpoint, and what of its study is done there.

    prepare    encode the corpus, fit the factors, complete the queries
    3..5       score the documents of partitions 3 to 5, once it is prepared
    finish     the tables over all partitions, once all are there

Tasks of a study share its folder: `prepare` and `finish` alone write the manifest, partitions write a file each. What
they write depends neither on where they run nor on how partitions are dealt out.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from arithcirc.errors import RequestError
from arithcirc.sweep.task import Loading, Sendable

PREPARE, FINISH = "prepare", "finish"


@dataclass(frozen=True)
class StudyTask(Sendable):
    """One checkpoint and one part of its study. `asked` and `how` are the options of the study, by name."""

    model: str
    name: str
    revision: str
    part: str
    corpus: str
    out: str
    queries: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """What names it among all tasks."""
        return self.name, self.revision, self.part

    @property
    def partitions(self) -> range | None:
        """The partitions to score; None for another part."""
        if self.part in (PREPARE, FINISH):
            return None
        first, _, last = self.part.partition("..")
        return range(int(first), int(last) + 1)

    def doing(self, part: str) -> "StudyTask":
        """Another part of the same study."""
        return replace(self, part=part)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "StudyTask":
        """From `as_json`'s values. Raises RequestError for values of another version."""
        try:
            return cls(**values | {"loading": Loading(**values["loading"])})
        except (KeyError, TypeError) as error:
            raise RequestError(f"a task of another version of arithcirc ({error}): start it again") from None

    def __str__(self) -> str:
        return f"{self.name} {self.revision} {self.part}"
