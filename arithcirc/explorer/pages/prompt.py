"""Page Prompt: why the model answers what it answers to one prompt, and what changes it.

    /prompt?prompt=226-68=&off=L3N17,L2H1,h:op2 = 8 mod 10&ablation=zero&seed=0&target=answer&labels=significant&with=…

The left column explains: in words, as a waterfall, layer by layer, and in lists of heuristics, neurons and heads. The
right column is a bench: parts named there, or ticked in a list, are switched off at `=` and the model answers again,
beside the control. Without a live model the page says what the run's tables and stored maps hold.
"""

from collections.abc import Sequence
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import Input, Output, State, html
from dash.dependencies import ClientsideFunction

from arithcirc.errors import ArithcircError, RunConflictError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.live import LiveState
from arithcirc.explorer.pages import prompt_case as cases
from arithcirc.explorer.pages import prompt_facts as facts
from arithcirc.explorer.pages import prompt_panels as panels
from arithcirc.explorer.pages import prompt_words as words
from arithcirc.explorer.pages.prompt_ask import ALL, LONGEST, Prompt, named, read, split
from arithcirc.explorer.pages.prompt_bench import bench, items, read_seed, said_without, waiting
from arithcirc.explorer.pages.prompt_case import Case
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.questions import LiveModel

KEPT = ("off", "ablation", "seed", "target")
"""Choices that a control of the page changes without a reload."""


def layout(context: Context, view: View, source: Source) -> Any:
    """The page."""
    return html.Div(_root(context, view, source), id="prompt-root")


def _root(context: Context, view: View, source: Source, *, again: bool = False) -> list[Any]:
    state = context.live.state(source, again=again)
    text = view.choices.get("prompt", "") or _first(source, view.op)
    try:
        prompt = read(text)
    except ArithcircError as error:
        return [_bar(view, source, text, None), kit.problem(error)]
    if prompt.operator in source.operators:
        view = View(view.page, view.run, view.model, view.revision, prompt.operator, view.choices)
    head = _bar(view, source, text, prompt)
    try:
        labels = facts.labels_of(source, prompt, view.choice("labels", facts.LABELS, facts.LABELS[0]))
        body = (
            _live(context, view, source, prompt, labels)
            if state.ready
            else _stored(view, source, prompt, labels, state)
        )
    except ArithcircError as error:
        return [head, kit.problem(error)]
    return [head, body]


def _first(source: Source, operator: str) -> str:
    """The prompt to start with: the flagship where it is legal, else one of the run's."""
    known = facts.examples(source, operator)
    return known[0][0] if known else f"{facts.FLAGSHIP[0]}{operator or '-'}{facts.FLAGSHIP[1]}="


# -- the head: what to ask -------------------------------------------------------------------------------------------


def _bar(view: View, source: Source, text: str, prompt: Prompt | None) -> dmc.Paper:
    asked = dmc.TextInput(
        id="prompt-prompt", value=text[:LONGEST], placeholder="226-68=", size="sm", w=170, label="prompt",
        **{"data-key": "/"},
    )  # fmt: skip
    other = dmc.TextInput(
        id="prompt-with", value=view.choices.get("with", "")[:LONGEST], placeholder="another prompt", size="sm", w=150,
        label="compare with",
    )  # fmt: skip
    ask = dmc.Button("Ask", id="prompt-ask", size="sm")
    operator = prompt.operator if prompt is not None else view.op
    groups = [_examples(view, source, operator, right) for right in (True, False)]
    return dmc.Paper(
        dmc.Group(
            [asked, other, ask, dmc.Stack([g for g in groups if g is not None], gap=4)], gap=12, align="flex-end"
        ),
        className="panel prompt-bar",
    )


def _examples(view: View, source: Source, operator: str, right: bool) -> dmc.Group | None:
    """Prompts to click, answered rightly or wrongly; wrong ones of other operators where this one has none."""
    flagship = f"{facts.FLAGSHIP[0]}-{facts.FLAGSHIP[1]}="
    known = [text for text, correct in facts.examples(source, operator) if correct == right]
    if right and "-" in source.operators and flagship not in known:
        known = [flagship, *known]
    if not right and not known:
        others = [facts.examples(source, o, wrong=3) for o in source.operators if o != operator]
        known = [text for found in others for text, correct in found if not correct]
    if not known:
        return None
    fresh = {"target": None, "with": None}
    links = [kit.link(text, view.url(prompt=text, op=read(text).operator, **fresh)) for text in known[:6]]
    return dmc.Group([html.Span("right:" if right else "wrong:", className="control-label examples"), *links], gap=12)


