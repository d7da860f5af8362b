"""A prompt's answer explained in words, from the numbers alone: what holds, who writes it, and whether it matters.

Sentences carry **emphasis** between double asterisks. A control that does as well as the labelled neurons is said to,
and where nothing can be said (no labels, no model) the sentence is left out.
"""

from collections.abc import Sequence

import numpy as np

from arithcirc.components import Neuron
from arithcirc.explorer.pages import prompt_facts as facts
from arithcirc.explorer.pages.prompt_ask import Prompt
from arithcirc.explorer.pages.prompt_case import Case, Trial
from arithcirc.explorer.pages.prompt_facts import Labels, Stored
from arithcirc.questions import Guess, Reply
from arithcirc.viz import masks
from arithcirc.viz.contributions import GROUPS, Parts, Target
from arithcirc.viz.theme import number, percent

SHOWN = 4
"""Heuristics and neurons named in a sentence."""


def signed(value: float, digits: int = 1) -> str:
    """`+3.2` or `−0.4`."""
    text = number(value, digits)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def said(guess: Guess) -> str:
    """What a guess says: its number, or its text where it is none."""
    return str(guess.number) if guess.number is not None else repr(guess.token)


def sentences(case: Case) -> list[str]:
    """The explanation: the answer, what holds, who writes it."""
    target = case.target(case.default)
    found = case.parts(target)
    parts = [
        _answer(case.reply),
        _holding(case.prompt, case.labels, _strongest(case, target)),
        _writers(case, found),
        _single(case, target, found),
        _fitting(case),
        _misled(case, target),
    ]
    return [part for part in parts if part]


def unseen(prompt: Prompt, operands: tuple[int, int]) -> list[str]:
    """That operands lie outside those of the run."""
    low, high = operands
    out = list(dict.fromkeys(n for n in (prompt.op1, prompt.op2) if not low <= n <= high))
    if not out:
        return []
    names = " and ".join(str(n) for n in out)
    return [
        f"**{names} {'lies' if len(out) == 1 else 'lie'} outside {low}..{high}**, the operands of this run: its "
        "labels, means and accuracy were made there, so they say little about this prompt."
    ]


def summary(case: Case, trial: Trial | None) -> str:
    """The explanation in a sentence or two: which parts push the answer up, in which layers, how many must go."""
    right = case.reply.correct
    given, answer = said(case.reply.guesses[0]), case.reply.answer
    if not right and not case.rivals:
        return f"**In short:** the model says {given}, no number, so there is no rival number to compare {answer} with."
    target = case.target("answer" if right else "difference")
    sign = 1 if right else -1
    pushing = _pushing(case, target, sign)
    if not pushing:
        return f"**In short:** no layer speaks clearly for {given}: its lead comes from the embedding and biases."
    named = [f"{name} ({signed(value)})" for name, value in pushing]
    nats = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    logit = number(float(target.of(case.explanation, case.explanation.logits)), 1)
    nats += f" of the {logit} nats of its logit" if right else f", of {logit} nats between the two"
    if right:
        start = f"**In short:** the model says {given} because many parts vote for it, most of all {nats}."
    else:
        start = f"**In short:** {given} beats {answer} because some parts favour it, most of all {nats}."
    return f"{start} {_redundancy(case, trial)}".strip()


def _pushing(case: Case, target: Target, sign: int, most: int = 3) -> list[tuple[str, float]]:
    """The heads, or the MLP neurons, of the layers that push most, strongest first, with what they write."""
    explanation = case.explanation
    kinds = {
        "the MLP neurons": target.of(explanation, explanation.neurons).sum(axis=1),
        "the heads": target.of(explanation, explanation.heads).sum(axis=1),
    }
    found = [(f"{kind} of layer {i}", float(v)) for kind, by in kinds.items() for i, v in enumerate(by)]
    best = sorted((sign * value, name, value) for name, value in found if sign * value > 0.05)[::-1]
    return [(name, value) for _, name, value in best[:most]]


