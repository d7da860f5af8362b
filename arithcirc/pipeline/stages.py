"""The stages of an analysis, in order: prompts, localize, means, faithfulness."""

from arithcirc.pipeline.circuit_stages import (
    count_faithfulness,
    count_localize,
    count_means,
    faithfulness_stage,
    localize_stage,
    means_stage,
)
from arithcirc.pipeline.prompt_stage import choose_prompts, count_prompts
from arithcirc.pipeline.stage import Stage

_BASE = ("model", "prompts")
_CIRCUIT = (*_BASE, "circuit")

STAGES = (
    Stage("prompts", _BASE, (), (), choose_prompts, count_prompts),
    Stage("localize", _BASE, ("prompts",), ("prompts.parquet",), localize_stage, count_localize),
    Stage("means", _CIRCUIT, ("prompts",), ("prompts.parquet",), means_stage, count_means),
    Stage(
        "faithfulness",
        _CIRCUIT,
        ("prompts", "localize", "means"),
        ("prompts.parquet", "effects.parquet", "means.safetensors"),
        faithfulness_stage,
        count_faithfulness,
    ),
)
