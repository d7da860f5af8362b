"""Page Neuron: its numbers are the run's, its controls are in the address, what is missing is computed or said."""

import base64
import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from explorer import planted_live as world
from explorer.asking import Asker, asker, fill, settled
from plotly.utils import PlotlyJSONEncoder

from arithcirc.components import Neuron
from arithcirc.explorer.pages import neuron_body, neuron_facts, neuron_knockout
from arithcirc.explorer.pages.neuron_pack import packed
from arithcirc.explorer.pins import read_pins
from arithcirc.explorer.view import View
from arithcirc.neuron_maps import Cases, StoredMaps
from arithcirc.viz.neuron_hits import hits
from arithcirc.viz.neuron_maps import Marked, plain_maps

RUN = "planted/step4000"
MINE = next(n for n, name in world.carriers("+").items() if name == "op2 = 8 mod 10")
PLAIN = Neuron(0, 39)
"""A neuron without a label or a stored map."""


def address(neuron: Neuron = MINE, op: str = "%2B", **more: str) -> str:
    rest = "".join(f"&{name}={value}" for name, value in more.items())
    return f"/neuron?run=planted%2Fstep4000&op={op}&layer={neuron.layer}&neuron={neuron.index}{rest}"


@pytest.fixture(scope="module")
def planted(explorer_run, planted_live) -> Asker:
    return asker([explorer_run.path], planted_live)


@pytest.fixture(scope="module")
def source(planted):
    return planted.context.source({"run": RUN})


def kind_of(name: str) -> str:
    """What kind of part an id is of; other ids as they are."""
    return json.loads(name)["type"] if name.startswith("{") else name


def ask(planted: Asker, asks: str, values: dict, neuron: Neuron = MINE, op: str = "+", changed: str = "") -> dict:
    """What the callback whose first input is of this kind answers the page of a neuron, by kind of part."""
    held = {"view.data": settled(RUN, "neuron", op)} | values
    held["neuron-who.data"] = {"layer": neuron.layer, "neuron": neuron.index}
    known = next(c for c in planted.callbacks() if c["inputs"] and kind_of(c["inputs"][0]["id"]) == asks)
    body = fill(known, {})
    many = isinstance(body["outputs"], list)
    part = View.of(held["view.data"]).part
    outputs = body["outputs"] if many else [body["outputs"]]
    for one, name in [(o, o["id"]) for o in outputs] + [
        (one, p["id"]) for key in ("inputs", "state") for one, p in zip(body[key], known[key], strict=True)
    ]:
        if isinstance(one, list):  # `fill` takes any pattern for ALL
            body["inputs"][body["inputs"].index(one)] = one = one[0]
        one["id"] = part(kind_of(name)) if name.startswith("{") else name
        if "value" in one:
            one["value"] = held.get(f"{kind_of(name)}.{one['property']}")
    who, _, prop = (changed or f"{asks}.{known['inputs'][0]['property']}").rpartition(".")
    named = next(p["id"] for p in known["inputs"] if kind_of(p["id"]) == who)
    at = json.dumps(part(who), sort_keys=True, separators=(",", ":")) if named.startswith("{") else who
    body["changedPropIds"] = [f"{at}.{prop}"]
    response = planted.post(body).calm().json.get("response", {})
    return {kind_of(name): told for name, told in response.items()}


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_every_stored_score_is_counted_from_the_stored_map(source):
    counted = 0
    for operator in source.operators:
        for neuron in source.maps(operator).neurons():
            held, found = source.neuron_map(operator, neuron), neuron_facts.labels(source, operator, neuron)
            for row in found[found["score"] >= 0.6].to_dict("records"):
                agreement = hits(held, row["heuristic"], row["kind"], row["end"])
                assert agreement.score == pytest.approx(row["score"], abs=1e-6)
                assert (agreement.k, agreement.base_rate) == (row["size"], pytest.approx(row["base_rate"]))
                counted += 1
    assert counted > 40


def test_the_page_says_what_the_tables_say(planted, source):
    page = planted.go(address()).calm().page
    effect = neuron_facts.facts(source, "+", MINE).effect
    assert str(MINE) in page
    assert f"rank {effect.rank} of {world.WIDTH} in layer {MINE.layer}" in page
    assert "op2 = 8 mod 10" in page
    assert "hit " in page
    for id in ("neuron-plot", "neuron-marginals", "neuron-value", "neuron-effects", "neuron-drops", "neuron-labels"):
        assert f'"{id}"' in page, id


def test_an_address_without_a_neuron_opens_a_labelled_one(planted, source):
    ranked = neuron_facts.effects(source, "+")
    neuron = neuron_facts.chosen(View("neuron", op="+"), source, ranked)
    assert neuron_facts.facts(source, "+", neuron).carried > 0
    assert str(neuron) in planted.go("/neuron?run=planted%2Fstep4000&op=%2B").calm().page


