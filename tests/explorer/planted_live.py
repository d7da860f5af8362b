"""A live model whose every number is planted: a bag of heuristics with known votes.

A prompt's answer gets 8 nats from two heads; the embedding gives DECOY 8 nats and a margin. Each important neuron of
rank 1..6 carries one heuristic of `synthetic_neurons.LABELS`: it is 2 where the heuristic holds (-2 for the one whose
end is the bottom) and then shifts the answer against DECOY by one nat, if its value vector knows the answer. The margin
is half a nat below the number of neurons that carry one heuristic, so

    a prompt of no heuristic                 the model says DECOY
    a prompt of one heuristic                it is right, with every carrier; without any of them it says DECOY
    a prompt of several                      it is right, and stays so when one heuristic is zeroed

Indirect heuristics vote for numbers up to KNOWN. Every tenth prompt of a heuristic is missed by a neuron of rank 1..5
(-0.5 instead of 2), every third by the one of rank 6. Numbers are 0..LIMIT; operands may be any of them.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from viz import synthetic_neurons

from arithcirc.components import Head, Neuron
from arithcirc.errors import PromptError, RequestError
from arithcirc.neuron_maps import NeuronMap
from arithcirc.questions import NOTHING, Ablation, Explanation, Guess, Knockout, LiveInfo, Off, Reply

LIMIT, KNOWN, SIDE = 530, 119, 60
LAYERS, HEADS, WIDTH = 6, 4, synthetic_neurons.WIDTH
DECOY = 7
WRITERS = (Head(2, 1), Head(2, 3))
HOLDS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "result in 20..30": lambda a, b, r: (r >= 20) & (r < 30),
    "op2 = 8 mod 10": lambda a, b, r: b % 10 == 8,
    "op1 matches .5.": lambda a, b, r: a // 10 % 10 == 5,
    "op1 = 42": lambda a, b, r: a == 42,
    "both in 0..10": lambda a, b, r: (a < 10) & (b < 10),
    "both = 3 mod 5": lambda a, b, r: (a % 5 == 3) & (b % 5 == 3),
}
PROMPT = re.compile(r"\s*(\d{1,4})\s*([-+*/])\s*(\d{1,4})\s*=?\s*")
NUMBERS = np.arange(LIMIT + 1)


def result(operator: str, op1: np.ndarray, op2: np.ndarray) -> np.ndarray:
    """The true answer; -1 where there is none."""
    if operator == "/":
        return np.where(op2 > 0, op1 // np.maximum(op2, 1), -1)
    return {"+": op1 + op2, "-": op1 - op2, "*": op1 * op2}[operator]


@cache
def ranks(operator: str) -> dict[Neuron, int]:
    """The important neurons with their rank in their layer."""
    table = synthetic_neurons.neurons().query("method == 'exact' and metric == 'logit_diff' and important")
    table = table[table["operator"] == operator]
    return {Neuron(int(i), int(j)): int(r) for i, j, r in table[["layer", "neuron", "rank"]].itertuples(index=False)}


@cache
def carriers(operator: str) -> dict[Neuron, str]:
    """The neurons that carry a heuristic, and its name."""
    names = list(HOLDS)
    return {neuron: names[rank - 1] for neuron, rank in ranks(operator).items() if rank <= len(names)}


def margin(operator: str) -> float:
    """What heuristics must add before the model says the answer."""
    return LAYERS - synthetic_neurons.FIRST[operator] - 0.5


def end(name: str) -> str:
    """Which end of its neurons' activations a heuristic is found at."""
    return "bottom" if name == "op1 = 42" else "top"


