"""The page Heads: rows and sentences of the tables, one prompt by the live model, what a sweep lacks."""

import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from explorer.asking import asker, settled
from explorer.planted_live import PlantedLive
from explorer.synthetic_explorer import lone_prompt
from viz import synthetic

from arithcirc.errors import RequestError
from arithcirc.explorer.app import make_app
from arithcirc.explorer.pages import heads
from arithcirc.explorer.pages.heads_live import live_part, words
from arithcirc.explorer.pages.heads_tables import head_rows, sentence
from arithcirc.explorer.source import Source, open_source
from arithcirc.explorer.view import View
from arithcirc.store import RunFolder
from arithcirc.viz.head_profile import attention_bars, decoded_bars, head_effects, logit_map, prompt_attention


@pytest.fixture(scope="module")
def source(explorer_run: RunFolder) -> Source:
    return open_source("run", explorer_run.path)


def view(op: str = "+", **choices: str) -> View:
    return View("heads", "run", op=op, choices=choices)


# -- rows and words --------------------------------------------------------------------------------------------------


def test_every_head_is_listed_by_rank_with_its_own_numbers(source):
    for operator in synthetic.OPERATORS:
        rows = head_rows(view(operator), source)
        assert len(rows) == 24
        assert rows["rank"].tolist() == list(range(1, 25))
        assert rows["in_circuit"].sum() == synthetic.CHOSEN[operator]
        for row in rows.to_dict("records"):
            where = (int(row["layer"]), int(row["head"]))
            assert row["effect"] == pytest.approx(synthetic.head_effect(operator, "any", "equals", *where))
            if "looks" in row:  # attention is planted at (layer + head) mod 5
                places = ("bos", "op1", "operator", "op2", "=")
                assert row["looks"] == places[sum(where) % 5]
                assert row["share"] == 0.6


def test_what_is_decoded_is_measured_above_its_base_rate(source):
    rows = head_rows(view("+"), source).set_index("name")
    assert rows.loc["L2H1", "decodes"] == "op1"
    assert rows.loc["L2H3", "decodes"] == "op2"
    assert rows.loc["L3H0", "decodes"] == "operator"  # .99 of .25, from the rows of all operators
    assert rows.loc["L0H0", "decodes"] != rows.loc["L0H0", "decodes"]  # no probe on it


def test_what_a_head_carries_is_told_by_patching_and_a_probe_that_says_otherwise_disagrees(source):
    rows = head_rows(view("+"), source).set_index("name", drop=False)
    for (layer, head), part in synthetic.CARRIERS.items():
        assert rows.loc[f"L{layer}H{head}", "carries"] == part
    assert rows["carries"].notna().sum() == len(synthetic.CARRIERS)  # a ripple carries nothing
    row = rows.loc["L2H1"].to_dict()
    text = sentence(row, 24, "+")
    assert "in the circuit of addition, number" in text
    assert "By patching it carries op1 to =" in text
    assert "(a lower bound) reads op1 best" in text
    assert "which agrees" in text
    assert "patching and probe disagree" in sentence(row | {"decodes": "operator"}, 24, "+")
    weak = sentence(row | {"accuracy": 0.2, "share": 0.3}, 24, "+")
    assert "less than patching shows" in weak
    assert "attention is spread" in weak
    assert "carries no single part" in sentence(row | {"carries": None}, 24, "+")


def test_the_first_head_is_shown_unless_the_address_names_one(source):
    rows = head_rows(view("+"), source)
    assert heads._chosen(view("+"), rows) == 0
    assert rows["name"][heads._chosen(view("+", layer="5", head="3"), rows)] == "L5H3"
    for layer, head in (("6", "0"), ("0", "4"), ("-1", "0"), ("", "9")):
        with pytest.raises(RequestError, match="heads go from L0H0 to L5H3"):
            heads._chosen(view("+", layer=layer, head=head), rows)


# -- figures ---------------------------------------------------------------------------------------------------------


def test_figures_of_one_head_hold_its_numbers_and_no_other(source):
    attention = source.table("heads", "+").query("layer == 2 and head == 1")
    drawn = attention_bars(attention, colour="#000000").data[0]
    assert dict(zip(drawn.y, drawn.x, strict=True))["op2"] == 0.6
    effects = head_effects(source.table("effects", "+"), layer=2, head=1)
    z, changes = np.asarray(effects.data[0].z), list(effects.data[0].y)
    for i in range(len(changes)):
        for j, position in enumerate(synthetic.POSITIONS):
            change = synthetic.CHANGES[i]
            assert z[i, j] == pytest.approx(synthetic.head_effect("+", change, position, 2, 1), rel=1e-5)
    limit = effects.layout.coloraxis.cmax
    assert effects.layout.coloraxis.cmin == -limit
    copies = source.table("head_copies").query("layer == 2 and head == 1 and operator in ['+', 'all']")
    bars, ticks = decoded_bars(copies, colour="#000000").data
    assert dict(zip(bars.y, bars.x, strict=True))["op1"] == pytest.approx(0.95)
    assert dict(zip(ticks.y, ticks.x, strict=True))["operator"] == pytest.approx(0.25)


def test_attribution_is_centred_and_frames_the_chosen_head():
    figure = logit_map(np.array([[1.0, -3.0], [0.5, 2.0]]), chosen=(1, 0), number=158)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-3.0, 3.0)
    frame = figure.layout.shapes[0]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (-0.5, 0.5, 0.5, 1.5)


def test_tokens_are_text_in_figures():
    bars = prompt_attention([("bos", "<img src=x>"), ("equals", "=")], np.array([0.1, 0.9]), colour="#000000").data[0]
    assert list(bars.y) == ["bos  &lt;img src=x&gt;", "="]