@pytest.mark.parametrize(("layer", "neuron"), [("99", "1"), ("1", "99999"), ("-1", "0"), ("x", "1"), ("1", "<script>")])
def test_a_neuron_that_is_not_there_is_one_clear_line(planted, layer, neuron):
    page = planted.go(f"/neuron?run=planted%2Fstep4000&op=%2B&layer={layer}&neuron={neuron}").calm().page
    assert "not in this model" in page or "not a whole number" in page


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(neuron_facts.ORDERS))
def test_an_order_can_be_walked_there_and_back(source, order):
    ranked = neuron_facts.effects(source, "+")
    label = "op2 = 8 mod 10"

    def beside(neuron: Neuron) -> neuron_facts.Neighbours:
        found = neuron_facts.facts(source, "+", neuron, ranked)
        return neuron_facts.neighbours(source, found, order, label, ranked)

    here = beside(MINE)
    assert 1 <= here.place <= here.total
    assert here.before is None or beside(here.before).after == MINE
    assert here.after is None or beside(here.after).before == MINE
    walked, at = 1, MINE
    while (following := beside(at).after) is not None and walked < 60:
        walked, at = walked + 1, following
    assert walked == min(60, here.total - here.place + 1)
    if order == "label":
        assert here.total == sum(name == label for name in world.carriers("+").values())


def test_the_strongest_of_the_layers_beside(source):
    ranked = neuron_facts.effects(source, "+")
    found = neuron_facts.neighbours(source, neuron_facts.facts(source, "+", MINE, ranked), "effect", "", ranked)
    for step, beside in ((-1, found.below), (1, found.above)):
        rows = ranked[ranked["layer"] == MINE.layer + step]
        assert (beside is None) == rows.empty
        if beside is not None:
            assert beside.index == rows.loc[rows["effect"].abs().idxmax(), "neuron"]


# -- labels, zoom and map ----------------------------------------------------------------------------------------------


def redrawn(planted: Asker, **values: str) -> dict:
    held = {"neuron-label.value": "op2 = 8 mod 10", "neuron-zoom.value": "auto", "neuron-map.value": "all"}
    held |= {f"neuron-{name}.value": value for name, value in values.items()}
    return ask(planted, "neuron-changed", held | {"neuron-changed.data": ["neuron-label", 1]})


def test_the_controls_redraw_the_maps(planted):
    whole = json.dumps(redrawn(planted, zoom="all"))
    first = json.dumps(redrawn(planted, zoom="40", map="k"))
    assert '"meta": "hits"' in whole
    assert '"meta": "hits"' not in first
    assert "[-0.5, 39.5]" in first
    assert "peak" not in json.dumps(redrawn(planted, zoom="peak"))[:200]


def test_another_label_changes_what_is_said(planted):
    one = redrawn(planted, label="op2 = 8 mod 10")["neuron-words"]["children"]
    other = redrawn(planted, label="op1 matches .5.")["neuron-words"]["children"]
    assert "op2 = 8 mod 10" in json.dumps(one)
    assert "op1 matches .5." in json.dumps(other)


def test_the_order_follows_the_label_that_is_shown(planted):
    for label in ("op2 = 8 mod 10", "op1 matches .5."):
        page = json.dumps(redrawn(planted, label=label, order="label")["neuron-head"])
        place = f" of {sum(name == label for name in world.carriers('+').values())}"
        assert (place in page) == (label == world.carriers("+")[MINE])
    assert "neuron-head" not in redrawn(planted, order="effect")


def test_an_unknown_label_falls_back_to_the_best(source):
    found = neuron_facts.facts(source, "+", MINE)
    assert found.label("nonsense")["heuristic"] == found.label("")["heuristic"] == "op2 = 8 mod 10"
    assert neuron_facts.facts(source, "+", PLAIN).label("") is None


# -- live --------------------------------------------------------------------------------------------------------------


def poll(planted: Asker, neuron: Neuron, seconds: float = 120.0):
    until = time.monotonic() + seconds
    while True:
        response = ask(planted, "neuron-poll", {"neuron-poll.n_intervals": 1}, neuron)
        if response["neuron-poll"]["disabled"] or time.monotonic() > until:
            break
        time.sleep(0.05)
    if response.get("neuron-made", {}).get("data"):
        held = {"neuron-made.data": "made", "neuron-zoom.value": "all", "neuron-map.value": "all"}
        response |= ask(planted, "neuron-made", held, neuron)
    return response


