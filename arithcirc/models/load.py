"""Loading: a Hugging Face id or a local folder becomes a HookedModel.

Only safetensors are read, remote code is never run, and what is refused is refused by name: pickled weights, models
that do not fit in memory (before their weights are read), and architectures whose patches were not checked against full
hooked forwards, because they would be computed wrongly in silence.
"""

import copy
import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from arithcirc.errors import ModelError
from arithcirc.models.architectures import check_architecture
from arithcirc.models.bridge import BridgedModel
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
from arithcirc.models.memory import check_fits, free_bytes, placement
from arithcirc.models.protocol import ModelInfo
from arithcirc.models.shapes import meta_network
from arithcirc.models.verify import check_replay, plain_logits, probe_tokens
from arithcirc.models.weights import by_input, sum_in_float32
from arithcirc.models.zoo import Located, check_request


def load(
    model: str | None = None,
    *,
    revision: str | None = None,
    device: str | None = None,
    device_map: str | None = None,
    dtype: str = "float32",
    cache_dir: Path | str | None = None,
    offline: bool = False,
) -> BridgedModel:
    """Load a model: a Hugging Face id, a local folder, or None for the shipped one.

    `revision` is a hub revision or a `step<N>` folder; `device` defaults to cuda where there is one, else cpu;
    `device_map` "auto" spreads the blocks over all GPUs here instead; `dtype` is float32, bfloat16 or float16.
    `cache_dir` replaces the hub's cache folder; with `offline` nothing is requested from the hub. A token comes
    from HF_TOKEN.
    Raises ModelError, in one line, for anything that cannot be loaded safely, and EnvironmentFailure where memory does
    not suffice (with the numbers), the disk is full or the hub cannot be reached.
    """
    located = check_request(model, revision=revision, device=device, dtype=dtype)
    where = _first_gpu(device, device_map) if device_map is not None else chosen_device(device)
    fetching = fetching_options(located, cache_dir=cache_dir, offline=offline)
    with quiet(), reading_only(offline=offline), torch.random.fork_rng(devices=[]):
        config = read_config(located, fetching)
        check_architecture(located.name, config)
        tokenizer = read_tokenizer(located, fetching)
        places = _places(located, config, dtype, where, spread=device_map is not None)
        network = read_network(located, DTYPES[dtype], places, fetching)
        n_params = sum(p.numel() for p in network.parameters())  # before the bridge adds split copies of q, k and v
        tokens = probe_tokens(config.vocab_size)
        expected = plain_logits(network, tokens)
        bridge = _bridge(located, network, tokenizer, DTYPES[dtype], where)
        weights, devices = weights_hash(located, fetching), "+".join(_devices(places))
        info = _info(located, config, bridge, n_params, tokenizer, dtype, devices, weights)
        loaded = BridgedModel(bridge, tokenizer, info)
        check_replay(loaded, tokens, expected)
    return loaded


def _first_gpu(device: str | None, device_map: str) -> torch.device:
    """Where inputs go when a model is spread over all GPUs."""
    if device_map != "auto":
        raise ModelError(f"device map {device_map!r} is not known: use auto, or leave it out and give --device")
    if device is not None:
        raise ModelError(f"--device {device} and --device-map auto exclude each other: give one of them")
    if not torch.cuda.is_available():
        raise ModelError("--device-map auto spreads a model over GPUs, and there is no usable GPU here: leave it out")
    return torch.device("cuda:0")


def _places(located: Located, config: Any, dtype: str, where: torch.device, *, spread: bool) -> dict[str, Any]:
    """The device of every module, "" for all of them, after checking that the weights fit there."""
    with explained(located, "architecture"):
        skeleton = meta_network(config)
    n_gpus = torch.cuda.device_count() if where.type == "cuda" else 0
    if spread:
        budgets = {gpu: free_bytes(f"cuda:{gpu}") for gpu in range(n_gpus)}
        return dict(placement(located.name, skeleton, dtype=dtype, budgets=budgets))
    check_fits(located.name, skeleton, dtype=dtype, device=str(where), n_gpus=n_gpus)
    return {"": where}


def _devices(places: dict[str, Any]) -> list[str]:
    """The devices used, in order, as torch names them."""
    return list(dict.fromkeys(f"cuda:{p}" if isinstance(p, int) else str(p) for p in places.values()))


def _bridge(located: Located, network: Any, tokenizer: Any, dtype: torch.dtype, device: torch.device) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    with explained(located, "architecture"):
        bridge = TransformerBridge.boot_transformers(
            located.source, hf_model=network, tokenizer=_settled(tokenizer), dtype=dtype, device=device
        )
    _free_fused(bridge)
    _rotate_in(dtype, bridge)
    sum_in_float32(network.get_output_embeddings().original_component)
    return bridge.eval().requires_grad_(False)


def _settled(tokenizer: Any) -> Any:
    """A copy that TransformerLens takes as it is: it would fetch another, of any revision, and change this one.

    Prompts reach the bridge as token ids, so its own tokenizer is never asked.
    """
    settled = copy.deepcopy(tokenizer)
    settled.init_kwargs = settled.init_kwargs | {"add_bos_token": True}
    return settled


def _rotate_in(dtype: torch.dtype, bridge: Any) -> None:
    """Queries and keys go back to the weights' type after rotation, as transformers has it.

    OLMo's rotary tables are float32, and TransformerLens 4.3 would attend in float32 to values in half precision.
    """
    if dtype == torch.float32:
        return
    for block in bridge.blocks:
        for name in ("hook_rot_q", "hook_rot_k"):
            if (point := getattr(block.attn, name, None)) is not None:
                point.register_forward_hook(lambda _, __, rotated: rotated.to(dtype))


def _free_fused(bridge: Any) -> None:
    """Drop fused Q, K, V weights of which the bridge made split copies: a fifth of a GPT-NeoX's weights."""
    for block in bridge.blocks:
        fused = getattr(getattr(block.attn, "qkv", None), "original_component", None)
        if fused is not None and _storage(block.attn.q.weight) != _storage(fused.weight):
            fused.weight = torch.nn.Parameter(fused.weight.new_empty(0), requires_grad=False)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _info(
    located: Located,
    config: Any,
    bridge: Any,
    n_params: int,
    tokenizer: Any,
    dtype: str,
    devices: str,
    weights: str,
) -> ModelInfo:
    cfg = bridge.cfg
    return ModelInfo(
        name=located.name,
        revision=located.revision,
        architecture=config.architectures[0],
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        d_mlp=by_input(bridge.blocks[0].mlp.out).shape[0],
        d_vocab=int(config.vocab_size),
        n_params=n_params,
        parallel=bool(getattr(cfg, "parallel_attn_mlp", False)),
        n_kv_heads=int(getattr(config, "num_key_value_heads", None) or cfg.n_heads),
        gated=hasattr(bridge.blocks[0].mlp, "gate"),
        post_norm=hasattr(bridge.blocks[0], "ln2_post"),
        softcap=getattr(config, "final_logit_softcapping", None),
        sliding_window=_sliding_window(config),
        dtype=dtype,
        device=devices,
        weights_sha256=weights,
        tokenizer_sha256=hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
    )


def _sliding_window(config: Any) -> int | None:
    """Keys that the narrowest layers attend to, if any layer is limited."""
    kinds = getattr(config, "layer_types", None)
    limited = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if limited else None


def set_threads(threads: int | None) -> None:
    """Limit torch's threads; None leaves the default (all cores)."""
    if threads is not None:
        torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))
