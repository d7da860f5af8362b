"""A random model of every supported architecture: its real configuration class at the size of the toys.

Norms and biases are moved off 1 and 0, so that forgetting one shows; where the architecture allows it, key-value heads
are fewer than heads and heads are wider than the model asks for; sliding windows are shorter than a prompt.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import toys
import transformers
from toys import HEADS, HIDDEN, LAYERS, LIMIT, WIDTH

from arithcirc.training.tokenizer import BOS_ID, vocabulary

KV_HEADS, WIDE_HEAD, WINDOW = 2, 16, 3
_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def _built(kind: Any, configuration: Any, **particular: Any) -> Any:
    """A model with random weights, the same for the same arguments."""
    common = {
        "vocab_size": len(vocabulary(LIMIT)),
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": 32,
        "initializer_range": 0.4,
        "bos_token_id": BOS_ID,
        "eos_token_id": BOS_ID,
        "pad_token_id": None,  # its embedding would be drawn as zeros
    }
    return shaken(toys.drawn(kind, configuration(**(common | particular)), seed=1))


def shaken(model: Any) -> Any:
    """Move every vector (norms, biases) off its initial value."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def gptj() -> Any:
    """Parallel attention and MLP on one LayerNorm; rotary on half of each head; biased unembedding."""
    config = transformers.GPTJConfig(
        vocab_size=len(vocabulary(LIMIT)), n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_inner=HIDDEN, n_positions=32,
        rotary_dim=6, initializer_range=0.4, bos_token_id=BOS_ID, eos_token_id=BOS_ID, tie_word_embeddings=False,
    )  # fmt: skip
    return shaken(toys.drawn(transformers.GPTJForCausalLM, config, seed=1))


def llama() -> Any:
    """Llama 3: its rotary scaling, grouped queries, no biases."""
    return _built(
        transformers.LlamaForCausalLM, transformers.LlamaConfig, num_key_value_heads=KV_HEADS,
        rope_parameters=_ROPE, tie_word_embeddings=False,
    )  # fmt: skip


def mistral() -> Any:
    """Sliding windows in every layer."""
    return _built(
        transformers.MistralForCausalLM, transformers.MistralConfig, num_key_value_heads=KV_HEADS, head_dim=WIDE_HEAD,
        sliding_window=WINDOW, tie_word_embeddings=False,
    )  # fmt: skip


def qwen2() -> Any:
    """Biased queries, keys and values; tied embeddings, as in its small sizes."""
    return _built(
        transformers.Qwen2ForCausalLM, transformers.Qwen2Config, num_key_value_heads=KV_HEADS, tie_word_embeddings=True
    )


def qwen3() -> Any:
    """Norms on queries and keys."""
    return _built(
        transformers.Qwen3ForCausalLM, transformers.Qwen3Config, num_key_value_heads=KV_HEADS, head_dim=WIDE_HEAD,
        tie_word_embeddings=False,
    )  # fmt: skip


def gemma2() -> Any:
    """Norms on both sides, soft-capped scores and logits, every other layer local. The cap is low enough to bend."""
    return _built(
        transformers.Gemma2ForCausalLM, transformers.Gemma2Config, num_key_value_heads=KV_HEADS, head_dim=WIDE_HEAD,
        query_pre_attn_scalar=WIDE_HEAD, sliding_window=WINDOW, final_logit_softcapping=8.0,
        attn_logit_softcapping=4.0,
    )  # fmt: skip


def gemma3() -> Any:
    """Norms on both sides and on queries and keys, local and global layers with rotary tables of their own."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return _built(
        transformers.Gemma3ForCausalLM, transformers.Gemma3TextConfig, num_key_value_heads=KV_HEADS, head_dim=WIDE_HEAD,
        query_pre_attn_scalar=WIDE_HEAD, sliding_window=WINDOW, layer_types=kinds,
    )  # fmt: skip


def olmo2() -> Any:
    """Norms only after attention and MLP, and on whole queries and keys."""
    return _built(
        transformers.Olmo2ForCausalLM, transformers.Olmo2Config, num_key_value_heads=KV_HEADS, tie_word_embeddings=False
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "neox-parallel": lambda: shaken(toys.gpt_neox()),
    "neox-sequential": lambda: shaken(toys.gpt_neox(parallel=False)),
    "gpt2": lambda: shaken(toys.gpt2()),
    "gptj": gptj,
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "olmo2": olmo2,
}
"""Every supported architecture, GPT-NeoX in both of its forms."""

DIFFERENT = ("neox-parallel", "gpt2", "llama", "gemma2")
"""Those that differ most: parallel and sequential blocks, biases, gates, grouped queries, caps, windows, both norms."""
MOSTLY_SLOW = [n if n in DIFFERENT else pytest.param(n, marks=pytest.mark.slow) for n in BUILDERS]
"""For what a quick test of every architecture shows in another way: the other seven are run by `make test-slow`."""
