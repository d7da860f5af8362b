"""The figures and sentences of the Sweep page: the sweep's own plates, cut to one operator and kept while files stay.

A step of the slider draws the page again; what does not depend on the checkpoint (every curve) is therefore held, as
plain figure data, under the sweep's files, the operator and the choices, and only the line that marks the checkpoint is
added. Nothing held belongs to a user, and nothing held is written into.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import plotly.graph_objects as go

from arithcirc.catalogue import SWEEP, SweepFolder
from arithcirc.errors import RequestError
from arithcirc.explorer import files
from arithcirc.explorer.source import Source
from arithcirc.viz import theme
from arithcirc.viz.emergence import births, figure10, growth, jumps, maps, timeline, words
from arithcirc.viz.emergence.axis import spread
from arithcirc.viz.emergence.data import SweepData, read_sweep
from arithcirc.viz.knockouts import ABLATIONS

HEIGHT = 360
Figure = dict[str, Any]
State = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Choices:
    """What the page's controls say; `operator` is empty for all of them side by side."""

    model: str
    operator: str
    prompts: str
    labels: str
    scale: str
    rows: str
    where: str


@dataclass(frozen=True)
class Drawing:
    """One figure: its panel's title, how to read it, how it is drawn, and the section of words it goes with."""

    key: str
    title: str
    help: str
    draw: Callable[[SweepData, Choices], go.Figure]
    words: str = ""
    height: int = HEIGHT
    lines: int = 2
    """Lines of the legend in a panel of half a page."""


def _knockouts(data: SweepData, c: Choices) -> go.Figure:
    rows = data.tables.get("knockouts_by_prompt")
    held = [] if rows is None else [str(v) for v in sorted(rows["per_layer"].unique(), reverse=True)]
    ablations = [] if rows is None else [a for a in ABLATIONS if (rows["ablation"] == a).any()]
    if not held or not ablations:
        raise RequestError("no ablation by prompt")
    return figure10.knockout_curves(data, c.model, c.prompts, c.labels, held[0], ablations[0])


DRAWINGS: tuple[Drawing, ...] = (
    Drawing(
        "accuracy", "Accuracy over training",
        "Share of all legal prompts that the model answers correctly at each checkpoint; held-out prompts were never "
        "trained on. The dotted lines are what always giving one answer would score.",
        lambda d, c: growth.accuracy_curves(d, c.model), "accuracy",
    ),
    Drawing(
        "circuits", "Faithfulness of each checkpoint’s circuit",
        "F is how much of the model’s normalised logit the chosen heads and MLPs keep when everything else is "
        "mean-ablated: 1 keeps all, 0 nothing. Grey: as many heads drawn at random.",
        lambda d, c: growth.circuit_curves(d, c.model, c.prompts, "faithfulness"), "circuits",
    ),
    Drawing(
        "families", "Labelled neurons by family",
        "How many neurons carry a label of each family. A neuron with labels of two families counts in both.",
        lambda d, c: growth.family_bars(d, c.model, c.prompts, c.labels, "neurons"), lines=3,
    ),
    Drawing(
        "births", "Pairs born and pairs lost",
        "A pair is a neuron with one heuristic. Upwards: pairs born for good at a checkpoint; downwards: pairs last "
        "seen at the one before. Click a bar to go to that checkpoint.",
        lambda d, c: births.birth_bars(d, c.model, c.labels), "births", lines=3,
    ),
    Drawing(
        "overlap", "How much of the final bag of heuristics is there already",
        "Of the reference checkpoint’s pairs, neurons and heuristics, the share that each checkpoint has too. Thin "
        "lines: what random sets of the same sizes would share.",
        lambda d, c: figure10.overlap_curves(d, c.model, c.prompts, c.labels), "overlap", height=400, lines=4,
    ),
    Drawing(
        "kept", "Faithfulness of the neurons that stay",
        "F when only some neurons work in the layers with heuristics: all labelled ones, those the reference has too "
        "(kept), the rest (new), as many random ones, or none.",
        lambda d, c: figure10.kept_curves(d, c.model, c.prompts, c.labels, "faithfulness", "all"), "kept", height=400,
        lines=4,
    ),
    Drawing(
        "knockouts", "What ablating neurons by heuristic does",
        "Accuracy after ablating, per layer, the best neurons whose heuristic holds of the prompt, against as many "
        "random important neurons. The wider apart, the more the labels matter.",
        _knockouts, "knockouts", height=400, lines=4,
    ),
    Drawing(
        "jumps", "Does accuracy rise where a heuristic is born?",
        "For each heuristic, how much accuracy rose on prompts it is about, minus the rise on matched prompts outside, "
        "by checkpoints before and after its birth. Diamonds: the mean, with 95%.",
        lambda d, c: jumps.event_study(d, c.model, c.labels), "jumps", height=400,
    ),
)  # fmt: skip
TIMELINE = Drawing(
    "timeline", "Birth of each heuristic",
    "A disc is a checkpoint at which neurons took up a heuristic that they then keep; its area is how many. The first "
    "born stand on top. Click a disc for the neurons of that heuristic at that checkpoint.",
    lambda d, c: timeline.birth_timeline(d, c.model, c.labels, c.operator, c.rows), lines=2,
)  # fmt: skip


