"""Heads on one typed prompt: attention of one head, direct logit attribution of all, from the live model."""

from typing import Any

import dash_mantine_components as dmc
from dash import html

from arithcirc.errors import ArithcircError
from arithcirc.explorer import kit
from arithcirc.explorer.context import Context
from arithcirc.explorer.follow import leads_to
from arithcirc.explorer.source import Source
from arithcirc.questions import Explanation
from arithcirc.viz import theme
from arithcirc.viz.head_profile import logit_map, prompt_attention
from arithcirc.viz.panels import bare
from arithcirc.viz.theme import number, percent

LONGEST = 60
"""Characters of a prompt that are put to the model."""


def live_part(context: Context, source: Source, op: str, prompt: str, layer: int, head: int) -> Any:
    """Figures and a sentence, or why there are none."""
    state = context.live.state(source)
    if not state.ready:
        return dmc.Alert(state.text, color="gray" if state.name != "failed" else "orange", variant="light", mt=8, p=10)
    if not prompt.strip():
        return kit.small("Type a prompt such as 226-68=.", mt=8)
    try:
        found = context.live.ask(source, lambda model: model.explain(prompt.strip()[:LONGEST]))
    except ArithcircError as error:
        return dmc.Alert(str(error), color="orange", variant="light", mt=8, p=10)
    if not (layer < found.attention.shape[0] and head < found.attention.shape[1]):
        return dmc.Alert("the loaded model has no such head", color="orange", variant="light", mt=8, p=10)
    return _drawn(found, op, layer, head)


def _drawn(found: Explanation, op: str, layer: int, head: int) -> Any:
    reply = found.reply
    colour = theme.operator_colour(reply.operator if reply.operator in theme.OPERATOR_NAMES else op)
    attention = prompt_attention(reply.tokens, found.attention[layer, head], colour=colour)
    attribution = logit_map(found.heads[..., 0], chosen=(layer, head), number=reply.answer)
    attribution.update_layout(coloraxis_colorbar={"title": {"text": ""}, "thickness": 10})
    leads_to(attribution, "heads", {"layer": "y", "head": "x"})
    name = f"L{layer}H{head}"
    left = [
        html.Div(f"Attention of {name} from =", className="ov-map-title"),
        kit.graph(bare(attention, l=96), id="heads-prompt-attention", name=f"{name}_prompt_attention", height=230),
    ]
    right = [
        html.Div(
            f"What each head writes into the logit of {reply.answer} (nats): layer × head", className="ov-map-title"
        ),
        kit.graph(bare(attribution), id="heads-attribution", name="head_attribution", height=230),
    ]
    grid = dmc.Grid(
        [
            dmc.GridCol(left, span={"base": 12, "md": 5}),
            dmc.GridCol(right, span={"base": 12, "md": 7}),
        ],
        gutter=12,
        mt=8,
    )
    return html.Div([dmc.Text(words(found, layer, head), size="sm", mt=4), grid])


def words(found: Explanation, layer: int, head: int) -> str:
    """What the model says, where the head looks, and what it writes into the true answer."""
    reply, row = found.reply, found.attention[layer, head]
    said = reply.guesses[0]
    verdict = "right" if reply.correct else f"wrong: it is {reply.answer}"
    place, token = reply.tokens[int(row.argmax())]
    total = float(found.heads[..., 0].sum())
    own = _signed(float(found.heads[layer, head, 0]))
    return (
        f"{reply.prompt} is answered {said.token.strip()} ({verdict}; probability {percent(said.probability)}). "
        f"L{layer}H{head} looks mostly at {theme.POSITION_LABELS.get(place, place)} “{token}” "
        f"({number(row.max(), 2)}) and writes {own} nats straight into the logit of {reply.answer}; all heads together "
        f"{_signed(total)} of its {_signed(float(found.logits[0]))} nats. What heads bring mostly works through the "
        "MLPs after them."
    )


def _signed(value: float) -> str:
    text = number(value, 2)
    return text if text.startswith("−") else f"+{text}"
