"""The stages of an analysis, in order: from the prompts to the failures, and the maps kept to be looked at."""

from arithcirc.pipeline.circuit_stages import (
    count_faithfulness,
    count_localize,
    count_means,
    faithfulness_stage,
    localize_stage,
    means_stage,
)
from arithcirc.pipeline.heuristic_stages import count_heuristics, heuristics_stage
from arithcirc.pipeline.knockout_stages import count_failures, count_knockout, failures_stage, knockout_stage
from arithcirc.pipeline.map_stage import count_maps, maps_stage
from arithcirc.pipeline.neuron_stages import count_neurons, neurons_stage
from arithcirc.pipeline.probe_stages import count_heads, count_probe, heads_stage, probe_stage
from arithcirc.pipeline.prompt_stage import choose_prompts, count_prompts
from arithcirc.pipeline.stage import Stage

_BASE = ("model", "prompts")
_CIRCUIT = (*_BASE, "circuit")
_NEURONS = (*_CIRCUIT, "probe", "neurons")
_LABELS = (*_NEURONS, "heuristics")
_KNOCKOUT = (*_LABELS, "knockout")
_PROMPTS, _MEANS, _ANSWERS = "prompts.parquet", "means.safetensors", "answers.parquet"

STAGES = (
    Stage("prompts", _BASE, (), (), choose_prompts, count_prompts),
    Stage("localize", _BASE, ("prompts",), (_PROMPTS,), localize_stage, count_localize),
    Stage("means", _CIRCUIT, ("prompts",), (_PROMPTS,), means_stage, count_means),
    Stage(
        "faithfulness",
        _CIRCUIT,
        ("prompts", "localize", "means"),
        (_PROMPTS, "effects.parquet", _MEANS),
        faithfulness_stage,
        count_faithfulness,
    ),
    Stage("probe", (*_BASE, "probe"), ("prompts",), (_PROMPTS,), probe_stage, count_probe),
    Stage(
        "neurons",
        _NEURONS,
        ("prompts", "means", "faithfulness", "probe"),
        (_PROMPTS, _MEANS, "circuit.parquet", "first_layers.parquet"),
        neurons_stage,
        count_neurons,
    ),
    Stage(
        "heads",
        (*_CIRCUIT, "probe"),
        ("prompts", "faithfulness"),
        (_PROMPTS, "circuit.parquet"),
        heads_stage,
        count_heads,
    ),
    Stage(
        "heuristics", _LABELS, ("prompts", "neurons"), (_PROMPTS, "neurons.parquet"), heuristics_stage, count_heuristics
    ),
    Stage(
        "knockout",
        _KNOCKOUT,
        ("prompts", "means", "heuristics"),
        (_PROMPTS, _MEANS, "heuristics.parquet", _ANSWERS),
        knockout_stage,
        count_knockout,
    ),
    Stage(
        "failures",
        _KNOCKOUT,
        ("prompts", "heuristics"),
        (_PROMPTS, "heuristics.parquet", _ANSWERS),
        failures_stage,
        count_failures,
    ),
    Stage(
        "maps",
        (*_LABELS, "maps"),
        ("prompts", "neurons", "heuristics"),
        (_PROMPTS, "neurons.parquet", "heuristics.parquet"),
        maps_stage,
        count_maps,
    ),
)
