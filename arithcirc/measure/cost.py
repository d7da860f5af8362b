"""What work costs, counted as it runs: FLOPs of matrix products, bytes moved and kernels; and the time that follows.

`counting()` watches every tensor operation. It also works on models on the meta device, whose tensors have shapes and
no values: then nothing is computed, and the jobs of a model of any size are counted in seconds on a laptop.

    FLOPs      2 m n k of every matrix product, by torch's own formulas (torch.utils.flop_counter); all else counts 0
    bytes      inputs read + outputs written by every operation; views are free, an expanded axis is read once, a gather
               reads what it returns. Every operation is its own kernel here: fusion and caches would move fewer bytes.
    seconds    sum over kernels of max(FLOPs / peak, bytes / bandwidth), plus launches x the time of one launch

The time is the roofline model's (Williams, Waterman and Patterson 2009), kernel by kernel: no kernel is faster than its
arithmetic or its traffic allows. It is a bound from below with the data sheet's rates, and an estimate with measured
ones. What it does not show: waiting for the host, and kernels that reach neither rate.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from arithcirc.errors import RequestError

_FREE = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "lift_fresh"})
"""Operations that run no kernel though their output is new or not marked as a view."""
_SHAPING = frozenset({"_unsafe_view", "_reshape_alias"})
_GATHERS = frozenset({"index", "gather", "index_select", "embedding"})
_WRITES = frozenset({"copy_", "fill_", "zero_"})
"""In-place operations that do not read what they overwrite."""


class Kernel(NamedTuple):
    """One operation on the device: its name, and what it computes and moves."""

    name: str
    flops: int
    bytes: int


@dataclass(frozen=True)
class Machine:
    """Rates that a time is predicted for: FLOP/s of matrix products, bytes/s of memory, seconds to launch a kernel."""

    name: str
    flops: float
    bandwidth: float
    launch: float

    def at(self, share: float) -> "Machine":
        """The same machine reaching this share of both rates."""
        if not 0 < share <= 1:
            raise RequestError(f"a share of a machine's rates must be above 0 and at most 1, not {share}")
        return Machine(f"{self.name} at {share:.0%}", self.flops * share, self.bandwidth * share, self.launch)


H200 = Machine("NVIDIA H200", 989e12, 4.8e12, 5e-6)
"""Dense bfloat16 and memory rates of NVIDIA's data sheet (H200 SXM); the launch is a usual figure, not the sheet's."""


@dataclass(frozen=True)
class Cost:
    """How often each kernel ran. Costs add up, and `times` n when the same work is done n times."""

    kernels: dict[Kernel, int] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        """FLOPs of matrix products."""
        return sum(k.flops * n for k, n in self.kernels.items())

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return sum(k.bytes * n for k, n in self.kernels.items())

    @property
    def launches(self) -> int:
        """Kernels run."""
        return sum(self.kernels.values())

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(dict(Counter(self.kernels) + Counter(other.kernels)))

    def times(self, n: int) -> "Cost":
        """The cost of the same work n times."""
        return Cost({k: count * n for k, count in self.kernels.items()} if n else {})

    def seconds(self, machine: Machine) -> float:
        """Predicted time, nothing overlapping."""
        return sum(self.bound_by(machine).values())

    def bound_by(self, machine: Machine) -> dict[str, float]:
        """Predicted seconds of kernels bound by `arithmetic` and by `memory`, and of `launches`."""
        found = {"arithmetic": 0.0, "memory": 0.0, "launches": self.launches * machine.launch}
        for kernel, n in self.kernels.items():
            arithmetic, memory = kernel.flops / machine.flops, kernel.bytes / machine.bandwidth
            found["arithmetic" if arithmetic > memory else "memory"] += n * max(arithmetic, memory)
        return found

    def by_name(self, machine: Machine) -> dict[str, float]:
        """Predicted seconds by operation, launches apart, longest first."""
        found: Counter[str] = Counter()
        for kernel, n in self.kernels.items():
            found[kernel.name] += n * max(kernel.flops / machine.flops, kernel.bytes / machine.bandwidth)  # type: ignore[assignment]
        return dict(found.most_common())


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the kernels that run inside.

    Where values are asked for that do not exist, on the meta device, copies to the host are zeros and questions are
    answered yes, so that loops go on as they do on a device.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Counter[Kernel] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        read = [t for t in tree_leaves((args, named)) if isinstance(t, Tensor)]
        if func.overloadpacket is torch.ops.aten._local_scalar_dense and read[0].is_meta:
            return read[0].dtype == torch.bool
        if _fetches(func, named, read):
            out = torch.zeros(read[0].shape, dtype=named.get("dtype") or read[0].dtype)
        else:
            out = func(*args, **named)
        written = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if (kernel := _kernel(func, args, named, read, written, out)) is not None:
            self.kernels[kernel] += 1
        return out


@contextmanager
def counting() -> Iterator["Count"]:
    """Count the kernels that run inside the context on any device; read `.cost` at any time."""
    watch = _Watch()
    with watch:
        yield Count(watch.kernels)


@dataclass(frozen=True)
class Count:
    """A count that may still be growing."""

    kernels: Counter[Kernel]

    @property
    def cost(self) -> Cost:
        """What was counted so far."""
        return Cost(dict(self.kernels))


def _fetches(func: Any, named: dict[str, Any], read: list[Tensor]) -> bool:
    """A copy of values that do not exist: from the meta device to the host."""
    target = named.get("device")
    return func.overloadpacket is torch.ops.aten._to_copy and read[0].is_meta and str(target) == "cpu"


def _kernel(
    func: Any, args: tuple[Any, ...], named: dict[str, Any], read: list[Tensor], written: list[Tensor], out: Any
) -> Kernel | None:
    """The kernel that an operation runs; None for views, allocations and what the host does beside a meta model."""
    packet = func.overloadpacket
    name = packet.__name__
    if func.is_view or name in _FREE or name in _SHAPING or not written:
        return None
    formula = flop_registry.get(packet)
    flops = int(formula(*args, **named, out_val=out)) if formula is not None else 0
    writes = sum(map(_size, written))
    if name in _GATHERS:  # what is returned is read, and the places it is read from
        moved = 2 * writes + sum(_size(t) for t in read if t is not args[0])
    elif name == "index_put_" or name == "scatter_":
        moved = 2 * _size(read[-1]) + sum(_size(t) for t in read[1:-1])
    elif name in _WRITES:
        moved = writes + sum(map(_size, read[1:]))
    else:
        moved = writes + sum(map(_size, read))
    return Kernel(name, flops, moved)


def _size(tensor: Tensor) -> int:
    """Bytes of a tensor's elements, those of an expanded axis once."""
    n = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        n *= length if stride or not length else 1
    return n * tensor.element_size()
