"""Memory of the weights: what loading needs, what is free, and what to do where it does not fit.

Counts are exact: the network is built from its configuration on the meta device, where parameters have shapes and no
memory. Fused query-key-value weights (GPT-NeoX, GPT-2) are held twice while TransformerLens splits them, and once
afterwards, so a GPT-NeoX needs up to a quarter more for a moment. Activations come on top; the plan counts those.
"""

from pathlib import Path
from typing import Any

import psutil

from arithcirc.errors import EnvironmentFailure
from arithcirc.models.zoo import ZOO, find

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one weight."""
RESERVE = 0.1
"""Share of each GPU left for activations when a model is spread over several."""
_FUSED = (".query_key_value.", ".attn.c_attn.")
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""Limit, use, and the reclaimable part of the use, of control groups of version 2 and 1."""


def weights_bytes(n_params: int, dtype: str) -> int:
    """Bytes that so many weights take."""
    return n_params * BYTES[dtype]


def loading_bytes(network: Any, dtype: str) -> int:
    """Bytes at the peak of loading a network (one on the meta device will do): its weights and the split copies."""
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    fused = sum(size for name, size in sizes.items() if any(part in name for part in _FUSED))
    return weights_bytes(sum(sizes.values()) + fused, dtype)


def free_bytes(device: str) -> int:
    """Bytes that can still be allocated on a device: of a GPU, of the machine, or of the control group we run in."""
    import torch

    where = torch.device(device)
    if where.type == "cuda":
        held = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return int(torch.cuda.mem_get_info(where)[0]) + held
    return free_memory()


def free_memory() -> int:
    """Bytes free in the machine, or in the control group we run in; needs no torch."""
    limits = [_group_free(Path(limit), Path(used), cache) for limit, used, cache in _CGROUPS]
    available = int(psutil.virtual_memory().available)
    return min(available, *(free for free in limits if free is not None), available)


def _group_free(limit: Path, used: Path, cache: str) -> int | None:
    """Bytes below a control group's limit, page cache that can be dropped counted as free; None without a limit."""
    try:
        most = limit.read_text().strip()
        if not most.isdigit() or int(most) >= 2**60:
            return None
        stat = dict(line.split() for line in (limit.parent / "memory.stat").read_text().splitlines())
        return max(0, int(most) - int(used.read_text()) + int(stat.get(cache, 0)))
    except (OSError, ValueError):
        return None


def check_fits(name: str, network: Any, *, dtype: str, device: str, n_gpus: int = 0) -> None:
    """Raise EnvironmentFailure, with the numbers and what would fit, where loading needs more than is free."""
    needed, free = loading_bytes(network, dtype), free_bytes(device)
    if needed <= free:
        return
    n_params = sum(p.numel() for p in network.parameters())
    smaller = {d: loading_bytes(network, d) for d in BYTES if BYTES[d] < BYTES[dtype]}
    advice = [f"--dtype {d} ({gigabytes(size)})" for d, size in smaller.items() if size <= free]
    if device.startswith("cuda"):
        if n_gpus > 1:
            advice.append(f"--device-map auto over the {n_gpus} GPUs here")
        if needed <= free_bytes("cpu"):
            advice.append("--device cpu, which is slow")
    if (sibling := _sibling(name, free)) is not None:
        advice.append(f"the smaller {sibling}")
    raise EnvironmentFailure(
        f"{name} does not fit: its {n_params:,} weights in {dtype} need {gigabytes(needed)} while loading "
        f"({gigabytes(weights_bytes(n_params, dtype))} afterwards) and {device} has {gigabytes(free)} free: "
        f"use {', or '.join(advice or ['a bigger machine'])}"
    )


def _sibling(name: str, free: int) -> str | None:
    """The largest model of the same owner and architecture whose weights fit in half precision."""
    if (entry := find(name)) is None:
        return None
    owner, kind = name.split("/")[0], entry.shape.architecture
    fits = [
        e for e in ZOO
        if e.name.split("/")[0] == owner and e.shape.architecture == kind and e.n_params < entry.n_params
        and 1.25 * weights_bytes(e.n_params, "bfloat16") <= free
    ]  # fmt: skip
    return max(fits, key=lambda e: e.n_params).name if fits else None


def gigabytes(size: int) -> str:
    """`27.4 GB`, or megabytes below one."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def placement(name: str, network: Any, *, dtype: str, budgets: dict[int, int]) -> dict[str, int]:
    """A GPU for every module of a network (on the meta device), blocks whole, evenly filled within free `budgets`.

    Layers on the CPU or on disk are refused, by name: every block is replayed thousands of times, and each replay would
    copy its weights to the GPU again. Raises EnvironmentFailure with the numbers.
    """
    import torch
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    network.tie_weights()
    weights = weights_bytes(sum(p.numel() for p in network.parameters()), dtype)
    peak = loading_bytes(network, dtype)
    most: dict[int | str, int | str] = {
        gpu: int(free * (1 - RESERVE) * weights / peak) for gpu, free in budgets.items()
    }
    most["cpu"] = 0
    whole: Any = {"no_split_module_classes": list(network._no_split_modules or []), "dtype": getattr(torch, dtype)}
    balanced = get_balanced_memory(network, max_memory=dict(most), **whole)
    for limits in (balanced, most):
        places = infer_auto_device_map(network, max_memory=dict(limits), **whole)
        left = [module for module, place in places.items() if not isinstance(place, int)]
        if not left:
            return {module: int(place) for module, place in places.items()}
    free = ", ".join(f"cuda:{gpu} {gigabytes(size)}" for gpu, size in budgets.items())
    missing = ", ".join(module or "all of it" for module in left[:4]) + (f" and {len(left) - 4} more" * (len(left) > 4))
    raise EnvironmentFailure(
        f"{name} does not fit on the GPUs here: loading in {dtype} needs {gigabytes(peak)}, free are {free}; without "
        f"place: {missing}. Weights on the CPU or on disk are refused, because every block is replayed thousands of "
        f"times and would be copied each time: use {'--dtype bfloat16, ' * (BYTES[dtype] > 2)}more GPUs or a smaller "
        "model"
    )
