"""Decoders with four kinds of positions, as Hugging Face classes that everything here loads.

`learned`, `sinusoidal` and `none` are GPT2LMHeadModel: its table of positions is trained, fixed at

    table[p, 2i] = sin(p / 10000^(2i / width)),  table[p, 2i + 1] = cos(p / 10000^(2i / width))      (Vaswani 2017)

or fixed at zero, which leaves the causal mask alone to tell order (Haviv 2022; Kazemnejad 2023). `rotary` is a GPT-NeoX
with the same sequential blocks, all dimensions of a head rotated (Su 2021). All have the same blocks: LayerNorm before,
biases, GELU in its tanh form (GPT-2's gelu_new, computed by one kernel), MLP, and embeddings that are not tied, drawn
with `embedding_std`. The table's kind is kept in config.json as `position_kind`.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from arithcirc.errors import RequestError
from arithcirc.training.positions import POSITION_KINDS, PositionedShape

Decoder = GPT2LMHeadModel | GPTNeoXForCausalLM


def positioned_config(shape: PositionedShape, *, vocabulary: int, pad: int) -> GPT2Config | GPTNeoXConfig:
    """The configuration of an untrained model with so many tokens. Raises RequestError for an unknown kind."""
    if shape.position_kind not in POSITION_KINDS:
        raise RequestError(f"unknown kind of positions {shape.position_kind!r}: use one of {', '.join(POSITION_KINDS)}")
    shared: dict[str, Any] = {
        "vocab_size": vocabulary,
        "initializer_range": shape.init_std,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": pad,
        "position_kind": shape.position_kind,
    }
    if shape.position_kind == "rotary":
        return GPTNeoXConfig(
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.mlp_width,
            max_position_embeddings=shape.positions,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
            use_parallel_residual=False,
            hidden_act="gelu_pytorch_tanh",
            hidden_dropout=shape.dropout,
            attention_dropout=shape.dropout,
            **shared,
        )
    return GPT2Config(
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_inner=shape.mlp_width,
        n_positions=shape.positions,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=shape.dropout,
        embd_pdrop=shape.dropout,
        attn_pdrop=shape.dropout,
        **shared,
    )


def positioned_model(shape: PositionedShape, *, vocabulary: int, pad: int, seed: int) -> Decoder:
    """An untrained model, its weights drawn with the seed; torch's global generator is left as found.

    Fixed tables of positions are frozen, so that no optimiser moves them.
    """
    config = positioned_config(shape, vocabulary=vocabulary, pad=pad)
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: Decoder = GPT2LMHeadModel(config) if isinstance(config, GPT2Config) else GPTNeoXForCausalLM(config)
        tokens: Any = model.get_input_embeddings()
        tokens.weight.normal_(0.0, shape.embedding_std)
        _set_table(model, shape)
    return model


def _set_table(model: Decoder, shape: PositionedShape) -> None:
    """Fix the table of positions where it is not learned."""
    if isinstance(model, GPTNeoXForCausalLM) or shape.position_kind == "learned":
        return
    table = model.transformer.wpe.weight
    table.copy_(sinusoids(*table.shape) if shape.position_kind == "sinusoidal" else torch.zeros_like(table))
    table.requires_grad_(False)


def sinusoids(positions: int, width: int) -> Float[Tensor, "position width"]:
    """Sines and cosines of the position, of wavelengths from 2 pi to 10000 x 2 pi, in turn."""
    pairs = np.arange(width) // 2 * 2
    angles = np.arange(positions)[:, None] / 10000.0 ** (pairs / width)
    table = np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))
    return torch.from_numpy(table).float()
