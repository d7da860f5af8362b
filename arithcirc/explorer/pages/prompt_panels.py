"""The parts of the Prompt page that are drawn from one explanation: figures, and lists whose rows switch parts off."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
import numpy as np
import pandas as pd
from dash import html

from arithcirc.components import Head, Neuron
from arithcirc.explorer import follow, kit
from arithcirc.explorer.pages import prompt_facts as facts
from arithcirc.explorer.pages import prompt_words as words
from arithcirc.explorer.pages.prompt_ask import ALL
from arithcirc.explorer.pages.prompt_case import Case
from arithcirc.explorer.pages.prompt_facts import Labels
from arithcirc.explorer.view import View
from arithcirc.viz import theme
from arithcirc.viz.contributions import Target, at_equals, by_layer, side_by_side
from arithcirc.viz.waterfall import waterfall

KINDS = {"holding": "holds", "important": "important", "others": "other"}
"""The groups of neurons in a list: a heuristic of it holds; important, but none holds; neither."""
OTHERS = 40
"""Neurons listed beside the important ones: the strongest of the rest."""
STEPS = ("neurons", "groups")
"""What a step of the waterfall is; the first is the usual one."""
WITH = "-with"
"""What ids of the second prompt end with."""
WATERFALL_HELP = (
    "Direct logit attribution: what every part at = writes straight into the logit, through the final norm with this "
    "prompt's own scale. By neurons: the largest single ones by name, layer after layer, all heads and all other "
    "neurons in one step each. By groups: heads and neurons of each layer. Steps sum exactly to the logit. A step up "
    "speaks for the answer, a step down against it. What a part does through later layers is not in it: switch the "
    "part off to see that."
)
HEURISTICS_HELP = (
    "A heuristic is a rule of thumb about the prompt, such as 'op2 = 8 mod 10'. Those listed hold of this prompt and "
    "label at least one neuron. Contributions sum over a heuristic's neurons; a neuron with several labels counts in "
    "each, so rows do not add up. Tick 'off' to set their activation to zero (or its mean) and see the answer change."
)
NEURONS_HELP = (
    "Every important neuron: its activation at =, and what it writes directly into the logit. The label is its "
    "best-scoring heuristic that holds of this prompt; in grey, one that does not hold. Click a name to open its page."
)
HEADS_HELP = (
    "Attention of each head from =, over the prompt's tokens, and what the head writes directly into the logit. Early "
    "heads that look at op1 or op2 bring the operands to =, so they matter although they write little themselves. "
    "Click a head to switch it off or on."
)
OFF_COLUMN = {
    "field": "off", "headerName": "off", "width": 58, "maxWidth": 58, "minWidth": 58, "editable": True,
    "cellRenderer": "agCheckboxCellRenderer", "cellEditor": "agCheckboxCellEditor", "filter": False,
}  # fmt: skip


def tokens(reply_tokens: Sequence[tuple[str, str]]) -> html.Div:
    """The tokens with their positions."""
    cells = [
        html.Span([html.Code(text), html.Small(position)], className="prompt-token") for position, text in reply_tokens
    ]
    return html.Div(cells, className="prompt-tokens")


def story(sentences: Sequence[str]) -> html.Ul:
    """Sentences as a list."""
    return html.Ul([html.Li(bold(text)) for text in sentences], className="prompt-story")


def bold(text: str) -> list[Any]:
    """`**a**` as bold text; nothing else is markup."""
    return [html.B(part) if i % 2 else part for i, part in enumerate(text.split("**"))]


def waterfall_panel(case: Case, target: Target, choice: Any, steps: str, *, second: bool = False) -> dmc.Paper:
    """The waterfall by single neurons or by groups, with the choice of the target; `second` is the prompt compared."""
    found = case.singles(target) if steps == STEPS[0] else case.parts(target)
    name = f"contributions_{case.prompt.text.rstrip('=')}"
    figure = waterfall(found, facts.best_labels(case.labels))
    to = {"layer": "customdata.2", "neuron": "customdata.3"}
    figure = follow.leads_to(figure, "neuron", to, fixed={"op": case.prompt.operator})
    text = f"The {len(found.parts)} steps sum to {theme.number(found.total, 3)} nats exactly, up to rounding."
    text += " Click a neuron to open its page." if steps == STEPS[0] else ""
    return kit.panel(
        f"What writes the {target}" + (f" of {case.prompt.shown}" if second else ""),
        kit.graph(figure, id=f"prompt-waterfall{WITH if second else ''}", name=name, height=360), kit.small(text),
        help=WATERFALL_HELP, actions=choice,
    )  # fmt: skip


def steps_choice(held: str) -> dmc.SegmentedControl:
    """Whether steps are single neurons or groups."""
    return dmc.SegmentedControl(id="prompt-steps", data=list(STEPS), value=held, size="xs")


def target_choice(case: Case, kind: str) -> dmc.SegmentedControl:
    """What contributions are to."""
    data = [{"value": "answer", "label": f"{case.reply.answer}, the true answer"}]
    if case.given is not None and not case.reply.correct:
        data.append({"value": "given", "label": f"{case.given}, the answer given"})
    if case.rivals:
        data.append({"value": "difference", "label": f"{case.reply.answer} − {case.rivals[0]}"})
    held = kind if kind in [d["value"] for d in data] else "answer"
    return dmc.SegmentedControl(id="prompt-target", data=data, value=held, size="xs", mr=84)


def labels_choice(view: View) -> dmc.Group:
    """Which labels count: a link each, since everything depends on it."""
    held = view.choice("labels", facts.LABELS, facts.LABELS[0])
    parts: list[Any] = [html.Span("labels", className="control-label")]
    for name in facts.LABELS:
        parts.append(
            html.B(name, className="chosen-label") if name == held else kit.link(name, view.url(labels=name), size="xs")
        )
    return dmc.Group(parts, gap=8, mr=44)


def layers_panel(case: Case) -> dmc.Paper:
    """How the answer's logit and its rivals' build up."""
    numbers = list(case.explanation.numbers)[:4]
    words = {case.reply.answer: "true"}
    if case.given is not None:
        words[case.given] = "true, given" if case.reply.correct else "given"
    figure = by_layer(case.explanation, numbers, words)
    return kit.panel(
        "Layer by layer",
        kit.graph(figure, id="prompt-layers", name="layer_by_layer", height=300),
        help="The logits of the likeliest numbers after each layer's attention and MLP, read with the final norm of "
        "the finished prompt: where the answer pulls away from its rivals is where it is decided.",
    )


def heads_panel(case: Case, target: Target) -> dmc.Paper:
    """Attention from `=` and the heads' contributions; a click on a head switches it."""
    return kit.panel(
        "Attention from = and what heads write",
        kit.graph(at_equals(case.explanation, target), id="prompt-attention", name="attention", height=300),
        help=HEADS_HELP,
    )