def _tokens(reply_tokens: Sequence[tuple[str, str]]) -> html.Div:
    """The tokens with their positions."""
    cells = [
        html.Span([html.Code(text), html.Small(position)], className="prompt-token") for position, text in reply_tokens
    ]
    return html.Div(cells, className="prompt-tokens")


# -- with a live model -----------------------------------------------------------------------------------------------


def _live(context: Context, view: View, source: Source, prompt: Prompt, labels: facts.Labels) -> Any:
    """The page of an explained prompt."""
    case = context.live.ask(source, lambda model: cases.explain(model, prompt, labels))
    left: list[Any] = [_words(case)]
    if other := _other(context, view, source):
        left.append(
            other if not isinstance(other, Case) else panels.comparison(case, other, view.choices.get("target", ""))
        )
    left.append(html.Div(_parts(view, source, case), id="prompt-parts"))
    return _columns(left, bench(context, view, source, prompt, labels))


def _columns(left: Sequence[Any], right: Any) -> html.Div:
    return html.Div(
        [html.Div(dmc.Stack(list(left), gap=12)), html.Div(right, className="prompt-bench")], className="prompt-columns"
    )


def _words(case: Case) -> dmc.Paper:
    """The explanation in words; what knockouts show is asked for once the page stands."""
    title = f"Why the model answers {words.said(case.reply.guesses[0])} to {case.prompt.shown}"
    trial = html.Div(kit.small("asking what knockouts show …", ml=18, mt=4), id="prompt-trial")
    return kit.panel(title, _tokens(case.reply.tokens), _story(words.sentences(case)), trial)


def _tried(context: Context, data: Any) -> Any:
    """What knockouts show, and a link to the last of them."""
    view, source = View.of(data), context.source(data)
    prompt, labels = _asked(view, source)

    def question(model: LiveModel) -> tuple[Case, cases.Trial | None]:
        case = cases.explain(model, prompt, labels)
        return case, cases.try_out(model, case, named([ALL], labels.carriers, case.shape[1], "zero"), 0)

    case, trial = context.live.ask(source, question)
    parts: list[Any] = [_story(words.knockouts(case, trial))]
    if trial is not None and trial.turning:
        n = len(trial.turning)
        text = f"switch {'these ' + str(n) + ' neurons' if n > 1 else 'this neuron'} off"
        off = ",".join(str(neuron) for neuron in trial.turning)
        parts.append(kit.link(text, view.url(off=off, ablation=None), className="prompt-try"))
    return parts


def _story(sentences: Sequence[str]) -> html.Ul:
    return html.Ul([html.Li(_bold(text)) for text in sentences], className="prompt-story")


def _bold(text: str) -> list[Any]:
    """`**a**` as bold text; nothing else is markup."""
    return [html.B(part) if i % 2 else part for i, part in enumerate(text.split("**"))]


def _other(context: Context, view: View, source: Source) -> Any:
    """The second prompt's case, or what is wrong with it."""
    text = view.choices.get("with", "").strip()
    if not text:
        return None
    try:
        prompt = read(text)
        labels = facts.labels_of(source, prompt, view.choice("labels", facts.LABELS, facts.LABELS[0]))
        return context.live.ask(source, lambda model: cases.explain(model, prompt, labels))
    except ArithcircError as error:
        return kit.problem(error)


