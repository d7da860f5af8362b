"""A model's files: configuration, tokenizer, weights and their hash, read safely and refused in words.

Only safetensors are read and remote code is never run. What these become is decided elsewhere: a hooked model (`load`)
or the network as it is (`plain`).
"""

import hashlib
from pathlib import Path
from typing import Any

import torch

from arithcirc.errors import ModelError
from arithcirc.models import zoo
from arithcirc.models.hub import explained
from arithcirc.models.zoo import Located
from arithcirc.store import sha256_file

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in zoo.DTYPES}
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*")


def fetching_options(located: Located, *, cache_dir: Path | str | None, offline: bool) -> dict[str, Any]:
    """What transformers is told when it reads any of the files. Raises ModelError for a folder without them."""
    if located.local:
        check_folder(Path(located.source))
        return {"trust_remote_code": False}
    revision = located.fetched or located.revision
    return {
        "trust_remote_code": False, "revision": revision, "cache_dir": cache_dir, "local_files_only": offline,
    }  # fmt: skip


def chosen_device(device: str | None) -> torch.device:
    """The device asked for, else a GPU where there is one. Raises ModelError where it is not here."""
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.device(chosen)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {chosen!r} was asked for, but there is no usable GPU here: use --device cpu")
    if where.type == "cuda" and (where.index or 0) >= (count := torch.cuda.device_count()):
        raise ModelError(f"device {chosen!r} was asked for, but this machine has cuda:0..cuda:{count - 1}")
    return where


def check_folder(folder: Path) -> None:
    """Refuse folders without config, tokenizer or safetensors, in words."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json: give a model folder in Hugging Face format")
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        raise ModelError(f"{folder} has no tokenizer.json: copy the model's tokenizer files there")
    if any(folder.glob("*.safetensors")):
        return
    files = sorted(p.name for pattern in _PICKLED for p in folder.glob(pattern))
    if files:
        raise ModelError(
            f"{folder} has only pickled weights ({files[0]}), which can run code and are refused: convert them where "
            "you trust them, with AutoModelForCausalLM.from_pretrained(...).save_pretrained(folder)"
        )
    raise ModelError(f"{folder} has a config.json but no *.safetensors weights: copy the weights there")


def read_config(located: Located, fetching: dict[str, Any]) -> Any:
    """The configuration; remote code is never run."""
    from transformers import AutoConfig

    with explained(located, "configuration"):
        return AutoConfig.from_pretrained(located.source, **fetching)


def read_tokenizer(located: Located, fetching: dict[str, Any]) -> Any:
    """The files' own; transformers would give any Qwen 2 the tokenizer of that name, which splits numbers."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    with explained(located, "tokenizer"):
        said = get_tokenizer_config(located.source, **fetching).get("tokenizer_class")
        complete = said in ("TokenizersBackend", "PreTrainedTokenizerFast")  # tokenizer.json says all
        return (PreTrainedTokenizerFast if complete else AutoTokenizer).from_pretrained(located.source, **fetching)


def read_network(
    located: Located,
    dtype: torch.dtype,
    places: dict[str, Any],
    fetching: dict[str, Any],
    *,
    attention: str | None = "eager",
) -> Any:
    """The network with its weights, from safetensors alone, in evaluation mode and without gradients.

    `attention` is how transformers computes it; eager has hooks for patterns, None is the architecture's own choice.
    """
    from transformers import AutoModelForCausalLM

    with explained(located, "weights"):
        result: Any = AutoModelForCausalLM.from_pretrained(
            located.source,
            dtype=dtype,
            use_safetensors=True,
            device_map=places,
            attn_implementation=attention,
            output_loading_info=True,
            **fetching,
        )
        network, loaded = result
        if missing := sorted(loaded["missing_keys"]):
            raise ValueError(f"{len(missing)} tensors are missing, as {missing[0]}")
        return network.eval().requires_grad_(False)


def weights_hash(located: Located, fetching: dict[str, Any]) -> str:
    """sha256 over config.json and the safetensors files of a folder; for a hub model the commit it came from.

    The configuration counts because the same weights make another model with, say, sequential blocks.
    """
    if not located.local:
        from huggingface_hub import try_to_load_from_cache

        where = {"cache_dir": fetching["cache_dir"], "revision": fetching["revision"]}
        found = try_to_load_from_cache(located.source, "config.json", **where)
        return f"commit:{Path(found).parent.name if isinstance(found, str) else 'unknown'}"
    folder = Path(located.source)
    digests = [sha256_file(file) for file in (folder / "config.json", *sorted(folder.glob("*.safetensors")))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
