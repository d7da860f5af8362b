"""What a stage is: a named step of an analysis, what it reads, what it costs and the function that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from arithcirc.pipeline.job import Job


class Cost(NamedTuple):
    """Rows that will run through (part of) the model, and their cost in whole forward passes of one prompt."""

    rows: int
    forwards: float


@dataclass(frozen=True)
class Stage:
    """Configuration sections a stage depends on, stages it needs, files it reads, how it runs and what it costs.

    `run` returns the names of the files it wrote. What a stage needs from an earlier one it reads from the run folder,
    so every stage can be run alone and resumed. `like` names stages of the analysis that hold as much memory, for a
    stage that is none of them.
    """

    name: str
    sections: tuple[str, ...]
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    run: Callable[[Job], list[str]]
    count: Callable[[Job], Cost]
    like: tuple[str, ...] = ()


def suffix_share(n_layers: int, n_pos: int, index: int, kind_layers: range) -> float:
    """Mean share of a full forward that patches at token `index`, one per layer in `kind_layers`, replay."""
    layers = [(n_layers - 1 - layer) / n_layers for layer in kind_layers]
    return sum(layers) / len(layers) * (n_pos - index) / n_pos
