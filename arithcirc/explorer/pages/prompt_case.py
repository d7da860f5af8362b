"""One prompt as the live model explains it, and what becomes of its answer when parts are switched off.

`explain` asks for the logits of the true answer, of the answer given and of the strongest rivals. `knocked_out` asks
three times: the whole model, the model without the chosen parts, and, as the control, without as many others of the
same layers. The fall of the answer's logit splits into what the parts wrote directly and the rest, which came about in
later layers and by the final norm.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from arithcirc.components import Neuron
from arithcirc.explorer.pages import prompt_facts as facts
from arithcirc.explorer.pages.prompt_ask import MOST, Prompt, as_many
from arithcirc.explorer.pages.prompt_facts import Labels
from arithcirc.questions import Explanation, LiveModel, Off, Reply
from arithcirc.viz.contributions import Parts, Target, parts, singles

RIVALS = 4
DRAWS = 5
"""Random sets that the words compare with."""
FAST = 0.5
"""Seconds for an answer up to which all draws and the search are made."""
TARGETS = ("difference", "answer", "given")


@dataclass(frozen=True)
class Case:
    """A prompt, its labels and its explanation. `rivals` are other numbers the model might say, likeliest first."""

    prompt: Prompt
    labels: Labels
    explanation: Explanation

    @property
    def reply(self) -> Reply:
        """What the model says."""
        return self.explanation.reply

    @property
    def given(self) -> int | None:
        """The number the model says; None where its likeliest token is none."""
        return self.reply.guesses[0].number

    @property
    def rivals(self) -> tuple[int, ...]:
        """Numbers explained besides the true answer."""
        return self.explanation.numbers[1:]

    @property
    def default(self) -> str:
        """The target that says most: the answer where the model is right, the difference where it is wrong."""
        return "answer" if self.reply.correct or not self.rivals else "difference"

    def target(self, kind: str) -> Target:
        """`answer`: the true one's logit. `given`: that of the answer given. `difference`: true less given or next."""
        if kind == "given" and self.given is not None:
            return Target(self.given)
        if kind == "difference" and self.rivals:
            return Target(self.reply.answer, self.rivals[0])
        return Target(self.reply.answer)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and neurons of a layer."""
        layers, neurons, _ = self.explanation.neurons.shape
        return layers, neurons

    @property
    def carriers(self) -> tuple[Neuron, ...]:
        """Neurons of the heuristics that hold."""
        return facts.neurons_of(self.labels.held)

    def parts(self, target: Target) -> Parts:
        """The explanation in groups."""
        where = self.labels.where
        return parts(
            self.explanation, target, where(self.carriers, self.shape), where(self.labels.important, self.shape)
        )

    def singles(self, target: Target) -> Parts:
        """The explanation by its largest single neurons."""
        where = self.labels.where
        return singles(
            self.explanation, target, where(self.carriers, self.shape), where(self.labels.important, self.shape)
        )

    def written(self, target: Target) -> np.ndarray:
        """Every neuron's contribution, shape (layer, neuron)."""
        return target.of(self.explanation, self.explanation.neurons)


def explain(model: LiveModel, prompt: Prompt, labels: Labels) -> Case:
    """The prompt explained. Raises PromptError for a prompt the model cannot read."""
    reply = model.answer(prompt.text)
    given = reply.guesses[0].number
    others = [g.number for g in reply.guesses if g.number is not None and g.number not in (reply.answer, given)]
    return Case(prompt, labels, model.explain(prompt.text, numbers=others[:RIVALS]))


@dataclass(frozen=True)
class Said:
    """The answers of the whole model, without the parts of `off`, and without as many others (None: no control).

    `direct` is the change of the true answer's logit in what the parts themselves write, `total` its whole change.
    """

    off: Off
    before: Reply
    after: Reply | None
    control: Reply | None
    random: Off
    direct: float
    total: float

    @property
    def shown(self) -> str:
        """The prompt, for people."""
        return Prompt(self.before.operator, self.before.op1, self.before.op2).shown


def knocked_out(model: LiveModel, prompt: Prompt, off: Off, important: Sequence[Neuron], seed: int) -> Said:
    """The prompt's answer with and without parts, and the control."""
    before = model.explain(prompt.text)
    if not off:
        return Said(off, before.reply, None, None, off, 0.0, 0.0)
    after = model.explain(prompt.text, off)
    random = as_many(off, important, model.info.n_heads, seed)
    control = model.answer(prompt.text, random) if random else None
    direct = _written(after, off) - _written(before, off)
    total = after.reply.answer_guess.logit - before.reply.answer_guess.logit
    return Said(off, before.reply, after.reply, control, random, direct, total)


def _written(explanation: Explanation, off: Off) -> float:
    """What the parts write into the true answer's logit."""
    neurons = sum(float(explanation.neurons[n.layer, n.index, 0]) for n in off.neurons)
    return neurons + sum(float(explanation.heads[h.layer, h.index, 0]) for h in off.heads)


@dataclass(frozen=True)
class Trial:
    """What knockouts to zero show: what holds, against draws of as many others; all important neurons; the strongest.

    `turning` are the fewest of the strongest neurons, for the answer given against the next (or the true) one, whose
    loss changes whether the model is right; None where no search was made or none was found.
    """

    off: Off
    without: Reply
    draws: tuple[Reply, ...]
    drawn: int
    nothing: Reply
    turning: tuple[Neuron, ...] | None = None
    turned: Reply | None = None

    @property
    def kept(self) -> int:
        """Draws after which the true answer is still said."""
        return sum(reply.correct for reply in self.draws)


def try_out(model: LiveModel, case: Case, off: Off, seed: int) -> Trial | None:
    """Knock out what holds, as many others `DRAWS` times, all important neurons, and the strongest ones.

    A model that takes long for an answer is asked less. None where no neuron carries what holds.
    """
    if not off.neurons:
        return None
    start = time.monotonic()
    without = model.answer(case.prompt.text, off)
    fast = time.monotonic() - start < FAST
    random = [as_many(off, case.labels.important, model.info.n_heads, seed + i) for i in range(DRAWS if fast else 1)]
    draws = tuple(model.answer(case.prompt.text, r) for r in random if r)
    inside = [n for n in case.labels.important if n.layer < case.shape[0] and n.index < case.shape[1]]
    nothing = model.answer(case.prompt.text, Off(tuple(inside)))
    trial = Trial(off, without, draws, len(random[0].neurons), nothing)
    found = _turning(model, case) if fast and case.rivals else None
    return trial if found is None else replace(trial, turning=found[0], turned=found[1])


def _turning(model: LiveModel, case: Case) -> tuple[tuple[Neuron, ...], Reply] | None:
    """The fewest strongest neurons whose loss turns right into wrong or wrong into right, by doubling and bisection."""
    sign = 1 if case.reply.correct else -1
    written = sign * case.written(case.target("difference"))
    order = [Neuron(*(int(v) for v in divmod(int(i), case.shape[1]))) for i in np.argsort(-written, axis=None)[:MOST]]
    order = [n for n in order if written[n.layer, n.index] > 0]

    def ask(k: int) -> Reply:
        return model.answer(case.prompt.text, Off(tuple(order[:k])))

    low, high, reply = 0, 1, ask(1)
    while reply.correct == case.reply.correct:
        if high >= len(order):
            return None
        low, high = high, min(2 * high, len(order))
        reply = ask(high)
    while high - low > 1:
        middle = (low + high) // 2
        now = ask(middle)
        if now.correct == case.reply.correct:
            low = middle
        else:
            high, reply = middle, now
    return tuple(order[:high]), reply
