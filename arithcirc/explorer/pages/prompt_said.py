"""What the model says, with parts switched off: three answers side by side, their probabilities, the logit's fall."""

from collections.abc import Sequence
from typing import Any

from dash import html

from arithcirc.explorer import kit
from arithcirc.explorer.pages.prompt_ask import counted
from arithcirc.explorer.pages.prompt_case import Said
from arithcirc.explorer.pages.prompt_words import chance, said, signed
from arithcirc.questions import Guess, Reply
from arithcirc.viz import theme

ROWS = 8
"""Answers listed."""
SMALLEST = 0.001
"""Probability below which only that is said."""


def answers(found: Said, id: str = "prompt-said") -> html.Div:
    """The answers, and what changed; `id` begins the names of the answers."""
    columns: list[tuple[str, str, Reply]] = [("whole", "whole model", found.before)]
    if found.after is not None:
        columns.append(("after", f"without {counted(found.off)}", found.after))
    if found.control is not None:
        columns.append(("control", "as many random", found.control))
    cards = [_card(f"{id}-{kind}", kind, title, reply, alone=len(columns) == 1) for kind, title, reply in columns]
    parts: list[Any] = [html.Div(cards, className="said-cards"), _table([reply for *_, reply in columns])]
    if found.after is not None:
        parts.append(_change(found, found.after))
    return html.Div(parts)


def _card(id: str, kind: str, title: str, reply: Reply, *, alone: bool) -> html.Div:
    first = reply.guesses[0]
    verdict = (", right" if reply.correct else f", wrong: the result is {reply.answer}") if alone else ""
    mark = html.Span("✓" if reply.correct else "✗", className="right" if reply.correct else "wrong")
    return html.Div(
        [
            html.Div(title, className="said-title"),
            html.Div([said(first), " ", mark], className="said-answer", id=id),
            html.Div(f"{chance(first)}{verdict}", className="said-title"),
        ],
        className=f"said-card said-{kind}",
    )


def _table(replies: Sequence[Reply]) -> html.Table:
    """Probability bars of the likeliest answers, in every column."""
    room = (ROWS, 4, 2) if len(replies) == 1 else (4, 4, 2)
    shown: dict[str, tuple[str, int | None]] = {}
    for reply, most in zip(replies, room, strict=False):
        for likely in [*reply.guesses[:most], reply.answer_guess]:
            shown.setdefault(likely.token, (said(likely), likely.number))
    held = [{g.token: g for g in [*reply.guesses, reply.answer_guess]} for reply in replies]
    rows, guess = [], None
    for token, (name, value) in list(shown.items())[:ROWS]:
        mark = [html.Span(" ✓", className="right")] if value == replies[0].answer else []
        cells = [html.Th([name, *mark])]
        for i, column in enumerate(held):
            guess = column.get(token)
            share, sign = _chance(replies[i], guess, value)
            bar = html.Div(className=f"chance chance-{i}", style={"width": f"{100 * share:.2f}%"})
            cells.append(html.Td([html.Div(bar, className="chances"), html.Span(sign + theme.percent(share))]))
        if len(held) == 1:
            cells.append(html.Td(theme.number(guess.logit, 1) if guess else "–", className="logit"))
        rows.append(html.Tr(cells))
    heads = ["answer", *(["probability", "logit"] if len(held) == 1 else ["whole", "without", "random"][: len(held)])]
    return html.Table([html.Thead(html.Tr([html.Th(h) for h in heads])), html.Tbody(rows)], className="said")


def _chance(reply: Reply, guess: Guess | None, number: int | None) -> tuple[float, str]:
    """A row's probability and what stands before it: below the least of the guesses where no more is known."""
    below = "<\N{NO-BREAK SPACE}"
    share = guess.probability if guess is not None else -1.0
    if guess is None and number is not None and number < len(reply.chances):
        share = float(reply.chances[number])
    if share < 0:
        share, sign = reply.guesses[-1].probability, below
        return (share, sign) if share >= SMALLEST else (SMALLEST, below)
    return (share, "") if share >= SMALLEST else (SMALLEST, below)


def _change(found: Said, after: Reply) -> html.Div:
    before, answer = found.before.answer_guess, found.before.answer
    pairs: list[tuple[Any, Any]] = [
        (f"logit of {answer}", f"{theme.number(before.logit, 1)} → {theme.number(after.answer_guess.logit, 1)} nats "
                               f"({signed(found.total)})"),
        ("written directly", f"{signed(found.direct)} nats"),
        ("through later layers", f"{signed(found.total - found.direct)} nats"),
    ]  # fmt: skip
    if found.control is not None:
        fall = found.control.answer_guess.logit - before.logit
        pairs.append(("as many random", f"{signed(fall)} nats"))
    return html.Div(
        [
            kit.facts(pairs),
            kit.small(_verdict(found, after), mt=6),
        ]
    )


def _verdict(found: Said, after: Reply) -> str:
    """What the knockout shows, beside its control."""
    how = "at zero" if found.off.ablation == "zero" else "at their means"
    start = f"With {counted(found.off)} {how} "
    changed = after.guesses[0].token != found.before.guesses[0].token
    start += f"the answer changes to {said(after.guesses[0])}." if changed else "the answer stays."
    if found.control is None:
        return f"{start} There are no others in these layers to compare with."
    same = found.control.guesses[0].token == found.before.guesses[0].token
    fewer = len(found.random.neurons) < len(found.off.neurons) or len(found.random.heads) < len(found.off.heads)
    if fewer:
        return f"{start} The control has fewer parts ({counted(found.random)}): these layers have no more."
    if not changed:
        return start if same else f"{start} With as many random parts it changes: these parts matter less than others."
    if same:
        return f"{start} With as many random parts of the same layers it stays: it is these that matter."
    return f"{start} As many random parts change it too: draw again before you believe in these."
