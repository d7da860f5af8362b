"""The summary in words: plain sentences about one operator, made from its `OperatorSummary` and nothing else.

A bar that was missed is said to be missed, a circuit no better than random heads is said to be that, and what a table
does not hold is left unsaid rather than guessed.
"""

from arithcirc.viz.summary import CARRIERS_SHOWN, Carrier, Faithfulness, OperatorSummary
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
    if summary.given:
        used = " All of them are used" if a.correct == a.n else " All of them are used, wrongly answered ones too"
        return (
            f"The model answers {a.correct:,} of the {a.n:,} given prompts as the file says ({percent(a.accuracy)})."
            f"{used}."
        )
    text = f"The model answers {a.correct:,} of {a.n:,} prompts correctly ({percent(a.accuracy)})"
    if a.base_rate is None:
        return f"{text}."
    verdict = "" if a.beats_base_rate else ", so it is no better than that guess"
    return f"{text}; always giving the most frequent answer would score {percent(a.base_rate)}{verdict}."


def _circuit(summary: OperatorSummary) -> str | None:
    f = summary.evaluate or summary.discover
    if f is None:
        return None
    who = f"A circuit of {_members(summary, f)}"
    if f.n == 0 or f.faithfulness != f.faithfulness:
        return f"{who} has no usable F: it is undefined on {_prompts(summary, f.undefined, f)}."
    value = (
        f"F = {number(f.faithfulness)}{_error(f)} on {_prompts(summary, f.n, f)} ({f.undefined} left out, undefined)"
    )
    if summary.whole_model:
        return (
            f"The chosen circuit is {_members(summary, f)}, that is the whole model: "
            f"F = {number(f.faithfulness)} holds by construction and shows nothing."
        )
    caution = " No prompts were held out, so the choice itself may have raised F." if _same(summary) else ""
    if f.faithfulness >= summary.target:
        end = ""
        if f.faithfulness > 1.1:
            end = " F well above 1 means that the circuit overshoots the whole model, not that it explains more."
        return f"{who} keeps {value}, at or above the target of {summary.target:g}.{end}{caution}{_hollow(summary)}"
    missed = f"this misses the target of {summary.target:g}, so more than it is at work."
    return f"{who} only keeps {value}: {missed}{caution}"


def _error(f: Faithfulness) -> str:
    return f" ± {number(f.sem)}" if f.sem == f.sem else ""


def _same(summary: OperatorSummary) -> bool:
    """F is known on prompts that also served to choose the circuit, and on no others."""
    return summary.evaluate is None or 0 < summary.n_evaluate == summary.reused


def _prompts(summary: OperatorSummary, n: int, f: Faithfulness) -> str:
    """So many prompts, and whether the circuit was chosen on them."""
    total = f.n + f.undefined
    if _same(summary):
        many = f"the {n}" if n == total else f"{n} of the {total}"
        return f"{many} prompt{'s' if total > 1 else ''} it was chosen on"
    noun = "prompt" if n == 1 else "prompts"
    if summary.reused:
        return f"{n} {noun} ({summary.reused} of the {summary.n_evaluate} given also served to choose it)"
    return f"{n} {noun} it was not chosen on"


def _hollow(summary: OperatorSummary) -> str:
    """What F does not say where the model's answers are mostly wrong."""
    if summary.accuracy is None or summary.accuracy.knows or not summary.given:
        return ""
    return " F is about the file’s answer, which the model mostly does not give: keeping its logit is no arithmetic."


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
    if r.draws == 1:
        better, worse = "less than the chosen one.", "it does as well, so here the ranking is no evidence."
        end = better if summary.beats_random else worse
        return f"One random circuit with as many heads reaches {number(r.mean)}: {end}"
    reach = f"{r.draws} random circuits with as many heads reach {number(r.mean)} on average, "
    reach += f"from {number(r.low)} to {number(r.high)}"
    if summary.beats_random:
        return f"{reach}: less than the chosen ones."
    return f"{reach}: the best of them does as well, so here the ranking is no evidence."


def _carriers(summary: OperatorSummary) -> str | None:
    known = [part for part in ("op1", "operator", "op2") if part in summary.carriers]
    if not known:
        return None
    found = "; ".join(f"{part}: {carrier_list(summary.carriers[part])}" for part in known)
    return f"Heads that carry to = (drop in logit difference, nats): {found}."
