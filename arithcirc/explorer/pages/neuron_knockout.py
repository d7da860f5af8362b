"""What knocking one neuron out breaks: the stored cases, and what the live model says."""

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import MATCH, Input, Output, State, html

from arithcirc.components import Neuron
from arithcirc.errors import RequestError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.neuron_maps import Cases
from arithcirc.questions import ABLATIONS
from arithcirc.viz import theme
from arithcirc.viz.neuron_effects import plain_drops
from arithcirc.viz.neuron_words import breaks

SIZES = ("100", "200", "500", "1000")
LISTED = 12
NOTHING = 0.001
"""Nats below which a fall of the log probability is not worth a figure."""
SATURATED = (
    "So there is nothing to draw. Where the right answer has nearly all of the probability, its log probability cannot "
    "move while its logit falls (softmax saturates); the patching effect above is a fall in logit difference, which "
    "does not saturate: the two do not contradict each other."
)
HELP = (
    "The neuron's activation at = is replaced by zero, or by its mean over all legal prompts, and nothing else, on "
    "prompts that are answered correctly before. The figure shows how far the right answer's log probability falls "
    "on each prompt; below it, the prompts whose answer changes. Neurons back each other up: one alone rarely "
    "breaks an answer; page Prompt knocks out a whole heuristic."
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
    changed = cases.after != cases.answer
    if not changed.any() and float(abs(cases.drop).max()) < NOTHING:
        return [said, kit.small(SATURATED)]
    figure = plain_drops(cases.drop, changed)
    found = [said, kit.graph(figure, id="neuron-drops", name=f"{neuron}_knockout", height=230)]
    worst = [i for i in cases.drop.argsort()[::-1].tolist() if changed[i]]
    rows = [_case(view, neuron, cases, i, ablation) for i in worst[:LISTED]]
    if rows:
        more = f"and {len(worst) - LISTED} more" if len(worst) > LISTED else ""
        found.append(html.Div([*rows, html.Span(more, className="muted")], className="broken"))
    return found


def _case(view: View, neuron: Neuron, cases: Cases, i: int, ablation: str) -> Any:
    """`12+34= 46 → 36`, a link to the prompt with the neuron off."""
    prompt = f"{cases.op1[i]}{view.op}{cases.op2[i]}="
    after = "no number" if cases.after[i] < 0 else str(int(cases.after[i]))
    text = f"{prompt}{cases.answer[i]} → {after}"
    href = view.url("prompt", prompt=prompt, off=str(neuron), ablation=ablation)
    fall = f"log probability falls by {theme.number(cases.drop[i], 2)} nats"
    return html.Span(kit.link(text, href, size="xs"), title=fall)


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
    cases = Cases(found.op1, found.op2, found.answer, found.after, found.drop)
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
