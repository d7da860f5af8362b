"""The axis of training steps: one figure, drawn at ordinals, that can be spread logarithmically, linearly or evenly.

A figure's traces carry ordinals 0, 1, 2 ... of the checkpoints as `x`. Where these lie is said apart, in the layout's
`meta`: per way of spreading, the position of each ordinal and the ticks. The page's script places them, so that one
choice moves every figure; `spread` does the same for files. The logarithmic way shows step 0: a step s lies at
log2(1 + s/s1), s1 being the smallest positive step. Revisions without a step are spread evenly only.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np
import plotly.graph_objects as go

SCALES = {"log": "logarithmic", "linear": "linear", "even": "evenly spaced"}
WIDE = 20.0
"""From this ratio of the largest to the smallest positive step on, the logarithmic way is shown first."""
_CLOSEST = 0.033
"""Ticks of one panel over the whole width keep this distance, in shares of the axis; of n panels, n times this."""


@dataclass(frozen=True)
class StepAxis:
    """A model's checkpoints in order: revisions, and their training steps where they have one."""

    revisions: tuple[str, ...]
    steps: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.revisions)

    @property
    def stepped(self) -> bool:
        """Every checkpoint has a step, and they grow."""
        steps = [s for s in self.steps if s is not None]
        return len(steps) == len(self) > 1 and all(a < b for a, b in itertools.pairwise(steps))

    @cached_property
    def labels(self) -> list[str]:
        """`step 512`, or the revision where it has no step."""
        return [f"step {s:,}" if s is not None else r for s, r in zip(self.steps, self.revisions, strict=True)]

    def label(self, place: SupportsIndex) -> str:
        """What the checkpoint at a place is called."""
        return self.labels[place]

    @cached_property
    def ways(self) -> list[str]:
        """The ways it can be spread, the one shown first in front."""
        if not self.stepped:
            return ["even"]
        positive = [s for s in self.steps if s]
        wide = bool(positive) and positive[-1] / positive[0] >= WIDE
        return ["log", "even", "linear"] if wide else ["linear", "log", "even"]

    def at(self, way: str) -> np.ndarray:
        """Where the checkpoints lie, float64."""
        ordinal = np.arange(len(self), dtype=np.float64)
        if way == "even" or not self.stepped:
            return ordinal
        steps = np.array([s or 0 for s in self.steps], dtype=np.float64)
        if way == "linear":
            return steps
        return np.asarray(np.log2(1.0 + steps / steps[steps > 0].min()))

    def ticks(self, way: str, panels: int) -> tuple[list[float], list[str]]:
        """Positions and texts of ticks that do not touch; the last checkpoint and the first have one."""
        at = self.at(way)
        apart = _CLOSEST * panels * (float(at[-1] - at[0]) or 1.0)
        kept: list[int] = []
        for i in range(len(at) - 1, -1, -1):
            if not kept or at[kept[-1]] - at[i] >= apart:
                kept.append(i)
        if kept[-1] and at[kept[-1]] - at[0] < apart and len(kept) > 1:
            kept[-1] = 0
        return [float(at[i]) for i in kept], [_short(self.steps[i], self.revisions[i]) for i in kept]


def _short(step: int | None, revision: str) -> str:
    """`4k` for 4000, `512` for 512, the start of a revision's name without a step."""
    if step is None:
        return revision if len(revision) <= 8 else f"{revision[:7]}…"
    return f"{step / 1000:g}k" if step >= 1000 and step % 100 == 0 else str(step)


def dress(figure: go.Figure, axis: StepAxis, *, panels: int, ways: Sequence[str] | None = None) -> go.Figure:
    """Give a figure drawn at ordinals its ways of spreading and the axis's title; returns the figure."""
    spreads: dict[str, Any] = {}
    for way in ways or axis.ways:
        at = axis.at(way)
        margin = 0.045 * (float(at[-1] - at[0]) or 1.0)
        if way == "even":
            margin = max(margin, 0.5)
        values, texts = axis.ticks(way, panels)
        bounds = [float(at[0]) - margin, float(at[-1]) + margin]
        spreads[way] = {"at": at.tolist(), "tickvals": values, "ticktext": texts, "range": bounds}
    title = "training step" if axis.stepped else "checkpoint"
    figure.update_layout(meta={"spreads": spreads})
    figure.update_xaxes(title=title, zeroline=False, tickangle=0)
    return figure


def spread(figure: go.Figure, way: str | None = None) -> go.Figure:
    """Place a dressed figure's checkpoints, as the page's script does; a figure that is not dressed stays as it is."""
    meta = figure.layout.meta
    if not isinstance(meta, dict) or "spreads" not in meta:
        return figure
    found = meta["spreads"].get(way) or next(iter(meta["spreads"].values()))
    ordinal = np.arange(len(found["at"]))
    for trace in figure.data:
        trace.x = np.interp(np.asarray(trace.x, dtype=np.float64), ordinal, found["at"]).tolist()
    figure.update_xaxes(tickvals=found["tickvals"], ticktext=found["ticktext"], range=found["range"])
    return figure
