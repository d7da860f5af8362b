"""The head of the Prompt page: the fields, prompts to try, and what the browser keeps of what was asked."""

from collections.abc import Sequence
from dataclasses import replace

import dash_mantine_components as dmc
from dash import dcc, html

from arithcirc.explorer import kit
from arithcirc.explorer.pages import prompt_facts as facts
from arithcirc.explorer.pages.prompt_ask import LONGEST, Prompt, read
from arithcirc.explorer.source import Source
from arithcirc.explorer.view import View


def of(kind: str, view: View) -> dict[str, str]:
    """The id of a part of page Prompt that one address asked for."""
    return view.part(f"prompt-{kind}")


def bar(view: View, source: Source, text: str, prompt: Prompt | None, problem: str | None = None) -> dmc.Paper:
    """What to ask, sent whole with Enter; `problem` is what is wrong with the second prompt."""
    told = html.Div(wrong(problem), id=of("wrong", view), role="alert")
    if prompt is not None and prompt.operator in source.operators:
        view = replace(view, op=prompt.operator)  # links lead to what is shown
    asked = dmc.TextInput(
        id="prompt-prompt", value=text[:LONGEST], placeholder="226-68=", size="sm", w=170, label="prompt",
        debounce=True, error=prompt is None, **{"data-key": "/"},
    )  # fmt: skip
    other = dmc.TextInput(
        id="prompt-with", value=view.choices.get("with", "")[:LONGEST], placeholder="another prompt", size="sm", w=150,
        label="compare with", debounce=True,
    )  # fmt: skip
    ask = dmc.Button("Ask", id="prompt-ask", size="sm")
    operator = prompt.operator if prompt is not None else view.op
    groups = [_examples(view, word, texts) for word, texts in facts.to_try(source, operator).items() if texts]
    return dmc.Paper(
        [
            dmc.Group([asked, other, ask, dmc.Stack(groups, gap=4)], gap=12, align="flex-end"),
            told,
            _asked_store(source, text, prompt),
            dcc.Store(id="prompt-known"),
        ],
        className="panel prompt-bar",
    )


def wrong(problem: str | None) -> html.Div | None:
    """What is wrong with the second prompt, under the fields."""
    return html.Div(["compare with: ", problem], className="field-problem") if problem is not None else None


def _examples(view: View, word: str, texts: Sequence[str]) -> dmc.Group:
    """Prompts to click, and how the model answers them."""
    fresh = {"target": None, "with": None}
    links = [kit.link(text, view.url(prompt=text, op=read(text).operator, **fresh)) for text in texts[:6]]
    return dmc.Group([html.Span(f"{word}:", className="control-label examples"), *links], gap=12)


def _asked_store(source: Source, text: str, prompt: Prompt | None) -> dcc.Store:
    """What was asked, and where the header's operators lead: an example of each."""
    examples = {}
    for operator in source.operators:
        known = facts.examples(source, operator, right=1, wrong=0)
        examples[operator] = known[0][0] if known else f"{facts.FLAGSHIP[0]}{operator}{facts.FLAGSHIP[1]}="
    own = prompt.operator if prompt is not None and prompt.operator in source.operators else None
    return dcc.Store(id="prompt-asked", data={"prompt": text[:LONGEST], "op": own, "examples": examples})
