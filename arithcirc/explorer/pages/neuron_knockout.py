"""What knocking one neuron out breaks: the stored cases, and what the live model says."""

from typing import Any

import dash
import dash_mantine_components as dmc
import numpy as np
from dash import MATCH, Input, Output, State, html

from arithcirc.components import Neuron
from arithcirc.errors import RequestError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context
from arithcirc.explorer.pages.prompt_facts import examples
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.neuron_maps import Cases
from arithcirc.questions import ABLATIONS
from arithcirc.viz import theme
from arithcirc.viz.neuron_effects import plain_drops
from arithcirc.viz.neuron_words import NOTHING, breaks, moved

SIZES = ("100", "200", "500", "1000")
LISTED = 12
OLDER = (
    "Where the right answer has nearly all of the probability, its log probability cannot move (softmax saturates). "
    "The answer's lead can, but this run has not stored it: knock the neuron out live to see it."
)
STILL = "Nothing moves by 0.01 nats or more, so there is nothing to draw: on these prompts the model does without it."
HELP = (
    "The neuron's activation at = is replaced by zero, or by its mean over all legal prompts, and nothing else, on "
    "prompts that are answered correctly before. Lead: the right answer's logit less the largest other one; another "
    "answer is given where it falls below 0. The log probability is drawn where it moves: a right answer with nearly "
    "all of the probability keeps it while its lead falls. Neurons back each other up: one alone rarely breaks an "
    "answer; page Prompt knocks out a whole heuristic."
)


def panel(context: Context, view: View, source: Source, operator: str, neuron: Neuron) -> Any:
    """The stored knockout, and the controls of a live one."""
    stored = source.neuron_map(operator, neuron)
    cases = stored.cases if stored is not None else None
    if source.sweep:
        shown: Any = kit.small("A sweep keeps no knockouts of single neurons: ask the live model.")
    else:
        makes = dmc.Code(source.command("maps"))
        shown = kit.small("Knockouts of this neuron are not stored: ask the live model, or make them with ", makes, ".")
    if cases is not None:
        shown = broken(view, neuron, cases, "zero", "stored with the run")
    off = context.live.state(source, start=False).name == "off"
    controls = dmc.Group(
        [
            *_elsewhere(view, source, neuron, cases),
            dmc.SegmentedControl(
                id="neuron-ablation", data=[{"value": a, "label": a} for a in ABLATIONS], size="xs",
                value=view.choice("ablation", list(ABLATIONS), "zero"),
            ),
            dmc.Select(
                id="neuron-n", data=[{"value": n, "label": f"{n} prompts"} for n in SIZES], size="xs", w=116,
                value=view.choice("n", list(SIZES), "200"), allowDeselect=False, **{"aria-label": "prompts"},
            ),
            dmc.Button(
                "knock out live", id=view.part("neuron-knock"), size="compact-xs", variant="light", disabled=off,
                className="neuron-knock",
            ),
        ],
        gap=8,
    )  # fmt: skip
    drawn = html.Div(shown, id=view.part("neuron-knocked"), className="neuron-knocked")
    return kit.panel("What knocking it out breaks", drawn, help=HELP, actions=controls)


def broken(view: View, neuron: Neuron, cases: Cases, ablation: str, where: str) -> list[Any]:
    """A knockout in words, its histogram and the answers it changes."""
    said = kit.small(f"{breaks(cases, ablation=ablation)} ", html.Em(f"({where})"))
    if not len(cases.answer):
        return [said]
    if not moved(cases):
        return [said, kit.small(OLDER if cases.fall is None else STILL)]
    changed = cases.after != cases.answer
    figures = []
    if cases.fall is not None:
        lead = plain_drops(cases.fall, changed, of="lead")
        figures.append(kit.graph(lead, id="neuron-falls", name=f"{neuron}_knockout_lead", height=230))
    if changed.any() or float(np.abs(cases.drop).max()) >= NOTHING:
        chance = plain_drops(cases.drop, changed)
        figures.append(kit.graph(chance, id="neuron-drops", name=f"{neuron}_knockout", height=230))
    return [said, dmc.SimpleGrid(figures, cols=len(figures), spacing=12), _worst(view, neuron, cases, ablation)]


