"""Names of the things that can be patched, ablated and put in a circuit.

A component is a head (its `z`, before W_O), an MLP (its post-activation, equivalently its output) or one MLP neuron.
A site is a component at a token position. All are frozen, ordered and hashable, so results can carry them as labels.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Position(StrEnum):
    """Token positions of an arithmetic prompt, in order. `bos` never varies, so nothing is patched there."""

    BOS = "bos"
    OP1 = "op1"
    OPERATOR = "operator"
    OP2 = "op2"
    EQUALS = "equals"


PATCHED_POSITIONS = (Position.OP1, Position.OPERATOR, Position.OP2, Position.EQUALS)


@dataclass(frozen=True, order=True)
class Head:
    """Attention head `index` of layer `layer`; prints as L3H1."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.index}"


@dataclass(frozen=True, order=True)
class Mlp:
    """The whole MLP of layer `layer`; prints as L3MLP."""

    layer: int

    def __str__(self) -> str:
        return f"L{self.layer}MLP"


@dataclass(frozen=True, order=True)
class Neuron:
    """Neuron `index` (a column of W_in, a row of W_out) of layer `layer`'s MLP; prints as L3N17."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}N{self.index}"


Component = Head | Mlp | Neuron
Kind = Literal["head", "mlp", "neuron"]


def kind(component: Component) -> Kind:
    """The table's word for a component's type."""
    match component:
        case Head():
            return "head"
        case Mlp():
            return "mlp"
        case Neuron():
            return "neuron"


@dataclass(frozen=True)
class Site:
    """A component at a position: what one patch replaces."""

    component: Component
    position: Position

    def __str__(self) -> str:
        return f"{self.component}@{self.position}"


def all_heads(n_layers: int, n_heads: int) -> tuple[Head, ...]:
    """Every head, layer-major."""
    return tuple(Head(layer, head) for layer in range(n_layers) for head in range(n_heads))


def all_mlps(n_layers: int) -> tuple[Mlp, ...]:
    """Every MLP, from the first layer up."""
    return tuple(Mlp(layer) for layer in range(n_layers))
