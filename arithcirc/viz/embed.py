"""Figures inside a page: groups of alternatives with selectors, as JSON that cannot break out of its element.

A `FigureGroup` is one place on the page that shows one figure at a time; its selectors (metric, position, ...) choose
which. The figures are stored without their template: the page holds the light and the dark template once and applies
the one that fits. JSON goes into `<script type="application/json">` with `<`, `>` and `&` written as `\\u003c` and so
on, so no text in it can end the element. Numbers travel as base64 float32, about 5 bytes each.

`effect_groups` fills groups in order of importance and stops at a size budget, so that the page of a large model stays
light; what was left out is counted in `omitted`.
"""

import base64
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.io.json import to_json_plotly

from arithcirc.viz import theme
from arithcirc.viz.effects import head_carriers, head_heatmap, mlp_heatmap
from arithcirc.viz.faithfulness import MEASURES, faithfulness_curves
from arithcirc.viz.frames import RunData
from arithcirc.viz.plates import PLATES, Plate, drawings

BUDGET = 2_400_000
"""Bytes of figure JSON a page may hold; plotly.js adds 4.8 MB, so the page stays below 8 MB."""

PLATES_BUDGET = 1_500_000
"""Of these, what the figures of the neuron stages may take; the effects get what is left."""

METRIC_CHOICES = {"logit_diff": "logit difference", "E": "E (paper)", "kl": "KL"}
MEASURE_CHOICES = {
    "faithfulness": "F, mean of ratios",
    "faithfulness_ratio": "F, ratio of means",
    "probability": "probability",
    "accuracy": "accuracy",
    "kl": "KL",
}


@dataclass
class FigureGroup:
    """One place on the page: selectors `(name, {value: label})` and one figure's JSON per combination of values."""

    key: str
    label: str
    selectors: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    omitted: int = 0
    files: str = "effects.parquet"

    @property
    def size(self) -> int:
        """Bytes of JSON."""
        return sum(len(f) for f in self.figures.values())

    def default(self) -> list[str]:
        """The values shown first, one per selector: those of the first figure drawn."""
        return next(iter(self.figures), "").split("|") if self.selectors else []

    def shown_selectors(self, elsewhere: Sequence[str] = ()) -> list[tuple[str, dict[str, str], str]]:
        """Selectors that leave a choice, with the value shown first; those chosen elsewhere on the page left out."""
        chosen = zip(self.selectors, self.default(), strict=True)
        kept = [(name, options, first) for (name, options), first in chosen if name not in elsewhere]
        return [entry for entry in kept if len(entry[1]) > 1]

    def safe_json(self) -> str:
        """The group's figures as one JSON object, safe inside a script element."""
        body = ",".join(f"{json.dumps(key)}:{figure}" for key, figure in self.figures.items())
        names = json.dumps([name for name, _ in self.selectors])
        return safe(f'{{"selectors":{names},"figures":{{{body}}}}}')


def safe(text: str) -> str:
    """JSON text that cannot end a script element or start markup: `<`, `>`, `&` and line separators escaped."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def bare_json(figure: go.Figure) -> str:
    """A figure's JSON without its template."""
    plain = figure.to_plotly_json()
    plain["layout"].pop("template", None)
    return cast(str, to_json_plotly(_single(plain)))


def _single(value: Any) -> Any:
    """Nested figure data with encoded float64 arrays as float32, which is what a page needs."""
    if isinstance(value, dict):
        if value.get("dtype") == "f8" and isinstance(value.get("bdata"), str):
            exact = np.frombuffer(base64.b64decode(value["bdata"]), dtype="<f8")
            data = base64.b64encode(exact.astype("<f4").tobytes()).decode("ascii")
            return value | {"dtype": "f4", "bdata": data}
        return {key: _single(part) for key, part in value.items()}
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return [_single(part) for part in value]
    return value


def templates_json() -> str:
    """Both templates and the toolbar's configuration, safe inside a script element."""
    parts = {scheme: theme.template(scheme).to_plotly_json() for scheme in ("light", "dark")}
    return safe(json.dumps({"templates": parts, "config": theme.PLOTLY_CONFIG}, default=_plain))


def effect_groups(effects: pd.DataFrame, *, budget: int = BUDGET) -> dict[str, FigureGroup]:
    """Groups `heads`, `mlps` and `carriers`, as far as the table has rows for them and the budget allows."""
    groups: dict[str, FigureGroup] = {}
    left = budget
    heads, mlps = effects[effects["kind"] == "head"], effects[effects["kind"] == "mlp"]
    if heads["change"].isin(list(theme.CHANGE_COLOURS)).any() and (heads["position"] == "equals").any():
        group = FigureGroup("carriers", "What the strongest heads carry to =", [("metric", {"logit_diff": ""})])
        if (heads["metric"] == "logit_diff").any():
            group.figures["logit_diff"] = bare_json(head_carriers(heads))
            groups["carriers"], left = group, left - group.size
    if not heads.empty:
        groups["heads"] = _heads(heads, left)
        left -= groups["heads"].size
    if not mlps.empty:
        groups["mlps"] = _mlps(mlps, left)
    return groups