def misses(neuron: Neuron, rank: int, op1: np.ndarray, op2: np.ndarray) -> np.ndarray:
    """Prompts at which a neuron does not follow its heuristic."""
    return (7 * op1 + 3 * op2 + neuron.layer + op1 * op2 // 10) % (3 if rank == 6 else 10) == 0


def activation(operator: str, neuron: Neuron, op1: np.ndarray, op2: np.ndarray) -> np.ndarray:
    """h of one neuron at `=`; a ripple of 0.05 where nothing is planted."""
    ripple = 0.05 * np.sin(0.37 * op1 + 0.61 * op2 + neuron.index + neuron.layer)
    name = carriers(operator).get(neuron)
    if name is None:
        return ripple.astype(np.float32)
    sign = -1 if end(name) == "bottom" else 1
    missed = misses(neuron, ranks(operator)[neuron], op1, op2)
    held = HOLDS[name](op1, op2, result(operator, op1, op2))
    return np.where(held, np.where(missed, -0.5 * sign, 2.0 * sign), ripple).astype(np.float32)


@cache
def values(operator: str) -> np.ndarray:
    """What one unit of each neuron writes into each number's logit, centred, shape (layer, neuron, number)."""
    out = np.empty((LAYERS, WIDTH, LIMIT + 1), dtype=np.float32)
    layer, neuron = np.meshgrid(np.arange(LAYERS), np.arange(WIDTH), indexing="ij")
    out[:] = 0.001 * np.sin((layer + neuron)[..., None] + NUMBERS)
    for carrier, name in carriers(operator).items():
        voted = HOLDS[name](NUMBERS, NUMBERS, NUMBERS) if name.startswith("result") else NUMBERS <= KNOWN
        out[carrier.layer, carrier.index] = (-1 if end(name) == "bottom" else 1) * 0.25 * voted
        out[carrier.layer, carrier.index, DECOY] = (1 if end(name) == "bottom" else -1) * 0.25
    return out - out.mean(axis=-1, keepdims=True)


def _one(number: np.ndarray, nats: float) -> np.ndarray:
    """So many nats for one number of each prompt, centred, shape (prompt, number)."""
    held = nats * (NUMBERS[None, :] == np.atleast_1d(number)[:, None])
    return (held - held.mean(axis=-1, keepdims=True)).astype(np.float32)


@cache
def legal(operator: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """op1, op2 and answer of every legal prompt with operands below SIDE."""
    a, b = (x.ravel() for x in np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"))
    r = result(operator, a, b)
    held = (r >= 0) & (r <= LIMIT)
    return a[held], b[held], r[held]


def activations(operator: str, op1: np.ndarray, op2: np.ndarray) -> np.ndarray:
    """h of every neuron, shape (prompt, layer, neuron)."""
    columns = [activation(operator, Neuron(i, j), op1, op2) for i in range(LAYERS) for j in range(WIDTH)]
    return np.stack(columns, axis=-1).reshape(len(op1), LAYERS, WIDTH)


@cache
def mean_activation(operator: str) -> np.ndarray:
    """The mean of h over the legal prompts, shape (layer, neuron)."""
    a, b, _ = legal(operator)
    return activations(operator, a, b).mean(axis=0)


@cache
def mean_writing(operator: str) -> np.ndarray:
    """The mean of what a writing head writes, shape (number,)."""
    return _one(legal(operator)[2], 4.0).mean(axis=0)


class PlantedLive:
    """The model; `slow` is called with every question, to count or delay them."""

    def __init__(self, name: str = "planted", asked: Callable[[str], object] = lambda _: None) -> None:
        self.info = LiveInfo(name, "step4000", LAYERS, HEADS, WIDTH, LIMIT)
        self._asked = asked

    def answer(self, prompt: str, off: Off = NOTHING) -> Reply:
        self._asked(f"answer {prompt}")
        operator, op1, op2 = self._read(prompt, off)
        parts = self._parts(operator, np.array([op1]), np.array([op2]), off)
        return self._reply(prompt, operator, op1, op2, sum(parts.values())[0])

    def explain(self, prompt: str, off: Off = NOTHING, *, numbers: Sequence[int] = ()) -> Explanation:
        self._asked(f"explain {prompt}")
        operator, op1, op2 = self._read(prompt, off)
        a, b = np.array([op1]), np.array([op2])
        parts = self._parts(operator, a, b, off)
        logits = sum(parts.values())[0]
        reply = self._reply(prompt, operator, op1, op2, logits)
        asked = [reply.answer, reply.guesses[0].number, *numbers]
        shown = tuple(dict.fromkeys(int(n) for n in asked if n is not None))
        at = list(shown)
        h = self._held(operator, a, b, off)[0]
        heads = np.zeros((LAYERS, HEADS, len(at)), dtype=np.float32)
        for head in WRITERS:
            heads[head.layer, head.index] = parts[str(head)][0, at]
        bias = np.array([self._bias(layer)[at] for layer in range(LAYERS)], dtype=np.float32)
        return Explanation(
            reply, shown, heads, h[..., None] * values(operator)[..., at], parts["embedding"][0, at],
            np.zeros((LAYERS, len(at)), dtype=np.float32), bias, parts["constant"][0, at], logits[at], h,
            self._attention(),
        )  # fmt: skip

    def neuron_map(self, operator: str, neuron: Neuron) -> NeuronMap:
        self._asked(f"map {neuron}")
        self._check(Off((neuron,)))
        return planted_map(operator, neuron)

    def knock_out(
        self, operator: str, neurons: Sequence[Neuron], ablation: Ablation = "zero", *, n: int = 200
    ) -> Knockout:
        self._asked(f"knock out {len(neurons)}")
        off = Off(tuple(neurons), (), ablation)
        self._check(off)
        a, b, r = legal(operator)
        given, sure = said_unbroken(operator)
        order = np.random.default_rng(0).permutation(len(a))
        kept = order[given[order] == r[order]][:n]
        after, then = self.said(operator, a[kept], b[kept], off)
        drop = (sure[kept] - then).astype(np.float32)
        lead, now = (self.lead(operator, a[kept], b[kept], parts) for parts in (NOTHING, off))
        return Knockout(operator, a[kept], b[kept], r[kept], after, drop, lead, lead - now)

    def lead(self, operator: str, a: np.ndarray, b: np.ndarray, off: Off) -> np.ndarray:
        """The true answer's logit less the largest other one, per prompt."""
        logits = np.array(sum(self._parts(operator, a, b, off).values()))
        at = np.arange(len(a)), result(operator, a, b)
        mine = logits[at]
        logits[at] = -np.inf
        return (mine - logits.max(axis=1)).astype(np.float32)

    def said(self, operator: str, a: np.ndarray, b: np.ndarray, off: Off) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest number and the log probability of the true answer, per prompt."""
        logits = sum(self._parts(operator, a, b, off).values())
        level = np.log(np.exp(logits).sum(axis=1))
        return logits.argmax(axis=1), logits[np.arange(len(a)), result(operator, a, b)] - level

    # -- inside ------------------------------------------------------------------------------------------------------

    def _read(self, prompt: str, off: Off) -> tuple[str, int, int]:
        found = PROMPT.fullmatch(prompt)
        if not found:
            raise PromptError(f"{prompt[:40]!r} is not a prompt: write two numbers and an operator, such as 226-68=")
        operator, op1, op2 = found[2], int(found[1]), int(found[3])
        answer = int(result(operator, np.array(op1), np.array(op2)))
        if max(op1, op2) > LIMIT or not 0 <= answer <= LIMIT:
            raise PromptError(f"{prompt!r} has no answer of 0..{LIMIT}: choose other numbers")
        self._check(off)
        return operator, op1, op2

    def _check(self, off: Off) -> None:
        for n in off.neurons:
            if not (0 <= n.layer < LAYERS and 0 <= n.index < WIDTH):
                raise RequestError(f"there is no neuron {n}: layers are 0..{LAYERS - 1}, neurons 0..{WIDTH - 1}")
        for h in off.heads:
            if not (0 <= h.layer < LAYERS and 0 <= h.index < HEADS):
                raise RequestError(f"there is no head {h}: layers are 0..{LAYERS - 1}, heads 0..{HEADS - 1}")

    def _held(self, operator: str, a: np.ndarray, b: np.ndarray, off: Off) -> np.ndarray:
        h = activations(operator, a, b)
        for n in off.neurons:
            h[:, n.layer, n.index] = 0 if off.ablation == "zero" else mean_activation(operator)[n.layer, n.index]
        return h

    def _parts(self, operator: str, a: np.ndarray, b: np.ndarray, off: Off) -> dict[str, np.ndarray]:
        """Everything that writes into the logits, each of shape (prompt, number)."""
        h = self._held(operator, a, b, off).reshape(len(a), -1)
        parts = {
            "embedding": np.repeat(_one(np.array([DECOY]), 8.0 + margin(operator)), len(a), axis=0),
            "neurons": h @ values(operator).reshape(-1, LIMIT + 1),
            "mlp_bias": np.repeat(sum(self._bias(layer) for layer in range(LAYERS))[None], len(a), axis=0),
            "constant": np.repeat(_one(np.array([100]), 0.01), len(a), axis=0),
        }
        for head in WRITERS:
            part = _one(result(operator, a, b), 4.0)
            if head in off.heads:
                part = 0 * part if off.ablation == "zero" else 0 * part + mean_writing(operator)
            parts[str(head)] = part
        return parts

    def _bias(self, layer: int) -> np.ndarray:
        held = 0.005 * np.cos(NUMBERS + layer)
        return (held - held.mean()).astype(np.float32)

    def _attention(self) -> np.ndarray:
        out = np.full((LAYERS, HEADS, 5), 0.2, dtype=np.float32)
        out[2, 1], out[2, 3] = (0.05, 0.8, 0.05, 0.05, 0.05), (0.05, 0.05, 0.05, 0.8, 0.05)
        return out

    def _reply(self, prompt: str, operator: str, op1: int, op2: int, logits: np.ndarray) -> Reply:
        chance = np.exp(logits - logits.max())
        chance /= chance.sum()
        guesses = [Guess(str(n), int(n), float(chance[n]), float(logits[n])) for n in range(LIMIT + 1)]
        answer = int(result(operator, np.array(op1), np.array(op2)))
        parts = ("bos", "op1", "operator", "op2", "equals")
        tokens = tuple(zip(parts, ("<bos>", str(op1), operator, str(op2), "="), strict=True))
        best = sorted(guesses, key=lambda g: -g.logit)[:10]
        return Reply(prompt, operator, op1, op2, answer, tokens, tuple(best), guesses[answer], chance)


@cache
def said_unbroken(operator: str) -> tuple[np.ndarray, np.ndarray]:
    """What the whole model says to every legal prompt, and the log probability of the answer."""
    return PlantedLive().said(operator, *legal(operator)[:2], NOTHING)


def planted_map(operator: str, neuron: Neuron) -> NeuronMap:
    """The neuron's map on operands below SIDE."""
    a, b, r = legal(operator)
    k = np.full((SIDE, SIDE), np.nan, dtype=np.float32)
    answer = np.full((SIDE, SIDE), -1, dtype=np.int32)
    k[a, b], answer[a, b] = activation(operator, neuron, a, b), r
    return NeuronMap(operator, neuron, 0, k, answer, values(operator)[neuron.layer, neuron.index].copy())
