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
from dash import MATCH, Input, Output, State, html
from dash.dependencies import ClientsideFunction

from arithcirc.errors import ArithcircError, PromptError, RunConflictError
from arithcirc.explorer import follow, kit
from arithcirc.explorer.context import Context, Page
from arithcirc.explorer.live import LiveState
from arithcirc.explorer.pages import prompt_case as cases
from arithcirc.explorer.pages import prompt_facts as facts
from arithcirc.explorer.pages import prompt_panels as panels
from arithcirc.explorer.pages import prompt_words as words
from arithcirc.explorer.pages.prompt_ask import ALL, Prompt, named, read, split
from arithcirc.explorer.pages.prompt_bar import bar, of, wrong
from arithcirc.explorer.pages.prompt_bench import bench, items, read_seed, said_without, waiting
from arithcirc.explorer.pages.prompt_case import Case
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.questions import LiveModel

KEPT = ("off", "ablation", "seed", "target", "steps")
"""Choices that a control of the page changes without a reload."""


def layout(context: Context, view: View, source: Source) -> Any:
    """The page: what to ask, and the answer, which is drawn again without the field when the model is there."""
    text = view.choices.get("prompt", "") or _first(source, view.op)
    try:
        prompt = read(text)
    except ArithcircError as error:
        return html.Div([bar(view, source, text, None), _refused(error)], id="prompt-root")
    body, problem = _body(context, view, source, context.live.state(source))
    return html.Div([bar(view, source, text, prompt, problem), html.Div(body, id=of("body", view))], id="prompt-root")


def _body(context: Context, view: View, source: Source, state: LiveState) -> tuple[Any, str | None]:
    """What stands under the fields, and what is wrong with the second prompt."""
    beside = waiting(state, view)
    try:
        prompt, labels = _asked(view, source)
        view = _at(view, source, prompt)
        if not state.ready:
            return _stored(view, source, prompt, labels, beside), None
        case = context.live.ask(source, lambda model: cases.explain(model, prompt, labels))
        other, problem = _other(context, view, source)
        return _live(context, view, source, case, other), problem
    except ArithcircError as error:
        return _refused(error), None


def _at(view: View, source: Source, prompt: Prompt) -> View:
    """The view with the prompt's operator, so that links lead to what is shown."""
    operator = prompt.operator if prompt.operator in source.operators else view.op
    return View(view.page, view.run, view.model, view.revision, operator, view.choices)


def _refused(error: ArithcircError) -> Any:
    """What is wrong with a prompt, under the field, which stays."""
    return kit.empty("Not a prompt", str(error)) if isinstance(error, PromptError) else kit.problem(error)


def _labels(view: View, source: Source, prompt: Prompt) -> facts.Labels:
    return facts.labels_of(source, prompt, view.choice("labels", facts.LABELS, facts.LABELS[0]))


def _first(source: Source, operator: str) -> str:
    """The prompt to start with: the flagship where the run has its operator and operands, else one of the run's."""
    if "-" in source.operators and source.operands[1] >= max(facts.FLAGSHIP):
        return f"{facts.FLAGSHIP[0]}-{facts.FLAGSHIP[1]}="
    known = facts.examples(source, operator)
    return known[0][0] if known else f"{facts.FLAGSHIP[0]}{operator or '-'}{facts.FLAGSHIP[1]}="


# -- with a live model -----------------------------------------------------------------------------------------------


def _live(context: Context, view: View, source: Source, case: Case, other: Case | None) -> Any:
    """The page of an explained prompt, or of two side by side."""
    left: list[Any] = [_words(source, case)]
    if other is not None:
        both = [left[0], _words(source, other, "prompt-trial-with")]
        left = [
            dmc.SimpleGrid(both, cols=2, spacing=12),
            panels.comparison(case, other, view.choices.get("target", "")),
        ]
    left.append(html.Div(_parts(view, source, case, other), id="prompt-parts"))
    asked = [(c.prompt, c.labels) for c in (case, other) if c is not None]
    return _columns(left, bench(context, view, source, asked), wide=other is not None)