def _redundancy(case: Case, trial: Trial | None) -> str:
    """How many of the strongest neurons must go before the answer changes."""
    if trial is None:
        return ""
    right, n = case.reply.correct, len(trial.turning or ())
    does = "the answer falls" if right else "the answer comes right"
    if not n:
        return "No set of the strongest neurons that was tried changes it." if case.rivals else ""
    if n == 1:
        return f"The votes are not redundant: one neuron must go before {does}."
    if n <= SHOWN:
        return f"The votes are hardly redundant: {n} of the strongest neurons must go before {does}."
    return f"The votes are redundant: {n} of the strongest neurons must go together before {does}."


def knockouts(case: Case, trial: Trial | None) -> list[str]:
    """What knockouts show."""
    return [part for part in (_tried(case, trial), _turned(case, trial)) if part]


def _answer(reply: Reply) -> str:
    first, shown = reply.guesses[0], Prompt(reply.operator, reply.op1, reply.op2).shown
    if reply.correct:
        text = f"The model answers **{said(first)}** to {shown}, which is **right**, with probability {chance(first)}"
        if len(reply.guesses) < 2:
            return f"{text}."
        second = reply.guesses[1]
        return f"{text}; the runner-up, {said(second)}, is {number(first.logit - second.logit, 1)} nats behind."
    behind = number(first.logit - reply.answer_guess.logit, 1)
    return (
        f"The model answers **{said(first)}** to {shown}, which is **wrong**: the result is **{reply.answer}**. It "
        f"gives {said(first)} probability {chance(first)} and {reply.answer} {chance(reply.answer_guess)}, {behind} "
        "nats behind."
    )


def chance(guess: Guess) -> str:
    """A probability as per cent; small ones are said to be small."""
    return "below 0.1\N{NO-BREAK SPACE}%" if guess.probability < 0.001 else percent(guess.probability)


def _strongest(case: Case, target: Target) -> list[tuple[str, float]]:
    """The heuristics that hold, by what their neurons write together."""
    written = case.written(target)
    rows = facts.heuristic_rows(case.labels, {n: float(written[n.layer, n.index]) for n in case.carriers})
    return [] if rows.empty else list(zip(rows["heuristic"], rows["contribution"], strict=True))


def _holding(prompt: Prompt, labels: Labels, strongest: Sequence[tuple[str, float]]) -> str:
    if not len(labels.rows):
        return ""
    n = len(labels.holding)
    if not n:
        return f"**No heuristic** of this run holds of {prompt.shown}, so no labelled neuron is expected to help."
    named = [f"{name} ({signed(value)})" for name, value in strongest[:SHOWN]] or list(labels.holding[:SHOWN])
    carriers = facts.neurons_of(labels.held)
    many = f"**{n} heuristics hold**" if n > 1 else "**One heuristic holds**"
    among = ": " if n <= SHOWN else "; those whose neurons write most, in nats: " if strongest else ", among them "
    return (
        f"{many} of {prompt.shown}{among}{', '.join(named)}. **{len(carriers):,} neurons** carry "
        f"{'them' if n > 1 else 'it'}, of {len(labels.important):,} important ones."
    )


def _writers(case: Case, found: Parts) -> str:
    """The groups' shares of the logit or, for a difference, who favours which."""
    groups = {name: found.group(name) for name in GROUPS if not _unknown(case.labels, name)}
    if found.target.minus is None:
        rest = ", ".join(f"{GROUPS[name][0]} {signed(groups[name])}" for name in groups if name != "holding")
        if "holding" not in groups:
            logit = f"the {number(found.total, 1)} nats of {found.target.plus}’s logit"
            return f"{_uncomputed(case.labels)} Read directly, of {logit}: {_plainly(case.labels, rest)}."
        return (
            f"Read directly, the neurons whose heuristics hold write **{signed(groups['holding'])}** of the "
            f"{number(found.total, 1)} nats of {found.target.plus}’s logit; {rest}."
        )
    sides = []
    for sign, towards in ((1, found.target.plus), (-1, found.target.minus)):
        held = sorted((name for name in groups if sign * groups[name] > 0.05), key=lambda g: -sign * groups[g])
        words = ", ".join(f"{GROUPS[g][0]} ({signed(groups[g])})" for g in held)
        sides.append(f"in favour of **{towards}**: {words or 'nothing'}")
    less = f"Logit of {found.target.plus} less that of {found.target.minus}: {signed(found.total)} nats"
    told = f"{less}; {'; '.join(sides)}."
    return told if case.labels.computed else f"{_uncomputed(case.labels)} {_plainly(case.labels, told)}"


