"""Loading: a Hugging Face id or a local folder becomes a HookedModel.

Only safetensors are read, remote code is never run, and what is refused is refused by name. Architectures are those
whose patches were checked against full hooked forwards; others would be computed wrongly in silence, so they are not
loaded.
"""

import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from arithcirc.errors import EnvironmentFailure, ModelError
from arithcirc.models.architectures import check_architecture
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.protocol import ModelInfo
from arithcirc.models.verify import check_replay, plain_logits, probe_tokens
from arithcirc.models.zoo import Located, locate
from arithcirc.store import sha256_file

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*")


def load(
    model: str | None = None, *, revision: str | None = None, device: str | None = None, dtype: str = "float32"
) -> BridgedModel:
    """Load a model: a Hugging Face id, a local folder, or None for the shipped one.

    `revision` is a hub revision or a `step<N>` folder; `device` defaults to cuda where there is one, else cpu; `dtype`
    is float32, bfloat16 or float16. Raises ModelError, in one line, for anything that cannot be loaded safely.
    """
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not known: use one of {', '.join(DTYPES)}")
    where = _device(device)
    located = locate(model, revision)
    if located.local:
        _check_folder(Path(located.source))
    with _quiet(), torch.random.fork_rng(devices=[]):
        config, tokenizer = _config(located), _tokenizer(located)
        check_architecture(located.name, config)
        network = _network(located, DTYPES[dtype], where)
        n_params = sum(p.numel() for p in network.parameters())  # before the bridge adds split copies of q, k and v
        tokens = probe_tokens(config.vocab_size)
        expected = plain_logits(network, tokens)
        bridge = _bridge(located, network, tokenizer, DTYPES[dtype], where)
        info = _info(located, config, bridge, n_params, tokenizer, dtype, where)
        loaded = BridgedModel(bridge, tokenizer, info)
        check_replay(loaded, tokens, expected)
    return loaded


def _device(device: str | None) -> torch.device:
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(chosen)
    except RuntimeError:
        where = torch.device("meta")
    if where.type not in ("cpu", "cuda"):
        raise ModelError(f"device {chosen!r} is not known: use cpu, cuda or cuda:N")
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {chosen!r} was asked for, but there is no usable GPU here: use --device cpu")
    if where.type == "cuda" and (where.index or 0) >= (count := torch.cuda.device_count()):
        raise ModelError(f"device {chosen!r} was asked for, but this machine has cuda:0..cuda:{count - 1}")
    return where


def _check_folder(folder: Path) -> None:
    """Refuse folders without config, tokenizer or safetensors, in words."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json: give a model folder in Hugging Face format")
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        raise ModelError(f"{folder} has no tokenizer.json: copy the model's tokenizer files there")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(p.name for pattern in _PICKLED for p in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"{folder} has only pickled weights ({pickled[0]}), which can run code and are refused: convert them where "
            "you trust them, with AutoModelForCausalLM.from_pretrained(...).save_pretrained(folder)"
        )
    raise ModelError(f"{folder} has a config.json but no *.safetensors weights: copy the weights there")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Libraries' progress bars and advice stay out of our output; their errors become ours."""
    from transformers.utils import logging as hf_logging

    log: Any = hf_logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    root, hub = logging.getLogger().level, logging.getLogger("huggingface_hub")
    hub_level = hub.level
    hub.setLevel(logging.CRITICAL)
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        logging.getLogger().setLevel(root)
        hub.setLevel(hub_level)
        if bars:
            log.enable_progress_bar()


@contextlib.contextmanager
def _loading(located: Located, what: str) -> Iterator[None]:
    """One line for every way a hub or a folder can fail us."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise EnvironmentFailure(
            f"not enough memory to load {located.name}: use --dtype bfloat16 or a bigger machine"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines or [type(error).__name__])[0][:200]
        where = "in that folder" if located.local else "on the Hugging Face hub or in the local cache"
        hub = "check the name and revision ('arithcirc models' lists known ones), the network, and HF_HUB_OFFLINE"
        advice = "copy the folder again, or choose another" if located.local else hub
        raise ModelError(
            f"cannot load the {what} of {located.name} ({located.revision}) {where}: {reason} - {advice}"
        ) from None


def _arguments(located: Located) -> dict[str, Any]:
    return {"trust_remote_code": False} | ({} if located.local else {"revision": located.revision})


def _config(located: Located) -> Any:
    from transformers import AutoConfig

    with _loading(located, "configuration"):
        return AutoConfig.from_pretrained(located.source, **_arguments(located))


def _tokenizer(located: Located) -> Any:
    from transformers import AutoTokenizer

    with _loading(located, "tokenizer"):
        return AutoTokenizer.from_pretrained(located.source, **_arguments(located))


def _network(located: Located, dtype: torch.dtype, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    with _loading(located, "weights"):
        result: Any = AutoModelForCausalLM.from_pretrained(
            located.source,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation="eager",
            output_loading_info=True,
            **_arguments(located),
        )
        network, loaded = result
        if missing := sorted(loaded["missing_keys"]):
            raise ValueError(f"{len(missing)} tensors are missing, as {missing[0]}")
        return network.to(device).eval().requires_grad_(False)


def _bridge(located: Located, network: Any, tokenizer: Any, dtype: torch.dtype, device: torch.device) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    with _loading(located, "architecture"):
        bridge = TransformerBridge.boot_transformers(
            located.source, hf_model=network, tokenizer=tokenizer, dtype=dtype, device=device
        )
    _free_fused(bridge)
    _rotate_in(dtype, bridge)
    return bridge.eval().requires_grad_(False)


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
    located: Located, config: Any, bridge: Any, n_params: int, tokenizer: Any, dtype: str, device: torch.device
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
        d_mlp=bridge.blocks[0].mlp.W_out.shape[0],
        d_vocab=int(config.vocab_size),
        n_params=n_params,
        parallel=bool(getattr(cfg, "parallel_attn_mlp", False)),
        n_kv_heads=int(getattr(config, "num_key_value_heads", None) or cfg.n_heads),
        gated=hasattr(bridge.blocks[0].mlp, "gate"),
        post_norm=hasattr(bridge.blocks[0], "ln2_post"),
        softcap=getattr(config, "final_logit_softcapping", None),
        sliding_window=_sliding_window(config),
        dtype=dtype,
        device=str(device),
        weights_sha256=_weights_hash(located, config),
        tokenizer_sha256=hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
    )


def _sliding_window(config: Any) -> int | None:
    """Keys that the narrowest layers attend to, if any layer is limited."""
    kinds = getattr(config, "layer_types", None)
    limited = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if limited else None


def _weights_hash(located: Located, config: Any) -> str:
    """sha256 over config.json and the safetensors files of a folder; for a hub model the commit it came from.

    The configuration counts because the same weights make another model with, say, sequential blocks.
    """
    if not located.local:
        return f"commit:{getattr(config, '_commit_hash', None) or 'unknown'}"
    folder = Path(located.source)
    digests = [sha256_file(file) for file in (folder / "config.json", *sorted(folder.glob("*.safetensors")))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def memory_needed(n_params: int, dtype: str) -> int:
    """Bytes the weights take."""
    return n_params * torch.empty(0, dtype=DTYPES[dtype]).element_size()


def set_threads(threads: int | None) -> None:
    """Limit torch's threads; None leaves the default (all cores)."""
    if threads is not None:
        torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))
