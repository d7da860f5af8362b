"""The figures of an axiom study as data: what each is drawn from, and which choices it offers."""

from arithcirc.errors import RequestError
from arithcirc.viz.axioms import names
from arithcirc.viz.axioms.bars import bars_figure
from arithcirc.viz.axioms.cells import measures, mixes, trained
from arithcirc.viz.axioms.circuit import faithfulness_figure
from arithcirc.viz.axioms.heads import edge_head_map
from arithcirc.viz.axioms.hops import hops_figure
from arithcirc.viz.axioms.layers import layer_curves, probe_map
from arithcirc.viz.axioms.lengths import length_figure
from arithcirc.viz.axioms.neurons import class_shares, knockouts
from arithcirc.viz.axioms.patching import COMPONENTS, patching_heads, patching_map
from arithcirc.viz.axioms.rule import rule_figure
from arithcirc.viz.axioms.sets import overview, set_dots
from arithcirc.viz.axioms.training import training_figure
from arithcirc.viz.axioms.walk import walk_attention, walk_margins
from arithcirc.viz.frames import RunData, has
from arithcirc.viz.influence.names import in_order
from arithcirc.viz.plates import Options, Plate, Selector


def _among(table: str, column: str, known: dict[str, str] | None = None) -> Options:
    """The values of a column as they come, with labels where they are known."""

    def options(data: RunData) -> dict[str, str]:
        if not has(data.tables, table, column):
            return {}
        held = dict.fromkeys(str(v) for v in data.tables[table][column])
        if known is None:
            return {v: v.replace("-0", " ").replace("-", " ") if column == "questions" else v for v in held}
        return {v: label for v, label in known.items() if v in held}

    return options


def _layers(data: RunData) -> dict[str, str]:
    """Layers with a head of the circuit of any model."""
    if not has(data.tables, "walk_attention", "layer"):
        return {}
    return {str(n): str(n) for n in sorted({int(v) for v in data.tables["walk_attention"]["layer"]})}


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise RequestError(f"{text!r} is no layer")
    return int(text)


def _training_mixes(data: RunData) -> dict[str, str]:
    return _among("models", "mix", names.MIXES)(data)


def _model(table: str) -> Selector:
    """Which model that was opened."""

    def options(data: RunData) -> dict[str, str]:
        return {v: v.split(" ")[0] for v in _among(table, "opening")(data)}

    return Selector("model", options)


def _families(data: RunData) -> dict[str, str]:
    """Families that were asked by length of path; turned edges first."""
    if not has(data.tables, "hops", "set"):
        return {}
    held = in_order(data.tables["hops"]["set"], names.SETS)
    return {name: names.set_title(name) for name in sorted(held, key=lambda n: n in ("sequential", "names"))}


_MIX, _MEASURE = Selector("mix", mixes), Selector("measure", measures)

STUDY_PLATES: tuple[Plate, ...] = (
    Plate(
        "axioms_overview", "Mean accuracy by family of graphs", ("cells",),
        lambda d, measure: overview(d.tables["cells"], measure=measure, trained=trained(d)), (_MEASURE,),
    ),
    Plate(
        "axioms_length", "Accuracy against length", ("cells",),
        lambda d, mix, measure: length_figure(
            d.tables["cells"], d.tables.get("published"), mix=mix, measure=measure, trained=trained(d)
        ),
        (_MIX, _MEASURE), uses=("published",),
    ),
    Plate(
        "axioms_sets", "Accuracy on other graphs", ("cells",),
        lambda d, mix, measure: set_dots(d.tables["cells"], mix=mix, measure=measure), (_MIX, _MEASURE),
    ),
    Plate(
        "axioms_hops", "Accuracy by path length", ("hops",),
        lambda d, mix, family: hops_figure(d.tables["hops"], d.tables.get("cells"), mix=mix, name=family),
        (_MIX, Selector("family", _families)), uses=("cells",),
    ),
    Plate("axioms_bars", "What was expected", ("bars",), lambda d: bars_figure(d.tables["bars"])),
    Plate(
        "axioms_training", "Training", ("training", "models"),
        lambda d, mix: training_figure(d.tables["training"], d.tables["models"], mix=mix),
        (Selector("mix", _training_mixes),),
    ),
)  # fmt: skip

OPENING_PLATES: tuple[Plate, ...] = (
    Plate("axioms_rule", "Hard accuracy beside the shortcuts", ("generalisation",),
          lambda d: rule_figure(d.tables["generalisation"])),
    Plate(
        "axioms_walk", "Attention of the circuit’s heads", ("walk_tokens", "walk_attention"),
        lambda d, model, layer: walk_attention(
            d.tables["walk_tokens"], d.tables["walk_attention"], opening=model, layer=_whole(layer)
        ),
        (_model("walk_tokens"), Selector("layer", _layers)),
    ),
    Plate(
        "axioms_margins", "When the answer appears", ("walk_margins",),
        lambda d, model: walk_margins(d.tables["walk_margins"], opening=model), (_model("walk_margins"),),
    ),
    Plate(
        "axioms_patching", "Activation patching by role and layer", ("patching",),
        lambda d, model, pair, part: patching_map(d.tables["patching"], opening=model, pair=pair, component=part),
        (_model("patching"), Selector("pair", _among("patching", "pair")),
         Selector("part", _among("patching", "component", COMPONENTS))),
    ),
    Plate(
        "axioms_patching_heads", "Activation patching of heads", ("patching",),
        lambda d, model, pair: patching_heads(d.tables["patching"], opening=model, pair=pair),
        (_model("patching"), Selector("pair", _among("patching", "pair"))),
    ),
    Plate(
        "axioms_edge_heads", "Heads that follow edges", ("edge_heads",),
        lambda d, model, questions: edge_head_map(d.tables["edge_heads"], opening=model, questions=questions),
        (_model("edge_heads"), Selector("questions", _among("edge_heads", "questions"))),
    ),
    Plate(
        "axioms_probes", "Where reachability can be read", ("reach_probes",),
        lambda d, model: probe_map(d.tables["reach_probes"], opening=model), (_model("reach_probes"),),
    ),
    Plate(
        "axioms_layers", "How many layers a path needs", ("layer_curves",),
        lambda d, model: layer_curves(d.tables["layer_curves"], d.tables.get("layers_needed"), opening=model),
        (_model("layer_curves"),), uses=("layers_needed",),
    ),
    Plate(
        "axioms_circuit", "The circuit", ("faithfulness",),
        lambda d, model: faithfulness_figure(d.tables["faithfulness"], d.tables.get("circuit"), opening=model),
        (_model("faithfulness"),), uses=("circuit",),
    ),
    Plate(
        "axioms_neurons", "What neurons go by", ("neurons",),
        lambda d, model: class_shares(d.tables["neurons"], opening=model), (_model("neurons"),),
    ),
    Plate(
        "axioms_knockouts", "Knocking out neurons of a class", ("knockouts",),
        lambda d, model: knockouts(d.tables["knockouts"], opening=model), (_model("knockouts"),),
    ),
)  # fmt: skip
PLATES = (*STUDY_PLATES, *OPENING_PLATES)
