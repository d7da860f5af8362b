"""Which architectures are computed exactly, and why others are refused.

A patch is only as right as the replayed block, so an architecture is named here once its heads, MLPs and neurons have
been compared with full hooked forwards at every position (tests/models/test_architectures.py). What is particular to
one is handled where it acts: parallel blocks and post-norms in the suffix engine and the bridge, the final norm's scale
and the logit soft-cap where logits are read. Everything else is refused by name, and so are settings of a supported
class with which the wrapped or the replayed model was seen to give other numbers.
"""

from dataclasses import dataclass
from typing import Any

from arithcirc.errors import ModelError


@dataclass(frozen=True)
class Architecture:
    """A supported Hugging Face class: what people call it, and what sets its blocks apart."""

    family: str
    blocks: str


ARCHITECTURES = {
    "GPTNeoXForCausalLM": Architecture("GPT-NeoX, Pythia", "parallel or sequential; LayerNorm; fused QKV; rotary part"),
    "GPTJForCausalLM": Architecture("GPT-J", "parallel, one LayerNorm; rotary on part of the head; biased unembedding"),
    "GPT2LMHeadModel": Architecture("GPT-2", "sequential; LayerNorm; learned positions; Conv1D weights; tied"),
    "LlamaForCausalLM": Architecture("Llama 2 and 3", "sequential; RMSNorm; gated MLP; grouped-query attention"),
    "MistralForCausalLM": Architecture("Mistral", "as Llama; sliding-window attention"),
    "Qwen2ForCausalLM": Architecture("Qwen 2, 2.5", "as Llama; biased Q, K, V"),
    "Qwen3ForCausalLM": Architecture("Qwen 3", "as Llama; norms on queries and keys; free head width"),
    "Gemma2ForCausalLM": Architecture(
        "Gemma 2", "norms before and after; gated MLP; scaled embeddings; soft-capped scores and logits"
    ),
    "Gemma3ForCausalLM": Architecture(
        "Gemma 3 (text)", "norms before and after; norms on queries and keys; local and global attention"
    ),
    "Olmo2ForCausalLM": Architecture("OLMo 2", "norms after attention and MLP only; norms on whole queries and keys"),
}

REFUSED_ARCHITECTURES = {
    "Gemma3ForConditionalGeneration": "it reads images too; its text model alone (Gemma3ForCausalLM) is supported",
    "Llama4ForConditionalGeneration": "its MLPs are mixtures of experts, so a neuron is not one row of one W_out",
    "MixtralForCausalLM": "its MLPs are mixtures of experts, so a neuron is not one row of one W_out",
    "Qwen2MoeForCausalLM": "its MLPs are mixtures of experts, so a neuron is not one row of one W_out",
    "Qwen3MoeForCausalLM": "its MLPs are mixtures of experts, so a neuron is not one row of one W_out",
    "OlmoeForCausalLM": "its MLPs are mixtures of experts, so a neuron is not one row of one W_out",
    "GptOssForCausalLM": "its MLPs are mixtures of experts, so a neuron is not one row of one W_out",
    "MambaForCausalLM": "it has no attention heads",
    "Mamba2ForCausalLM": "it has no attention heads",
    "T5ForConditionalGeneration": "it is an encoder-decoder; decoders are read here",
    "BertForMaskedLM": "it is not a decoder",
}
"""Asked for often, with the reason; other names are refused as unchecked."""


_ONE_WAY = "its tokens see later ones, so a patch also changes what comes before it"
WRONG_SETTINGS: tuple[tuple[str, Any, str], ...] = (
    ("add_cross_attention", True, "it reads an encoder too; decoders alone are read here"),
    ("use_bidirectional_attention", True, _ONE_WAY),
    ("is_causal", False, _ONE_WAY),
    ("scale_attn_weights", False, "TransformerLens scales attention scores by the width of a head"),
    ("clip_qkv", ..., "TransformerLens clips its queries, keys and values in another way"),
)
"""Settings of any class, with the value (...: any) that makes the numbers wrong, and why."""

WRONG_SETTINGS_OF = {
    "GPTNeoXForCausalLM": (
        ("attention_bias", False, "TransformerLens needs the biases of its queries, keys and values"),
    ),
    "Gemma3ForCausalLM": (("attn_logit_softcapping", ..., "TransformerLens leaves out the soft-cap of its scores"),),
}
"""The same for one class."""

LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
"""Rotary tables that change with a prompt's length: a part of it that is replayed alone would get another table."""


def supported() -> str:
    """The supported classes with what people call them, for messages."""
    return ", ".join(f"{k} ({v.family})" for k, v in ARCHITECTURES.items())


def check_architecture(name: str, config: Any) -> Architecture:
    """The architecture of a Hugging Face configuration. Raises ModelError, by name, for what is not exact here."""
    architecture = (getattr(config, "architectures", None) or ["unknown"])[0]
    if code := (getattr(config, "auto_map", None) or {}).get("AutoModelForCausalLM"):
        raise ModelError(
            f"{name} names code of its author ({code}, auto_map in config.json), which is never run, and the class of "
            "transformers may compute something else: where that class is meant, give a folder without auto_map"
        )
    if architecture in REFUSED_ARCHITECTURES:
        raise ModelError(f"{name} is a {architecture}, which is not supported: {REFUSED_ARCHITECTURES[architecture]}")
    if architecture not in ARCHITECTURES:
        raise ModelError(f"{name} is a {architecture}; patches are exact and checked for {supported()} only")
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(f"{name} has quantised weights, whose rows are no plain vectors: give the unquantised model")
    _check_settings(name, architecture, config)
    return ARCHITECTURES[architecture]


def _check_settings(name: str, architecture: str, config: Any) -> None:
    """Raise ModelError for a setting with which a supported class is not computed exactly."""
    for setting, wrong, reason in (*WRONG_SETTINGS, *WRONG_SETTINGS_OF.get(architecture, ())):
        given = getattr(config, setting, None)
        if given is not None and (wrong is ... or given == wrong):
            raise ModelError(f"{name} has {setting}={given}, which is not supported in a {architecture}: {reason}")
    for kind in rope_types(config):
        if kind in LENGTH_DEPENDENT_ROPE:
            raise ModelError(
                f"{name} has rotary tables of type {kind!r}, which is not supported: they change with the prompt's "
                "length, and a part that is replayed alone would get others"
            )
    heads, shared = (getattr(config, f"num_{of}_heads", None) for of in ("attention", "key_value"))
    if heads and shared and heads % shared:
        raise ModelError(
            f"{name} has {heads} heads, which is no multiple of its {shared} key-value heads: fix config.json"
        )


def rope_types(config: Any) -> set[str]:
    """Types of rotary tables; Gemma 3 has one for each kind of layer."""
    given = getattr(config, "rope_parameters", None) or {}
    tables = [given, *(t for t in given.values() if isinstance(t, dict))]
    return {t["rope_type"] for t in tables if "rope_type" in t}