def test_a_map_that_is_not_stored_is_computed(planted):
    page = planted.go(address(PLAIN)).calm().page
    assert f"No map of {PLAIN}" in page
    assert "arithcirc maps" in page
    response = poll(planted, PLAIN)
    assert response["neuron-poll"]["disabled"]
    assert '"neuron-plot"' in json.dumps(response["neuron-body"])
    assert '"neuron-plot"' in planted.go(address(PLAIN)).calm().page


def test_without_a_live_model_the_command_is_named(explorer_run):
    plain = asker([explorer_run.path])
    page = plain.go(address(PLAIN)).calm().page
    assert f"No map of {PLAIN}" in page
    assert "--no-live" in page
    assert "arithcirc maps" in page
    response = poll(plain, PLAIN)
    assert response["neuron-poll"]["disabled"]
    assert '"neuron-plot"' not in json.dumps(response)


def test_a_model_that_fails_is_one_line(explorer_run):
    def opener(*_):
        raise ValueError("boom")

    failing = asker([explorer_run.path], opener)
    response = poll(failing, PLAIN)
    assert response["neuron-poll"]["disabled"]
    assert "could not be loaded" in json.dumps(response)


def test_a_live_knockout_is_the_models_answer(planted, planted_live):
    planted.context.live.state(planted.context.source({"run": RUN}))
    held = {"neuron-knock.n_clicks": 1, "neuron-ablation.value": "mean", "neuron-n.value": "100"}
    page = json.dumps(ask(planted, "neuron-knock", held), ensure_ascii=False)
    found = planted_live.knock_out("+", [MINE], "mean", n=100)
    changed = int((found.after != found.answer).sum())
    assert f"{changed or 'none'} of {len(found.answer)} right answers" in page
    assert "Setting it to its mean" in page


def test_a_knockout_that_changes_no_answer_shows_what_the_lead_loses(planted, source):
    cases = source.neuron_map("+", MINE).cases
    np.testing.assert_array_equal(cases.lead - cases.fall < 0, cases.after != cases.answer)
    held = np.flatnonzero(cases.after == cases.answer)[:6]
    fall = np.linspace(0.02, 1.5, len(held), dtype=np.float32)
    sure = Cases(*(np.asarray(part)[held] for part in (cases.op1, cases.op2, cases.answer, cases.after)), 0 * fall)
    view = View("neuron", RUN, op="+")

    def told(cases: Cases) -> str:
        parts = neuron_knockout.broken(view, MINE, cases, "zero", "stored")
        return json.dumps([part.to_plotly_json() for part in parts], cls=PlotlyJSONEncoder, ensure_ascii=False)

    assert "has not stored it" in told(sure)
    known = replace(sure, lead=fall + 9, fall=fall)
    page = told(known)
    assert '"neuron-falls"' in page
    assert '"neuron-drops"' not in page
    assert "at most by 1.500 nats" in page
    assert f"{cases.op1[held[-1]]}+{cases.op2[held[-1]]}={cases.answer[held[-1]]} (−1.50)" in page
    assert "nothing to draw" in told(replace(known, fall=fall / 1000))


def test_the_page_leads_to_a_prompt_with_the_neuron_off(planted, source):
    page = planted.go(address()).calm().page
    cases = source.neuron_map("+", MINE).cases
    i = int(cases.fall.argmax())
    assert f"prompt={cases.op1[i]}%2B{cases.op2[i]}%3D&off={MINE}" in page.replace("\\u0026", "&")
    assert "neuron-switch-off" in page


def test_maps_open_whole_and_count_what_is_shown(source):
    held = source.neuron_map("+", MINE)
    row = neuron_facts.facts(source, "+", MINE).label("")

    def legend(zoom: str) -> tuple[list[float], str]:
        layout = neuron_body.map_figure(held, row, zoom, "all")["layout"]
        return layout["xaxis"]["range"], layout["annotations"][-2]["text"]

    found = hits(held, row["heuristic"], row["kind"], row["end"])
    across, said = legend("auto")
    assert across[0] == -0.5
    assert across[1] >= world.SIDE - 0.5
    assert f"hit {found.hit:,}" in said
    assert "in all" in said
    part = int((found.codes[:40, :40] == 2).sum())
    assert part < found.hit
    assert f"hit {part:,} " in legend("40")[1]
    assert f"({found.hit:,} of {found.k:,} hits in all)" in legend("40")[1]


# -- pins and finding --------------------------------------------------------------------------------------------------


