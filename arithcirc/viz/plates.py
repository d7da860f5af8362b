"""The figures of the neuron stages, as data: what each is called, drawn from, and which choices it offers.

A `Plate` is one place on the page and one or several files: its selectors (operator, ablation, ...) choose among
alternatives. `viz.embed` puts plates on the page, `viz.export` writes them to files; both ask the same list, so a
figure is registered once. A plate whose tables or arrays are missing, or hold nothing to draw, is passed over; the page
then says which table is missing and which command makes it.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from arithcirc.errors import RequestError
from arithcirc.viz import theme
from arithcirc.viz.failures import failure_boxes
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.gallery import gallery_maps
from arithcirc.viz.heads import head_attention, head_copies, head_cuts, number_responses
from arithcirc.viz.heuristics import KINDS, family_shares, labelled_share, score_scatter
from arithcirc.viz.knockouts import ABLATIONS, knockout_curves, knockout_means, knockout_scatter
from arithcirc.viz.neuron_curves import HEADS, neuron_faithfulness
from arithcirc.viz.neurons import agreement, effect_curves, overlap_matrix
from arithcirc.viz.probes import probe_at_equals, probe_heatmap

Options = Callable[[RunData], dict[str, str]]


@dataclass(frozen=True)
class Selector:
    """One choice: its name, the values there are with their labels, and whether each value becomes a file."""

    name: str
    options: Options
    exported: bool = True


@dataclass(frozen=True)
class Plate:
    """One figure with its alternatives. `draw(data, *values)` takes one value per selector."""

    key: str
    label: str
    tables: tuple[str, ...]
    draw: Callable[..., go.Figure]
    selectors: tuple[Selector, ...] = ()
    uses: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()

    @property
    def files(self) -> str:
        """The file that holds all its numbers."""
        return f"{self.arrays[0]}.safetensors" if self.arrays else f"{self.tables[0]}.parquet"

    def ready(self, data: RunData) -> bool:
        """Every table it is drawn from has rows and every array is there."""
        return all(has(data.tables, t) for t in self.tables) and all(a in data.arrays for a in self.arrays)

    def choices(self, data: RunData, *, files: bool = False) -> list[tuple[str, ...]]:
        """Combinations of values, the default first; for files, only what becomes one."""
        lists = [list(s.options(data))[: 1 if files and not s.exported else None] for s in self.selectors]
        return sorted(itertools.product(*lists), key=lambda c: sum(o.index(v) for o, v in zip(lists, c, strict=True)))

    def stem(self, values: tuple[str, ...]) -> str:
        """The file's name: the key and the values that tell files apart."""
        shown = [theme.OPERATOR_NAMES.get(v, v) for v, s in zip(values, self.selectors, strict=True) if s.exported]
        return "_".join([self.key, *shown]).replace(" ", "-")


def _among(table: str, column: str, labels: dict[str, str]) -> Options:
    """The values of a column that have a label, in the labels' order."""

    def options(data: RunData) -> dict[str, str]:
        held = set(data.tables[table][column]) if has(data.tables, table, column) else set()
        return {value: label for value, label in labels.items() if value in held}

    return options


def _measures(data: RunData) -> dict[str, str]:
    labels = {"faithfulness": "F, mean of ratios", "faithfulness_ratio": "F, ratio of means", "accuracy": "accuracy"}
    table = data.tables["neuron_faithfulness"]
    return {m: label for m, label in labels.items() if m in table.columns and table[m].notna().any()}


def _operators(table: str) -> Options:
    return _among(table, "operator", {o: theme.operator_title(o) for o in theme.OPERATOR_NAMES})


def _target(data: RunData) -> float:
    return float(data.setting("circuit", "target", 0.9))


_ABLATION = {
    t: Selector("ablation", _among(t, "ablation", ABLATIONS)) for t in ("knockouts_by_heuristic", "knockouts_by_prompt")
}