def _parts(view: View, source: Source, case: Case) -> dmc.Stack:
    """Everything that depends on the target."""
    kind = view.choice("target", cases.TARGETS, case.default)
    target = case.target(kind)
    off = set(split(view.choices.get("off", "")))
    written = case.written(target)
    known = {n: float(written[n.layer, n.index]) for n in case.carriers}
    neurons = panels.case_neurons(case, target, facts.effects(source, case.prompt.operator), view)
    pair = [panels.layers_panel(case), panels.heads_list(case, target, off)]
    return dmc.Stack(
        [
            panels.waterfall_panel(case, target, _target_choice(case, kind)),
            panels.heuristics_list(
                case.labels, known, off, view, "nats", _labels_choice(view), command=_lacking(source)
            ),
            panels.neurons_list(neurons, off, "nats"),
            dmc.SimpleGrid(pair, cols=2, spacing=12),
            panels.heads_panel(case, target),
        ],
        gap=12,
    )


def _target_choice(case: Case, kind: str) -> dmc.SegmentedControl:
    """What contributions are to."""
    data = [{"value": "answer", "label": f"{case.reply.answer}, the true answer"}]
    if case.given is not None and not case.reply.correct:
        data.append({"value": "given", "label": f"{case.given}, the answer given"})
    if case.rivals:
        data.append({"value": "difference", "label": f"{case.reply.answer} − {case.rivals[0]}"})
    held = kind if kind in [d["value"] for d in data] else "answer"
    return dmc.SegmentedControl(id="prompt-target", data=data, value=held, size="xs", mr=84)


def _lacking(source: Source) -> str | None:
    """The command that makes labels, where the run has none."""
    return None if source.has("heuristics") else source.command("heuristics")


def _labels_choice(view: View) -> dmc.Group:
    """Which labels count: a link each, since everything depends on it."""
    held = view.choice("labels", facts.LABELS, facts.LABELS[0])
    parts: list[Any] = [html.Span("labels", className="control-label")]
    for name in facts.LABELS:
        parts.append(
            html.B(name, className="chosen-label") if name == held else kit.link(name, view.url(labels=name), size="xs")
        )
    return dmc.Group(parts, gap=8, mr=44)


# -- without -----------------------------------------------------------------------------------------------------------


def _stored(view: View, source: Source, prompt: Prompt, labels: facts.Labels, state: LiveState) -> Any:
    """What tables and stored maps say."""
    answer = prompt.answer or 0
    told = "This run has no stored maps of this prompt: contributions need the live model, or stored maps:"
    try:
        writing = facts.stored_writing(source, prompt, [answer])
    except RunConflictError as error:
        writing, told = None, str(error)
    known = {} if writing is None else dict(zip(writing.neurons, writing.writing[:, 0].tolist(), strict=True))
    acts = {} if writing is None else dict(zip(writing.neurons, writing.activation.tolist(), strict=True))
    carriers = [n for n in facts.neurons_of(labels.held) if n in known]
    total = sum(known[n] for n in carriers) if carriers else None
    stored = facts.stored_answer(source, prompt)
    title = f"What this run says of {prompt.shown}"
    said = kit.panel(title, _story(words.stored_sentences(prompt, labels, stored, total)))
    effect, listed = facts.effects(source, prompt.operator), list(dict.fromkeys([*labels.important, *known]))
    neurons = panels.neuron_rows(labels, listed, acts, known, effect, view)
    unit = "unscaled"
    lists = [
        panels.heuristics_list(
            labels, known, (), view, unit, _labels_choice(view), switches=False, command=_lacking(source)
        ),
        panels.neurons_list(neurons, (), unit, switches=False),
    ]
    if writing is None:
        lists.append(dmc.Stack([kit.small(told), dmc.Code(source.command("maps"), block=True)], gap=4))
    return _columns([said, *lists], waiting(state))


# -- callbacks ---------------------------------------------------------------------------------------------------------