def _worst(view: View, neuron: Neuron, cases: Cases, ablation: str) -> Any:
    """The prompts whose answer changes; where none does, those whose answer loses most."""
    falls = cases.drop if cases.fall is None else cases.fall
    changed = cases.after != cases.answer
    order = [i for i in falls.argsort()[::-1].tolist() if changed[i] or (not changed.any() and falls[i] >= NOTHING)]
    rows = [_case(view, neuron, cases, i, ablation) for i in order[:LISTED]]
    more = f"and {len(order) - LISTED} more" if changed.any() and len(order) > LISTED else ""
    title = "Answers that change:" if changed.any() else "No answer changes; those that lose most:" if rows else ""
    return html.Div(
        [html.Span(title, className="muted"), *rows, html.Span(more, className="muted")], className="broken"
    )


def _case(view: View, neuron: Neuron, cases: Cases, i: int, ablation: str) -> Any:
    """`12+34= 46 → 36` or `12+34= 46 (−2.1)`, a link to the prompt with the neuron off."""
    prompt, changes = f"{cases.op1[i]}{view.op}{cases.op2[i]}=", cases.after[i] != cases.answer[i]
    after = "no number" if cases.after[i] < 0 else str(int(cases.after[i]))
    fall = cases.drop[i] if cases.fall is None else cases.fall[i]
    text = f"{prompt}{cases.answer[i]} " + (f"→ {after}" if changes else f"({theme.number(-fall, 2)})")
    href = view.url("prompt", prompt=prompt, off=str(neuron), ablation=ablation)
    told = f"log probability falls by {theme.number(cases.drop[i], 2)} nats"
    if cases.lead is not None and cases.fall is not None:
        told = f"lead {theme.number(cases.lead[i], 2)} → {theme.number(cases.lead[i] - fall, 2)} nats; {told}"
    return html.Span(kit.link(text, href, size="xs"), title=told)


def _elsewhere(view: View, source: Source, neuron: Neuron, cases: Cases | None) -> list[Any]:
    """A link to page Prompt with the neuron off: the stored prompt that it breaks most, else one of the run's."""
    if cases is not None and len(cases.answer):
        i = int((cases.drop if cases.fall is None else cases.fall).argmax())
        prompt = f"{cases.op1[i]}{view.op}{cases.op2[i]}="
    elif known := examples(source, view.op):
        prompt = known[0][0]
    else:
        return []
    text = f"switch it off on {prompt}"
    return [kit.link(text, view.url("prompt", prompt=prompt, off=str(neuron)), size="xs", id="neuron-switch-off")]


def knock(context: Context, clicks: Any, ablation: Any, n: Any, data: Any, shown: Any) -> Any:
    """Ask the live model."""
    if not clicks:
        return dash.no_update
    source, view = context.source(data), View.of(data)
    layer, index = (shown.get(k) if isinstance(shown, dict) else None for k in ("layer", "neuron"))
    if not isinstance(layer, int) or not isinstance(index, int) or ablation not in ABLATIONS or n not in SIZES:
        raise RequestError("this knockout cannot be read: reload the page")
    neuron = Neuron(layer, index)
    found = context.live.ask(source, lambda model: model.knock_out(view.op, [neuron], ablation, n=int(n)))
    cases = Cases(found.op1, found.op2, found.answer, found.after, found.drop, found.lead, found.fall)
    return broken(view, neuron, cases, ablation, "asked live")


def register(context: Context) -> None:
    """The button, and its choices in the address. An answer finds only the neuron it was asked about (MATCH)."""
    asks, told = ({"type": f"neuron-{kind}", "asked": MATCH} for kind in ("knock", "knocked"))
    context.dash.callback(
        Output(told, "children"),
        Input(asks, "n_clicks"),
        State("neuron-ablation", "value"), State("neuron-n", "value"), State("view", "data"),
        State("neuron-who", "data"),
        running=[(Output(asks, "loading"), True, False)],
        prevent_initial_call=True,
    )(lambda clicks, ablation, n, data, who: knock(context, clicks, ablation, n, data, who))  # fmt: skip
    kit.remember(context, "neuron-ablation")
    kit.remember(context, "neuron-n")
