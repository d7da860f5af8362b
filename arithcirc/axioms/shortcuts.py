"""Shortcuts that need no transitivity, and scores that tell them from it.

    mention order   Yes if the cause's first mention stands before the effect's: right on every sequential chain of any
                    length, nearly always wrong on reversals
    literal edge    Yes if the sentence `cause causes effect` is stated: right on many branching graphs
    end roles       Yes if some sentence has the cause as its cause and some sentence has the effect as its effect:
                    right on every Yes, and on every No whose cause causes nothing or whose effect has no cause

A model is worth what it has above all three. The hard accuracy leaves out what a stated edge answers: it is the mean of
the share of right answers among Yes with a shortest path of two edges or more, and among No. The literal edge, always
Yes and guessing have 1/2 of it; mention order keeps what the order of sentences gives away, end roles what the ends of
paths give away, which is much where edges point in both directions and where few nodes have causes and effects.

Intervals treat questions about one graph as one draw: the variance of the mean is that of sums over graphs, and a
Wilson interval is taken at the number of independent questions which that variance is worth, at most their number.
With one graph per question this is the plain Wilson interval of one question less.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

from scipy.stats import norm

from arithcirc.axioms.graphs import Graph, Question
from arithcirc.errors import RequestError

HARD_HOPS = 2
"""Shortest path of a Yes that no stated edge answers."""


def mention_order(question: Question) -> bool:
    """Yes if the cause is mentioned first, before the effect is."""
    for edge in question.graph.edges:
        for node in edge:
            if node in (question.cause, question.effect):
                return node == question.cause
    return False


def literal_edge(question: Question) -> bool:
    """Yes if the edge asked about is stated."""
    return (question.cause, question.effect) in question.graph.edges


def end_roles(question: Question) -> bool:
    """Yes if the cause is the cause of some sentence and the effect the effect of some; no path is looked for."""
    causes, effects = ({edge[side] for edge in question.graph.edges} for side in (0, 1))
    return question.cause in causes and question.effect in effects


SHORTCUTS: dict[str, Callable[[Question], bool]] = {
    "mention order": mention_order,
    "literal edge": literal_edge,
    "end roles": end_roles,
}
"""The baselines of every table, by name."""


@dataclass(frozen=True)
class Share:
    """An accuracy with its interval, over `questions` about `graphs` different graphs."""

    value: float
    low: float
    high: float
    questions: int
    graphs: int


@dataclass(frozen=True)
class Score:
    """Accuracy over all questions, and the hard one; None where no hard Yes or no No is asked."""

    accuracy: Share
    hard: Share | None


def score(questions: Sequence[Question], answers: Sequence[bool], *, level: float = 0.95) -> Score:
    """Score answers, one for each question, True for Yes. Raises RequestError when their numbers differ or are 0."""
    if len(answers) != len(questions) or not questions:
        raise RequestError(f"{len(answers)} answers to {len(questions)} questions: give one for each, one at least")
    right = [bool(answer) == question.label for question, answer in zip(questions, answers, strict=True)]
    graphs = [question.graph for question in questions]
    hard = [i for i, question in enumerate(questions) if question.hops >= HARD_HOPS]
    negative = [i for i, question in enumerate(questions) if not question.label]
    strata = [hard, negative]
    return Score(
        accuracy=mean_share(right, graphs, [list(range(len(right)))], level=level),
        hard=mean_share(right, graphs, strata, level=level) if all(strata) else None,
    )


def mean_share(
    right: Sequence[bool], graphs: Sequence[Graph], strata: Sequence[Sequence[int]], *, level: float = 0.95
) -> Share:
    """Mean over strata (lists of places) of the share of right answers, its interval clustered by graph.

    Raises RequestError for an empty stratum and a level outside 0..1.
    """
    if not strata or not all(strata) or not 0 < level < 1:
        raise RequestError(f"{len(strata)} strata, level {level}: give strata with questions, a level between 0 and 1")
    sums: dict[Graph, float] = defaultdict(float)
    value = 0.0
    for places in strata:
        mean = sum(right[i] for i in places) / len(places)
        value += mean / len(strata)
        for i in places:
            sums[graphs[i]] += (right[i] - mean) / (len(places) * len(strata))
    questions = sum(map(len, strata))
    worth = _worth(value, list(sums.values()), sum(1 / (len(places) * len(strata) ** 2) for places in strata))
    return Share(value, *wilson(value, worth, level=level), questions, len(sums))


def _worth(value: float, sums: Sequence[float], unit: float) -> float:
    """How many independent questions the mean is worth. `sums` per graph, `unit` = 1 / most.

    With nothing to vary (all right, all wrong, one graph) every graph is worth one question.
    """
    most = 1 / unit
    graphs = len(sums)
    spread = graphs / (graphs - 1) * sum(s * s for s in sums) if graphs > 1 else 0.0
    found = value * (1 - value) / spread if spread > 0 else float(graphs)
    return max(1.0, min(found, most))


def wilson(value: float, number: float, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share found in `number` independent trials (any real number of 1 or more)."""
    z = float(norm.ppf(0.5 + level / 2))
    middle = (value + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * sqrt(value * (1 - value) / number + z * z / (4 * number * number))
    return max(0.0, min(middle - half, value)), min(1.0, max(middle + half, value))