def test_pins_are_saved_beside_the_run(explorer_run, tmp_path):
    folder = shutil.copytree(explorer_run.path, tmp_path / "planted" / "step4000")
    mine = asker([folder])
    source = mine.context.source({})
    held = {"neuron-pinned.n_clicks": 1, "neuron-note.value": "", "view.data": settled(source.key, "neuron")}
    ask(mine, "neuron-pinned", held, changed="neuron-pinned.n_clicks")
    assert [(p.operator, p.component, p.note) for p in read_pins(source)] == [("+", MINE, "")]
    held |= {"neuron-note.value": "ends in 8 <b>"}
    ask(mine, "neuron-pinned", held, changed="neuron-note.value")
    held |= {"neuron-note.value": "", "neuron-pinned.n_clicks": 2}
    ask(mine, "neuron-pinned", held, changed="neuron-pinned.n_clicks")
    assert [(p.operator, p.component, p.note) for p in read_pins(source)] == [("+", MINE, "ends in 8 <b>")]
    held |= {"neuron-unpin.n_clicks": 1}
    ask(mine, "neuron-pinned", held, changed="neuron-unpin.n_clicks")
    assert read_pins(source) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [("L3N17", (3, 17)), ("l3 n17", (3, 17)), ("3/17", (3, 17)), ("3 17", (3, 17)), ("L3", None), ("L9N9999", None)],
)
def test_a_neuron_is_found_by_its_name(planted, text, found):
    response = ask(planted, "neuron-find", {"neuron-find.value": text})
    answer = json.dumps(response)
    assert (f"layer={found[0]}&neuron={found[1]}" in answer) if found else "url" not in response
    assert found or "names no neuron" in answer or "is not in this model" in answer


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_maps_are_sent_once_and_small(planted, source):
    held = source.neuron_map("+", MINE)
    figure = packed(plain_maps(held, Marked("op2 = 8 mod 10", "indirect", "top")), held)
    sent = {t["meta"]: t["z"] for t in figure["data"] if t.get("meta")}
    assert set(sent) == {"k", "kv", "hits"}
    assert ("k" in sent["k"], "k" in sent["kv"]) == (True, False)
    assert not [t for t in figure["data"] if t["type"] == "heatmap" and t.get("hoverinfo") == "skip"]
    assert not any(c in sent["k"]["k"] + sent["hits"]["codes"] for c in "/N")
    half = np.frombuffer(base64.b64decode(sent["k"]["k"].replace("_", "/").replace("-", "N")), "<f2")
    np.testing.assert_array_equal(half.astype(np.float32), held.k.ravel())


def test_maps_that_cannot_be_made_again_are_sent_whole(source):
    held = source.neuron_map("+", MINE)
    other = replace(held, answer=np.where(held.answer > 5, held.answer + 1, held.answer))
    figure = plain_maps(other)
    assert packed(figure, other) is figure


# -- browser -----------------------------------------------------------------------------------------------------------


def test_a_reader_walks_through_neurons(browser, served, explorer_run):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: said.append(str(e)))
    page.goto(f"{served}{address()}")
    page.wait_for_selector("#neuron-plot .js-plotly-plot")
    drawn = page.locator("#neuron-plot .nsewdrag").first
    drawn.hover(position={"x": 60, "y": 60})
    page.wait_for_function("() => /activation/.test(document.querySelector('#neuron-readout').textContent)")
    assert "answer" in page.inner_text("#neuron-readout")
    made = page.evaluate(
        "() => document.querySelector('#neuron-plot .js-plotly-plot')._fullData.filter((t) => /^kv?$/.test(t.meta))"
        ".map((t) => t.z.map((row) => Array.from(row, (v) => (Number.isNaN(v) ? null : v))))"
    )
    held = StoredMaps.find(explorer_run.path, "+", (0, len(made[0]) - 1)).read(MINE)
    for cells, wanted in zip(made, (held.k, held.kv), strict=True):
        np.testing.assert_array_equal(np.array(cells, dtype=np.float64), wanted.astype(np.float32))
    page.click("#neuron-map label:has-text('hits')")
    page.wait_for_function("() => /map=hits/.test(location.search)")
    page.locator("#neuron-labels .ag-cell", has_text="op1 matches .5.").first.click()
    page.wait_for_function("() => /op1 matches .5./.test(document.querySelector('.neuron-words').textContent)")
    page.wait_for_function("() => /label=op1/.test(location.search)")
    page.keyboard.press("Escape")
    way = json.loads(page.get_attribute("#neuron-way", "data-way"))
    for _ in range(6):  # faster than pages are drawn: none is lost
        page.keyboard.press("ArrowRight")
    wanted = way["way"][way["at"] + 6]
    page.wait_for_function(
        f"() => {{ const held = JSON.parse(document.querySelector('#neuron-way').dataset.way); "
        f"return String(held.way[held.at]) === '{wanted[0]},{wanted[1]}'; }}"
    )
    assert f"layer={wanted[0]}&neuron={wanted[1]}" in page.url
    assert "map=hits" in page.url
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not said
    page.close()