def heads_list(case: Case, target: Target, off: Collection[str]) -> dmc.Paper:
    """One row per head."""
    written = target.of(case.explanation, case.explanation.heads)
    tokens = [theme.POSITION_LABELS.get(position, position) for position, _ in case.reply.tokens]
    rows = []
    for layer, index in np.ndindex(*written.shape):
        name, looks = str(Head(layer, index)), case.explanation.attention[layer, index]
        rows.append(
            {
                "id": name, "off": name in off, "head": name, "contribution": float(written[layer, index]),
                "looks": f"{tokens[int(looks.argmax())]} ({theme.percent(looks.max())})",
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows).sort_values("contribution", key=abs, ascending=False, kind="stable")
    columns = [
        OFF_COLUMN, {"field": "head", "headerName": "head", "width": 76, "filter": False},
        _bar("contribution", "nats", frame["contribution"], minWidth=120),
        {"field": "looks", "headerName": "attends most to", "minWidth": 140, "filter": False},
    ]  # fmt: skip
    return kit.panel(
        "Heads: contribution and attention", _list(frame, columns, id="prompt-heads", name="heads", height=300)
    )


def heuristics_list(
    labels: Labels,
    contribution: Mapping[Neuron, float],
    off: Collection[str],
    view: View,
    unit: str,
    choice: Any,
    *,
    switches: bool = True,
    command: str | None = None,
    named: str = "",
    second: bool = False,
) -> dmc.Paper:
    """Heuristics that hold, each with a switch where a model can answer; `command` makes missing labels.

    `named` is the prompt where there are two, `second` the one compared with.
    """
    frame = facts.heuristic_rows(labels, dict(contribution))
    title = f"{len(frame)} heuristics hold of {named or 'this prompt'}"
    if command is not None:
        missing = [kit.small("This run has no labels yet. Make them:"), dmc.Code(command, block=True)]
        return kit.panel("No heuristics", *missing, help=HEURISTICS_HELP)
    if frame.empty:
        text = "No heuristic of these labels holds of this prompt."
        return kit.panel(title, kit.small(text), help=HEURISTICS_HELP, actions=choice)
    frame["off"] = frame["id"].isin(off) | (ALL in off)
    frame["href"] = [view.url("neurons", q=name) for name in frame["heuristic"]]
    columns = [
        *([OFF_COLUMN] if switches else []),
        {"field": "heuristic", "headerName": "heuristic", "cellRenderer": "PromptLink", "minWidth": 160},
        {"field": "family", "headerName": "family", "width": 112},
        {"field": "neurons", "headerName": "neurons", "width": 88, "type": "rightAligned", "filter": False},
        _bar("contribution", f"contribution ({unit})", frame["contribution"], minWidth=170),
        _number("score", "best score", 2, width=98),
        _number("share", "holds of", 1, percent=True, width=96),
    ]
    return kit.panel(
        title,
        _list(
            frame, columns, id=f"prompt-heuristics{WITH if second else ''}", name="heuristics_that_hold",
            height=220 if second else 300,
        ),
        help=HEURISTICS_HELP, actions=choice,
    )  # fmt: skip


def neuron_rows(
    labels: Labels,
    neurons: Sequence[Neuron],
    activation: Mapping[Neuron, float],
    contribution: Mapping[Neuron, float],
    effect: Mapping[Neuron, float],
    view: View,
) -> pd.DataFrame:
    """One row per neuron, those that contribute most first."""
    held, best, important = facts.neuron_labels(labels), facts.best_labels(labels), set(labels.important)
    rows = []
    for neuron in neurons:
        mine = held.get(neuron, [])
        label = mine[0] if mine else best.get(neuron, "")
        more = f" +{len(mine) - 1}" if len(mine) > 1 else ""
        group = "holding" if mine else "important" if neuron in important else "others"
        rows.append(
            {
                "id": str(neuron), "neuron": str(neuron), "label": f"{label}{more}", "holds": bool(mine),
                "group": KINDS[group], "activation": activation.get(neuron),
                "contribution": contribution.get(neuron), "effect": effect.get(neuron),
                "held": [f"h:{name}" for name in mine],
                "href": view.url("neuron", layer=neuron.layer, neuron=neuron.index, label=label or None),
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    frame = frame.assign(size=pd.to_numeric(frame["contribution"]).abs())  # every one is missing without a live model
    return frame.sort_values("size", ascending=False, kind="stable").drop(columns="size")


def neurons_list(
    frame: pd.DataFrame, off: Collection[str], unit: str, *, switches: bool = True, named: str = "",
    second: bool = False,
) -> dmc.Paper:  # fmt: skip
    """Neurons, each with a link, and a switch where a model can answer; `named` is the prompt where there are two."""
    if frame.empty:
        return kit.panel("Neurons", kit.small("This run names no important neurons of this operator."))
    chosen = set(off)
    frame["off"] = [
        name in chosen or not chosen.isdisjoint(held) or (ALL in chosen and bool(held))
        for name, held in zip(frame["id"].tolist(), frame["held"].tolist(), strict=True)
    ]
    columns = [
        *([OFF_COLUMN] if switches else []),
        {"field": "neuron", "headerName": "neuron", "cellRenderer": "PromptLink", "width": 96, "minWidth": 96},
        {"field": "label", "headerName": "heuristic", "cellRenderer": "PromptLabel", "minWidth": 160},
        {"field": "group", "headerName": "group", "minWidth": 96, "width": 104},
        _number("activation", "activation", 2, minWidth=106, width=106),
        _bar("contribution", f"contribution ({unit})", frame["contribution"], minWidth=170),
        _number("effect", "effect (nats)", 2, minWidth=118, width=118),
    ]
    listed = int((frame["group"] != KINDS["others"]).sum())
    title = f"{listed} important neurons" + (
        f" and the {len(frame) - listed} strongest others" if listed < len(frame) else ""
    )
    title += f" on {named}" if named else ""
    drawn = _list(
        frame, columns, id=f"prompt-neurons{WITH if second else ''}", name="neurons_on_prompt",
        height=260 if second else 340,
    )  # fmt: skip
    return kit.panel(title, drawn, help=NEURONS_HELP)


def case_neurons(case: Case, target: Target, effect: Mapping[Neuron, float], view: View) -> pd.DataFrame:
    """The important neurons and the strongest of the others, from an explanation."""
    written, acts = case.written(target), case.explanation.activations
    important = [n for n in case.labels.important if n.layer < case.shape[0] and n.index < case.shape[1]]
    inside = set(important)
    order = np.argsort(-np.abs(written), axis=None, kind="stable")[: len(important) + OTHERS]
    strongest = [Neuron(*(int(v) for v in divmod(int(i), case.shape[1]))) for i in order]
    others = [n for n in strongest if n not in inside][:OTHERS]
    neurons = [*important, *others]
    return neuron_rows(
        case.labels, neurons, {n: float(acts[n.layer, n.index]) for n in neurons},
        {n: float(written[n.layer, n.index]) for n in neurons}, effect, view,
    )  # fmt: skip


def comparison(one: Case, other: Case, kind: str) -> dmc.Paper:
    """Two prompts: answers, groups, and the heuristics they share."""
    found = [(case.prompt.shown, case.parts(case.target(kind or case.default))) for case in (one, other)]
    written = [case.written(parts.target) for case, (_, parts) in zip((one, other), found, strict=True)]
    frames = []
    for case, plane in zip((one, other), written, strict=True):
        rows = facts.heuristic_rows(case.labels, {n: float(plane[n.layer, n.index]) for n in case.carriers})
        frames.append(rows.set_index("heuristic") if len(rows) else pd.DataFrame(columns=["contribution", "neurons"]))
    names = list(dict.fromkeys([*frames[0].index, *frames[1].index]))
    sums = [[_of(frame, name) for name in names] for frame in frames]
    shared = [a is not None and b is not None for a, b in zip(*sums, strict=True)]
    order = sorted(range(len(names)), key=lambda i: not shared[i])
    columns_of = {"heuristic": names, "first": sums[0], "second": sums[1]}
    frame = pd.DataFrame({name: [values[i] for i in order] for name, values in columns_of.items()})
    every = pd.Series([v for side in sums for v in side if v is not None], dtype=float)
    columns = [
        {"field": "heuristic", "headerName": "heuristic", "minWidth": 150, "filter": False},
        _bar("first", one.prompt.shown, every, minWidth=110),
        _bar("second", other.prompt.shown, every, minWidth=110),
    ]
    said = [_said(case) for case in (one, other)]
    left = kit.graph(side_by_side(found), id="prompt-two", name="two_prompts", height=320)
    rows = frame.astype(object).where(frame.notna(), None)
    right = kit.grid(rows, columns, id="prompt-shared", name="shared_heuristics", height=320)
    return kit.panel(
        f"Compared: {said[0]} and {said[1]}",
        kit.small(
            f"Heuristics that hold of both: {sum(shared)}; of one only: {len(names) - sum(shared)}. "
            "Contributions in nats, each prompt's to its own target."
        ),
        dmc.Grid([dmc.GridCol(left, span=5), dmc.GridCol(right, span=7)], gutter=12, mt=6),
        help="The same groups of parts for two prompts, each read for its own target, and the heuristics they share.",
    )


def _said(case: Case) -> str:
    """`226 − 68 → 158 ✓`."""
    mark = "✓" if case.reply.correct else f"✗ ({case.reply.answer})"
    return f"{case.prompt.shown} → {words.said(case.reply.guesses[0])} {mark}"


def _of(frame: pd.DataFrame, name: str) -> float | None:
    if name not in frame.index:
        return None
    value = frame["contribution"].to_dict()[name]
    return float(value) if pd.notna(value) else 0.0


def _list(frame: pd.DataFrame, columns: Sequence[dict[str, Any]], *, id: str, name: str, height: int) -> html.Div:
    rows = frame.astype(object).where(frame.notna(), None)
    return kit.grid(rows, columns, id=id, name=name, height=height, getRowId="params.data.id")


def _bar(field: str, title: str, values: pd.Series, **options: Any) -> dict[str, Any]:
    known = pd.to_numeric(values).abs()
    most = float(known.max()) if len(known) and known.notna().any() else 1.0
    return {
        "field": field, "headerName": title, "cellRenderer": "PromptBar", "cellRendererParams": {"most": most or 1.0},
        "filter": False, "sortingOrder": ["desc", "asc", None],
    } | options  # fmt: skip


def _number(field: str, title: str, digits: int, *, percent: bool = False, **options: Any) -> dict[str, Any]:
    text = f"d3.format('.{digits}f')({'100 * ' if percent else ''}params.value)"
    if percent:
        text = f"params.value < 0.001 ? '<\N{NO-BREAK SPACE}0.1\N{NO-BREAK SPACE}%' : {text} + '\N{NO-BREAK SPACE}%'"
    return {
        "field": field, "headerName": title, "type": "rightAligned", "filter": False,
        "sortingOrder": ["desc", "asc", None],
        "valueFormatter": {"function": f"params.value == null ? '–' : {text}"},
    } | options  # fmt: skip
