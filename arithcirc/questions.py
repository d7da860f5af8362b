"""What a live model is asked about one prompt, and what it answers: plain values, no torch.

The model's side (`live`) makes these values, the pages (`explorer`) show them; neither imports the other. Arrays are
numpy, with the axis words used everywhere: `layer`, `head`, `neuron`, `number` (numbers whose logits are explained).
Logits are centred over the vocabulary, before a soft-cap, in nats; so a sum of contributions is a logit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from arithcirc.components import Head, Neuron
from arithcirc.neuron_maps import NeuronMap

Ablation = Literal["zero", "mean"]
ABLATIONS: tuple[Ablation, ...] = ("zero", "mean")


@dataclass(frozen=True)
class Off:
    """What is switched off at `=` while a prompt is answered: set to zero, or to its mean over all prompts."""

    neurons: tuple[Neuron, ...] = ()
    heads: tuple[Head, ...] = ()
    ablation: Ablation = "zero"

    def __bool__(self) -> bool:
        return bool(self.neurons or self.heads)


NOTHING = Off()


@dataclass(frozen=True)
class Guess:
    """One token the model may say next: its number (None: it is no number), probability and logit (centred, nats)."""

    token: str
    number: int | None
    probability: float
    logit: float


@dataclass(frozen=True)
class Reply:
    """What the model says to one prompt. `answer` is the true result; `guesses` are its ten likeliest tokens.

    `tokens` are (position, text) from `bos` to `equals`; `answer_guess` is the true answer's own entry. `chances` are
    the probabilities of the numbers 0, 1, ... (empty: not known beyond the guesses).
    """

    prompt: str
    operator: str
    op1: int
    op2: int
    answer: int
    tokens: tuple[tuple[str, str], ...]
    guesses: tuple[Guess, ...]
    answer_guess: Guess
    chances: Float[np.ndarray, "number"] = field(default_factory=lambda: np.empty(0), compare=False, repr=False)

    @property
    def correct(self) -> bool:
        """The likeliest token is the true result."""
        return self.guesses[0].number == self.answer


@dataclass(frozen=True)
class Explanation:
    """Who writes what into the logits at `=`: contributions that sum to the logits exactly (up to rounding).

    heads + neurons + embedding + attention_bias + mlp_bias + constant, summed over layers, heads and neurons, equal
    `logits`. Each part's vector is read through the final norm with the prompt's own scale held fixed (direct logit
    attribution), so a part's effect through later layers is not in it. `attention` is what each head attends to from
    `=`, over the positions of `reply.tokens`; `activations` are h_n at `=`.
    """

    reply: Reply
    numbers: tuple[int, ...]
    heads: Float[np.ndarray, "layer head number"]
    neurons: Float[np.ndarray, "layer neuron number"]
    embedding: Float[np.ndarray, "number"]
    attention_bias: Float[np.ndarray, "layer number"]
    mlp_bias: Float[np.ndarray, "layer number"]
    constant: Float[np.ndarray, "number"]
    logits: Float[np.ndarray, "number"]
    activations: Float[np.ndarray, "layer neuron"]
    attention: Float[np.ndarray, "layer head pos"]


@dataclass(frozen=True)
class Knockout:
    """What replacing some neurons at `=` does to prompts answered correctly before: one entry per prompt.

    `after` is the number said afterwards (-1: no number); `drop` is the fall of the answer's log probability, `lead`
    what its logit was above the largest other one, `fall` the fall of that (nats).
    """

    operator: str
    op1: Int[np.ndarray, "prompt"]
    op2: Int[np.ndarray, "prompt"]
    answer: Int[np.ndarray, "prompt"]
    after: Int[np.ndarray, "prompt"]
    drop: Float[np.ndarray, "prompt"]
    lead: Float[np.ndarray, "prompt"]
    fall: Float[np.ndarray, "prompt"]


@dataclass(frozen=True)
class LiveInfo:
    """Facts about the loaded model; `limit` is the largest number it writes as one token."""

    name: str
    revision: str
    n_layers: int
    n_heads: int
    d_mlp: int
    limit: int
    operators: str = field(default="+-*/")


@runtime_checkable
class LiveModel(Protocol):
    """A loaded model that answers single questions, one at a time; each call raises RequestError on bad input."""

    @property
    def info(self) -> LiveInfo:
        """Facts about the model."""
        ...

    def answer(self, prompt: str, off: Off = NOTHING) -> Reply:
        """What the model says to `226-68=`, with parts switched off. Raises PromptError for a prompt it cannot read."""
        ...

    def explain(self, prompt: str, off: Off = NOTHING, *, numbers: Sequence[int] = ()) -> Explanation:
        """Contributions to the logits of the true answer, of the answer given, and of `numbers`, in this order."""
        ...

    def neuron_map(self, operator: str, neuron: Neuron) -> NeuronMap:
        """The neuron's activation on every legal prompt of an operator."""
        ...

    def knock_out(
        self, operator: str, neurons: Sequence[Neuron], ablation: Ablation = "zero", *, n: int = 200
    ) -> Knockout:
        """Replace these neurons on the first n prompts, in a fixed random order, that are answered correctly."""
        ...