def _columns(left: Sequence[Any], right: Any, *, wide: bool = False) -> html.Div:
    return html.Div(
        [html.Div(dmc.Stack(list(left), gap=12)), html.Div(right, className="prompt-bench")],
        className="prompt-columns two" if wide else "prompt-columns",
    )


def _words(source: Source, case: Case, trial: str = "prompt-trial") -> dmc.Paper:
    """The explanation in words; what knockouts show is asked for once the page stands."""
    title = f"Why the model answers {words.said(case.reply.guesses[0])} to {case.prompt.shown}"
    later = html.Div(kit.small("asking what knockouts show …", ml=18, mt=4), id=trial, className="prompt-trial")
    told = [*words.unseen(case.prompt, source.operands), *words.sentences(case)]
    return kit.panel(title, panels.tokens(case.reply.tokens), panels.story(told), later)


def _tried(context: Context, data: Any, second: bool) -> Any:
    """What knockouts show, a link to the last of them, and the whole in a sentence."""
    view, source = View.of(data), context.source(data)
    if second:
        prompt = read(view.choices.get("with", ""))
        labels = _labels(view, source, prompt)
    else:
        prompt, labels = _asked(view, source)
    view = _at(view, source, prompt)

    def question(model: LiveModel) -> tuple[Case, cases.Trial | None]:
        case = cases.explain(model, prompt, labels)
        return case, cases.try_out(model, case, named([ALL], labels.carriers, case.shape[1], "zero"), 0)

    case, trial = context.live.ask(source, question)
    parts: list[Any] = [panels.story(told)] if (told := words.knockouts(case, trial)) else []
    if trial is not None and trial.turning:
        n = len(trial.turning)
        text = f"switch {'these ' + str(n) + ' neurons' if n > 1 else 'this neuron'} off"
        off = ",".join(str(neuron) for neuron in trial.turning)
        parts.append(kit.link(text, view.url(off=off, ablation=None), className="prompt-try"))
    return [*parts, html.P(panels.bold(words.summary(case, trial)), className="prompt-short")]


def _other(context: Context, view: View, source: Source) -> tuple[Case | None, str | None]:
    """The second prompt's case, and what is wrong with it."""
    text = view.choices.get("with", "").strip()
    if not text:
        return None, None
    try:
        prompt = read(text)
        labels = _labels(view, source, prompt)
        return context.live.ask(source, lambda model: cases.explain(model, prompt, labels)), None
    except ArithcircError as error:
        return None, str(error)


def _parts(view: View, source: Source, case: Case, other: Case | None) -> dmc.Stack:
    """Everything that depends on the target; of the prompt compared with, the waterfall and the lists."""
    kind = view.choice("target", cases.TARGETS, case.default)
    steps = view.choice("steps", panels.STEPS, panels.STEPS[0])
    target = case.target(kind)
    off = set(split(view.choices.get("off", "")))
    written = case.written(target)
    known = {n: float(written[n.layer, n.index]) for n in case.carriers}
    neurons = panels.case_neurons(case, target, facts.effects(source, case.prompt.operator), view)
    pair = [panels.layers_panel(case), panels.heads_list(case, target, off)]
    named = case.prompt.shown if other is not None else ""
    also = _compared(view, source, other, steps) if other is not None else ([], [], [])
    choices = dmc.Group([panels.steps_choice(steps), panels.target_choice(case, kind)], gap=8)
    return dmc.Stack(
        [
            panels.waterfall_panel(case, target, choices, steps),
            *also[0],
            panels.heuristics_list(
                case.labels,
                known,
                off,
                view,
                "nats",
                panels.labels_choice(view),
                command=_lacking(source),
                named=named,
            ),
            *also[1],
            panels.neurons_list(neurons, off, "nats", named=named),
            *also[2],
            dmc.SimpleGrid(pair, cols=2, spacing=12),
            panels.heads_panel(case, target),
        ],
        gap=12,
    )