def _unknown(labels: Labels, group: str) -> bool:
    """The group cannot be told: this run has no labels, or no important neurons either."""
    return not labels.computed and (group == "holding" or (group == "important" and not labels.important))


def _uncomputed(labels: Labels) -> str:
    """That there are no labels, so that nobody takes their absence for a finding."""
    what = "labelled" if labels.important else "labelled, nor which are important"
    return f"**No neuron of this run has been {what}**, so nothing can be said of heuristics here."


def _plainly(labels: Labels, text: str) -> str:
    """Groups by the names they have where there is no other: all neurons are not "other neurons"."""
    if labels.important:
        return text.replace(GROUPS["important"][0], "important neurons")
    return text.replace(GROUPS["others"][0], "all neurons")


def _single(case: Case, target: Target, found: Parts) -> str:
    """The strongest neuron on the side of what was said, and its share."""
    if target.minus is not None or abs(found.total) < 1e-6:
        return ""
    written = case.written(target)
    layer, index = (int(i) for i in divmod(int(written.argmax()), written.shape[1]))
    best, neuron = float(written[layer, index]), Neuron(layer, index)
    share = best / abs(found.total)
    name = _named(case, neuron)
    alone = "No neuron decides alone" if share < 0.5 else "One neuron does much of it"
    return f"{alone}: the strongest, {name}, writes {signed(best)} nats, {percent(share)} of the logit."


def _named(case: Case, neuron: Neuron) -> str:
    """`L3N17 (op2 = 8 mod 10)`."""
    held = facts.neuron_labels(case.labels).get(neuron)
    label = held[0] if held else facts.best_labels(case.labels).get(neuron)
    return f"{neuron} ({label})" if label else f"{neuron} (no label)"


def _fitting(case: Case) -> str:
    """How many of the answer's heuristics on the result the runner-up fits too."""
    if not case.reply.correct or not case.rivals:
        return ""
    mine = [str(n) for n in case.labels.held.loc[case.labels.held["value"] == "result", "heuristic"].unique()]
    rival = case.rivals[0]
    missed = [name for name in mine if not masks.holds(name, "+", rival, 0)]
    if not mine:
        return ""
    which = f"; it misses {_some(missed)}" if missed else ""
    return (
        f"The runner-up among numbers, {rival}, fits {len(mine) - len(missed)} of the {len(mine)} heuristics on the "
        f"result that {case.reply.answer} fits{which}."
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _misled(case: Case, target: Target) -> str:
    """For a wrong answer: labels on the result that hold of the number given and not of the true one."""
    if case.reply.correct or target.minus is None or not len(case.labels.rows):
        return ""
    written = case.written(target)
    direct = case.labels.rows[case.labels.rows["value"] == "result"]
    fooled = [n for n in direct["heuristic"].unique() if _of_result(str(n), target.minus, target.plus)]
    carriers = facts.neurons_of(direct[direct["heuristic"].isin(fooled)])
    strongest = sorted(((float(written[i]), Neuron(*i)) for i in _lowest(written)), key=lambda pair: pair[0])[:3]
    words = ", ".join(f"{_named(case, neuron)} {signed(value)}" for value, neuron in strongest if value < 0)
    text = f"The neurons that favour {target.minus} most: {words}." if words else ""
    if carriers:
        total = sum(float(written[n.layer, n.index]) for n in carriers)
        text += (
            f" {len(carriers):,} neurons carry labels on the result that fit {target.minus} but not {target.plus} "
            f"(such as {fooled[0]}); together they write {signed(total)} nats into the difference, "
            f"{'so they are part of the mistake' if total < 0 else 'so the mistake is not theirs'}."
        )
    return text.strip()


def _lowest(written: np.ndarray, n: int = 3) -> list[tuple[int, int]]:
    flat = np.argsort(written, axis=None, kind="stable")[:n]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(flat, written.shape), strict=True)]