def read(source: Source) -> SweepData:
    """Tables, models and settings of a sweep, as its files are now."""
    return _data(source.path, state(source))


def state(source: Source) -> State:
    """Names, times and sizes of the sweep's files: what was drawn from them holds as long as this does."""
    all_files = [source.path / SWEEP, *sorted(source.folder.glob("*.parquet"))]
    found = ((file.name, file.stat()) for file in all_files if file.is_file())
    return tuple((name, held.st_mtime_ns, held.st_size) for name, held in found)


def drawn(source: Source, drawing: Drawing, choices: Choices) -> Figure | None:
    """A figure as plain data with the checkpoint marked; None where the tables have nothing for it."""
    held = _figure(source.path, state(source), drawing.key, choices)
    return _marked(held, source) if held is not None else None


def effect_map(source: Source, choices: Choices) -> Figure | None:
    """Effects of patching at this checkpoint, on colours that hold for all checkpoints."""
    revision = source.checkpoint.revision if source.checkpoint is not None else ""
    return _map(source.path, state(source), choices, revision)


def positions(source: Source) -> dict[str, str]:
    """Where effects were measured, for the map's control."""
    return dict(_positions(source.path, state(source)))


def sentences(source: Source, choices: Choices) -> dict[str, list[tuple[str, str]]]:
    """What the sweep shows, by section, of the operator chosen (of all of them without one)."""
    return _words(source.path, state(source), choices.model, choices.operator)


# -- kept while the files stay ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _data(path: Path, _state: State) -> SweepData:
    folder = SweepFolder.open(path)
    try:
        return read_sweep(folder, _whole(folder))
    except RequestError:  # a file that opens, but is damaged inside
        for name in _whole(folder):
            try:
                folder.table(name)
            except RequestError:
                files.failed(_file(folder, name))
        return read_sweep(folder, _whole(folder))


def _whole(folder: SweepFolder) -> list[str]:
    """Tables that can be read, as far as is known."""
    return [name for name in folder.tables() if files.readable(_file(folder, name))]


def _file(folder: SweepFolder, name: str) -> Path:
    return folder.path / "tables" / f"{name}.parquet"


@lru_cache(maxsize=16)
def _of_operator(path: Path, state: State, operator: str) -> SweepData:
    data = _data(path, state)
    if not operator:
        return data
    tables = {n: t[t["operator"] == operator] if "operator" in t else t for n, t in data.tables.items()}
    kept = replace(data, tables=tables, manifest={**data.manifest, "operators": operator}, _placed={})
    # Which label kind comes first is a property of the sweep, not of what is left of it here.
    kept.__dict__["label_order"] = data.label_order
    return kept