# -- one prompt ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered(explorer_run: RunFolder):
    """A context whose planted model is loaded, and its source."""
    context = make_app([explorer_run.path], live=lambda *_: PlantedLive())
    source = context.source({})
    for _ in range(2400):
        if context.live.state(source).ready:
            return context, source
        time.sleep(0.05)
    raise TimeoutError


def test_a_prompt_is_explained_by_the_live_model(answered):
    context, source = answered
    prompt = lone_prompt("+", "op2 = 8 mod 10")
    found = context.live.ask(source, lambda model: model.explain(prompt))
    text = words(found, 2, 1)
    assert f"is answered {found.reply.answer} (right" in text
    assert "L2H1 looks mostly at op1" in text
    assert "(0.80)" in text
    part = str(live_part(context, source, "+", prompt, 2, 1))
    assert "heads-attribution" in part
    assert "heads-prompt-attention" in part


@pytest.mark.parametrize("prompt", ["226+", "abc", "9999-1=", "<script>alert(1)</script>", "5/0=", " ", "1" * 5000])
def test_a_prompt_that_cannot_be_read_is_one_line(prompt, answered):
    context, source = answered
    part = live_part(context, source, "+", prompt, 2, 1)
    text = part.children
    said = text if isinstance(text, str) else "".join(text)
    assert said
    assert "\n" not in said
    assert "heads-attribution" not in str(part)


def test_without_a_live_model_the_rest_is_there(explorer_run):
    page = asker([explorer_run.path]).go("/heads?op=%2B&layer=2&head=1").calm().page
    assert "no live model" in page
    assert "heads-circuit" in page


def matched(ask, outputs, asks, values):
    """The answer to what the browser sends for parts of one address: `outputs` and `asks` are (kind, property)."""
    part = View.of(values["view"]).part
    many = [{"id": part(f"heads-{kind}"), "property": name} for kind, name in outputs]
    texts = [f'{{"asked":["MATCH"],"type":"heads-{kind}"}}.{name}' for kind, name in outputs]
    one = {"id": part(f"heads-{asks[0]}"), "property": asks[1], "value": values["asks"]}
    body = {
        "output": f"..{'...'.join(texts)}.." if len(texts) > 1 else texts[0],
        "outputs": many if len(many) > 1 else many[0], "inputs": [one], "changedPropIds": [],
        "state": [{"id": "view", "property": "data", "value": values["view"]}],
    }  # fmt: skip
    return {json.loads(name)["type"]: held for name, held in ask.post(body).calm().json["response"].items()}


def test_polling_ends_when_the_model_is_there_and_only_the_address_that_asked_is_answered(explorer_run):
    ask = asker([explorer_run.path], PlantedLive())
    key = ask.go("/heads").view["run"]
    values = {"view": settled(key, "heads", "+", prompt="28+8=")}
    for _ in range(2400):
        found = matched(ask, [("state", "data"), ("poll", "disabled")], ("poll", "n_intervals"), values | {"asks": 1})
        if found["heads-poll"]["disabled"]:
            break
        time.sleep(0.05)
    assert found["heads-state"]["data"] == "ready"
    drawn = matched(ask, [("live", "children")], ("state", "data"), values | {"asks": "ready"})
    assert "heads-attribution" in json.dumps(drawn)
    ids = [set(re.findall(r'"asked": "(\w+)", "type": "heads-live"|"type": "heads-live", "asked": "(\w+)"', page))
           for page in (ask.go(f"/heads?op=%2B&prompt={p}%2B8%3D").page for p in (28, 29))]  # fmt: skip
    assert all(len(found) == 1 for found in ids)
    assert ids[0] != ids[1]


# -- sweeps, missing tables ------------------------------------------------------------------------------------------


def test_a_sweep_shows_effects_and_says_what_it_did_not_measure(planted_sweep):
    ask = asker([planted_sweep.path])
    page = ask.go("/heads?op=%2B&layer=1&head=0").calm().page
    assert "Attention was not measured" in page
    assert "arithcirc analyze" in page
    assert "heads-effects" in page
    assert "No heads to show" in ask.go("/heads?op=%2B&revision=step0").calm().page


def test_a_head_there_is_not_and_a_word_for_a_number_are_said(explorer_run):
    ask = asker([explorer_run.path])
    assert "there is no head L9H0" in ask.go("/heads?op=%2B&layer=9&head=0").calm().page
    assert "not a whole number" in ask.go("/heads?op=%2B&layer=two").calm().page


def test_steps_follow_the_ranks(source):
    rows = head_rows(view("-"), source)
    first = heads._one(view("-"), source, rows, rows.iloc[0].to_dict())
    keys = {getattr(part, "data-key", None): part.href for part in _anchors(first)}
    assert keys["ArrowRight"] == rows["href"][1]
    assert "ArrowLeft" not in keys


def _anchors(component) -> list[SimpleNamespace]:
    return [part for part in component._traverse() if getattr(part, "href", None)]


@pytest.mark.slow
def test_in_the_browser_a_row_opens_a_head_arrows_step_and_a_prompt_is_answered(browser, served):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    try:
        page.goto(f"{served}/heads?op=%2B")
        page.locator("#heads-all .ag-row", has_text="L2H3").first.click()
        page.wait_for_function("() => location.search.includes('layer=2&head=3')", timeout=120_000)
        page.get_by_text("Head L2H3").wait_for(timeout=120_000)
        page.locator("#heads-prompt").fill("28+8=")
        page.locator("#heads-prompt").press("Enter")
        page.get_by_text("28+8= is answered").wait_for(timeout=120_000)
        page.keyboard.press("Escape")
        page.locator("#heads-prompt").blur()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => !location.search.includes('layer=2&head=3')", timeout=120_000)
        assert "prompt=28" in page.url
    finally:
        page.close()
