"""Answers that come after the reader has gone on to another neuron: they find nothing there to change."""

import re
import threading

import pytest
from explorer.asking import asker
from explorer.planted_live import PlantedLive

RUN = "planted%2Fstep4000"


@pytest.fixture
def held(explorer, explorer_run):
    """An explorer whose model holds its answers back until `let` is set, and says in `begun` that it was asked."""
    let, begun = threading.Event(), threading.Event()

    def wait(question):
        if question.startswith("knock out"):
            begun.set()
            let.wait(20)

    yield explorer(explorer_run.path, live=PlantedLive(asked=wait)), let, begun
    let.set()


def test_a_knockout_does_not_come_to_stand_under_another_neuron(browser, held):
    served, let, begun = held
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{served}/neuron?run={RUN}&op=%2B")
    first = page.text_content(".neuron-name")
    page.locator("button", has_text="knock out live").click()
    assert begun.wait(10)
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        f"() => {{ const way = document.querySelector('#neuron-way');"
        f" const held = JSON.parse(way.dataset.way).way[JSON.parse(way.dataset.way).at];"
        f" return `L${{held[0]}}N${{held[1]}}` !== '{first}'; }}"
    )
    with page.expect_response(lambda answer: "asked live" in answer.text(), timeout=20_000):
        let.set()
    page.wait_for_timeout(300)
    assert page.text_content(".neuron-name") != first
    assert "asked live" not in page.text_content("#page")
    page.locator("button", has_text="knock out live").click()
    page.locator("#page", has_text="asked live").wait_for()
    page.close()


def test_every_answer_of_the_page_is_for_the_address_that_asked(explorer_run):
    ask = asker([explorer_run.path])
    mine = [c["output"] for c in ask.callbacks() if any("neuron-" in i["id"] for i in c["inputs"])]
    drawn = [output for output in mine if "neuron-find.error" not in output]  # which goes to an address
    assert len(drawn) >= 5
    assert all(output.count('"asked":["MATCH"]') == output.count('"type":"neuron-') > 0 for output in drawn), drawn
    pages = [ask.go(f"/neuron?run={RUN}&op=%2B&layer={layer}&neuron=1").page for layer in (3, 4)]
    asked = [set(re.findall(r'"asked": "(\w+)"', page)) for page in pages]
    assert [len(some) for some in asked] == [1, 1]
    assert asked[0] != asked[1]