def plate_groups(
    data: RunData, *, plates: Sequence[Plate] = PLATES, budget: int = PLATES_BUDGET
) -> dict[str, FigureGroup]:
    """A group per plate that there are tables for: all defaults first, then alternatives as the budget allows."""
    groups: dict[str, FigureGroup] = {}
    waiting = []
    left = budget
    for plate in plates:
        group = FigureGroup(plate.key, plate.label, files=plate.files)
        for values, draw in drawings(plate, data):
            if group.figures:
                waiting.append((group, values, draw))
            elif (figure := draw()) is not None:
                group.figures["|".join(values)] = bare_json(figure)
                left -= group.size
        if group.figures:
            groups[plate.key] = group
    for group, values, draw in waiting:
        if _expected(group) > left:
            group.omitted += 1
        elif (figure := draw()) is not None:
            text = bare_json(figure)
            group.figures["|".join(values)] = text
            left -= len(text)
    for plate in plates:
        if plate.key in groups:
            _name_choices(groups[plate.key], [(s.name, s.options(data)) for s in plate.selectors])
    return groups


def _name_choices(group: FigureGroup, selectors: Sequence[tuple[str, dict[str, str]]]) -> None:
    """Give the group the selectors, with only the values that were drawn."""
    drawn = [key.split("|") for key in group.figures]
    group.selectors = [
        (name, {v: label for v, label in options.items() if any(d[i] == v for d in drawn)})
        for i, (name, options) in enumerate(selectors)
    ]


def faithfulness_group(table: pd.DataFrame, *, target: float) -> FigureGroup:
    """The faithfulness curves with a selector for the measure."""
    held = {m: label for m, label in MEASURE_CHOICES.items() if m in table.columns and table[m].notna().any()}
    group = FigureGroup("curves", "Faithfulness against number of heads", [("measure", held)])
    for measure in MEASURES:
        if measure in held:
            figure = faithfulness_curves(table, measure=measure, target=target)
            group.figures[measure] = bare_json(figure)
    return group


def _heads(heads: pd.DataFrame, budget: int) -> FigureGroup:
    positions = {p: theme.POSITION_LABELS[p] for p in _held(heads, "position", theme.POSITIONS)}
    group = FigureGroup("heads", "Effect of patching one head")
    group.selectors = [("metric", _metrics(heads)), ("position", positions), ("counterfactual", _changes(heads))]

    def draw(metric: str, position: str, change: str) -> go.Figure:
        return head_heatmap(heads, metric=metric, position=position, change=change)

    return _fill(group, draw, heads, ("metric", "position", "change"), budget, late=1)


def _mlps(mlps: pd.DataFrame, budget: int) -> FigureGroup:
    group = FigureGroup("mlps", "Effect of patching one MLP")
    group.selectors = [("metric", _metrics(mlps)), ("counterfactual", _changes(mlps))]

    def draw(metric: str, change: str) -> go.Figure:
        return mlp_heatmap(mlps, metric=metric, change=change)

    return _fill(group, draw, mlps, ("metric", "change"), budget)


def _fill(
    group: FigureGroup,
    draw: Callable[..., go.Figure],
    rows: pd.DataFrame,
    columns: Sequence[str],
    budget: int,
    *,
    late: int | None = None,
) -> FigureGroup:
    """Draw the combinations that have rows, the important ones first, until the budget is used up.

    Values early in a selector matter most, except in selector `late`, where the last one (`=`) does.
    """
    held = set(rows[list(columns)].itertuples(index=False, name=None))
    options = [list(choices)[:: -1 if i == late else 1] for i, (_, choices) in enumerate(group.selectors)]
    for values in _by_importance(options):
        if values not in held:
            continue
        if group.figures and group.size + _expected(group) > budget:
            group.omitted += 1
            continue
        group.figures["|".join(values)] = bare_json(draw(*values))
    _name_choices(group, list(group.selectors))
    return group


def _expected(group: FigureGroup) -> int:
    return max(len(f) for f in group.figures.values())


def _by_importance(options: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """All combinations, those whose values come early in their lists first."""
    combinations = itertools.product(*(range(len(o)) for o in options))
    for index in sorted(combinations, key=lambda c: (c[-1], sum(c), c)):
        yield tuple(o[i] for o, i in zip(options, index, strict=True))


def _held(rows: pd.DataFrame, column: str, order: Sequence[str]) -> list[str]:
    present = set(rows[column])
    return [value for value in order if value in present]


def _metrics(rows: pd.DataFrame) -> dict[str, str]:
    return {m: METRIC_CHOICES[m] for m in _held(rows, "metric", tuple(METRIC_CHOICES))}


def _changes(rows: pd.DataFrame) -> dict[str, str]:
    return {c: theme.CHANGE_LABELS[c] for c in _held(rows, "change", theme.CHANGES)}


def _plain(value: Any) -> Any:
    return list(value)
