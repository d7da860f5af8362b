"""The bench of the Prompt page: name parts to switch off and read the answer; or the live model's state in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from arithcirc.errors import ArithcircError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context
from arithcirc.explorer.live import LiveState
from arithcirc.explorer.pages.prompt_ask import ALL, MOST, Prompt, sorted_out, split
from arithcirc.explorer.pages.prompt_bar import of
from arithcirc.explorer.pages.prompt_case import Said, knocked_out
from arithcirc.explorer.pages.prompt_facts import Labels
from arithcirc.explorer.pages.prompt_said import answers
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View
from arithcirc.questions import ABLATIONS, LiveModel

POLL = 700
"""Milliseconds between looks at a model that is loading."""
LONGEST = 1_200
"""Characters of the switched-off parts that are read."""
HELP = (
    "Neurons, heads or the neurons of a heuristic are set to zero at = (or to their mean over all prompts) and the "
    "model answers again. The control sets as many other important neurons (and heads) of the same layers, drawn at "
    "random by the seed: if it changes the answer as well, the chosen parts are not special."
)
TITLES = {"loading": "The model is loading", "failed": "The model could not be loaded", "off": "No live model"}


Asked = Sequence[tuple[Prompt, Labels]]
"""The prompts of the page with their labels: one, or two to compare."""


def bench(context: Context, view: View, source: Source, asked: Asked) -> dmc.Paper:
    """Switch parts off and read the answers."""
    held = split(view.choices.get("off", ""))
    ablation, seed = view.choice("ablation", ABLATIONS, "zero"), read_seed(view.choices.get("seed"))
    said = html.Div(said_without(context, source, asked, held, ablation, seed), id="prompt-said")
    names = [name for _, labels in asked for name in labels.holding]
    controls = html.Div(_controls(names, held, ablation, seed), className="prompt-controls")
    title = "What it says" if len(asked) == 1 else "What it says to each"
    return kit.panel(title, said, controls, dcc.Store(id="prompt-flawed"), help=HELP)


def _controls(names: Sequence[str], held: Sequence[str], ablation: str, seed: int) -> list[Any]:
    known = [ALL, *dict.fromkeys(f"h:{name}" for name in names)]
    off = dmc.TagsInput(
        id="prompt-off", value=list(held), data=known, splitChars=[";"], size="xs", clearable=True,
        placeholder="" if held else "L3N17, L2H1, h:op2 = 8 mod 10", label="switched off at =", maxDropdownHeight=220,
    )  # fmt: skip
    how = dmc.SegmentedControl(
        id="prompt-ablation", value=ablation, size="xs",
        data=[{"value": "zero", "label": "set to zero"}, {"value": "mean", "label": "to the mean"}],
    )  # fmt: skip
    draw = dmc.NumberInput(
        id="prompt-seed", value=seed, min=0, max=9999, size="xs", w=62, **{"aria-label": "seed of the control"}
    )
    every = html.Button(
        "all that hold", id="prompt-all", className="quiet", title="off: the neurons of every heuristic that holds"
    )
    random = html.Button("as many random ones", id="prompt-random", className="quiet", title="draw another control")
    clear = html.Button("clear", id="prompt-clear", className="quiet", title="switch everything on again")
    seeded = dmc.Group([html.Span("seed", className="control-label"), draw], gap=4)
    return [
        off,
        dmc.Group([how, dmc.Group([every, clear], gap=6)], justify="space-between", mt=8),
        dmc.Group([html.Span("control", className="control-label"), random, seeded], gap=8, mt=8),
    ]


def said_without(context: Context, source: Source, asked: Asked, held: Sequence[str], ablation: str, seed: int) -> Any:
    """The answers; parts that are not understood are named, the others are switched off."""
    bad: dict[str, str] = {}
    if len(held) > MOST:
        bad[f"{len(held)} parts"] = f"only the first {MOST} are switched off: name heuristics instead"

    def question(model: LiveModel) -> list[Said]:
        out = []
        for prompt, labels in asked:
            off, wrong = sorted_out(held, labels.carriers, model.info, ablation)
            for item, why in wrong.items():
                bad.setdefault(item, why if prompt == asked[0][0] else f"for {prompt.shown}: {why}")
            out.append(knocked_out(model, prompt, off, labels.important, seed))
        return out

    try:
        found = context.live.ask(source, question)
    except ArithcircError as error:
        return dmc.Alert(str(error), color="orange", variant="light", p=8, title="This cannot be switched off", my=8)
    shown = answers(found[0]) if len(found) == 1 else _two(found)
    return html.Div([_not_understood(bad), shown])


def _two(found: Sequence[Said]) -> html.Div:
    """The answers to two prompts, in two columns."""
    sides = [html.Div([html.Div(said.shown, className="said-prompt"), answers(said, id)]) for said, id in zip(
        found, ("prompt-said", "prompt-said-with"), strict=True)]  # fmt: skip
    return html.Div(sides, className="said-two")


def _not_understood(bad: Mapping[str, str]) -> html.Ul | None:
    """One line for every part that is not switched off; the browser marks these in the field."""
    lines = [html.Li([html.B(item[:40], className="bad-part", title=item), f" {why}"]) for item, why in bad.items()]
    return html.Ul(lines, className="bad-parts", **{"aria-label": "not switched off"}) if lines else None


def items(off: Any) -> list[str]:
    """The parts that a browser sent, whatever that is."""
    return split(",".join(str(item) for item in off)[:LONGEST]) if isinstance(off, list) else []


def read_seed(given: Any) -> int:
    """A seed of at most four digits; 0 for anything else."""
    text = str(given if given is not None else "")
    return int(text) if text.isdecimal() and len(text) <= 4 else 0


def waiting(state: LiveState, view: View) -> dmc.Paper:
    """The state of the live model in words; asks again while it loads."""
    parts: list[Any] = [kit.small(state.text)]
    if state.name == "failed":
        parts.append(html.Button("try again", id=of("again", view), className="quiet"))
    more = "With it: probabilities, exact contributions, attention, and the answer with parts switched off."
    poll = dcc.Interval(id=of("poll", view), interval=POLL, disabled=state.name != "loading")
    return kit.panel(
        TITLES.get(state.name, "The model"), *parts, kit.small(more, mt=6), poll, dcc.Store(id=of("state", view))
    )