def _compared(view: View, source: Source, case: Case, steps: str) -> tuple[list[Any], list[Any], list[Any]]:
    """The waterfall, the heuristics and the neurons of the prompt compared with; parts are switched by the first's."""
    target = case.target(view.choice("target", cases.TARGETS, case.default))
    written, here = case.written(target), _at(view, source, case.prompt)
    known = {n: float(written[n.layer, n.index]) for n in case.carriers}
    neurons = panels.case_neurons(case, target, facts.effects(source, case.prompt.operator), here)
    shown = case.prompt.shown
    lists = panels.heuristics_list(
        case.labels,
        known,
        (),
        here,
        "nats",
        None,
        switches=False,
        command=_lacking(source),
        named=shown,
        second=True,
    )
    return (
        [panels.waterfall_panel(case, target, None, steps, second=True)], [lists],
        [panels.neurons_list(neurons, (), "nats", switches=False, named=shown, second=True)],
    )  # fmt: skip


def _lacking(source: Source) -> str | None:
    """The command that makes labels, where the run has none."""
    return None if source.has("heuristics") else source.command("heuristics")


# -- without -----------------------------------------------------------------------------------------------------------


def _stored(view: View, source: Source, prompt: Prompt, labels: facts.Labels, beside: Any) -> Any:
    """What tables and stored maps say, and `beside` it how the model is."""
    answer = prompt.answer or 0
    lacking = "This run has no stored maps of this prompt: contributions need the live model, or stored maps:"
    try:
        writing = facts.stored_writing(source, prompt, [answer])
    except RunConflictError as error:
        writing, lacking = None, str(error)
    known = {} if writing is None else dict(zip(writing.neurons, writing.writing[:, 0].tolist(), strict=True))
    acts = {} if writing is None else dict(zip(writing.neurons, writing.activation.tolist(), strict=True))
    carriers = [n for n in facts.neurons_of(labels.held) if n in known]
    total = sum(known[n] for n in carriers) if carriers else None
    stored = facts.stored_answer(source, prompt)
    title = f"What this run says of {prompt.shown}"
    told = words.unseen(prompt, source.operands) + words.stored_sentences(prompt, labels, stored, total)
    said = kit.panel(title, panels.story(told))
    effect, listed = facts.effects(source, prompt.operator), list(dict.fromkeys([*labels.important, *known]))
    neurons = panels.neuron_rows(labels, listed, acts, known, effect, view)
    unit = "unscaled"
    lists = [
        panels.heuristics_list(
            labels, known, (), view, unit, panels.labels_choice(view), switches=False, command=_lacking(source)
        ),
        panels.neurons_list(neurons, (), unit, switches=False),
    ]
    if writing is None:
        lists.append(dmc.Stack([kit.small(lacking), dmc.Code(source.command("maps"), block=True)], gap=4))
    return _columns([said, *lists], beside)


# -- callbacks ---------------------------------------------------------------------------------------------------------


def register(context: Context) -> None:
    """Callbacks of the page."""
    app = context.dash
    held = [State(f"prompt-{name}", "value") for name in KEPT]
    _until_ready(context)
    app.callback(
        Output("prompt-said", "children"),
        Input("prompt-off", "value"), Input("prompt-ablation", "value"), Input("prompt-seed", "value"),
        State("view", "data"), prevent_initial_call=True,
    )(lambda off, how, seed, data: _answered(context, data, off, how, seed))  # fmt: skip
    app.callback(
        Output("prompt-parts", "children"), Input("prompt-target", "value"), Input("prompt-steps", "value"), *held[:3],
        State("view", "data"),
        prevent_initial_call=True,
    )(lambda target, steps, *now: _retargeted(context, now[-1], target, steps, *now[:-1]))  # fmt: skip
    for id in ("prompt-waterfall", f"prompt-waterfall{panels.WITH}"):
        follow.follow(context, id)
    for id, second in (("prompt-trial", False), ("prompt-trial-with", True)):
        app.callback(Output(id, "children"), Input(id, "id"), State("view", "data"))(
            lambda _, data, second=second: _tried(context, data, second)
        )
    for name in KEPT:
        kit.remember(context, f"prompt-{name}")
    _in_browser(app)


