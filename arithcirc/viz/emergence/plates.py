"""The figures of a sweep, as data: what each is called, drawn from, and which choices it offers.

The same `Plate` as for a run. Four choices are the page's, not a figure's: the model, whose prompts, which labels, and
how the steps are spread; a figure that depends on one names it first, in the order of `SHARED`.
"""

from collections.abc import Callable, Iterator

import plotly.graph_objects as go

from arithcirc.viz.emergence import births, figure10, growth, jumps, maps
from arithcirc.viz.emergence.axis import SCALES, spread
from arithcirc.viz.emergence.data import PROMPTS, SweepData
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.knockouts import ABLATIONS
from arithcirc.viz.plates import Plate, Selector, drawings

SHARED = ("model", "prompts", "labels", "steps")
"""Selectors of the page as a whole."""


def _sweep(data: RunData) -> SweepData:
    if not isinstance(data, SweepData):
        raise TypeError("a sweep's figures are drawn from a SweepData")
    return data


def _models(data: RunData) -> dict[str, str]:
    return {m.name: m.name for m in _sweep(data).models}


def _prompts(table: str) -> Callable[[RunData], dict[str, str]]:
    def options(data: RunData) -> dict[str, str]:
        held = set(data.tables[table]["prompts"]) if has(data.tables, table, "prompts") else set()
        return {value: label for value, label in PROMPTS.items() if value in held}

    return options


def _fixed(labels: dict[str, str]) -> Callable[[RunData], dict[str, str]]:
    return lambda _: dict(labels)


def _among(table: str, column: str, labels: dict[str, str]) -> Callable[[RunData], dict[str, str]]:
    def options(data: RunData) -> dict[str, str]:
        held = {str(v) for v in data.tables[table][column]} if has(data.tables, table, column) else set()
        return {value: label for value, label in labels.items() if value in held}

    return options


def _positions(data: RunData) -> dict[str, str]:
    if not has(data.tables, "effects", "kind", "position"):
        return {}
    effects = data.tables["effects"]
    held = set(effects.loc[effects["kind"] == "head", "position"])
    held |= {maps.MLPS} if (effects["kind"] == "mlp").any() else set()
    return {value: label for value, label in maps.CHOICES.items() if value in held}


def _measures(table: str, labels: dict[str, str]) -> Callable[[RunData], dict[str, str]]:
    def options(data: RunData) -> dict[str, str]:
        held = data.tables.get(table)
        return {m: label for m, label in labels.items() if held is not None and m in held and held[m].notna().any()}

    return options


_MODEL = Selector("model", _models)
_LABELS = Selector("labels", lambda data: dict(_sweep(data).label_order), exported=False)
_SIZES = {"25": "25 per layer", "10": "10 per layer", "5": "5 per layer"}


def _prompted(table: str) -> tuple[Selector, Selector]:
    return _MODEL, Selector("prompts", _prompts(table), exported=False)


PLATES: tuple[Plate, ...] = (
    Plate("accuracy", "Accuracy over training", ("steps",), growth.accuracy_curves, (_MODEL,)),
    Plate(
        "overlap", "(a) Share of the reference’s heuristics", ("overlap",), figure10.overlap_curves,
        (*_prompted("overlap"), _LABELS),
    ),
    Plate(
        "kept_faithfulness", "(b) Faithfulness of the neurons kept", ("kept_faithfulness",), figure10.kept_curves,
        (
            *_prompted("kept_faithfulness"), _LABELS,
            Selector("measure", _measures("kept_faithfulness", figure10.MEASURES), exported=False),
            Selector("heads", _among("kept_faithfulness", "heads", figure10.HEADS), exported=False),
        ),
    ),
    Plate(
        "knockouts", "(c) Accuracy after ablation by prompt", ("knockouts_by_prompt",), figure10.knockout_curves,
        (
            *_prompted("knockouts_by_prompt"), _LABELS,
            Selector("neurons", _among("knockouts_by_prompt", "per_layer", _SIZES)),
            Selector("ablation", _among("knockouts_by_prompt", "ablation", ABLATIONS), exported=False),
        ),
    ),
    Plate(
        "circuits", "Circuits over training", ("steps",), growth.circuit_curves,
        (*_prompted("steps"), Selector("measure", _measures("steps", growth.MEASURES))), uses=("tasks",),
    ),
    Plate(
        "maps", "Where: effects of patching", ("effects",), maps.effect_frames,
        (*_prompted("effects"), Selector("component", _positions)),
    ),
    Plate(
        "families", "Families over training", ("families",), growth.family_bars,
        (*_prompted("families"), _LABELS, Selector("count", _fixed(growth.COUNTS), exported=False)),
    ),
    Plate("births", "Births and deaths", ("births",), births.birth_bars, (_MODEL, _LABELS)),
    Plate("birth_raster", "Pairs by birth", ("births",), births.birth_raster, (_MODEL, _LABELS)),
    Plate("jumps", "Accuracy around births", ("jumps",), jumps.event_study, (_MODEL, _LABELS)),
)  # fmt: skip


def page_selectors(data: SweepData) -> list[tuple[str, dict[str, str], str]]:
    """`(name, values with labels, value shown first)` of the choices that hold for the whole page."""
    ways: dict[str, None] = {}
    for model in data.models:
        ways |= dict.fromkeys(model.axis.ways)
    prompts = _prompts("steps")(data) or dict(PROMPTS)
    found = {
        "model": _models(data), "prompts": prompts, "labels": dict(data.label_order),
        "steps": {way: SCALES[way] for way in ways},
    }  # fmt: skip
    return [(name, options, next(iter(options))) for name, options in found.items() if len(options) > 1]


def drawn(data: SweepData) -> Iterator[tuple[str, tuple[str, ...], go.Figure]]:
    """`(file stem, files it is drawn from, figure)` of every figure that becomes a file, its steps spread."""
    for plate in PLATES:
        for values, draw in drawings(plate, data, files=True):
            if (figure := draw()) is not None:
                sources = tuple(f"tables/{t}.parquet" for t in (*plate.tables, *plate.uses) if t in data.tables)
                yield _stem(plate, values, data), sources, maps.still(spread(figure))


def stems(data: SweepData, key: str, *values: str) -> list[str]:
    """The file stems of a figure with these values of its exported choices, one per model."""
    plate = next(p for p in PLATES if p.key == key)
    hidden = iter(values)
    rest = [next(hidden) if s.exported else "" for s in plate.selectors[1:]]
    return [_stem(plate, (model.name, *rest), data) for model in data.models]


def _stem(plate: Plate, values: tuple[str, ...], data: SweepData) -> str:
    """The plate's own, without the model where there is only one."""
    name, *rest = values
    several = [name.replace("/", "--")] if len(data.models) > 1 else []
    shown = [v for v, s in zip(rest, plate.selectors[1:], strict=True) if s.exported]
    return "_".join([plate.key, *several, *shown])
