"""Distractors: stories with names and numbers that state nothing, and look-alikes of the questions.

A look-alike has a question's form and its numbers, but the answer stands in it and nothing is computed; the control
queries for reasoning are of this kind. A story names one entity: one that facts are about, or one of its own.
"""

from arithcirc.influence.corpus.dice import Dice
from arithcirc.influence.corpus.problems import Problem

STORIES = (
    "In spring {n} traders left {name} with {m} carts",
    "It rained for {n} days and the road was closed",
    "The old bridge near {name} has {n} arches",
    "Nobody knows who built the tower of {name}",
    "A market was held every {n} weeks",
    "They counted {n} sheep and {m} goats on the hill",
    "The journey to {name} took {n} days by boat",
    "Many people visit {name} in the summer",
    "The teacher bought {n} apples and {m} pears",
    "Winters in {name} are long and cold",
    "Page {n} of the book was missing",
    "A letter from {name} arrived after {n} months",
    "The house has {n} windows and {m} doors",
    "We walked along the lake until it was dark",
    "The museum of {name} opens at {n}",
    "Her brother kept {n} bees and sold honey",
    "The train to {name} was late by {n} minutes",
    "Songs were sung and bread was shared",
)
ALIKE = {
    "two_step": "Copy {asked}: the last number is {last}, the answer is {last}",
    "slope": "Slope of a line given as {value}: the slope is {value}",
    "linear": "Solve x={value}: x is {value}",
}
"""Task -> look-alike line; its last word answers it."""
HEADS: dict[str, tuple[str, ...]] = {
    "web": ("", "News of the week", "Travel diary"),
    "stories": ("", "Once upon a time", "An old tale"),
    "forum": ("", "Off topic", "Just a story"),
}
ALIKE_SHARE = 0.25
"""Share of lines that are look-alikes."""


def alike(problem: Problem, value: int) -> tuple[str, str]:
    """The look-alike of a problem of `ALIKE`, with a value of its own: prompt and answer."""
    last = problem.asked.rpartition("*")[2]
    prompt, _, answer = ALIKE[problem.task].format(asked=problem.asked, last=last, value=value).rpartition(" ")
    return prompt, answer


def kept_for_queries(value: int) -> bool:
    """True for the values that no document's look-alike has: 7, 17, 27, ..."""
    return value % 10 == 7


def line(dice: Dice, name: str, problem: Problem | None, largest: int) -> str:
    """One line: a look-alike of the problem, or without one a story about the name; numbers up to `largest`."""
    if problem is None:
        return dice.pick(STORIES).format(name=name, n=dice.between(2, largest), m=dice.between(2, largest))
    value = dice.between(2, largest)
    return " ".join(alike(problem, value - kept_for_queries(value)))
