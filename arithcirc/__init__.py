"""arithcirc: find, prove and show the arithmetic circuits of decoder language models.

    import arithcirc as ac
    model = ac.load()                       # the shipped model; or a Hugging Face id, or a folder

Public names are loaded when they are first used, so importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "arithcirc.components": ("Head", "Mlp", "Neuron", "Position", "Site"),
    "arithcirc.errors": ("ArithcircError", "EnvironmentFailure", "RequestError"),
    "arithcirc.config": (
        "CircuitConfig",
        "HeuristicConfig",
        "KnockoutConfig",
        "NeuronConfig",
        "ProbeConfig",
        "PromptConfig",
    ),
    "arithcirc.store": ("RunFolder",),
    "arithcirc.catalogue": ("SweepFolder",),
    "arithcirc.arithmetic.operators": ("OPERATORS", "OperandRange", "Prompts", "legal_prompts", "operator"),
    "arithcirc.arithmetic.format": ("PromptFormat",),
    "arithcirc.arithmetic.tokens": ("prompt_encoder", "single_token_limit"),
    "arithcirc.arithmetic.pairs": ("Counterfactual", "Pairs", "counterfactuals", "read_pairs"),
    "arithcirc.models.architectures": ("ARCHITECTURES", "REFUSED_ARCHITECTURES"),
    "arithcirc.models.load": ("load",),
    "arithcirc.models.protocol": ("HookedModel",),
    "arithcirc.models.shapes": ("Shape", "configuration", "save_random"),
    "arithcirc.models.suffix": ("Patch", "SuffixEngine"),
    "arithcirc.measure.exactness": ("check_exactness", "random_tokens"),
    "arithcirc.measure.agreement": ("compare_runs", "pairs_of"),
    "arithcirc.measure.metrics": ("faithfulness", "patching_metrics"),
    "arithcirc.measure.means": ("mean_activations",),
    "arithcirc.measure.maps": ("activation_maps", "value_logits"),
    "arithcirc.circuits.localize": ("localize",),
    "arithcirc.circuits.circuit": ("rank_heads",),
    "arithcirc.circuits.faithfulness": ("judge",),
    "arithcirc.circuits.probes": ("read_residuals", "train_probes"),
    "arithcirc.circuits.neurons": ("neuron_effects",),
    "arithcirc.heuristics.names": ("parse_heuristic",),
    "arithcirc.heuristics.presets": ("preset",),
    "arithcirc.heuristics.labels": ("label_neurons",),
    "arithcirc.heuristics.knockouts": ("knock_out_heuristic", "knock_out_prompt"),
    "arithcirc.pipeline.api": ("analyze", "sample_pairs"),
    "arithcirc.sweep.api": ("run_sweep",),
    "arithcirc.sweep.task": ("Loading", "Settings"),
    "arithcirc.sweep.where": ("Where",),
    "arithcirc.report": ("write_report",),
    "arithcirc.viz.export": ("write_figures",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ARCHITECTURES",
    "OPERATORS",
    "REFUSED_ARCHITECTURES",
    "ArithcircError",
    "CircuitConfig",
    "Counterfactual",
    "EnvironmentFailure",
    "Head",
    "HeuristicConfig",
    "HookedModel",
    "KnockoutConfig",
    "Loading",
    "Mlp",
    "Neuron",
    "NeuronConfig",
    "OperandRange",
    "Pairs",
    "Patch",
    "Position",
    "ProbeConfig",
    "PromptConfig",
    "PromptFormat",
    "Prompts",
    "RequestError",
    "RunFolder",
    "Settings",
    "Shape",
    "Site",
    "SuffixEngine",
    "SweepFolder",
    "Where",
    "activation_maps",
    "analyze",
    "check_exactness",
    "compare_runs",
    "configuration",
    "counterfactuals",
    "faithfulness",
    "judge",
    "knock_out_heuristic",
    "knock_out_prompt",
    "label_neurons",
    "legal_prompts",
    "load",
    "localize",
    "mean_activations",
    "neuron_effects",
    "operator",
    "pairs_of",
    "parse_heuristic",
    "patching_metrics",
    "preset",
    "prompt_encoder",
    "random_tokens",
    "rank_heads",
    "read_pairs",
    "read_residuals",
    "run_sweep",
    "sample_pairs",
    "save_random",
    "single_token_limit",
    "train_probes",
    "value_logits",
    "write_figures",
    "write_report",
]

if TYPE_CHECKING:
    from arithcirc.arithmetic.format import PromptFormat
    from arithcirc.arithmetic.operators import OPERATORS, OperandRange, Prompts, legal_prompts, operator
    from arithcirc.arithmetic.pairs import Counterfactual, Pairs, counterfactuals, read_pairs
    from arithcirc.arithmetic.tokens import prompt_encoder, single_token_limit
    from arithcirc.catalogue import SweepFolder
    from arithcirc.circuits.circuit import rank_heads
    from arithcirc.circuits.faithfulness import judge
    from arithcirc.circuits.localize import localize
    from arithcirc.circuits.neurons import neuron_effects
    from arithcirc.circuits.probes import read_residuals, train_probes
    from arithcirc.components import Head, Mlp, Neuron, Position, Site
    from arithcirc.config import CircuitConfig, HeuristicConfig, KnockoutConfig, NeuronConfig, ProbeConfig, PromptConfig
    from arithcirc.errors import ArithcircError, EnvironmentFailure, RequestError
    from arithcirc.heuristics.knockouts import knock_out_heuristic, knock_out_prompt
    from arithcirc.heuristics.labels import label_neurons
    from arithcirc.heuristics.names import parse_heuristic
    from arithcirc.heuristics.presets import preset
    from arithcirc.measure.agreement import compare_runs, pairs_of
    from arithcirc.measure.exactness import check_exactness, random_tokens
    from arithcirc.measure.maps import activation_maps, value_logits
    from arithcirc.measure.means import mean_activations
    from arithcirc.measure.metrics import faithfulness, patching_metrics
    from arithcirc.models.architectures import ARCHITECTURES, REFUSED_ARCHITECTURES
    from arithcirc.models.load import load
    from arithcirc.models.protocol import HookedModel
    from arithcirc.models.shapes import Shape, configuration, save_random
    from arithcirc.models.suffix import Patch, SuffixEngine
    from arithcirc.pipeline.api import analyze, sample_pairs
    from arithcirc.report import write_report
    from arithcirc.store import RunFolder
    from arithcirc.sweep.api import run_sweep
    from arithcirc.sweep.task import Loading, Settings
    from arithcirc.sweep.where import Where
    from arithcirc.viz.export import write_figures


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'arithcirc' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
