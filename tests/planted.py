"""A model that adds, with weights set by hand, in which two neurons of many each implement one heuristic.

A real GPT-NeoX (two layers, two heads, width 32, 64 neurons). Number tokens carry their value as a scalar. At `=` one
head of layer 0 fetches op1 (rotary positions, three tokens back) and one op2 (one token back); their scalars add up to
a number s in the residual stream, and the unembedding scores the answer r by r s - r^2 / 2, so that the integer nearest
to s is said. But the number tokens lie: op1 in 10..20 and op2 = 8 mod 10 are carried as SHORT less than they are, and
raise a flag instead. In layer 1, the neuron of each of PLANTED fires where its flag is up, and its value vector adds
the missing SHORT. So without the neuron exactly the prompts of its heuristic are answered wrongly, SHORT too low; every
other neuron fires on noise that op1 and op2 leave at `=`, and writes next to nothing into s.

The residual stream has 16 features, each held in a pair of entries (x, -x) so that the layer norm's mean is 0; a large
constant feature makes its scale the same everywhere.
"""

import math
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from arithcirc.components import Neuron
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.training.model import without_progress_bars
from arithcirc.training.tokenizer import BOS_ID, NUMBER_ID, build_tokenizer, vocabulary

LIMIT = 60
OPERANDS = "0..30"
SHORT = 3
PLANTED = {"op1 in 10..20": Neuron(1, 37), "op2 = 8 mod 10": Neuron(1, 11)}
N_NEURONS = 64
_FEATURES, _CONSTANT, _FIRES = 16, 64.0, 10.0
_C, _V1, _V2, _FLAG1, _FLAG2, _AT1, _AT2, _S = range(8)
_NOISE = range(8, _FEATURES)


def _pair(feature: int) -> Tensor:
    """The direction of a feature: written as it is, read with `_read`."""
    direction = torch.zeros(2 * _FEATURES)
    direction[feature], direction[feature + _FEATURES] = 1.0, -1.0
    return direction


def _read(feature: int) -> Tensor:
    """Reads a feature behind a layer norm, whose scale is that of the constant."""
    return _pair(feature) / 2 * _CONSTANT * (2 / (2 * _FEATURES)) ** 0.5


def adder(seed: int = 0) -> GPTNeoXForCausalLM:
    """The model; the seed draws the noise and the other neurons."""
    config = GPTNeoXConfig(
        vocab_size=len(vocabulary(LIMIT)),
        hidden_size=2 * _FEATURES,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=N_NEURONS,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        bos_token_id=BOS_ID,
        eos_token_id=BOS_ID,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.125},
    )
    model = GPTNeoXForCausalLM(config).eval()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(1.0 if "layernorm.weight" in name or "layer_norm.weight" in name else 0.0)
        _embed(model, noise)
        _fetch(model.gpt_neox.layers[0].attention)
        _plant(model.gpt_neox.layers[1].mlp, noise)
        _unembed(model)
    return model


def _embed(model: GPTNeoXForCausalLM, noise: torch.Generator) -> None:
    weight = model.gpt_neox.embed_in.weight
    weight += _CONSTANT * _pair(_C)
    for n in range(LIMIT + 1):
        low1, low2 = 10 <= n < 20, n % 10 == 8
        features = {_V1: (n - SHORT * low1) / LIMIT, _V2: (n - SHORT * low2) / LIMIT, _FLAG1: low1, _FLAG2: low2}
        drawn = torch.randn(len(_NOISE), generator=noise) / 2
        for feature, value in (features | dict(zip(_NOISE, drawn.tolist(), strict=True))).items():
            weight[NUMBER_ID + n] += float(value) * _pair(feature)


def _fetch(attention: torch.nn.Module) -> None:
    """Head 0 reads three tokens back, head 1 one; channels 0 and 1 are the value and the flag, the rest noise."""
    d_head = _FEATURES
    for head, (back, value, flag, at) in enumerate([(3, _V1, _FLAG1, _AT1), (1, _V2, _FLAG2, _AT2)]):
        q, k, v = (slice(start, start + d_head) for start in range(3 * d_head * head, 3 * d_head * (head + 1), d_head))
        attention.query_key_value.bias[q][:2] = 400 * torch.tensor([math.cos(back), -math.sin(back)])
        attention.query_key_value.bias[k][0] = 1.0
        for channel, (source, target) in enumerate([(value, _S), (flag, at), *zip(_NOISE, _NOISE, strict=True)]):
            attention.query_key_value.weight[v][channel] = _read(source)
            attention.dense.weight[:, d_head * head + channel] = _pair(target)


def _plant(mlp: torch.nn.Module, noise: torch.Generator) -> None:
    for neuron in range(N_NEURONS):
        mlp.dense_h_to_4h.weight[neuron] = sum(torch.randn((), generator=noise) * _read(f) for f in _NOISE)
        mlp.dense_4h_to_h.weight[:, neuron] = torch.randn((), generator=noise) * 0.005 / LIMIT * _pair(_S)
    for name, at in zip(PLANTED, (_AT1, _AT2), strict=True):
        neuron = PLANTED[name].index
        mlp.dense_h_to_4h.weight[neuron] = 2 * _FIRES * _read(at)
        mlp.dense_h_to_4h.bias[neuron] = -_FIRES
        mlp.dense_4h_to_h.weight[:, neuron] = SHORT / LIMIT / _FIRES * _pair(_S)


def _unembed(model: GPTNeoXForCausalLM) -> None:
    sharpness = 16.0
    weight = model.get_output_embeddings().weight
    weight += -sharpness * LIMIT**2 * _read(_C) / _CONSTANT
    for r in range(LIMIT + 1):
        weight[NUMBER_ID + r] = sharpness * (r * LIMIT * _read(_S) - r**2 / 2 * _read(_C) / _CONSTANT)


def load_adder(folder: Path, model: GPTNeoXForCausalLM | None = None) -> BridgedModel:
    """The model (or a changed one), written to a folder and loaded as any other."""
    with without_progress_bars():
        (model or adder()).save_pretrained(folder)
    build_tokenizer(LIMIT).save_pretrained(folder)
    return load(str(folder), device="cpu")


def label_table() -> pd.DataFrame:
    """Rows of the table `heuristics` that are true of PLANTED, and labels of noise neurons that explain nothing."""
    rows = [(neuron, name, 0.95) for name, neuron in PLANTED.items()]
    noise = {"op1 matches .1.": (3, 4), "op2 = 3 mod 5": (5,), "result in 20..30": (6, 7, 8), "op1 = op2": (3, 9)}
    rows += [(Neuron(1, i), name, 0.6 + i / 100) for name, ids in noise.items() for i in ids]
    return pd.DataFrame(
        {
            "operator": "+",
            "layer": [n.layer for n, _, _ in rows],
            "neuron": [n.index for n, _, _ in rows],
            "heuristic": [name for _, name, _ in rows],
            "score": [score for _, _, score in rows],
            "matched": True,
        }
    )


def important_table() -> pd.DataFrame:
    """Every neuron of the layer that matters."""
    return pd.DataFrame({"operator": "+", "layer": 1, "neuron": range(N_NEURONS), "important": True})