@lru_cache(maxsize=4)
def _positions(path: Path, state: State) -> dict[str, str]:
    held = _data(path, state).tables.get("effects")
    if held is None:
        return {}
    found = set(held.loc[held["kind"] == "head", "position"])
    found |= {maps.MLPS} if (held["kind"] == "mlp").any() else set()
    return {value: label for value, label in maps.CHOICES.items() if value in found}


@lru_cache(maxsize=256)
def _figure(path: Path, state: State, key: str, choices: Choices) -> Figure | None:
    drawing = next(d for d in (*DRAWINGS, TIMELINE) if d.key == key)
    data = _of_operator(path, state, choices.operator)
    try:
        figure = drawing.draw(data, choices)
    except RequestError:
        return None
    ways = (figure.layout.meta or {}).get("spreads", {})
    used = ways.get(choices.scale) or next(iter(ways.values()), None)
    spread(figure, choices.scale).update_layout(meta={"spreads": {"used": used}} if used else {})
    if key == TIMELINE.key:
        figure.update_layout(title=None, margin={"t": 16})
    else:
        _fitted(figure, drawing, single=bool(choices.operator))
    return cast(Figure, figure.to_plotly_json())


@lru_cache(maxsize=256)
def _map(path: Path, state: State, choices: Choices, revision: str) -> Figure | None:
    data = _of_operator(path, state, choices.operator)
    here = tuple(replace(m, reference=revision) if m.name == choices.model else m for m in data.models)
    try:
        frames = maps.effect_frames(replace(data, models=here), choices.model, choices.prompts, choices.where)
    except (RequestError, ValueError):
        return None
    figure = maps.still(frames)
    figure.update_layout(title=None, height=320, margin={"t": 24, "b": 44})
    if choices.operator:
        _no_panel_title(figure, choices.operator)
    return cast(Figure, figure.to_plotly_json())


@lru_cache(maxsize=16)
def _words(path: Path, state: State, model: str, operator: str) -> dict[str, list[tuple[str, str]]]:
    data = _of_operator(path, state, operator)
    data = replace(data, models=tuple(m for m in data.models if m.name == model), _placed={})
    return words.findings(data)


def _no_panel_title(figure: go.Figure, operator: str) -> None:
    """The page's header already says which operator it is."""
    kept = [a for a in figure.layout.annotations if a.text != theme.operator_title(operator)]
    figure.layout.annotations = kept


def _fitted(figure: go.Figure, drawing: Drawing, *, single: bool) -> None:
    """The figure without its title, in a panel of half a page, its legend below the axis."""
    bottom = 52 + 20 * (drawing.lines if single else 1)
    plot = drawing.height - 24 - bottom
    if single and figure.layout.annotations:
        figure.layout.annotations = [a for a in figure.layout.annotations if a.xref != "paper" or a.yref != "paper"]
    figure.update_layout(
        title=None, height=drawing.height, margin={"t": 24, "b": bottom, "l": 52, "r": 12},
        legend={"y": -42 / plot, "yanchor": "top", "font": {"size": theme.SMALL}, "entrywidth": 0},
    )  # fmt: skip


def _marked(figure: Figure, source: Source) -> Figure:
    """The figure with a line at the source's checkpoint in every panel."""
    spreads: Mapping[str, Any] = (figure["layout"].get("meta") or {}).get("spreads", {})
    layout = {k: v for k, v in figure["layout"].items() if k != "meta"}
    at, places = (
        source.checkpoint,
        [c for c in source.checkpoints if source.checkpoint and c.model == source.checkpoint.model],
    )
    if spreads and at in places:
        way = next(iter(spreads.values()))
        x = way["at"][places.index(at)] if len(way["at"]) == len(places) else None
        axes = [name.removeprefix("xaxis") for name in layout if name.startswith("xaxis")]
        line = {"color": theme.CHOSEN, "width": 1.5, "dash": "dot"}
        marks = [
            {"type": "line", "xref": f"x{n}", "yref": f"y{n} domain", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line,
             "layer": "below"} for n in axes if x is not None
        ]  # fmt: skip
        layout["shapes"] = [*layout.get("shapes", ()), *marks]
    return figure | {"layout": layout}