def _of_result(name: str, given: int, answer: int) -> bool:
    """A label on the result that holds of one number and not of another."""
    return bool(masks.holds(name, "+", given, 0)) and not masks.holds(name, "+", answer, 0)


def _tried(case: Case, trial: Trial | None) -> str:
    """What the knockout of everything that holds shows, beside its control."""
    if trial is None:
        return ""
    n, without = len(trial.off.neurons), trial.without
    how = "set to zero" if trial.off.ablation == "zero" else "set to their means"
    start = f"With these {n:,} neurons {how} the model says **{said(without.guesses[0])}**"
    if not trial.draws:
        return f"{start}; there are no other important neurons in their layers to compare with."
    same = "as many" if trial.drawn == n else f"{trial.drawn:,} (all there are)"
    verb = "still says" if case.reply.correct else "says"
    control = (
        f"with {same} random other important neurons of the same layers {how} it {verb} {case.reply.answer} in "
        f"{trial.kept} of {len(trial.draws)} draws"
    )
    if not case.reply.correct:
        return f"{start}; {control}."
    if without.correct:
        rest, every = trial.nothing.guesses[0], f"all {len(case.labels.important):,} important neurons {how}"
        beyond = f" Even with {every} it says {said(rest)} ({chance(rest)})." if trial.nothing.correct else ""
        return f"{start} still, so the answer does not hang on them alone; {control}.{beyond}"
    share = trial.kept / len(trial.draws)
    if trial.drawn < 0.9 * n:
        end = "fewer neurons are no fair comparison"
    elif share >= 0.8:
        end = "so the answer hangs on what the labels point at"
    elif share <= 0.2:
        end = "so losing this many of any label would do it: no evidence for the labels here"
    else:
        end = "so the labels matter, and so does losing this many"
    return f"{start} ({case.reply.answer}: {chance(without.answer_guess)}); {control}: {end}."


def _turned(case: Case, trial: Trial | None) -> str:
    """The fewest strongest neurons that turn the answer."""
    if trial is None or trial.turning is None or trial.turned is None:
        return ""
    n, target = len(trial.turning), case.target("difference")
    many = f"the {n} neurons that speak" if n > 1 else "the one neuron that speaks"
    towards, against = (target.plus, target.minus) if case.reply.correct else (target.minus, target.plus)
    who = f"{many} most for {towards} against {against}"
    if n <= SHOWN:
        who += f" ({', '.join(_named(case, neuron) for neuron in trial.turning)})"
    verb = "It breaks" if case.reply.correct else "It is **put right**"
    return f"{verb} without {who}, whatever their labels: then the model says **{said(trial.turned.guesses[0])}**."


def stored_sentences(prompt: Prompt, labels: Labels, stored: Stored | None, contribution: float | None) -> list[str]:
    """What can be said without the model."""
    parts = []
    if stored is not None:
        given = str(stored.given) if stored.given >= 0 else "no number"
        verdict = "which is **right**" if stored.correct else f"which is **wrong**: the result is **{prompt.answer}**"
        parts.append(f"When this run was made the model answered **{given}** to {prompt.shown}, {verdict}.")
    else:
        parts.append(f"This run has no answer to {prompt.shown}: its result would be **{prompt.answer}**.")
    parts.append(_holding(prompt, labels, ()))
    if contribution is not None:
        parts.append(
            f"By the stored maps, those of them that are stored write {signed(contribution)} into the logit of "
            f"{prompt.answer}, before the final norm divides by the size of this prompt’s residual stream."
        )
    return [part for part in parts if part]