def register(context: Context) -> None:
    """Callbacks of the page."""
    app = context.dash
    held = [State(f"prompt-{name}", "value") for name in KEPT]
    app.callback(
        Output("prompt-state", "data"), Output("prompt-poll", "disabled"),
        Input("prompt-poll", "n_intervals"), State("view", "data"), prevent_initial_call=True,
    )(lambda _, data: _looked(context, data))  # fmt: skip
    app.callback(
        Output("prompt-root", "children"), Input("prompt-state", "data"), State("view", "data"),
        prevent_initial_call=True,
    )(lambda state, data: _arrived(context, state, data))  # fmt: skip
    app.callback(
        Output("prompt-root", "children", allow_duplicate=True), Input("prompt-again", "n_clicks"),
        State("view", "data"), prevent_initial_call=True,
    )(lambda clicks, data: _retried(context, clicks, data))  # fmt: skip
    app.callback(
        Output("prompt-said", "children"),
        Input("prompt-off", "value"), Input("prompt-ablation", "value"), Input("prompt-seed", "value"),
        State("view", "data"), prevent_initial_call=True,
    )(lambda off, how, seed, data: _answered(context, data, off, how, seed))  # fmt: skip
    app.callback(
        Output("prompt-parts", "children"), Input("prompt-target", "value"), *held[:3], State("view", "data"),
        prevent_initial_call=True,
    )(lambda target, off, how, seed, data: _retargeted(context, data, target, off, how, seed))  # fmt: skip
    app.callback(Output("prompt-trial", "children"), Input("prompt-trial", "id"), State("view", "data"))(
        lambda _, data: _tried(context, data)
    )
    for name in KEPT:
        kit.remember(context, f"prompt-{name}")
    app.clientside_callback(
        ClientsideFunction("prompt", "ask"),
        Output("url", "search", allow_duplicate=True),
        Input("prompt-ask", "n_clicks"), Input("prompt-prompt", "n_submit"), Input("prompt-with", "n_submit"),
        State("prompt-prompt", "value"), State("prompt-with", "value"), State("view", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(ClientsideFunction("prompt", "operator"), Input("view", "data"))
    app.clientside_callback(
        ClientsideFunction("prompt", "marks"), Input("prompt-off", "value"), Input("prompt-parts", "children")
    )
    for id in ("prompt-heuristics", "prompt-neurons", "prompt-heads"):
        app.clientside_callback(
            ClientsideFunction("prompt", "ticked"), Input(id, "cellValueChanged"), State("prompt-off", "value"),
            prevent_initial_call=True,
        )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("prompt", "head"), Input("prompt-attention", "clickData"),
        State("prompt-attention", "figure"), State("prompt-off", "value"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("prompt", "button"),
        Input("prompt-all", "n_clicks"), Input("prompt-random", "n_clicks"), Input("prompt-clear", "n_clicks"),
        State("prompt-off", "value"), State("prompt-seed", "value"), prevent_initial_call=True,
    )  # fmt: skip


def _looked(context: Context, data: Any) -> tuple[Any, bool]:
    """Whether the model is there: a quick answer, so that looks cannot pile up behind a page being drawn."""
    state = context.live.state(context.source(data)).name
    return (dash.no_update, False) if state == "loading" else (state, True)


def _arrived(context: Context, state: Any, data: Any) -> Any:
    """The page again, once the model is there or has failed."""
    return _root(context, View.of(data), context.source(data)) if state else dash.no_update


def _retried(context: Context, clicks: Any, data: Any) -> Any:
    return _root(context, View.of(data), context.source(data), again=True) if clicks else dash.no_update


def _now(data: Any, **choices: Any) -> View:
    """The view with what the page's controls say now."""
    view = View.of(data)
    return View(view.page, view.run, view.model, view.revision, view.op, dict(view.choices) | choices)


def _answered(context: Context, data: Any, off: Any, how: Any, seed: Any) -> Any:
    view, source = View.of(data), context.source(data)
    prompt, labels = _asked(view, source)
    return said_without(context, source, prompt, labels, items(off), str(how), read_seed(seed))


def _asked(view: View, source: Source) -> tuple[Prompt, facts.Labels]:
    prompt = read(view.choices.get("prompt", "") or _first(source, view.op))
    return prompt, facts.labels_of(source, prompt, view.choice("labels", facts.LABELS, facts.LABELS[0]))


def _retargeted(context: Context, data: Any, target: Any, off: Any, how: Any, seed: Any) -> Any:
    view = _now(data, target=str(target), off=",".join(items(off)), ablation=str(how), seed=str(seed))
    source = context.source(data)
    prompt, labels = _asked(view, source)
    case = context.live.ask(source, lambda model: cases.explain(model, prompt, labels))
    return _parts(view, source, case)


PAGE = Page("prompt", "Prompt", "why the model answers what it answers to a prompt", layout, register)
