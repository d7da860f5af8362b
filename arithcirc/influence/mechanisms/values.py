"""A mechanism as a number: what a neuron, or all neurons of a heuristic, do inside a heuristic and not outside.

    activation     m = sum_p w_p h_n(p)                            one neuron whose rule is on the operands (K)
    contribution   m = sum_p w_p sum_n h_n(p) <v_n, r(p)>          neurons that write the answer (KV)

at `=`, with w_p = 1 / (prompts inside) inside the heuristic and -1 / (prompts outside) outside, h_n the MLP's
activation, v_n its column of W_out and r(p) what a unit of residual writes into the centred logit of the true answer.
r holds the final norm's division at this prompt fixed, as `live.contributions` does, and is a constant here: neither
the unembedding nor a norm is a tracked layer. v_n is not: a document may teach a neuron when to fire or what to write.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from arithcirc.components import Neuron
from arithcirc.errors import RequestError

MEASURES = ("activation", "contribution")
KINDS = ("neuron", "heuristic")


@dataclass(frozen=True)
class Mechanism:
    """One measured mechanism. `id` is "neuron:OPERATOR:L3N17" or "heuristic:OPERATOR:op2 = 8 mod 10".

    `tokens` are whole prompts, BOS to `=`, all of one length; `answers` the token ids of their true answers; `weight`
    is positive inside the heuristic and negative outside. `sign` -1: the rule is to be low inside (a label's end is
    "bottom"), so a falling value strengthens it. `inside` and `outside` count prompts.
    """

    id: str
    what: str
    measure: str
    operator: str
    heuristic: str
    family: str
    neurons: tuple[Neuron, ...]
    tokens: Int[np.ndarray, "prompt position"]
    answers: Int[np.ndarray, "prompt"]
    weight: Float[np.ndarray, "prompt"]
    sign: float = 1.0

    def __post_init__(self) -> None:
        if self.what not in KINDS or self.measure not in MEASURES:
            raise RequestError(
                f"a mechanism {self.what!r} measured by {self.measure!r} is not known: "
                f"use {' or '.join(KINDS)}, and {' or '.join(MEASURES)}"
            )
        if not self.neurons or not len(self.tokens):
            raise RequestError(f"{self.id} has no neurons or no prompts: choose another, or wider --operands")
        if self.measure == "activation" and len(self.neurons) > 1:
            raise RequestError(f"{self.id}: activations of several neurons have no common unit: use contribution")

    @property
    def inside(self) -> int:
        """Prompts inside the heuristic."""
        return int((self.weight > 0).sum())

    @property
    def outside(self) -> int:
        """Prompts outside."""
        return int((self.weight < 0).sum())


def contrast(inside: int, outside: int) -> Float[np.ndarray, "prompt"]:
    """Weights of a mean over `inside` prompts minus a mean over the `outside` ones that follow them."""
    return np.concatenate([np.full(inside, 1.0 / max(inside, 1)), np.full(outside, -1.0 / max(outside, 1))])


def plain(mechanisms: Sequence[Mechanism]) -> list[dict[str, Any]]:
    """All that mechanisms are, to the last prompt, as JSON can hold it: what a hash of scores is made of."""
    return [
        {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(m).items()}
        for m in mechanisms
    ]
