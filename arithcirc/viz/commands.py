"""Command lines that make a run's tables again: as typed where the manifest has it, else from the configuration.

A stage's own line takes the model, the folder of runs, the files and the loading options as they were typed, because
the configuration knows a local model by its name and a file by its hash only. All else comes from the configuration.
"""

import shlex
from dataclasses import asdict
from typing import Any

from arithcirc.config import (
    CircuitConfig,
    HeuristicConfig,
    KnockoutConfig,
    MapsConfig,
    NeuronConfig,
    ProbeConfig,
    PromptConfig,
)

_OPTIONS: dict[str, tuple[Any, dict[str, str]]] = {
    "prompts": (PromptConfig, {
        "operators": "operators", "operands": "operands", "n_discover": "prompts", "seed": "seed", "pairs": "pairs",
        "counterfactual_seeds": "counterfactual-seeds", "prefix": "prefix", "template": "template",
    }),
    "circuit": (CircuitConfig, {
        "n_heads": "heads", "mlps": "mlps", "rank_by": "rank-by", "target": "target",
        "random_circuits": "random-circuits", "mean_prompts": "mean-prompts",
    }),
    "probe": (ProbeConfig, {
        "prompts": "probe-prompts", "learning_rate": "probe-lr", "batch": "probe-batch", "epochs": "probe-epochs",
    }),
    "neurons": (NeuronConfig, {
        "top": "top-neurons", "first_layer": "first-layer", "random_draws": "random-neurons",
    }),
    "heuristics": (HeuristicConfig, {
        "preset": "preset", "threshold": "threshold", "q": "q", "draws": "null-draws", "neurons": "neurons",
    }),
    "knockout": (KnockoutConfig, {
        "prompts": "knockout-prompts", "by_prompt": "by-prompt", "failures": "failures", "labels": "labels",
    }),
    "maps": (MapsConfig, {"top": "maps"}),
}  # fmt: skip
MADE_BY = {
    "accuracy": "prompts",
    "prompts": "prompts",
    "effects": "localize",
    "circuit": "faithfulness",
    "faithfulness": "faithfulness",
    "undefined": "faithfulness",
    "probes": "probe",
    "first_layers": "probe",
    "neurons": "neurons",
    "neuron_agreement": "neurons",
    "neuron_faithfulness": "neurons",
    "neuron_overlap": "neurons",
    "heads": "heads",
    "head_copies": "heads",
    "head_cuts": "heads",
    "number_neurons": "heuristics",
    "heuristics": "heuristics",
    "label_summary": "heuristics",
    "unlabelled": "heuristics",
    "excluded_heuristics": "heuristics",
    "gallery": "heuristics",
    "answers": "heuristics",
    "knockouts_by_heuristic": "knockout",
    "knockouts_by_prompt": "knockout",
    "bag_of_heuristics": "knockout",
    "failures": "failures",
    "failure_tests": "failures",
    "maps": "maps",
}
"""Which command makes which table."""

_CIRCUIT = ("prompts", "circuit")
_LABELS = (*_CIRCUIT, "probe", "neurons", "heuristics")
_SECTIONS = {
    "prompts": ("prompts",), "localize": ("prompts",), "faithfulness": _CIRCUIT, "probe": ("prompts", "probe"),
    "neurons": (*_CIRCUIT, "probe", "neurons"), "heads": (*_CIRCUIT, "probe"),
    "heuristics": _LABELS, "knockout": (*_LABELS, "knockout"), "failures": (*_LABELS, "knockout"),
    "maps": (*_LABELS, "maps"),
}  # fmt: skip
"""Sections of the configuration a command takes options for; all of them where it is not listed."""

_FILES = ("pairs", "neurons")
"""Fields that hold the hash of a file; its name is known from the typed line only."""

_AS_TYPED = ("revision", "dtype", "device", "device-map", "cache-dir", "offline", "threads", "batch-size", "out")
_FLAGS = ("offline", "plan-only")
"""Options without a value."""


def recorded_line(manifest: dict[str, Any]) -> str | None:
    """The command line the run was last made with, as it was typed; None where nobody recorded one."""
    for place in ("notes", "facts"):
        recorded = manifest.get(place, {}).get("command")
        if recorded:
            return shlex.join(recorded) if isinstance(recorded, list) else str(recorded)
    return None


def stage_line(stage: str, config: dict[str, Any], model: dict[str, Any], recorded: str | None = None) -> str:
    """The command line of a stage, quoted for a shell; options that are at their defaults are left out."""
    typed = _typed(recorded) if recorded else {}
    parts = ["arithcirc", stage]
    if recorded:
        parts += [typed["model"]] if "model" in typed else []  # without one it is the shipped model
        parts += [f"--{n}" if n in _FLAGS else f"--{n}={typed[n]}" for n in _AS_TYPED if n in typed]
    else:
        parts.append(str(model.get("name", "MODEL")))
        if model.get("revision"):
            parts.append(f"--revision={model['revision']}")
        if model.get("dtype", "float32") != "float32":
            parts.append(f"--dtype={model['dtype']}")
    for section in _SECTIONS.get(stage, tuple(_OPTIONS)):
        parts += _section(section, stage, config.get(section, {}), typed)
    return shlex.join(parts)


def _section(section: str, stage: str, held: dict[str, Any], typed: dict[str, str]) -> list[str]:
    """The options of one section that are not at their defaults."""
    made, names = _OPTIONS[section]
    usual, parts = asdict(made()), []
    for key, value in held.items():
        if key not in names or value is None or value == usual.get(key):
            continue
        if (key == "neurons" and stage != "heuristics") or (key == "operators" and held.get("pairs") is not None):
            continue  # only one command takes neurons; with pairs, the file names the operators
        parts.append(f"--{names[key]}={typed.get(key, 'FILE') if key in _FILES else value}")
    return parts


def _typed(recorded: str) -> dict[str, str]:
    """The options of a command line by name, and its `model`; a flag has an empty value."""
    words, found = iter(shlex.split(recorded)[2:]), dict[str, str]()
    for word in words:
        if not word.startswith("--"):
            found.setdefault("model", word)
            continue
        name, given, value = word[2:].partition("=")
        name = name.replace("_", "-")
        found[name] = value if given or name in _FLAGS else next(words, "")
    return found
