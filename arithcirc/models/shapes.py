"""Shapes: a model's architecture and sizes as one value, its parameter count, and networks made from it.

A shape is what a configuration file says, in the same words for every architecture. From it come the Hugging Face
configuration, a network without memory (on the meta device, for counting) and a network with random weights of the
real class at any size, which can be saved and loaded as a downloaded model is. Sizes are counts; nothing is downloaded.

Parameters of a block with width d, heads h of width w, key-value heads k and MLP width m: attention 2 d w (h + k), MLP
2 d m (3 d m with a gate), and the biases and norms of its architecture; embeddings V d, twice unless tied.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from arithcirc.errors import ModelError


@dataclass(frozen=True)
class Shape:
    """An architecture (its Hugging Face class) and its sizes.

    `rotary` is the rotated share of each head, `n_positions` the longest prompt (a weight matrix only in GPT-2),
    `sliding_window` the keys that local layers see, `parallel` whether GPT-NeoX blocks are parallel, `long_rope` the
    factor by which Llama 3.1 and 3.2 stretch their rotary tables.
    """

    architecture: str
    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    d_vocab: int
    n_kv_heads: int = 0
    d_head: int = 0
    tied: bool = False
    parallel: bool = True
    rotary: float = 1.0
    rotary_base: float = 10_000.0
    long_rope: float | None = None
    n_positions: int = 2048
    sliding_window: int | None = None
    attention_softcap: float | None = None
    softcap: float | None = None

    def __post_init__(self) -> None:
        """Fill in what follows from the rest: as many key-value heads as heads, heads that share the width."""
        if self.architecture not in _TRAITS:
            raise ModelError(f"no shape of a {self.architecture} is known: use one of {', '.join(_TRAITS)}")
        object.__setattr__(self, "n_kv_heads", self.n_kv_heads or self.n_heads)
        object.__setattr__(self, "d_head", self.d_head or self.d_model // self.n_heads)


@dataclass(frozen=True)
class _Traits:
    """What sets an architecture's parameters apart. `norm` counts vectors per norm, `norms` the norms of a block."""

    config: str
    gated: bool = True
    norms: int = 2
    norm: int = 1
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    unembed_bias: bool = False
    positions: bool = False
    qk_norm: Literal["none", "head", "whole"] = "none"


_TRAITS = {
    "GPTNeoXForCausalLM": _Traits("GPTNeoXConfig", False, 2, 2, True, True, True),
    "GPT2LMHeadModel": _Traits("GPT2Config", False, 2, 2, True, True, True, positions=True),
    "GPTJForCausalLM": _Traits("GPTJConfig", False, 1, 2, mlp_bias=True, unembed_bias=True),
    "LlamaForCausalLM": _Traits("LlamaConfig"),
    "MistralForCausalLM": _Traits("MistralConfig"),
    "Qwen2ForCausalLM": _Traits("Qwen2Config", qkv_bias=True),
    "Qwen3ForCausalLM": _Traits("Qwen3Config", qk_norm="head"),
    "Gemma2ForCausalLM": _Traits("Gemma2Config", norms=4),
    "Gemma3ForCausalLM": _Traits("Gemma3TextConfig", norms=4, qk_norm="head"),
    "Olmo2ForCausalLM": _Traits("Olmo2Config", qk_norm="whole"),
}


def n_params(shape: Shape) -> int:
    """Parameters of a shape, tied ones once, in closed form."""
    traits, d = _TRAITS[shape.architecture], shape.d_model
    queries, keys = shape.n_heads * shape.d_head, shape.n_kv_heads * shape.d_head
    block = 2 * d * (queries + keys) + (3 if traits.gated else 2) * d * shape.d_mlp + traits.norms * traits.norm * d
    block += traits.qkv_bias * (queries + 2 * keys) + traits.out_bias * d + traits.mlp_bias * (shape.d_mlp + d)
    block += {"none": 0, "head": 2 * shape.d_head, "whole": queries + keys}[traits.qk_norm]
    embeddings = (1 if shape.tied else 2) * shape.d_vocab * d + traits.unembed_bias * shape.d_vocab
    positions = traits.positions * shape.n_positions * d
    return shape.n_layers * block + embeddings + positions + traits.norm * d


