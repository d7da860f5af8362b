"""The network as transformers has it, for work that needs gradients and no hooks: any decoder architecture.

The same care as `load`: safetensors only, no remote code, memory checked before the weights are read, errors in one
line. No patches are made, so no list of architectures binds it and TransformerLens is not imported.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arithcirc.errors import ModelError
from arithcirc.models.files import (
    DTYPES,
    chosen_device,
    fetching_options,
    read_config,
    read_network,
    read_tokenizer,
    weights_hash,
)
from arithcirc.models.hub import explained, quiet, reading_only
from arithcirc.models.memory import check_fits
from arithcirc.models.shapes import meta_network
from arithcirc.models.zoo import check_request


@dataclass(frozen=True)
class PlainInfo:
    """Which model this is. `weights_sha256` covers config.json and the safetensors; for a hub model it names a commit.

    `max_tokens` is the longest sequence the model was made for, None where its configuration says none.
    """

    name: str
    revision: str
    architecture: str
    n_params: int
    dtype: str
    device: str
    weights_sha256: str
    tokenizer_sha256: str
    max_tokens: int | None = None


@dataclass(frozen=True)
class PlainModel:
    """A Hugging Face network in evaluation mode without gradients, its tokenizer, and what it is."""

    network: torch.nn.Module
    tokenizer: Any
    info: PlainInfo


def load_plain(
    model: str | None = None,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    cache_dir: Path | str | None = None,
    offline: bool = False,
) -> PlainModel:
    """Load a network: a Hugging Face id, a local folder, or None for the shipped model. Options are those of `load`.

    Raises ModelError, in one line, for what cannot be loaded safely or is no decoder, EnvironmentFailure where memory
    does not suffice, the disk is full or the hub cannot be reached.
    """
    located = check_request(model, revision=revision, device=device, dtype=dtype)
    where = chosen_device(device)
    fetching = fetching_options(located, cache_dir=cache_dir, offline=offline)
    with quiet(), reading_only(offline=offline), torch.random.fork_rng(devices=[]):
        config = read_config(located, fetching)
        if getattr(config, "is_encoder_decoder", False) or not _is_decoder(config):
            raise ModelError(
                f"{located.name} is a {config.model_type}, not a decoder that continues a text: choose a causal "
                "language model (GPT-NeoX, Llama, Qwen, ...)"
            )
        tokenizer = read_tokenizer(located, fetching)
        with explained(located, "architecture"):
            skeleton = meta_network(config)
        n_gpus = torch.cuda.device_count() if where.type == "cuda" else 0
        check_fits(located.name, skeleton, dtype=dtype, device=str(where), n_gpus=n_gpus)
        network = read_network(located, DTYPES[dtype], {"": where}, fetching, attention=None)
        weights = weights_hash(located, fetching)
    info = PlainInfo(
        name=located.name,
        revision=located.revision,
        architecture=type(network).__name__,
        n_params=sum(p.numel() for p in network.parameters()),
        dtype=dtype,
        device=str(where),
        weights_sha256=weights,
        tokenizer_sha256=hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        max_tokens=getattr(config, "max_position_embeddings", None),
    )
    return PlainModel(network, tokenizer, info)


def _is_decoder(config: Any) -> bool:
    """transformers has a class for it, and its files do not name one of another kind (BERT can be made causal)."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    named = config.architectures or []
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and (
        not named or any("Causal" in n or "LMHead" in n for n in named)
    )
