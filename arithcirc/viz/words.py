"""The summary in words: plain sentences about one operator, made from its `OperatorSummary` and nothing else.

A bar that was missed is said to be missed, a circuit no better than random heads is said to be that, and what a table
does not hold is left unsaid rather than guessed.
"""

from arithcirc.viz.summary import CARRIERS_SHOWN, Carrier, Faithfulness, OperatorSummary, RandomCircuits
from arithcirc.viz.theme import number, percent


def sentences(summary: OperatorSummary) -> list[str]:
    """What was found for one operator, in order: skipped, accuracy, circuit, control, carriers."""
    parts = [
        f"Skipped: {summary.skipped.rstrip('.')}." if summary.skipped else None,
        _accuracy(summary),
        _circuit(summary),
        _control(summary),
        _carriers(summary),
    ]
    return [part for part in parts if part]


def carrier_list(carriers: list[Carrier]) -> str:
    """`L2H1 (8.01), L2H3 (7.52) and 3 more`, or `none`."""
    if not carriers:
        return "none"
    shown = ", ".join(f"{c.head} ({number(c.mean, 2)})" for c in carriers[:CARRIERS_SHOWN])
    more = len(carriers) - CARRIERS_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _accuracy(summary: OperatorSummary) -> str | None:
    a = summary.accuracy
    if a is None:
        return None
    verdict = "" if a.beats_base_rate else ", so it is no better than that guess"
    return (
        f"The model answers {a.correct:,} of {a.n:,} prompts correctly ({percent(a.accuracy)}); "
        f"always giving the most frequent answer would score {percent(a.base_rate)}{verdict}."
    )


def _circuit(summary: OperatorSummary) -> str | None:
    f = summary.evaluate or summary.discover
    if f is None:
        return None
    prompts = "prompts it was not chosen on" if summary.evaluate else "the prompts it was chosen on"
    scope = f"{f.n} {prompts} ({f.undefined} left out, undefined)"
    who = f"A circuit of {_members(summary, f)}"
    if f.n == 0 or f.faithfulness != f.faithfulness:
        return f"{who} has no usable F: all {f.undefined} {prompts} are undefined."
    value = f"F = {number(f.faithfulness)} ± {number(f.sem)} on {scope}"
    if summary.whole_model:
        return (
            f"The chosen circuit is {_members(summary, f)}, that is the whole model: "
            f"F = {number(f.faithfulness)} holds by construction and shows nothing."
        )
    if f.faithfulness >= summary.target:
        end = ""
        if f.faithfulness > 1.1:
            end = " F well above 1 means that the circuit overshoots the whole model, not that it explains more."
        return f"{who} keeps {value}, at or above the target of {summary.target:g}.{end}"
    return f"{who} only keeps {value}: this misses the target of {summary.target:g}, so more than it is at work."


def _members(summary: OperatorSummary, f: Faithfulness) -> str:
    heads = f"{f.n_heads} of {summary.total_heads} heads" if summary.total_heads else f"{f.n_heads} heads"
    if summary.total_heads and f.n_heads == summary.total_heads:
        heads = f"all {f.n_heads} heads"
    if summary.n_mlps is None:
        return heads
    every = summary.n_mlps == summary.total_mlps
    return f"{heads} and {'all ' if every else f'{summary.n_mlps} of '}{summary.total_mlps} MLPs"


def _control(summary: OperatorSummary) -> str | None:
    r = summary.random
    if r is None or summary.beats_random is None:
        return None
    reach = f"{number(r.mean)} on average, from {number(r.low)} to {number(r.high)}"
    if summary.beats_random:
        return f"{_draws(r)} as many heads reach {reach}: less than the chosen ones."
    return (
        f"{_draws(r)} as many heads reach {reach}: the best of them does as well, so here the ranking is no evidence."
    )


def _draws(r: RandomCircuits) -> str:
    return "One random circuit with" if r.draws == 1 else f"{r.draws} random circuits with"


def _carriers(summary: OperatorSummary) -> str | None:
    known = [part for part in ("op1", "operator", "op2") if part in summary.carriers]
    if not known:
        return None
    found = "; ".join(f"{part}: {carrier_list(summary.carriers[part])}" for part in known)
    return f"Heads that carry to = (drop in logit difference, nats): {found}."