def resized(shape: Shape, **sizes: Any) -> Shape:
    """The same architecture at other sizes; key-value heads keep their share, heads that share the width go on so."""
    n_heads = sizes.get("n_heads", shape.n_heads)
    follows = {"n_kv_heads": max(1, n_heads * shape.n_kv_heads // shape.n_heads)}
    if shape.d_head == shape.d_model // shape.n_heads:
        follows["d_head"] = sizes.get("d_model", shape.d_model) // n_heads
    return replace(shape, **(follows | sizes))


def configuration(shape: Shape, **particular: Any) -> Any:
    """The Hugging Face configuration of a shape; `particular` adds or replaces its entries."""
    import transformers

    kind = getattr(transformers, _TRAITS[shape.architecture].config)
    common = {"architectures": [shape.architecture], "tie_word_embeddings": shape.tied}
    # Any: the tokenizer beside the weights says which are meant. A pad token's embedding would be drawn as zeros.
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    return kind(**(common | special | _entries(shape) | particular))


def _entries(shape: Shape) -> dict[str, Any]:
    """Sizes under the names that the architecture's configuration gives them."""
    if shape.architecture in ("GPT2LMHeadModel", "GPTJForCausalLM"):
        names = {"n_embd": shape.d_model, "n_layer": shape.n_layers, "n_head": shape.n_heads, "n_inner": shape.d_mlp}
        if shape.architecture == "GPTJForCausalLM":
            names["rotary_dim"] = 2 * round(shape.rotary * shape.d_head / 2)
        return names | {"vocab_size": shape.d_vocab, "n_positions": shape.n_positions}
    entries: dict[str, Any] = {
        "hidden_size": shape.d_model,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "intermediate_size": shape.d_mlp,
        "vocab_size": shape.d_vocab,
        "max_position_embeddings": shape.n_positions,
    }
    if shape.architecture == "GPTNeoXForCausalLM":
        rotary = {"rope_type": "default", "rope_theta": shape.rotary_base, "partial_rotary_factor": shape.rotary}
        return entries | {"use_parallel_residual": shape.parallel, "rope_parameters": rotary}
    entries |= {"num_key_value_heads": shape.n_kv_heads, "head_dim": shape.d_head}
    if shape.architecture.startswith("Gemma"):
        soft = {"attn_logit_softcapping": shape.attention_softcap, "final_logit_softcapping": shape.softcap}
        return entries | soft | {"sliding_window": shape.sliding_window, "query_pre_attn_scalar": shape.d_head}
    if shape.architecture == "MistralForCausalLM":
        entries["sliding_window"] = shape.sliding_window
    return entries | {"rope_parameters": _rope(shape)}


def _rope(shape: Shape) -> dict[str, Any]:
    """Rotary tables: plain, or stretched as Llama 3.1 and 3.2 do (their published factors)."""
    plain = {"rope_type": "default", "rope_theta": shape.rotary_base}
    if shape.long_rope is None:
        return plain
    factors = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return plain | factors | {"rope_type": "llama3", "factor": shape.long_rope}


def meta_network(config: Any) -> Any:
    """The network of a configuration on the meta device: every parameter has its shape and takes no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config).eval()


def random_network(config: Any, *, seed: int = 0, dtype: str = "float32", device: str = "cpu") -> Any:
    """A network with its class's own random initial weights, the same for the same arguments on the same device.

    The caller's random state is left as it was. Memory: the weights in `dtype`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    where = torch.device(device)
    index = where.index if where.index is not None else (torch.cuda.current_device() if where.type == "cuda" else 0)
    with torch.random.fork_rng(devices=[index] if where.type == "cuda" else []), where:
        torch.manual_seed(seed)
        network = auto.from_config(config, dtype=getattr(torch, dtype))
    return network.eval().requires_grad_(False)


def save_random(config: Any, folder: Path | str, tokenizer: Any, *, seed: int = 0, dtype: str = "float32") -> Path:
    """Write random weights (safetensors), the configuration and a tokenizer as a Hugging Face folder."""
    from arithcirc.models.hub import quiet

    with quiet():
        random_network(config, seed=seed, dtype=dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return Path(folder)