PLATES: tuple[Plate, ...] = (
    Plate(
        "probes", "Probe accuracy by layer and position", ("probes",),
        lambda d: probe_heatmap(d.tables["probes"], d.tables.get("first_layers")), uses=("first_layers",),
    ),
    Plate(
        "probes_at_equals", "Probe accuracy at = by layer", ("probes",),
        lambda d: probe_at_equals(d.tables["probes"], d.tables.get("first_layers")), uses=("first_layers",),
    ),
    Plate("neuron_effects", "Exact effects of neurons", ("neurons",), lambda d: effect_curves(d.tables["neurons"])),
    Plate(
        "neuron_agreement", "Estimate against exact effect", ("neuron_agreement",),
        lambda d: agreement(d.tables["neuron_agreement"]),
    ),
    Plate(
        "neuron_faithfulness", "Faithfulness against neurons kept", ("neuron_faithfulness",),
        lambda d, heads, measure: neuron_faithfulness(
            d.tables["neuron_faithfulness"], heads=heads, measure=measure, target=_target(d)
        ),
        (
            Selector("heads", _among("neuron_faithfulness", "heads", HEADS)),
            Selector("measure", _measures, exported=False),
        ),
    ),
    Plate(
        "neuron_overlap", "Overlap of the operators' neurons", ("neuron_overlap",),
        lambda d: overlap_matrix(d.tables["neuron_overlap"]),
    ),
    Plate("head_attention", "Attention from =", ("heads",), lambda d: head_attention(d.tables["heads"])),
    Plate("head_copies", "What heads bring", ("head_copies",), lambda d: head_copies(d.tables["head_copies"])),
    Plate("head_cuts", "Cutting edges between positions", ("head_cuts",), lambda d: head_cuts(d.tables["head_cuts"])),
    Plate(
        "number_neurons", "First MLP: response to one number", (),
        lambda d: number_responses(
            d.tables.get("number_neurons"), d.arrays["number_responses"]["response"], operands=d.operands
        ),
        uses=("number_neurons",), arrays=("number_responses",),
    ),
    Plate(
        "labelled", "Share of important neurons with a label", ("label_summary",),
        lambda d: labelled_share(d.tables["label_summary"], threshold=d.threshold, q_level=d.level),
    ),
    Plate(
        "families", "Families by layer", ("heuristics",), lambda d, kind: family_shares(d, kind=kind),
        (Selector("labels", lambda _: dict(KINDS)),), uses=("neurons", "unlabelled"),
    ),
    Plate(
        "scores", "Score against base rate", ("heuristics",),
        lambda d: score_scatter(d.tables["heuristics"], threshold=d.threshold),
    ),
    Plate(
        "gallery", "Activation maps", ("gallery",),
        lambda d, operator: gallery_maps(
            d.tables["gallery"], dict(d.arrays["gallery"]), operator=operator, first=d.operands[0], cells=d.cells
        ),
        (Selector("operator", _operators("gallery")),), arrays=("gallery",),
    ),
    Plate(
        "knockouts_by_heuristic", "Ablation by heuristic", ("knockouts_by_heuristic",),
        lambda d, ablation: knockout_scatter(d.tables["knockouts_by_heuristic"], ablation=ablation),
        (_ABLATION["knockouts_by_heuristic"],),
    ),
    Plate(
        "knockout_means", "Ablation by heuristic, means", ("knockouts_by_heuristic",),
        lambda d: knockout_means(d.tables["knockouts_by_heuristic"]),
    ),
    Plate(
        "knockouts_by_prompt", "Ablation by prompt", ("knockouts_by_prompt",),
        lambda d, ablation: knockout_curves(d.tables["knockouts_by_prompt"], ablation=ablation),
        (_ABLATION["knockouts_by_prompt"],),
    ),
    Plate(
        "failures", "Correct against incorrect prompts", ("failures",),
        lambda d: failure_boxes(d.tables["failures"], d.tables.get("failure_tests")), uses=("failure_tests",),
    ),
)  # fmt: skip

ARRAYS = tuple(dict.fromkeys(name for plate in PLATES for name in plate.arrays))
TABLES = tuple(dict.fromkeys(name for plate in PLATES for name in (*plate.tables, *plate.uses)))


def drawings(
    plate: Plate, data: RunData, *, files: bool = False
) -> Iterator[tuple[tuple[str, ...], Callable[[], go.Figure | None]]]:
    """`(values, draw)` per alternative; `draw()` is None where the tables have nothing for it."""
    if not plate.ready(data):
        return
    for values in plate.choices(data, files=files):
        yield values, lambda values=values: _try(plate, data, values)  # type: ignore[misc]


def drawn(plates: Sequence[Plate], data: RunData) -> Iterator[tuple[Plate, str, go.Figure]]:
    """Every figure that the tables allow and that becomes a file: its plate, file stem, figure."""
    for plate in plates:
        for values, draw in drawings(plate, data, files=True):
            if (figure := draw()) is not None:
                yield plate, plate.stem(values), figure


def _try(plate: Plate, data: RunData, values: tuple[str, ...]) -> go.Figure | None:
    with contextlib.suppress(RequestError):
        return plate.draw(data, *values)
    return None