def _until_ready(context: Context) -> None:
    """The answer is drawn again when the model is there or has failed, and on request.

    Only the answer is, so that what a reader is typing stays; and only that of the address asked for (MATCH), so that
    a late one does not come to stand under another question.
    """

    def any_of(kind: str) -> dict[str, Any]:
        return {"type": f"prompt-{kind}", "asked": MATCH}

    app = context.dash
    body = Output(any_of("body"), "children"), Output(any_of("wrong"), "children")
    app.callback(
        Output(any_of("state"), "data"), Output(any_of("poll"), "disabled"),
        Input(any_of("poll"), "n_intervals"), State("view", "data"), prevent_initial_call=True,
    )(lambda _, data: _looked(context, data))  # fmt: skip
    app.callback(*body, Input(any_of("state"), "data"), State("view", "data"), prevent_initial_call=True)(
        lambda state, data: _redrawn(context, data, again=False) if state else (dash.no_update,) * 2
    )
    again = (Output(o.component_id, "children", allow_duplicate=True) for o in body)
    app.callback(*again, Input(any_of("again"), "n_clicks"), State("view", "data"), prevent_initial_call=True)(
        lambda clicks, data: _redrawn(context, data, again=True) if clicks else (dash.no_update,) * 2
    )


def _in_browser(app: dash.Dash) -> None:
    """What the browser does by itself: asking, marks, ticks, buttons."""
    app.clientside_callback(
        ClientsideFunction("prompt", "ask"),
        Output("url", "search", allow_duplicate=True),
        Input("prompt-ask", "n_clicks"), Input("prompt-prompt", "n_submit"), Input("prompt-with", "n_submit"),
        State("prompt-prompt", "value"), State("prompt-with", "value"), State("view", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("prompt", "drawn"),
        Output("prompt-known", "data"), Input("prompt-asked", "data"), State("frame-shown", "data"),
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("prompt", "flawed"), Output("prompt-flawed", "data"), Input("prompt-said", "children")
    )
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


def _redrawn(context: Context, data: Any, *, again: bool) -> tuple[Any, Any]:
    """The answer, and what is wrong with the second prompt; `again` loads a model that failed."""
    view, source = View.of(data), context.source(data)
    body, problem = _body(context, view, source, context.live.state(source, again=again))
    return body, wrong(problem)


def _now(data: Any, **choices: Any) -> View:
    """The view with what the page's controls say now."""
    view = View.of(data)
    return View(view.page, view.run, view.model, view.revision, view.op, dict(view.choices) | choices)


def _answered(context: Context, data: Any, off: Any, how: Any, seed: Any) -> Any:
    view, source = View.of(data), context.source(data)
    asked = [_asked(view, source)]
    other, _ = _other(context, view, source)
    if other is not None:
        asked.append((other.prompt, other.labels))
    return said_without(context, source, asked, items(off), str(how), read_seed(seed))


def _asked(view: View, source: Source) -> tuple[Prompt, facts.Labels]:
    prompt = read(view.choices.get("prompt", "") or _first(source, view.op))
    return prompt, _labels(view, source, prompt)


def _retargeted(context: Context, data: Any, target: Any, steps: Any, off: Any, how: Any, seed: Any) -> Any:
    now = {"target": target, "steps": steps, "off": ",".join(items(off)), "ablation": how, "seed": seed}
    view = _now(data, **{name: str(value) for name, value in now.items()})
    source = context.source(data)
    prompt, labels = _asked(view, source)
    case = context.live.ask(source, lambda model: cases.explain(model, prompt, labels))
    return _parts(_at(view, source, prompt), source, case, _other(context, view, source)[0])


def _shown(view: View, source: Source) -> View:
    """The view of the prompt that is shown, which may be of another operator than the address names."""
    try:
        return _at(view, source, read(view.choices.get("prompt", "") or _first(source, view.op)))
    except ArithcircError:
        return view


PAGE = Page("prompt", "Prompt", "why the model answers what it answers to a prompt", layout, register, at=_shown)
