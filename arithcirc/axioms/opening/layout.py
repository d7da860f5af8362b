"""Where the tokens of a question stand, by what they do there.

    A causes B . C causes B . Does A cause C ?
    cause causes effect stop   does "asked cause" verb "asked effect" mark

A name is as many tokens as it has characters, and all names of a layout have the same number of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from arithcirc.axioms.graphs import Question
from arithcirc.axioms.packing import encode_row
from arithcirc.errors import RequestError

SENTENCE_ROLES = ("cause", "causes", "effect", "stop")
QUESTION_ROLES = ("does", "asked cause", "verb", "asked effect", "mark")


@dataclass(frozen=True)
class Layout:
    """Prompts of so many sentences and characters a name."""

    sentences: int
    characters: int = 1

    @property
    def sentence_tokens(self) -> int:
        """Tokens of one sentence."""
        return 2 * self.characters + 2

    @property
    def tokens(self) -> int:
        """Tokens of the prompt."""
        return self.sentences * self.sentence_tokens + 2 * self.characters + 3

    def sentence(self, number: int, role: str) -> range:
        """Token indices of a role of a sentence, counted from 0."""
        k = self.characters
        start = {"cause": 0, "causes": k, "effect": k + 1, "stop": 2 * k + 1}[role] + number * self.sentence_tokens
        return range(start, start + (k if role in ("cause", "effect") else 1))

    def question(self, role: str) -> range:
        """Token indices of a role of the question."""
        k = self.characters
        places = {"does": 0, "asked cause": 1, "verb": k + 1, "asked effect": k + 2, "mark": 2 * k + 2}
        start = places[role] + self.sentences * self.sentence_tokens
        return range(start, start + (k if role.startswith("asked") else 1))

    def roles(self) -> list[tuple[str, int | None]]:
        """Role and sentence (None: the question) of every token, in order."""
        found: list[tuple[str, int | None]] = [("", None)] * self.tokens
        for number in range(self.sentences):
            for role in SENTENCE_ROLES:
                for index in self.sentence(number, role):
                    found[index] = (role, number)
        for role in QUESTION_ROLES:
            for index in self.question(role):
                found[index] = (role, None)
        return found


def layout_of(questions: Sequence[Question], characters: int) -> Layout:
    """The layout that questions share. Raises RequestError when they have not as many sentences, or other names."""
    counts = {len(asked.graph.edges) for asked in questions}
    lengths = {len(name) for asked in questions for edge in asked.graph.edges for name in edge}
    if len(counts) != 1 or lengths != {characters}:
        raise RequestError(
            f"questions have {sorted(counts)} sentences and names of {sorted(lengths)} characters: give questions of "
            f"as many sentences each, with names of {characters}"
        )
    return Layout(counts.pop(), characters)


def token_rows(questions: Sequence[Question], known: Mapping[str, int]) -> Int[Tensor, "prompt pos"]:
    """Ids of questions of one layout. Raises TokenizerError for a name that the vocabulary cannot write."""
    rows = [encode_row([asked], known) for asked in questions]
    return torch.tensor([[*row.premise, *row.questions[0]] for row in rows])
