"""What the Prompt page is asked: a prompt as typed, and the parts to switch off, by name or by heuristic.

A prompt is two whole numbers with an operator between them, as `226-68=` (the `=` may be missing; `−`, `×`, `÷` count).
Parts are written with commas between them:

    L3N17              a neuron
    L2H1               an attention head
    L3MLP              every neuron of a layer
    h:op2 = 8 mod 10   the neurons labelled with a heuristic, whether it holds or not
    all that hold      the neurons of every heuristic that holds of the prompt

The text is a user's: it is length-limited, understood or refused in one line, and never opened or run.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from arithcirc.components import Head, Neuron
from arithcirc.errors import PromptError, RequestError
from arithcirc.questions import LiveInfo, Off
from arithcirc.viz import masks, theme

LONGEST = 60
"""Characters of a prompt that are read."""
MOST = 100
"""Parts that can be named at once."""
ALL = "all that hold"
_PROMPT = re.compile(r"\s*([0-9]{1,9})\s*([^\s0-9=]{1,3})\s*([0-9]{1,9})\s*=?\s*")
_ASCII = {sign: symbol for symbol, sign in theme.OPERATOR_SIGNS.items()}
_PART = re.compile(r"L([0-9]{1,4})(?:(N|H)([0-9]{1,7})|(MLP))")


@dataclass(frozen=True)
class Prompt:
    """One prompt; `answer` is its true result, None where there is none (division by 0, below 0)."""

    operator: str
    op1: int
    op2: int

    @property
    def text(self) -> str:
        """`226-68=`."""
        return f"{self.op1}{self.operator}{self.op2}="

    @property
    def shown(self) -> str:
        """`226 − 68`, for people."""
        return f"{self.op1} {theme.OPERATOR_SIGNS[self.operator]} {self.op2}"

    @property
    def answer(self) -> int | None:
        """The true result."""
        found = int(masks.result(self.operator, np.array(self.op1), np.array(self.op2)))
        return found if found >= 0 else None


def read(text: str) -> Prompt:
    """A prompt as typed. Raises PromptError for what is not understood."""
    found = _PROMPT.fullmatch(text[:LONGEST]) if len(text) <= LONGEST else None
    if found is None:
        raise PromptError(
            f"prompt {text[:40]!r} is not understood: write two whole numbers and an operator, as '226-68='"
        )
    symbol = _ASCII.get(found[2], found[2])
    if symbol not in theme.OPERATOR_NAMES:
        raise PromptError(f"operator {found[2]!r} is not known: use one of {' '.join(theme.OPERATOR_NAMES)}")
    prompt = Prompt(symbol, int(found[1]), int(found[3]))
    if prompt.answer is None:
        why = "divides by 0" if symbol == "/" else f"has the result {prompt.op1 - prompt.op2}"
        raise PromptError(f"{prompt.text!r} {why}: legal prompts have a whole result of 0 or more")
    return prompt


def split(text: str) -> list[str]:
    """Parts between commas, without those inside braces: `h:result in {1, 2}` is one part. Twice is once."""
    pieces = re.findall(r"(?:[^,{]|\{[^}]*\}?)+", text)
    return list(dict.fromkeys(piece.strip() for piece in pieces if piece.strip()))


def named(items: Iterable[str], carriers: Callable[[str], Sequence[Neuron]], width: int, ablation: str) -> Off:
    """What these parts are. `carriers` gives a heuristic's neurons (or those of `*`), `width` is a layer's neurons.

    Raises RequestError for a part that is not understood.
    """
    neurons: dict[Neuron, None] = {}
    heads: dict[Head, None] = {}
    held = list(items)
    if len(held) > MOST:
        raise RequestError(f"{len(held)} parts are too many to name: at most {MOST}; switch off heuristics instead")
    for item in held:
        if item == ALL or item.startswith("h:"):
            neurons |= dict.fromkeys(carriers("*" if item == ALL else item[2:].strip()))
            continue
        found = _PART.fullmatch(item)
        if found is None:
            raise RequestError(
                f"{item[:40]!r} is no part: write a neuron as L3N17, a head as L2H1, a layer's neurons as L3MLP, a "
                "heuristic as 'h:op2 = 8 mod 10'"
            )
        layer = int(found[1])
        if found[4]:
            neurons |= dict.fromkeys(Neuron(layer, i) for i in range(width))
        elif found[2] == "N":
            neurons[Neuron(layer, int(found[3]))] = None
        else:
            heads[Head(layer, int(found[3]))] = None
    return Off(tuple(neurons), tuple(heads), "mean" if ablation == "mean" else "zero")


def sorted_out(
    items: Iterable[str], carriers: Callable[[str], Sequence[Neuron]], info: LiveInfo, ablation: str
) -> tuple[Off, dict[str, str]]:
    """The parts that are understood and that the model has, and for every other one what is wrong with it."""
    neurons: dict[Neuron, None] = {}
    heads: dict[Head, None] = {}
    bad: dict[str, str] = {}
    for item in list(items)[:MOST]:
        try:
            found = named([item], carriers, info.d_mlp, ablation)
        except RequestError as error:
            bad[item] = str(error)
            continue
        strangers: list[Neuron | Head] = [n for n in found.neurons if n.layer >= info.n_layers or n.index >= info.d_mlp]
        strangers += [h for h in found.heads if h.layer >= info.n_layers or h.index >= info.n_heads]
        if strangers:
            bad[item] = (
                f"there is no {strangers[0]}: layers are 0..{info.n_layers - 1}, neurons 0..{info.d_mlp - 1}, heads "
                f"0..{info.n_heads - 1}"
            )
            continue
        neurons |= dict.fromkeys(found.neurons)
        heads |= dict.fromkeys(found.heads)
    return Off(tuple(neurons), tuple(heads), "mean" if ablation == "mean" else "zero"), bad


def as_many(off: Off, important: Sequence[Neuron], n_heads: int, seed: int) -> Off:
    """The control: in every layer as many other important neurons, and other heads, as `off` has; fewer where none is.

    Drawn by a generator of its own, so the same seed draws the same.
    """
    rng = np.random.default_rng([abs(seed), len(off.neurons), len(off.heads)])
    neurons: list[Neuron] = []
    heads: list[Head] = []
    chosen, chosen_heads = set(off.neurons), set(off.heads)
    for layer in sorted({n.layer for n in off.neurons}):
        pool = sorted(n for n in important if n.layer == layer and n not in chosen)
        wanted = sum(n.layer == layer for n in off.neurons)
        neurons += [pool[i] for i in rng.permutation(len(pool))[:wanted]]
    for layer in sorted({h.layer for h in off.heads}):
        others = [Head(layer, i) for i in range(n_heads) if Head(layer, i) not in chosen_heads]
        wanted = sum(h.layer == layer for h in off.heads)
        heads += [others[i] for i in rng.permutation(len(others))[:wanted]]
    return Off(tuple(neurons), tuple(heads), off.ablation)


def counted(off: Off) -> str:
    """`20 neurons and 1 head`."""
    parts = [(len(off.neurons), "neuron"), (len(off.heads), "head")]
    return " and ".join(f"{n:,} {word}{'s' if n != 1 else ''}" for n, word in parts if n) or "nothing"
